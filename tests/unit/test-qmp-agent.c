/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest agent behind a socket: one that answers, one that says no, and nobody at all. */
#include "qmp/agent.h"

#include "util/error.h"
#include "util/socket.h"

#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

typedef struct {
    const char *noise;  /* said before anything is asked */
    const char *answer; /* to everything but the synchronisation; NULL = silence */
    bool is_deaf;       /* does not even synchronise */
    GString *heard;
    char *dir, *path;
    QmigAddress *address;
    QmigFd listener;
    GThread *thread;
} Fake;

static void
say(int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void
hear(Fake *f, int fd, const char *line)
{
    g_autoptr(JsonObject) o = json_tokener_parse(line);
    JsonObject *name = NULL, *arguments = NULL, *id = NULL;

    g_assert_true(json_object_object_get_ex(o, "execute", &name));
    const char *command = json_object_get_string(name);
    g_string_append_printf(f->heard, "%s\n", command);
    if (strcmp(command, "guest-sync-delimited") != 0) {
        say(fd, f->answer != NULL ? f->answer : "");
        return;
    }
    json_object_object_get_ex(o, "arguments", &arguments);
    json_object_object_get_ex(arguments, "id", &id);
    g_autofree char *text = g_strdup_printf("\xff{\"return\": %s}\n",
                                            json_object_get_string(id));
    say(fd, f->is_deaf ? "" : text);
}

static void *
serve(void *data)
{
    Fake *f = data;
    g_autoptr(GString) line = g_string_new(NULL);
    g_auto(QmigFd) fd = accept(f->listener, NULL, NULL);
    unsigned char c;

    say(fd, f->noise != NULL ? f->noise : "");
    while (recv(fd, &c, 1, 0) == 1) {
        if (c == 0xff) {
            g_string_truncate(line, 0);
        } else if (c == '\n') {
            hear(f, fd, line->str);
            g_string_truncate(line, 0);
        } else {
            g_string_append_c(line, (char)c);
        }
    }
    return NULL;
}

static void
fake_start(Fake *f)
{
    f->heard = g_string_new(NULL);
    f->dir = g_dir_make_tmp("qmig-test-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "ga", NULL);
    f->address = qmig_address_new_unix(f->path);
    f->listener = qmig_socket_listen(f->address, 1, NULL, NULL);
    g_assert_cmpint(f->listener, >=, 0);
    /* accept(2) of the thread shall wait. */
    g_unix_set_fd_nonblocking(f->listener, FALSE, NULL);
    f->thread = g_thread_new("agent", serve, f);
}

static void
fake_end(Fake *f)
{
    g_thread_join(f->thread);
    qmig_fd_clear(&f->listener);
    qmig_address_free(f->address);
    g_string_free(f->heard, TRUE);
    g_unlink(f->path);
    g_rmdir(f->dir);
    g_free(f->path);
    g_free(f->dir);
}

static QmigAgent *
reach(Fake *f, GError **error)
{
    return qmig_agent_connect(f->address, "source", qmig_deadline_in_ms(1000), error);
}

static void
test_freeze_and_thaw(void)
{
    /* What an earlier client did not read. */
    Fake f = { .noise = "{\"return\": {\"half", .answer = "{\"return\": 2}\n" };
    g_autoptr(GError) error = NULL;
    int64_t count = 0;

    fake_start(&f);
    QmigAgent *agent = reach(&f, &error);
    g_assert_no_error(error);
    g_assert_true(qmig_agent_freeze(agent, &count, qmig_deadline_in_ms(1000), &error));
    g_assert_cmpint(count, ==, 2);
    g_assert_true(qmig_agent_thaw(agent, &count, qmig_deadline_in_ms(1000), &error));
    g_assert_true(qmig_agent_set_time(agent, qmig_deadline_in_ms(1000), &error));
    qmig_agent_free(agent);
    g_thread_join(g_thread_ref(f.thread));
    g_assert_cmpstr(f.heard->str, ==,
                    "guest-sync-delimited\nguest-fsfreeze-freeze\n"
                    "guest-fsfreeze-thaw\nguest-set-time\n");
    fake_end(&f);
}

static void
test_says_no(void)
{
    Fake f = {
        .answer =
            "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"disabled\"}}\n"
    };
    g_autoptr(GError) error = NULL;
    int64_t count = 0;

    fake_start(&f);
    QmigAgent *agent = reach(&f, NULL);
    g_assert_false(qmig_agent_freeze(agent, &count, qmig_deadline_in_ms(1000), &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_QMP);
    g_assert_cmpstr(error->message, ==,
                    "source: guest agent: guest-fsfreeze-freeze: disabled");
    qmig_agent_free(agent);
    fake_end(&f);
}

static void
test_nobody(void)
{
    Fake f = { .is_deaf = true };
    g_autoptr(GError) error = NULL;

    fake_start(&f);
    g_assert_null(
        qmig_agent_connect(f.address, "source", qmig_deadline_in_ms(200), &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_assert_true(g_str_has_prefix(error->message, "source: guest agent: "));
    fake_end(&f);
}

static void
test_silent_later(void)
{
    Fake f = { .answer = NULL };
    g_autoptr(GError) error = NULL;

    fake_start(&f);
    QmigAgent *agent = reach(&f, NULL);
    g_assert_false(qmig_agent_set_time(agent, qmig_deadline_in_ms(200), &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    qmig_agent_free(agent);
    fake_end(&f);
}

static void
test_odd(void)
{
    Fake f = { .answer = "{\"neither\": 1}\n" };
    g_autoptr(GError) error = NULL;

    fake_start(&f);
    QmigAgent *agent = reach(&f, NULL);
    g_assert_false(qmig_agent_set_time(agent, qmig_deadline_in_ms(1000), &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    qmig_agent_free(agent);
    fake_end(&f);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qmp/agent/freeze-thaw-and-set-time", test_freeze_and_thaw);
    g_test_add_func("/qmp/agent/its-no-is-an-error", test_says_no);
    g_test_add_func("/qmp/agent/nobody-in-the-guest", test_nobody);
    g_test_add_func("/qmp/agent/silent-later", test_silent_later);
    g_test_add_func("/qmp/agent/an-odd-answer", test_odd);
    return g_test_run();
}
