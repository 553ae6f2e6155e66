/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The progress model: figures that never go backwards and never promise too much. */
#include "job/progress.h"

enum { MS = 1000, TOTAL = 1 << 30, PAGE = 4096 };

static QmigMigrationInfo
new_info(uint64_t remaining, uint64_t transferred, uint64_t iterations)
{
    return (QmigMigrationInfo){
        .status = QMIG_STATUS_ACTIVE,
        .status_text = (char *)"active",
        .total = TOTAL,
        .remaining = remaining,
        .transferred = transferred,
        .normal = transferred / PAGE,
        .page_size = PAGE,
        .iterations = iterations,
    };
}

static void
test_percent_never_falls(void)
{
    QmigProgressModel model;
    unsigned last = 0;

    qmig_progress_init(&model, 0);
    /* A busy guest: what remains jumps up with every pass. */
    for (int i = 0; i < 1000; i++) {
        QmigMigrationInfo info = new_info(
            (uint64_t)(TOTAL - (i * 7919 % 100) * (TOTAL / 100)), (uint64_t)i << 20,
            1 + (uint64_t)i / 100);
        qmig_progress_update(&model, &info, NULL, (int64_t)i * 100 * MS);
        g_assert_cmpuint(model.now.percent, >=, last);
        g_assert_cmpuint(model.now.percent, <, 100);
        last = model.now.percent;
    }
    g_assert_cmpuint(last, >=, 98);
    qmig_progress_clear(&model);
}

static void
test_failed_keeps_the_last_figures(void)
{
    QmigProgressModel model;
    QmigMigrationInfo info = new_info(TOTAL / 2, 4096, 2);
    QmigMigrationInfo failed = { .status = QMIG_STATUS_FAILED,
                                 .status_text = (char *)"failed" };

    qmig_progress_init(&model, 0);
    qmig_progress_update(&model, &info, NULL, 100 * MS);
    qmig_progress_update(&model, &failed, NULL, 200 * MS);
    g_assert_cmpuint(model.now.percent, ==, 50);
    g_assert_cmpuint(model.now.transferred, ==, 4096);
    g_assert_cmpuint(model.now.iteration, ==, 2);
    g_assert_cmpstr(model.now.status, ==, "failed");
    qmig_progress_clear(&model);
}

static void
test_rate_is_that_of_the_last_second(void)
{
    QmigProgressModel model;

    qmig_progress_init(&model, 0);
    for (int i = 0; i <= 50; i++) {
        /* 1 MiB in 100 ms, and ten times as much after three seconds. */
        uint64_t sent = i <= 30 ? (uint64_t)i << 20
                                : (30 + (uint64_t)(i - 30) * 10) << 20;
        QmigMigrationInfo info = new_info(TOTAL / 2, sent, 1);
        qmig_progress_update(&model, &info, NULL, (int64_t)i * 100 * MS);
        if (i == 30) {
            g_assert_cmpuint(model.now.rate >> 20, ==, 10);
        }
    }
    g_assert_cmpuint(model.now.rate >> 20, >=, 95);
    qmig_progress_clear(&model);
}

static void
test_time_left_has_two_ends(void)
{
    QmigProgressModel model;

    qmig_progress_init(&model, 0);
    g_assert_cmpint(model.now.left_min_ms, ==, -1);
    for (int i = 0; i <= 20; i++) {
        QmigMigrationInfo info = new_info(100 << 20, (uint64_t)i * (10 << 20), 2);
        /* 100 MiB/s sent, 50 MiB/s dirtied. */
        info.dirty_rate = (50 << 20) / PAGE;
        qmig_progress_update(&model, &info, NULL, (int64_t)i * 100 * MS);
    }
    g_assert_cmpint(model.now.left_min_ms, >=, 900);
    g_assert_cmpint(model.now.left_min_ms, <=, 1100);
    g_assert_cmpint(model.now.left_max_ms, >=, 1800);
    g_assert_cmpint(model.now.left_max_ms, <=, 2200);

    QmigMigrationInfo info = new_info(100 << 20, 21 * (10 << 20), 2);
    info.dirty_rate = (200 << 20) / PAGE;
    qmig_progress_update(&model, &info, NULL, 2100 * MS);
    g_assert_cmpint(model.now.left_min_ms, >=, 0);
    g_assert_cmpint(model.now.left_max_ms, ==, -1);
    qmig_progress_clear(&model);
}

/* A zero page is a few bytes on the wire and a whole page done. */
static void
test_zero_pages_count_as_memory(void)
{
    QmigProgressModel model;

    qmig_progress_init(&model, 0);
    for (int i = 0; i <= 10; i++) {
        QmigMigrationInfo info = new_info(TOTAL / 2, (uint64_t)i * 1000, 1);
        info.normal = 0;
        info.duplicate = (uint64_t)i * (TOTAL / 100 / PAGE);
        qmig_progress_update(&model, &info, NULL, (int64_t)i * 100 * MS);
    }
    /* A hundredth of it each 100 ms: half of it takes five seconds. */
    g_assert_cmpint(model.now.left_min_ms, >=, 4500);
    g_assert_cmpint(model.now.left_min_ms, <=, 5500);
    qmig_progress_clear(&model);
}

static void
test_an_iteration_ends_once(void)
{
    QmigProgressModel model;
    static const struct {
        uint64_t iterations;
        bool ends;
    } rows[] = { { 0, false }, { 1, false }, { 1, false }, { 2, true },
                 { 2, false }, { 5, true },  { 4, false }, { 5, false } };

    qmig_progress_init(&model, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        QmigMigrationInfo info = new_info(TOTAL, i, rows[i].iterations);
        g_assert_cmpint(qmig_progress_update(&model, &info, NULL, (int64_t)i * MS), ==,
                        rows[i].ends);
    }
    g_assert_cmpuint(model.now.iteration, ==, 5);
    qmig_progress_clear(&model);
}

/* A clock that stands still, sums that fall, a memory of nothing: no division, no wrap. */
static void
test_odd_figures_do_no_harm(void)
{
    QmigProgressModel model;
    QmigMigrationInfo info = new_info(2ull * TOTAL, UINT64_MAX, UINT64_MAX);

    info.page_size = UINT64_MAX;
    info.dirty_rate = UINT64_MAX;
    qmig_progress_init(&model, 1000);
    qmig_progress_update(&model, &info, NULL, 1000);
    info = new_info(TOTAL, 0, 0);
    qmig_progress_update(&model, &info, NULL, 1000);
    qmig_progress_update(&model, &info, NULL, 0);
    g_assert_cmpuint(model.now.percent, ==, 0);
    g_assert_cmpuint(model.now.elapsed_ms, ==, 0);
    qmig_progress_clear(&model);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/progress/percent-never-falls", test_percent_never_falls);
    g_test_add_func("/progress/failed-keeps-the-last-figures",
                    test_failed_keeps_the_last_figures);
    g_test_add_func("/progress/rate-is-that-of-the-last-second",
                    test_rate_is_that_of_the_last_second);
    g_test_add_func("/progress/time-left-has-two-ends", test_time_left_has_two_ends);
    g_test_add_func("/progress/zero-pages-count-as-memory",
                    test_zero_pages_count_as_memory);
    g_test_add_func("/progress/an-iteration-ends-once", test_an_iteration_ends_once);
    g_test_add_func("/progress/odd-figures-do-no-harm", test_odd_figures_do_no_harm);
    return g_test_run();
}
