/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The control socket: who may, what is answered, and what a bad or slow client cannot do. */
#include "job/control-client.h"
#include "job/control.h"
#include "qmp/client.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static char *directory;

/* A migration of the guest "vm1", in this process. */
static QmigControl *
start_named(const char *path, const char *guest)
{
    g_autoptr(GError) error = NULL;
    QmigControl *control = qmig_control_start(path, &error);
    g_autofree char *text = g_strdup_printf(
        "{\"qmig\":{\"protocol\":1,\"pid\":%d},\"job\":{\"guest\":\"%s\","
        "\"uuid\":\"6F9619FF-8B86-D011-B42D-00C04FC964FF\","
        "\"source\":{\"qmp\":\"unix:%s/qmp\",\"pid\":4711},"
        "\"destination\":{\"qmp\":\"tcp:192.0.2.7:4444\",\"pid\":null}}}",
        (int)getpid(), guest, directory);
    g_autoptr(JsonObject) identity = json_tokener_parse(text);

    g_assert_no_error(error);
    qmig_control_set_identity(control, identity);
    return control;
}

static QmigControl *
start(void)
{
    return start_named(NULL, "vm1");
}

static int
raw_connect(const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(name.sun_path, path, sizeof name.sun_path);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&name, sizeof name), ==, 0);
    return fd;
}

static void
raw_send(int fd, const char *text)
{
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==,
                    (ssize_t)strlen(text));
}

/* All until the other end closes, or @enough is in it. Ten seconds at most. */
static char *
raw_read(int fd, const char *enough)
{
    GString *text = g_string_new(NULL);
    int64_t end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (enough == NULL || strstr(text->str, enough) == NULL) {
        struct pollfd pollfd = { .fd = fd, .events = POLLIN };
        char buffer[65536];

        g_assert_cmpint(g_get_monotonic_time(), <, end);
        if (poll(&pollfd, 1, 100) == 1) {
            ssize_t n = recv(fd, buffer, sizeof buffer, 0);
            if (n <= 0) {
                break;
            }
            g_string_append_len(text, buffer, n);
        }
    }
    return g_string_free(text, FALSE);
}

/* The next request, waited for. */
static QmigControlRequest *
await_request(QmigControl *control)
{
    struct pollfd pollfd = { .fd = qmig_control_fd(control), .events = POLLIN };
    QmigControlRequest *request;

    g_assert_cmpint(poll(&pollfd, 1, 10000), ==, 1);
    request = qmig_control_take(control);
    g_assert_nonnull(request);
    return request;
}

static QmigControlPeer *
open_peer(const QmigControl *control)
{
    g_autoptr(GError) error = NULL;
    QmigControlPeer *peer = qmig_control_open(qmig_control_path(control), &error);

    g_assert_no_error(error);
    return peer;
}

static void
publish(QmigControl *control, const char *text, bool is_transient)
{
    g_autoptr(JsonObject) event = json_tokener_parse(text);

    g_assert_nonnull(event);
    qmig_control_publish(control, event, is_transient);
}

static char *
next_event(QmigControlPeer *peer)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject)
        event = qmig_control_next_event(peer, qmig_deadline_in_ms(10000), &error);

    g_assert_no_error(error);
    return g_strdup(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN));
}

static void
assert_next_event(QmigControlPeer *peer, const char *wanted)
{
    g_autofree char *text = next_event(peer);

    g_assert_cmpstr(text, ==, wanted);
}

static void
watch(QmigControlPeer *peer, bool history)
{
    JsonObject *arguments = json_object_new_object();
    g_autoptr(GError) error = NULL;

    json_object_object_add(arguments, "history", json_object_new_boolean(history));
    g_assert_true(qmig_control_call(peer, "watch", arguments, NULL, &error));
}

/* ---- answers ---------------------------------------------------------------------------- */

