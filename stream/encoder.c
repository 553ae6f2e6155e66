/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Events -> pieces for writev(2). Heads are written into one scratch buffer, payloads are
 * referenced where they lie; neighbouring heads share a piece.
 */
#include "stream/encoder.h"

#include "stream/format.h"
#include "stream/multifd.h"
#include "util/error.h"
#include "util/writer.h"

#include <inttypes.h>
#include <string.h>

enum {
    MAX_PIECES = 512, /* below IOV_MAX; an event adds two at most */
    SCRATCH = 64 << 10,
    MAX_HEAD = QMIG_MULTIFD_HEAD_MAX, /* the longest head */
};

struct QmigEncoder {
    struct iovec pieces[MAX_PIECES];
    size_t n_pieces;
    size_t bytes; /* sum of the pieces */
    QmigWriter scratch;
    const struct qmig_block *block; /* last one named; borrowed, only compared */
    uint8_t storage[SCRATCH];
};

QmigEncoder *
qmig_encoder_new(void)
{
    QmigEncoder *e = g_new0(QmigEncoder, 1);

    e->scratch = qmig_writer(e->storage, sizeof e->storage);
    return e;
}

void
qmig_encoder_free(QmigEncoder *e)
{
    g_free(e);
}

bool
qmig_encoder_is_full(const QmigEncoder *e)
{
    return e->n_pieces + 2 > MAX_PIECES || e->scratch.cap - e->scratch.len < MAX_HEAD;
}

size_t
qmig_encoder_pending(const QmigEncoder *e, const struct iovec **iov, size_t *bytes)
{
    *iov = e->pieces;
    *bytes = e->bytes;
    return e->n_pieces;
}

void
qmig_encoder_clear(QmigEncoder *e)
{
    e->n_pieces = 0;
    e->bytes = 0;
    e->scratch.len = 0;
}

static void
add_piece(QmigEncoder *e, const void *data, size_t len)
{
    struct iovec *last = e->n_pieces > 0 ? &e->pieces[e->n_pieces - 1] : NULL;

    if (len == 0) {
        return;
    }
    e->bytes += len;
    if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == data) {
        last->iov_len += len;
        return;
    }
    e->pieces[e->n_pieces++] = (struct iovec){ .iov_base = (void *)data, .iov_len = len };
}

/* Append what was written to the scratch buffer since @mark, then the payload. */
static bool
commit(QmigEncoder *e, size_t mark, const void *payload, size_t len)
{
    add_piece(e, e->scratch.buf + mark, e->scratch.len - mark);
    add_piece(e, payload, len);
    return true;
}

static bool reject(GError **error, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static bool
reject(GError **error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "encoder: %s", text);
}

/* Is there a length field, and does the payload fit the format? */
static bool
check_page(const struct qmig_event_page *page, GError **error)
{
    const struct qmig_block *block = page->block;
    bool fits;

    if (page->offset >= block->used_length ||
        (page->offset & (block->page_size - 1)) != 0) {
        return reject(error,
                      "block \"%s\": page offset 0x%" PRIx64
                      " is no page of its 0x%" PRIx64 " bytes",
                      block->name, page->offset, block->used_length);
    }
    switch (page->kind) {
    case QMIG_PAGE_ZERO:
        fits = page->length == 1;
        break;
    case QMIG_PAGE_NORMAL:
        fits = page->length == block->page_size;
        break;
    case QMIG_PAGE_XBZRLE:
        fits = page->length <= block->page_size && page->length <= UINT16_MAX;
        break;
    case QMIG_PAGE_ZLIB:
        fits = true;
        break;
    case QMIG_PAGE_MAPPED:
        fits = page->length == block->page_size;
        break;
    default:
        return reject(error, "page kind 0x%x is not known", page->kind);
    }
    return fits ||
           reject(error, "page kind 0x%x with %u bytes", page->kind, page->length);
}

static bool
put_page(QmigEncoder *e, const struct qmig_event_page *page, GError **error)
{
    QmigWriter *w = &e->scratch;
    size_t mark = w->len;
    bool named = !(page->continued && e->block == page->block);
    uint64_t word = page->offset | page->kind | (named ? 0 : WIRE_RAM_CONTINUE);
    bool ok;

    if (!check_page(page, error)) {
        return false;
    }
    if (page->kind == QMIG_PAGE_MAPPED) {
        return commit(e, mark, page->data, page->length);
    }
    ok = qmig_writer_be64(w, word) &&
         (!named || qmig_writer_cstr(w, page->block->name, page->block->name_length));
    if (page->kind == QMIG_PAGE_XBZRLE) {
        ok = ok && qmig_writer_u8(w, WIRE_XBZRLE_ENCODING) &&
             qmig_writer_be16(w, (uint16_t)page->length);
    } else if (page->kind == QMIG_PAGE_ZLIB) {
        ok = ok && qmig_writer_be32(w, page->length);
    } else if (page->kind == QMIG_PAGE_ZERO) {
        /* One byte: cheaper in the head than as a piece of its own. */
        ok = ok && qmig_writer_u8(w, page->data[0]);
    }
    g_assert(ok);
    e->block = page->block;
    return commit(e, mark, page->data, page->kind == QMIG_PAGE_ZERO ? 0 : page->length);
}

