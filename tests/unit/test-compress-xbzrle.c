/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* XBZRLE: the codes QEMU writes, the codes it refuses, and properties over random pages. */
#include "compress/xbzrle.h"

#include <glib.h>
#include <string.h>

enum { PAGE = 4096 };

static void
random_page(uint8_t *page)
{
    for (size_t i = 0; i < PAGE; i++) {
        page[i] = (uint8_t)g_test_rand_int();
    }
}

/* Change some runs, short and long, so that both sizes of lengths occur. */
static void
touch(uint8_t *page, int n_runs)
{
    for (int run = 0; run < n_runs; run++) {
        size_t at = (size_t)g_test_rand_int_range(0, PAGE);
        size_t n = (size_t)g_test_rand_int_range(1, run % 4 == 0 ? 400 : 9);

        for (size_t i = at; i < MIN(at + n, PAGE); i++) {
            page[i] ^= (uint8_t)g_test_rand_int_range(1, 256);
        }
    }
}

static void
assert_code(const uint8_t *before, const uint8_t *after, size_t len, const char *want,
            size_t want_len)
{
    uint8_t code[PAGE];
    ssize_t n = qmig_xbzrle_encode(before, after, len, code, sizeof code);

    g_assert_cmpmem(code, (size_t)n, want, want_len);
}

static void
test_codes_are_those_of_qemu(void)
{
    uint8_t a[PAGE] = { 0 }, b[PAGE] = { 0 };

    assert_code(a, b, PAGE, "", 0);
    b[0] = 7; /* a change at the very start: the only place for an empty zrun */
    assert_code(a, b, PAGE, "\x00\x01\x07", 3);
    b[2] = 8; /* one equal byte ends a run: runs are maximal */
    assert_code(a, b, PAGE, "\x00\x01\x07\x01\x01\x08", 6);
    b[0] = b[2] = 0;
    b[127] = 1;
    assert_code(a, b, PAGE, "\x7f\x01\x01", 3);
    b[127] = 0;
    b[128] = 1; /* first length of two bytes */
    assert_code(a, b, PAGE, "\x80\x01\x01\x01", 4);
    b[128] = 0;
    b[4095] = 9; /* 4095 = 0x1f << 7 | 0x7f */
    assert_code(a, b, PAGE, "\xff\x1f\x01\x09", 4);
}

static void
test_whole_page_changed_needs_three_bytes_more(void)
{
    uint8_t a[PAGE], b[PAGE], code[PAGE + 3];

    memset(a, 0, sizeof a);
    memset(b, 0xee, sizeof b);
    g_assert_cmpint(qmig_xbzrle_encode(a, b, PAGE, code, PAGE), ==, -1);
    g_assert_cmpint(qmig_xbzrle_encode(a, b, PAGE, code, PAGE + 2), ==, -1);
    g_assert_cmpint(qmig_xbzrle_encode(a, b, PAGE, code, PAGE + 3), ==, PAGE + 3);
    g_assert_cmpmem(code, 3, "\x00\x80\x20", 3);
}

static void
test_page_longer_than_a_length_can_say_is_refused(void)
{
    g_autofree uint8_t *a = g_malloc0(0x4000), *code = g_malloc(0x8000);

    g_assert_cmpint(qmig_xbzrle_encode(a, a, 0x3fff, code, 0x8000), ==, 0);
    g_assert_cmpint(qmig_xbzrle_encode(a, a, 0x4000, code, 0x8000), ==, -1);
}

static void
test_round_trip(void)
{
    uint8_t before[PAGE], after[PAGE], page[PAGE];

    for (int round = 0; round < 3000; round++) {
        random_page(before);
        memcpy(after, before, PAGE);
        touch(after, round % 40);
        /* Exact capacity: a byte written beyond it is the sanitizer's. */
        uint8_t code[PAGE];
        ssize_t n = qmig_xbzrle_encode(before, after, PAGE, code, PAGE);
        g_assert_cmpint(n, >=, 0);
        g_autofree uint8_t *exact = g_malloc((size_t)n + 1);
        g_assert_cmpint(qmig_xbzrle_encode(before, after, PAGE, exact, (size_t)n), ==, n);
        g_assert_cmpmem(exact, (size_t)n, code, (size_t)n);
        if (n > 0) {
            g_assert_cmpint(qmig_xbzrle_encode(before, after, PAGE, exact, (size_t)n - 1),
                            ==, -1);
        }
        memcpy(page, before, PAGE);
        g_assert_true(qmig_xbzrle_decode(page, PAGE, code, (size_t)n));
        g_assert_cmpmem(page, PAGE, after, PAGE);
    }
}

