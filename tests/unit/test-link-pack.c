/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams through both halves of the tunnel's page codec: what comes out is what went in, byte for
 * byte, or with pages replaced by newer versions the same memory.
 */
#include "compress/xbzrle.h"
#include "proxy/link/pack.h"
#include "proxy/link/unpack.h"
#include "stream/decoder.h"
#include "tests/lib/golden.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"

#include <string.h>

enum { PAGE = 4096, RAM_PAGES = 512, ROM_PAGES = 8, CACHE = 4 << 20 };

static const char *const golden[] = { "7.2-return-path",
                                      "7.2-q35-no-return-path",
                                      "7.2-compress",
                                      "11.1-return-path",
                                      "11.1-xbzrle",
                                      "11.1-multifd",
                                      "11.1-postcopy",
                                      "11.1-ignore-shared",
                                      "captures/11.1-colo/0-main.forward",
                                      "captures/7.2-colo/0-main.forward",
                                      "captures/11.1-recovery/0-main.forward",
                                      "captures/11.1-recovery/1-recovery.forward",
                                      "captures/11.1-multifd-legacy/0-main.forward",
                                      "captures/7.2-multifd-none/0-main.forward",
                                      "captures/7.2-multifd-none/1-multifd.forward",
                                      "captures/11.1-switchover-ack/0-main.forward" };

/* ---- both ends ---------------------------------------------------------------------- */

typedef struct {
    QmigPack *pack;
    QmigUnpack *unpack;
    GByteArray *out;
    QmigCancel *now; /* raised: take what is there, wait for nothing */
    uint8_t buf[QMIG_BATCH_MAX];
} Tunnel;

static Tunnel *
tunnel_new(uint64_t cache, uint64_t pending)
{
    Tunnel *t = g_new(Tunnel, 1);
    QmigPackConfig config = { .cache_size = cache, .pending_max = pending };

    t->pack = qmig_pack_new(&config, NULL);
    t->unpack = qmig_unpack_new(cache, NULL);
    t->out = g_byte_array_new();
    t->now = qmig_cancel_new();
    qmig_cancel_raise(t->now);
    g_assert_nonnull(t->pack);
    g_assert_nonnull(t->unpack);
    return t;
}

static void
tunnel_free(Tunnel *t)
{
    qmig_pack_free(t->pack);
    qmig_unpack_free(t->unpack);
    qmig_cancel_free(t->now);
    g_byte_array_unref(t->out);
    g_free(t);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tunnel, tunnel_free)

