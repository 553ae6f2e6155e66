/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The thread plays the script from top to bottom. It never asserts itself, a failed assertion
 * in a thread being hard to place: it notes the first failure, and finish tells it.
 */
#include "fake-qemu.h"

#include "util/auto.h"
#include "util/error.h"
#include "util/socket.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

/* A test that takes longer has hung. */
#define PATIENCE_MS 20000

/* How a read ended. */
typedef enum {
    HEARD,
    SILENCE, /* nothing whole until the deadline */
    GONE,    /* the client closed, or the test wants the end */
} Heard;

typedef struct {
    char *line;
    char *name; /* (nullable) "execute" or "exec-oob" */
    int64_t id; /* -1 = none */
    JsonObject *arguments;
} Command;

struct FakeQemu {
    const FakeStep *steps;
    unsigned max_lines, n_lines;
    char *directory;
    QmigAddress *address;
    QmigCancel *stop;
    QmigFd listener, peer, received;
    GString *partial;    /* of a line that has not ended */
    GQueue early;        /* Command: came in a sleep, waits for its expectation */
    GHashTable *answers; /* of FAKE_WHENEVER: borrowed name -> borrowed JSON */
    GPtrArray *commands; /* names heard */
    int64_t last_id;
    bool is_over;     /* closed by script, limit or client */
    bool client_left; /* before the script's end */
    char *failure;
    pthread_mutex_t
        lock; /* guards n_lines, received and commands; GMutex is invisible to TSan */
    GThread *thread;
};

static void
command_free(Command *command)
{
    if (command != NULL) {
        g_free(command->line);
        g_free(command->name);
        json_object_put(command->arguments);
        g_free(command);
    }
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Command, command_free)

/* Takes @text. */
static void
fail(FakeQemu *f, char *text)
{
    if (f->failure == NULL) {
        f->failure = g_steal_pointer(&text);
    }
    g_free(text);
    f->is_over = true;
}

static void
leave(FakeQemu *f)
{
    f->is_over = f->client_left = true;
}

static void
say_bytes(FakeQemu *f, const char *bytes, size_t len)
{
    if (f->max_lines > 0 && f->n_lines == f->max_lines) {
        f->is_over = true;
        return;
    }
    /* A client that is gone is noticed at the next read. */
    if (qmig_cancel_is_raised(f->stop) ||
        !qmig_socket_write_all(f->peer, bytes, len, qmig_deadline_in_ms(PATIENCE_MS),
                               f->stop, NULL)) {
        leave(f);
        return;
    }
    pthread_mutex_lock(&f->lock);
    f->n_lines++;
    pthread_mutex_unlock(&f->lock);
}

static void
say(FakeQemu *f, const char *line)
{
    say_bytes(f, line, strlen(line));
}

/* One byte, and the descriptor riding on it. */
static Heard
read_byte(FakeQemu *f, QmigDeadline deadline, char *byte)
{
    g_autoptr(GError) error = NULL;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { byte, 1 };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof control };

    if (!qmig_wait_fd(f->peer, POLLIN, deadline, f->stop, &error)) {
        return g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT) ? SILENCE : GONE;
    }
    if (recvmsg(f->peer, &msg, MSG_CMSG_CLOEXEC) <= 0) {
        return GONE;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        pthread_mutex_lock(&f->lock);
        qmig_fd_clear(&f->received);
        memcpy(&f->received, CMSG_DATA(header), sizeof(int));
        pthread_mutex_unlock(&f->lock);
    }
    return HEARD;
}

/* Takes @line. */
static Command *
command_new(char *line)
{
    Command *command = g_new0(Command, 1);
    g_autoptr(JsonObject) object = json_tokener_parse(line);
    JsonObject *name = NULL, *arguments = NULL, *id = NULL;

    command->line = line;
    command->id = json_object_object_get_ex(object, "id", &id) ? json_object_get_int64(id)
                                                               : -1;
    if (json_object_object_get_ex(object, "execute", &name) ||
        json_object_object_get_ex(object, "exec-oob", &name)) {
        command->name = g_strdup(json_object_get_string(name));
    }
    if (json_object_object_get_ex(object, "arguments", &arguments)) {
        command->arguments = json_object_get(arguments);
    }
    return command;
}

