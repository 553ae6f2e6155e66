/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A capture: what `qmig proxy --record DIR` wrote. A file for each direction of each connection,
 * "N-KIND.forward" and "N-KIND.reverse" (N: the order in which they were accepted), and
 * timeline.jsonl, which says when what came.
 */
#ifndef QMIG_INSPECT_CAPTURE_H
#define QMIG_INSPECT_CAPTURE_H

#include <glib.h>
#include <stdbool.h>

/* One connection. */
typedef struct {
    unsigned number;
    const char *kind;    /* "main", "recovery", "multifd", "preempt", "tls", "unknown" */
    const char *forward; /* path; source -> destination */
    const char *reverse; /* path, or NULL when there is no such file */
} QmigCaptureChannel;

typedef struct QmigCapture QmigCapture;

/* Is there a capture in this directory? */
bool qmig_capture_is_at(const char *path);

/* Errors: IO; CONFIG: no channel files, two of one number. */
QmigCapture *qmig_capture_open(const char *path,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_capture_free(QmigCapture *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigCapture, qmig_capture_free)

/* By number, ascending. Borrowed. */
unsigned qmig_capture_n_channels(const QmigCapture *c);
const QmigCaptureChannel *qmig_capture_channel(const QmigCapture *c, unsigned i);

#endif
