/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Of a stranger no more is read than the frame it owes: what follows belongs to the session, and is
 * read by the connection's own reader.
 */
#include "proxy/link/visitor.h"

#include "proxy/link/gate.h"
#include "util/error.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* ---- who it is ------------------------------------------------------------------------------ */

static void
name_unix_peer(QmigVisitor *visitor)
{
    struct ucred cred = { 0 };
    socklen_t size = sizeof cred;

    (void)getsockopt(visitor->fd, SOL_SOCKET, SO_PEERCRED, &cred, &size);
    visitor->peer = g_strdup_printf("process %d of user %u", (int)cred.pid,
                                    (unsigned)cred.uid);
    visitor->origin = g_strdup_printf("user %u", (unsigned)cred.uid);
}

static void
name_ip_peer(QmigVisitor *visitor, struct sockaddr_storage *name, socklen_t size)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)name;
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    bool is_v6 = name->ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
    const char *shown = host;

    (void)getnameinfo((struct sockaddr *)name, size, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    if (!is_v6 && g_str_has_prefix(host, "::ffff:")) {
        shown = host + strlen("::ffff:");
    }
    visitor->peer = g_strdup_printf(is_v6 ? "[%s]:%s" : "%s:%s", shown, port);
    if (!is_v6) {
        visitor->origin = g_strdup(shown);
        return;
    }
    /* Whoever has one address of a /64 has them all. */
    memset(v6->sin6_addr.s6_addr + 8, 0, 8);
    (void)getnameinfo((struct sockaddr *)name, size, host, sizeof host, NULL, 0,
                      NI_NUMERICHOST);
    visitor->origin = g_strdup_printf("%s/64", host);
}

static void
name_peer(QmigVisitor *visitor)
{
    struct sockaddr_storage name = { 0 };
    socklen_t size = sizeof name;

    if (getpeername(visitor->fd, (struct sockaddr *)&name, &size) < 0) {
        /* It has gone already: who it was is not told any more. */
        visitor->peer = g_strdup("somebody who has gone");
        visitor->origin = g_strdup("?");
    } else if (name.ss_family == AF_UNIX) {
        name_unix_peer(visitor);
    } else {
        name_ip_peer(visitor, &name, size);
    }
}

QmigVisitor *
qmig_visitor_new(int fd, const QmigTlsCreds *tls, uint32_t deadline_ms)
{
    QmigVisitor *visitor = g_new0(QmigVisitor, 1);

    visitor->fd = fd;
    visitor->since_us = qmig_now_us();
    visitor->deadline = qmig_deadline_in_ms(deadline_ms);
    visitor->events = POLLIN;
    visitor->is_known = tls == NULL;
    visitor->tls = tls != NULL ? qmig_tls_new(tls, fd, NULL, "the peer") : NULL;
    name_peer(visitor);
    return visitor;
}

void
qmig_visitor_free(QmigVisitor *visitor)
{
    if (visitor != NULL) {
        qmig_tls_free(visitor->tls);
        qmig_fd_clear(&visitor->fd);
        g_free(visitor->peer);
        g_free(visitor->origin);
        g_free(visitor);
    }
}

QmigWire *
qmig_visitor_take_wire(QmigVisitor *visitor)
{
    return qmig_wire_new(qmig_fd_steal(&visitor->fd), g_steal_pointer(&visitor->tls),
                         visitor->peer);
}

/* ---- what it says --------------------------------------------------------------------------- */

static QmigVisitorStep
shake_hands(QmigVisitor *visitor, const char *const *names, GError **error)
{
    switch (qmig_tls_handshake_step(visitor->tls, &visitor->events, error)) {
    case QMIG_TLS_WAIT:
        return QMIG_VISITOR_WAITS;
    case QMIG_TLS_DONE:
        visitor->is_known = true;
        visitor->events = POLLIN;
        return names == NULL || qmig_tls_check_name(visitor->tls, names, error)
                   ? QMIG_VISITOR_WAITS
                   : QMIG_VISITOR_REFUSED;
    case QMIG_TLS_FAILED:
        break;
    }
    return QMIG_VISITOR_REFUSED;
}

