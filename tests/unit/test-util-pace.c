/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The limit of bytes per second: with a clock of its own, and with threads and the real one. */
#include "util/pace.h"

#include <glib.h>

#define S UINT64_C(1000000000)
#define MS UINT64_C(1000000)
#define MB UINT64_C(1000000)

static uint64_t
read_clock(void *data)
{
    return *(uint64_t *)data;
}

/* What went and when. */
typedef struct {
    uint64_t at_ns, bytes;
} Gone;

/* The most that went in any @window_ns. */
static uint64_t
most_in(const GArray *gone, uint64_t window_ns)
{
    uint64_t most = 0, sum = 0;
    guint first = 0;

    for (guint i = 0; i < gone->len; i++) {
        sum += g_array_index(gone, Gone, i).bytes;
        while (g_array_index(gone, Gone, i).at_ns -
                   g_array_index(gone, Gone, first).at_ns >=
               window_ns) {
            sum -= g_array_index(gone, Gone, first++).bytes;
        }
        most = MAX(most, sum);
    }
    return most;
}

/* Ask for @want bytes over and over for @for_ns, waking @late_ns late after each wait. */
static uint64_t
pump(QmigPace *pace, uint64_t *now, uint64_t want, uint64_t for_ns, uint64_t late_ns,
     GArray *gone)
{
    uint64_t end = *now + for_ns, sum = 0;

    while (*now < end) {
        Gone one = { *now, want };
        uint64_t wait_ns = qmig_pace_take(pace, &one.bytes);

        if (wait_ns > 0) {
            *now += wait_ns + late_ns;
            continue;
        }
        sum += one.bytes;
        g_array_append_val(gone, one);
    }
    return sum;
}

static void
assert_near(uint64_t got, uint64_t want, double percent)
{
    double off = ((double)got - (double)want) / (double)want * 100;

    if (off > percent || off < -percent) {
        g_error("%" G_GUINT64_FORMAT ", wanted %" G_GUINT64_FORMAT " within %.2f %%", got,
                want, percent);
    }
}

static void
test_without_a_limit_all_goes_at_once(void)
{
    g_autoptr(QmigPace) pace = qmig_pace_new(NULL, NULL);
    uint64_t bytes = UINT64_MAX, burst = 1;

    g_assert_cmpuint(qmig_pace_take(pace, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, UINT64_MAX);
    g_assert_cmpuint(qmig_pace_rate(pace, &burst), ==, 0);
    g_assert_cmpuint(burst, ==, 0);
}

static void
test_the_rate_is_kept_over_any_second(void)
{
    const uint64_t rates[] = { 25600, 125000, 12 * MB + 345, 125 * MB, 12500 * MB };
    const uint64_t lates[] = { 0, 70000, MS, 15 * MS };

    for (guint i = 0; i < G_N_ELEMENTS(rates) * G_N_ELEMENTS(lates); i++) {
        uint64_t rate = rates[i / G_N_ELEMENTS(lates)], now = 77 * S;
        g_autoptr(QmigPace) pace = qmig_pace_new(read_clock, &now);
        g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(Gone));

        qmig_pace_set(pace, rate, 0);
        uint64_t sum = pump(pace, &now, 1 << 20, 4 * S, lates[i % G_N_ELEMENTS(lates)],
                            gone);
        assert_near(sum, 4 * rate, 1.5);
        g_assert_cmpuint(most_in(gone, S), <=, rate + rate * 3 / 100);
    }
}

static void
test_savings_are_bounded(void)
{
    uint64_t now = 5 * S, burst;
    g_autoptr(QmigPace) pace = qmig_pace_new(read_clock, &now);
    g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(Gone));

    qmig_pace_set(pace, 100 * MB, 8 * MB);
    g_assert_cmpuint(qmig_pace_rate(pace, &burst), ==, 100 * MB);
    g_assert_cmpuint(burst, ==, 8 * MB);
    now += 3600 * S; /* idle */
    pump(pace, &now, 1 << 20, 3 * S, 0, gone);
    g_assert_cmpuint(most_in(gone, 1), >=, 8 * MB);
    g_assert_cmpuint(most_in(gone, 1), <=, 8 * MB + (256 << 10));
    g_assert_cmpuint(most_in(gone, S), <=, 108 * MB + (256 << 10));

    /* So short a burst that nobody could be woken in time is lengthened. */
    qmig_pace_set(pace, 100 * MB, 1);
    qmig_pace_rate(pace, &burst);
    g_assert_cmpuint(burst, ==, MB / 5);
}

