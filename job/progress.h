/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From what QEMU and the proxy say to figures a person can trust. Prints nothing. */
#ifndef QMIG_JOB_PROGRESS_H
#define QMIG_JOB_PROGRESS_H

#include "job/job.h"
#include "qmp/commands.h"

enum { QMIG_RATE_SAMPLES = 16 };

typedef struct {
    QmigProgress now;
    QmigProgress last; /* at the end of the last iteration; for the caller */
    char *status;      /* owned; now.status */
    int64_t begin_us;
    /* Ring of recent times, bytes sent, and memory dealt with: a zero page is 9 bytes of the
       one and 4096 of the other. */
    struct {
        int64_t us;
        uint64_t bytes, memory;
    } samples[QMIG_RATE_SAMPLES];
    unsigned n_samples;
    uint64_t memory_rate; /* bytes of guest memory per second */
} QmigProgressModel;

void qmig_progress_init(QmigProgressModel *model, int64_t now_us);
void qmig_progress_clear(QmigProgressModel *model);

/**
 * qmig_progress_update() - take in the newest figures
 * @stats: (nullable) the stats plugin's report
 *
 * Return: true when an iteration has ended since the last update.
 */
bool qmig_progress_update(QmigProgressModel *model, const QmigMigrationInfo *info,
                          JsonObject *stats, int64_t now_us);

/* Disks: bytes copied so far, and to copy in all. @memory: bytes of the guest's, as long as
 * QEMU has not told them. */
void qmig_progress_storage(QmigProgressModel *model, uint64_t done, uint64_t total,
                           uint64_t memory, int64_t now_us);
/* Memory begins now: rates and times anew; what was reached stays. */
void qmig_progress_begin_memory(QmigProgressModel *model, int64_t now_us);

#endif
