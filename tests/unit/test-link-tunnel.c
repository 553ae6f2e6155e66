/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both ends of the tunnel in one process: connections in here, connections out there. */
#include "proxy/link/far-log.h"
#include "proxy/link/far.h"
#include "proxy/link/near.h"
#include "proxy/link/refusals.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"
#include "util/socket.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The door: admits everybody, and can break what it admitted. */
typedef struct {
    QmigFar *far;
    QmigFd listener;
    QmigAddress *address;
    QmigCancel *cancel;
    GThread *thread;
    gint last_fd; /* atomic; of the connection admitted last */
    gint closed;  /* atomic: nobody is let in */
    GMutex lock;  /* guards log */
    GString *log; /* what the far end wrote to it */
} Door;

static bool
take_line(void *data, const char *line)
{
    Door *d = data;

    g_mutex_lock(&d->lock);
    g_string_append_printf(d->log, "%s\n", line);
    g_mutex_unlock(&d->lock);
    return true;
}

static void *
door_thread(void *data)
{
    Door *d = data;
    int fd;

    while ((fd = qmig_socket_accept(d->listener, QMIG_DEADLINE_NEVER, d->cancel, NULL)) >=
           0) {
        QmigFrameHead head;
        QmigBuf *payload = NULL;
        if (g_atomic_int_get(&d->closed)) {
            close(fd);
            continue;
        }
        QmigWire *wire = qmig_wire_new(fd, NULL, "near");
        if (qmig_wire_read(wire, 2000, d->cancel, &head, &payload, NULL)) {
            g_autoptr(GError) error = NULL;
            g_atomic_int_set(&d->last_fd, fd);
            qmig_far_admit(d->far, wire, &head, payload != NULL ? payload->data : NULL,
                           qmig_deadline_in_ms(2000), &error);
            qmig_buf_unref(payload);
        } else {
            qmig_wire_free(wire);
        }
    }
    return NULL;
}

typedef struct {
    char *dir;
    QmigAddress *destination; /* where the test's QEMU listens */
    QmigFd listener;          /* its socket */
    Door door;
    QmigNear *near;
    QmigAddress *entry; /* where the near side listens for main */
} World;

static QmigAddress *
address_in(const World *w, const char *name)
{
    g_autofree char *text = g_strdup_printf("unix:%s/%s", w->dir, name);
    QmigAddress *address = qmig_address_parse(text, NULL);

    g_assert_nonnull(address);
    return address;
}

static void
world_up(World *w, uint32_t deadline_ms, unsigned sessions_max)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) here = NULL, any = qmig_address_parse("tcp:127.0.0.1:0", NULL);

    static const char *const allow[] = { "unix:*/monitor", "unix:/nowhere/*",
                                         "tcp:127.0.0.*:1", NULL };

    *w = (World){ .dir = g_dir_make_tmp("qmig-tunnel-XXXXXX", NULL) };
    w->door.log = g_string_new(NULL);
    w->destination = address_in(w, "qemu");
    w->listener = qmig_socket_listen(w->destination, 16, NULL, &error);
    g_assert_no_error(error);
    QmigFarConfig far = { .destination = w->destination,
                          .allow = allow,
                          .log = take_line,
                          .data = &w->door,
                          .sessions_max = sessions_max,
                          .wires_max = 4,
                          .deadline_max_ms = 60000,
                          .cache_max = 64 << 20 };
    w->door.far = qmig_far_new(&far);
    w->door.cancel = qmig_cancel_new();
    w->door.listener = qmig_socket_listen(any, 16, &w->door.address, &error);
    g_assert_no_error(error);
    w->door.thread = g_thread_new("door", door_thread, &w->door);
    const QmigAddress *addresses[] = { w->door.address, NULL };
    QmigNearConfig near = { .far = addresses,
                            .name = "test",
                            .deadline_ms = deadline_ms };
    w->near = qmig_near_new(&near, NULL, &error);
    if (sessions_max == 0) {
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
        return;
    }
    g_assert_no_error(error);
    here = address_in(w, "entry");
    g_assert_true(
        qmig_near_forward(w->near, QMIG_STREAM_MIGRATION, here, NULL, &w->entry, &error));
}

