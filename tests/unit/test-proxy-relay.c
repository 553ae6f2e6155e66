/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One relay between two socket pairs: bytes, ends, back-pressure, stages. */
#include "proxy/relay.h"

#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>

typedef struct {
    int writer, reader; /* the test's ends */
    int in, out;        /* the relay's */
    QmigCancel *cancel, *gone;
    QmigRelay *relay;
    QmigRelayEnd end;
    GError *error;
    GThread *thread;
} Fixture;

static void
make_pair(int *ours, int *relays)
{
    struct timeval patience = { .tv_sec = 10 };
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    g_assert_cmpint(fcntl(fds[1], F_SETFL, O_NONBLOCK), ==, 0);
    setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    *ours = fds[0];
    *relays = fds[1];
}

static void
set_up(Fixture *f, const void *unused)
{
    (void)unused;
    make_pair(&f->writer, &f->in);
    make_pair(&f->reader, &f->out);
    f->cancel = qmig_cancel_new();
    f->gone = qmig_cancel_new();
}

static void *
run(void *data)
{
    Fixture *f = data;

    f->end = qmig_relay_run(f->relay, &f->error);
    return NULL;
}

static void
start(Fixture *f, const char *first, QmigRelayStage stage)
{
    QmigRelayConfig config = {
        .in = f->in,
        .out = f->out,
        .cancel = f->cancel,
        .gone = f->gone,
        .first = first,
        .first_len = first != NULL ? strlen(first) : 0,
        .buffer_size = 64 << 10,
        .stage = stage,
    };

    f->relay = qmig_relay_new(&config);
    f->thread = g_thread_new("relay", run, f);
}

static void
join(Fixture *f)
{
    g_thread_join(g_steal_pointer(&f->thread));
}

static void
tear_down(Fixture *f, const void *unused)
{
    (void)unused;
    if (f->thread != NULL) {
        qmig_cancel_raise(f->cancel);
        join(f);
    }
    qmig_relay_free(f->relay);
    g_clear_error(&f->error);
    qmig_fd_clear(&f->writer);
    qmig_fd_clear(&f->reader);
    qmig_fd_clear(&f->in);
    qmig_fd_clear(&f->out);
    qmig_cancel_free(f->cancel);
    qmig_cancel_free(f->gone);
}

static void
read_exactly(int fd, void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)buf + done, len - done);
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

typedef struct {
    int fd;
    const uint8_t *data;
    size_t len;
} Writer;

