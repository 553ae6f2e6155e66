/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A token bucket, kept as a time: `due` is when all that was taken will have been paid for.
 *
 *     due in the future: a debt; nothing goes until then
 *     due in the past:   savings, at most `burst` worth
 *
 * A piece goes when there is no debt, whatever its size, and makes one. So a thread with large
 * pieces is not starved by one with small ones, and there is never a debt of more than one piece.
 */
#include "util/pace.h"

#include <pthread.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)
#define RATE_MAX \
    UINT64_C(1000000000000000) /* bytes per second; more could as well be none */

enum {
    BURST_PART = 50,      /* of a second: 20 ms, 2 % of what goes in any second */
    BURST_PART_MIN = 500, /* 2 ms: poll(2) wakes to the millisecond */
    BURST_MAX_S = 60,
    PIECES_PER_BURST = 8,
    PIECE_MIN = 64,
    PIECE_MAX = 256 << 10,
};

struct QmigPace {
    QmigPaceClock clock;
    void *data;
    pthread_mutex_t lock; /* guards what follows */
    uint64_t rate;        /* bytes per second; 0: none */
    uint64_t burst;       /* bytes */
    uint64_t piece;       /* bytes */
    uint64_t burst_ns;    /* what `burst` takes at `rate` */
    uint64_t due_ns;
};

static uint64_t
monotonic(void *unused)
{
    struct timespec now;

    (void)unused;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

QmigPace *
qmig_pace_new(QmigPaceClock clock, void *data)
{
    QmigPace *pace = g_new0(QmigPace, 1);

    pace->clock = clock != NULL ? clock : monotonic;
    pace->data = data;
    pthread_mutex_init(&pace->lock, NULL);
    return pace;
}

void
qmig_pace_free(QmigPace *pace)
{
    if (pace != NULL) {
        pthread_mutex_destroy(&pace->lock);
        g_free(pace);
    }
}

/* Rounded up, so that many small pieces are not cheaper than one large one. */
static uint64_t
cost_ns(uint64_t bytes, uint64_t rate)
{
    return bytes / rate * NS_PER_S +
           (uint64_t)((long double)(bytes % rate) * NS_PER_S / rate + 1);
}

void
qmig_pace_set(QmigPace *pace, uint64_t rate, uint64_t burst)
{
    pthread_mutex_lock(&pace->lock);
    rate = MIN(rate, RATE_MAX);
    burst = burst == 0 ? rate / BURST_PART
                       : CLAMP(burst, rate / BURST_PART_MIN, rate * BURST_MAX_S);
    if (rate != pace->rate || burst != pace->burst) {
        pace->rate = rate;
        pace->burst = burst;
        pace->piece = CLAMP(burst / PIECES_PER_BURST, PIECE_MIN, PIECE_MAX);
        pace->burst_ns = rate > 0 ? cost_ns(burst, rate) : 0;
        pace->due_ns = pace->clock(pace->data);
    }
    pthread_mutex_unlock(&pace->lock);
}

uint64_t
qmig_pace_rate(QmigPace *pace, uint64_t *burst)
{
    pthread_mutex_lock(&pace->lock);
    uint64_t rate = pace->rate;
    if (burst != NULL) {
        *burst = rate > 0 ? pace->burst : 0;
    }
    pthread_mutex_unlock(&pace->lock);
    return rate;
}

/* Under the lock. */
static uint64_t
take(QmigPace *pace, uint64_t *bytes)
{
    uint64_t now = pace->clock(pace->data);

    if (pace->due_ns > now) {
        return pace->due_ns - now;
    }
    if (now - pace->due_ns > pace->burst_ns) {
        pace->due_ns = now - pace->burst_ns;
    }
    *bytes = MIN(*bytes, pace->piece);
    pace->due_ns += cost_ns(*bytes, pace->rate);
    return 0;
}

uint64_t
qmig_pace_take(QmigPace *pace, uint64_t *bytes)
{
    pthread_mutex_lock(&pace->lock);
    uint64_t wait_ns = pace->rate > 0 ? take(pace, bytes) : 0;
    pthread_mutex_unlock(&pace->lock);
    return wait_ns;
}