static void
world_down(World *w)
{
    qmig_near_free(w->near);
    qmig_cancel_raise(w->door.cancel);
    g_thread_join(w->door.thread);
    qmig_far_free(w->door.far);
    g_string_free(w->door.log, TRUE);
    qmig_cancel_free(w->door.cancel);
    qmig_fd_clear(&w->door.listener);
    qmig_fd_clear(&w->listener);
    (void)g_unlink(w->destination->path);
    qmig_address_free(w->door.address);
    qmig_address_free(w->destination);
    qmig_address_free(w->entry);
    g_assert_cmpint(g_rmdir(w->dir), ==, 0);
    g_free(w->dir);
}

static int
enter(const World *w)
{
    int fd = qmig_socket_connect(w->entry, qmig_deadline_in_ms(1000), NULL, NULL);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static int
leave(const World *w, int64_t ms)
{
    return qmig_socket_accept(w->listener, qmig_deadline_in_ms(ms), NULL, NULL);
}

static void
say(int fd, const char *text)
{
    g_assert_true(qmig_socket_write_all(fd, text, strlen(text), qmig_deadline_in_ms(2000),
                                        NULL, NULL));
}

static void
hear(int fd, const char *text)
{
    size_t len = strlen(text);
    g_autofree char *got = g_malloc0(len + 1);

    for (size_t n = 0; n < len;) {
        ssize_t m = qmig_socket_read(fd, got + n, len - n, qmig_deadline_in_ms(10000),
                                     NULL, NULL);
        g_assert_cmpint(m, >, 0);
        n += (size_t)m;
    }
    g_assert_cmpstr(got, ==, text);
}

static void
hear_end(int fd)
{
    char byte;

    g_assert_cmpint(
        qmig_socket_read(fd, &byte, 1, qmig_deadline_in_ms(10000), NULL, NULL), ==, 0);
}

/* Nothing is connected before its first bytes, nothing before main's were written; half-closes pass. */
static void
test_order(void)
{
    World w;

    world_up(&w, 60000, 4);
    g_auto(QmigFd) main_in = enter(&w);
    g_assert_cmpint(leave(&w, 300), ==, -1);
    g_auto(QmigFd) side_in = enter(&w);
    say(side_in, "side");
    g_assert_cmpint(leave(&w, 300), ==, -1);
    say(main_in, "main");
    g_auto(QmigFd) main_out = leave(&w, 5000);
    hear(main_out, "main");
    g_auto(QmigFd) side_out = leave(&w, 5000);
    hear(side_out, "side");
    say(side_out, "back");
    hear(side_in, "back");
    /* Silent: a preempt channel. */
    g_auto(QmigFd) preempt_in = enter(&w);
    g_auto(QmigFd) preempt_out = leave(&w, 5000);
    g_assert_cmpint(preempt_out, >=, 0);
    (void)shutdown(main_in, SHUT_WR);
    hear_end(main_out);
    say(main_out, "last words");
    hear(main_in, "last words");
    qmig_fd_clear(&main_out);
    hear_end(main_in);
    qmig_fd_clear(&side_in);
    hear_end(side_out);
    qmig_fd_clear(&side_out);
    qmig_fd_clear(&preempt_out);
    hear_end(preempt_in);
    qmig_fd_clear(&preempt_in);
    g_assert_true(qmig_near_close(w.near, qmig_deadline_in_ms(5000)));
    world_down(&w);
}

static QmigLinkStream *
open_stream(const World *w, uint16_t index)
{
    QmigLinkOpen open = { .kind = QMIG_STREAM_MIGRATION, .index = index };
    QmigLinkStream *stream = qmig_link_open(qmig_near_link(w->near), &open, NULL);

    g_assert_nonnull(stream);
    return stream;
}

static void
send_zeros(QmigLinkStream *stream, uint32_t n)
{
    QmigBuf *buf = qmig_buf_new(n);

    memset(buf->data, 0, n);
    buf->len = n;
    g_assert_true(qmig_link_stream_write(stream, QMIG_FRAME_DATA, buf, NULL));
}

/* A destination that reads nothing of main before it has the other channels, as QEMU's does with
 * multifd and preempt: main's first frame does not fit into its socket. */
static void
test_unread(void)
{
    World w;
    char byte;

    world_up(&w, 60000, 4);
    QmigLinkStream *main_in = open_stream(&w, 0), *side_in = open_stream(&w, 1);
    send_zeros(main_in, QMIG_FRAME_PAYLOAD_MAX);
    send_zeros(side_in, 1);
    g_auto(QmigFd) main_out = leave(&w, 5000);
    g_auto(QmigFd) side_out = leave(&w, 5000);
    g_assert_cmpint(
        qmig_socket_read(side_out, &byte, 1, qmig_deadline_in_ms(5000), NULL, NULL), ==,
        1);
    for (size_t left = QMIG_FRAME_PAYLOAD_MAX; left > 0;) {
        static char much[1 << 16];
        ssize_t n = qmig_socket_read(main_out, much, MIN(sizeof much, left),
                                     qmig_deadline_in_ms(5000), NULL, NULL);
        g_assert_cmpint(n, >, 0);
        left -= (size_t)n;
    }
    qmig_link_stream_free(main_in);
    qmig_link_stream_free(side_in);
    world_down(&w);
}

/* Nobody connects to the destination for one who closes without a word, which would end QEMU; and
 * main, which comes then, is the first all the same. */
static void
test_stray(void)
{
    static const char hello[] = "\x11\x22\x33\x44 is how multifd begins; "
                                "its first packet is as long as this, or longer";
    World w;

    world_up(&w, 60000, 4);
    g_auto(QmigFd) stray = enter(&w);
    qmig_fd_clear(&stray);
    stray = enter(&w);
    g_auto(QmigFd) channel = enter(&w);
    say(channel, hello);
    g_assert_cmpint(leave(&w, 300), ==, -1);
    g_auto(QmigFd) in = enter(&w);
    say(in, "QEVM, main");
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "QEVM, main");
    g_auto(QmigFd) channel_out = leave(&w, 5000);
    hear(channel_out, hello);
    g_assert_cmpint(leave(&w, 300), ==, -1);
    qmig_fd_clear(&stray);
    g_assert_cmpint(leave(&w, 300), ==, -1);
    world_down(&w);
}

