/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A capture of all connections, written while they are carried (docs/captures.md).
 *
 * Never harms the migration: what cannot be written ends the recording, with a notice, and
 * nothing else. Bytes are written after they were forwarded; only their line of the timeline
 * is made before, in memory, so that a question stands before its answer.
 */
#ifndef QMIG_PROXY_RECORD_H
#define QMIG_PROXY_RECORD_H

#include "proxy/group.h"

#include <stddef.h>

typedef struct QmigRecord QmigRecord;
/* One direction of one connection. */
typedef struct QmigRecordWay QmigRecordWay;

/* Could a capture begin in @directory: is it empty, or not there? Errors: CONFIG, IO. */
bool qmig_record_check(const char *directory, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_record_choose() - the one directory, of two ways to ask for it
 * @option:    (nullable) of --record
 * @plugin:    (nullable) what a plugin asks for: qmig_chain_record()
 * @directory: (out) (nullable) one of them
 *
 * Errors: CONFIG: both are there.
 */
bool qmig_record_choose(const char *option, const char *plugin, const char **directory,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_record_new() - begin a capture in @directory, which is made or empty
 * @group: borrowed; gets the notice when the recording ends early
 *
 * Also makes the process ignore SIGXFSZ: a file size limit is an error like a full disk.
 * Errors: CONFIG (not empty), IO.
 */
QmigRecord *qmig_record_new(const char *directory, QmigGroup *group,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Complete the timeline. A capture without a connection is removed. Nobody uses its ways. */
void qmig_record_free(QmigRecord *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigRecord, qmig_record_free)

/**
 * qmig_record_open() - a connection begins
 * @kind:    "main", "recovery", "multifd", "preempt", "tls", "unknown"
 * @id:      the source's number of a multifd channel; -1 = none
 * @forward: (out) borrowed until the record is freed, as is @reverse
 */
void qmig_record_open(QmigRecord *r, const char *kind, int id, QmigRecordWay **forward,
                      QmigRecordWay **reverse);

/* The following take NULL for @way: nothing is recorded. Threads: one for each way. */

/* @len bytes were read just now; qmig_record_write() follows. Does no I/O. */
void qmig_record_note(QmigRecordWay *way, size_t len);
/* These bytes; they were forwarded, or nobody takes them. */
void qmig_record_write(QmigRecordWay *way, const void *data, size_t len);
/* No byte will follow. @reset: because the connection broke. */
void qmig_record_end(QmigRecordWay *way, bool reset);

#endif