static bool
collect(void *self, const struct iovec *iov, size_t n, GError **error)
{
    (void)error;
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(self, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    return true;
}

/* Take one batch to the other end. Return: false when there is none. */
static bool
carry(Tunnel *t, size_t size)
{
    g_autoptr(GError) error = NULL;
    ssize_t n = qmig_pack_take(t->pack, t->buf, size, t->now, &error);
    bool ok;

    if (n < 0) {
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
        return false;
    }
    g_assert_cmpint(n, <=, (ssize_t)size);
    if (n == 0) {
        return false;
    }
    /* Of exactly its length, for the sanitizers. */
    g_autofree uint8_t *batch = g_memdup2(t->buf, (gsize)n);
    ok = qmig_unpack_take(t->unpack, batch, (size_t)n, collect, t->out, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    return true;
}

static void
put_copy(Tunnel *t, const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *copy = g_memdup2(data, len);
    bool ok = qmig_pack_put(t->pack, copy, len, NULL, &error);

    g_assert_no_error(error);
    g_assert_true(ok);
}

/* As from read(2) into the pack's own memory. */
static void
put_in_place(Tunnel *t, const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;

    while (len > 0) {
        size_t size, n;
        uint8_t *buf = qmig_pack_buffer(t->pack, &size);
        bool ok;

        g_assert_cmpuint(size, >=, 64 << 10);
        n = MIN(size, len);
        memset(buf, 0xee, size);
        memcpy(buf, data, n);
        ok = qmig_pack_put(t->pack, buf, n, NULL, &error);
        g_assert_no_error(error);
        g_assert_true(ok);
        data += n;
        len -= n;
    }
}

static void
put(Tunnel *t, const uint8_t *data, size_t len)
{
    if (g_test_rand_int_range(0, 3) == 0) {
        put_copy(t, data, len);
    } else {
        put_in_place(t, data, len);
    }
}

static QmigPackCounts
counts_of(Tunnel *t)
{
    QmigPackCounts counts;

    qmig_pack_count(t->pack, &counts);
    return counts;
}

/* @max_step: pieces of 1 to so many bytes; all of each is carried before the next when @at_once. */
static void
send_stream(Tunnel *t, const GByteArray *stream, size_t max_step, bool at_once)
{
    for (size_t at = 0; at < stream->len;) {
        size_t n = (size_t)g_test_rand_int_range(1, (gint32)max_step + 1);

        n = MIN(n, stream->len - at);
        put(t, stream->data + at, n);
        at += n;
        while (at_once && carry(t, QMIG_BATCH_MAX)) {
        }
        if (at_once) {
            g_assert_true(counts_of(t).replaced > 0 ||
                          at - qmig_pack_pending(t->pack) == t->out->len);
        }
    }
    qmig_pack_finish(t->pack);
    while (carry(t, QMIG_PACK_BATCH_MIN)) {
    }
    g_assert_cmpuint(qmig_pack_pending(t->pack), ==, 0);
}

/* ---- what a stream leaves in memory ---------------------------------------------------- */

static void
store(GHashTable *memory, const struct qmig_event_page *page)
{
    g_autofree char *key = g_strdup_printf("%s %" G_GINT64_MODIFIER "x",
                                           page->block->name, page->offset);
    GBytes *old = g_hash_table_lookup(memory, key);
    uint8_t content[PAGE] = { 0 };

    if (old != NULL) {
        memcpy(content, g_bytes_get_data(old, NULL), PAGE);
    }
    if (page->kind == QMIG_PAGE_ZERO) {
        memset(content, page->data[0], PAGE);
    } else if (page->kind == QMIG_PAGE_XBZRLE) {
        g_assert_true(qmig_xbzrle_decode(content, PAGE, page->data, page->length));
    } else {
        /* A zlib stream stands for its page. */
        memset(content, 0, PAGE);
        memcpy(content, page->data, MIN(page->length, PAGE));
    }
    g_hash_table_insert(memory, g_steal_pointer(&key), g_bytes_new(content, PAGE));
}

/* Block and offset -> page; "order": names of the pages in the order they came, if wanted. */
static GHashTable *
memory_of(const GByteArray *stream, GString *order)
{
    GHashTable *memory = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                               (GDestroyNotify)g_bytes_unref);
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    struct qmig_event ev;
    QmigDecodeResult result;

    qmig_decoder_push(d, stream->data, stream->len);
    qmig_decoder_eof(d);
    while ((result = qmig_decoder_next(d, &ev, NULL)) == QMIG_DECODE_EVENT) {
        if (ev.kind == QMIG_EVENT_PAGE) {
            store(memory, &ev.u.page);
            if (order != NULL) {
                g_string_append_printf(order, "%d ", (int)(ev.u.page.offset / PAGE));
            }
        }
    }
    g_assert_cmpint(result, ==, QMIG_DECODE_END);
    return memory;
}

static void
assert_same_memory(const GByteArray *a, const GByteArray *b)
{
    g_autoptr(GHashTable) one = memory_of(a, NULL);
    g_autoptr(GHashTable) two = memory_of(b, NULL);
    GHashTableIter iter;
    gpointer key, value;

    g_assert_cmpuint(g_hash_table_size(one), ==, g_hash_table_size(two));
    g_hash_table_iter_init(&iter, one);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        GBytes *other = g_hash_table_lookup(two, key);
        g_assert_nonnull(other);
        g_assert_true(g_bytes_equal(value, other));
    }
}

/* ---- streams made here ------------------------------------------------------------------ */