static bool
put_config_sub(QmigEncoder *e, const struct qmig_event_config_sub *sub)
{
    size_t mark = e->scratch.len;
    bool ok = qmig_writer_u8(&e->scratch, WIRE_SUBSECTION) &&
              qmig_writer_cstr(&e->scratch, sub->name, sub->name_length) &&
              qmig_writer_be32(&e->scratch, sub->version);

    g_assert(ok);
    return commit(e, mark, sub->data, sub->length);
}

static bool
put_section(QmigEncoder *e, const struct qmig_event_section *s, GError **error)
{
    QmigWriter *w = &e->scratch;
    size_t mark = w->len;
    bool ok = qmig_writer_u8(w, (uint8_t)s->type) && qmig_writer_be32(w, s->id);

    if (s->type < QMIG_SECTION_START || s->type > QMIG_SECTION_FULL) {
        w->len = mark;
        return reject(error, "section type 0x%x is not known", s->type);
    }
    if (s->type == QMIG_SECTION_START || s->type == QMIG_SECTION_FULL) {
        ok = ok && qmig_writer_cstr(w, s->name, s->name_length) &&
             qmig_writer_be32(w, s->instance) && qmig_writer_be32(w, s->version);
    }
    g_assert(ok);
    return commit(e, mark, NULL, 0);
}

static bool
put_block(QmigEncoder *e, const struct qmig_event_ram_block *entry)
{
    QmigWriter *w = &e->scratch;
    size_t mark = w->len;
    bool ok =
        qmig_writer_cstr(w, entry->block->name, entry->block->name_length) &&
        qmig_writer_be64(w, entry->block->used_length) &&
        (entry->host_page_size == 0 || qmig_writer_be64(w, entry->host_page_size)) &&
        (!entry->has_gpa || qmig_writer_be64(w, entry->block->gpa)) &&
        (entry->mapped_version == 0 || (qmig_writer_be32(w, entry->mapped_version) &&
                                        qmig_writer_be64(w, entry->mapped_page_size) &&
                                        qmig_writer_be64(w, entry->bitmap_offset) &&
                                        qmig_writer_be64(w, entry->pages_offset)));

    g_assert(ok);
    return commit(e, mark, NULL, 0);
}

static bool
put_command(QmigEncoder *e, const struct qmig_event_command *cmd, GError **error)
{
    size_t mark = e->scratch.len;

    if (cmd->command > UINT16_MAX || cmd->length > UINT16_MAX) {
        return reject(error, "command %u with %u bytes", cmd->command, cmd->length);
    }
    bool ok = qmig_writer_u8(&e->scratch, WIRE_COMMAND) &&
              qmig_writer_be16(&e->scratch, (uint16_t)cmd->command) &&
              qmig_writer_be16(&e->scratch, (uint16_t)cmd->length);
    g_assert(ok);
    return commit(e, mark, cmd->data, cmd->length);
}

static bool
put_dirty_bitmap(QmigEncoder *e, const struct qmig_event_dirty_bitmap *chunk)
{
    QmigWriter *w = &e->scratch;
    size_t mark = w->len;
    unsigned flags = chunk->flags;
    bool has_data = (flags & QMIG_BITMAP_BITS) && !(flags & QMIG_BITMAP_ZEROES);
    bool ok = qmig_writer_u8(w, (uint8_t)flags) &&
              (!(flags & QMIG_BITMAP_NODE) ||
               qmig_writer_cstr(w, chunk->node, chunk->node_length)) &&
              (!(flags & QMIG_BITMAP_NAME) ||
               qmig_writer_cstr(w, chunk->bitmap, chunk->bitmap_length)) &&
              (!(flags & QMIG_BITMAP_START) ||
               (qmig_writer_be32(w, chunk->granularity) &&
                qmig_writer_u8(w, (uint8_t)chunk->bitmap_flags))) &&
              (!(flags & QMIG_BITMAP_BITS) || (qmig_writer_be64(w, chunk->first_sector) &&
                                               qmig_writer_be32(w, chunk->n_sectors))) &&
              (!has_data || qmig_writer_be64(w, chunk->length));

    g_assert(ok);
    return commit(e, mark, NULL, 0);
}

static bool
put_disk_block(QmigEncoder *e, const struct qmig_event_disk_block *block)
{
    QmigWriter *w = &e->scratch;
    size_t mark = w->len;
    bool ok = qmig_writer_be64(w, block->sector << WIRE_SECTOR_BITS | block->flags) &&
              (!(block->flags & QMIG_DISK_DATA) ||
               qmig_writer_cstr(w, block->device, block->device_length));

    g_assert(ok);
    return commit(e, mark, NULL, 0);
}