/* @command: (out) (transfer full) the next one the client sends */
static Heard
hear(FakeQemu *f, QmigDeadline deadline, Command **command)
{
    char byte = 0;

    while (byte != '\n') {
        Heard heard = read_byte(f, deadline, &byte);
        if (heard != HEARD) {
            return heard;
        }
        g_string_append_c(f->partial, byte);
    }
    *command = command_new(g_strdup(f->partial->str));
    g_string_truncate(f->partial, 0);
    pthread_mutex_lock(&f->lock);
    g_ptr_array_add(f->commands, g_strdup((*command)->name));
    pthread_mutex_unlock(&f->lock);
    return HEARD;
}

/* Has @all every member of @some, in depth, with equal values? */
static bool
contains(JsonObject *all, JsonObject *some)
{
    if (!json_object_is_type(some, json_type_object)) {
        return json_object_equal(all, some);
    }
    json_object_object_foreach(some, key, wanted)
    {
        JsonObject *found;

        if (!json_object_object_get_ex(all, key, &found) || !contains(found, wanted)) {
            return false;
        }
    }
    return true;
}

/* Answer one of FAKE_WHENEVER. */
static bool
answer(FakeQemu *f, const Command *command)
{
    const char *reply = command->name != NULL
                            ? g_hash_table_lookup(f->answers, command->name)
                            : NULL;

    if (reply == NULL) {
        return false;
    }
    g_autofree char *line = g_strdup_printf(
        "{\"return\": %s, \"id\": %" G_GINT64_FORMAT "}\r\n", reply, command->id);
    say(f, line);
    return true;
}

/* True: it is what @step wants. False: it was answered, or the script has failed. */
static bool
is_expected(FakeQemu *f, const FakeStep *step, const Command *command)
{
    g_autoptr(JsonObject) wanted = step->b != NULL ? json_tokener_parse(step->b) : NULL;

    if (step->b != NULL && wanted == NULL) {
        fail(f, g_strdup_printf("the script's arguments are no JSON: %s", step->b));
        return false;
    }
    if (g_strcmp0(command->name, step->a) == 0 &&
        (wanted == NULL || contains(command->arguments, wanted))) {
        f->last_id = command->id;
        return true;
    }
    if (!answer(f, command)) {
        fail(f, g_strdup_printf("expected %s %s, heard %s", step->a,
                                step->b != NULL ? step->b : "", command->line));
    }
    return false;
}

static void
expect(FakeQemu *f, const FakeStep *step)
{
    while (!f->is_over) {
        g_autoptr(Command) command = g_queue_pop_head(&f->early);

        if (command == NULL &&
            hear(f, qmig_deadline_in_ms(PATIENCE_MS), &command) != HEARD) {
            leave(f);
        } else if (is_expected(f, step, command)) {
            return;
        }
    }
}

/* Answer what FAKE_WHENEVER answers; the rest is for the expectations that follow. */
static void
sleep_ms(FakeQemu *f, int ms)
{
    QmigDeadline deadline = qmig_deadline_in_ms(ms);

    while (!f->is_over) {
        g_autoptr(Command) command = NULL;
        Heard heard = hear(f, deadline, &command);

        if (heard == SILENCE) {
            return;
        }
        if (heard == GONE) {
            leave(f);
        } else if (!answer(f, command)) {
            g_queue_push_tail(&f->early, g_steal_pointer(&command));
        }
    }
}

static void
say_raw(FakeQemu *f, const char *text)
{
    g_autofree char *id = g_strdup_printf("%" G_GINT64_FORMAT, f->last_id);
    g_auto(GStrv) parts = g_strsplit(text, "$ID", -1);
    g_autofree char *line = g_strjoinv(id, parts);

    say(f, line);
}

