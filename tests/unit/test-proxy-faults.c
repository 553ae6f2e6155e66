/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migrations that go wrong: who is told, how fast, and what is left behind. */
#include "tests/unit/test-proxy-peers.h"

/* A main channel in mid-stream: 100 bytes have passed. */
static void
open_main(Fixture *f, int *source, int *destination)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    *source = source_connect(f);
    send_all(*source, stream->data, 100);
    *destination = destination_accept(f);
    expect(*destination, stream->data, 100);
}

/* The whole of sample_precopy() has passed. */
static void
open_main_to_the_end(Fixture *f, int *source, int *destination)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    *source = source_connect(f);
    send_all(*source, stream->data, stream->len);
    *destination = destination_accept(f);
    expect(*destination, stream->data, stream->len);
}

/* A multifd channel beside main. */
static void
open_multifd(Fixture *f, int *source, int *destination)
{
    uint8_t packet[64] = { 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1 };

    *source = source_connect(f);
    send_all(*source, packet, sizeof packet);
    *destination = destination_accept(f);
    expect(*destination, packet, sizeof packet);
}

/* ---- the destination ------------------------------------------------------------------ */

static void
test_destination_refuses(Fixture *f, const void *unused)
{
    (void)unused;
    qmig_fd_clear(&f->listener);
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, "QEVM\0\0\0\3", 8);
    expect_closed(source, 1000);
    expect_failed(f, QMIG_ERROR_IO, "destination: main channel: unix:");
    assert_snapshot_has(f, "its guest keeps running");
}

static void
test_destination_dies_while_source_is_silent(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main(f, &source, &destination);
    qmig_fd_clear(&destination);
    expect_closed(source, 1000);
    expect_failed(f, QMIG_ERROR_CLOSED,
                  "destination: main channel: closed after 100 bytes");
}

static void
test_destination_dies_with_unread_bytes(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;
    g_autoptr(GByteArray) more = g_byte_array_new();

    (void)unused;
    put_pattern(more, 100000, 1);
    start_proxy(f, "null", 0);
    open_main_to_the_end(f, &source, &destination);
    send_all(source, more->data, 50);
    g_usleep(50000);
    qmig_fd_clear(&destination);
    expect_closed(source, 1000);
    expect_failed(f, QMIG_ERROR_CLOSED, "destination: main channel");
}

static void
test_destination_cannot_load(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main_to_the_end(f, &source, &destination);
    send_shut(destination, 1);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\1", 8);
    expect_closed(source, 1000);
    expect_failed(f, QMIG_ERROR_CLOSED, "destination: main channel: it could not load");
    assert_snapshot_has(f, "\"shut\":1");
}

static void
test_destination_leaves_without_shut(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main_to_the_end(f, &source, &destination);
    qmig_fd_clear(&destination);
    expect_closed(source, 1000);
    expect_failed(f, QMIG_ERROR_CLOSED, "all was sent, but not confirmed");
}

/* Without return path a reset is the only sign that the destination did not load. */
static void
test_destination_dies_loading_without_return_path(Fixture *f, const void *unused)
{
    static const uint8_t stream[] = "QEVM\0\0\0\3\x07\0\0\0\1x\x00";

    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream, sizeof stream - 1);
    qmig_fd_clear(&source);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream, sizeof stream - 2);
    g_usleep(50000);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
    qmig_fd_clear(&destination); /* one byte unread: a reset */
    expect_failed(f, QMIG_ERROR_CLOSED, "while it was loading");
}

/* ---- the source ----------------------------------------------------------------------- */

static void
test_source_dies_in_mid_stream(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main(f, &source, &destination);
    qmig_fd_clear(&source);
    expect_closed(destination, 1000);
    expect_failed(f, QMIG_ERROR_CLOSED, "source: main channel: closed after 100 bytes");
}

/* A reset: the source closes with a PONG unread. */
static void
test_source_resets(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main(f, &source, &destination);
    send_pong(destination, 1);
    await_snapshot(f, "\"pongs\":1");
    g_usleep(20000);
    qmig_fd_clear(&source);
    expect_closed(destination, 1000);
    expect_failed(f, QMIG_ERROR_CLOSED, "source: main channel");
}

