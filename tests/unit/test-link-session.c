/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session of the tunnel: whatever happens to its connections, streams arrive whole, once, in order. */
#include "proxy/link/link.h"
#include "util/error.h"

#include <string.h>
#include <sys/socket.h>

enum { N_WIRES = 3, N_STREAMS = 4, N_FRAMES = 400 };

static void
ignore_change(void *data)
{
    (void)data;
}

static QmigLink *
new_link(bool near, uint32_t deadline_ms, QmigLinkCodec codec)
{
    QmigLinkConfig config = {
        .near = near,
        .agreed = { .version = 1,
                    .n_wires = N_WIRES,
                    .window = 1 << 20,
                    .deadline_ms = deadline_ms },
        .codec = codec,
        .name = "test",
        .changed = ignore_change,
    };

    return qmig_link_new(&config);
}

/* Connects the two sides. Return: one end of the connection, not owned: to break it. */
static int
join_sides(QmigLink *near, QmigLink *far, unsigned index)
{
    int fds[2];

    g_assert_cmpint(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    qmig_link_attach(far, qmig_wire_new(fds[1], NULL, "near"), index);
    qmig_link_attach(near, qmig_wire_new(fds[0], NULL, "far"), index);
    return fds[0];
}

/* Frame @i of stream @n: of any length, its content known. */
static QmigBuf *
make_frame(unsigned n, unsigned i)
{
    uint32_t len = 1 + (n * 7919 + i * 104729) % 60000;
    QmigBuf *buf = qmig_buf_new(len);
    uint32_t x = n * 1000 + i;

    for (uint32_t at = 0; at < len; at++) {
        /* Half of it can be compressed. */
        x = x * 1103515245 + 12345;
        buf->data[at] = at % 512 < 256 ? (uint8_t)(x >> 16) : (uint8_t)i;
    }
    buf->len = len;
    return buf;
}

static void *
write_stream(void *data)
{
    QmigLinkStream *s = data;
    unsigned n = qmig_link_stream_open(s)->index;

    for (unsigned i = 0; i < N_FRAMES; i++) {
        g_assert_true(qmig_link_stream_write(s, QMIG_FRAME_DATA, make_frame(n, i), NULL));
    }
    g_assert_true(qmig_link_stream_write(s, QMIG_FRAME_END, NULL, NULL));
    return NULL;
}

static void *
read_stream(void *data)
{
    QmigLinkStream *s = data;
    unsigned n = qmig_link_stream_open(s)->index;

    for (unsigned i = 0; i <= N_FRAMES; i++) {
        g_autoptr(QmigBuf) got = NULL, want = make_frame(n, i);
        QmigFrameType type;

        g_assert_true(qmig_link_stream_read(s, &type, &got, NULL));
        if (i == N_FRAMES) {
            g_assert_cmpint(type, ==, QMIG_FRAME_END);
            break;
        }
        g_assert_cmpint(type, ==, QMIG_FRAME_DATA);
        g_assert_cmpmem(got->data, got->len, want->data, want->len);
    }
    return NULL;
}

/* Open the streams, and find them again over there. */
static void
open_streams(QmigLink *near, QmigLink *far, QmigLinkStream **here, QmigLinkStream **there)
{
    for (unsigned i = 0; i < N_STREAMS; i++) {
        QmigLinkOpen open = { .kind = QMIG_STREAM_MIGRATION,
                              .group = 3,
                              .index = (uint16_t)i,
                              .urgent = i == 2,
                              .address = "unix:/x" };
        here[i] = qmig_link_open(near, &open, NULL);
    }
    for (unsigned i = 0; i < N_STREAMS; i++) {
        QmigLinkStream *s = qmig_link_accept(far, NULL, NULL);
        const QmigLinkOpen *open = qmig_link_stream_open(s);
        g_assert_cmpstr(open->address, ==, "unix:/x");
        g_assert_cmpuint(open->group, ==, 3);
        g_assert_cmpint(open->urgent, ==, open->index == 2);
        there[open->index] = s;
    }
}

/* Break connections, and make new ones; at last all stand. */
static void
break_connections(QmigLink *near, QmigLink *far, unsigned times)
{
    GRand *rand = g_rand_new_with_seed(1);
    QmigLinkStats stats;
    unsigned breaks = 0;

    do {
        int missing = qmig_link_missing_wire(near);
        /* None is missing: replace one by another of its number. */
        int fd = missing >= 0     ? join_sides(near, far, (unsigned)missing)
                 : breaks < times ? join_sides(near, far, breaks % N_WIRES)
                                  : -1;
        g_usleep((gulong)g_rand_int_range(rand, 0, 20000));
        if (fd >= 0 && breaks < times) {
            (void)shutdown(fd, SHUT_RDWR);
            breaks++;
        }
        qmig_link_stats(far, &stats);
    } while (breaks < times || stats.wires < N_WIRES);
    g_rand_free(rand);
}

/* Both ways at once, on several streams, while connections break all the time. */
static void
check_breaks(QmigLinkCodec codec, uint64_t rate)
{
    g_autoptr(QmigLink) near = new_link(true, 20000, codec);
    g_autoptr(QmigLink) far = new_link(false, 20000, codec);
    QmigLinkStream *there[N_STREAMS], *here[N_STREAMS];
    GThread *threads[4 * N_STREAMS];
    QmigLinkStats stats;
    unsigned n = 0;

    for (unsigned i = 0; i < N_WIRES; i++) {
        join_sides(near, far, i);
    }
    open_streams(near, far, here, there);
    qmig_link_set_rate(near, rate);
    qmig_link_set_rate(far, rate);
    for (unsigned i = 0; i < N_STREAMS; i++) {
        threads[n++] = g_thread_new("w", write_stream, here[i]);
        threads[n++] = g_thread_new("w", write_stream, there[i]);
        threads[n++] = g_thread_new("r", read_stream, here[i]);
        threads[n++] = g_thread_new("r", read_stream, there[i]);
    }
    break_connections(near, far, 60);
    for (unsigned i = 0; i < n; i++) {
        g_thread_join(threads[i]);
    }
    qmig_link_stats(near, &stats);
    g_assert_cmpuint(stats.breaks, >=, 30);
    JsonObject *told = qmig_link_describe(near);
    bool history = strstr(json_object_to_json_string(told), "zstd-history") != NULL;
    if (codec == QMIG_CODEC_NONE || codec == QMIG_CODEC_LZ4) {
        g_assert_false(history);
    } else if (rate > 0) {
        g_assert_true(history);
    } /* else a busy machine may be as slow as that */
    json_object_put(told);
    g_assert_true(qmig_link_close(near, qmig_deadline_in_ms(5000)));
    g_assert_cmpint(qmig_link_state(near), !=, QMIG_LINK_FAILED);
    g_assert_cmpint(qmig_link_state(far), !=, QMIG_LINK_FAILED);
    for (unsigned i = 0; i < N_STREAMS; i++) {
        qmig_link_stream_free(here[i]);
        qmig_link_stream_free(there[i]);
    }
}

static void
test_breaks(void)
{
    check_breaks(QMIG_CODEC_NONE, 0);
    check_breaks(QMIG_CODEC_LZ4, 0);
    check_breaks(QMIG_CODEC_ZSTD, 0);
    check_breaks(QMIG_CODEC_AUTO, 0);
}

/* So slow that frames are compressed with what went before them: none may be lost. */
static void
test_breaks_with_history(void)
{
    check_breaks(QMIG_CODEC_NONE, QMIG_LINK_SLOW - 1);
    check_breaks(QMIG_CODEC_ZSTD, QMIG_LINK_SLOW - 1);
    check_breaks(QMIG_CODEC_AUTO, QMIG_LINK_SLOW - 1);
}

/* Nobody reads over there: the writer waits, what is held is bounded. */
static void
test_window(void)
{
    g_autoptr(QmigLink) near = new_link(true, 20000, QMIG_CODEC_NONE);
    g_autoptr(QmigLink) far = new_link(false, 20000, QMIG_CODEC_NONE);
    QmigLinkOpen open = { .kind = QMIG_STREAM_DISK };
    QmigLinkStream *s = qmig_link_open(near, &open, NULL);
    QmigLinkStats stats;

    join_sides(near, far, 0);
    GThread *writer = g_thread_new("w", write_stream, s);
    g_usleep(300000);
    qmig_link_stats(near, &stats);
    g_assert_cmpuint(stats.unconsumed, <=, 1 << 20);
    g_assert_cmpuint(stats.unconsumed, >, (1 << 20) - 100000);
    g_assert_cmpuint(stats.plain_bytes, <, 2 << 20);
    QmigLinkStream *t = qmig_link_accept(far, NULL, NULL);
    read_stream(t);
    g_thread_join(writer);
}

static void *
read_until_end(void *data)
{
    QmigFrameType type = QMIG_FRAME_DATA;

    while (type != QMIG_FRAME_END) {
        g_autoptr(QmigBuf) got = NULL;
        g_assert_true(qmig_link_stream_read(data, &type, &got, NULL));
    }
    return NULL;
}

/* Large, and less than what is acknowledged at once. */
static void
write_large(QmigLinkStream *s)
{
    enum { LEN = 300 << 10 };
    QmigBuf *buf = qmig_buf_new(LEN);

    memset(buf->data, 7, LEN);
    buf->len = LEN;
    g_assert_true(qmig_link_stream_write(s, QMIG_FRAME_DATA, buf, NULL));
}

static void
await_acknowledged(QmigLink *link)
{
    QmigLinkStats stats = { .unconsumed = 1 };

    for (int i = 0; i < 500 && stats.unconsumed > 0; i++) {
        g_usleep(10000);
        qmig_link_stats(link, &stats);
    }
    g_assert_cmpuint(stats.unconsumed, ==, 0);
}

/* Large frames are acknowledged together, yet soon where no other follows. */
static void
test_acknowledged(void)
{
    g_autoptr(QmigLink) near = new_link(true, 20000, QMIG_CODEC_NONE);
    g_autoptr(QmigLink) far = new_link(false, 20000, QMIG_CODEC_NONE);
    QmigLinkOpen open = { .kind = QMIG_STREAM_DISK };
    QmigLinkStream *s = qmig_link_open(near, &open, NULL);

    join_sides(near, far, 0);
    QmigLinkStream *t = qmig_link_accept(far, NULL, NULL);
    GThread *reader = g_thread_new("r", read_until_end, t);
    write_large(s);
    await_acknowledged(near);
    g_assert_true(qmig_link_stream_write(s, QMIG_FRAME_END, NULL, NULL));
    g_thread_join(reader);
}

/* So it is when their reader leaves before, and when it has left. */
static void
test_acknowledged_unread(void)
{
    g_autoptr(QmigLink) near = new_link(true, 20000, QMIG_CODEC_NONE);
    g_autoptr(QmigLink) far = new_link(false, 20000, QMIG_CODEC_NONE);
    QmigLinkOpen open = { .kind = QMIG_STREAM_DISK };
    QmigLinkStream *s = qmig_link_open(near, &open, NULL);
    QmigFrameType type;
    g_autoptr(QmigBuf) got = NULL;

    join_sides(near, far, 0);
    QmigLinkStream *t = qmig_link_accept(far, NULL, NULL);
    await_acknowledged(near);
    write_large(s);
    g_assert_true(qmig_link_stream_read(t, &type, &got, NULL));
    qmig_link_stream_consumed(t);
    qmig_link_stream_free(t);
    await_acknowledged(near);
    write_large(s);
    await_acknowledged(near);
}

/* A stream that holds little does so also when nobody reads. */
static void
test_lean(void)
{
    g_autoptr(QmigLink) near = new_link(true, 20000, QMIG_CODEC_NONE);
    g_autoptr(QmigLink) far = new_link(false, 20000, QMIG_CODEC_NONE);
    QmigLinkOpen open = { .kind = QMIG_STREAM_MIGRATION };
    QmigLinkStream *s = qmig_link_open(near, &open, NULL);
    QmigLinkStats stats;

    qmig_link_stream_hold_little(s);
    join_sides(near, far, 0);
    GThread *writer = g_thread_new("w", write_stream, s);
    g_usleep(300000);
    qmig_link_stats(near, &stats);
    g_assert_cmpuint(stats.unconsumed, <=, 384 << 10);
    QmigLinkStream *t = qmig_link_accept(far, NULL, NULL);
    read_stream(t);
    g_thread_join(writer);
}

/* Without a connection a session lives until its deadline, and says why it ended. */
static void
test_deadline(void)
{
    g_autoptr(QmigLink) near = new_link(true, 600, QMIG_CODEC_AUTO);
    g_autoptr(QmigLink) far = new_link(false, 60000, QMIG_CODEC_AUTO);
    g_autoptr(GError) error = NULL;
    QmigLinkOpen open = { .kind = QMIG_STREAM_CONTROL };
    QmigLinkStream *s = qmig_link_open(near, &open, NULL);
    g_autoptr(QmigBuf) buf = NULL;
    QmigFrameType type;

    int fd = join_sides(near, far, 0);
    g_usleep(100000);
    g_assert_cmpint(qmig_link_state(near), ==, QMIG_LINK_UP);
    int64_t since = qmig_now_us();
    (void)shutdown(fd, SHUT_RDWR);
    g_assert_false(qmig_link_stream_read(s, &type, &buf, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_assert_cmpint(qmig_now_us() - since, >=, 500000);
    g_assert_cmpint(qmig_link_state(near), ==, QMIG_LINK_FAILED);
    g_assert_cmpint(qmig_link_state(far), ==, QMIG_LINK_DARK);
    g_assert_false(qmig_link_stream_write(s, QMIG_FRAME_DATA, qmig_buf_new(1), NULL));
}

/* A connection that falls silent without closing is found out and dropped. */
static void
test_silence(void)
{
    g_autoptr(QmigLink) near = new_link(true, 60000, QMIG_CODEC_AUTO);
    QmigLinkStats stats;
    int fds[2];

    g_assert_cmpint(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    qmig_link_attach(near, qmig_wire_new(fds[0], NULL, "far"), 1);
    g_usleep(2500000);
    g_assert_cmpint(qmig_link_state(near), ==, QMIG_LINK_UP);
    g_usleep(2500000);
    g_assert_cmpint(qmig_link_state(near), ==, QMIG_LINK_DARK);
    qmig_link_stats(near, &stats);
    g_assert_cmpuint(stats.breaks, ==, 1);
    close(fds[1]);
}

/* Garbage within a session ends it, and tells. */
static void
check_nonsense(QmigFrameHead *head, const void *payload, QmigErrorCode code)
{
    g_autoptr(QmigLink) far = new_link(false, 60000, QMIG_CODEC_AUTO);
    g_autoptr(GError) error = NULL;
    int fds[2];

    g_assert_cmpint(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    g_autoptr(QmigWire) wire = qmig_wire_new(fds[0], NULL, "test");
    qmig_link_attach(far, qmig_wire_new(fds[1], NULL, "near"), 0);
    g_assert_true(qmig_wire_write(wire, head, payload, 1000, NULL, NULL));
    g_assert_null(qmig_link_accept(far, NULL, &error));
    g_assert_error(error, QMIG_ERROR, (int)code);
}

static void
test_nonsense(void)
{
    uint8_t bytes[64] = { 9 };
    QmigFrameHead head = {
        .type = QMIG_FRAME_OPEN, .stream = 1, .length = 64, .plain_length = 64
    };

    check_nonsense(&head, bytes, QMIG_ERROR_PROTOCOL);
    head.type = QMIG_FRAME_DATA;
    check_nonsense(&head, bytes, QMIG_ERROR_PROTOCOL);
    head.stream = 5000;
    check_nonsense(&head, bytes, QMIG_ERROR_PROTOCOL);
    head = (QmigFrameHead){ .type = QMIG_FRAME_OPEN,
                            .stream = 1,
                            .codec = QMIG_FRAME_ZSTD,
                            .length = 64,
                            .plain_length = 400 };
    check_nonsense(&head, bytes, QMIG_ERROR_PROTOCOL);
}

/* A frame that is to follow others, which it does not. */
static void
test_history_nonsense(void)
{
    g_autoptr(QmigLink) far = new_link(false, 60000, QMIG_CODEC_AUTO);
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigBuf) got = NULL;
    const uint8_t open[] = { QMIG_STREAM_DISK, 0, 0, 0, 0, 0, 0 }, bytes[64] = { 9 };
    QmigFrameHead head = { .type = QMIG_FRAME_OPEN,
                           .stream = 1,
                           .length = sizeof open,
                           .plain_length = sizeof open };
    QmigFrameType type;
    int fds[2];

    g_assert_cmpint(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    g_autoptr(QmigWire) wire = qmig_wire_new(fds[0], NULL, "test");
    qmig_link_attach(far, qmig_wire_new(fds[1], NULL, "near"), 0);
    g_assert_true(qmig_wire_write(wire, &head, open, 1000, NULL, NULL));
    QmigLinkStream *s = qmig_link_accept(far, NULL, NULL);
    head = (QmigFrameHead){ .type = QMIG_FRAME_DATA,
                            .stream = 1,
                            .seq = 1,
                            .codec = QMIG_FRAME_ZSTD_HISTORY,
                            .length = sizeof bytes,
                            .plain_length = 400 };
    g_assert_true(qmig_wire_write(wire, &head, bytes, 1000, NULL, NULL));
    g_assert_false(qmig_link_stream_read(s, &type, &got, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_assert_null(got);
    g_assert_cmpint(qmig_link_state(far), ==, QMIG_LINK_FAILED);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link/session/breaks", test_breaks);
    g_test_add_func("/link/session/breaks-with-history", test_breaks_with_history);
    g_test_add_func("/link/session/window", test_window);
    g_test_add_func("/link/session/acknowledged", test_acknowledged);
    g_test_add_func("/link/session/acknowledged-unread", test_acknowledged_unread);
    g_test_add_func("/link/session/lean", test_lean);
    g_test_add_func("/link/session/deadline", test_deadline);
    g_test_add_func("/link/session/silence", test_silence);
    g_test_add_func("/link/session/nonsense", test_nonsense);
    g_test_add_func("/link/session/history-nonsense", test_history_nonsense);
    return g_test_run();
}