static void
test_status(void)
{
    g_autoptr(QmigControl) control = start();
    g_autoptr(QmigControlPeer) peer = open_peer(control);
    g_autoptr(JsonObject) status = json_tokener_parse("{\"phase\":\"perform\"}");
    g_autoptr(JsonObject) first = NULL, second = NULL;
    g_autoptr(GError) error = NULL;
    JsonObject *job = qmig_json_get(qmig_control_peer_greeting(peer), "job",
                                    json_type_object);

    g_assert_cmpstr(qmig_json_string(job, "guest"), ==, "vm1");
    g_assert_true(qmig_control_call(peer, "status", NULL, &first, &error));
    g_assert_cmpint(json_object_object_length(first), ==, 0);
    qmig_control_set_status(control, status);
    g_assert_true(qmig_control_call(peer, "status", NULL, &second, &error));
    g_assert_cmpstr(qmig_json_string(second, "phase"), ==, "perform");
}

typedef struct {
    const char *path;
    JsonObject *result;
    GError *error;
    bool ok;
} Asked;

static void *
ask(void *data)
{
    Asked *asked = data;
    g_autoptr(QmigControlPeer) peer = qmig_control_open(asked->path, NULL);
    JsonObject *arguments = json_tokener_parse("{\"max-bandwidth\":\"1Gbit\"}");

    asked->ok = qmig_control_call(peer, "set", arguments, &asked->result, &asked->error);
    return NULL;
}

static void
test_request_is_answered(void)
{
    g_autoptr(QmigControl) control = start();
    Asked asked = { .path = qmig_control_path(control) };
    GThread *thread = g_thread_new("ask", ask, &asked);
    QmigControlRequest *request = await_request(control);
    g_autoptr(JsonObject) arguments = qmig_control_request_arguments(request);
    g_autoptr(JsonObject) result = json_tokener_parse("{\"done\":1}");

    g_assert_cmpstr(qmig_control_request_command(request), ==, "set");
    g_assert_cmpstr(qmig_json_string(arguments, "max-bandwidth"), ==, "1Gbit");
    g_assert_cmpint(qmig_control_request_pid(request), ==, getpid());
    qmig_control_answer(control, request, result);
    g_thread_join(thread);
    g_assert_true(asked.ok);
    g_assert_cmpint(qmig_json_int(asked.result, "done", 0), ==, 1);
    g_assert_null(qmig_control_take(control));
    json_object_put(asked.result);
}

static void
test_request_is_refused(void)
{
    g_autoptr(QmigControl) control = start();
    Asked asked = { .path = qmig_control_path(control) };
    GThread *thread = g_thread_new("ask", ask, &asked);
    g_autoptr(GError)
        error = g_error_new(QMIG_ERROR, QMIG_ERROR_UNSUPPORTED, "not \"so\"");

    qmig_control_refuse(control, await_request(control), error);
    g_thread_join(thread);
    g_assert_false(asked.ok);
    g_assert_error(asked.error, QMIG_ERROR, QMIG_ERROR_UNSUPPORTED);
    g_assert_cmpstr(asked.error->message, ==, "not \"so\"");
    g_clear_error(&asked.error);
}

/* One that waits when the migration ends is told, and one whose client left is dropped. */
static void
test_end_tells_who_waits(void)
{
    QmigControl *control = start();
    Asked asked = { .path = qmig_control_path(control) };
    GThread *thread = g_thread_new("ask", ask, &asked);
    struct pollfd pollfd = { .fd = qmig_control_fd(control), .events = POLLIN };

    g_assert_cmpint(poll(&pollfd, 1, 10000), ==, 1);
    g_autofree char *path = g_strdup(qmig_control_path(control));
    qmig_control_free(control);
    g_thread_join(thread);
    g_assert_error(asked.error, QMIG_ERROR, QMIG_ERROR_STATE);
    g_assert_cmpint(g_access(path, F_OK), !=, 0);
    g_clear_error(&asked.error);
}

