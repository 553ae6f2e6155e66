/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Condition variables that wait by the clock of util/clock.h. Not GCond: the thread sanitizer does
 * not see those. */
#ifndef QMIG_UTIL_COND_H
#define QMIG_UTIL_COND_H

#include "util/clock.h"

#include <pthread.h>
#include <time.h>

static inline void
qmig_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* Wait to be woken, until @deadline at most; as all such waits, perhaps for nothing. */
static inline void
qmig_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, QmigDeadline deadline)
{
    if (deadline == QMIG_DEADLINE_NEVER) {
        pthread_cond_wait(cond, lock);
        return;
    }
    struct timespec ts = { deadline / G_USEC_PER_SEC, deadline % G_USEC_PER_SEC * 1000 };
    (void)pthread_cond_timedwait(cond, lock, &ts);
}

#endif
