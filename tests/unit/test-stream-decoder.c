/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The decoder: same events for every split, placed errors for bad bytes, bounded memory. */
#include "stream/command.h"
#include "stream/decoder.h"
#include "stream/dump.h"
#include "stream/encoder.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"

#include <string.h>

/* What a decoder said about a stream. */
typedef struct {
    GString *text;      /* the events, one a line; BYTES joined */
    GByteArray *again;  /* the events, encoded */
    GError *error;      /* (nullable) */
    unsigned kinds[80]; /* events of each kind */
    uint64_t bulk;      /* bytes in BYTES events */
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
flush(Reading *r, QmigEncoder *e)
{
    const struct iovec *iov;
    size_t bytes, n = qmig_encoder_pending(e, &iov, &bytes), sum = 0;

    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(r->again, iov[i].iov_base, (guint)iov[i].iov_len);
        sum += iov[i].iov_len;
    }
    g_assert_cmpuint(sum, ==, bytes);
    qmig_encoder_clear(e);
}

/* Take all events there are. Return: false once the decoder failed or ended. */
static bool
drain(Reading *r, QmigDecoder *d, QmigEncoder *e)
{
    struct qmig_event ev;

    for (;;) {
        QmigDecodeResult result = qmig_decoder_next(d, &ev, &r->error);
        if (result != QMIG_DECODE_EVENT) {
            flush(r, e);
            return result == QMIG_DECODE_NEED_MORE;
        }
        r->kinds[ev.kind]++;
        g_assert_cmpuint(ev.size, ==, sizeof ev);
        if (ev.kind == QMIG_EVENT_BYTES) {
            r->bulk += ev.u.bytes.length;
        } else {
            qmig_dump_event(r->text, &ev);
        }
        if (qmig_encoder_is_full(e)) {
            flush(r, e);
        }
        g_assert_true(qmig_encoder_put(e, &ev, NULL));
    }
}

/* Decode and re-encode @data in pushes of @step bytes, the first one of @first. */
static Reading
read_with(QmigDecoder *decoder, const uint8_t *data, size_t len, size_t first,
          size_t step)
{
    g_autoptr(QmigDecoder) d = decoder;
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    Reading r = { .text = g_string_new(NULL), .again = g_byte_array_new() };
    /* A copy of its own for each push, so that a stale reference is seen by ASan. */
    g_autofree uint8_t *piece = NULL;

    for (size_t at = 0; at < len;) {
        size_t n = MIN(at == 0 ? first : step, len - at);
        g_autofree uint8_t *old = g_steal_pointer(&piece);
        piece = g_memdup2(data + at, n);
        qmig_decoder_push(d, piece, n);
        at += n;
        if (!drain(&r, d, e)) {
            return r;
        }
    }
    qmig_decoder_eof(d);
    g_assert_false(drain(&r, d, e));
    return r;
}

static Reading
read_stream(const uint8_t *data, size_t len, size_t first, size_t step)
{
    return read_with(qmig_decoder_new(), data, len, first, step);
}

/* @make: a decoder for the connection that @stream is */
static void
check_splits_with(QmigDecoder *(*make)(void), GByteArray *stream, bool complete)
{
    g_auto(Reading) whole = read_with(make(), stream->data, stream->len, stream->len, 1);

    g_assert_no_error(whole.error);
    g_assert_cmpmem(whole.again->data, whole.again->len, stream->data, stream->len);
    g_assert_cmpint(strstr(whole.text->str, "end complete") != NULL, ==, complete);
    for (size_t step = 1; step < 40; step++) {
        g_auto(Reading) r = read_with(make(), stream->data, stream->len, step, step);
        g_assert_no_error(r.error);
        g_assert_cmpstr(r.text->str, ==, whole.text->str);
        g_assert_cmpmem(r.again->data, r.again->len, stream->data, stream->len);
    }
    for (size_t cut = 1; cut < stream->len; cut++) {
        g_auto(Reading)
            r = read_with(make(), stream->data, stream->len, cut, stream->len);
        g_assert_cmpstr(r.text->str, ==, whole.text->str);
        g_assert_cmpmem(r.again->data, r.again->len, stream->data, stream->len);
    }
}

static void
check_all_splits(GByteArray *stream)
{
    check_splits_with(qmig_decoder_new, stream, true);
}

static QmigDecoder *
continue_postcopy(bool preempt)
{
    g_autoptr(GByteArray) main = sample_postcopy();
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    struct qmig_event ev;

    qmig_decoder_push(d, main->data, main->len);
    while (qmig_decoder_next(d, &ev, NULL) == QMIG_DECODE_EVENT) {
    }
    return qmig_decoder_continue(d, preempt);
}

static QmigDecoder *
new_recovery(void)
{
    return continue_postcopy(false);
}

static QmigDecoder *
new_preempt(void)
{
    return continue_postcopy(true);
}

