/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Multifd channels made by hand: every packet kind at every split, truncated, corrupted. */
#include "stream/bounds.h"
#include "stream/dump.h"
#include "stream/encoder.h"
#include "stream/multifd.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"

#include <string.h>

enum { BIG = 65536, TABLE = 524288 / BIG }; /* large pages keep a packet's head small */

typedef struct {
    GString *text;
    GByteArray *again;
    GError *error;
    unsigned in_place; /* payloads that lay in what was pushed last */
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
encode(Reading *r, QmigEncoder *e, const struct qmig_event *ev)
{
    const struct iovec *iov;
    size_t bytes, n;

    g_assert_true(qmig_encoder_put(e, ev, NULL));
    n = qmig_encoder_pending(e, &iov, &bytes);
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(r->again, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    qmig_encoder_clear(e);
}

static QmigDecodeResult
drain(Reading *r, QmigMultifdDecoder *d, QmigEncoder *e, const uint8_t *piece, size_t n)
{
    struct qmig_event ev;
    QmigDecodeResult result;

    while ((result = qmig_multifd_decoder_next(d, &ev, &r->error)) == QMIG_DECODE_EVENT) {
        g_assert_cmpuint(ev.size, ==, sizeof ev);
        if (ev.kind != QMIG_EVENT_BYTES) {
            qmig_dump_event(r->text, &ev);
        }
        if (ev.kind == QMIG_EVENT_MULTIFD_PACKET) {
            const uint8_t *p = ev.u.multifd_packet.packet->payload;
            r->in_place += p != NULL && p >= piece && p < piece + n;
        }
        encode(r, e, &ev);
    }
    return result;
}

static Reading
read_channel(const uint8_t *data, size_t len, uint32_t page_size, size_t first,
             size_t step)
{
    g_autoptr(QmigMultifdDecoder) d = qmig_multifd_decoder_new();
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    Reading r = { .text = g_string_new(NULL), .again = g_byte_array_new() };
    /* A copy of its own for each push, so that a stale reference is seen by ASan. */
    g_autofree uint8_t *piece = NULL;

    qmig_multifd_decoder_set_page_size(d, page_size);
    for (size_t at = 0; at < len;) {
        size_t n = MIN(at == 0 ? first : step, len - at);
        g_autofree uint8_t *old = g_steal_pointer(&piece);
        piece = g_memdup2(data + at, n);
        qmig_multifd_decoder_push(d, piece, n);
        at += n;
        if (drain(&r, d, e, piece, n) != QMIG_DECODE_NEED_MORE) {
            g_assert_nonnull(r.error);
            return r;
        }
    }
    qmig_multifd_decoder_eof(d);
    g_assert_cmpint(drain(&r, d, e, piece, 0), ==, QMIG_DECODE_END);
    g_assert_cmpuint(qmig_multifd_decoder_offset(d), ==, r.again->len);
    return r;
}

/* ---- the channel ------------------------------------------------------------------------ */

static void
put_name(GByteArray *out, const char *name, unsigned behind)
{
    guint start = out->len;

    put_text(out, name);
    put_u8(out, 0);
    put_pattern(out, 256 - (out->len - start), behind);
}

static void
put_init(GByteArray *out)
{
    put_be32(out, 0x11223344);
    put_be32(out, 1);
    put_pattern(out, 16, 7);
    put_u8(out, 3);
    put_pattern(out, 39, 8);
}

typedef struct {
    uint32_t flags, alloc, normal, next_size, zero;
    size_t payload;
} Packet;

/* A head of @table offsets; what no page lies behind is stale. */
static void
put_packet(GByteArray *out, uint32_t page_size, Packet p)
{
    put_be32(out, 0x11223344);
    put_be32(out, 1);
    put_be32(out, p.flags);
    put_be32(out, p.alloc);
    put_be32(out, p.normal);
    put_be32(out, p.next_size);
    put_be64(out, 77);
    put_be32(out, p.zero);
    put_pattern(out, 28, 2);
    put_name(out, "pc.ram", 3);
    for (uint32_t i = 0; i < 524288 / page_size; i++) {
        put_be64(out, i < p.normal + p.zero ? (uint64_t)i * page_size : 0x1234567 + i);
    }
    put_pattern(out, p.payload, 4);
}

static void
put_device(GByteArray *out, uint32_t flags, uint32_t size, size_t payload)
{
    put_be32(out, 0x11223344);
    put_be32(out, 1);
    put_be32(out, flags);
    put_name(out, "0000:00:03.0/vfio", 5);
    put_be32(out, 4);
    put_be32(out, size);
    put_pattern(out, payload, 6);
}

/* Every kind of packet, all stale and reserved fields filled. */
static GByteArray *
sample_channel(uint32_t page_size)
{
    GByteArray *out = g_byte_array_new();

    put_init(out);
    put_packet(out, page_size, (Packet){ 0x02, TABLE, 2, 300, 1, 300 }); /* zlib */
    put_packet(out, page_size, (Packet){ 0x01, 0, 0, 0, 0, 0 }); /* SYNC of 9.0+ */
    put_packet(out, page_size,
               (Packet){ 0x01, TABLE, 0, 9999, 0, 0 }); /* …of 7.2, stale */
    put_packet(out, page_size, (Packet){ 0x03, TABLE, 1, 5, 0, 5 }); /* …with pages */
    put_packet(out, page_size, (Packet){ 0x00, TABLE, 0, 0, 3, 0 }); /* zero pages only */
    put_packet(out, page_size,
               (Packet){ 0x04, TABLE, TABLE, 40, 0, 40 }); /* full table */
    put_device(out, 0x40, 200, 200);
    put_packet(out, page_size, (Packet){ 0x20, 1, 1, 17, 0, 17 }); /* qatzip */
    return out;
}

static void
test_splits(void)
{
    g_autoptr(GByteArray) s = sample_channel(BIG);
    g_auto(Reading) whole = read_channel(s->data, s->len, BIG, s->len, 1);

    g_assert_no_error(whole.error);
    g_assert_cmpmem(whole.again->data, whole.again->len, s->data, s->len);
    g_assert_true(g_str_has_suffix(whole.text->str, "end complete \"\"\n"));
    for (size_t step = 1; step < 700; step++) {
        g_auto(Reading) r = read_channel(s->data, s->len, BIG, step, step);
        g_assert_no_error(r.error);
        g_assert_cmpstr(r.text->str, ==, whole.text->str);
        g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
    }
    for (size_t cut = 1; cut < s->len; cut++) {
        g_auto(Reading) r = read_channel(s->data, s->len, BIG, cut, s->len);
        g_assert_cmpstr(r.text->str, ==, whole.text->str);
        g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
    }
}

static void
test_events(void)
{
    g_autoptr(GByteArray) s = sample_channel(BIG);
    g_auto(Reading) r = read_channel(s->data, s->len, BIG, s->len, 1);
    static const char *const parts[] = {
        "0 multifd-init channel 3 version 1 uuid 0726",
        "\n64 multifd-packet 77 flags 0x2 \"pc.ram\" alloc 8 normal 2 zero 1 offsets 0x0",
        " flags 0x1 \"\" alloc 0 normal 0 zero 0 length 0",
        " flags 0x1 \"\" alloc 8 normal 0 zero 0 length 0",
        " flags 0x3 \"pc.ram\" alloc 8 normal 1 zero 0 ",
        " flags 0x0 \"pc.ram\" alloc 8 normal 0 zero 3 ",
        " flags 0x4 \"pc.ram\" alloc 8 normal 8 zero 0 ",
        "multifd-device \"0000:00:03.0/vfio\" instance 4 length 200 ",
        " flags 0x20 \"pc.ram\" alloc 1 normal 1 zero 0 ",
    };
    const char *at = r.text->str;

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        at = strstr(at, parts[i]);
        if (at == NULL) {
            g_error("expected \"%s\" in its place in:\n%s", parts[i], r.text->str);
        }
    }
}

/* The other page sizes change the length of the head. */
static void
test_page_sizes(void)
{
    for (uint32_t size = 1024; size <= 65536; size *= 2) {
        g_autoptr(GByteArray) s = sample_channel(size);
        for (size_t step = 211; step < 9000; step += 997) {
            g_auto(Reading) r = read_channel(s->data, s->len, size, step, step);
            g_assert_no_error(r.error);
            g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
            g_assert_true(g_str_has_suffix(r.text->str, "end complete \"\"\n"));
        }
    }
}

/* A payload is read where it lies even when its head came in two pushes. */
static void
test_in_place(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    put_init(s);
    size_t head = s->len;
    put_packet(s, 4096, (Packet){ 0x00, 128, 128, 524288, 0, 524288 });
    head += 320 + 8 * 128;
    for (size_t cut = 1; cut <= head; cut += 13) {
        g_auto(Reading) r = read_channel(s->data, s->len, 4096, cut, s->len);
        g_assert_no_error(r.error);
        g_assert_cmpuint(r.in_place, ==, 1);
        g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
    }
    g_auto(Reading) r = read_channel(s->data, s->len, 4096, head + 1, 100000);
    g_assert_cmpuint(r.in_place, ==, 0);
    g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
}

static void
test_truncation(void)
{
    g_autoptr(GByteArray) s = sample_channel(BIG);
    unsigned complete = 0;

    for (size_t len = 0; len < s->len; len++) {
        g_auto(Reading) r = read_channel(s->data, len, BIG, len, 1);
        g_assert_no_error(r.error);
        g_assert_cmpmem(r.again->data, r.again->len, s->data, r.again->len);
        complete += strstr(r.text->str, "end complete") != NULL;
        g_assert_cmpint(r.again->len == len && len >= 64, ==,
                        strstr(r.text->str, "end complete") != NULL);
    }
    g_assert_cmpuint(complete, ==, 8); /* a channel may end behind any packet */
}

static void
test_corruption(void)
{
    g_autoptr(GByteArray) s = sample_channel(BIG);

    for (size_t at = 0; at < s->len; at++) {
        static const uint8_t flips[] = { 0x01, 0x40, 0x80, 0xff };
        for (size_t i = 0; i < G_N_ELEMENTS(flips); i++) {
            s->data[at] ^= flips[i];
            g_auto(Reading) r = read_channel(s->data, s->len, BIG, s->len, 1);
            if (r.error != NULL) {
                g_assert_true(r.error->code == QMIG_ERROR_PROTOCOL ||
                              r.error->code == QMIG_ERROR_LIMIT);
                g_assert_nonnull(strstr(r.error->message, "stream offset"));
                g_assert_nonnull(strstr(r.error->message, "multifd channel"));
            }
            g_assert_cmpmem(r.again->data, r.again->len, s->data, r.again->len);
            if (strstr(r.text->str, "end complete") != NULL) {
                g_assert_cmpuint(r.again->len, ==, s->len);
            }
            s->data[at] ^= flips[i];
        }
    }
}

/* ---- what is refused -------------------------------------------------------------------- */

static void
expect_error(GByteArray *s, uint32_t page_size, int code, const char *text)
{
    g_auto(Reading) whole = read_channel(s->data, s->len, page_size, s->len, 1);
    g_auto(Reading) bytes = read_channel(s->data, s->len, page_size, 1, 1);

    g_assert_error(whole.error, QMIG_ERROR, code);
    if (strstr(whole.error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, whole.error->message);
    }
    g_assert_cmpstr(bytes.error->message, ==, whole.error->message);
    g_byte_array_unref(s);
}

static void
expect_bad_packet(Packet p, int code, const char *text)
{
    GByteArray *s = g_byte_array_new();

    put_init(s);
    put_packet(s, 4096, (Packet){ 0x01, 128, 0, 0, 0, 0 });
    put_packet(s, 4096, p);
    expect_error(s, 4096, code, text);
}

static void
test_bad_packets(void)
{
    expect_bad_packet((Packet){ 0, 129, 0, 0, 0, 0 }, QMIG_ERROR_LIMIT,
                      "multifd channel 3, packet 2: a table of 129 pages, limit 128 "
                      "(stream offset 1408)");
    expect_bad_packet((Packet){ 0, 4, 5, 5 * 4096, 0, 5 * 4096 }, QMIG_ERROR_PROTOCOL,
                      "5 normal and 0 zero pages in a table of 4");
    expect_bad_packet((Packet){ 0, 4, 2, 2 * 4096, 0xffffffff, 2 * 4096 },
                      QMIG_ERROR_PROTOCOL, "2 normal and 4294967295 zero pages");
    expect_bad_packet((Packet){ 0, 4, 2, 4096, 0, 4096 }, QMIG_ERROR_PROTOCOL,
                      "4096 bytes of payload, wanted 8192 for 2 pages");
    expect_bad_packet((Packet){ 0x02, 4, 2, 1 << 21, 0, 0 }, QMIG_ERROR_LIMIT,
                      "2097152 bytes of payload, limit 1048576");
    expect_bad_packet((Packet){ 0x04, 4, 2, 0, 0, 0 }, QMIG_ERROR_PROTOCOL,
                      "no payload for 2 compressed pages");

    GByteArray *s = g_byte_array_new();
    put_init(s);
    put_packet(s, 4096, (Packet){ 0, 128, 1, 4096, 1, 4096 });
    s->data[64 + 320 + 8 + 7] = 1;
    expect_error(s, 4096, QMIG_ERROR_PROTOCOL,
                 "packet 1: block \"pc.ram\": page offset 0x1001 is no multiple of 4096");
}

static void
test_bad_heads(void)
{
    GByteArray *s = g_byte_array_new();
    put_text(s, "QEVM");
    put_be32(s, 3);
    expect_error(s, 4096, QMIG_ERROR_PROTOCOL,
                 "multifd channel: magic 0x5145564d version 3, wanted 0x11223344 and 1 "
                 "(stream offset 0)");

    s = g_byte_array_new();
    put_init(s);
    put_be32(s, 0x11223344);
    put_be32(s, 2);
    expect_error(s, 4096, QMIG_ERROR_PROTOCOL, "packet 1: magic 0x11223344 version 2");

    s = g_byte_array_new();
    put_init(s);
    put_device(s, 0x41, 3, 3);
    expect_error(s, 4096, QMIG_ERROR_PROTOCOL, "device state with SYNC");

    s = g_byte_array_new();
    put_init(s);
    put_device(s, 0x40, 0, 0);
    expect_error(s, 4096, QMIG_ERROR_PROTOCOL,
                 "device \"0000:00:03.0/vfio\": empty device state");

    s = g_byte_array_new();
    put_init(s);
    put_device(s, 0x40, 0xffffffff, 0);
    expect_error(s, 4096, QMIG_ERROR_LIMIT, "4294967295 bytes of state, limit 16777216");
}

static void
test_unknown_flags(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    put_init(s);
    put_packet(s, 4096, (Packet){ 0x80, 128, 0, 0, 0, 0 });
    put_pattern(s, 5000, 1);
    for (size_t step = 1; step < s->len; step += 17) {
        g_auto(Reading) r = read_channel(s->data, s->len, 4096, step, step);
        g_assert_no_error(r.error);
        g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
        g_assert_nonnull(strstr(r.text->str,
                                "raw-from-here \"multifd channel 3, packet 1: "
                                "flags 0x80 are not known\""));
        g_assert_nonnull(strstr(r.text->str, "end incomplete \"not read: flags 0x80\""));
    }
}

/* ---- the writer by itself --------------------------------------------------------------- */

static void
test_writer_fills_in(void)
{
    static const uint64_t offsets[] = { 0x5000, 0x1000 };
    static const uint8_t pages[4096] = { 1, 2, 3 };
    struct qmig_multifd_packet p = {
        .size = sizeof p,
        .page_size = 4096,
        .pages_alloc = 128,
        .normal_pages = 1,
        .zero_pages = 1,
        .next_packet_size = 4096,
        .n_offsets = 2,
        .packet_num = 5,
        .offsets = offsets,
        .block = "pc.ram",
        .payload = pages,
        .payload_length = sizeof pages,
    };
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_MULTIFD_PACKET };
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    Reading r = { .text = g_string_new(NULL), .again = g_byte_array_new() };
    g_autoptr(GByteArray) s = g_byte_array_new();

    ev.u.multifd_packet.packet = &p;
    put_init(s);
    encode(&r, e, &ev);
    g_assert_cmpuint(r.again->len, ==, 320 + 8 * 128 + 4096);
    g_byte_array_append(s, r.again->data, r.again->len);
    g_auto(Reading) back = read_channel(s->data, s->len, 4096, s->len, 1);
    g_assert_no_error(back.error);
    g_assert_nonnull(strstr(back.text->str, "multifd-packet 5 flags 0x0 \"pc.ram\" alloc "
                                            "128 normal 1 zero 1 offsets 0x5000"));
    reading_clear(&r);
}

