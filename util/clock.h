/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Monotonic time and deadlines. Every wait in qmig takes a deadline of this kind. */
#ifndef QMIG_UTIL_CLOCK_H
#define QMIG_UTIL_CLOCK_H

#include <glib.h>
#include <stdint.h>

/* Microseconds of CLOCK_MONOTONIC at which a wait ends. */
typedef int64_t QmigDeadline;

#define QMIG_DEADLINE_NEVER INT64_MAX

static inline int64_t
qmig_now_us(void)
{
    return g_get_monotonic_time();
}

static inline QmigDeadline
qmig_deadline_in_ms(int64_t ms)
{
    return qmig_now_us() + ms * 1000;
}

/* Milliseconds until @deadline for poll(2): 0 when it has passed, -1 for NEVER; rounds up. */
static inline int
qmig_deadline_poll_ms(QmigDeadline deadline)
{
    if (deadline == QMIG_DEADLINE_NEVER) {
        return -1;
    }
    int64_t left_us = deadline - qmig_now_us();
    if (left_us <= 0) {
        return 0;
    }
    int64_t ms = (left_us + 999) / 1000;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

#endif