static void
test_other_connections(void)
{
    g_autoptr(GByteArray) recovery = sample_recovery();
    g_autoptr(GByteArray) preempt = sample_preempt();

    check_splits_with(new_recovery, recovery, true);
    check_splits_with(new_preempt, preempt, true);
    /* Alone, a recovery connection is handed on. */
    check_splits_with(qmig_decoder_new, recovery, false);
}

static void
test_all_sections(void)
{
    g_autoptr(GByteArray) sections = sample_sections();
    g_autoptr(GByteArray) bare = sample_bare();
    g_auto(Reading) r = read_stream(sections->data, sections->len, 11, 13);

    check_all_splits(sections);
    check_all_splits(bare);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_DIRTY_BITMAP], ==, 5);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_DISK_BLOCK], ==, 3);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_VFIO], ==, 4);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_DEVICE], ==, 1);
    g_assert_nonnull(strstr(r.text->str, "\"huge\" length 0x200000 page-size 0x200000"));
}

static void
test_mapped_ram(void)
{
    g_autoptr(GByteArray) s = sample_mapped_ram();
    g_auto(Reading) r = read_stream(s->data, s->len, 5000, 3000);

    check_all_splits(s);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_PAGE], ==, 4);
}

static void
test_colo(void)
{
    g_autoptr(GByteArray) s = sample_colo();
    g_auto(Reading) r = read_stream(s->data, s->len, 5000, 3000);

    check_all_splits(s);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_COLO], ==, 6);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_EOF], ==, 2);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_DESCRIPTION], ==, 1);
}

static void
test_precopy_splits(void)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    check_all_splits(stream);
}

static void
test_postcopy_splits(void)
{
    g_autoptr(GByteArray) stream = sample_postcopy();

    check_all_splits(stream);
}

static void
test_precopy_events(void)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    g_auto(Reading) r = read_stream(stream->data, stream->len, stream->len, 1);

    g_assert_cmpuint(r.kinds[QMIG_EVENT_HEADER], ==, 1);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_CONFIG_SUB], ==, 2);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_COMMAND], ==, 3);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_SECTION], ==, 3);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_RAM_BLOCK], ==, 2);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_PAGE], ==, 9);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_RAM_HOOK], ==, 1);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_RAM_FLUSH], ==, 1);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_DEVICE], ==, 2);
    g_assert_nonnull(
        strstr(r.text->str, "device \"timer\" instance 0 version 2 id 0 length 40"));
    g_assert_nonnull(
        strstr(r.text->str, "device \"old\" instance 0 version 2 id 7 length 9"));
    g_assert_nonnull(strstr(r.text->str, "page zero \"rom\" 0x3000 length 1"));
    g_assert_nonnull(strstr(r.text->str, "end complete \"\""));
}

static void
test_postcopy_events(void)
{
    g_autoptr(GByteArray) stream = sample_postcopy();
    g_auto(Reading) r = read_stream(stream->data, stream->len, stream->len, 1);

    g_assert_cmpuint(r.bulk, ==, 5000);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_EOF], ==, 1);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_PAGE], ==, 9);
    g_assert_nonnull(strstr(r.text->str, "end complete \"\""));
}

/* Every proper beginning of a stream is incomplete, and says so; but for the one that only
 * lacks the description, which not every machine sends. */
static void
test_truncation(void)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    const uint8_t *json = memmem(stream->data, stream->len, "{\"page_size\"", 12);
    size_t undescribed = (size_t)(json - stream->data) - 5;

    for (size_t len = 0; len < stream->len; len++) {
        g_auto(Reading) r = read_stream(stream->data, len, len, 1);
        g_assert_no_error(r.error);
        g_assert_cmpint(strstr(r.text->str, "end complete") != NULL, ==,
                        len == undescribed);
        /* Whatever was taken in whole comes out again. */
        g_assert_cmpmem(r.again->data, r.again->len, stream->data, r.again->len);
    }
}

/* A changed byte gives an error, or a reading that encodes to just these bytes. */
static void
test_corruption(void)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    for (size_t at = 0; at < stream->len; at++) {
        static const uint8_t flips[] = { 0x01, 0x80, 0xff };
        for (size_t i = 0; i < G_N_ELEMENTS(flips); i++) {
            stream->data[at] ^= flips[i];
            g_auto(Reading) r = read_stream(stream->data, stream->len, stream->len, 1);
            if (r.error == NULL && strstr(r.text->str, "end complete") != NULL) {
                g_assert_cmpmem(r.again->data, r.again->len, stream->data, stream->len);
            }
            if (r.error != NULL) {
                g_assert_true(r.error->code == QMIG_ERROR_PROTOCOL ||
                              r.error->code == QMIG_ERROR_LIMIT);
                g_assert_nonnull(strstr(r.error->message, "stream offset"));
            }
            stream->data[at] ^= flips[i];
        }
    }
}

