/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One direction of one connection: read -> stage -> write, by one thread. */
#ifndef QMIG_PROXY_RELAY_H
#define QMIG_PROXY_RELAY_H

#include "plugin/pacer.h"
#include "proxy/record.h"
#include "proxy/tls.h"
#include "util/cancel.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct QmigRelay QmigRelay;

/* Takes what would be written, in this process, where a descriptor would cost two more copies. */
typedef struct {
    void *self;
    /* Memory that the next bytes may be read into, and how much of it; good until put or the next
       call. What lies there when it is put is not copied. */
    uint8_t *(*place)(void *self, size_t *size);
    /* @data: what place() gave, or any other memory. Blocks while there is no room. Errors:
       CANCELLED; any other: nobody takes it any more. */
    bool (*put)(void *self, const uint8_t *data, size_t n, const QmigCancel *cancel,
                GError **error);
    void (*release)(void *self); /* no call will follow */
} QmigRelaySink;

/* Who looks at the bytes, or replaces them. All members optional. */
typedef struct {
    void *self;
    /* @rewrites is false: see bytes that were forwarded as they came; must return true.
       @rewrites is true: the bytes reach the other side only through qmig_relay_write(),
       before this returns; they are overwritten afterwards. */
    bool (*take)(void *self, const uint8_t *data, size_t len, GError **error);
    /* Housekeeping between two buffers. Return: when to be called again without input. */
    QmigDeadline (*tick)(void *self);
    /* With a pacer: some bytes were written; in the middle of `take` when it rewrites. */
    void (*wrote)(void *self);
    bool rewrites;
    bool looks_first; /* observing: take comes before the write, not after */
    /* Called by the first write when config.out is -1: open it. @out, @tls, @sink: (out) borrowed,
       as in config. */
    bool (*open)(void *self, int *out, QmigTls **tls, const QmigRelaySink **sink,
                 GError **error);
} QmigRelayStage;

typedef struct {
    int in, out;               /* borrowed, non-blocking; out: -1: see stage.open */
    QmigTls *in_tls, *out_tls; /* (nullable) borrowed: TLS over @in, over @out */
    const QmigRelaySink
        *sink; /* (nullable) borrowed: takes what would be written to @out */
    const QmigCancel *cancel; /* ends the relay at once */
    const QmigCancel *gone; /* (nullable) raised when @out's peer is known to have left */
    const void *first;      /* bytes of @in that were read before; copied */
    size_t first_len;       /* at most @buffer_size */
    size_t buffer_size;     /* bytes; bounds what the relay holds */
    QmigRelayStage stage;
    QmigRecordWay *record; /* (nullable) borrowed; gets what is read from @in */
    QmigPacer *pacer;      /* (nullable) owned by the relay; says when to write */
} QmigRelayConfig;

typedef enum {
    QMIG_RELAY_EOF,      /* @in ended, and everything before was passed on */
    QMIG_RELAY_OUT_GONE, /* nobody takes what is written to @out; error set */
    QMIG_RELAY_FAILED,   /* @in broke, the stage said no, or cancelled; error set */
} QmigRelayEnd;

QmigRelay *qmig_relay_new(const QmigRelayConfig *config);
void qmig_relay_free(QmigRelay *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigRelay, qmig_relay_free)

/**
 * qmig_relay_run() - carry bytes until one side ends
 *
 * Data is never held back but by the pacer: each read is written before the next. Closing and half-closing are
 * left to the caller.
 * Errors: CLOSED, IO, CANCELLED, or the stage's.
 */
QmigRelayEnd qmig_relay_run(QmigRelay *r, GError **error);

/**
 * qmig_relay_drain() - read @in to its end, and drop what comes
 * @look: let an observing stage see the bytes
 *
 * For an orderly end: closing a TCP socket with unread bytes resets it, and that may take
 * the last message (SHUT) from under its reader.
 * Return: false with @error set unless EOF was read.
 */
bool qmig_relay_drain(QmigRelay *r, bool look, GError **error);

/* Write all of @iov, as the pacer allows. Threads: that of run. Errors: CLOSED, IO, CANCELLED,
   PLUGIN. */
bool qmig_relay_write(QmigRelay *r, const struct iovec *iov, size_t n,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_relay_hold_little() - how much to hold between the two sockets
 * @little: keep the way short: small reads, and a small send buffer where that is ours to say
 *
 * Threads: that of run.
 */
void qmig_relay_hold_little(QmigRelay *r, bool little);

/* Where to read, before run; what was given as -1. Borrowed. */
void qmig_relay_set_in(QmigRelay *r, int in, QmigTls *tls);

/* The bytes last read lie here: [start, start + size). Good until the stage returns. */
bool qmig_relay_holds(const QmigRelay *r, const void *p);

/* Counters; threads: any. */
uint64_t qmig_relay_bytes_read(const QmigRelay *r);
uint64_t qmig_relay_bytes_written(const QmigRelay *r);
/* Read, and not yet passed on. */
uint64_t qmig_relay_backlog(const QmigRelay *r);

#endif
