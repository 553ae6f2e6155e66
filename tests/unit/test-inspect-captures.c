/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Connections recorded from real QEMUs (tests/golden/captures/): multifd channels and return
 * paths are read to the last byte and written back bit for bit at any split, compressed pages
 * are unpacked and are those that the recorder had put into the guest's memory, and the SYNC
 * packets fit the main channel. QMIG_TEST_REGENERATE=1 writes the .events files anew.
 */
#include "inspect/multifd-pages.h"
#include "stream/dump.h"
#include "stream/encoder.h"
#include "stream/multifd.h"
#include "stream/return-path.h"
#include "tests/lib/golden.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

enum {
    RANDOM_SPLITS = 25,
    TRUNCATIONS = 60,
    CORRUPTIONS = 300,
    PAGE = 4096,
    /* The pages of the guest that hold the recorder's pattern. */
    PATTERN = 256,
    N_PATTERN = 256,
};

static const size_t STEPS[] = { 1, 7, 100, 5000, 70000, 700000 };

static GBytes *
load(const char *name)
{
    g_autofree char *capture = g_strconcat("captures/", name, NULL);

    return golden_load(capture);
}

static void
compare_events(const char *name, const char *text)
{
    g_autofree char *capture = g_strconcat("captures/", name, NULL);
    g_autofree char *path = golden_path(capture, ".events");
    g_autofree char *expected = NULL;
    g_autoptr(GError) error = NULL;

    if (g_getenv("QMIG_TEST_REGENERATE") != NULL) {
        g_file_set_contents(path, text, -1, &error);
        g_assert_no_error(error);
    }
    g_file_get_contents(path, &expected, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text, ==, expected);
}

typedef struct {
    GString *text;
    GByteArray *again;
    GError *error;
    unsigned n_sync;
    bool
        *seen; /* (nullable) N_PATTERN: which pattern pages came; the pages are checked */
} Reading;