static void
test_who_left_is_not_answered(void)
{
    g_autoptr(QmigControl) control = start();
    int gone = raw_connect(qmig_control_path(control));

    raw_send(gone, "{\"command\":\"cancel\"}\n");
    QmigControlRequest *request = await_request(control);
    close(gone);
    g_usleep(50000);
    qmig_control_answer(control, request, NULL);
    g_autoptr(QmigControlPeer) peer = open_peer(control);
    g_assert_true(qmig_control_call(peer, "status", NULL, NULL, NULL));
}

/* `echo … | socat - UNIX:…` closes its half at once. */
static void
test_half_closed_is_answered(void)
{
    g_autoptr(QmigControl) control = start();
    int fd = raw_connect(qmig_control_path(control));

    raw_send(fd, "{\"command\":\"status\"}\n{\"command\":\"postcopy\"}\n");
    shutdown(fd, SHUT_WR);
    g_usleep(50000);
    qmig_control_answer(control, await_request(control), NULL);
    g_autofree char *text = raw_read(fd, NULL);
    g_assert_cmpint(g_str_has_suffix(text, "{\"return\":{}}\n{\"return\":{}}\n"), ==,
                    TRUE);
    close(fd);
}

/* ---- events ----------------------------------------------------------------------------- */

static void
test_watch(void)
{
    g_autoptr(QmigControl) control = start();
    g_autoptr(QmigControlPeer) late = open_peer(control), all = open_peer(control);

    publish(control, "{\"event\":\"phase\",\"phase\":\"begin\"}", false);
    publish(control, "{\"event\":\"progress\",\"n\":1}", true);
    watch(late, false);
    watch(all, true);
    publish(control, "{\"event\":\"phase\",\"phase\":\"check\"}", false);
    assert_next_event(late, "{\"event\":\"phase\",\"phase\":\"check\"}");
    assert_next_event(all, "{\"event\":\"phase\",\"phase\":\"begin\"}");
    assert_next_event(all, "{\"event\":\"phase\",\"phase\":\"check\"}");
    publish(control, "{\"event\":\"progress\",\"n\":2}", true);
    assert_next_event(late, "{\"event\":\"progress\",\"n\":2}");
    assert_next_event(all, "{\"event\":\"progress\",\"n\":2}");
}

