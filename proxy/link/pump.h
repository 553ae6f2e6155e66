/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A local connection and a stream of the tunnel, tied together: two threads, one each way.
 *
 * The end of one is the end of the other: EOF is END, a broken connection is RESET, and the other way
 * round. A reader that has left is told to the writer, but not before what it had said last has gone
 * back: the destination's last words (SHUT) decide over the guest.
 */
#ifndef QMIG_PROXY_LINK_PUMP_H
#define QMIG_PROXY_LINK_PUMP_H

#include "proxy/link/link.h"
#include "proxy/link/pack.h"
#include "proxy/link/unpack.h"
#include "proxy/relay.h"

typedef struct QmigPump QmigPump;

typedef struct {
    int fd;   /* non-blocking; taken over */
    bool fed; /* with @pack: its bytes come by the sink, only its end by @fd */
    QmigLinkStream *stream; /* taken over */
    /* Main's pages. Near: what is read from @fd goes through @pack; far: batches through @unpack. */
    QmigPack *pack;     /* (nullable) taken over */
    QmigUnpack *unpack; /* (nullable) taken over */
    /* (nullable) The first bytes have been written to @fd. Called by a thread of the pump. */
    void (*started)(void *data);
    /* It breaks off, and why. Called by a thread of the pump, once, before @fd's peer sees it. */
    void (*broke)(void *data, const char *reason);
    /* Both ways have ended. Called by the last thread, which leaves then. */
    void (*ended)(void *data);
    void *data;
} QmigPumpConfig;

QmigPump *qmig_pump_start(const QmigPumpConfig *config);
/* End both ways at once; does not wait. Threads: any. */
void qmig_pump_stop(QmigPump *pump);
/* Another way in for what would be read from @fd: where config.fed is set. It keeps what it needs until
   released, also when the pump is freed. */
void qmig_pump_sink(QmigPump *pump, QmigRelaySink *sink);
/* Of main on the near side, as long as the pump lives. (nullable) */
QmigPack *qmig_pump_pack(QmigPump *pump);
/* Joins the threads. */
void qmig_pump_free(QmigPump *pump);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPump, qmig_pump_free)

#endif
