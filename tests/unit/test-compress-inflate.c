/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Continuous streams: what goes in comes out piece by piece; anything else is refused. */
#include "compress/inflate.h"
#include "util/error.h"

#include <stdint.h>
#include <string.h>

enum { MAX_PIECE = 512 << 10 };

static const QmigContinuous kinds[] = { QMIG_CONTINUOUS_ZLIB, QMIG_CONTINUOUS_ZSTD };

/* Pages of three sorts: text-like, zero, random. */
static void
fill(uint8_t *out, size_t len, unsigned sort)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = sort % 3 == 0   ? (uint8_t)(i * i >> 7)
                 : sort % 3 == 1 ? 0
                                 : (uint8_t)g_test_rand_int();
    }
}

static void
test_round_trip(void)
{
    static const int levels[] = { 0, 1, 3, 9, 99 };
    g_autofree uint8_t *in = g_malloc(MAX_PIECE), *out = g_malloc(MAX_PIECE + 1);

    for (size_t i = 0; i < G_N_ELEMENTS(kinds) * G_N_ELEMENTS(levels); i++) {
        QmigContinuous kind = kinds[i % 2];
        g_autoptr(QmigDeflate) packer = qmig_deflate_new(kind, levels[i / 2]);
        g_autoptr(QmigInflate) unpacker = qmig_inflate_new(kind);
        size_t cap = qmig_deflate_bound(packer, MAX_PIECE);
        g_autofree uint8_t *code = g_malloc(cap);

        for (unsigned j = 0; j < 12; j++) {
            size_t len = j < 3 ? MAX_PIECE : 4096u * (size_t)g_test_rand_int_range(1, 20);
            fill(in, len, j);
            size_t n = qmig_deflate_piece(packer, in, len, code, cap);
            g_assert_cmpuint(n, <=, qmig_deflate_bound(packer, len));
            g_autoptr(GError) error = NULL;
            out[len] = 0x5a;
            g_assert_true(qmig_inflate_piece(unpacker, code, n, out, len, &error));
            g_assert_no_error(error);
            g_assert_cmpmem(in, len, out, len);
            g_assert_cmpuint(out[len], ==, 0x5a);
        }
    }
}

/* The streams do go on: a later piece repeats an earlier one in next to nothing. */
static void
test_is_continuous(void)
{
    uint8_t page[4096], again[4096];

    fill(page, sizeof page, 2);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(QmigDeflate) packer = qmig_deflate_new(kinds[i], 1);
        g_autoptr(QmigInflate) unpacker = qmig_inflate_new(kinds[i]);
        g_autoptr(QmigInflate) fresh = qmig_inflate_new(kinds[i]);
        g_autoptr(GError) error = NULL;
        uint8_t first[8192], second[8192];
        size_t n = qmig_deflate_piece(packer, page, sizeof page, first, sizeof first);
        size_t m = qmig_deflate_piece(packer, page, sizeof page, second, sizeof second);

        g_assert_cmpuint(m, <, 200);
        g_assert_true(qmig_inflate_piece(unpacker, first, n, again, sizeof again, NULL));
        g_assert_true(qmig_inflate_piece(unpacker, second, m, again, sizeof again, NULL));
        g_assert_cmpmem(again, sizeof again, page, sizeof page);
        g_assert_false(qmig_inflate_piece(fresh, second, m, again, sizeof again, &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    }
}

static void
expect_refused(QmigContinuous kind, const uint8_t *code, size_t n, size_t len,
               const char *text)
{
    g_autoptr(QmigInflate) s = qmig_inflate_new(kind);
    g_autofree uint8_t *out = g_malloc(len); /* exactly: ASan sees a byte too many */
    g_autoptr(GError) error = NULL, second = NULL;

    g_assert_false(qmig_inflate_piece(s, code, n, out, len, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    if (strstr(error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, error->message);
    }
    g_assert_false(qmig_inflate_piece(s, code, n, out, len, &second));
    g_assert_nonnull(strstr(second->message, "broken by an earlier piece"));
}

static void
test_wrong_lengths(void)
{
    uint8_t pages[8192], code[10000];

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        for (unsigned sort = 0; sort < 3; sort++) {
            g_autoptr(QmigDeflate) packer = qmig_deflate_new(kinds[i], 1);
            fill(pages, sizeof pages, sort);
            size_t n = qmig_deflate_piece(packer, pages, sizeof pages, code, sizeof code);

            expect_refused(kinds[i], code, n, 8191, "more than the pages announced");
            expect_refused(kinds[i], code, n, 1, "more than the pages announced");
            expect_refused(kinds[i], code, n, 8193, "less than the pages announced");
            expect_refused(kinds[i], code, 0, 4096, "less than the pages announced");
            expect_refused(kinds[i], code, n / 2, 8192, "");
        }
    }
}

/* Any changed byte, any beginning: refused, or other pages; never beyond the buffer. */
static void
test_corruption(void)
{
    uint8_t pages[8192], code[10000];

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(QmigDeflate) packer = qmig_deflate_new(kinds[i], 1);
        fill(pages, sizeof pages, 0);
        size_t n = qmig_deflate_piece(packer, pages, sizeof pages, code, sizeof code);

        for (size_t at = 0; at < n; at++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                g_autoptr(QmigInflate) s = qmig_inflate_new(kinds[i]);
                g_autofree uint8_t *out = g_malloc(sizeof pages);
                g_autoptr(GError) error = NULL;

                code[at] ^= (uint8_t)(1u << bit);
                bool ok = qmig_inflate_piece(s, code, n, out, sizeof pages, &error);
                g_assert_cmpint(ok, ==, error == NULL);
                code[at] ^= (uint8_t)(1u << bit);
            }
        }
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/inflate/what-went-in-comes-out-piece-by-piece", test_round_trip);
    g_test_add_func("/inflate/a-piece-builds-on-those-before-it", test_is_continuous);
    g_test_add_func("/inflate/wrong-lengths-are-refused", test_wrong_lengths);
    g_test_add_func("/inflate/corruption-stays-inside-the-buffer", test_corruption);
    return g_test_run();
}
