/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The zero-page test: every position, length and alignment; with -m perf, its speed. */
#include "compress/zero.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

enum { PAGE = 4096 };

static void
test_any_single_byte_is_seen(void)
{
    g_autofree uint8_t *page = g_malloc0(PAGE);

    g_assert_true(qmig_is_zero(page, PAGE));
    for (size_t i = 0; i < PAGE; i++) {
        page[i] = (uint8_t)(1u << (i % 8));
        g_assert_false(qmig_is_zero(page, PAGE));
        page[i] = 0;
    }
}

static void
test_any_length_and_alignment(void)
{
    for (size_t shift = 0; shift < 17; shift++) {
        for (size_t len = 0; len < 400; len++) {
            /* Exact allocation: a read beyond it is the sanitizer's. */
            g_autofree uint8_t *mem = g_malloc0(shift + len + 1);

            mem[shift + len] = 0xff;
            if (shift > 0) {
                mem[shift - 1] = 0xff;
            }
            g_assert_true(qmig_is_zero(mem + shift, len));
            if (len > 0) {
                mem[shift + len - 1] = 1;
                g_assert_false(qmig_is_zero(mem + shift, len));
            }
        }
    }
}

static bool
zero_by_memcmp(const void *data, size_t len)
{
    const char *p = data;

    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static void
measure(const char *name, bool (*is_zero)(const void *, size_t), const uint8_t *page)
{
    enum { ROUNDS = 2000000 };
    unsigned hits = 0;
    int64_t start = g_get_monotonic_time();

    for (int i = 0; i < ROUNDS; i++) {
        hits += is_zero(page, PAGE);
        __asm__ volatile("" ::: "memory");
    }
    double ns = (double)(g_get_monotonic_time() - start) * 1000 / ROUNDS;
    g_assert_cmpuint(hits, ==, ROUNDS);
    g_test_message("%s: %.1f ns for a zero page", name, ns);
}

static void
test_speed(void)
{
    g_autofree uint8_t *page = g_malloc0(PAGE);

    if (!g_test_perf()) {
        g_test_skip("run with -m perf");
        return;
    }
    measure("qmig_is_zero", qmig_is_zero, page);
    measure("memcmp", zero_by_memcmp, page);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/zero/any-single-byte-is-seen", test_any_single_byte_is_seen);
    g_test_add_func("/zero/any-length-and-alignment", test_any_length_and_alignment);
    g_test_add_func("/zero/speed", test_speed);
    return g_test_run();
}