/* The same of a near end that does not look. */
static void
test_stray_unseen(void)
{
    World w;

    world_up(&w, 60000, 4);
    QmigLinkStream *main_in = open_stream(&w, 0), *side_in = open_stream(&w, 1);
    g_assert_true(qmig_link_stream_write(main_in, QMIG_FRAME_END, NULL, NULL));
    g_assert_cmpint(leave(&w, 300), ==, -1);
    /* The others learn at once that there is no main. */
    QmigFrameType type;
    g_autoptr(QmigBuf) why = NULL;
    send_zeros(side_in, 1);
    g_assert_true(qmig_link_stream_read(side_in, &type, &why, NULL));
    g_assert_cmpint(type, ==, QMIG_FRAME_RESET);
    g_assert_nonnull(
        g_strstr_len((const char *)why->data, why->len, "main was not made"));
    g_assert_cmpint(leave(&w, 300), ==, -1);
    qmig_link_stream_free(main_in);
    qmig_link_stream_free(side_in);
    world_down(&w);
}

/* Each has a cache as large as was granted to the session. */
static void
test_mains(void)
{
    World w;
    QmigLinkStream *mains[3];
    int outs[2];
    QmigFrameType type;
    g_autoptr(QmigBuf) why = NULL;

    world_up(&w, 60000, 4);
    for (uint16_t i = 0; i < G_N_ELEMENTS(mains); i++) {
        QmigLinkOpen open = { .kind = QMIG_STREAM_MIGRATION, .group = i };
        mains[i] = qmig_link_open(qmig_near_link(w.near), &open, NULL);
        if (i < 2) {
            send_zeros(mains[i], 1);
            outs[i] = leave(&w, 5000);
            g_assert_cmpint(outs[i], >=, 0);
        }
    }
    g_assert_true(qmig_link_stream_read(mains[2], &type, &why, NULL));
    g_assert_cmpint(type, ==, QMIG_FRAME_RESET);
    g_assert_nonnull(g_strstr_len((const char *)why->data, why->len, "more than 2"));
    for (size_t i = 0; i < G_N_ELEMENTS(mains); i++) {
        qmig_link_stream_free(mains[i]);
    }
    close(outs[0]);
    close(outs[1]);
    world_down(&w);
}

