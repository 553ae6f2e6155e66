/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets of pages against a plain array; and that claimed exabytes cost nothing. */
#include "inspect/page-set.h"

#include <string.h>

enum { PAGES = 3 * QMIG_PAGE_GROUP + 100, ROUNDS = 300 };

static void
compare(const QmigPageSet *set, const bool *plain)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < PAGES; i++) {
        g_assert_cmpint(qmig_page_set_has(set, i), ==, plain[i]);
        count += plain[i];
    }
    g_assert_cmpuint(set->count, ==, count);
}

static void
test_as_an_array(void)
{
    g_autofree bool *plain = g_new0(bool, PAGES);
    QmigPageSet set;

    qmig_page_set_init(&set, PAGES);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t first = (uint64_t)g_test_rand_int_range(0, PAGES + 50);
        uint64_t n = (uint64_t)g_test_rand_int_range(0, 40000);
        bool add = g_test_rand_bit();

        for (uint64_t i = first; i < MIN(first + n, PAGES); i++) {
            plain[i] = add;
        }
        for (uint64_t i = first; add && i < first + n; i++) {
            qmig_page_set_add(&set, i);
        }
        if (!add) {
            qmig_page_set_remove(&set, first, n);
        }
        if (round % 20 == 0) {
            compare(&set, plain);
        }
    }
    compare(&set, plain);
    qmig_page_set_add_all(&set);
    memset(plain, true, PAGES);
    compare(&set, plain);
    g_assert_false(qmig_page_set_has(&set, PAGES));
    qmig_page_set_remove(&set, 1, UINT64_MAX);
    g_assert_cmpuint(set.count, ==, 1);
    qmig_page_set_clear(&set);
}

/* 16 EiB of 4 KiB pages, discarded a thousand times. */
static void
test_claimed_exabytes(void)
{
    const uint64_t n = UINT64_C(1) << 52;
    QmigPageSet set;

    qmig_page_set_init(&set, n);
    qmig_page_set_add(&set, n - 1);
    for (int i = 0; i < 1000; i++) {
        qmig_page_set_remove(&set, 0, n - 1);
    }
    g_assert_cmpuint(set.count, ==, 1);
    qmig_page_set_remove(&set, 5, UINT64_MAX);
    g_assert_cmpuint(set.count, ==, 0);
    qmig_page_set_clear(&set);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/page-set/is-as-an-array-of-bits", test_as_an_array);
    g_test_add_func("/page-set/claimed-exabytes-cost-nothing", test_claimed_exabytes);
    return g_test_run();
}
