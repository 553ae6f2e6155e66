/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qmig stream pipe`: stdin to stdout, coded or decoded; or, with a peer, two ways:
 *
 *     one way     stdin (plain) -> stdout (coded)           with decode the other way round
 *     two ways    stdin, stdout (plain) <-> peer (coded)    with decode: stdio coded, peer plain
 *
 * QEMU's exec: gives its command two pipes, so that with two ways the return path works: what
 * the destination says reaches the source.
 */
#ifndef QMIG_PIPE_PIPE_H
#define QMIG_PIPE_PIPE_H

#include "pipe/format.h"
#include "util/address.h"
#include "util/auto.h"
#include "util/cancel.h"

typedef struct {
    /* The peer: one of these, or none. */
    QmigAddress *connect; /* (nullable) */
    QmigAddress *listen;  /* (nullable) one connection is taken */
    char *const *command; /* (nullable) NULL-terminated */
    bool decode;          /* stdin is what is coded */

    GBytes *key; /* (nullable) shared */
    QmigPipeCipher cipher;
    bool automatic; /* choose the codec for each block */
    uint8_t codec;  /* QmigSaveCodec, else */
    int level;      /* of the codec; 0 = its default */
    unsigned threads;
    uint64_t
        rate; /* bytes per second that are written coded (one way: written); 0 = any */
    uint32_t timeout_ms; /* for the peer to be there */
    bool watch;          /* decode the migration stream that goes by, for the report */

    const QmigCancel *cancel; /* (nullable) */
    int wake_fd;              /* -1: none; readable: call wake() */
    void (*wake)(void *data);
    /* (nullable) Called with a line about a connection that was refused. */
    void (*notice)(void *data, const char *text);
    void *data;
} QmigPipeOptions;

typedef struct QmigPipe QmigPipe;

/* @options: borrowed, as all in it. */
QmigPipe *qmig_pipe_new(const QmigPipeOptions *options);
void qmig_pipe_free(QmigPipe *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPipe, qmig_pipe_free)

/**
 * qmig_pipe_run() - to the end
 *
 * wake() and notice() are called in this thread and another one.
 * Errors: those of pipe/flow.h and pipe/start.h; TIMEOUT: no peer, or it does not come to its end.
 */
bool qmig_pipe_run(QmigPipe *p, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What went by so far, as in qmig-stream(1): "seconds", "cipher", "encoded", "decoded".
 * Threads: any. (transfer full) */
JsonObject *qmig_pipe_report(QmigPipe *p);

#endif
