/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pump. One thread, one buffer, no lock:
 *
 *     in --read--> buffer --write--> out          observing stage: looks on
 *     in --read--> buffer --stage--> out          rewriting stage: writes itself
 *     in --read--> sink's own memory              with a sink, where nobody changes or paces
 *
 * Invariants: what is in the buffer is passed on before the next read; every wait ends with
 * the cancel flag and, where the caller gave one, with the flag that says the reader is gone.
 *
 * With a pacer a write goes in pieces, each when the plugins say so and the socket has room: what
 * was granted shall go at once. While they hold it back, little is read: what lies here is gone as
 * the source sees it, and would be added to the downtime it has reckoned with.
 */
#include "proxy/relay.h"

#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /* For unix sockets, whose default of 208 KiB lets two processes take turns more than work
       side by side: 20 % more throughput. TCP tunes itself better than we could. */
    SEND_BUFFER = 512 << 10,
    /* Of records that cost the destination far more than the wire (see main-stream.c), and of
       all while a plugin makes them wait. */
    LITTLE = 32 << 10,
    /* A plugin may want to wait for ever, and be told otherwise meanwhile. */
    PACE_SLEEP_MS = 100,
    PIECE_IOV = 64,
    /* What a plugin may change goes by a copy. */
    COPY_SIZE = 64 << 10,
};

struct QmigRelay {
    QmigRelayConfig config;
    uint8_t *buf;         /* owned, page aligned */
    uint8_t *at;          /* where the last read went: buf, or the sink's place */
    size_t first_len;     /* bytes in buf at the start */
    QmigDeadline tick_at; /* next call of the stage's tick */
    size_t read_size;     /* bytes to read at once */
    bool little;          /* see qmig_relay_hold_little() */
    bool out_gone;        /* a write failed, or config.gone was raised */
    size_t piece; /* the last write had to wait for the pacer, which gave so much; or 0 */
    bool waited;  /* the write in progress had to wait for the pacer */
    uint8_t *copy; /* owned; NULL: no plugin changes what is written */
    /* Counters of bytes: written by the relay's thread alone, read by any. */
    _Atomic uint64_t n_read, n_written, n_passed;
};