static void
test_a_change_takes_effect_at_once(void)
{
    uint64_t now = S, bytes = 1000;
    g_autoptr(QmigPace) pace = qmig_pace_new(read_clock, &now);
    g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(Gone));

    qmig_pace_set(pace, 1, 0); /* a byte a second: 64 make a minute of debt */
    g_assert_cmpuint(qmig_pace_take(pace, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 64);
    g_assert_cmpuint(qmig_pace_take(pace, &bytes), >, 60 * S);
    g_assert_cmpuint(bytes, ==, 64); /* untouched */
    qmig_pace_set(pace, 50 * MB, 0);
    assert_near(pump(pace, &now, 1 << 20, 2 * S, 0, gone), 100 * MB, 1.5);
    g_array_set_size(gone, 0);
    qmig_pace_set(pace, 10 * MB, 0);
    assert_near(pump(pace, &now, 1 << 20, 2 * S, 0, gone), 20 * MB, 1.5);
    g_assert_cmpuint(most_in(gone, S), <=, 10 * MB + 3 * MB / 10);
    /* The same again is no change: nobody may earn by asking for it. */
    g_array_set_size(gone, 0);
    uint64_t begin = now;
    while (now < begin + S) {
        qmig_pace_set(pace, 10 * MB, 0);
        pump(pace, &now, 1 << 20, MS, 0, gone);
    }
    g_assert_cmpuint(most_in(gone, S), <=, 10 * MB + 3 * MB / 10);
    qmig_pace_set(pace, 0, 0);
    bytes = 1 << 30;
    g_assert_cmpuint(qmig_pace_take(pace, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 1 << 30);
}

static void
test_small_pieces_do_not_starve_large_ones(void)
{
    uint64_t now = S, sums[2] = { 0 };
    g_autoptr(QmigPace) pace = qmig_pace_new(read_clock, &now);

    /* Neither is always the first to ask. */
    qmig_pace_set(pace, 100 * MB, 0);
    for (int turn = 0; now < 2 * S; turn++) {
        const uint64_t wants[] = { 100, 1 << 20 };
        uint64_t wait_ns = 0;
        for (int k = 0; k < 2; k++) {
            int i = (turn + k) % 2;
            uint64_t bytes = wants[i];
            uint64_t w = qmig_pace_take(pace, &bytes);
            sums[i] += w == 0 ? bytes : 0;
            wait_ns = MAX(wait_ns, w);
        }
        now += wait_ns;
    }
    g_assert_cmpuint(sums[1], >, sums[0]);
}

/* ---- threads ---------------------------------------------------------------------------- */

typedef struct {
    QmigPace *pace;
    gint64 end_us;
    uint64_t sum;
} Thread;

static void *
run(void *data)
{
    Thread *t = data;

    while (g_get_monotonic_time() < t->end_us) {
        uint64_t bytes = 1 << 20;
        uint64_t wait_ns = qmig_pace_take(t->pace, &bytes);

        if (wait_ns > 0) {
            g_usleep((gulong)MIN(wait_ns, 20 * MS) / 1000 + 1);
        } else {
            t->sum += bytes;
        }
    }
    return NULL;
}

/* A busy machine can only make it less: the lower bound is generous. */
static void
test_threads_share_it(void)
{
    g_autoptr(QmigPace) pace = qmig_pace_new(NULL, NULL);
    Thread threads[4];
    GThread *handles[4];
    uint64_t sum = 0;
    gint64 begin_us = g_get_monotonic_time();

    qmig_pace_set(pace, 200 * MB, 0);
    for (int i = 0; i < 4; i++) {
        threads[i] = (Thread){ pace, begin_us + 500000, 0 };
        handles[i] = g_thread_new("taker", run, &threads[i]);
    }
    for (int i = 0; i < 4; i++) {
        g_thread_join(handles[i]);
        sum += threads[i].sum;
    }
    double took_s = (double)(g_get_monotonic_time() - begin_us) / 1e6;
    g_assert_cmpfloat((double)sum, <=, 200e6 * took_s + 200e6 / 50 + (256 << 10));
    g_assert_cmpfloat((double)sum, >=, 200e6 * 0.5 * 0.5);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pace/without-a-limit-all-goes-at-once",
                    test_without_a_limit_all_goes_at_once);
    g_test_add_func("/pace/the-rate-is-kept-over-any-second",
                    test_the_rate_is_kept_over_any_second);
    g_test_add_func("/pace/savings-are-bounded", test_savings_are_bounded);
    g_test_add_func("/pace/a-change-takes-effect-at-once",
                    test_a_change_takes_effect_at_once);
    g_test_add_func("/pace/small-pieces-do-not-starve-large-ones",
                    test_small_pieces_do_not_starve_large_ones);
    g_test_add_func("/pace/threads-share-it", test_threads_share_it);
    return g_test_run();
}