static void
test_source_leaves_before_shut(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main_to_the_end(f, &source, &destination);
    qmig_fd_clear(&source);
    expect_closed(destination, 1000);
    expect_failed(f, QMIG_ERROR_CLOSED, "before the destination confirmed");
}

/* ---- late ends ------------------------------------------------------------------------ */

/* After SHUT nothing the destination does is a failure, and the source is not reset. */
static void
test_reset_after_shut_is_normal(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;
    g_autoptr(GByteArray) late = g_byte_array_new();

    (void)unused;
    put_pattern(late, 500000, 2);
    start_proxy(f, NULL, 0);
    open_main_to_the_end(f, &source, &destination);
    send_shut(destination, 0);
    await_snapshot(f, "\"shut\":0");
    send_all(source, late->data, 100);
    g_usleep(50000);
    qmig_fd_clear(&destination); /* 100 bytes unread: a reset */
    send_all(source, late->data, late->len);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    expect_eof(source);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
    qmig_fd_clear(&source);
    expect_done(f);
}

static void
test_multifd_may_close_before_main(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;
    g_auto(QmigFd) source2 = -1;
    g_auto(QmigFd) destination2 = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main_to_the_end(f, &source, &destination);
    open_multifd(f, &source2, &destination2);
    send_all(source2, "late", 4);
    g_usleep(50000);
    qmig_fd_clear(&destination2); /* "late" unread: a reset */
    expect_closed(source2, 1000);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    expect_eof(source);
    qmig_fd_clear(&source);
    expect_done(f);
}

static void
test_broken_multifd_ends_the_session(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;
    g_auto(QmigFd) source2 = -1;
    g_auto(QmigFd) destination2 = -1;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main(f, &source, &destination);
    open_multifd(f, &source2, &destination2);
    send_all(source2, "pages", 5);
    g_usleep(50000);
    qmig_fd_clear(&destination2);
    expect_closed(source2, 1000);
    expect_closed(source, PATIENCE_MS);
    expect_failed(f, QMIG_ERROR_CLOSED, "destination: multifd 0 channel");
}

/* ---- load ----------------------------------------------------------------------------- */

static void
test_slow_reader_bounds_the_backlog(Fixture *f, const void *unused)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;
    static char zeros[65536];
    size_t sent = 0;

    (void)unused;
    start_proxy(f, NULL, 0);
    open_main(f, &source, &destination);
    for (int idle = 0; idle < 20;) {
        ssize_t n = send(source, zeros, sizeof zeros, MSG_DONTWAIT);
        if (n > 0) {
            sent += (size_t)n;
            idle = 0;
        } else {
            g_assert_cmpint(errno, ==, EAGAIN);
            idle++;
            g_usleep(5000);
        }
    }
    g_assert_cmpuint(qmig_proxy_backlog(f->proxy), >, 0);
    g_assert_cmpuint(qmig_proxy_backlog(f->proxy), <=, 1 << 20);
    g_assert_cmpuint(sent, <, 8 << 20);
    g_autofree char *wanted = g_malloc0(sent);
    expect(destination, wanted, sent);
    await_snapshot(f, "\"backlog\":0");
}

/* ---- leaving nothing behind ------------------------------------------------------------- */

static guint
count_entries(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir) != NULL) {
        n++;
    }
    return n;
}

/* Threads leave /proc a moment after they were joined. */
static void
assert_threads(guint wanted)
{
    for (int i = 0; i < 200 && count_entries("/proc/self/task") != wanted; i++) {
        g_usleep(5000);
    }
    g_assert_cmpuint(count_entries("/proc/self/task"), ==, wanted);
}

static void
free_waiting(Fixture *f)
{
    (void)f;
}

static void
free_silent(Fixture *f)
{
    g_auto(QmigFd) source = source_connect(f);

    g_usleep(20000);
    g_clear_pointer(&f->proxy, qmig_proxy_free);
    expect_closed(source, 1000);
}