static void
say_format(FakeQemu *f, char *line)
{
    say(f, line);
    g_free(line);
}

static void
say_event(FakeQemu *f, const FakeStep *step)
{
    say_format(f, g_strdup_printf("{\"timestamp\": {\"seconds\": 1700000000, "
                                  "\"microseconds\": 42}, \"event\": \"%s\"%s%s}\r\n",
                                  step->a, step->b != NULL ? ", \"data\": " : "",
                                  step->b != NULL ? step->b : ""));
}

/* Events that take longer to parse than to send: the client never finds the socket empty. */
static void
flood(FakeQemu *f, const FakeStep *step)
{
    GString *lines = g_string_new(NULL);

    while (lines->len < 1 << 20) {
        g_string_append_printf(lines, "{\"event\": \"%s\", \"data\": {\"list\": [0",
                               step->a);
        for (int i = 0; i < 10000; i++) {
            g_string_append(lines, ",0");
        }
        g_string_append(lines, "]}}\r\n");
    }
    while (!f->is_over) {
        say(f, lines->str);
    }
    f->client_left = false;
    g_string_free(lines, TRUE);
}

/* Until the client closes; what it says meanwhile is answered, or unexpected. */
static void
end(FakeQemu *f)
{
    while (!f->is_over) {
        g_autoptr(Command) command = g_queue_pop_head(&f->early);
        Heard heard = HEARD;

        if (command == NULL) {
            heard = hear(f, qmig_deadline_in_ms(PATIENCE_MS), &command);
        }
        if (heard == SILENCE) {
            fail(f, g_strdup("expected the client to close"));
        } else if (heard == GONE) {
            f->is_over = true;
        } else if (!answer(f, command)) {
            fail(f, g_strdup_printf("expected nothing more, heard %s", command->line));
        }
    }
}

/* Until the client closes: listen to it without a word, or do not even listen. */
static void
ignore(FakeQemu *f, bool listens)
{
    QmigDeadline deadline = qmig_deadline_in_ms(PATIENCE_MS);
    g_autoptr(GError) error = NULL;

    while (listens) {
        g_autoptr(Command) command = NULL;
        listens = hear(f, deadline, &command) == HEARD;
    }
    if (!qmig_wait_fd(f->peer, POLLRDHUP, deadline, f->stop, &error) &&
        g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT)) {
        fail(f, g_strdup("expected the client to close"));
    }
    f->is_over = true;
}

static void
play(FakeQemu *f, const FakeStep *step)
{
    switch (step->op) {
    case FAKE_END:
        end(f);
        return;
    case FAKE_EXPECT:
        expect(f, step);
        return;
    case FAKE_REPLY:
        say_format(f,
                   g_strdup_printf("{\"return\": %s, \"id\": %" G_GINT64_FORMAT "}\r\n",
                                   step->a, f->last_id));
        return;
    case FAKE_ERROR:
        say_format(f, g_strdup_printf("{\"id\": %" G_GINT64_FORMAT ", \"error\": "
                                      "{\"class\": \"%s\", \"desc\": \"%s\"}}\r\n",
                                      f->last_id, step->a, step->b));
        return;
    case FAKE_EVENT:
        for (int i = 0; i < MAX(step->n, 1) && !f->is_over; i++) {
            say_event(f, step);
        }
        return;
    case FAKE_RAW:
        say_raw(f, step->a);
        return;
    case FAKE_FLOOD:
        flood(f, step);
        return;
    case FAKE_BYTES:
        say_bytes(f, step->a, (size_t)step->n);
        return;
    case FAKE_WHENEVER:
        g_hash_table_replace(f->answers, (gpointer)step->a, (gpointer)step->b);
        return;
    case FAKE_SLEEP:
        sleep_ms(f, step->n);
        return;
    case FAKE_MUTE:
    case FAKE_HANG:
        ignore(f, step->op == FAKE_MUTE);
        return;
    case FAKE_CLOSE:
        f->is_over = true;
        return;
    }
}

