/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/wire.h"

#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

enum {
    /* Heads and small frames are read together. */
    STAGE = 16 << 10,
    /* What the kernel may hold unsent: enough to keep a link busy, little enough that an urgent
       frame has not long to wait. */
    NOT_SENT = 256 << 10,
};

struct QmigWire {
    QmigFd fd;    /* owned */
    QmigTls *tls; /* owned (nullable) */
    char *peer;
    uint8_t
        stage[STAGE]; /* the reader's: bytes read, [stage_at, stage_len) not yet used */
    size_t stage_at, stage_len;
    /* One writer each: the reader, the writer. */
    _Atomic uint64_t n_read, n_written, blocked_us;
};

/* ---- the connection ----------------------------------------------------------------------- */

QmigWire *
qmig_wire_new(int fd, QmigTls *tls, const char *peer)
{
    QmigWire *w = g_new0(QmigWire, 1);
    int on = 1, not_sent = NOT_SENT;

    w->fd = fd;
    w->tls = tls;
    w->peer = g_strdup(peer);
    /* Of a unix socket neither is known. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &not_sent, sizeof not_sent);
    return w;
}

void
qmig_wire_free(QmigWire *w)
{
    if (w == NULL) {
        return;
    }
    qmig_tls_free(w->tls);
    qmig_fd_clear(&w->fd);
    g_free(w->peer);
    g_free(w);
}

const char *
qmig_wire_peer(const QmigWire *w)
{
    return w->peer;
}

char *
qmig_wire_describe(QmigWire *w)
{
    return w->tls != NULL ? qmig_tls_describe(w->tls) : g_strdup("none");
}

void
qmig_wire_shutdown(QmigWire *w)
{
    (void)shutdown(w->fd, SHUT_RDWR);
}

uint64_t
qmig_wire_bytes_read(const QmigWire *w)
{
    return atomic_load_explicit(&w->n_read, memory_order_relaxed);
}

uint64_t
qmig_wire_bytes_written(const QmigWire *w)
{
    return atomic_load_explicit(&w->n_written, memory_order_relaxed);
}

uint64_t
qmig_wire_blocked_us(const QmigWire *w)
{
    return atomic_load_explicit(&w->blocked_us, memory_order_relaxed);
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool
read_some(QmigWire *w, void *buf, size_t len, uint32_t silence_ms,
          const QmigCancel *cancel, size_t *got, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(silence_ms);

    for (;;) {
        short events = POLLIN;
        ssize_t n;

        if (w->tls != NULL) {
            n = qmig_tls_read(w->tls, buf, len, &events, error);
        } else {
            n = read(w->fd, buf, len);
            if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
                n = QMIG_TLS_AGAIN;
            } else if (n < 0) {
                qmig_set_error_errno(error, errno, "read");
            }
        }
        if (n > 0) {
            atomic_fetch_add_explicit(&w->n_read, (uint64_t)n, memory_order_relaxed);
            *got = (size_t)n;
            return true;
        }
        if (n == 0) {
            return qmig_set_error(error, QMIG_ERROR_CLOSED, "connection closed");
        }
        if (n != QMIG_TLS_AGAIN) {
            return false;
        }
        g_autoptr(GError) local = NULL;
        if (!qmig_wait_fd(w->fd, events, deadline, cancel, &local)) {
            return g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT)
                       ? qmig_set_error(error, QMIG_ERROR_TIMEOUT, "silent for %u ms",
                                        silence_ms)
                       : (g_propagate_error(error, g_steal_pointer(&local)), false);
        }
    }
}

static bool
read_whole(QmigWire *w, uint8_t *out, size_t len, uint32_t silence_ms,
           const QmigCancel *cancel, GError **error)
{
    while (len > 0) {
        size_t n = MIN(len, w->stage_len - w->stage_at);

        if (n > 0) {
            memcpy(out, w->stage + w->stage_at, n);
            w->stage_at += n;
        } else if (len >= STAGE) {
            if (!read_some(w, out, len, silence_ms, cancel, &n, error)) {
                return false;
            }
        } else {
            w->stage_at = w->stage_len = 0;
            if (!read_some(w, w->stage, STAGE, silence_ms, cancel, &w->stage_len,
                           error)) {
                return false;
            }
        }
        out += n;
        len -= n;
    }
    return true;
}

bool
qmig_wire_read(QmigWire *w, uint32_t silence_ms, const QmigCancel *cancel,
               QmigFrameHead *head, QmigBuf **payload, GError **error)
{
    uint8_t bytes[QMIG_FRAME_HEAD];
    g_autoptr(QmigBuf) buf = NULL;

    *payload = NULL;
    if (!read_whole(w, bytes, sizeof bytes, silence_ms, cancel, error) ||
        !qmig_frame_read_head(bytes, head, error)) {
        return false;
    }
    if (head->length > 0) {
        buf = qmig_buf_new(head->length);
        buf->len = head->length;
        if (!read_whole(w, buf->data, head->length, silence_ms, cancel, error)) {
            return false;
        }
    }
    if (!qmig_frame_verify(bytes, head, buf != NULL ? buf->data : NULL, error)) {
        return false;
    }
    *payload = g_steal_pointer(&buf);
    return true;
}

/* ---- writing ------------------------------------------------------------------------------ */

/* As many bytes as go at once. Return: 0 when none do; -1. */
static ssize_t
write_some(QmigWire *w, const struct iovec *iov, size_t n, short *events, GError **error)
{
    struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
    ssize_t sent;

    if (w->tls != NULL) {
        sent = qmig_tls_write(w->tls, iov->iov_base, iov->iov_len, events, error);
        return sent == QMIG_TLS_AGAIN ? 0 : sent;
    }
    sent = sendmsg(w->fd, &msg, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        *events = POLLOUT;
        return 0;
    }
    if (sent < 0) {
        qmig_set_error_errno(error, errno, "write");
    }
    return sent;
}

static bool
wait_to_write(QmigWire *w, short events, uint32_t stuck_ms, const QmigCancel *cancel,
              GError **error)
{
    int64_t since = qmig_now_us();
    bool ok = qmig_wait_fd(w->fd, events, qmig_deadline_in_ms(stuck_ms), cancel, error);

    atomic_fetch_add_explicit(&w->blocked_us, (uint64_t)(qmig_now_us() - since),
                              memory_order_relaxed);
    return ok;
}

static void
advance(struct iovec **iov, size_t *n, size_t sent)
{
    while (*n > 0 && sent >= (*iov)->iov_len) {
        sent -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    if (*n > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + sent;
        (*iov)->iov_len -= sent;
    }
}

bool
qmig_wire_write(QmigWire *w, QmigFrameHead *head, const void *payload, uint32_t stuck_ms,
                const QmigCancel *cancel, GError **error)
{
    uint8_t bytes[QMIG_FRAME_HEAD];
    struct iovec pieces[2] = { { bytes, sizeof bytes },
                               { (void *)payload, head->length } };
    struct iovec *iov = pieces;
    size_t n = head->length > 0 ? 2 : 1;

    qmig_frame_seal(head, payload, bytes);
    while (n > 0) {
        short events = POLLOUT;
        ssize_t sent = write_some(w, iov, n, &events, error);

        if (sent < 0 ||
            (sent == 0 && !wait_to_write(w, events, stuck_ms, cancel, error))) {
            return false;
        }
        atomic_fetch_add_explicit(&w->n_written, (uint64_t)sent, memory_order_relaxed);
        advance(&iov, &n, (size_t)sent);
    }
    return true;
}
