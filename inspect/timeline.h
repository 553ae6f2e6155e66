/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happened in a capture, in order of time: its timeline.jsonl (docs/captures.md), held
 * against the channel files. Where lines are missing (a crash, no timeline at all) the files
 * decide: what they hold beyond the lines comes at the end, and what lines claim beyond the
 * files is left out and counted.
 */
#ifndef QMIG_INSPECT_TIMELINE_H
#define QMIG_INSPECT_TIMELINE_H

#include "inspect/capture.h"

#include <stdint.h>

typedef enum {
    QMIG_TIMELINE_OPEN,    /* a connection begins */
    QMIG_TIMELINE_DATA,    /* bytes came */
    QMIG_TIMELINE_EOF,     /* no more in this direction */
    QMIG_TIMELINE_RESET,   /* likewise: the connection broke */
    QMIG_TIMELINE_STOPPED, /* the recording ended before the migration; `text`: why */
    QMIG_TIMELINE_END,     /* nothing follows */
} QmigTimelineKind;

typedef struct {
    QmigTimelineKind kind;
    uint64_t t_us;    /* since the first connection; never goes back */
    unsigned channel; /* index for qmig_capture_channel() */
    bool is_reverse;  /* DATA, EOF, RESET: destination -> source */
    int id;           /* OPEN: the source's number of a multifd channel; -1 = not told */
    uint64_t offset;  /* DATA: where in the channel's file */
    uint64_t length;  /* DATA: bytes, at least 1 */
    const char *text; /* STOPPED; borrowed until the next call */
    unsigned line;    /* of the timeline, from 1; 0: no line, the file says so */
} QmigTimelineEntry;

typedef struct QmigTimeline QmigTimeline;

/* @capture: borrowed. Errors: IO, PROTOCOL (no timeline of a capture), UNSUPPORTED (version). */
QmigTimeline *qmig_timeline_open(const QmigCapture *capture,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_timeline_free(QmigTimeline *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigTimeline, qmig_timeline_free)

/**
 * qmig_timeline_next() - the next entry, END for ever after the last
 *
 * Errors: IO; PROTOCOL, LIMIT: with file and line what is wrong with it.
 */
bool qmig_timeline_next(QmigTimeline *t, QmigTimelineEntry *entry,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Bytes in a channel's file. */
uint64_t qmig_timeline_bytes(const QmigTimeline *t, unsigned channel, bool is_reverse);

/* Bytes that lines claimed and files do not have. After END. */
uint64_t qmig_timeline_missing(const QmigTimeline *t);

#endif
