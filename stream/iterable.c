/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sections other than RAM whose length can be told from their bytes: dirty bitmaps, the old
 * block migration (QEMU <= 9.0), VFIO devices; and the one device section that comes before RAM.
 * The grammars are in stream/format.h.
 */
#include "stream/bounds.h"
#include "stream/decoder-priv.h"
#include "stream/format.h"

#include <inttypes.h>
#include <string.h>

QmigDecoderState
qmig_iterable_state(const char *name, uint32_t instance, uint32_t version)
{
    if (strcmp(name, "ram") == 0 && instance == 0 && version == WIRE_RAM_VERSION) {
        return STATE_RAM;
    }
    if (strcmp(name, "dirty-bitmap") == 0 && version == 1) {
        return STATE_BITMAP;
    }
    if (strcmp(name, "block") == 0 && version == 1) {
        return STATE_DISK;
    }
    if (g_str_has_suffix(name, "/vfio") && version == 1) {
        return STATE_VFIO;
    }
    return STATE_RAW;
}

static QmigParse
take_bits(const QmigDecoder *d, QmigCursor *c, struct qmig_event_dirty_bitmap *chunk,
          GError **error)
{
    if (!(qmig_cursor_be64(c, &chunk->first_sector) &&
          qmig_cursor_be32(c, &chunk->n_sectors))) {
        return QMIG_PARSE_SHORT;
    }
    if (chunk->flags & QMIG_BITMAP_ZEROES) {
        return QMIG_PARSE_DONE;
    }
    if (!qmig_cursor_be64(c, &chunk->length)) {
        return QMIG_PARSE_SHORT;
    }
    return chunk->length <= QMIG_LIMIT_DIRTY_BITMAP
               ? QMIG_PARSE_DONE
               : qmig_decoder_fail(
                     d, error,
                     "dirty-bitmap \"%s\" of \"%s\": %" PRIu64 " bytes of bits, limit %d",
                     chunk->bitmap, chunk->node, chunk->length, QMIG_LIMIT_DIRTY_BITMAP);
}

static QmigParse
parse_bitmap(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    struct qmig_event_dirty_bitmap chunk = { 0 };
    QmigParse result = QMIG_PARSE_DONE;
    uint8_t flags;

    if (!qmig_cursor_u8(c, &flags)) {
        return QMIG_PARSE_SHORT;
    }
    unsigned what = flags & (QMIG_BITMAP_START | QMIG_BITMAP_COMPLETE | QMIG_BITMAP_BITS);
    bool is_plain_end = flags == QMIG_BITMAP_EOS;
    if ((flags & 0x80) != 0 ||
        (!is_plain_end && (what == 0 || (what & (what - 1)) != 0))) {
        return qmig_decoder_fail(d, error, "dirty-bitmap: chunk with flags 0x%02x",
                                 flags);
    }
    chunk.flags = flags;
    if (((flags & QMIG_BITMAP_NODE) &&
         !qmig_cursor_cstr(c, d->node.text, &d->node.length)) ||
        ((flags & QMIG_BITMAP_NAME) &&
         !qmig_cursor_cstr(c, d->bitmap.text, &d->bitmap.length))) {
        return QMIG_PARSE_SHORT;
    }
    chunk.node = d->node.text;
    chunk.node_length = d->node.length;
    chunk.bitmap = d->bitmap.text;
    chunk.bitmap_length = d->bitmap.length;
    if (what == QMIG_BITMAP_START) {
        uint8_t bitmap_flags;

        if (!(qmig_cursor_be32(c, &chunk.granularity) &&
              qmig_cursor_u8(c, &bitmap_flags))) {
            return QMIG_PARSE_SHORT;
        }
        chunk.bitmap_flags = bitmap_flags;
    } else if (what == QMIG_BITMAP_BITS) {
        result = take_bits(d, c, &chunk, error);
    }
    if (result == QMIG_PARSE_DONE) {
        qmig_decoder_event(d, ev, QMIG_EVENT_DIRTY_BITMAP);
        ev->u.dirty_bitmap = chunk;
        qmig_decoder_bulk(d, QMIG_BYTES_BITMAP, chunk.length,
                          flags & QMIG_BITMAP_EOS ? qmig_decoder_after_body(d)
                                                  : STATE_BITMAP);
    }
    return result;
}

