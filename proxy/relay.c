/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pump. One thread, one buffer, no lock:
 *
 *     in --read--> buffer --write--> out          observing stage: looks on
 *     in --read--> buffer --stage--> out          rewriting stage: writes itself
 *
 * Invariants: what is in the buffer is passed on before the next read; every wait ends with
 * the cancel flag and, where the caller gave one, with the flag that says the reader is gone.
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
    /* Of records that cost the destination far more than the wire (see main-stream.c). */
    LITTLE = 32 << 10,
};

struct QmigRelay {
    QmigRelayConfig config;
    uint8_t *buf;         /* owned, page aligned */
    size_t first_len;     /* bytes in buf at the start */
    QmigDeadline tick_at; /* next call of the stage's tick */
    size_t read_size;     /* bytes to read at once */
    bool little;          /* see qmig_relay_hold_little() */
    bool out_gone;        /* a write failed, or config.gone was raised */
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

void
qmig_relay_hold_little(QmigRelay *r, bool little)
{
    if (r->little == little) {
        return;
    }
    r->little = little;
    r->read_size = little ? MIN((size_t)LITTLE, r->config.buffer_size)
                          : r->config.buffer_size;
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
    r->read_size = config->buffer_size;
    set_send_buffer(config->out, SEND_BUFFER);
    r->tick_at = QMIG_DEADLINE_NEVER;
    return r;
}

void
qmig_relay_free(QmigRelay *r)
{
    if (r != NULL) {
        g_aligned_free(r->buf);
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

/* Wait until @fd is ready. @tick_at: when to do housekeeping meanwhile. */
static bool
relay_wait(QmigRelay *r, int fd, short events, QmigDeadline tick_at, GError **error)
{
    struct pollfd fds[3] = {
        { .fd = fd, .events = events },
        { .fd = qmig_cancel_fd(r->config.cancel), .events = POLLIN },
        { .fd = qmig_cancel_fd(r->config.gone), .events = POLLIN },
    };
    int n = poll(fds, G_N_ELEMENTS(fds), qmig_deadline_poll_ms(tick_at));

    if (n < 0 && errno != EINTR) {
        return qmig_set_error_errno(error, errno, "poll");
    }
    if (n == 0) {
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

/* Return: bytes; 0 at the end; QMIG_TLS_AGAIN: wait for @events; -1 with @error set. */
static ssize_t
read_some(QmigRelay *r, short *events, GError **error)
{
    ssize_t n;

    if (r->config.in_tls != NULL) {
        return qmig_tls_read(r->config.in_tls, r->buf, r->read_size, events, error);
    }
    do {
        n = read(r->config.in, r->buf, r->read_size);
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
            if (!relay_wait(r, r->config.in, events, r->tick_at, error)) {
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

bool
qmig_relay_write(QmigRelay *r, const struct iovec *iov, size_t n, GError **error)
{
    size_t done = 0; /* bytes of iov[0] */

    while (n > 0) {
        short events = 0;
        ssize_t sent = write_some(r, iov, n, done, &events, error);

        if (sent == QMIG_TLS_AGAIN) {
            if (!relay_wait(r, r->config.out, events, QMIG_DEADLINE_NEVER, error)) {
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

static bool
relay_forward(QmigRelay *r, size_t len, GError **error)
{
    const QmigRelayStage *stage = &r->config.stage;
    struct iovec iov = { r->buf, len };
    bool take_first = stage->rewrites || stage->looks_first;

    if (take_first && !stage->take(stage->self, r->buf, len, error)) {
        return false;
    }
    if (!stage->rewrites && !qmig_relay_write(r, &iov, 1, error)) {
        return false;
    }
    count(&r->n_passed, len);
    if (!take_first && stage->take != NULL &&
        !stage->take(stage->self, r->buf, len, error)) {
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
    qmig_record_write(r->config.record, r->buf, len);
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
        qmig_record_write(r->config.record, r->buf, (size_t)n);
        if (look && stage->take != NULL &&
            !stage->take(stage->self, r->buf, (size_t)n, error)) {
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
