/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest into a file: drives QEMU, and puts it back when that fails. */
#ifndef QMIG_JOB_SAVE_H
#define QMIG_JOB_SAVE_H

#include "job/job.h"
#include "save/writer.h"

typedef struct {
    const QmigAddress
        *qmp; /* of the guest's QEMU, a unix socket; NULL: the stream is on stdin */
    const char *path; /* where to; "-" = stdout */
    QmigSaveConfig config;
    bool mapped_ram;      /* QEMU writes its own mapped-ram file instead */
    unsigned connections; /* that QEMU writes it with; 0 = multifd is off */
    bool live;            /* the guest runs while its memory is copied */
    bool resume;          /* it runs on afterwards, if it ran before */
    bool quit;            /* QEMU is ended afterwards */
    /* (nullable) some times a second: bytes of the stream so far, and of the file. */
    void (*progress)(void *data, uint64_t stream, uint64_t file);
    void *data;
} QmigSaveOptions;

typedef struct {
    QmigSaveInfo info;   /* what the file tells of itself; of mapped-ram, what is known */
    uint64_t file_bytes; /* that the file takes on the disk */
    uint64_t total_ms;   /* from `migrate` to the file being there */
    uint64_t stopped_ms; /* that the guest stood still in it; 0 = not known */
    char *guest; /* owned; QEMU's run state afterwards, "quit"; NULL = not asked */
    char *doubt; /* owned; why the stream proves nothing; NULL = it was decoded */
} QmigSaveResult;

void qmig_save_result_clear(QmigSaveResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigSaveResult, qmig_save_result_clear)

/**
 * qmig_save_guest() - save a guest, or the stream on stdin
 * @cancel: (nullable) ends it, and undoes it
 * @result: (out) filled as far as it came
 *
 * On every failure the guest runs again, if it ran before, QEMU's settings are put back, and no
 * file is left. Return: DONE; REFUSED: nothing was touched; FAILED, CANCELLED: undone;
 * UNCLEAR: the guest could not be brought back to run, or the QEMU is gone.
 */
QmigOutcome qmig_save_guest(const QmigSaveOptions *options, const QmigCancel *cancel,
                            QmigSaveResult *result, GError **error);

#endif