static void
free_held(Fixture *f)
{
    uint8_t packet[64] = { 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1 };
    g_auto(QmigFd) source = source_connect(f);

    send_all(source, packet, sizeof packet);
    g_usleep(20000);
    g_clear_pointer(&f->proxy, qmig_proxy_free);
    expect_closed(source, 1000);
}

static void
free_active(Fixture *f)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;
    g_auto(QmigFd) source2 = -1;
    g_auto(QmigFd) destination2 = -1;

    open_main(f, &source, &destination);
    open_multifd(f, &source2, &destination2);
    g_clear_pointer(&f->proxy, qmig_proxy_free);
    expect_closed(source, 1000);
    expect_closed(destination, 1000);
    expect_closed(source2, 1000);
    expect_closed(destination2, 1000);
}

static void
free_blocked(Fixture *f)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;
    static char zeros[65536];

    open_main(f, &source, &destination);
    for (int i = 0; i < 100; i++) {
        (void)!send(source, zeros, sizeof zeros, MSG_DONTWAIT);
        g_usleep(500);
    }
}

static void
free_draining(Fixture *f)
{
    g_auto(QmigFd) source = -1;
    g_auto(QmigFd) destination = -1;

    open_main_to_the_end(f, &source, &destination);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    expect_eof(source);
    g_usleep(20000);
    g_clear_pointer(&f->proxy, qmig_proxy_free);
}

static void
free_failed(Fixture *f)
{
    g_auto(QmigFd) source = source_connect(f);

    send_all(source, "junk", 4);
    expect_failed(f, QMIG_ERROR_PROTOCOL, "");
}

static void
test_free_leaves_nothing(Fixture *f, const void *unused)
{
    void (*const cases[])(Fixture *) = { free_waiting, free_silent,  free_held,
                                         free_active,  free_blocked, free_draining,
                                         free_failed };
    /* A first round, for what libraries open once. */
    guint threads = 0, fds = 0;

    (void)unused;
    for (size_t i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        if (i == G_N_ELEMENTS(cases)) {
            g_usleep(100000);
            threads = count_entries("/proc/self/task");
            fds = count_entries("/proc/self/fd");
        }
        start_proxy(f, "stats", 0);
        cases[i % G_N_ELEMENTS(cases)](f);
        g_clear_pointer(&f->proxy, qmig_proxy_free);
        g_assert_false(g_file_test(f->listen_path, G_FILE_TEST_EXISTS));
        if (threads > 0) {
            assert_threads(threads);
            g_assert_cmpuint(count_entries("/proc/self/fd"), ==, fds);
        }
        /* What was connected, and not accepted by this test. */
        struct pollfd p = { .fd = f->listener, .events = POLLIN };
        g_assert_cmpint(poll(&p, 1, 0), ==, 0);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) \
    g_test_add("/proxy/faults/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("destination-refuses", test_destination_refuses);
    ADD("destination-dies-while-source-is-silent",
        test_destination_dies_while_source_is_silent);
    ADD("destination-dies-with-unread-bytes", test_destination_dies_with_unread_bytes);
    ADD("destination-cannot-load", test_destination_cannot_load);
    ADD("destination-leaves-without-shut", test_destination_leaves_without_shut);
    ADD("destination-dies-loading-without-return-path",
        test_destination_dies_loading_without_return_path);
    ADD("source-dies-in-mid-stream", test_source_dies_in_mid_stream);
    ADD("source-resets", test_source_resets);
    ADD("source-leaves-before-shut", test_source_leaves_before_shut);
    ADD("reset-after-shut-is-normal", test_reset_after_shut_is_normal);
    ADD("multifd-may-close-before-main", test_multifd_may_close_before_main);
    ADD("broken-multifd-ends-the-session", test_broken_multifd_ends_the_session);
    ADD("slow-reader-bounds-the-backlog", test_slow_reader_bounds_the_backlog);
    ADD("free-leaves-nothing", test_free_leaves_nothing);
#undef ADD
    return g_test_run();
}