static void
assert_refused(const char *code, size_t code_len, size_t len)
{
    uint8_t page[PAGE];

    memset(page, 0x55, sizeof page);
    g_assert_cmpint(qmig_xbzrle_check((const uint8_t *)code, code_len, len), ==, -1);
    g_assert_false(qmig_xbzrle_decode(page, len, (const uint8_t *)code, code_len));
    for (size_t i = 0; i < sizeof page; i++) {
        g_assert_cmpuint(page[i], ==, 0x55); /* not half-patched */
    }
}

static void
test_every_rule_is_checked(void)
{
    assert_refused("\x00", 1, PAGE);                     /* one byte left for a zrun */
    assert_refused("\x05\x01", 2, PAGE);                 /* one byte left for an nzrun */
    assert_refused("\x05\x00\x01", 3, PAGE);             /* nzrun of 0 */
    assert_refused("\x00\x01\xaa\x00\x01\xbb", 6, PAGE); /* zrun of 0, second pair */
    assert_refused("\x00\x01\xaa\x80\x00\x01\xbb", 7, PAGE); /* the same in two bytes */
    assert_refused("\x80\x80\x01\xaa", 4, PAGE);             /* a third length byte */
    assert_refused("\x01\x02\xaa", 3, PAGE);                 /* nzrun beyond the code */
    assert_refused("\x05\x01\xaa", 3, 5);        /* zrun up to the end, then 1 more */
    assert_refused("\x06\x01\xaa", 3, 5);        /* zrun beyond the page */
    assert_refused("\x04\x02\xaa\xbb", 4, 5);    /* nzrun beyond the page */
    assert_refused("\x01\x01\xaa\x01", 4, PAGE); /* something behind the last pair */
    /* and what touches the edge is fine */
    g_assert_cmpint(qmig_xbzrle_check((const uint8_t *)"\x04\x01\xaa", 3, 5), ==, 5);
    g_assert_cmpint(qmig_xbzrle_check((const uint8_t *)"\x81\x00\x01\xaa", 4, 5), ==, 2);
    g_assert_cmpint(qmig_xbzrle_check((const uint8_t *)"", 0, 5), ==, 0);
}

/* Decode into an allocation of exactly a page: leaving it is the sanitizer's to see. */
static bool
decode_boxed(const uint8_t *code, size_t n)
{
    g_autofree uint8_t *page = g_malloc0(PAGE);
    g_autofree uint8_t *box = g_memdup2(code, n + (n == 0));
    ssize_t reach = qmig_xbzrle_check(box, n, PAGE);

    g_assert_cmpint(reach, <=, PAGE);
    bool ok = qmig_xbzrle_decode(page, PAGE, box, n);
    g_assert_cmpint(ok, ==, reach >= 0);
    for (size_t i = reach >= 0 ? (size_t)reach : 0; i < PAGE; i++) {
        g_assert_cmpuint(page[i], ==, 0);
    }
    return ok;
}

static void
test_truncated_or_corrupt_code_stays_inside_the_page(void)
{
    uint8_t before[PAGE] = { 0 }, after[PAGE] = { 0 }, code[PAGE];
    unsigned refused = 0;

    touch(after, 12);
    memset(after + 4000, 1, 96); /* the last run ends with the page */
    size_t n = (size_t)qmig_xbzrle_encode(before, after, PAGE, code, sizeof code);
    for (size_t cut = 0; cut < n; cut++) {
        refused += !decode_boxed(code, cut);
    }
    g_assert_cmpuint(refused, >, n / 2);
    for (size_t i = 0; i < n; i++) {
        uint8_t good = code[i];

        for (unsigned flip = 1; flip < 256; flip += i % 7 == 0 ? 1 : 37) {
            code[i] = (uint8_t)(good ^ flip);
            decode_boxed(code, n);
        }
        code[i] = good;
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xbzrle/codes-are-those-of-qemu", test_codes_are_those_of_qemu);
    g_test_add_func("/xbzrle/whole-page-changed-needs-three-bytes-more",
                    test_whole_page_changed_needs_three_bytes_more);
    g_test_add_func("/xbzrle/page-longer-than-a-length-can-say-is-refused",
                    test_page_longer_than_a_length_can_say_is_refused);
    g_test_add_func("/xbzrle/round-trip", test_round_trip);
    g_test_add_func("/xbzrle/every-rule-is-checked", test_every_rule_is_checked);
    g_test_add_func("/xbzrle/truncated-or-corrupt-code-stays-inside-the-page",
                    test_truncated_or_corrupt_code_stays_inside_the_page);
    return g_test_run();
}
