/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Proof of life: does a guest that "runs" execute anything?
 *
 * Asked are its registers, KVM's counts of what its vCPUs do, and, for a QEMU of this host, the
 * time they were given. One of them has changed: it lives. None of them does: that proves
 * something only of a guest that was seen to be busier on the source, by the same measure.
 */
#ifndef QMIG_JOB_LIFE_H
#define QMIG_JOB_LIFE_H

#include "job/side.h"

#include <stdbool.h>
#include <stdint.h>

/* What was seen of a guest's vCPUs at one moment. */
typedef struct {
    char *registers;  /* a digest; NULL = not told */
    int64_t kvm;      /* halts and interrupts so far, of all vCPUs; -1 = not told */
    int64_t cpu_ns;   /* processor time so far, of all vCPUs; -1 = not known */
    int64_t taken_us; /* qmig_now_us() */
} QmigLifeSigns;

/* Signs of life between the first and the last look at a guest. */
typedef struct {
    QmigLifeSigns first, last;
    unsigned looks;   /* after the first */
    unsigned changes; /* of these, looks at which something had changed */
    bool begun;
} QmigLifeWatch;

void qmig_life_watch_clear(QmigLifeWatch *watch);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigLifeWatch, qmig_life_watch_clear)

/* Look once. Errors: the side is gone, or does not answer within @patience_ms. */
bool qmig_life_look(QmigLifeWatch *watch, QmigSide *side, uint32_t patience_ms,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Something has changed since the first look. */
bool qmig_life_is_seen(const QmigLifeWatch *watch);

/* As often as @source changed, @destination would have changed many times by now, and it has
 * not changed at all. */
bool qmig_life_is_missed(const QmigLifeWatch *source, const QmigLifeWatch *destination);

#endif