/* What was published reaches who watches, although the process ends at once. */
static void
test_last_event_is_delivered(void)
{
    QmigControl *control = start();
    g_autoptr(QmigControlPeer) peer = open_peer(control);
    g_autoptr(GError) error = NULL;

    watch(peer, false);
    publish(control, "{\"event\":\"end\"}", false);
    qmig_control_free(control);
    assert_next_event(peer, "{\"event\":\"end\"}");
    g_assert_null(qmig_control_next_event(peer, qmig_deadline_in_ms(10000), &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CLOSED);
}

/* A client that does not read: it is told how much it lost, and takes no memory meanwhile. */
static void
test_slow_watcher_loses_events(void)
{
    g_autoptr(QmigControl) control = start();
    int fd = raw_connect(qmig_control_path(control));
    g_autofree char *padding = g_strnfill(16000, 'x');
    guint64 lost = 0, seen = 0;
    enum { N = 3000 };

    raw_send(fd, "{\"command\":\"watch\"}\n");
    g_free(raw_read(fd, "{\"return\":{}}\n"));
    for (int i = 0; i < N; i++) {
        g_autofree char *text = g_strdup_printf("{\"event\":\"message\",\"text\":\"%s\"}",
                                                padding);
        publish(control, text, false);
        /* The thread shall fill the socket before events leave the ring. */
        g_usleep(i < 100 ? 1000 : 0);
    }
    publish(control, "{\"event\":\"end\"}", false);
    g_autofree char *all = raw_read(fd, "\"end\"}\n");
    g_auto(GStrv) lines = g_strsplit(all, "\n", 0);
    for (char **line = lines; *line != NULL; line++) {
        guint64 count = 0;
        seen += g_str_has_prefix(*line, "{\"event\":\"message\"");
        if (sscanf(*line, "{\"event\":\"lost\",\"count\":%" G_GUINT64_FORMAT "}",
                   &count) == 1) {
            lost += count;
        }
    }
    g_assert_cmpuint(lost, >, 0);
    g_assert_cmpuint(lost + seen, ==, N);
    close(fd);
}

/* ---- bad clients ------------------------------------------------------------------------ */

static void
test_bad_lines(void)
{
    g_autoptr(QmigControl) control = start();
    g_autofree char *deep = g_strnfill(1000, '[');
    g_autofree char *deep_line = g_strconcat("{\"command\":", deep, "\n", NULL);
    const struct {
        const char *line, *answer;
    } cases[] = {
        { "hello\n", "no JSON object" },
        { "[1]\n", "no JSON object" },
        { "\n", "no JSON object" },
        { deep_line, "no JSON object" },
        { "{\"command\":\"a\"}{\n", "no JSON object" },
        { "{}\n", "wanted {" },
        { "{\"command\":7}\n", "wanted {" },
        { "{\"command\":\"set\",\"arguments\":[]}\n", "wanted {" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        int fd = raw_connect(qmig_control_path(control));
        raw_send(fd, cases[i].line);
        shutdown(fd, SHUT_WR);
        g_autofree char *text = raw_read(fd, NULL);
        g_test_message("%zu: %s", i, text);
        g_assert_nonnull(strstr(text, "{\"error\":{\"code\":\"protocol\""));
        g_assert_nonnull(strstr(text, cases[i].answer));
        g_assert_null(qmig_control_take(control));
        close(fd);
    }
}

static void
test_endless_line(void)
{
    g_autoptr(QmigControl) control = start();
    g_autofree char *text = g_strnfill(QMIG_CONTROL_LINE_LIMIT, 'x');
    int fd = raw_connect(qmig_control_path(control));

    raw_send(fd, text);
    g_autofree char *answer = raw_read(fd, NULL);
    g_assert_nonnull(strstr(answer, "\"code\":\"limit\""));
    close(fd);
}

static void
test_clients_are_counted(void)
{
    g_autoptr(QmigControl) control = start();
    int fds[QMIG_CONTROL_MAX_CLIENTS];

    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = raw_connect(qmig_control_path(control));
        g_free(raw_read(fds[i], "\n"));
    }
    int one_more = raw_connect(qmig_control_path(control));
    g_autofree char *nothing = raw_read(one_more, NULL);
    g_assert_cmpstr(nothing, ==, "");
    close(one_more);
    close(fds[0]);
    g_usleep(50000);
    fds[0] = raw_connect(qmig_control_path(control));
    g_autofree char *greeting = raw_read(fds[0], "\n");
    g_assert_nonnull(strstr(greeting, "\"vm1\""));
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        close(fds[i]);
    }
}

/* ---- the file --------------------------------------------------------------------------- */

