/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * RAM records, bytes -> events. The grammar is in stream/format.h.
 *
 * qmig_ram_parse() runs once for every page of a migration, so it touches the head of a record
 * only, never the page, and leaves everything rare to functions of its own.
 */
#include "stream/bounds.h"
#include "stream/decoder-priv.h"
#include "stream/format.h"
#include "util/error.h"

#include <inttypes.h>

/* zlib's compressBound() for small inputs, rounded up: what QEMU checks against. */
#define ZLIB_BOUND(page_size) ((page_size) + ((page_size) >> 9) + 64)

/* The block a page record is for: named in the record, or the current one. */
static QmigParse
take_block(const QmigDecoder *d, QmigCursor *c, bool continued,
           const QmigRamBlock **block, GError **error)
{
    const uint8_t *name;
    uint8_t len;

    if (G_LIKELY(continued)) {
        *block = d->block;
        return d->block != NULL
                   ? QMIG_PARSE_DONE
                   : qmig_decoder_fail(
                         d, error,
                         "ram: a page continues a block, but none was named before");
    }
    if (!(qmig_cursor_u8(c, &len) && qmig_cursor_bytes(c, len, &name))) {
        return QMIG_PARSE_SHORT;
    }
    *block = qmig_blocks_find(d, name, len);
    return *block != NULL
               ? QMIG_PARSE_DONE
               : qmig_decoder_fail(d, error, "ram: page in unknown block \"%.*s\"", len,
                                   name);
}

/* The payload of a page record whose head has been taken; its length goes to @length. */
static QmigParse
take_payload(const QmigDecoder *d, QmigCursor *c, unsigned kind, uint32_t *length,
             GError **error)
{
    uint8_t encoding;
    uint16_t n16;

    switch (kind) {
    case QMIG_PAGE_ZERO:
        *length = 1;
        return QMIG_PARSE_DONE;
    case QMIG_PAGE_NORMAL:
        *length = d->page_size;
        return QMIG_PARSE_DONE;
    case QMIG_PAGE_XBZRLE:
        if (!(qmig_cursor_u8(c, &encoding) && qmig_cursor_be16(c, &n16))) {
            return QMIG_PARSE_SHORT;
        }
        *length = n16;
        if (encoding != WIRE_XBZRLE_ENCODING || n16 > d->page_size) {
            return qmig_decoder_fail(
                d, error,
                "ram: XBZRLE page with encoding %u and %u bytes, wanted 1 and <= %u",
                encoding, n16, d->page_size);
        }
        return QMIG_PARSE_DONE;
    case QMIG_PAGE_ZLIB:
    default:
        if (!qmig_cursor_be32(c, length)) {
            return QMIG_PARSE_SHORT;
        }
        if (*length > ZLIB_BOUND(d->page_size)) {
            return qmig_decoder_fail(d, error, "ram: zlib page of %u bytes, limit %u",
                                     *length, ZLIB_BOUND(d->page_size));
        }
        return QMIG_PARSE_DONE;
    }
}

static QmigParse
parse_page(QmigDecoder *d, QmigCursor *c, uint64_t word, size_t *need,
           struct qmig_event *ev, GError **error)
{
    unsigned kind = word & (d->page_size - 1) & ~(uint64_t)WIRE_RAM_CONTINUE;
    bool continued = word & WIRE_RAM_CONTINUE;
    uint64_t offset = word & ~(uint64_t)(d->page_size - 1);
    const uint8_t *head = c->p - sizeof word, *data;
    const QmigRamBlock *block;
    uint32_t length;
    QmigParse result = take_block(d, c, continued, &block, error);

    if (result != QMIG_PARSE_DONE) {
        return result;
    }
    if (offset >= block->public.used_length) {
        return qmig_decoder_fail(d, error,
                                 "ram: block \"%s\": page offset 0x%" PRIx64
                                 " beyond length 0x%" PRIx64,
                                 block->name, offset, block->public.used_length);
    }
    result = take_payload(d, c, kind, &length, error);
    if (result != QMIG_PARSE_DONE) {
        return result;
    }
    if (!qmig_cursor_bytes(c, length, &data)) {
        *need = (size_t)(c->p - head) + length;
        return QMIG_PARSE_SHORT;
    }

    d->block = block;
    qmig_decoder_event(d, ev, QMIG_EVENT_PAGE);
    ev->u.page = (struct qmig_event_page){
        .block = &block->public,
        .offset = offset,
        .data = data,
        .length = length,
        .kind = (uint16_t)kind,
        .continued = continued,
    };
    return QMIG_PARSE_DONE;
}

QmigParse
qmig_ram_parse(QmigDecoder *d, QmigCursor *c, size_t *need, struct qmig_event *ev,
               GError **error)
{
    uint64_t word;

    if (!qmig_cursor_be64(c, &word)) {
        return QMIG_PARSE_SHORT;
    }
    switch (word & (d->page_size - 1) & ~(uint64_t)WIRE_RAM_CONTINUE) {
    case QMIG_PAGE_NORMAL:
    case QMIG_PAGE_ZERO:
    case QMIG_PAGE_XBZRLE:
    case QMIG_PAGE_ZLIB:
        return parse_page(d, c, word, need, ev, error);
    case WIRE_RAM_MEM_SIZE:
        if (!(word & WIRE_RAM_CONTINUE)) {
            return qmig_blocks_parse_size(d, word, ev, error);
        }
        break;
    case WIRE_RAM_EOS:
        if (word == WIRE_RAM_EOS) {
            qmig_decoder_event(d, ev, QMIG_EVENT_RAM_EOS);
            d->state = qmig_decoder_after_body(d);
            return QMIG_PARSE_DONE;
        }
        break;
    case WIRE_RAM_FLUSH:
    case WIRE_RAM_HOOK:
        if (word == WIRE_RAM_FLUSH || word == WIRE_RAM_HOOK) {
            qmig_decoder_event(d, ev,
                               word == WIRE_RAM_HOOK ? QMIG_EVENT_RAM_HOOK
                                                     : QMIG_EVENT_RAM_FLUSH);
            return QMIG_PARSE_DONE;
        }
        break;
    default:
        break;
    }
    return qmig_decoder_fail(
        d, error, "ram: record 0x%016" PRIx64 " has an unknown combination of flags",
        word);
}
