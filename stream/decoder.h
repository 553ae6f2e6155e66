/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes of a migration stream's main channel -> events. Incremental, without I/O. */
#ifndef QMIG_STREAM_DECODER_H
#define QMIG_STREAM_DECODER_H

#include "stream/qmig-event.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct QmigDecoder QmigDecoder;

typedef enum {
    QMIG_DECODE_EVENT,     /* *ev is filled */
    QMIG_DECODE_NEED_MORE, /* all pushed bytes are used up: push more, or call eof */
    QMIG_DECODE_END,       /* after eof: nothing more will come */
    QMIG_DECODE_FAILED,    /* @error is set; the decoder is dead */
} QmigDecodeResult;

QmigDecoder *qmig_decoder_new(void);

/**
 * qmig_decoder_continue() - a decoder for another connection of the same migration
 * @main:    decoder of the main channel, which has read the block list
 * @preempt: a preempt channel (RAM records only); else the connection that replaces main after
 *           a break in postcopy (no header, no block list)
 *
 * Shares what @main knows of sections and blocks; @main may be freed first.
 */
QmigDecoder *qmig_decoder_continue(const QmigDecoder *main, bool preempt);
void qmig_decoder_free(QmigDecoder *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigDecoder, qmig_decoder_free)

/**
 * qmig_decoder_push() - lend the next bytes of the stream
 * @d:    decoder; qmig_decoder_next() must have said NEED_MORE since the last push
 * @data: borrowed until the next push (or the end of the decoder)
 * @len:  bytes; 0 is allowed
 *
 * Any split of a stream into pushes gives the same events, but for QMIG_EVENT_BYTES, which
 * comes in pieces as it came in.
 */
void qmig_decoder_push(QmigDecoder *d, const void *data, size_t len);

/* Say that no byte will follow. The notes about the tail come from the next calls to next. */
void qmig_decoder_eof(QmigDecoder *d);

/**
 * qmig_decoder_next() - produce the next event
 * @d:     decoder
 * @ev:    (out) event; its payload (page, data, bytes) is borrowed from @d or from the pushed
 *         bytes until the next push; names, and what a note points to, are until the next call
 * @error: (out) set only when QMIG_DECODE_FAILED is returned
 *
 * Never blocks, never reads a descriptor, takes no memory per page. What it does not know but
 * can step over it hands on as QMIG_EVENT_BYTES after a QMIG_EVENT_RAW note saying why;
 * FAILED is for bytes that no QEMU writes.
 * Threads: any one thread at a time.
 * Errors:  PROTOCOL (bad magic, flag, length), LIMIT (see stream/bounds.h). The message names
 *          the place: record, block, stream offset.
 */
QmigDecodeResult qmig_decoder_next(QmigDecoder *d, struct qmig_event *ev,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The target's page size, bytes; good once the configuration has gone by. */
uint32_t qmig_decoder_page_size(const QmigDecoder *d);

/* Bytes taken in so far that events have accounted for. */
uint64_t qmig_decoder_offset(const QmigDecoder *d);

#endif