/* What an address may be to which the far end is allowed to connect by a pattern. */
static void
check_allowed(const char *address, bool allowed)
{
    World w;
    QmigFrameType type;
    g_autoptr(QmigBuf) why = NULL;
    QmigLinkOpen open = { .kind = QMIG_STREAM_CONTROL };

    world_up(&w, 60000, 4);
    g_strlcpy(open.address, address, sizeof open.address);
    QmigLinkStream *stream = qmig_link_open(qmig_near_link(w.near), &open, NULL);
    g_assert_true(qmig_link_stream_read(stream, &type, &why, NULL));
    g_assert_cmpint(type, ==, QMIG_FRAME_RESET);
    g_autofree char *text = g_strndup((const char *)why->data, why->len);
    g_test_message("%s: %s", address, text);
    g_assert_cmpint(strstr(text, "the far end") == NULL, ==, allowed);
    qmig_link_stream_free(stream);
    world_down(&w);
}

static void
test_allowed(void)
{
    check_allowed("unix:/nowhere/vm1/qmp", true);
    check_allowed("unix:/nowhere/../run/qmp", false);
    check_allowed("unix:/nowhere/./qmp", false);
    check_allowed("unix:/elsewhere/qmp", false);
    check_allowed("tcp:127.0.0.1:1", true);
    check_allowed("tcp:127.0.0.x.example:1", false);
    check_allowed("tcp:localhost:1", false);
}

/* Whoever is left behind by a break sees a break. */
static void
test_reset(void)
{
    World w;
    char big[1 << 16] = { 1 };
    bool ok = true;

    world_up(&w, 60000, 4);
    g_auto(QmigFd) in = enter(&w);
    say(in, "main");
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "main");
    say(out, "SHUT");
    qmig_fd_clear(&out);
    hear(in, "SHUT");
    for (int i = 0; i < 1000 && ok; i++) {
        ok = qmig_socket_write_all(in, big, sizeof big, qmig_deadline_in_ms(5000), NULL,
                                   NULL);
    }
    g_assert_false(ok);
    world_down(&w);
}

/* Every connection of the tunnel breaks, and none can be made. */
static void
break_all(World *w)
{
    while (qmig_link_missing_wire(qmig_near_link(w->near)) >= 0) {
        g_usleep(10000);
    }
    g_atomic_int_set(&w->door.closed, 1);
    for (int fd = g_atomic_int_get(&w->door.last_fd); fd > 2 && fd > w->door.listener;
         fd--) {
        /* Whatever of them are connections of the tunnel. */
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
            peer.ss_family == AF_INET) {
            (void)shutdown(fd, SHUT_RDWR);
        }
    }
}

/* A dark link is a pause; one that stays dark is the end, for both sides. */
static void
check_dark(uint32_t dark_ms, uint32_t deadline_ms)
{
    World w;

    world_up(&w, deadline_ms, 4);
    g_auto(QmigFd) in = enter(&w);
    say(in, "before");
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "before");
    break_all(&w);
    say(in, "meanwhile");
    g_usleep(dark_ms * 1000ul);
    g_atomic_int_set(&w.door.closed, 0);
    if (dark_ms < deadline_ms) {
        hear(out, "meanwhile");
        say(out, "and back");
        hear(in, "and back");
        QmigLinkStats stats;
        qmig_link_stats(qmig_near_link(w.near), &stats);
        g_assert_cmpuint(stats.breaks, >, 0);
        g_assert_cmpuint(stats.dark_ms, >, dark_ms / 2);
    } else {
        char byte;
        g_assert_cmpint(
            qmig_socket_read(in, &byte, 1, qmig_deadline_in_ms(10000), NULL, NULL), <=,
            0);
        g_assert_cmpint(
            qmig_socket_read(out, &byte, 1, qmig_deadline_in_ms(10000), NULL, NULL), <=,
            0);
        g_assert_cmpint(qmig_link_state(qmig_near_link(w.near)), ==, QMIG_LINK_FAILED);
    }
    world_down(&w);
}

