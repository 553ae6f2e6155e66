/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The list of RAM blocks, and in a mapped-ram file what lies between its entries: for each block
 * a bitmap of the pages that are there, padding, and the pages at their places.
 *
 * A mapped-ram file is read like a stream, front to back: the writer jumps forward only. The
 * offsets in it are the file's; where the stream begins in the file (file:…,offset=N) follows
 * from the first of them.
 */
#include "stream/bounds.h"
#include "stream/decoder-priv.h"
#include "stream/format.h"

#include <inttypes.h>

const QmigRamBlock *
qmig_blocks_find(const QmigDecoder *d, const uint8_t *name, size_t len)
{
    for (guint i = 0; i < d->blocks->len; i++) {
        const QmigRamBlock *block = g_ptr_array_index(d->blocks, i);

        if (block->public.name_length == len && memcmp(block->name, name, len) == 0) {
            return block;
        }
    }
    return NULL;
}

QmigParse
qmig_blocks_parse_size(QmigDecoder *d, uint64_t word, struct qmig_event *ev,
                       GError **error)
{
    uint64_t total = word & ~(uint64_t)(d->page_size - 1);

    if (d->list_seen) {
        return qmig_decoder_fail(d, error, "ram: a second block list");
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_RAM_SIZE);
    ev->u.ram_size.total = total;
    d->list_seen = true;
    d->list_left = total;
    if (total != 0) {
        d->state = STATE_RAM_LIST;
    }
    return QMIG_PARSE_DONE;
}

/*
 * Under postcopy an entry carries its block's page size when that is not the host's, and nothing
 * says so. But it can be told: such a size is one bit of ADVISE's mask, so it begins with a zero
 * byte, and what else may follow here does not: a name's length is not 0, and a RAM record's
 * word that is one bit (EOS, FLUSH) is smaller than any page.
 */
static QmigParse
take_host_page_size(const QmigDecoder *d, QmigCursor *c, uint64_t *size)
{
    QmigCursor look = *c;
    uint64_t word;
    uint8_t first;

    *size = 0;
    if ((d->postcopy_pages & ~(uint64_t)d->page_size) == 0) {
        return QMIG_PARSE_DONE;
    }
    if (!qmig_cursor_u8(&look, &first)) {
        return QMIG_PARSE_SHORT;
    }
    if (first != 0) {
        return QMIG_PARSE_DONE;
    }
    look = *c;
    if (!qmig_cursor_be64(&look, &word)) {
        return QMIG_PARSE_SHORT;
    }
    if (word >= d->page_size && (word & (word - 1)) == 0 && (word & d->postcopy_pages)) {
        *size = word;
        *c = look;
    }
    return QMIG_PARSE_DONE;
}

/* What a mapped-ram entry promises; @end is the offset of its end in the stream. */
static QmigParse
check_mapped(QmigDecoder *d, const struct qmig_event_ram_block *e, uint64_t end,
             uint64_t bitmap_length, GError **error)
{
    const char *name = e->block->name;
    if (e->mapped_version != WIRE_MAPPED_VERSION || e->mapped_page_size != d->page_size) {
        return qmig_decoder_fail(
            d, error,
            "mapped-ram: block \"%s\": version %u and pages of %" PRIu64
            " bytes, wanted %d and %u",
            name, e->mapped_version, e->mapped_page_size, WIRE_MAPPED_VERSION,
            d->page_size);
    }
    if (e->block->used_length % d->page_size != 0 ||
        bitmap_length > QMIG_LIMIT_MAPPED_BITMAP) {
        return qmig_decoder_fail(d, error,
                                 "mapped-ram: block \"%s\": length 0x%" PRIx64
                                 " is no number of pages, or beyond the limit",
                                 name, e->block->used_length);
    }
    if (e->bitmap_offset < end ||
        (d->mapped_base_known && e->bitmap_offset - end != d->mapped_base)) {
        return qmig_decoder_fail(
            d, error,
            "mapped-ram: block \"%s\": bitmap at file offset %" PRIu64
            ", but its entry ends at %" PRIu64,
            name, e->bitmap_offset, end + d->mapped_base);
    }
    if (e->pages_offset < e->bitmap_offset ||
        e->pages_offset - e->bitmap_offset < bitmap_length) {
        return qmig_decoder_fail(d, error,
                                 "mapped-ram: block \"%s\": pages at %" PRIu64
                                 " inside the bitmap at %" PRIu64,
                                 name, e->pages_offset, e->bitmap_offset);
    }
    d->mapped_base = e->bitmap_offset - end;
    d->mapped_base_known = true;
    return QMIG_PARSE_DONE;
}

/* Bitmaps are written as whole 64-bit words. */
static uint64_t
bitmap_length(const QmigDecoder *d, uint64_t used_length)
{
    return (used_length / d->page_size + 63) / 64 * 8;
}

static QmigParse
begin_mapped(QmigDecoder *d, const struct qmig_event_ram_block *e, uint64_t end,
             GError **error)
{
    if (d->ignore_shared && e->bitmap_offset == 0 && e->pages_offset == 0) {
        return QMIG_PARSE_DONE; /* a shared block: the next entry follows at once */
    }
    uint64_t length = bitmap_length(d, e->block->used_length);
    QmigParse result = check_mapped(d, e, end, length, error);

    if (result == QMIG_PARSE_DONE) {
        d->mapped_padding = e->pages_offset - e->bitmap_offset - length;
        d->mapped_next = 0;
        g_byte_array_set_size(d->mapped_bits, 0);
        qmig_decoder_bulk(d, QMIG_BYTES_MAPPED_BITMAP, length, STATE_MAPPED_PAGE);
    }
    return result;
}