/* Return: as qmig_tls_read(). */
static ssize_t
read_some(QmigVisitor *visitor, void *buf, size_t len, GError **error)
{
    ssize_t n;

    if (visitor->tls != NULL) {
        return qmig_tls_read(visitor->tls, buf, len, &visitor->events, error);
    }
    n = recv(visitor->fd, buf, len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        visitor->events = POLLIN;
        return QMIG_TLS_AGAIN;
    }
    if (n < 0) {
        qmig_set_error_errno(error, errno, "read");
    }
    visitor->n_read += n > 0 ? (uint64_t)n : 0;
    return n;
}

/* Up to @want bytes of the frame. KNOCKS: they are there. */
static QmigVisitorStep
read_up_to(QmigVisitor *visitor, size_t want, GError **error)
{
    while (visitor->have < want) {
        ssize_t n = read_some(visitor, visitor->bytes + visitor->have,
                              want - visitor->have, error);

        if (n == QMIG_TLS_AGAIN) {
            return QMIG_VISITOR_WAITS;
        }
        if (n == 0) {
            qmig_set_error(error, QMIG_ERROR_CLOSED,
                           visitor->have == 0
                               ? "it closed the connection without a word"
                               : "it closed the connection within its first frame");
        }
        if (n <= 0) {
            return QMIG_VISITOR_REFUSED;
        }
        visitor->have += (size_t)n;
    }
    return QMIG_VISITOR_KNOCKS;
}

static QmigVisitorStep
read_frame(QmigVisitor *visitor, GError **error)
{
    QmigVisitorStep step = read_up_to(visitor, QMIG_FRAME_HEAD, error);
    const void *payload = visitor->bytes + QMIG_FRAME_HEAD;

    if (step != QMIG_VISITOR_KNOCKS) {
        return step;
    }
    if (!qmig_frame_read_head(visitor->bytes, &visitor->head, error)) {
        return QMIG_VISITOR_REFUSED;
    }
    if (visitor->head.type != QMIG_FRAME_HELLO &&
        visitor->head.type != QMIG_FRAME_RESUME) {
        qmig_set_error(
            error, QMIG_ERROR_PROTOCOL,
            "it begins with a frame of type %u, wanted HELLO (%d) or RESUME (%d)",
            visitor->head.type, QMIG_FRAME_HELLO, QMIG_FRAME_RESUME);
        return QMIG_VISITOR_REFUSED;
    }
    /* The same limit that reading the head knows: this is what the buffer here relies on. */
    if (visitor->head.length > QMIG_FRAME_HELLO_MAX) {
        qmig_set_error(error, QMIG_ERROR_LIMIT,
                       "it begins with a frame of %u bytes, limit %d",
                       visitor->head.length, QMIG_FRAME_HELLO_MAX);
        return QMIG_VISITOR_REFUSED;
    }
    step = read_up_to(visitor, QMIG_FRAME_HEAD + visitor->head.length, error);
    if (step == QMIG_VISITOR_KNOCKS &&
        !qmig_frame_verify(visitor->bytes, &visitor->head, payload, error)) {
        return QMIG_VISITOR_REFUSED;
    }
    return step;
}

static QmigVisitorStep
judge_time(const QmigVisitor *visitor, GError **error)
{
    if (qmig_now_us() < visitor->deadline) {
        return QMIG_VISITOR_WAITS;
    }
    qmig_set_error(error, QMIG_ERROR_TIMEOUT, "%s within %" G_GINT64_FORMAT " ms",
                   visitor->is_known ? "its first frame is not here"
                                     : "its TLS handshake is not done",
                   (qmig_now_us() - visitor->since_us) / 1000);
    return QMIG_VISITOR_REFUSED;
}

QmigVisitorStep
qmig_visitor_step(QmigVisitor *visitor, const char *const *names, GError **error)
{
    QmigVisitorStep step = QMIG_VISITOR_WAITS;

    if (!visitor->is_known) {
        step = shake_hands(visitor, names, error);
    }
    if (step == QMIG_VISITOR_WAITS && visitor->is_known) {
        step = read_frame(visitor, error);
    }
    if (step != QMIG_VISITOR_WAITS) {
        return step;
    }
    uint64_t n = visitor->tls != NULL ? qmig_tls_bytes_heard(visitor->tls)
                                      : visitor->n_read;
    if (n > QMIG_GATE_BYTES_MAX) {
        qmig_set_error(error, QMIG_ERROR_LIMIT,
                       "%" G_GUINT64_FORMAT " bytes and no whole first frame, limit %d",
                       n, QMIG_GATE_BYTES_MAX);
        return QMIG_VISITOR_REFUSED;
    }
    return judge_time(visitor, error);
}