static void
test_dark(void)
{
    check_dark(1500, 60000);
    check_dark(2500, 1000);
}

/* Nobody listens over there. */
static void
test_no_destination(void)
{
    World w;
    char byte;

    world_up(&w, 60000, 4);
    qmig_fd_clear(&w.listener);
    g_auto(QmigFd) in = enter(&w);
    say(in, "main");
    g_assert_cmpint(
        qmig_socket_read(in, &byte, 1, qmig_deadline_in_ms(20000), NULL, NULL), <=, 0);
    g_autoptr(JsonObject) told = qmig_near_describe(w.near);
    JsonObject *why;
    g_assert_true(json_object_object_get_ex(told, "last_break", &why));
    g_assert_nonnull(strstr(json_object_get_string(why), "/qemu"));
    world_down(&w);
}

/* Ask for @name as a monitor. Return: (transfer full) why it broke off. */
static char *
ask_monitor(const World *w, const char *name)
{
    g_autofree char *entry = g_strdup_printf("to-%s", name);
    g_autoptr(QmigAddress) here = address_in(w, entry), there = address_in(w, name);
    int64_t begin = qmig_now_us();
    char byte;

    g_assert_true(
        qmig_near_forward(w->near, QMIG_STREAM_CONTROL, here, there, NULL, NULL));
    g_auto(QmigFd) in = qmig_socket_connect(here, qmig_deadline_in_ms(1000), NULL, NULL);
    g_assert_cmpint(qmig_socket_read(in, &byte, 1, qmig_deadline_in_ms(4000), NULL, NULL),
                    <=, 0);
    /* Sooner than QMP would give up waiting for a greeting, and say why it thinks there is none. */
    g_assert_cmpint(qmig_now_us() - begin, <, 4 * G_USEC_PER_SEC);
    g_assert_null(qmig_near_last_reason(w->near, qmig_now_us() + G_USEC_PER_SEC));
    char *reason = qmig_near_last_reason(w->near, begin);
    g_assert_nonnull(reason);
    return reason;
}

/* A monitor that may not be connected to, or is not there: both ends tell why, at once. */
static void
test_turned_down(void)
{
    World w;

    world_up(&w, 60000, 4);
    g_assert_null(qmig_near_last_reason(w.near, 0));
    g_autofree char *not_allowed = ask_monitor(&w, "other");
    g_assert_nonnull(strstr(not_allowed, "may not connect to unix:"));
    g_autofree char *not_there = ask_monitor(&w, "monitor");
    g_assert_nonnull(strstr(not_there, "/monitor: "));
    g_mutex_lock(&w.door.lock);
    g_assert_nonnull(strstr(w.door.log->str, "refused monitor of test: config: the far"));
    g_assert_nonnull(strstr(w.door.log->str, "refused monitor of test: io: unix:"));
    g_mutex_unlock(&w.door.lock);
    world_down(&w);
}

/* Of a thousand that are turned down not every one is a line. */
static void
test_log_is_bounded(void)
{
    Door door = { .log = g_string_new(NULL) };
    QmigFarLog *log = qmig_far_log_new(take_line, &door);
    g_autoptr(GError) why = g_error_new(QMIG_ERROR, QMIG_ERROR_CONFIG, "no");

    for (int i = 0; i < 1000; i++) {
        qmig_far_log_refused(log, QMIG_STREAM_DISK, "", why);
    }
    g_auto(GStrv) lines = g_strsplit(door.log->str, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), <=, 2 * QMIG_REFUSALS_LINES);
    g_assert_cmpstr(lines[0], ==, "refused disk of a nameless session: config: no");
    qmig_far_log_free(log);
    g_assert_nonnull(strstr(door.log->str, " config; the last from disk of a nameless"));
    g_string_free(door.log, TRUE);
}

