/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tunnel's end beside the destination: takes sessions, connects their streams to QEMU.
 */
#ifndef QMIG_PROXY_LINK_FAR_H
#define QMIG_PROXY_LINK_FAR_H

#include "proxy/link/link.h"
#include "util/address.h"

typedef struct QmigFar QmigFar;

typedef struct {
    /* What streams that name no address are connected to; (nullable). */
    const QmigAddress *destination;
    /* Addresses streams may name: patterns as of g_pattern_match_simple(), matched against
       qmig_address_to_string(). Null-terminated; (nullable): none. */
    const char *const *allow;
    uint64_t cache_max; /* bytes of page cache granted to one session */
    unsigned sessions_max;
    unsigned wires_max;       /* connections of one session */
    uint32_t deadline_max_ms; /* a session without connection is kept no longer */
    QmigLinkCodec codec;      /* of what goes back */
    /* (nullable) Writes a line, about a connection that was not made; false: it could not. By threads
       of its own, one at a time; must not wait. */
    bool (*log)(void *data, const char *line);
    void *data; /* of log */
} QmigFarConfig;

QmigFar *qmig_far_new(const QmigFarConfig *config);
/* Ends all sessions at once. */
void qmig_far_free(QmigFar *far);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigFar, qmig_far_free)

/**
 * qmig_far_admit() - a connection whose first frame has been read
 * @wire:    (transfer full) the peer is known to be allowed
 * @head:    HELLO or RESUME
 * @payload: of it
 *
 * Answers WELCOME or REFUSED within @deadline. Errors: why it was refused; for the log.
 */
bool qmig_far_admit(QmigFar *far, QmigWire *wire, const QmigFrameHead *head,
                    const void *payload, QmigDeadline deadline, GError **error);

/* New limits; take effect at once where they can. */
void qmig_far_set_limits(QmigFar *far, unsigned sessions_max, uint64_t rate);
/* Take no new session; sessions end, but those whose guest is changing hosts, which are waited for
   until @deadline. */
void qmig_far_leave(QmigFar *far, QmigDeadline deadline);
/* Sessions that live. */
unsigned qmig_far_sessions(QmigFar *far);
/* [ { a session } … ] (transfer full) */
JsonObject *qmig_far_describe(QmigFar *far);

#endif
