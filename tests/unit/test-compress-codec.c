/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The codec table: each test runs over every codec. */
#include "compress/codec.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

enum { PAGE = 4096 };

/* Compressible by about half: random bytes, then a repeated text. */
static void
mixed_page(uint8_t *page, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        page[i] = i < len / 2 ? (uint8_t)g_test_rand_int() : (uint8_t) "migrate "[i % 8];
    }
}

static void
assert_round_trip(const QmigCodec *codec, QmigCodecState *state, const uint8_t *src,
                  size_t len, int level)
{
    size_t bound = codec->bound(len);
    g_autofree uint8_t *code = g_malloc(bound);
    g_autofree uint8_t *back = g_malloc(len + 1);

    size_t n = codec->compress(state, level, code, bound, src, len);
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpuint(n, <=, bound);
    g_assert_true(codec->decompress(state, back, len, code, n));
    g_assert_cmpmem(back, len, src, len);
}

static void
test_round_trip(gconstpointer data)
{
    const QmigCodec *codec = data;
    QmigCodecState *state = qmig_codec_state_new();
    static const size_t lengths[] = { 1, 100, PAGE, 65536, QMIG_CODEC_INPUT_MAX };

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autofree uint8_t *page = g_malloc(lengths[i]);

        mixed_page(page, lengths[i]);
        /* Levels alternate: the reused context must follow; 0 and 99 are corrected. */
        assert_round_trip(codec, state, page, lengths[i], 0);
        assert_round_trip(codec, state, page, lengths[i], 3);
        assert_round_trip(codec, state, page, lengths[i], 1);
    }
    assert_round_trip(codec, state, (const uint8_t *)"abc", 3, 99);
    assert_round_trip(codec, state, (const uint8_t *)"abc", 3, -99);
    qmig_codec_state_free(state);
}

static void
test_output_that_does_not_fit_is_no_output(gconstpointer data)
{
    const QmigCodec *codec = data;
    QmigCodecState *state = qmig_codec_state_new();
    uint8_t page[PAGE];
    g_autofree uint8_t *code = g_malloc(PAGE);

    for (size_t i = 0; i < PAGE; i++) {
        page[i] = (uint8_t)g_test_rand_int();
    }
    g_assert_cmpuint(codec->compress(state, 1, code, PAGE, page, PAGE), ==, 0);
    g_autofree uint8_t *small = g_malloc(10);
    g_assert_cmpuint(codec->compress(state, 1, small, 10, page, PAGE), ==, 0);
    /* and the state is good for the next page */
    mixed_page(page, PAGE);
    assert_round_trip(codec, state, page, PAGE, 1);
    qmig_codec_state_free(state);
}

static void
test_input_beyond_the_limit_is_refused(gconstpointer data)
{
    const QmigCodec *codec = data;
    QmigCodecState *state = qmig_codec_state_new();
    size_t len = QMIG_CODEC_INPUT_MAX + 1;
    g_autofree uint8_t *page = g_malloc0(len);
    g_autofree uint8_t *code = g_malloc(len);

    g_assert_cmpuint(codec->bound(len), ==, 0);
    g_assert_cmpuint(codec->compress(state, 1, code, len, page, len), ==, 0);
    g_assert_false(codec->decompress(state, page, len, code, 10));
    qmig_codec_state_free(state);
}

static void
test_wrong_length_is_refused(gconstpointer data)
{
    const QmigCodec *codec = data;
    QmigCodecState *state = qmig_codec_state_new();
    uint8_t page[PAGE], back[PAGE + 1], code[2 * PAGE];

    mixed_page(page, PAGE);
    size_t n = codec->compress(state, 1, code, sizeof code, page, PAGE);
    g_assert_false(codec->decompress(state, back, PAGE - 1, code, n));
    g_assert_false(codec->decompress(state, back, PAGE + 1, code, n));
    g_assert_false(codec->decompress(state, back, 0, code, n));
    g_assert_false(codec->decompress(state, back, PAGE, code, 0));
    code[n] = 0xaa; /* something behind the code */
    g_assert_false(codec->decompress(state, back, PAGE, code, n + 1));
    qmig_codec_state_free(state);
}

static void
test_truncated_or_corrupt_code_is_contained(gconstpointer data)
{
    const QmigCodec *codec = data;
    QmigCodecState *state = qmig_codec_state_new();
    uint8_t page[PAGE], code[2 * PAGE];
    g_autofree uint8_t *back = g_malloc(PAGE); /* exact: overruns are the sanitizer's */

    mixed_page(page, PAGE);
    size_t n = codec->compress(state, 1, code, sizeof code, page, PAGE);
    for (size_t cut = 0; cut < n; cut++) {
        g_autofree uint8_t *box = g_memdup2(code, cut + 1);

        g_assert_false(codec->decompress(state, back, PAGE, box, cut));
    }
    for (size_t i = 0; i < n; i++) {
        g_autofree uint8_t *box = g_memdup2(code, n);

        box[i] ^= (uint8_t)g_test_rand_int_range(1, 256);
        if (codec->decompress(state, back, PAGE, box, n)) {
            continue; /* lz4 and zstd carry no checksum: a wrong literal is a valid code */
        }
        /* and the state is good for the next page */
        g_assert_true(codec->decompress(state, back, PAGE, code, n));
        g_assert_cmpmem(back, PAGE, page, PAGE);
    }
    qmig_codec_state_free(state);
}

static void
test_names(void)
{
    g_assert_cmpstr(qmig_codec_find("zstd")->name, ==, "zstd");
    g_assert_null(qmig_codec_find("zst"));
    g_assert_null(qmig_codec_find(""));
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc run;
    } tests[] = {
        { "round-trip", test_round_trip },
        { "output-that-does-not-fit-is-no-output",
          test_output_that_does_not_fit_is_no_output },
        { "input-beyond-the-limit-is-refused", test_input_beyond_the_limit_is_refused },
        { "wrong-length-is-refused", test_wrong_length_is_refused },
        { "truncated-or-corrupt-code-is-contained",
          test_truncated_or_corrupt_code_is_contained },
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec/names", test_names);
    for (const QmigCodec *c = qmig_codec_table(); c->name != NULL; c++) {
        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
            g_autofree char *path = g_strdup_printf("/codec/%s/%s", c->name,
                                                    tests[i].name);

            g_test_add_data_func(path, c, tests[i].run);
        }
    }
    return g_test_run();
}
