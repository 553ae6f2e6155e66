/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams recorded from real QEMUs (tests/golden/): read to the last byte, written back bit for
 * bit at any split, and the same events as when they were recorded.
 * QMIG_TEST_REGENERATE=1 writes the .events files anew.
 */
#include "compress/xbzrle.h"
#include "stream/decoder.h"
#include "stream/dump.h"
#include "stream/encoder.h"
#include "tests/lib/golden.h"
#include "util/error.h"

#include <string.h>
#include <zlib.h>

enum { RANDOM_SPLITS = 40, TRUNCATIONS = 150, CORRUPTIONS = 400, PAGE = 4096 };

typedef struct {
    GString *text; /* the events, runs of like pages folded */
    GByteArray *again;
    GError *error;
    /* The run of pages of one kind in one block that is going on. */
    const struct qmig_block *block;
    unsigned kind, n_more;
    uLong sum; /* over offsets and payloads of all but the first */
} Reading;

static void
reading_clear(Reading *r)
{
    g_string_free(r->text, TRUE);
    g_byte_array_unref(r->again);
    g_clear_error(&r->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static void
end_run(Reading *r)
{
    if (r->n_more > 0) {
        g_string_append_printf(r->text, "and %u more like it, sum %08lx\n", r->n_more,
                               r->sum);
    }
    r->block = NULL;
    r->n_more = 0;
    r->sum = 1;
}

/* One line for each event, but one for all pages of a kind and block that follow each other. */
static void
write_event(Reading *r, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;

    if (ev->kind == QMIG_EVENT_PAGE && r->block == page->block && r->kind == page->kind) {
        r->sum = adler32(r->sum, (const Bytef *)&page->offset, sizeof page->offset);
        r->sum = adler32(r->sum, page->data, page->length);
        r->n_more++;
        return;
    }
    end_run(r);
    qmig_dump_event(r->text, ev);
    if (ev->kind == QMIG_EVENT_PAGE) {
        r->block = page->block;
        r->kind = page->kind;
    }
}

static void
flush(Reading *r, QmigEncoder *e)
{
    const struct iovec *iov;
    size_t bytes, n = qmig_encoder_pending(e, &iov, &bytes);

    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(r->again, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    qmig_encoder_clear(e);
}

/* Payloads that have a format of their own are well-formed, too. */
static void
check_payload(const struct qmig_event_page *page)
{
    uint8_t out[PAGE];
    uLongf len = sizeof out;

    memset(out, 0, sizeof out);
    if (page->kind == QMIG_PAGE_XBZRLE) {
        g_assert_true(qmig_xbzrle_decode(out, sizeof out, page->data, page->length));
    } else if (page->kind == QMIG_PAGE_ZLIB) {
        g_assert_cmpint(uncompress(out, &len, page->data, page->length), ==, Z_OK);
        g_assert_cmpuint(len, ==, PAGE);
    }
}

static bool
drain(Reading *r, QmigDecoder *d, QmigEncoder *e, bool strict)
{
    struct qmig_event ev;
    QmigDecodeResult result;

    while ((result = qmig_decoder_next(d, &ev, &r->error)) == QMIG_DECODE_EVENT) {
        if (ev.kind != QMIG_EVENT_BYTES) {
            write_event(r, &ev);
        }
        if (strict && ev.kind == QMIG_EVENT_PAGE) {
            check_payload(&ev.u.page);
        }
        if (qmig_encoder_is_full(e)) {
            flush(r, e);
        }
        g_assert_true(qmig_encoder_put(e, &ev, NULL));
    }
    flush(r, e);
    return result == QMIG_DECODE_NEED_MORE;
}

/* @max_step: pushes have 1 to so many bytes, at random; 0 = one push. */
static Reading
read_stream(const uint8_t *data, size_t len, size_t max_step, bool strict)
{
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    Reading r = { .text = g_string_new(NULL), .again = g_byte_array_new(), .sum = 1 };

    for (size_t at = 0; at < len;) {
        size_t n = max_step == 0 ? len
                                 : (size_t)g_test_rand_int_range(1, (gint32)max_step + 1);
        n = MIN(n, len - at);
        qmig_decoder_push(d, data + at, n);
        at += n;
        if (!drain(&r, d, e, strict)) {
            return r;
        }
    }
    qmig_decoder_eof(d);
    drain(&r, d, e, strict);
    return r;
}

static void
compare_events(const char *name, const Reading *r)
{
    g_autofree char *path = golden_path(name, ".events");
    g_autofree char *expected = NULL;
    g_autoptr(GError) error = NULL;

    if (g_getenv("QMIG_TEST_REGENERATE") != NULL) {
        g_file_set_contents(path, r->text->str, -1, &error);
        g_assert_no_error(error);
    }
    g_file_get_contents(path, &expected, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(r->text->str, ==, expected);
}

static void
test_whole(gconstpointer name)
{
    g_autoptr(GBytes) stream = golden_load(name);
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);
    g_auto(Reading) whole = read_stream(data, len, 0, true);

    g_assert_no_error(whole.error);
    g_assert_cmpmem(whole.again->data, whole.again->len, data, len);
    g_assert_true(g_str_has_suffix(whole.text->str, "end complete \"\"\n"));
    compare_events(name, &whole);
}

static void
test_splits(gconstpointer name)
{
    static const size_t steps[] = { 1, 7, 100, 5000, 70000 };
    g_autoptr(GBytes) stream = golden_load(name);
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);
    g_auto(Reading) whole = read_stream(data, len, 0, true);

    for (int i = 0; i < RANDOM_SPLITS; i++) {
        g_auto(Reading)
            r = read_stream(data, len, steps[(size_t)i % G_N_ELEMENTS(steps)], true);
        g_assert_no_error(r.error);
        g_assert_cmpstr(r.text->str, ==, whole.text->str);
        g_assert_cmpmem(r.again->data, r.again->len, data, len);
    }
}

static void
test_truncated(gconstpointer name)
{
    g_autoptr(GBytes) stream = golden_load(name);
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);

    for (int i = 0; i < TRUNCATIONS; i++) {
        /* Half of them in the last bytes, where the ends are. */
        gint32 first = i % 2 == 0 ? 0 : (gint32)len - 200;
        size_t cut = (size_t)g_test_rand_int_range(first, (gint32)len);
        g_auto(Reading) r = read_stream(data, cut, 0, false);
        g_assert_no_error(r.error);
        g_assert_nonnull(strstr(r.text->str, "end incomplete \""));
    }
}

static void
test_corrupted(gconstpointer name)
{
    g_autoptr(GBytes) stream = golden_load(name);
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);
    g_autofree uint8_t *copy = g_memdup2(data, len);

    for (int i = 0; i < CORRUPTIONS; i++) {
        size_t at = (size_t)g_test_rand_int_range(0, (gint32)len);
        copy[at] ^= (uint8_t)g_test_rand_int_range(1, 256);
        g_auto(Reading) r = read_stream(copy, len, 0, false);
        if (r.error != NULL) {
            g_assert_nonnull(strstr(r.error->message, "stream offset"));
        } else if (strstr(r.text->str, "end complete") != NULL) {
            g_assert_cmpmem(r.again->data, r.again->len, copy, len);
        }
        copy[at] = data[at];
    }
}

int
main(int argc, char **argv)
{
    static const char *const names[] = {
        "7.2-return-path", "7.2-q35-no-return-path",
        "7.2-compress",    "11.1-return-path",
        "11.1-xbzrle",     "11.1-multifd",
        "11.1-postcopy",   "11.1-ignore-shared",
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        static const struct {
            const char *claim;
            void (*test)(gconstpointer);
        } tests[] = {
            { "is-read-and-written-back-to-the-last-byte", test_whole },
            { "is-the-same-at-random-splits", test_splits },
            { "is-told-incomplete-when-truncated", test_truncated },
            { "is-an-error-or-reads-as-it-is-when-corrupted", test_corrupted },
        };
        for (size_t j = 0; j < G_N_ELEMENTS(tests); j++) {
            g_autofree char *path = g_strdup_printf("/golden/%s/%s", names[i],
                                                    tests[j].claim);
            g_test_add_data_func(path, names[i], tests[j].test);
        }
    }
    return g_test_run();
}