static void
test_only_this_user(void)
{
    g_autoptr(QmigControl) control = start();
    g_autofree char *open_directory = g_build_filename(directory, "open", NULL);
    g_autoptr(GError) error = NULL;
    struct stat st;

    g_assert_cmpint(stat(qmig_control_path(control), &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    g_assert_cmpint(g_mkdir(open_directory, 0700), ==, 0);
    g_assert_cmpint(g_chmod(open_directory, 0777), ==, 0);
    g_setenv("QMIG_RUNTIME_DIR", open_directory, TRUE);
    g_assert_null(qmig_control_start(NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
    g_setenv("QMIG_RUNTIME_DIR", directory, TRUE);
    g_rmdir(open_directory);
}

/* A name is taken over from the dead, not from the living; the dead are cleared away. */
static void
test_dead_sockets(void)
{
    g_autoptr(QmigControl) control = start();
    g_autofree char *dead = g_build_filename(directory, "1.sock", NULL);
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    g_autoptr(GError) error = NULL;

    g_assert_null(qmig_control_start(qmig_control_path(control), &error));
    g_assert_nonnull(error);
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        g_strlcpy(name.sun_path, dead, sizeof name.sun_path);
        g_assert_cmpint(bind(fd, (struct sockaddr *)&name, sizeof name), ==, 0);
        close(fd);
        if (i == 0) {
            QmigControl *heir = start_named(dead, "vm2");
            g_autoptr(QmigControlPeer) peer = open_peer(heir);
            qmig_control_free(heir);
            g_assert_cmpint(g_access(dead, F_OK), !=, 0);
        }
    }
    g_autoptr(GPtrArray) list = qmig_control_list();
    g_assert_cmpuint(list->len, ==, 1);
    g_assert_cmpint(g_access(dead, F_OK), !=, 0);
}

static void
test_find(void)
{
    g_autoptr(QmigControl) control = start();
    g_autofree char *qmp = g_build_filename(directory, "qmp", NULL);
    g_autofree char *alias = g_build_filename(directory, "alias", NULL);
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    g_autofree char *with_scheme = g_strconcat("unix:", qmp, NULL);
    const char *const found[] = { "vm1",
                                  "6f9619ff-8b86-d011-b42d-00c04fc964ff",
                                  pid,
                                  qmp,
                                  alias,
                                  with_scheme,
                                  "tcp:192.0.2.7:4444",
                                  qmig_control_path(control) };
    const char *const absent[] = { "vm", "", "tcp:192.0.2.7:4445", "/nonexistent/qmp",
                                   "null" };

    g_assert_true(g_file_set_contents(qmp, "", 0, NULL));
    g_assert_cmpint(symlink(qmp, alias), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(found); i++) {
        g_autoptr(QmigControlPeer) peer = qmig_control_find(found[i], NULL);
        g_test_message("%s", found[i]);
        g_assert_nonnull(peer);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(qmig_control_find(absent[i], &error));
        g_assert_no_error(error);
    }
    g_autoptr(QmigControlPeer) by_process = qmig_control_find_qemu(4711);
    g_assert_nonnull(by_process);
    g_assert_null(qmig_control_find_qemu(4712));
    g_assert_null(qmig_control_find_qemu(0));
    g_unlink(alias);
    g_unlink(qmp);
}

static void
test_several_fit(void)
{
    g_autoptr(QmigControl) control = start();
    g_autofree char *path = g_build_filename(directory, "other.sock", NULL);
    g_autoptr(QmigControl) other = start_named(path, "vm1");
    g_autoptr(GError) error = NULL;

    g_assert_null(qmig_control_find("vm1", &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
    g_assert_nonnull(strstr(error->message, "other.sock"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    directory = g_dir_make_tmp("qmig-test-XXXXXX", NULL);
    g_setenv("QMIG_RUNTIME_DIR", directory, TRUE);
    g_test_add_func("/control/status-is-the-last-one-set", test_status);
    g_test_add_func("/control/request-is-answered", test_request_is_answered);
    g_test_add_func("/control/request-is-refused", test_request_is_refused);
    g_test_add_func("/control/end-tells-who-waits", test_end_tells_who_waits);
    g_test_add_func("/control/who-left-is-not-answered", test_who_left_is_not_answered);
    g_test_add_func("/control/half-closed-is-answered", test_half_closed_is_answered);
    g_test_add_func("/control/watch-with-and-without-history", test_watch);
    g_test_add_func("/control/last-event-is-delivered", test_last_event_is_delivered);
    g_test_add_func("/control/slow-watcher-loses-events", test_slow_watcher_loses_events);
    g_test_add_func("/control/bad-lines-are-refused", test_bad_lines);
    g_test_add_func("/control/endless-line-is-refused", test_endless_line);
    g_test_add_func("/control/clients-are-counted", test_clients_are_counted);
    g_test_add_func("/control/only-this-user", test_only_this_user);
    g_test_add_func("/control/dead-sockets", test_dead_sockets);
    g_test_add_func("/control/find", test_find);
    g_test_add_func("/control/several-fit", test_several_fit);
    int rc = g_test_run();
    g_rmdir(directory);
    g_free(directory);
    return rc;
}
