/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tunnel's end beside the source: takes QEMU's connections (or the proxy's) on local sockets and
 * carries each as a stream to the far end, which connects on.
 */
#ifndef QMIG_PROXY_LINK_NEAR_H
#define QMIG_PROXY_LINK_NEAR_H

#include "proxy/link/link.h"
#include "proxy/relay.h"
#include "util/address.h"

typedef struct QmigNear QmigNear;

typedef struct {
    /* Where the far end listens: tried in turn, at every connection. Null-terminated; copied. */
    const QmigAddress *const *far;
    const QmigTlsCreds *tls;  /* (nullable) borrowed until freed; NULL: in the clear */
    const char *tls_hostname; /* (nullable) what the far end's certificate must be for */
    /* Of the session, as qmig_link_name() makes it: a new one ends one of that name that is dark. */
    const char *name;
    unsigned n_wires; /* connections; 0: 2 */
    uint64_t
        cache_size; /* bytes of page cache on both sides; 0: no delta, no references */
    uint64_t pending_max; /* bytes of pages that wait here; 0: 32 MiB */
    QmigLinkCodec codec;
    int level;
    uint64_t rate;        /* bytes/s on the wire; 0: no limit */
    uint32_t deadline_ms; /* give up without a connection for so long; 0: 120 000 */
    uint32_t connect_timeout_ms; /* for the first connection; 0: 10 000 */
} QmigNearConfig;

/**
 * qmig_near_new() - reach the far end and agree on a session
 *
 * Nothing else is touched yet. Errors: TLS, TIMEOUT, IO, CLOSED, UNSUPPORTED (refused), PROTOCOL.
 */
QmigNear *qmig_near_new(const QmigNearConfig *config, const QmigCancel *cancel,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ends all at once; what should arrive must have been waited for: qmig_near_close(). Who has a
   reference may still call qmig_near_connect(), which fails. */
void qmig_near_free(QmigNear *near);
QmigNear *qmig_near_ref(QmigNear *near);
void qmig_near_unref(QmigNear *near);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigNear, qmig_near_free)

/**
 * qmig_near_forward() - listen here for connections that come out there
 * @listen: local; removed again when @near is freed
 * @there:  (nullable) what the far end connects to; NULL: what it was told at its start
 * @actual: (out) (optional) (transfer full) where it listens
 *
 * Each call is one group: of a migration the far end connects main first, the others in order once
 * main's first bytes are written there.
 */
bool qmig_near_forward(QmigNear *near, QmigStreamKind kind, const QmigAddress *listen,
                       const QmigAddress *there, QmigAddress **actual,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_near_connect() - as a connection to a forwarded socket, from within this process
 * @to:   where qmig_near_forward() listens
 * @sink: (out) takes what would be written; .put NULL: there is none, write to the descriptor
 *
 * The end is told by the descriptor, and all that comes back is read from it. For main alone.
 * @sink may be used as long as it is not released, whatever becomes of @near. Threads: any.
 * Return: a descriptor, owned; -1 with @error: CONFIG (no such socket), IO, CLOSED, LIMIT.
 */
int qmig_near_connect(QmigNear *near, const QmigAddress *to, QmigRelaySink *sink,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Bytes taken and not yet consumed by the QEMU over there (pages pending, queued, under way). */
uint64_t qmig_near_backlog(QmigNear *near);
/* The same in milliseconds at the rate of late; UINT64_MAX: dark. */
uint64_t qmig_near_backlog_ms(QmigNear *near);
/* Does a guest change sides by it? Known as soon as QEMU has said so, however much waits before that;
   the other side is told no sooner than its turn comes: see qmig_link_set_critical(). */
bool qmig_near_is_switching(QmigNear *near);
/* Have connections come, and have all of them ended, in order or not? */
bool qmig_near_is_through(QmigNear *near);
/* Why the first connection that broke off did: what follows is of that. (transfer full) (nullable) */
char *qmig_near_break(QmigNear *near);
QmigLink *qmig_near_link(QmigNear *near);
/* Of the session, with "pack" counters. (transfer full) */
JsonObject *qmig_near_describe(QmigNear *near);
/**
 * qmig_near_last_reason() - why a connection broke off, the last that did
 * @since_us: of qmig_now_us(): what came before is of no interest
 *
 * In the far end's words, where it was that end: it may not connect there, say, or nobody listens. The
 * link itself may stand. Fit to be printed. Threads: any.
 * Return: (transfer full) (nullable)
 */
char *qmig_near_last_reason(QmigNear *near, int64_t since_us);
/* End the session in order. */
bool qmig_near_close(QmigNear *near, QmigDeadline deadline);

#endif