static void
put_ram_head(GByteArray *out, bool huge)
{
    put_head(out);
    put_u8(out, 0x08); /* ADVISE */
    put_be16(out, 3);
    put_be16(out, 16);
    put_be64(out, huge ? 0x201000 : PAGE);
    put_be64(out, PAGE);
    put_start(out, 1, "ram", 4);
    put_be64(out, (RAM_PAGES + ROM_PAGES) * PAGE | 0x04);
    put_cstr(out, "pc.ram");
    put_be64(out, RAM_PAGES * PAGE);
    if (huge) {
        put_be64(out, 0x200000);
    }
    put_cstr(out, "rom");
    put_be64(out, ROM_PAGES * PAGE);
    put_be64(out, 0x10);
    put_footer(out, 1);
}

static void
begin_part(GByteArray *out)
{
    put_part(out, 0x02, 1);
}

static void
end_part(GByteArray *out)
{
    put_be64(out, 0x10);
    put_footer(out, 1);
}

/* Incompressible, but the same for the same @seed. */
static void
fill(uint8_t page[PAGE], uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    for (size_t i = 0; i < PAGE; i += sizeof(guint32)) {
        guint32 word = g_rand_int(rand);
        memcpy(page + i, &word, sizeof word);
    }
}

static void
put_page(GByteArray *out, const char *block, uint64_t number, const uint8_t page[PAGE])
{
    put_be64(out, number * PAGE | 0x08 | (block == NULL ? 0x20 : 0));
    if (block != NULL) {
        put_cstr(out, block);
    }
    g_byte_array_append(out, page, PAGE);
}

static void
put_filled(GByteArray *out, const char *block, uint64_t number, uint32_t seed)
{
    uint8_t page[PAGE];

    fill(page, seed);
    put_page(out, block, number, page);
}

static void
put_command(GByteArray *out, uint16_t command, uint16_t len)
{
    put_u8(out, 0x08);
    put_be16(out, command);
    put_be16(out, len);
}

/* To the moment when the guest runs over there. */
static void
put_switch_to_postcopy(GByteArray *out)
{
    put_command(out, 6, 25); /* RAM_DISCARD */
    put_u8(out, 0);
    put_cstr(out, "pc.ram");
    put_u8(out, 0);
    put_be64(out, 0);
    put_be64(out, RAM_PAGES * PAGE);
    put_command(out, 7, 4); /* PACKAGED */
    put_be32(out, 500);
    put_pattern(out, 500, 11);
}

/* ---- tests ------------------------------------------------------------------------------ */

/* Pages that come twice in one piece may be replaced: then memory is compared. */
static void
assert_passes(const GByteArray *stream, size_t max_step, uint64_t cache,
              QmigPackEffort effort)
{
    g_autoptr(Tunnel) t = tunnel_new(cache, 0);

    qmig_pack_set_effort(t->pack, effort);
    send_stream(t, stream, max_step, true);
    g_assert_cmpuint(counts_of(t).bytes_in, ==, stream->len);
    if (max_step > PAGE && counts_of(t).replaced > 0) {
        assert_same_memory(stream, t->out);
        return;
    }
    g_assert_cmpmem(t->out->data, t->out->len, stream->data, stream->len);
}

/* There little may wait, and put blocks. */
static bool
has_postcopy(const char *name)
{
    return strstr(name, "postcopy") != NULL || strstr(name, "recovery") != NULL;
}

/* Post-copy that goes on after a break holds as little as before it. */
static void
test_resumed(void)
{
    static const char name[] = "captures/11.1-recovery/1-recovery.forward";
    g_autoptr(GByteArray) stream = g_bytes_unref_to_array(golden_load(name));
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 0);

    g_assert_false(qmig_pack_is_postcopy(t->pack));
    send_stream(t, stream, 5000, true);
    g_assert_true(qmig_pack_is_postcopy(t->pack));
}

static void
test_golden(gconstpointer name)
{
    static const size_t steps[] = { 100, 5000, 70000, 1 << 20, 64 << 20 };
    g_autoptr(GByteArray) stream = g_bytes_unref_to_array(golden_load(name));

    for (size_t i = 0; i < 12; i++) {
        assert_passes(stream, steps[i % (has_postcopy(name) ? 3 : G_N_ELEMENTS(steps))],
                      i % 3 == 0 ? 0 : CACHE,
                      i % 4 == 1 ? QMIG_PACK_FAST : QMIG_PACK_SMALL);
    }
    /* Byte by byte its first part, where all kinds of records are. */
    g_byte_array_set_size(stream, MIN(stream->len, 5000));
    assert_passes(stream, 1, CACHE, QMIG_PACK_SMALL);
}

