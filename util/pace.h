/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A limit of bytes per second that any number of threads keep together. */
#ifndef QMIG_UTIL_PACE_H
#define QMIG_UTIL_PACE_H

#include <glib.h>
#include <stdint.h>

typedef struct QmigPace QmigPace;

/* Nanoseconds of a clock that never goes back. */
typedef uint64_t (*QmigPaceClock)(void *data);

/**
 * qmig_pace_new() - a limit, none at first
 * @clock: (nullable) CLOCK_MONOTONIC by default; called under the lock
 * @data:  for @clock
 *
 * Threads: all functions may be called from any, but for free.
 */
QmigPace *qmig_pace_new(QmigPaceClock clock, void *data);
void qmig_pace_free(QmigPace *pace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPace, qmig_pace_free)

/**
 * qmig_pace_set() - change the limit; from now on, without debts and savings of before
 * @rate:  bytes per second; 0 = none
 * @burst: bytes that may go beyond the rate at once, after less went than might have; 0 = what
 *         the rate carries in 20 ms. Less than it carries in 2 ms is taken for that (threads
 *         cannot be woken more finely), more than in 60 s for that.
 */
void qmig_pace_set(QmigPace *pace, uint64_t rate, uint64_t burst);

/* What is set; @burst: (nullable) (out) in effect, bytes; 0 without a limit. */
uint64_t qmig_pace_rate(QmigPace *pace, uint64_t *burst);

/**
 * qmig_pace_take() - may bytes go now?
 * @bytes: (inout) how many there are, not 0; lowered to the piece that may go at once: an eighth
 *         of the burst, 64 bytes to 256 KiB. Untouched where none may.
 *
 * What is taken is counted as gone. In any time of t seconds at most rate * t + burst + one
 * piece are taken.
 * Return: 0: taken; else nanoseconds until it is worth asking again, sooner if the limit is
 * changed: whoever waits should not sleep longer than they can wait for that.
 */
uint64_t qmig_pace_take(QmigPace *pace, uint64_t *bytes);

#endif