static QmigNear *
come(const World *w, const char *name, GError **error)
{
    const QmigAddress *addresses[] = { w->door.address, NULL };
    QmigNearConfig near = { .far = addresses, .name = name };

    return qmig_near_new(&near, NULL, error);
}

/* Of the far end's first session. */
static void
expect_far(const World *w, const char *state, bool critical)
{
    for (int i = 0; i < 100; i++) {
        g_autoptr(JsonObject) list = qmig_far_describe(w->door.far);
        JsonObject *first = json_object_array_get_idx(list, 0), *got, *said;

        g_assert_true(json_object_object_get_ex(first, "state", &got));
        g_assert_true(json_object_object_get_ex(first, "critical", &said));
        if (strcmp(json_object_get_string(got), state) == 0 &&
            json_object_get_boolean(said) == critical) {
            return;
        }
        g_usleep(50000);
    }
    g_error("the far end's session is not %s", state);
}

/* A near end that died comes again: nobody waits for the deadline of its old session, whose place it
 * has where there is but one. */
static void
check_replaced(unsigned sessions_max)
{
    World w;
    char byte;

    world_up(&w, 60000, sessions_max);
    g_auto(QmigFd) in = enter(&w);
    say(in, "main");
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "main");
    break_all(&w);
    qmig_near_free(w.near);
    g_assert_cmpint(
        qmig_socket_read(out, &byte, 1, qmig_deadline_in_ms(1000), NULL, NULL), ==, -1);
    g_atomic_int_set(&w.door.closed, 0);
    g_autoptr(GError) error = NULL;
    if (sessions_max == 1) {
        g_assert_null(come(&w, "other", &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
        g_clear_error(&error);
        expect_far(&w, "dark", false);
    }
    w.near = come(&w, "test", &error);
    g_assert_no_error(error);
    g_assert_cmpint(
        qmig_socket_read(out, &byte, 1, qmig_deadline_in_ms(5000), NULL, &error), <=, 0);
    g_assert_false(g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT));
    world_down(&w);
}

static void
test_replaced(void)
{
    check_replaced(4);
    check_replaced(1);
}

static void *
far_leaves(void *far)
{
    qmig_far_leave(far, qmig_deadline_in_ms(2000));
    return NULL;
}

/* Who is refused replaces nobody: the guest of that session is changing hosts. */
static void
test_refused_replaces_nobody(void)
{
    World w;
    g_autoptr(GError) error = NULL;

    world_up(&w, 60000, 4);
    qmig_link_set_critical(qmig_near_link(w.near), true);
    expect_far(&w, "up", true);
    break_all(&w);
    qmig_near_free(g_steal_pointer(&w.near));
    expect_far(&w, "dark", true);
    GThread *leaves = g_thread_new("leaves", far_leaves, w.door.far);
    g_usleep(200000);
    g_atomic_int_set(&w.door.closed, 0);
    g_assert_null(come(&w, "test", &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
    expect_far(&w, "dark", true);
    g_thread_join(leaves);
    world_down(&w);
}

/* Whoever gives up says so. */
static void
test_given_up(void)
{
    World w;
    char byte;

    world_up(&w, 60000, 4);
    g_auto(QmigFd) in = enter(&w);
    say(in, "main");
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "main");
    qmig_near_free(g_steal_pointer(&w.near));
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(
        qmig_socket_read(out, &byte, 1, qmig_deadline_in_ms(5000), NULL, &error), <=, 0);
    g_assert_false(g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT));
    world_down(&w);
}

/* ---- from within the process ------------------------------------------------------------ */

/* A source in this process: what it writes goes by the sink, all else by the descriptor. */
typedef struct {
    QmigFd fd;
    QmigRelaySink sink;
    QmigCancel *cancel;
} Inside;

static void
inside_enter(Inside *in, const World *w)
{
    g_autoptr(GError) error = NULL;

    in->fd = qmig_near_connect(w->near, w->entry, &in->sink, &error);
    g_assert_no_error(error);
    g_assert_nonnull(in->sink.put);
    in->cancel = qmig_cancel_new();
}

static void
inside_leave(Inside *in)
{
    qmig_fd_clear(&in->fd);
    in->sink.release(in->sink.self);
    qmig_cancel_free(in->cancel);
}