static void
reading_clear(Reading *r)
{
    g_string_free(r->text, TRUE);
    g_byte_array_unref(r->again);
    g_clear_error(&r->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static Reading
reading_new(bool *seen)
{
    return (
        Reading){ .text = g_string_new(NULL), .again = g_byte_array_new(), .seen = seen };
}

static size_t
pick_step(size_t max_step, size_t left)
{
    /* Not inside MIN(), which asks twice. */
    size_t n = max_step == 0 ? left
                             : (size_t)g_test_rand_int_range(1, (gint32)max_step + 1);

    return MIN(n, left);
}

/* ---- multifd ---------------------------------------------------------------------------- */

/* As pattern_page() of tests/golden/record.py. */
static void
pattern_page(uint32_t number, uint8_t out[PAGE])
{
    uint32_t state = number;

    for (unsigned at = 0; at < PAGE; at++) {
        state = state * 1103515245u + 12345u;
        out[at] = number % 64 == 0 ? (uint8_t)(state >> 24) : (uint8_t)(number + at / 64);
    }
}

static bool
is_pattern(const struct qmig_multifd_packet *p, uint32_t i)
{
    uint64_t number = p->offsets[i] / PAGE;

    return strcmp(p->block, "mem") == 0 && number >= PATTERN &&
           number < PATTERN + N_PATTERN;
}

static void
check_pages(Reading *r, const struct qmig_multifd_packet *p, const uint8_t *pages)
{
    uint8_t want[PAGE];

    for (uint32_t i = 0; i < p->normal_pages; i++) {
        if (is_pattern(p, i)) {
            pattern_page((uint32_t)(p->offsets[i] / PAGE), want);
            g_assert_cmpmem(pages + (size_t)i * PAGE, PAGE, want, PAGE);
            r->seen[p->offsets[i] / PAGE - PATTERN] = true;
        }
    }
    for (uint32_t i = p->normal_pages; i < p->normal_pages + p->zero_pages; i++) {
        g_assert_false(is_pattern(p, i));
    }
}

static bool
take_packet(Reading *r, QmigMultifdPages *pages, const struct qmig_multifd_packet *p)
{
    const uint8_t *data;

    r->n_sync += (p->flags & QMIG_MULTIFD_SYNC) != 0;
    if (!qmig_multifd_pages_take(pages, p, &data, &r->error)) {
        return false;
    }
    if (r->seen != NULL) {
        check_pages(r, p, data);
    }
    return true;
}

static bool
drain(Reading *r, QmigMultifdDecoder *d, QmigEncoder *e, QmigMultifdPages *pages)
{
    QmigDecodeResult result;
    const struct iovec *iov;
    struct qmig_event ev;
    size_t bytes, n;

    while ((result = qmig_multifd_decoder_next(d, &ev, &r->error)) == QMIG_DECODE_EVENT) {
        qmig_dump_event(r->text, &ev);
        g_assert_true(qmig_encoder_put(e, &ev, NULL));
        n = qmig_encoder_pending(e, &iov, &bytes);
        for (size_t i = 0; i < n; i++) {
            g_byte_array_append(r->again, iov[i].iov_base, (guint)iov[i].iov_len);
        }
        qmig_encoder_clear(e);
        if (ev.kind == QMIG_EVENT_MULTIFD_PACKET &&
            !take_packet(r, pages, ev.u.multifd_packet.packet)) {
            return false;
        }
    }
    return result == QMIG_DECODE_NEED_MORE;
}

/* @max_step: pushes have 1 to so many bytes, at random; 0 = one push. */
static Reading
read_channel(const uint8_t *data, size_t len, size_t max_step, bool *seen)
{
    g_autoptr(QmigMultifdDecoder) d = qmig_multifd_decoder_new();
    g_autoptr(QmigMultifdPages) pages = qmig_multifd_pages_new();
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    Reading r = reading_new(seen);

    for (size_t at = 0, n; at < len; at += n) {
        n = pick_step(max_step, len - at);
        qmig_multifd_decoder_push(d, data + at, n);
        if (!drain(&r, d, e, pages)) {
            return r;
        }
    }
    qmig_multifd_decoder_eof(d);
    drain(&r, d, e, pages);
    return r;
}

/* Round ends of the main channel: how many SYNC packets each multifd channel must have. */
static unsigned
count_syncs(const char *capture)
{
    g_autofree char *name = g_strconcat(capture, "/0-main.forward", NULL);
    g_autoptr(GBytes) stream = load(name);
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    g_autoptr(GError) error = NULL;
    unsigned n_eos = 0, n_flush = 0;
    struct qmig_event ev;
    gsize len;
    const void *data = g_bytes_get_data(stream, &len);

    qmig_decoder_push(d, data, len);
    qmig_decoder_eof(d);
    while (qmig_decoder_next(d, &ev, &error) == QMIG_DECODE_EVENT) {
        n_eos += ev.kind == QMIG_EVENT_RAM_EOS;
        n_flush += ev.kind == QMIG_EVENT_RAM_FLUSH;
    }
    g_assert_no_error(error);
    return n_flush > 0 ? n_flush : n_eos;
}

static void
test_multifd(gconstpointer capture)
{
    unsigned n_syncs = count_syncs(capture);
    bool seen[N_PATTERN] = { false };

    for (int channel = 1; channel <= 2; channel++) {
        g_autofree char *name = g_strdup_printf("%s/%d-multifd.forward",
                                                (const char *)capture, channel);
        g_autoptr(GBytes) stream = load(name);
        gsize len;
        const uint8_t *data = g_bytes_get_data(stream, &len);
        g_auto(Reading) whole = read_channel(data, len, 0, seen);

        g_assert_no_error(whole.error);
        g_assert_cmpmem(whole.again->data, whole.again->len, data, len);
        g_assert_true(g_str_has_suffix(whole.text->str, "end complete \"\"\n"));
        g_assert_cmpuint(whole.n_sync, ==, n_syncs);
        compare_events(name, whole.text->str);
        for (size_t i = 0; i < RANDOM_SPLITS; i++) {
            g_auto(Reading)
                r = read_channel(data, len, STEPS[i % G_N_ELEMENTS(STEPS)], seen);
            g_assert_no_error(r.error);
            g_assert_cmpstr(r.text->str, ==, whole.text->str);
            g_assert_cmpmem(r.again->data, r.again->len, data, len);
        }
    }
    for (int i = 0; i < N_PATTERN; i++) {
        g_assert_true(seen[i]);
    }
}

static void
test_multifd_truncated(gconstpointer capture)
{
    g_autofree char *name = g_strconcat(capture, "/1-multifd.forward", NULL);
    g_autoptr(GBytes) stream = load(name);
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);

    for (int i = 0; i < TRUNCATIONS; i++) {
        size_t cut = (size_t)g_test_rand_int_range(0, (gint32)len);
        g_auto(Reading) r = read_channel(data, cut, 0, NULL);
        g_assert_no_error(r.error);
        g_assert_cmpint(strstr(r.text->str, "end complete") != NULL, ==,
                        r.again->len == cut && cut >= 64);
    }
}

static void
test_multifd_corrupted(gconstpointer capture)
{
    g_autofree char *name = g_strconcat(capture, "/1-multifd.forward", NULL);
    g_autoptr(GBytes) stream = load(name);
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);
    g_autofree uint8_t *copy = g_memdup2(data, len);

    for (int i = 0; i < CORRUPTIONS; i++) {
        size_t at = (size_t)g_test_rand_int_range(0, (gint32)len);
        copy[at] ^= (uint8_t)g_test_rand_int_range(1, 256);
        g_auto(Reading) r = read_channel(copy, len, 0, NULL);
        g_assert_cmpmem(r.again->data, r.again->len, copy, r.again->len);
        if (r.error == NULL && strstr(r.text->str, "end complete") != NULL) {
            g_assert_cmpuint(r.again->len, ==, len);
        }
        copy[at] = data[at];
    }
}