/* Header, START of ram with its block list, a PART begun: where page records go. */
static GByteArray *
open_part(void)
{
    GByteArray *s = g_byte_array_new();

    put_head(s);
    put_start(s, 2, "ram", 4);
    put_block_list(s);
    put_be64(s, 0x10);
    put_footer(s, 2);
    put_part(s, 0x02, 2);
    return s;
}

static void
expect_error(GByteArray *s, const char *text)
{
    g_auto(Reading) whole = read_stream(s->data, s->len, s->len, 1);
    g_auto(Reading) bytes = read_stream(s->data, s->len, 1, 1);

    g_assert_error(whole.error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    if (strstr(whole.error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, whole.error->message);
    }
    g_assert_cmpstr(bytes.error->message, ==, whole.error->message);
    g_byte_array_unref(s);
}

static void
test_bad_records(void)
{
    GByteArray *s = open_part();
    put_be64(s, 16 * 4096 | 0x08);
    put_cstr(s, "pc.ram");
    expect_error(s, "block \"pc.ram\": page offset 0x10000 beyond length 0x10000");

    s = open_part();
    put_be64(s, 0x08 | 0x20);
    expect_error(s, "none was named before");

    s = open_part();
    put_be64(s, 0x08);
    put_cstr(s, "vga.vram");
    expect_error(s, "page in unknown block \"vga.vram\"");

    s = open_part();
    put_be64(s, 0x48);
    expect_error(s, "unknown combination of flags");

    s = open_part();
    put_be64(s, 0x1010); /* EOS with an offset */
    expect_error(s, "unknown combination of flags");

    s = open_part();
    put_be64(s, 0x40);
    put_cstr(s, "rom");
    put_u8(s, 1);
    put_be16(s, 4097);
    expect_error(s, "XBZRLE page with encoding 1 and 4097 bytes");

    s = open_part();
    put_be64(s, 0x100);
    put_cstr(s, "rom");
    put_be32(s, 0xffffffff);
    expect_error(s, "zlib page of 4294967295 bytes");

    s = open_part();
    put_block_list(s);
    expect_error(s, "a second block list");
}

static void
test_bad_frames(void)
{
    GByteArray *s = g_byte_array_new();
    put_text(s, "QEVN");
    put_be32(s, 3);
    expect_error(s, "header: magic");

    s = g_byte_array_new();
    put_text(s, "QEVM");
    put_be32(s, 2);
    expect_error(s, "version 2");

    s = g_byte_array_new();
    put_text(s, "QEVM");
    put_be32(s, 3);
    put_u8(s, 0x07);
    put_be32(s, 1 << 30);
    expect_error(s, "machine name of 1073741824 bytes");

    s = open_part();
    put_be64(s, 0x10);
    put_footer(s, 3);
    expect_error(s, "section \"ram\": footer 0x7e with id 3");

    s = open_part();
    put_be64(s, 0x10);
    put_footer(s, 2);
    put_part(s, 0x02, 9);
    expect_error(s, "section id 9 continues, but never started");

    s = open_part();
    put_be64(s, 0x10);
    put_footer(s, 2);
    put_u8(s, 0x33);
    expect_error(s, "type byte 0x33");
}

static void
test_bad_block_list(void)
{
    GByteArray *s = g_byte_array_new();
    put_head(s);
    put_start(s, 2, "ram", 4);
    put_be64(s, 4096 | 0x04);
    put_cstr(s, "pc.ram");
    put_be64(s, 8192);
    expect_error(s, "exceeds the 0x1000 bytes left");

    s = g_byte_array_new();
    put_head(s);
    put_start(s, 2, "ram", 4);
    put_be64(s, 12288 | 0x04);
    for (int i = 0; i < 2; i++) {
        put_cstr(s, "pc.ram");
        put_be64(s, 4096);
    }
    expect_error(s, "block \"pc.ram\" is listed twice");
}

/* What cannot be known is handed on, whole, with the reason. */
static void
expect_raw(GByteArray *s, size_t known, const char *reason)
{
    put_pattern(s, 500, 3);
    g_auto(Reading) r = read_stream(s->data, s->len, 3, 7);

    g_assert_no_error(r.error);
    g_assert_cmpuint(r.kinds[QMIG_EVENT_RAW], ==, 1);
    if (strstr(r.text->str, reason) == NULL) {
        g_error("expected \"%s\" in:\n%s", reason, r.text->str);
    }
    g_assert_cmpuint(r.bulk, ==, s->len - known);
    g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
    g_assert_nonnull(strstr(r.text->str, "end incomplete \"not read:"));
    g_byte_array_unref(s);
}

static void
test_goes_raw(void)
{
    GByteArray *s = g_byte_array_new();
    put_head(s);
    put_start(s, 5, "spapr/htab", 1);
    expect_raw(s, s->len, "section \"spapr/htab\" (instance 0, version 1)");

    s = g_byte_array_new();
    put_head(s);
    put_u8(s, 0x04); /* FULL before RAM */
    put_be32(s, 3);
    put_cstr(s, "dev");
    put_be32(s, 0);
    put_be32(s, 1);
    expect_raw(s, s->len, "comes before RAM");

    s = g_byte_array_new();
    put_head(s);
    put_u8(s, 0x05);
    put_cstr(s, "configuration/new");
    put_be32(s, 1);
    expect_raw(s, s->len, "configuration subsection \"configuration/new\"");

    /* What follows a whole stream is handed on, too. */
    s = sample_precopy();
    g_auto(Reading) r = read_stream(s->data, s->len, s->len, 1);
    expect_raw(s, s->len - r.bulk, "after the end of the stream");
}

static void
test_ignore_shared(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    put_head(s);
    put_u8(s, 0x05);
    put_cstr(s, "configuration/capabilities");
    put_be32(s, 1);
    put_be32(s, 1);
    put_cstr(s, "x-ignore-shared");
    put_start(s, 2, "ram", 4);
    put_be64(s, 4096 | 0x04);
    put_cstr(s, "pc.ram");
    put_be64(s, 4096);
    put_be64(s, 0xc0000);
    put_be64(s, 0x10);
    g_auto(Reading) r = read_stream(s->data, s->len, 1, 1);
    g_assert_no_error(r.error);
    g_assert_nonnull(strstr(r.text->str, "block 0 \"pc.ram\" length 0x1000 gpa 0xc0000"));
    g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
}

static void
test_large_pages(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    put_head(s);
    put_u8(s, 0x05);
    put_cstr(s, "configuration/target-page-bits");
    put_be32(s, 1);
    put_be32(s, 16);
    put_start(s, 2, "ram", 4);
    put_be64(s, 0x20000 | 0x04);
    put_cstr(s, "mach-virt.ram");
    put_be64(s, 0x20000);
    put_be64(s, 0x10000 | 0x08);
    put_cstr(s, "mach-virt.ram");
    put_pattern(s, 65536, 1);
    put_be64(s, 0x10);
    for (size_t step = 1; step < 9000; step += 997) {
        g_auto(Reading) r = read_stream(s->data, s->len, step, step);
        g_assert_no_error(r.error);
        g_assert_nonnull(
            strstr(r.text->str, "page normal \"mach-virt.ram\" 0x10000 length 65536"));
        g_assert_cmpmem(r.again->data, r.again->len, s->data, s->len);
    }
}

static void
test_command_names(void)
{
    for (unsigned i = 1; i <= QMIG_COMMAND_SWITCHOVER_START; i++) {
        g_assert_nonnull(qmig_command_name(i));
    }
    g_assert_cmpstr(qmig_command_name(QMIG_COMMAND_PACKAGED), ==, "packaged");
    g_assert_null(qmig_command_name(0));
    g_assert_null(qmig_command_name(QMIG_COMMAND_SWITCHOVER_START + 1));
    g_assert_null(qmig_command_name(UINT16_MAX));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decoder/precopy-reads-and-encodes-the-same-at-every-split",
                    test_precopy_splits);
    g_test_add_func("/decoder/postcopy-reads-and-encodes-the-same-at-every-split",
                    test_postcopy_splits);
    g_test_add_func("/decoder/precopy-events-are-all-there", test_precopy_events);
    g_test_add_func("/decoder/postcopy-events-are-all-there", test_postcopy_events);
    g_test_add_func("/decoder/every-truncation-is-told-incomplete", test_truncation);
    g_test_add_func("/decoder/every-corruption-is-an-error-or-reads-as-it-is",
                    test_corruption);
    g_test_add_func("/ram/bad-records-are-rejected-with-their-place", test_bad_records);
    g_test_add_func("/ram/bad-block-lists-are-rejected", test_bad_block_list);
    g_test_add_func("/decoder/bad-frames-are-rejected", test_bad_frames);
    g_test_add_func("/decoder/any-split-recovery-and-preempt", test_other_connections);
    g_test_add_func("/decoder/any-split-all-sections", test_all_sections);
    g_test_add_func("/decoder/any-split-mapped-ram", test_mapped_ram);
    g_test_add_func("/decoder/any-split-colo", test_colo);
    g_test_add_func("/decoder/what-has-no-length-goes-raw-with-a-reason", test_goes_raw);
    g_test_add_func("/ram/ignore-shared-adds-an-address-to-each-block",
                    test_ignore_shared);
    g_test_add_func("/ram/64-KiB-pages-follow-the-configuration", test_large_pages);
    g_test_add_func("/command/each-known-one-has-a-name", test_command_names);
    return g_test_run();
}