static bool
put_vfio(QmigEncoder *e, const struct qmig_event_vfio *record)
{
    size_t mark = e->scratch.len;
    bool ok = qmig_writer_be64(&e->scratch, WIRE_VFIO_TAG + record->tag) &&
              (record->tag != QMIG_VFIO_DATA_STATE ||
               qmig_writer_be64(&e->scratch, record->length));

    g_assert(ok);
    return commit(e, mark, NULL, 0);
}

static bool
put_colo(QmigEncoder *e, const struct qmig_event_colo *colo)
{
    size_t mark = e->scratch.len;
    bool ok = qmig_writer_be32(&e->scratch, colo->message) &&
              (colo->message != QMIG_COLO_VMSTATE_SIZE ||
               qmig_writer_be64(&e->scratch, colo->length));

    g_assert(ok);
    return commit(e, mark, NULL, 0);
}

static bool
put_word(QmigEncoder *e, uint64_t word)
{
    size_t mark = e->scratch.len;
    bool ok = qmig_writer_be64(&e->scratch, word);

    g_assert(ok);
    return commit(e, mark, NULL, 0);
}

static bool
put_multifd_init(QmigEncoder *e, const struct qmig_event_multifd_init *init,
                 GError **error)
{
    size_t mark = e->scratch.len;

    return qmig_multifd_write_init(&e->scratch, init, error) && commit(e, mark, NULL, 0);
}

static bool
put_multifd_packet(QmigEncoder *e, const struct qmig_multifd_packet *packet,
                   GError **error)
{
    size_t mark = e->scratch.len;

    return qmig_multifd_write_packet(&e->scratch, packet, error) &&
           commit(e, mark, packet->payload, packet->payload_length);
}

/* A type byte and one be32: header (magic has no type), footer, configuration. */
static bool
put_byte_be32(QmigEncoder *e, uint8_t type, uint32_t v, const void *payload, size_t len)
{
    size_t mark = e->scratch.len;
    bool ok = qmig_writer_u8(&e->scratch, type) && qmig_writer_be32(&e->scratch, v);

    g_assert(ok);
    return commit(e, mark, payload, len);
}

bool
qmig_encoder_put(QmigEncoder *e, const struct qmig_event *ev, GError **error)
{
    static const uint8_t eof_byte = WIRE_EOF;

    g_return_val_if_fail(!qmig_encoder_is_full(e), false);
    if (ev->flags & QMIG_EVENT_NOTE) {
        return true;
    }
    switch (ev->kind) {
    case QMIG_EVENT_PAGE:
        return put_page(e, &ev->u.page, error);
    case QMIG_EVENT_HEADER:
        return put_word(e, (uint64_t)WIRE_MAGIC << 32 | ev->u.header.version);
    case QMIG_EVENT_CONFIG:
        return put_byte_be32(e, WIRE_CONFIGURATION, ev->u.config.length,
                             ev->u.config.machine, ev->u.config.length);
    case QMIG_EVENT_CONFIG_SUB:
        return put_config_sub(e, &ev->u.config_sub);
    case QMIG_EVENT_SECTION:
        return put_section(e, &ev->u.section, error);
    case QMIG_EVENT_FOOTER:
        return put_byte_be32(e, WIRE_FOOTER, ev->u.footer.id, NULL, 0);
    case QMIG_EVENT_RAM_SIZE:
        return put_word(e, ev->u.ram_size.total | WIRE_RAM_MEM_SIZE);
    case QMIG_EVENT_RAM_BLOCK:
        return put_block(e, &ev->u.ram_block);
    case QMIG_EVENT_RAM_EOS:
        return put_word(e, WIRE_RAM_EOS);
    case QMIG_EVENT_RAM_FLUSH:
        return put_word(e, WIRE_RAM_FLUSH);
    case QMIG_EVENT_RAM_HOOK:
        return put_word(e, WIRE_RAM_HOOK);
    case QMIG_EVENT_COMMAND:
        return put_command(e, &ev->u.command, error);
    case QMIG_EVENT_BYTES:
        return commit(e, e->scratch.len, ev->u.bytes.data, ev->u.bytes.length);
    case QMIG_EVENT_EOF:
        return commit(e, e->scratch.len, &eof_byte, 1);
    case QMIG_EVENT_DIRTY_BITMAP:
        return put_dirty_bitmap(e, &ev->u.dirty_bitmap);
    case QMIG_EVENT_DISK_BLOCK:
        return put_disk_block(e, &ev->u.disk_block);
    case QMIG_EVENT_VFIO:
        return put_vfio(e, &ev->u.vfio);
    case QMIG_EVENT_COLO:
        return put_colo(e, &ev->u.colo);
    case QMIG_EVENT_MULTIFD_INIT:
        return put_multifd_init(e, &ev->u.multifd_init, error);
    case QMIG_EVENT_MULTIFD_PACKET:
        return put_multifd_packet(e, ev->u.multifd_packet.packet, error);
    default:
        return reject(error, "event kind %u is not known", ev->kind);
    }
}
