/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Return-path messages at every split, both ways, and what is refused. */
#include "stream/return-path.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

static void
put_message(GByteArray *out, uint16_t type, uint16_t len)
{
    put_be16(out, type);
    put_be16(out, len);
}

static void
put_value(GByteArray *out, uint16_t type, uint32_t value)
{
    put_message(out, type, 4);
    put_be32(out, value);
}

static GByteArray *
all_messages(void)
{
    GByteArray *s = g_byte_array_new();

    put_value(s, QMIG_RP_PONG, 1);
    put_message(s, QMIG_RP_SWITCHOVER_ACK, 0);
    put_message(s, QMIG_RP_REQ_PAGES_ID, 12 + 7);
    put_be64(s, 0x5000);
    put_be32(s, 4096);
    put_cstr(s, "pc.ram");
    put_message(s, QMIG_RP_REQ_PAGES, 12);
    put_be64(s, 0x7000);
    put_be32(s, 8192);
    put_message(s, QMIG_RP_RECV_BITMAP, 7);
    put_cstr(s, "pc.ram");
    put_be64(s, 1000);
    put_pattern(s, 1000, 1);
    put_be64(s, UINT64_C(0x0123456789abcdef));
    put_message(s, QMIG_RP_RECV_BITMAP, 1); /* nothing to tell, of a block without name */
    put_cstr(s, "");
    put_be64(s, 0);
    put_be64(s, UINT64_C(0x0123456789abcdef));
    put_value(s, QMIG_RP_RESUME_ACK, 1);
    put_value(s, QMIG_RP_SHUT, 0);
    return s;
}

/* With return path (11.1), else from the first byte: two checkpoints. */
static GByteArray *
colo_messages(bool has_return_path)
{
    static const uint32_t messages[] = { 0, 2, 5, 6, 2, 5, 6 };
    GByteArray *s = g_byte_array_new();

    if (has_return_path) {
        put_value(s, QMIG_RP_PONG, 1);
        put_value(s, QMIG_RP_SHUT, 0);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(messages); i++) {
        put_be32(s, messages[i]);
    }
    return s;
}