/* All of it waits before the first batch is taken. */
static void
test_golden_replaced(gconstpointer name)
{
    g_autoptr(GByteArray) stream = g_bytes_unref_to_array(golden_load(name));
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 256 << 20);

    send_stream(t, stream, 64 << 20, false);
    if (counts_of(t).replaced == 0) {
        g_assert_cmpmem(t->out->data, t->out->len, stream->data, stream->len);
    } else {
        assert_same_memory(stream, t->out);
        g_assert_cmpuint(t->out->len, <, stream->len);
    }
}

static void
test_samples(void)
{
    GByteArray *(*const makers[])(void) = {
        sample_precopy, sample_postcopy, sample_sections, sample_mapped_ram,
        sample_colo,    sample_bare,     sample_recovery, sample_preempt,
    };

    for (size_t i = 0; i < G_N_ELEMENTS(makers); i++) {
        g_autoptr(GByteArray) stream = makers[i]();

        for (size_t step = 1; step <= stream->len; step = step * 3 + 1) {
            assert_passes(stream, step, CACHE, QMIG_PACK_SMALL);
        }
        assert_passes(stream, stream->len, 0, QMIG_PACK_FAST);
    }
}

/* A migration cut anywhere, or damaged anywhere, still passes. */
static void
test_not_understood(void)
{
    g_autoptr(GByteArray) stream = g_bytes_unref_to_array(golden_load("7.2-return-path"));

    g_byte_array_set_size(stream, MIN(stream->len, 60000));
    for (int i = 0; i < 300; i++) {
        size_t at = (size_t)g_test_rand_int_range(0, (gint32)stream->len);
        uint8_t was = stream->data[at];

        stream->data[at] ^= (uint8_t)g_test_rand_int_range(1, 256);
        assert_passes(stream, i % 2 ? 700 : 60000, CACHE, QMIG_PACK_SMALL);
        stream->data[at] = was;
    }
    for (guint i = 0; i < stream->len; i++) {
        stream->data[i] = (uint8_t)g_test_rand_int();
    }
    assert_passes(stream, 60000, CACHE, QMIG_PACK_SMALL);
    stream->data[0] = 0x16;
    assert_passes(stream, 60000, CACHE, QMIG_PACK_SMALL);
}

static void
test_ops(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 0);
    uint8_t page[PAGE];

    put_ram_head(stream, false);
    begin_part(stream);
    put_filled(stream, "pc.ram", 3, 1); /* PAGE */
    put_filled(stream, NULL, 4, 1);     /* REF: same block */
    put_filled(stream, "rom", 2, 1);    /* REF: other block */
    fill(page, 1);
    page[100] ^= 1;
    page[4000] ^= 1;
    put_page(stream, "pc.ram", 4, page); /* DELTA */
    put_page(stream, NULL, 4, page);     /* DELTA of nothing */
    put_filled(stream, NULL, 4, 2);      /* all new: PAGE */
    put_filled(stream, NULL, 3, 2);      /* REF, over its own old version */
    put_filled(stream, NULL, 5, 1);      /* REF to "rom" 2, which has it still */
    memset(page, 0, PAGE);
    put_page(stream, NULL, 7, page); /* EMPTY */
    page[PAGE - 1] = 1;
    put_page(stream, NULL, 8, page); /* PAGE */
    end_part(stream);
    send_stream(t, stream, PAGE - 100,
                true); /* never two pages at once: none is replaced */
    g_assert_cmpmem(t->out->data, t->out->len, stream->data, stream->len);
    QmigPackCounts counts = counts_of(t);
    g_assert_cmpuint(counts.op[QMIG_BATCH_BLOCK].n, ==, 2);
    g_assert_cmpuint(counts.op[QMIG_BATCH_PAGE].n, >=, 3);
    g_assert_cmpuint(counts.op[QMIG_BATCH_REF].n, >=, 3);
    g_assert_cmpuint(counts.op[QMIG_BATCH_EMPTY].n, ==, 1);
    g_assert_cmpuint(counts.cache_pages, ==, CACHE / PAGE);
}