static QmigParse
parse_disk(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    const unsigned mask = (1 << WIRE_SECTOR_BITS) - 1;
    struct qmig_event_disk_block block = { .device = "" };
    uint64_t word;

    if (!qmig_cursor_be64(c, &word)) {
        return QMIG_PARSE_SHORT;
    }
    block.flags = word & mask;
    block.sector = word >> WIRE_SECTOR_BITS;
    switch (block.flags) {
    case QMIG_DISK_DATA:
    case QMIG_DISK_DATA | QMIG_DISK_ZERO:
        if (!qmig_cursor_cstr(c, d->node.text, &d->node.length)) {
            return QMIG_PARSE_SHORT;
        }
        block.device = d->node.text;
        block.device_length = d->node.length;
        block.length = block.flags & QMIG_DISK_ZERO ? 0 : WIRE_DISK_BLOCK;
        break;
    case QMIG_DISK_EOS:
    case QMIG_DISK_PROGRESS:
        break;
    default:
        return qmig_decoder_fail(d, error, "block: record with flags 0x%x", block.flags);
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_DISK_BLOCK);
    ev->u.disk_block = block;
    qmig_decoder_bulk(d, QMIG_BYTES_DISK, block.length,
                      block.flags == QMIG_DISK_EOS ? qmig_decoder_after_body(d)
                                                   : STATE_DISK);
    return QMIG_PARSE_DONE;
}

static QmigParse
parse_vfio(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    struct qmig_event_vfio record = { 0 };
    bool ends = false;
    uint64_t word;

    if (!qmig_cursor_be64(c, &word)) {
        return QMIG_PARSE_SHORT;
    }
    record.tag = (uint32_t)(word & 0xf);
    if (word != WIRE_VFIO_TAG + record.tag) {
        record.tag = 0;
    }
    switch (record.tag) {
    case QMIG_VFIO_END_OF_STATE:
    case QMIG_VFIO_INIT_DATA_SENT:
        ends = true;
        break;
    case QMIG_VFIO_SETUP_STATE:
        break;
    case QMIG_VFIO_DATA_STATE:
        if (!qmig_cursor_be64(c, &record.length)) {
            return QMIG_PARSE_SHORT;
        }
        break;
    default:
        return qmig_decoder_fail(d, error, "section \"%s\": tag 0x%016" PRIx64,
                                 d->section_name.text, word);
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_VFIO);
    ev->u.vfio = record;
    qmig_decoder_bulk(d, QMIG_BYTES_VFIO, record.length,
                      ends ? qmig_decoder_after_body(d) : STATE_VFIO);
    return QMIG_PARSE_DONE;
}

QmigParse
qmig_iterable_parse(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    switch ((int)d->state) {
    case STATE_BITMAP:
        return parse_bitmap(d, c, ev, error);
    case STATE_DISK:
        return parse_disk(d, c, ev, error);
    case STATE_VFIO:
        return parse_vfio(d, c, ev, error);
    default:
        g_assert_not_reached();
    }
}

/* QEMU 8.0 and later, hw/virtio/virtio-mem.c: sent so that the destination knows which of the
 * device's memory is plugged before any RAM comes. */
QmigParse
qmig_early_length(const char *name, QmigCursor c, uint64_t *length)
{
    const uint8_t *start = c.p;
    uint64_t address, region, block, size;
    uint32_t node;

    if (!g_str_has_suffix(name, "/virtio-mem-device-early")) {
        return QMIG_PARSE_FAILED;
    }
    if (!(qmig_cursor_be64(&c, &address) && qmig_cursor_be64(&c, &region) &&
          qmig_cursor_be64(&c, &block) && qmig_cursor_be32(&c, &node) &&
          qmig_cursor_be64(&c, &size))) {
        return QMIG_PARSE_SHORT;
    }
    if (block == 0 || region % block != 0 || size > region) {
        return QMIG_PARSE_FAILED;
    }
    uint64_t n_blocks = region / block;
    *length = (uint64_t)(c.p - start) + n_blocks / 64 * 8 + (n_blocks % 64 > 0 ? 8 : 0);
    return *length <= QMIG_LIMIT_EARLY_STATE ? QMIG_PARSE_DONE : QMIG_PARSE_FAILED;
}