static void
expect_unwritable(struct qmig_multifd_packet p, const char *text)
{
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_MULTIFD_PACKET };
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    g_autoptr(GError) error = NULL;
    const struct iovec *iov;
    size_t bytes;

    ev.u.multifd_packet.packet = &p;
    g_assert_false(qmig_encoder_put(e, &ev, &error));
    if (strstr(error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, error->message);
    }
    g_assert_cmpuint(qmig_encoder_pending(e, &iov, &bytes), ==, 0);
}

static void
test_writer_refuses(void)
{
    static const uint64_t offsets[129] = { 0 };
    struct qmig_multifd_packet p = {
        .page_size = 4096, .pages_alloc = 128, .block = "pc.ram", .offsets = offsets
    };

    p.n_offsets = 129;
    expect_unwritable(p, "129 offsets of 4096 byte pages");
    p.n_offsets = 128;
    p.normal_pages = 1;
    p.next_packet_size = 4096;
    p.payload_length = 4095;
    expect_unwritable(p, "4095 bytes of payload, announced 4096");
    p.normal_pages = 0;
    p.payload_length = 0;
    p.flags = 0x80;
    expect_unwritable(p, "flags 0x80 are not known");
    p.flags = QMIG_MULTIFD_DEVICE_STATE;
    p.device = "x";
    expect_unwritable(p, "empty device state");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/multifd/reads-and-encodes-the-same-at-every-split", test_splits);
    g_test_add_func("/multifd/all-kinds-of-packets-are-read", test_events);
    g_test_add_func("/multifd/the-head-follows-the-page-size", test_page_sizes);
    g_test_add_func("/multifd/a-whole-payload-is-not-copied", test_in_place);
    g_test_add_func("/multifd/a-truncated-packet-is-told", test_truncation);
    g_test_add_func("/multifd/every-corruption-is-an-error-or-reads-as-it-is",
                    test_corruption);
    g_test_add_func("/multifd/bad-packets-are-rejected-with-their-place",
                    test_bad_packets);
    g_test_add_func("/multifd/bad-heads-are-rejected", test_bad_heads);
    g_test_add_func("/multifd/unknown-flags-go-raw-with-a-reason", test_unknown_flags);
    g_test_add_func("/multifd/a-writer-fills-in-names-and-table", test_writer_fills_in);
    g_test_add_func("/multifd/what-no-receiver-takes-is-not-written",
                    test_writer_refuses);
    return g_test_run();
}
