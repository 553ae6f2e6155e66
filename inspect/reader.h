/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A whole stream, from wherever it lies, as events: a file or pipe with one channel (main,
 * multifd, recovery), a save file, or a capture with all channels of a migration.
 *
 * The channels of a capture are read in an order in which memory can be rebuilt: main up to a
 * point of synchronisation, then each multifd channel up to its SYNC packet, and again. Then
 * the preempt channel, then the recovery connections in the order they were made.
 */
#ifndef QMIG_INSPECT_READER_H
#define QMIG_INSPECT_READER_H

#include "stream/qmig-event.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    QMIG_READER_MAIN,
    QMIG_READER_RECOVERY, /* main anew after a break in postcopy: no header */
    QMIG_READER_MULTIFD,
    QMIG_READER_PREEMPT,
} QmigReaderKind;

/* One connection of the migration. */
typedef struct {
    unsigned number;     /* in order of acceptance; 0 for a file */
    QmigReaderKind kind; /* the direction source -> destination is what is read */
    unsigned id;         /* MULTIFD: the source's number for it */
    const char *name;    /* "main", "multifd 1", …: for messages */
} QmigReaderChannel;

/* Who takes the events. Each returns false, with the error set, to end the reading. */
typedef struct {
    void *self;
    /* As of qmig_decoder_next(). With BYTES the pieces depend on the reading. */
    bool (*event)(void *self, const QmigReaderChannel *channel,
                  const struct qmig_event *ev, GError **error);
    /* (nullable) after each piece: bytes read, and all there are (0: not known) */
    void (*progress)(uint64_t done, uint64_t total);
} QmigReaderSink;

/* Whether the migration came to its end. `g_auto(QmigReaderEnd) end = { 0 };` */
typedef struct {
    bool complete;
    char *reason; /* owned; what is missing, with the channel; "" when complete */
} QmigReaderEnd;

static inline void
qmig_reader_end_clear(QmigReaderEnd *end)
{
    g_clear_pointer(&end->reason, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigReaderEnd, qmig_reader_end_clear)

/**
 * qmig_reader_run() - read it all
 * @path: file, capture directory, or "-"
 * @end:  (out) zeros before. A main channel that broke and was recovered counts by its recovery
 *
 * Memory: constant, but for the copy of device state (QMIG_LIMIT_TAIL).
 * Errors: IO; PROTOCOL, LIMIT, UNSUPPORTED (of the stream: with channel and offset); CONFIG (a
 *         directory that is no capture); the sink's. An incomplete stream is no error here: @end tells.
 */
bool qmig_reader_run(const char *path, const QmigReaderSink *sink, QmigReaderEnd *end,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