static QmigParse
check_entry(const QmigDecoder *d, const QmigRamBlock *block, uint8_t name_len,
            GError **error)
{
    if (name_len == 0) {
        return qmig_decoder_fail(d, error, "ram: a block without a name");
    }
    if (block->public.used_length > d->list_left) {
        return qmig_decoder_fail(d, error,
                                 "ram: block \"%s\": length 0x%" PRIx64
                                 " exceeds the 0x%" PRIx64 " bytes left of the total",
                                 block->name, block->public.used_length, d->list_left);
    }
    if (qmig_blocks_find(d, (const uint8_t *)block->name, name_len) != NULL) {
        return qmig_decoder_fail(d, error, "ram: block \"%s\" is listed twice",
                                 block->name);
    }
    return d->blocks->len < QMIG_LIMIT_RAM_BLOCKS
               ? QMIG_PARSE_DONE
               : qmig_decoder_fail(d, error, "ram: more than %d RAM blocks",
                                   QMIG_LIMIT_RAM_BLOCKS);
}

/* The fields of an entry in wire order. */
static QmigParse
take_entry(const QmigDecoder *d, QmigCursor *c, QmigRamBlock *block, uint8_t *name_len,
           struct qmig_event_ram_block *e)
{
    QmigParse result;

    if (!(qmig_cursor_cstr(c, block->name, name_len) &&
          qmig_cursor_be64(c, &block->public.used_length))) {
        return QMIG_PARSE_SHORT;
    }
    result = take_host_page_size(d, c, &e->host_page_size);
    if (result != QMIG_PARSE_DONE) {
        return result;
    }
    if (d->ignore_shared && !qmig_cursor_be64(c, &block->public.gpa)) {
        return QMIG_PARSE_SHORT;
    }
    if (d->mapped_ram && !(qmig_cursor_be32(c, &e->mapped_version) &&
                           qmig_cursor_be64(c, &e->mapped_page_size) &&
                           qmig_cursor_be64(c, &e->bitmap_offset) &&
                           qmig_cursor_be64(c, &e->pages_offset))) {
        return QMIG_PARSE_SHORT;
    }
    return QMIG_PARSE_DONE;
}

QmigParse
qmig_blocks_parse_entry(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev,
                        GError **error)
{
    g_autofree QmigRamBlock *block = g_new0(QmigRamBlock, 1);
    struct qmig_event_ram_block e = { .block = &block->public };
    const uint8_t *start = c->p;
    uint8_t name_len;
    QmigParse result = take_entry(d, c, block, &name_len, &e);

    if (result != QMIG_PARSE_DONE) {
        return result;
    }
    result = check_entry(d, block, name_len, error);
    if (result != QMIG_PARSE_DONE) {
        return result;
    }
    block->public.size = sizeof block->public;
    block->public.index = d->blocks->len;
    block->public.name = block->name;
    block->public.name_length = name_len;
    block->public.page_size = d->page_size;
    e.has_gpa = d->ignore_shared;
    d->state = d->list_left == block->public.used_length ? STATE_RAM : STATE_RAM_LIST;
    if (d->mapped_ram) {
        result = begin_mapped(d, &e, d->offset + (uint64_t)(c->p - start), error);
        if (result != QMIG_PARSE_DONE) {
            return result;
        }
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_RAM_BLOCK);
    ev->u.ram_block = e;
    d->list_left -= block->public.used_length;
    d->mapped = block;
    g_ptr_array_add(d->blocks, g_steal_pointer(&block));
    return QMIG_PARSE_DONE;
}

void
qmig_mapped_begin_pages(QmigDecoder *d)
{
    if (d->mapped_padding > 0) {
        qmig_decoder_bulk(d, QMIG_BYTES_PADDING, d->mapped_padding, STATE_MAPPED_PAGE);
        d->mapped_padding = 0;
    }
}

static bool
is_present(const QmigDecoder *d, uint64_t page)
{
    return d->mapped_bits->data[page / 8] >> page % 8 & 1;
}

void
qmig_mapped_skip(QmigDecoder *d)
{
    uint64_t n_pages = d->mapped->public.used_length / d->page_size;
    uint64_t first = d->mapped_next;

    while (d->mapped_next < n_pages && !is_present(d, d->mapped_next)) {
        d->mapped_next++;
    }
    QmigDecoderState after = d->list_left > 0 ? STATE_RAM_LIST : STATE_RAM;
    d->state = d->mapped_next < n_pages ? STATE_MAPPED_PAGE : after;
    if (d->mapped_next > first) {
        qmig_decoder_bulk(d, QMIG_BYTES_PADDING, (d->mapped_next - first) * d->page_size,
                          d->state);
    }
}

QmigParse
qmig_mapped_parse_page(QmigDecoder *d, QmigCursor *c, size_t *need, struct qmig_event *ev)
{
    const uint8_t *data;

    if (!qmig_cursor_bytes(c, d->page_size, &data)) {
        *need = d->page_size;
        return QMIG_PARSE_SHORT;
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_PAGE);
    ev->u.page = (struct qmig_event_page){
        .block = &d->mapped->public,
        .offset = d->mapped_next * d->page_size,
        .data = data,
        .length = d->page_size,
        .kind = QMIG_PAGE_MAPPED,
    };
    d->mapped_next++;
    return QMIG_PARSE_DONE;
}