/* One page of each kind again and again; each is carried before the next is put. */
static void
put_and_carry(Tunnel *t, GByteArray *piece)
{
    put(t, piece->data, piece->len);
    while (carry(t, QMIG_BATCH_MAX)) {
    }
    g_byte_array_set_size(piece, 0);
}

/* Middle: a page is kept when it comes again. */
static void
test_delta_is_small(void)
{
    g_autoptr(GByteArray) piece = g_byte_array_new();
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 0);
    uint8_t page[PAGE];

    fill(page, 5);
    qmig_pack_set_effort(t->pack, QMIG_PACK_MIDDLE);
    put_ram_head(piece, false);
    begin_part(piece);
    put_page(piece, "pc.ram", 9, page);
    put_and_carry(t, piece);
    put_page(piece, NULL, 9, page);
    put_and_carry(t, piece);
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_LITERAL].n, ==, 1);
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_PAGE].n, ==, 1);
    uint64_t before = counts_of(t).bytes_out;
    for (int i = 0; i < 100; i++) {
        page[i * 7] ^= 0x55;
        put_page(piece, NULL, 9, page);
        put_and_carry(t, piece);
    }
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_DELTA].n, ==, 100);
    g_assert_cmpuint(counts_of(t).bytes_out - before, <, 100 * (QMIG_BATCH_HEAD + 12));
    for (size_t stride = 200; stride < 264; stride += 8) {
        for (size_t i = 0; i < PAGE; i += stride) { /* the same word of all structures */
            page[i]++;
        }
        put_page(piece, NULL, 9, page);
        put_and_carry(t, piece);
    }
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_DELTA].n, ==, 108);
    /* A page that is all new is no delta. */
    put_filled(piece, NULL, 9, 6);
    put_and_carry(t, piece);
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_PAGE].n, ==, 2);
}

/* Without cache work nothing is remembered, and what is remembered stays right. */
static void
test_effort(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 0);

    put_ram_head(stream, false);
    begin_part(stream);
    for (unsigned i = 0; i < 3000; i++) {
        unsigned number = (unsigned)g_test_rand_int_range(0, RAM_PAGES);
        uint8_t page[PAGE];

        fill(page, number % 50);
        memcpy(page + i % 4000, &i, sizeof i);
        put_page(stream, i == 0 ? "pc.ram" : NULL, number, page);
    }
    end_part(stream);
    for (size_t at = 0; at < stream->len; at += 100000) {
        qmig_pack_set_effort(t->pack, at / 100000 % 2 ? QMIG_PACK_FAST : QMIG_PACK_SMALL);
        put(t, stream->data + at, MIN(100000, stream->len - at));
        g_assert_true(carry(t, QMIG_BATCH_MAX));
        while (carry(t, QMIG_BATCH_MAX)) {
        }
    }
    assert_same_memory(stream, t->out);
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_LITERAL].n, >, 1000);
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_DELTA].n, >, 200);
}

/* The older version goes, wherever it was; behind a barrier it stays. */
static void
test_replaced(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(GString) order = g_string_new(NULL);
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 0);

    put_ram_head(stream, false);
    begin_part(stream);
    for (unsigned i = 0; i < 5; i++) {
        put_filled(stream, i == 0 ? "pc.ram" : NULL, i, i);
    }
    end_part(stream);
    begin_part(stream);
    put_filled(stream, NULL, 1, 100); /* in another section */
    put_filled(stream, NULL, 3, 101);
    put_be64(stream, 4 * PAGE | 0x02 | 0x20); /* a zero page, too */
    put_u8(stream, 0);
    put_be64(stream, 0 * PAGE | 0x40 | 0x20); /* XBZRLE needs the version before it */
    put_u8(stream, 1);
    put_be16(stream, 3);
    put_u8(stream, 0);
    put_u8(stream, 1);
    put_u8(stream, 0x77);
    end_part(stream);
    put_command(stream, 2, 4); /* PING: a barrier */
    put_be32(stream, 1);
    begin_part(stream);
    put_filled(stream, NULL, 2, 102);
    end_part(stream);
    send_stream(t, stream, stream->len, false);
    g_assert_cmpuint(counts_of(t).replaced, ==, 3);
    assert_same_memory(stream, t->out);
    g_hash_table_unref(memory_of(t->out, order));
    g_assert_cmpstr(order->str, ==, "0 2 1 3 4 0 2 ");
}

