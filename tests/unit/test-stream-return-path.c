/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Return-path messages at every split, and what is refused. */
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

static GByteArray *
all_messages(void)
{
    GByteArray *s = g_byte_array_new();

    put_message(s, QMIG_RP_PONG, 4);
    put_be32(s, 1);
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
    put_message(s, QMIG_RP_RESUME_ACK, 4);
    put_be32(s, 1);
    put_message(s, QMIG_RP_SHUT, 4);
    put_be32(s, 0);
    return s;
}

static char *
read_messages(const uint8_t *data, size_t len, size_t step, GError **error)
{
    g_autoptr(QmigRpDecoder) d = qmig_rp_decoder_new();
    GString *text = g_string_new(NULL);
    QmigDecodeResult result = QMIG_DECODE_NEED_MORE;
    QmigRpMessage m;

    for (size_t at = 0; at < len && result == QMIG_DECODE_NEED_MORE; at += step) {
        qmig_rp_decoder_push(d, data + at, MIN(step, len - at));
        while ((result = qmig_rp_decoder_next(d, &m, error)) == QMIG_DECODE_EVENT) {
            g_string_append_printf(text, "%d %u 0x%" PRIx64 " %u \"%s\" %" PRIu64 "\n",
                                   m.type, m.value, m.offset, m.length, m.block,
                                   m.bitmap_size);
        }
    }
    return g_string_free(text, FALSE);
}

static void
test_splits(void)
{
    g_autoptr(GByteArray) s = all_messages();

    for (size_t step = 1; step <= s->len; step++) {
        g_autofree char *text = read_messages(s->data, s->len, step, NULL);
        g_assert_cmpstr(text, ==,
                        "2 1 0x0 0 \"\" 0\n"
                        "7 0 0x0 0 \"\" 0\n"
                        "3 0 0x5000 4096 \"pc.ram\" 0\n"
                        "4 0 0x7000 8192 \"\" 0\n"
                        "5 0 0x0 0 \"pc.ram\" 1000\n"
                        "6 1 0x0 0 \"\" 0\n"
                        "1 0 0x0 0 \"\" 0\n");
    }
}

static void
expect_error(GByteArray *s, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = read_messages(s->data, s->len, 1, &error);

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, text));
    g_byte_array_unref(s);
}

static void
test_bad(void)
{
    GByteArray *s = g_byte_array_new();
    put_message(s, 99, 0);
    expect_error(s, "type 99");

    s = g_byte_array_new();
    put_message(s, QMIG_RP_SHUT, 8);
    expect_error(s, "type 1 with 8 bytes");

    s = g_byte_array_new();
    put_message(s, QMIG_RP_REQ_PAGES_ID, 14);
    put_pattern(s, 12, 0);
    put_u8(s, 9); /* a name longer than the message */
    put_u8(s, 'x');
    expect_error(s, "malformed");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/return-path/reads-the-same-at-every-split", test_splits);
    g_test_add_func("/return-path/unknown-types-and-lengths-are-rejected", test_bad);
    return g_test_run();
}
