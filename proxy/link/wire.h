/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection between two proxies: whole frames in and out, TLS or not. */
#ifndef QMIG_PROXY_LINK_WIRE_H
#define QMIG_PROXY_LINK_WIRE_H

#include "proxy/link/buf.h"
#include "proxy/link/frame.h"
#include "proxy/tls.h"
#include "util/cancel.h"

#include <sys/uio.h>

typedef struct QmigWire QmigWire;

/**
 * qmig_wire_new() - frames over a connection
 * @fd:   non-blocking; taken over
 * @tls:  (nullable) after its handshake; taken over
 * @peer: for messages: who is there; copied
 */
QmigWire *qmig_wire_new(int fd, QmigTls *tls, const char *peer);
void qmig_wire_free(QmigWire *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigWire, qmig_wire_free)

const char *qmig_wire_peer(const QmigWire *w);
/* "TLSv1.3, …" or "none". (transfer full) */
char *qmig_wire_describe(QmigWire *w);

/**
 * qmig_wire_read() - the next frame
 * @silence_ms: fail with TIMEOUT when not one byte came for so long
 * @payload:    (out) (transfer full) NULL when there is none; still as it was on the wire
 *
 * One reader at a time. Errors: CLOSED, TIMEOUT, CANCELLED, IO, TLS, PROTOCOL, LIMIT.
 */
bool qmig_wire_read(QmigWire *w, uint32_t silence_ms, const QmigCancel *cancel,
                    QmigFrameHead *head, QmigBuf **payload,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_wire_write() - one frame
 * @head:     type, codec, stream, seq, lengths; sum is filled in
 * @stuck_ms: fail with TIMEOUT when not one byte went for so long
 *
 * One writer at a time. Errors: CLOSED, TIMEOUT, CANCELLED, IO, TLS.
 */
bool qmig_wire_write(QmigWire *w, QmigFrameHead *head, const void *payload,
                     uint32_t stuck_ms, const QmigCancel *cancel,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Counters; threads: any. */
uint64_t qmig_wire_bytes_read(const QmigWire *w);
uint64_t qmig_wire_bytes_written(const QmigWire *w);
/* Microseconds the writer has waited for the kernel to take bytes. */
uint64_t qmig_wire_blocked_us(const QmigWire *w);

/* Wake whoever reads or writes: nothing comes any more. Threads: any. */
void qmig_wire_shutdown(QmigWire *w);

#endif
