/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The return path: what is read is written back, at any split. */
#include "stream/return-path.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/memory.h"
#include "tests/lib/split.h"
#include "util/error.h"

#include <string.h>

enum { MEMORY = 64 << 10 };

typedef struct {
    GArray *messages; /* QmigRpMessage; pieces of bitmaps left out */
    GByteArray *again;
    GError *error;
} Reading;

static void
reading_clear(Reading *r)
{
    g_array_unref(r->messages);
    g_byte_array_unref(r->again);
    g_clear_error(&r->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static void
take(Reading *r, QmigRpMessage *msg)
{
    size_t cap = QMIG_RP_WRITE_MAX + msg->bitmap_length;
    g_autofree uint8_t *buf = g_malloc(cap);
    QmigWriter w = qmig_writer(buf, cap);

    g_assert_true(qmig_rp_write(&w, msg, NULL));
    g_assert_cmpuint(msg->stream_offset, ==, r->again->len);
    g_assert_cmpuint(msg->wire_size, ==, w.len);
    g_byte_array_append(r->again, buf, (guint)w.len);
    if (msg->type != QMIG_RP_BITMAP) {
        g_assert_null(msg->bitmap);
        g_array_append_vals(r->messages, msg, 1);
    }
}

static Reading
read_all(const uint8_t *data, size_t size, bool split)
{
    g_autoptr(QmigRpDecoder) d = qmig_rp_decoder_new();
    Reading r = { g_array_new(FALSE, FALSE, sizeof(QmigRpMessage)), g_byte_array_new(),
                  NULL };
    QmigDecodeResult result = QMIG_DECODE_NEED_MORE;
    Split pieces = split_new(data, size, split);
    g_autofree uint8_t *piece = NULL;
    size_t at, n;

    while (result == QMIG_DECODE_NEED_MORE && split_next(&pieces, &at, &n)) {
        QmigRpMessage msg;
        uint8_t *next = g_memdup2(data + at, n);

        qmig_rp_decoder_push(d, next, n);
        g_free(piece);
        piece = next;
        memset(&msg, 0, sizeof msg);
        while ((result = qmig_rp_decoder_next(d, &msg, &r.error)) == QMIG_DECODE_EVENT) {
            take(&r, &msg);
            memset(&msg, 0, sizeof msg);
        }
    }
    g_assert_cmpint(result == QMIG_DECODE_FAILED, ==, r.error != NULL);
    g_assert_cmpuint(qmig_rp_decoder_offset(d), ==, r.again->len);
    if (r.error == NULL && qmig_rp_decoder_is_between(d)) {
        g_assert_cmpuint(r.again->len, ==, size);
    }
    g_assert_cmpmem(r.again->data, r.again->len, data, r.again->len);
    return r;
}

static void
check_memory(const uint8_t *data, size_t size)
{
    QmigRpMessage msg;

    memory_start();
    g_autoptr(QmigRpDecoder) d = qmig_rp_decoder_new();
    qmig_rp_decoder_push(d, data, size);
    while (qmig_rp_decoder_next(d, &msg, NULL) == QMIG_DECODE_EVENT) {
    }
    g_assert_cmpuint(memory_peak(), <=, MEMORY);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_auto(Reading) whole = read_all(data, size, false);
    g_auto(Reading) pieces = read_all(data, size, true);

    g_assert_cmpuint(whole.messages->len, ==, pieces.messages->len);
    for (guint i = 0; i < whole.messages->len; i++) {
        const QmigRpMessage *a = &g_array_index(whole.messages, QmigRpMessage, i);
        const QmigRpMessage *b = &g_array_index(pieces.messages, QmigRpMessage, i);
        g_assert_true(
            a->type == b->type && a->value == b->value && a->offset == b->offset &&
            a->length == b->length && strcmp(a->block, b->block) == 0 &&
            a->bitmap_size == b->bitmap_size && a->stream_offset == b->stream_offset);
    }
    if (whole.error != NULL) {
        g_assert_cmpstr(whole.error->message, ==, pieces.error->message);
        g_assert_nonnull(strstr(whole.error->message, "offset"));
    }
    g_assert_cmpuint(whole.again->len, ==, pieces.again->len);
    check_memory(data, size);
    return 0;
}
