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
#include <string.h>
#include <sys/socket.h>

/* A test that takes longer has hung. */
#define PATIENCE_MS 20000

struct FakeQemu {
    const FakeStep *steps;
    unsigned max_lines, n_lines;
    char *directory;
    QmigAddress *address;
    QmigFd listener, peer, received;
    int64_t last_id;
    bool is_over;     /* closed by script, limit or client */
    bool client_left; /* before the script's end */
    char *failure;
    GMutex lock; /* guards n_lines and received */
    GThread *thread;
};

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
say(FakeQemu *f, const char *line)
{
    if (f->max_lines > 0 && f->n_lines == f->max_lines) {
        f->is_over = true;
        return;
    }
    /* A client that is gone is noticed at the next read. */
    if (!qmig_socket_write_all(f->peer, line, strlen(line),
                               qmig_deadline_in_ms(PATIENCE_MS), NULL, NULL)) {
        f->is_over = f->client_left = true;
        return;
    }
    g_mutex_lock(&f->lock);
    f->n_lines++;
    g_mutex_unlock(&f->lock);
}

/* One byte, and the descriptor riding on it. False when the client closed. */
static bool
read_byte(FakeQemu *f, char *byte)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { byte, 1 };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof control };

    if (!qmig_wait_fd(f->peer, POLLIN, qmig_deadline_in_ms(PATIENCE_MS), NULL, NULL) ||
        recvmsg(f->peer, &msg, MSG_CMSG_CLOEXEC) <= 0) {
        return false;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        g_mutex_lock(&f->lock);
        qmig_fd_clear(&f->received);
        memcpy(&f->received, CMSG_DATA(header), sizeof(int));
        g_mutex_unlock(&f->lock);
    }
    return true;
}

/* (transfer full) a line of the client, NULL when it closed. */
static char *
hear(FakeQemu *f)
{
    GString *line = g_string_new(NULL);
    char byte;

    while (read_byte(f, &byte)) {
        if (byte == '\n') {
            return g_string_free(line, FALSE);
        }
        g_string_append_c(line, byte);
    }
    g_string_free(line, TRUE);
    return NULL;
}

/* Has @all every member of @some, with equal values? */
static bool
contains(JsonObject *all, JsonObject *some)
{
    json_object_object_foreach(some, key, wanted)
    {
        JsonObject *found;

        if (!json_object_object_get_ex(all, key, &found) ||
            !json_object_equal(found, wanted)) {
            return false;
        }
    }
    return true;
}

static void
expect(FakeQemu *f, const FakeStep *step)
{
    g_autofree char *line = hear(f);

    if (line == NULL) {
        f->is_over = f->client_left = true;
        return;
    }
    g_autoptr(JsonObject) heard = json_tokener_parse(line);
    g_autoptr(JsonObject) wanted = step->b != NULL ? json_tokener_parse(step->b) : NULL;
    JsonObject *command = NULL, *arguments = NULL, *id = NULL;

    json_object_object_get_ex(heard, "arguments", &arguments);
    if (!json_object_object_get_ex(heard, "execute", &command)) {
        json_object_object_get_ex(heard, "exec-oob", &command);
    }
    if (json_object_object_get_ex(heard, "id", &id)) {
        f->last_id = json_object_get_int64(id);
    }
    if (g_strcmp0(json_object_get_string(command), step->a) != 0 ||
        (wanted != NULL && !contains(arguments, wanted))) {
        fail(f, g_strdup_printf("expected %s %s, heard %s", step->a,
                                step->b != NULL ? step->b : "", line));
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

/* Until the client closes; what it says meanwhile is unexpected, or not even read. */
static void
await_close(FakeQemu *f, bool reads)
{
    if (reads) {
        g_autofree char *line = hear(f);
        if (line != NULL) {
            fail(f, g_strdup_printf("expected nothing more, heard %s", line));
        }
    } else {
        struct pollfd pollfd = { .fd = f->peer, .events = POLLRDHUP };
        (void)poll(&pollfd, 1, PATIENCE_MS);
    }
    f->is_over = true;
}

static void
play(FakeQemu *f, const FakeStep *step)
{
    switch (step->op) {
    case FAKE_END:
        await_close(f, true);
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
    case FAKE_SLEEP:
        g_usleep((gulong)step->n * 1000);
        return;
    case FAKE_HANG:
        await_close(f, false);
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

    f->peer = qmig_socket_accept(f->listener, qmig_deadline_in_ms(PATIENCE_MS), NULL,
                                 &error);
    if (f->peer < 0) {
        fail(f, g_strdup(error->message));
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
    g_mutex_init(&f->lock);
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
    GMutex *lock = (GMutex *)&f->lock;

    g_mutex_lock(lock);
    unsigned n = f->n_lines;
    g_mutex_unlock(lock);
    return n;
}

int
fake_qemu_fd(FakeQemu *f)
{
    g_mutex_lock(&f->lock);
    int fd = f->received;
    g_mutex_unlock(&f->lock);
    return fd;
}

static void
finish(FakeQemu *f, bool may_leave)
{
    g_thread_join(f->thread);
    g_assert_cmpstr(f->failure, ==, NULL);
    g_assert_true(may_leave || !f->client_left);
    g_unlink(f->address->path);
    g_rmdir(f->directory);
    qmig_fd_clear(&f->listener);
    qmig_fd_clear(&f->received);
    qmig_address_free(f->address);
    g_mutex_clear(&f->lock);
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
