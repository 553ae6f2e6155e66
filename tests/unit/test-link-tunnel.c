/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both ends of the tunnel do with the connections of a migration, and with those of their own. */
#include "test-link-world.h"
#include "tests/lib/sample-stream.h"

#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

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
    g_test_add_func("/link/tunnel/reset", test_reset);
    g_test_add_func("/link/tunnel/dark", test_dark);
    g_test_add_func("/link/tunnel/no-destination", test_no_destination);
    g_test_add_func("/link/tunnel/turned-down", test_turned_down);
    g_test_add_func("/link/tunnel/replaced", test_replaced);
    g_test_add_func("/link/tunnel/refused-replaces-nobody", test_refused_replaces_nobody);
    g_test_add_func("/link/tunnel/given-up", test_given_up);
    g_test_add_func("/link/tunnel/switching", test_switching);
    g_test_add_func("/link/tunnel/no-descriptors", test_no_descriptors);
    g_test_add_func("/link/tunnel/full", test_full);
    return g_test_run();
}