static GString *
postcopy_order(bool huge, const uint64_t *requests, size_t n)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    GString *order = g_string_new(NULL);
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 0);

    put_ram_head(stream, huge);
    put_switch_to_postcopy(stream);
    for (unsigned part = 0; part < 2; part++) {
        begin_part(stream);
        for (unsigned i = 0; i < 6; i++) {
            put_filled(stream, part + i == 0 ? "pc.ram" : NULL, part * 6 + i, i);
        }
        end_part(stream);
    }
    put_command(stream, 2, 4);
    put_be32(stream, 4);
    begin_part(stream);
    put_filled(stream, NULL, 12, 1);
    end_part(stream);
    qmig_pack_request(t->pack, "pc.ram", 2 * PAGE, PAGE); /* too early: not post-copy */
    put(t, stream->data, stream->len - 20000);
    for (size_t i = 0; i < n; i++) {
        qmig_pack_request(t->pack, i == 0 ? "pc.ram" : NULL, requests[i] * PAGE, PAGE);
    }
    put(t, stream->data + stream->len - 20000, 20000);
    qmig_pack_finish(t->pack);
    while (carry(t, QMIG_BATCH_MAX)) {
    }
    g_hash_table_unref(memory_of(t->out, order));
    assert_same_memory(stream, t->out);
    return order;
}

static void
test_postcopy(void)
{
    static const uint64_t requests[] = { 4, 10, 700, 12, 1 };
    static const uint64_t none[] = { 4, 100000 };
    g_autoptr(GString) order = postcopy_order(false, requests, G_N_ELEMENTS(requests));
    g_autoptr(GString) huge = postcopy_order(true, requests, G_N_ELEMENTS(requests));
    g_autoptr(GString) other = postcopy_order(false, none, G_N_ELEMENTS(none));

    /* 10 comes after it was asked for, from another section; 12 stands behind a barrier. */
    g_assert_cmpstr(order->str, ==, "4 1 10 0 2 3 5 6 7 8 9 11 12 ");
    g_assert_cmpstr(huge->str, ==, "0 1 2 3 4 5 6 7 8 9 10 11 12 ");
    g_assert_cmpstr(other->str, ==, "4 0 1 2 3 5 6 7 8 9 10 11 12 ");
}

/* In post-copy every page leaves as often as it came. */
static void
test_postcopy_keeps_all(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 0);

    put_ram_head(stream, false);
    begin_part(stream);
    put_filled(stream, "pc.ram", 1, 1);
    end_part(stream);
    put_switch_to_postcopy(stream);
    begin_part(stream);
    put_filled(stream, NULL, 1, 2);
    put_filled(stream, NULL, 1, 3);
    end_part(stream);
    send_stream(t, stream, stream->len, false);
    g_assert_cmpmem(t->out->data, t->out->len, stream->data, stream->len);
}