static void *
write_in_pieces(void *data)
{
    Writer *w = data;

    for (size_t done = 0; done < w->len;) {
        size_t piece = (size_t)g_random_int_range(1, 100000);
        ssize_t n = write(w->fd, w->data + done, MIN(piece, w->len - done));
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
    g_assert_cmpint(shutdown(w->fd, SHUT_WR), ==, 0);
    return NULL;
}

/* 3 MB in random pieces come out the same, whatever the stage does to carry them. */
static void
carry(Fixture *f, QmigRelayStage stage)
{
    const size_t len = 3000000;
    g_autofree uint8_t *sent = g_malloc(len);
    g_autofree uint8_t *got = g_malloc0(len);
    Writer w = { f->writer, sent, len };

    for (size_t i = 0; i < len; i++) {
        sent[i] = (uint8_t)(i * 7 + (i >> 10));
    }
    start(f, NULL, stage);
    GThread *writer = g_thread_new("writer", write_in_pieces, &w);
    read_exactly(f->reader, got, len);
    g_thread_join(writer);
    join(f);
    g_assert_cmpint(f->end, ==, QMIG_RELAY_EOF);
    g_assert_no_error(f->error);
    g_assert_cmpmem(got, len, sent, len);
    g_assert_cmpuint(qmig_relay_bytes_read(f->relay), ==, len);
    g_assert_cmpuint(qmig_relay_bytes_written(f->relay), ==, len);
    g_assert_cmpuint(qmig_relay_backlog(f->relay), ==, 0);
}

static void
test_bytes_pass_exactly(Fixture *f, const void *unused)
{
    (void)unused;
    carry(f, (QmigRelayStage){ 0 });
}

static bool
sum_up(void *self, const uint8_t *data, size_t len, GError **error)
{
    (void)data;
    (void)error;
    *(size_t *)self += len;
    return true;
}

static void
test_stage_sees_every_byte(Fixture *f, const void *unused)
{
    size_t seen = 0;

    (void)unused;
    carry(f, (QmigRelayStage){ .self = &seen, .take = sum_up });
    g_assert_cmpuint(seen, ==, 3000000);
}

/* Writes what it gets in many pieces of odd sizes, some of them empty. */
static bool
chop(void *self, const uint8_t *data, size_t len, GError **error)
{
    Fixture *f = self;
    struct iovec iov[64];

    g_assert_true(qmig_relay_holds(f->relay, data));
    while (len > 0) {
        size_t n = 0;
        while (n < G_N_ELEMENTS(iov) && len > 0) {
            size_t piece = MIN(len, (n * 37) % 1500);
            iov[n++] = (struct iovec){ (void *)data, piece };
            data += piece;
            len -= piece;
        }
        if (!qmig_relay_write(f->relay, iov, n, error)) {
            return false;
        }
    }
    return true;
}

static void
test_rewriting_stage_writes_pieces(Fixture *f, const void *unused)
{
    int small = 4096; /* so that writes are cut in the middle of a piece */

    (void)unused;
    setsockopt(f->out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    carry(f, (QmigRelayStage){ .self = f, .take = chop, .rewrites = true });
}

static void
test_first_bytes_go_first(Fixture *f, const void *unused)
{
    char buf[8] = { 0 };
    size_t seen = 0;

    (void)unused;
    start(f, "QEVM", (QmigRelayStage){ .self = &seen, .take = sum_up });
    read_exactly(f->reader, buf, 4);
    g_assert_cmpint(write(f->writer, "abc", 3), ==, 3);
    read_exactly(f->reader, buf + 4, 3);
    g_assert_cmpstr(buf, ==, "QEVMabc");
    g_assert_cmpint(shutdown(f->writer, SHUT_WR), ==, 0);
    join(f);
    g_assert_cmpuint(seen, ==, 7);
}

static void
test_cancel_ends_a_wait_for_input(Fixture *f, const void *unused)
{
    (void)unused;
    start(f, NULL, (QmigRelayStage){ 0 });
    g_usleep(20000);
    qmig_cancel_raise(f->cancel);
    join(f);
    g_assert_cmpint(f->end, ==, QMIG_RELAY_FAILED);
    g_assert_error(f->error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
}

/* Write until nothing goes in any more. Return: bytes. */
static size_t
fill_up(int fd)
{
    static const char zeros[65536];
    size_t sum = 0;
    int idle = 0;

    while (idle < 20) {
        ssize_t n = send(fd, zeros, sizeof zeros, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            sum += (size_t)n;
            idle = 0;
        } else {
            g_assert_cmpint(errno, ==, EAGAIN);
            idle++;
            g_usleep(5000);
        }
    }
    return sum;
}

static void
test_backlog_is_bounded_and_cancel_ends_it(Fixture *f, const void *unused)
{
    (void)unused;
    start(f, NULL, (QmigRelayStage){ 0 });
    size_t taken = fill_up(f->writer);
    g_assert_cmpuint(qmig_relay_backlog(f->relay), >, 0);
    g_assert_cmpuint(qmig_relay_backlog(f->relay), <=, 64 << 10);
    g_assert_cmpuint(taken, <, 4 << 20);
    qmig_cancel_raise(f->cancel);
    join(f);
    g_assert_error(f->error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
}

static void
test_gone_ends_a_wait(Fixture *f, const void *unused)
{
    (void)unused;
    start(f, NULL, (QmigRelayStage){ 0 });
    g_usleep(20000);
    qmig_cancel_raise(f->gone);
    join(f);
    g_assert_cmpint(f->end, ==, QMIG_RELAY_OUT_GONE);
    g_assert_error(f->error, QMIG_ERROR, QMIG_ERROR_CLOSED);
}

static void
test_dead_reader_is_told_apart(Fixture *f, const void *unused)
{
    (void)unused;
    qmig_fd_clear(&f->reader);
    start(f, "x", (QmigRelayStage){ 0 });
    join(f);
    g_assert_cmpint(f->end, ==, QMIG_RELAY_OUT_GONE);
    g_assert_error(f->error, QMIG_ERROR, QMIG_ERROR_CLOSED);
}

static bool
refuse(void *self, const uint8_t *data, size_t len, GError **error)
{
    (void)self;
    (void)data;
    (void)len;
    return qmig_set_error(error, QMIG_ERROR_PLUGIN, "no");
}

static void
test_refusing_stage_ends_it(Fixture *f, const void *unused)
{
    char c;

    (void)unused;
    start(f, "x", (QmigRelayStage){ .take = refuse, .rewrites = true });
    join(f);
    g_assert_cmpint(f->end, ==, QMIG_RELAY_FAILED);
    g_assert_error(f->error, QMIG_ERROR, QMIG_ERROR_PLUGIN);
    g_assert_cmpint(recv(f->reader, &c, 1, MSG_DONTWAIT), ==, -1);
}

static QmigDeadline
tick_often(void *self)
{
    g_atomic_int_inc((gint *)self);
    return qmig_deadline_in_ms(5);
}

static void
test_tick_goes_on_while_idle(Fixture *f, const void *unused)
{
    gint ticks = 0;
    char c;

    (void)unused;
    start(f, "x", (QmigRelayStage){ .self = &ticks, .tick = tick_often });
    read_exactly(f->reader, &c, 1);
    for (int i = 0; i < 1000 && g_atomic_int_get(&ticks) < 5; i++) {
        g_usleep(5000);
    }
    g_assert_cmpint(g_atomic_int_get(&ticks), >=, 5);
}

static void
test_drain_reads_to_the_end(Fixture *f, const void *unused)
{
    (void)unused;
    qmig_fd_clear(&f->reader);
    start(f, "x", (QmigRelayStage){ 0 });
    join(f);
    g_clear_error(&f->error);
    g_assert_cmpint(write(f->writer, "late", 4), ==, 4);
    qmig_fd_clear(&f->writer);
    g_assert_true(qmig_relay_drain(f->relay, false, &f->error));
    g_assert_no_error(f->error);
    g_assert_cmpuint(qmig_relay_bytes_read(f->relay), ==, 5);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) \
    g_test_add("/proxy/relay/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("bytes-pass-exactly", test_bytes_pass_exactly);
    ADD("stage-sees-every-byte", test_stage_sees_every_byte);
    ADD("rewriting-stage-writes-pieces", test_rewriting_stage_writes_pieces);
    ADD("first-bytes-go-first", test_first_bytes_go_first);
    ADD("cancel-ends-a-wait-for-input", test_cancel_ends_a_wait_for_input);
    ADD("backlog-is-bounded-and-cancel-ends-it",
        test_backlog_is_bounded_and_cancel_ends_it);
    ADD("gone-ends-a-wait", test_gone_ends_a_wait);
    ADD("dead-reader-is-told-apart", test_dead_reader_is_told_apart);
    ADD("refusing-stage-ends-it", test_refusing_stage_ends_it);
    ADD("tick-goes-on-while-idle", test_tick_goes_on_while_idle);
    ADD("drain-reads-to-the-end", test_drain_reads_to_the_end);
#undef ADD
    return g_test_run();
}