typedef struct {
    GString *text;
    GByteArray *again;
    GError *error;
    bool is_between; /* messages, at the end */
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
take(Reading *r, const QmigRpMessage *m)
{
    uint8_t out[2000];
    QmigWriter w = qmig_writer(out, sizeof out);

    g_assert_cmpuint(m->stream_offset, ==, r->again->len);
    g_assert_true(qmig_rp_write(&w, m, NULL));
    g_assert_cmpuint(w.len, ==, m->wire_size);
    g_byte_array_append(r->again, out, (guint)w.len);
    if (m->type != QMIG_RP_BITMAP) {
        g_string_append_printf(r->text, "%x %u 0x%" PRIx64 " %u \"%s\" %" PRIu64 "\n",
                               (unsigned)m->type, m->value, m->offset, m->length,
                               m->block, m->bitmap_size);
    }
}

static Reading
read_messages(const uint8_t *data, size_t len, size_t step)
{
    g_autoptr(QmigRpDecoder) d = qmig_rp_decoder_new();
    Reading r = { .text = g_string_new(NULL), .again = g_byte_array_new() };
    QmigDecodeResult result = QMIG_DECODE_NEED_MORE;
    g_autofree uint8_t *piece = NULL;
    QmigRpMessage m;

    for (size_t at = 0; at < len && result == QMIG_DECODE_NEED_MORE; at += step) {
        size_t n = MIN(step, len - at);
        g_free(piece);
        piece = g_memdup2(data + at, n);
        qmig_rp_decoder_push(d, piece, n);
        while ((result = qmig_rp_decoder_next(d, &m, &r.error)) == QMIG_DECODE_EVENT) {
            take(&r, &m);
        }
    }
    g_assert_cmpint(result == QMIG_DECODE_FAILED, ==, r.error != NULL);
    g_assert_cmpuint(qmig_rp_decoder_offset(d), ==, r.again->len);
    r.is_between = qmig_rp_decoder_is_between(d);
    return r;
}

static void
check_splits(GByteArray *s, const char *text)
{
    for (size_t step = 1; step <= s->len; step++) {
        g_auto(Reading) r = read_messages(s->data, s->len, step);
        g_assert_no_error(r.error);
        g_assert_cmpstr(r.text->str, ==, text);
        g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
        g_assert_true(r.is_between);
    }
}

static void
test_splits(void)
{
    g_autoptr(GByteArray) s = all_messages();

    check_splits(s, "2 1 0x0 0 \"\" 0\n"
                    "7 0 0x0 0 \"\" 0\n"
                    "3 0 0x5000 4096 \"pc.ram\" 0\n"
                    "4 0 0x7000 8192 \"\" 0\n"
                    "5 0 0x0 0 \"pc.ram\" 1000\n"
                    "10001 0 0x0 0 \"\" 0\n"
                    "5 0 0x0 0 \"\" 0\n"
                    "10001 0 0x0 0 \"\" 0\n"
                    "6 1 0x0 0 \"\" 0\n"
                    "1 0 0x0 0 \"\" 0\n");
}

#define COLO(n) "10002 " #n " 0x0 0 \"\" 0\n"

static void
test_colo(void)
{
    static const char checkpoints[] = COLO(0) COLO(2) COLO(5) COLO(6) COLO(2) COLO(5)
        COLO(6);
    g_autoptr(GByteArray) bare = colo_messages(false);
    g_autoptr(GByteArray) with = colo_messages(true);
    g_autofree char *text = g_strconcat("2 1 0x0 0 \"\" 0\n1 0 0x0 0 \"\" 0\n",
                                        checkpoints, NULL);

    check_splits(bare, checkpoints);
    check_splits(with, text);
}

static void
test_truncation(void)
{
    GByteArray *const samples[] = { all_messages(), colo_messages(true) };

    for (size_t i = 0; i < G_N_ELEMENTS(samples); i++) {
        for (size_t len = 0; len < samples[i]->len; len++) {
            g_auto(Reading) r = read_messages(samples[i]->data, len, len + 1);
            g_assert_no_error(r.error);
            g_assert_cmpmem(r.again->data, r.again->len, samples[i]->data, r.again->len);
            if (r.again->len < len) {
                g_assert_false(r.is_between);
            }
        }
        g_byte_array_unref(samples[i]);
    }
}

static void
test_corruption(void)
{
    GByteArray *const samples[] = { all_messages(), colo_messages(true),
                                    colo_messages(false) };

    for (size_t i = 0; i < G_N_ELEMENTS(samples); i++) {
        GByteArray *s = samples[i];
        for (size_t at = 0; at < s->len; at++) {
            for (unsigned flip = 1; flip < 256; flip += 3) {
                s->data[at] ^= (uint8_t)flip;
                g_auto(Reading) r = read_messages(s->data, s->len, s->len);
                g_assert_cmpmem(r.again->data, r.again->len, s->data, r.again->len);
                if (r.error != NULL) {
                    g_assert_nonnull(strstr(r.error->message, "stream offset"));
                } else if (r.is_between) {
                    g_assert_cmpuint(r.again->len, ==, s->len);
                }
                s->data[at] ^= (uint8_t)flip;
            }
        }
        g_byte_array_unref(s);
    }
}

static void
expect_error(GByteArray *s, const char *text)
{
    g_auto(Reading) bytes = read_messages(s->data, s->len, 1);
    g_auto(Reading) whole = read_messages(s->data, s->len, s->len);

    g_assert_nonnull(bytes.error);
    if (strstr(bytes.error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, bytes.error->message);
    }
    g_assert_cmpstr(bytes.error->message, ==, whole.error->message);
    g_byte_array_unref(s);
}

static void
test_bad(void)
{
    GByteArray *s = g_byte_array_new();
    put_message(s, 99, 0);
    expect_error(s, "type 99 with 0 bytes is not known (stream offset 0)");

    s = g_byte_array_new();
    put_message(s, QMIG_RP_SHUT, 8);
    expect_error(s, "type 1 with 8 bytes");

    s = g_byte_array_new();
    put_message(s, QMIG_RP_REQ_PAGES_ID, 14);
    put_pattern(s, 12, 0);
    put_u8(s, 9); /* a name longer than the message */
    put_u8(s, 'x');
    expect_error(s, "malformed");

    s = colo_messages(true);
    put_be32(s, 3);
    expect_error(s, "COLO message 3 is none of a destination (stream offset 44)");

    s = all_messages(); /* pages were asked for: no COLO */
    put_be32(s, 0);
    expect_error(s, "type 0 with 0 bytes");
}

static void
test_bad_bitmaps(void)
{
    GByteArray *s = g_byte_array_new();
    put_message(s, QMIG_RP_RECV_BITMAP, 4);
    put_cstr(s, "ram");
    put_be64(s, 8);
    put_be64(s, 0);
    put_be64(s, 0x0123);
    expect_error(s, "block \"ram\": end mark 0x0000000000000123 behind the bitmap");

    s = g_byte_array_new();
    put_message(s, QMIG_RP_RECV_BITMAP, 4);
    put_cstr(s, "ram");
    put_be64(s, 9);
    expect_error(s, "block \"ram\": bitmap of 9 bytes, wanted a multiple of 8");

    s = g_byte_array_new();
    put_message(s, QMIG_RP_RECV_BITMAP, 4);
    put_cstr(s, "ram");
    put_be64(s, UINT64_C(1) << 33);
    expect_error(s, "block \"ram\": bitmap of 8589934592 bytes, limit 2^32");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/return-path/reads-and-writes-the-same-at-every-split", test_splits);
    g_test_add_func("/return-path/colo-changes-the-framing", test_colo);
    g_test_add_func("/return-path/a-truncated-message-is-told", test_truncation);
    g_test_add_func("/return-path/every-corruption-is-an-error-or-reads-as-it-is",
                    test_corruption);
    g_test_add_func("/return-path/unknown-types-and-lengths-are-rejected", test_bad);
    g_test_add_func("/return-path/bad-bitmaps-are-rejected", test_bad_bitmaps);
    return g_test_run();
}
