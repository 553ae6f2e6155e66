/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A flight recorder: the last of what a stream brought, in bounded memory.
 *
 * The head of the stream (configuration, list of blocks) is kept for good, and a ring has the last
 * megabytes behind it. Written out, the two are a stream again, from which pages are missing: where
 * the ring begins inside a section of RAM, that section gets its head back.
 */
#ifndef QMIG_PLUGIN_GUARD_FLIGHT_H
#define QMIG_PLUGIN_GUARD_FLIGHT_H

#include "stream/qmig-event.h"

#include <glib.h>
#include <stdbool.h>

typedef struct QmigFlight QmigFlight;

/* @keep: bytes of the ring, events with all they carry. */
QmigFlight *qmig_flight_new(size_t keep);
void qmig_flight_free(QmigFlight *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigFlight, qmig_flight_free)

/* The next event. Notes are ignored. */
void qmig_flight_take(QmigFlight *f, const struct qmig_event *ev);

/* What qmig_flight_write() wrote. */
typedef struct {
    uint64_t bytes; /* in the file */
    uint64_t from;  /* where in the stream the part behind the head begins, bytes */
    bool is_whole;  /* nothing is missing */
    bool readable;  /* as a stream; else its pieces are, but not one behind the other */
} QmigFlightFile;

/**
 * qmig_flight_write() - all of it, into a file that only its owner may read
 * @path: made, or overwritten
 * @out:  (out)
 *
 * Errors: IO.
 */
bool qmig_flight_write(QmigFlight *f, const char *path, QmigFlightFile *out,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
