/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest out of a file. */
#ifndef QMIG_JOB_RESTORE_H
#define QMIG_JOB_RESTORE_H

#include "job/job.h"
#include "save/format.h"

typedef struct {
    const char *path; /* a save file, a plain stream, a mapped-ram file; "-" = stdin */
    const QmigAddress
        *qmp;         /* of a QEMU with -incoming defer, a unix socket; NULL: the plain
                               stream goes to stdout */
    unsigned threads; /* that decompress; 0 = one for each processor, at most 8 */
    unsigned connections; /* mapped-ram: that QEMU reads it with; 0 = multifd is off */
    uint64_t offset;      /* of the plain stream, to begin at; only to stdout */
    bool paused;          /* the guest is not let run */
    bool run;             /* it is let run, whatever it did when it was saved */
    /* (nullable) some times a second: bytes of the stream so far; 0. */
    void (*progress)(void *data, uint64_t stream, uint64_t zero);
    void *data;
} QmigRestoreOptions;

typedef struct {
    QmigSaveInfo info;     /* what file or stream tell */
    uint64_t stream_bytes; /* given */
    uint64_t total_ms;
    char *guest; /* owned; QEMU's run state afterwards; NULL = not asked */
} QmigRestoreResult;

void qmig_restore_result_clear(QmigRestoreResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigRestoreResult, qmig_restore_result_clear)

/**
 * qmig_restore_guest() - load a guest into a QEMU, or give its plain stream to stdout
 *
 * A save file's index is checked before anything is touched. A QEMU that has begun to load and
 * did not come to the end is good for nothing: it is ended, as it would do itself.
 * Return: DONE; REFUSED: nothing was touched; FAILED, CANCELLED; UNCLEAR: the guest was loaded,
 * but could not be let run.
 */
QmigOutcome qmig_restore_guest(const QmigRestoreOptions *options,
                               const QmigCancel *cancel, QmigRestoreResult *result,
                               GError **error);

#endif