/* Put @n bytes of @byte where the sink wants them. */
static bool
inside_say(Inside *in, char byte, size_t n, GError **error)
{
    size_t room;
    uint8_t *place = in->sink.place(in->sink.self, &room);

    g_assert_cmpuint(room, >=, n);
    memset(place, byte, n);
    return in->sink.put(in->sink.self, place, n, in->cancel, error);
}

static void
test_inside(void)
{
    World w;
    Inside in;
    g_autoptr(GError) error = NULL;

    world_up(&w, 60000, 4);
    inside_enter(&in, &w);
    g_assert_true(inside_say(&in, 'a', 3, &error));
    g_assert_true(in.sink.put(in.sink.self, (const uint8_t *)"bc", 2, in.cancel, &error));
    g_assert_true(inside_say(&in, 'd', 1, &error));
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "aaabcd");
    say(out, "back");
    hear(in.fd, "back");
    (void)shutdown(in.fd, SHUT_WR);
    hear_end(out);
    say(out, "last words");
    hear(in.fd, "last words");
    qmig_fd_clear(&out);
    hear_end(in.fd);
    g_autoptr(QmigAddress) nowhere = address_in(&w, "nowhere");
    QmigRelaySink none;
    g_assert_cmpint(qmig_near_connect(w.near, nowhere, &none, &error), ==, -1);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    inside_leave(&in);
    world_down(&w);
}

/* Its reader has left: a put fails, and what was said last can be read. */
static void
test_inside_reset(void)
{
    World w;
    Inside in;
    g_autoptr(GError) error = NULL;
    bool ok = true;

    world_up(&w, 60000, 4);
    inside_enter(&in, &w);
    g_assert_true(inside_say(&in, 'a', 1, NULL));
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "a");
    say(out, "SHUT");
    qmig_fd_clear(&out);
    for (int i = 0; i < 1000 && ok; i++) {
        ok = inside_say(&in, 'b', 1 << 16, &error);
    }
    g_assert_false(ok);
    g_clear_error(&error);
    g_assert_false(inside_say(&in, 'c', 1, &error));
    hear(in.fd, "SHUT");
    inside_leave(&in);
    world_down(&w);
}

static void *
say_until_it_fails(void *data)
{
    Inside *in = data;
    GError *error = NULL;

    while (inside_say(in, 'c', 1 << 16, &error)) {
    }
    return error;
}

/* It waits for room in the dark, until it is told not to, or the session is no more. */
static void
check_inside_stopped(bool by_session)
{
    World w;
    Inside in;

    world_up(&w, 60000, 4);
    QmigNear *near = qmig_near_ref(w.near);
    inside_enter(&in, &w);
    g_assert_true(inside_say(&in, 'a', 1, NULL));
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "a");
    break_all(&w);
    GThread *thread = g_thread_new("inside", say_until_it_fails, &in);
    g_usleep(300000);
    if (by_session) {
        qmig_near_free(g_steal_pointer(&w.near));
    } else {
        qmig_cancel_raise(in.cancel);
    }
    g_autoptr(GError) error = g_thread_join(thread);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
    if (by_session) {
        QmigRelaySink none;
        g_clear_error(&error);
        g_assert_cmpint(qmig_near_connect(near, w.entry, &none, &error), ==, -1);
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CLOSED);
    }
    inside_leave(&in);
    qmig_near_unref(near);
    world_down(&w);
}

static void
test_inside_stopped(void)
{
    check_inside_stopped(false);
    check_inside_stopped(true);
}

/* More than goes into the queue. */
static void *
fill_queue(void *data)
{
    QmigLinkStream *stream = data;
    QmigBuf *buf;

    do {
        buf = qmig_buf_new(1);
        buf->len = 1;
        buf->data[0] = 0;
    } while (qmig_link_stream_write(stream, QMIG_FRAME_DATA, buf, NULL));
    return NULL;
}