static gpointer
run(gpointer data)
{
    FakeQemu *f = data;
    g_autoptr(GError) error = NULL;

    f->peer = qmig_socket_accept(f->listener, qmig_deadline_in_ms(PATIENCE_MS), f->stop,
                                 &error);
    if (f->peer < 0) {
        if (!qmig_cancel_is_raised(f->stop)) {
            fail(f, g_strdup(error->message));
        }
        return NULL;
    }
    for (const FakeStep *step = f->steps; !f->is_over; step++) {
        play(f, step);
    }
    qmig_fd_clear(&f->peer);
    return NULL;
}

FakeQemu *
fake_qemu_new(const FakeStep *steps, unsigned max_lines)
{
    g_autoptr(GError) error = NULL;
    FakeQemu *f = g_new0(FakeQemu, 1);

    f->steps = steps;
    f->max_lines = max_lines;
    f->peer = f->received = -1;
    f->stop = qmig_cancel_new();
    f->partial = g_string_new(NULL);
    g_queue_init(&f->early);
    f->answers = g_hash_table_new(g_str_hash, g_str_equal);
    f->commands = g_ptr_array_new_with_free_func(g_free);
    pthread_mutex_init(&f->lock, NULL);
    f->directory = g_dir_make_tmp("qmig-fake-XXXXXX", &error);
    g_assert_no_error(error);
    g_autofree char *path = g_build_filename(f->directory, "qmp", NULL);
    f->address = qmig_address_new_unix(path);
    f->listener = qmig_socket_listen(f->address, 1, NULL, &error);
    g_assert_no_error(error);
    f->thread = g_thread_new("fake-qemu", run, f);
    return f;
}

const QmigAddress *
fake_qemu_address(const FakeQemu *f)
{
    return f->address;
}

unsigned
fake_qemu_n_lines(const FakeQemu *f)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&f->lock;

    pthread_mutex_lock(lock);
    unsigned n = f->n_lines;
    pthread_mutex_unlock(lock);
    return n;
}

int
fake_qemu_fd(FakeQemu *f)
{
    pthread_mutex_lock(&f->lock);
    int fd = f->received;
    pthread_mutex_unlock(&f->lock);
    return fd;
}

char **
fake_qemu_commands(FakeQemu *f)
{
    GPtrArray *names = g_ptr_array_new();

    pthread_mutex_lock(&f->lock);
    for (guint i = 0; i < f->commands->len; i++) {
        const char *name = g_ptr_array_index(f->commands, i);
        g_ptr_array_add(names, g_strdup(name != NULL ? name : "?"));
    }
    pthread_mutex_unlock(&f->lock);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

static void
finish(FakeQemu *f, bool may_leave)
{
    g_thread_join(f->thread);
    /* First, so that a test that fails leaves nothing behind. */
    g_unlink(f->address->path);
    g_rmdir(f->directory);
    g_assert_cmpstr(f->failure, ==, NULL);
    g_assert_true(may_leave || !f->client_left);
    qmig_fd_clear(&f->listener);
    qmig_fd_clear(&f->received);
    qmig_address_free(f->address);
    qmig_cancel_free(f->stop);
    g_string_free(f->partial, TRUE);
    g_queue_clear_full(&f->early, (GDestroyNotify)command_free);
    g_hash_table_unref(f->answers);
    g_ptr_array_unref(f->commands);
    pthread_mutex_destroy(&f->lock);
    g_free(f->directory);
    g_free(f);
}

void
fake_qemu_finish(FakeQemu *f)
{
    finish(f, false);
}

void
fake_qemu_finish_early(FakeQemu *f)
{
    finish(f, true);
}

void
fake_qemu_stop(FakeQemu *f)
{
    qmig_cancel_raise(f->stop);
    finish(f, true);
}