static void
count(_Atomic uint64_t *counter, size_t n)
{
    /* One writer: no read-modify-write needed. */
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void
set_send_buffer(int fd, int size)
{
    int domain = 0;
    socklen_t len = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
}

static void
set_read_size(QmigRelay *r)
{
    size_t little = MAX(r->little ? 0 : r->piece, (size_t)LITTLE);

    r->read_size = r->little || r->piece > 0 ? MIN(little, r->config.buffer_size)
                                             : r->config.buffer_size;
}

void
qmig_relay_hold_little(QmigRelay *r, bool little)
{
    if (r->little == little) {
        return;
    }
    r->little = little;
    set_read_size(r);
    set_send_buffer(r->config.out, little ? LITTLE : SEND_BUFFER);
}

QmigRelay *
qmig_relay_new(const QmigRelayConfig *config)
{
    QmigRelay *r = g_new0(QmigRelay, 1);

    g_assert(config->first_len <= config->buffer_size);
    r->config = *config;
    r->buf = g_aligned_alloc(1, config->buffer_size, (gsize)sysconf(_SC_PAGESIZE));
    if (config->first_len > 0) {
        memcpy(r->buf, config->first, config->first_len);
    }
    r->config.first = NULL;
    r->at = r->buf;
    r->read_size = config->buffer_size;
    set_send_buffer(config->out, SEND_BUFFER);
    r->tick_at = QMIG_DEADLINE_NEVER;
    if (config->pacer != NULL && qmig_pacer_alters(config->pacer)) {
        r->copy = g_malloc(COPY_SIZE);
    }
    return r;
}

void
qmig_relay_free(QmigRelay *r)
{
    if (r != NULL) {
        g_aligned_free(r->buf);
        qmig_pacer_free(r->config.pacer);
        g_free(r->copy);
        g_free(r);
    }
}

static void
relay_tick(QmigRelay *r)
{
    if (r->config.stage.tick != NULL) {
        r->tick_at = r->config.stage.tick(r->config.stage.self);
    }
}

/*
 * Wait until @fd is ready (-1: for the time alone), for a while at most.
 * @tick_at: when to do housekeeping meanwhile; @until: when to return at the latest
 */
static bool
relay_wait(QmigRelay *r, int fd, short events, QmigDeadline tick_at, QmigDeadline until,
           GError **error)
{
    struct pollfd fds[3] = {
        { .fd = fd, .events = events },
        { .fd = qmig_cancel_fd(r->config.cancel), .events = POLLIN },
        { .fd = qmig_cancel_fd(r->config.gone), .events = POLLIN },
    };
    int n = poll(fds, G_N_ELEMENTS(fds), qmig_deadline_poll_ms(MIN(tick_at, until)));

    if (n < 0 && errno != EINTR) {
        return qmig_set_error_errno(error, errno, "poll");
    }
    if (n == 0 && qmig_now_us() >= tick_at) {
        relay_tick(r);
    }
    if (n > 0 && fds[1].revents != 0) {
        return qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
    }
    if (n > 0 && fds[2].revents != 0) {
        r->out_gone = true;
        return qmig_set_error(error, QMIG_ERROR_CLOSED, "connection closed");
    }
    return true;
}

/* Where to read to. Return: how much at most. */
static size_t
choose_place(QmigRelay *r)
{
    const QmigRelaySink *sink = r->config.sink;
    size_t size = r->read_size;

    r->at = r->buf;
    /* What a recording needs, or plugins do, is done after the bytes have been passed on. */
    if (sink != NULL && !r->config.stage.rewrites && r->config.pacer == NULL &&
        r->config.record == NULL) {
        r->at = sink->place(sink->self, &size);
    }
    return MIN(size, r->read_size);
}

/* Return: bytes; 0 at the end; QMIG_TLS_AGAIN: wait for @events; -1 with @error set. */
static ssize_t
read_some(QmigRelay *r, short *events, GError **error)
{
    size_t size = choose_place(r);
    ssize_t n;

    if (r->config.in_tls != NULL) {
        return qmig_tls_read(r->config.in_tls, r->at, size, events, error);
    }
    do {
        n = read(r->config.in, r->at, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        *events = POLLIN;
        return QMIG_TLS_AGAIN;
    }
    if (n < 0) {
        qmig_set_error_errno(error, errno, "read");
    }
    return n;
}

/* The next bytes of @in. Return: their number, 0 at the end, -1 with @error set. */
static ssize_t
relay_fill(QmigRelay *r, GError **error)
{
    while (!qmig_cancel_is_raised(r->config.cancel)) {
        short events = 0;
        ssize_t n = read_some(r, &events, error);

        if (n == QMIG_TLS_AGAIN) {
            if (!relay_wait(r, r->config.in, events, r->tick_at, QMIG_DEADLINE_NEVER,
                            error)) {
                return -1;
            }
            continue;
        }
        if (n >= 0) {
            count(&r->n_read, (size_t)n);
        }
        if (n <= 0) {
            qmig_record_end(r->config.record, n < 0);
        }
        return n;
    }
    qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
    return -1;
}

/* As read_some(), never 0. @done: bytes of iov[0] that went already. */
static ssize_t
write_some(QmigRelay *r, const struct iovec *iov, size_t n, size_t done, short *events,
           GError **error)
{
    struct iovec rest = { (uint8_t *)iov->iov_base + done, iov->iov_len - done };
    /* A piece that was cut goes alone, so that the caller's array need not be copied. */
    struct msghdr msg = { .msg_iov = done > 0 ? &rest : (struct iovec *)iov,
                          .msg_iovlen = done > 0 ? 1 : n };
    ssize_t sent;

    if (r->config.out_tls != NULL) {
        return qmig_tls_write(r->config.out_tls, rest.iov_base, rest.iov_len, events,
                              error);
    }
    do {
        sent = sendmsg(r->config.out, &msg, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno == EAGAIN) {
        *events = POLLOUT;
        return QMIG_TLS_AGAIN;
    }
    if (sent < 0) {
        qmig_set_error_errno(error, errno, "write");
    }
    return sent;
}

static bool
put_all(QmigRelay *r, const struct iovec *iov, size_t n, GError **error)
{
    const QmigRelaySink *sink = r->config.sink;

    for (size_t i = 0; i < n; i++) {
        if (!sink->put(sink->self, iov[i].iov_base, iov[i].iov_len, r->config.cancel,
                       error)) {
            r->out_gone = !qmig_cancel_is_raised(r->config.cancel);
            return false;
        }
        count(&r->n_written, iov[i].iov_len);
    }
    return true;
}

static bool
write_all(QmigRelay *r, const struct iovec *iov, size_t n, GError **error)
{
    size_t done = 0; /* bytes of iov[0] */

    if (r->config.sink != NULL) {
        return put_all(r, iov, n, error);
    }
    while (n > 0) {
        short events = 0;
        ssize_t sent = write_some(r, iov, n, done, &events, error);

        if (sent == QMIG_TLS_AGAIN) {
            if (!relay_wait(r, r->config.out, events, QMIG_DEADLINE_NEVER,
                            QMIG_DEADLINE_NEVER, error)) {
                return false;
            }
        } else if (sent < 0) {
            r->out_gone = true;
            return false;
        }
        if (sent > 0) {
            count(&r->n_written, (size_t)sent);
            done += (size_t)sent;
        }
        while (n > 0 && done >= iov->iov_len) {
            done -= iov->iov_len;
            iov++;
            n--;
        }
    }
    return true;
}

/* ---- as the pacer allows ---------------------------------------------------------------- */

/*
 * Wait until the pacer lets go of some of @bytes, and the socket takes them. No housekeeping
 * meanwhile: a rewriting stage is in the middle of its work.
 * @bytes: (inout)
 */
static bool
wait_for_pacer(QmigRelay *r, uint64_t *bytes, GError **error)
{
    for (;;) {
        struct pollfd out = { .fd = r->config.out, .events = POLLOUT };
        QmigDeadline until = QMIG_DEADLINE_NEVER;
        bool has_room = poll(&out, 1, 0) != 0;

        if (has_room) {
            uint64_t wait_ns;
            if (!qmig_pacer_ask(r->config.pacer, bytes, &wait_ns, error)) {
                return false;
            }
            if (wait_ns == 0) {
                return true;
            }
            r->waited = true;
            until = qmig_now_us() +
                    (int64_t)MIN(wait_ns / 1000 + 1, (uint64_t)PACE_SLEEP_MS * 1000);
        }
        if (!relay_wait(r, has_room ? -1 : r->config.out, POLLOUT, QMIG_DEADLINE_NEVER,
                        until, error)) {
            return false;
        }
    }
}

/* The first @bytes of what is left, into @piece. Return: how many, at most PIECE_IOV pieces. */
static size_t
cut_piece(struct iovec *piece, size_t *n_piece, const struct iovec *iov, size_t n,
          size_t done, size_t bytes)
{
    size_t sum = 0;

    *n_piece = 0;
    for (size_t i = 0; i < n && sum < bytes && *n_piece < PIECE_IOV; i++) {
        size_t skip = i == 0 ? done : 0;
        size_t len = MIN(iov[i].iov_len - skip, bytes - sum);

        piece[(*n_piece)++] = (struct iovec){ (uint8_t *)iov[i].iov_base + skip, len };
        sum += len;
    }
    return sum;
}

/* Put @piece together in one place, and let the plugins change it there. */
static bool
alter_piece(QmigRelay *r, struct iovec *piece, size_t *n_piece, GError **error)
{
    size_t sum = 0;

    for (size_t i = 0; i < *n_piece; i++) {
        memcpy(r->copy + sum, piece[i].iov_base, piece[i].iov_len);
        sum += piece[i].iov_len;
    }
    piece[0] = (struct iovec){ r->copy, sum };
    *n_piece = 1;
    return qmig_pacer_alter(r->config.pacer, r->copy, sum, error);
}

static bool
write_in_pieces(QmigRelay *r, const struct iovec *iov, size_t n, GError **error)
{
    size_t done = 0; /* bytes of iov[0] */
    uint64_t left = 0, largest = 0;

    r->waited = false;
    for (size_t i = 0; i < n; i++) {
        left += iov[i].iov_len;
    }
    while (left > 0) {
        struct iovec piece[PIECE_IOV];
        uint64_t may = r->copy != NULL ? MIN(left, (uint64_t)COPY_SIZE) : left;
        size_t n_piece;

        if (!wait_for_pacer(r, &may, error)) {
            return false;
        }
        size_t bytes = cut_piece(piece, &n_piece, iov, n, done, may);
        if ((r->copy != NULL && !alter_piece(r, piece, &n_piece, error)) ||
            !write_all(r, piece, n_piece, error)) {
            return false;
        }
        qmig_pacer_wrote(r->config.pacer, bytes);
        if (r->config.stage.wrote != NULL) {
            r->config.stage.wrote(r->config.stage.self);
        }
        largest = MAX(largest, may);
        left -= bytes;
        for (done += bytes; n > 0 && done >= iov->iov_len; iov++, n--) {
            done -= iov->iov_len;
        }
    }
    r->piece = r->waited ? largest : 0;
    set_read_size(r);
    return true;
}

void
qmig_relay_set_in(QmigRelay *r, int in, QmigTls *tls)
{
    r->config.in = in;
    r->config.in_tls = tls;
}

/* The other leg, when there is something to write. */
static bool
open_out(QmigRelay *r, GError **error)
{
    const QmigRelayStage *stage = &r->config.stage;

    if (!stage->open(stage->self, &r->config.out, &r->config.out_tls, &r->config.sink,
                     error)) {
        return false;
    }
    set_send_buffer(r->config.out, r->little ? LITTLE : SEND_BUFFER);
    return true;
}

bool
qmig_relay_write(QmigRelay *r, const struct iovec *iov, size_t n, GError **error)
{
    if (G_UNLIKELY(r->config.out < 0) && !open_out(r, error)) {
        return false;
    }
    return r->config.pacer != NULL ? write_in_pieces(r, iov, n, error)
                                   : write_all(r, iov, n, error);
}

static bool
relay_forward(QmigRelay *r, size_t len, GError **error)
{
    const QmigRelayStage *stage = &r->config.stage;
    struct iovec iov = { r->at, len };
    /* A sink's memory is not ours any more once it was put. */
    bool take_first = stage->take != NULL &&
                      (stage->rewrites || stage->looks_first || r->config.sink != NULL);

    if (take_first && !stage->take(stage->self, r->at, len, error)) {
        return false;
    }
    if (!stage->rewrites && !qmig_relay_write(r, &iov, 1, error)) {
        return false;
    }
    count(&r->n_passed, len);
    if (!take_first && stage->take != NULL &&
        !stage->take(stage->self, r->at, len, error)) {
        return false;
    }
    return true;
}

static bool
relay_pass(QmigRelay *r, size_t len, GError **error)
{
    qmig_record_note(r->config.record, len);
    bool ok = relay_forward(r, len, error);
    /* Also what nobody took: it was sent. */
    qmig_record_write(r->config.record, r->at, len);
    if (ok) {
        relay_tick(r);
    }
    return ok;
}

QmigRelayEnd
qmig_relay_run(QmigRelay *r, GError **error)
{
    ssize_t n = (ssize_t)r->config.first_len;

    count(&r->n_read, r->config.first_len);
    while (n == 0 || relay_pass(r, (size_t)n, error)) {
        n = relay_fill(r, error);
        if (n == 0) {
            return QMIG_RELAY_EOF;
        }
        if (n < 0) {
            break;
        }
    }
    return r->out_gone ? QMIG_RELAY_OUT_GONE : QMIG_RELAY_FAILED;
}

bool
qmig_relay_drain(QmigRelay *r, bool look, GError **error)
{
    const QmigRelayStage *stage = &r->config.stage;
    ssize_t n;

    r->config.gone = NULL;
    while ((n = relay_fill(r, error)) > 0) {
        qmig_record_note(r->config.record, (size_t)n);
        qmig_record_write(r->config.record, r->at, (size_t)n);
        if (look && stage->take != NULL &&
            !stage->take(stage->self, r->at, (size_t)n, error)) {
            return false;
        }
        count(&r->n_passed, (size_t)n);
        relay_tick(r);
    }
    return n == 0;
}

bool
qmig_relay_holds(const QmigRelay *r, const void *p)
{
    return (const uint8_t *)p >= r->buf &&
           (const uint8_t *)p < r->buf + r->config.buffer_size;
}

uint64_t
qmig_relay_bytes_read(const QmigRelay *r)
{
    return atomic_load_explicit(&r->n_read, memory_order_relaxed);
}

uint64_t
qmig_relay_bytes_written(const QmigRelay *r)
{
    return atomic_load_explicit(&r->n_written, memory_order_relaxed);
}

uint64_t
qmig_relay_backlog(const QmigRelay *r)
{
    uint64_t passed = atomic_load_explicit(&r->n_passed, memory_order_relaxed);
    uint64_t n_read = qmig_relay_bytes_read(r);

    /* The two are read one after the other: a moment between is no backlog. */
    return n_read > passed ? n_read - passed : 0;
}