/* ---- return paths ----------------------------------------------------------------------- */

static void
take_message(Reading *r, const QmigRpMessage *m)
{
    uint8_t out[4096];
    QmigWriter w = qmig_writer(out, sizeof out);

    g_assert_cmpuint(m->stream_offset, ==, r->again->len);
    g_assert_true(qmig_rp_write(&w, m, NULL));
    g_byte_array_append(r->again, out, (guint)w.len);
    if (m->type != QMIG_RP_BITMAP) { /* comes in pieces */
        g_string_append_printf(r->text,
                               "%" PRIu64 " type %x value %u \"%s\" 0x%" PRIx64
                               " %u bitmap %" PRIu64 "\n",
                               m->stream_offset, (unsigned)m->type, m->value, m->block,
                               m->offset, m->length, m->bitmap_size);
    }
}

static Reading
read_return_path(const uint8_t *data, size_t len, size_t max_step)
{
    g_autoptr(QmigRpDecoder) d = qmig_rp_decoder_new();
    Reading r = reading_new(NULL);
    QmigRpMessage m;

    for (size_t at = 0, n; at < len; at += n) {
        n = pick_step(max_step, len - at);
        qmig_rp_decoder_push(d, data + at, n);
        while (qmig_rp_decoder_next(d, &m, &r.error) == QMIG_DECODE_EVENT) {
            take_message(&r, &m);
        }
        g_assert_no_error(r.error);
    }
    g_assert_true(qmig_rp_decoder_is_between(d));
    return r;
}

static void
test_return_path(gconstpointer name)
{
    g_autoptr(GBytes) stream = load(name);
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);
    g_auto(Reading) whole = read_return_path(data, len, 0);

    g_assert_cmpmem(whole.again->data, whole.again->len, data, len);
    compare_events(name, whole.text->str);
    for (size_t i = 0; i < RANDOM_SPLITS; i++) {
        g_auto(Reading) r = read_return_path(data, len, STEPS[i % G_N_ELEMENTS(STEPS)]);
        g_assert_cmpstr(r.text->str, ==, whole.text->str);
        g_assert_cmpmem(r.again->data, r.again->len, data, len);
    }
}

static void
add(const char *what, const char *claim, void (*test)(gconstpointer))
{
    g_autofree char *path = g_strdup_printf("/captures/%s/%s", what, claim);

    g_test_add_data_func(path, what, test);
}

int
main(int argc, char **argv)
{
    static const char *const multifd[] = {
        "7.2-multifd-none",    "7.2-multifd-zlib",  "7.2-multifd-zstd",
        "10.0-multifd-none",   "10.0-multifd-zlib", "10.0-multifd-zstd",
        "11.1-multifd-none",   "11.1-multifd-zlib", "11.1-multifd-zstd",
        "11.1-multifd-legacy",
    };
    static const char *const return_paths[] = {
        "7.2-multifd-zlib/0-main.reverse",    "11.1-multifd-zlib/0-main.reverse",
        "11.1-switchover-ack/0-main.reverse", "7.2-recovery/0-main.reverse",
        "7.2-recovery/1-recovery.reverse",    "11.1-recovery/0-main.reverse",
        "11.1-recovery/1-recovery.reverse",   "7.2-colo/0-main.reverse",
        "11.1-colo/0-main.reverse",
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(multifd); i++) {
        add(multifd[i], "all-channels-are-read-written-back-and-unpacked", test_multifd);
        add(multifd[i], "a-truncated-channel-is-told", test_multifd_truncated);
        add(multifd[i], "corruption-is-an-error-or-reads-as-it-is",
            test_multifd_corrupted);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(return_paths); i++) {
        add(return_paths[i], "is-read-and-written-back-at-random-splits",
            test_return_path);
    }
    return g_test_run();
}