/* A guest four times as large as the cache: pages that come again and again are still deltas. */
static void
test_eviction(void)
{
    const uint64_t cache = RAM_PAGES / 4 * PAGE;
    g_autoptr(GByteArray) piece = g_byte_array_new();
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(Tunnel) t = tunnel_new(cache, 0);

    put_ram_head(piece, false);
    begin_part(piece);
    for (unsigned i = 0; i < 4 * RAM_PAGES; i++) {
        uint8_t page[PAGE];
        unsigned hot = i % 8;

        fill(page, 1000 + hot);
        memcpy(page + 64, &i, sizeof i);
        put_page(piece, i == 0 ? "pc.ram" : NULL, hot * 3, page);
        put_filled(piece, NULL, i % RAM_PAGES, i);
        g_byte_array_append(stream, piece->data, piece->len);
        put_and_carry(t, piece);
    }
    end_part(piece);
    g_byte_array_append(stream, piece->data, piece->len);
    put_and_carry(t, piece);
    assert_same_memory(stream, t->out);
    g_assert_cmpuint(counts_of(t).evicted, >, RAM_PAGES);
    g_assert_cmpuint(counts_of(t).op[QMIG_BATCH_DELTA].n, >, 3 * RAM_PAGES);
}

/* ---- two threads ------------------------------------------------------------------------ */

typedef struct {
    Tunnel *t;
    GByteArray *stream;
} Job;

static gpointer
putter(gpointer data)
{
    const Job *job = data;

    for (size_t at = 0; at < job->stream->len; at += 150000) {
        put(job->t, job->stream->data + at, MIN(150000, job->stream->len - at));
    }
    qmig_pack_finish(job->t->pack);
    return NULL;
}

static void
test_threads(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 1 << 20);
    g_autoptr(GError) error = NULL;
    ssize_t n;

    put_ram_head(stream, false);
    begin_part(stream);
    for (unsigned i = 0; i < 6000; i++) {
        put_filled(stream, i == 0 ? "pc.ram" : NULL, i * 7 % RAM_PAGES, i / 3);
    }
    end_part(stream);
    Job job = { t, stream };
    GThread *thread = g_thread_new("putter", putter, &job);
    while ((n = qmig_pack_take(t->pack, t->buf, sizeof t->buf, NULL, &error)) > 0) {
        g_assert_true(
            qmig_unpack_take(t->unpack, t->buf, (size_t)n, collect, t->out, &error));
        g_assert_cmpuint(qmig_pack_pending(t->pack), <, 3 << 20);
    }
    g_thread_join(thread);
    g_assert_no_error(error);
    g_assert_cmpint(n, ==, 0);
    assert_same_memory(stream, t->out);
    g_assert_cmpuint(counts_of(t).bytes_in, ==,
                     t->out->len + counts_of(t).replaced_bytes);
}

/* What may wait is bounded, and the wait can be ended. */
static void
test_full(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(Tunnel) t = tunnel_new(CACHE, 1 << 20);
    g_autoptr(GError) error = NULL;

    put_ram_head(stream, false);
    begin_part(stream);
    for (unsigned i = 0; i < RAM_PAGES; i++) {
        put_filled(stream, i == 0 ? "pc.ram" : NULL, i, i);
    }
    g_assert_false(qmig_pack_put(t->pack, stream->data, stream->len, t->now, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
    g_assert_true(carry(t, QMIG_BATCH_MAX));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(golden); i++) {
        g_autofree char *same = g_strconcat("/link-pack/same-bytes/", golden[i], NULL);
        g_autofree char *memory = g_strconcat("/link-pack/same-memory/", golden[i], NULL);

        g_test_add_data_func(same, golden[i], test_golden);
        if (!has_postcopy(golden[i])) {
            g_test_add_data_func(memory, golden[i], test_golden_replaced);
        }
    }
    g_test_add_func("/link-pack/resumed", test_resumed);
    g_test_add_func("/link-pack/samples", test_samples);
    g_test_add_func("/link-pack/not-understood-passes", test_not_understood);
    g_test_add_func("/link-pack/ops", test_ops);
    g_test_add_func("/link-pack/delta-is-small", test_delta_is_small);
    g_test_add_func("/link-pack/effort-switched", test_effort);
    g_test_add_func("/link-pack/replaced", test_replaced);
    g_test_add_func("/link-pack/requested-pages-overtake", test_postcopy);
    g_test_add_func("/link-pack/postcopy-keeps-all", test_postcopy_keeps_all);
    g_test_add_func("/link-pack/cache-smaller-than-guest", test_eviction);
    g_test_add_func("/link-pack/threads", test_threads);
    g_test_add_func("/link-pack/full", test_full);
    return g_test_run();
}
