/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The door of the tunnel: whoever connects is a stranger until TLS says who it is and one frame says
 * what it wants. Only then does anybody else hear of it.
 *
 *     accept -> TLS 1.3 handshake -> name -> one frame, HELLO or RESUME -> admit()
 *
 * All strangers together cost one thread, and no more memory than the bounds below allow. Each is
 * admitted or refused within its deadline, and each refusal is in the log (proxy/link/refusals.h).
 */
#ifndef QMIG_PROXY_LINK_GATE_H
#define QMIG_PROXY_LINK_GATE_H

#include "proxy/link/wire.h"
#include "util/auto.h"

#include <json-c/json.h>

enum {
    QMIG_GATE_STRANGERS = 64, /* at a time, from everywhere */
    QMIG_GATE_OF_ONE =
        16, /* at a time, from one IP address (IPv6: one /64), or of one user */
    /* More for addresses from which somebody was admitted before: a session whose connections broke
       must find a way back in while strangers crowd the door. */
    QMIG_GATE_RESERVE = 16,
    QMIG_GATE_DEADLINE_MS = 5000, /* from accept to the whole first frame */
    QMIG_GATE_GRACE_MS =
        1000, /* who stays longer gives its place to who comes, if need be */
    /* Read of one stranger, handshake included: more than any certificate chain that is taken. */
    QMIG_GATE_BYTES_MAX = 32 << 10,
    QMIG_GATE_ADMIT_MS = 5000, /* what admit() is given */
};

typedef struct QmigGate QmigGate;

typedef struct {
    int listener; /* non-blocking; borrowed until freed */
    QmigTlsCreds
        *tls; /* (nullable) for_tunnel, SERVER; NULL: everybody is let in, in the clear */
    /* (nullable) which certificates: see qmig_tls_check_name(); copied. */
    const char *const *names;
    uint32_t deadline_ms; /* 0: QMIG_GATE_DEADLINE_MS */
    /**
     * admit() - somebody who may come in
     * @wire:    (transfer full)
     * @head:    HELLO or RESUME, whole and undamaged
     * @payload: of it, at most QMIG_FRAME_HELLO_MAX bytes
     *
     * Called by threads of the gate's own, several at a time; it may wait. Errors: why not; for the
     * log.
     */
    bool (*admit)(void *data, QmigWire *wire, const QmigFrameHead *head,
                  const void *payload, QmigDeadline deadline, GError **error);
    /* Writes a line; false: it could not. By threads of the gate's own, one at a time; must not
       wait. */
    bool (*log)(void *data, const char *line);
    void *data;
} QmigGateConfig;

QmigGate *qmig_gate_new(const QmigGateConfig *config);
/* Refuse who is at the door, wait for those who are being admitted. */
void qmig_gate_free(QmigGate *gate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigGate, qmig_gate_free)

/* Who comes from now on is shown these, and judged by them. (not nullable) Threads: any. */
void qmig_gate_set_tls(QmigGate *gate, QmigTlsCreds *tls);

/* { "at_the_door", "admitted", "refused", "refused_by": { CODE: … } } (transfer full) */
JsonObject *qmig_gate_describe(QmigGate *gate);

#endif