/* That the guest changes sides is known at once, though nothing goes into the tunnel. */
static void
test_switching(void)
{
    World w;
    g_autoptr(GByteArray) sample = sample_precopy();

    world_up(&w, 60000, 4);
    break_all(&w);
    QmigLinkStream *other = open_stream(&w, 7);
    GThread *filler = g_thread_new("filler", fill_queue, other);
    g_usleep(100000);
    g_auto(QmigFd) in = enter(&w);
    g_usleep(300000);
    g_assert_false(qmig_near_is_switching(w.near));
    g_assert_true(qmig_socket_write_all(in, sample->data, sample->len,
                                        qmig_deadline_in_ms(2000), NULL, NULL));
    for (int i = 0; i < 100 && !qmig_near_is_switching(w.near); i++) {
        g_usleep(50000);
    }
    g_assert_true(qmig_near_is_switching(w.near));
    g_autoptr(JsonObject) told = qmig_near_describe(w.near);
    JsonObject *critical;
    g_assert_true(json_object_object_get_ex(told, "critical", &critical));
    g_assert_false(json_object_get_boolean(critical));
    g_assert_false(qmig_near_is_through(w.near));
    qmig_link_stream_interrupt(other);
    g_thread_join(filler);
    qmig_link_fail(qmig_near_link(w.near),
                   g_error_new(QMIG_ERROR, QMIG_ERROR_CLOSED, "enough"));
    for (int i = 0; i < 100 && !qmig_near_is_through(w.near); i++) {
        g_usleep(50000);
    }
    g_assert_true(qmig_near_is_through(w.near));
    g_assert_false(qmig_near_is_switching(w.near));
    qmig_link_stream_free(other);
    world_down(&w);
}

static int64_t
processor_us(void)
{
    struct rusage used;

    g_assert_cmpint(getrusage(RUSAGE_SELF, &used), ==, 0);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * G_USEC_PER_SEC +
           used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

/* Without a descriptor for it a connection waits, and so do we: it is taken when there is one. */
static void
test_no_descriptors(void)
{
    World w;
    struct rlimit limit;
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    world_up(&w, 60000, 4);
    while (qmig_link_missing_wire(qmig_near_link(w.near)) >= 0) {
        g_usleep(10000);
    }
    g_strlcpy(address.sun_path, w.entry->path, sizeof address.sun_path);
    g_auto(QmigFd) in = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int next = dup(in);
    close(next);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    struct rlimit none = { (rlim_t)next, limit.rlim_max };
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    g_assert_cmpint(connect(in, (struct sockaddr *)&address, sizeof address), ==, 0);
    int64_t before = processor_us();
    g_usleep(500000);
    g_assert_cmpint(processor_us() - before, <, 100000);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    say(in, "main");
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "main");
    world_down(&w);
}

static void
test_full(void)
{
    World w;

    world_up(&w, 60000, 0);
    world_down(&w);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link/tunnel/order", test_order);
    g_test_add_func("/link/tunnel/unread", test_unread);
    g_test_add_func("/link/tunnel/stray", test_stray);
    g_test_add_func("/link/tunnel/stray-unseen", test_stray_unseen);
    g_test_add_func("/link/tunnel/mains", test_mains);
    g_test_add_func("/link/tunnel/allowed", test_allowed);
    g_test_add_func("/link/tunnel/reset", test_reset);
    g_test_add_func("/link/tunnel/dark", test_dark);
    g_test_add_func("/link/tunnel/no-destination", test_no_destination);
    g_test_add_func("/link/tunnel/turned-down", test_turned_down);
    g_test_add_func("/link/tunnel/log-is-bounded", test_log_is_bounded);
    g_test_add_func("/link/tunnel/replaced", test_replaced);
    g_test_add_func("/link/tunnel/refused-replaces-nobody", test_refused_replaces_nobody);
    g_test_add_func("/link/tunnel/given-up", test_given_up);
    g_test_add_func("/link/tunnel/inside", test_inside);
    g_test_add_func("/link/tunnel/inside-reset", test_inside_reset);
    g_test_add_func("/link/tunnel/inside-stopped", test_inside_stopped);
    g_test_add_func("/link/tunnel/switching", test_switching);
    g_test_add_func("/link/tunnel/no-descriptors", test_no_descriptors);
    g_test_add_func("/link/tunnel/full", test_full);
    return g_test_run();
}
