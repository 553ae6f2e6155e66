/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One who came to the gate, until its first frame is whole. Never waits. */
#ifndef QMIG_PROXY_LINK_VISITOR_H
#define QMIG_PROXY_LINK_VISITOR_H

#include "proxy/link/wire.h"
#include "util/auto.h"

typedef enum {
    QMIG_VISITOR_WAITS,  /* poll its fd for its events */
    QMIG_VISITOR_KNOCKS, /* its first frame is here */
    QMIG_VISITOR_REFUSED,
} QmigVisitorStep;

typedef struct {
    QmigFd fd;
    QmigTls *tls;  /* (nullable) */
    bool is_known; /* the handshake, if any, is done */
    char *peer;    /* "192.0.2.7:40123", "process 17 of user 0" */
    char *origin;  /* what is counted together: "192.0.2.7", "2001:db8::/64", "user 0" */
    int64_t since_us;
    QmigDeadline deadline;
    short events;       /* what to poll for */
    uint64_t n_read;    /* in the clear; with TLS it counts by itself */
    size_t have;        /* bytes of the frame below */
    QmigFrameHead head; /* once they are all of it */
    uint8_t bytes[QMIG_FRAME_HEAD + QMIG_FRAME_HELLO_MAX];
} QmigVisitor;

/**
 * qmig_visitor_new() - a connection that was accepted
 * @fd:  non-blocking; taken over
 * @tls: (nullable)
 */
QmigVisitor *qmig_visitor_new(int fd, const QmigTlsCreds *tls, uint32_t deadline_ms);
void qmig_visitor_free(QmigVisitor *visitor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigVisitor, qmig_visitor_free)

/**
 * qmig_visitor_step() - go on as far as the bytes there allow
 * @names: (nullable) see qmig_tls_check_name()
 *
 * Errors: of REFUSED: TLS, CLOSED, IO, PROTOCOL, LIMIT, TIMEOUT.
 */
QmigVisitorStep qmig_visitor_step(QmigVisitor *visitor, const char *const *names,
                                  GError **error);

/* The connection of one who KNOCKS. (transfer full) */
QmigWire *qmig_visitor_take_wire(QmigVisitor *visitor);

#endif
