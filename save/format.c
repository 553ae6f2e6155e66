/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Header, chunk heads, index, trailer: bytes <-> structures. Every record ends with the hash of
 * its bytes, and a reader looks at nothing else of it before that hash is right.
 */
#include "save/format.h"

#include "compress/hash.h"
#include "stream/bounds.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <inttypes.h>

enum { SUM_LENGTH = 8 };

static const char head_mark[] = "QCHK";
static const char index_mark[] = "QIDX";
static const char trailer_mark[] = "QMIGDONE";

static const char *const codec_names[QMIG_SAVE_N_CODECS] = {
    [QMIG_SAVE_CODEC_NONE] = "none",
    [QMIG_SAVE_CODEC_LZ4] = "lz4",
    [QMIG_SAVE_CODEC_ZSTD] = "zstd",
};

const char *
qmig_save_codec_name(uint32_t codec)
{
    return codec < QMIG_SAVE_N_CODECS ? codec_names[codec] : NULL;
}

bool
qmig_save_is_magic(const void *data, size_t len)
{
    return len >= QMIG_SAVE_MAGIC_LENGTH &&
           memcmp(data, QMIG_SAVE_MAGIC, QMIG_SAVE_MAGIC_LENGTH) == 0;
}

static void
clear_block(gpointer block)
{
    g_free(((QmigSaveBlock *)block)->name);
}

void
qmig_save_info_init(QmigSaveInfo *info)
{
    *info = (QmigSaveInfo){ .machine = g_strdup("") };
    info->blocks = g_array_new(FALSE, FALSE, sizeof(QmigSaveBlock));
    g_array_set_clear_func(info->blocks, clear_block);
}

void
qmig_save_info_clear(QmigSaveInfo *info)
{
    g_clear_pointer(&info->machine, g_free);
    g_clear_pointer(&info->blocks, g_array_unref);
}

/* ---- writing ---------------------------------------------------------------------------- */

/* End a record: the hash of what is in @w. */
static bool
put_sum(QmigWriter *w, uint64_t seed)
{
    return qmig_writer_be64(w, qmig_hash64(w->buf, w->len, seed));
}

void
qmig_save_write_header(const QmigSaveHeader *header,
                       uint8_t out[static QMIG_SAVE_HEADER_LENGTH])
{
    QmigWriter w = qmig_writer(out, QMIG_SAVE_HEADER_LENGTH);
    bool ok = qmig_writer_bytes(&w, QMIG_SAVE_MAGIC, QMIG_SAVE_MAGIC_LENGTH) &&
              qmig_writer_be32(&w, QMIG_SAVE_VERSION) &&
              qmig_writer_be32(&w, header->flags) &&
              qmig_writer_be32(&w, header->codec) &&
              qmig_writer_be32(&w, header->chunk_size) &&
              qmig_writer_be64(&w, header->id) && put_sum(&w, 0);

    g_assert(ok && w.len == w.cap);
}

void
qmig_save_write_head(const QmigSaveHead *head, uint64_t id,
                     uint8_t out[static QMIG_SAVE_HEAD_LENGTH])
{
    QmigWriter w = qmig_writer(out, QMIG_SAVE_HEAD_LENGTH);
    bool ok = qmig_writer_bytes(&w, head_mark, QMIG_SAVE_MARK_LENGTH) &&
              qmig_writer_be32(&w, head->number) && qmig_writer_be64(&w, head->offset) &&
              qmig_writer_be32(&w, head->length) && qmig_writer_be32(&w, head->n_runs) &&
              qmig_writer_be32(&w, head->packed) && qmig_writer_be32(&w, head->stored) &&
              qmig_writer_be32(&w, head->codec) && qmig_writer_be64(&w, head->hash) &&
              put_sum(&w, id);

    g_assert(ok && w.len == w.cap);
}

void
qmig_save_write_trailer(const QmigSaveTrailer *trailer, uint64_t id,
                        uint8_t out[static QMIG_SAVE_TRAILER_LENGTH])
{
    QmigWriter w = qmig_writer(out, QMIG_SAVE_TRAILER_LENGTH);
    bool ok = qmig_writer_bytes(&w, trailer_mark, QMIG_SAVE_MAGIC_LENGTH) &&
              qmig_writer_be64(&w, trailer->index_offset) &&
              qmig_writer_be32(&w, trailer->index_length) && put_sum(&w, id);

    g_assert(ok && w.len == w.cap);
}

/* Everything of an index but names, blocks and offsets: lengths and counts, bytes. */
enum { INDEX_FIXED = QMIG_SAVE_MARK_LENGTH + 4 + 6 * 8 + 3 * 4 + 2 * 4 + SUM_LENGTH };

static size_t
measure_index(const QmigSaveInfo *info, const GArray *offsets)
{
    size_t length = INDEX_FIXED + 1 + strlen(info->machine) +
                    offsets->len * sizeof(uint64_t);

    for (guint i = 0; i < info->blocks->len; i++) {
        length += 1 + strlen(g_array_index(info->blocks, QmigSaveBlock, i).name) + 8;
    }
    return length;
}

static bool
put_facts(QmigWriter *w, const QmigSaveInfo *info)
{
    return qmig_writer_be64(w, info->length) && qmig_writer_be64(w, info->zero) &&
           qmig_writer_be64(w, info->normal) && qmig_writer_be64(w, info->xbzrle) &&
           qmig_writer_be64(w, info->zlib) && qmig_writer_be64(w, info->date) &&
           qmig_writer_be32(w, info->flags) && qmig_writer_be32(w, info->qemu) &&
           qmig_writer_be32(w, info->page_size) &&
           qmig_writer_cstr(w, info->machine, strlen(info->machine));
}

static bool
put_blocks(QmigWriter *w, const GArray *blocks)
{
    bool ok = qmig_writer_be32(w, blocks->len);

    for (guint i = 0; ok && i < blocks->len; i++) {
        const QmigSaveBlock *block = &g_array_index(blocks, QmigSaveBlock, i);
        ok = qmig_writer_cstr(w, block->name, strlen(block->name)) &&
             qmig_writer_be64(w, block->length);
    }
    return ok;
}

GByteArray *
qmig_save_write_index(const QmigSaveInfo *info, const GArray *offsets, uint64_t id)
{
    size_t length = measure_index(info, offsets);
    GByteArray *bytes = g_byte_array_new();
    g_byte_array_set_size(bytes, (guint)length);
    QmigWriter w = qmig_writer(bytes->data, length);
    uint32_t inner = (uint32_t)(length - QMIG_SAVE_MARK_LENGTH - 4 - SUM_LENGTH);
    bool ok = qmig_writer_bytes(&w, index_mark, QMIG_SAVE_MARK_LENGTH) &&
              qmig_writer_be32(&w, inner) && put_facts(&w, info) &&
              put_blocks(&w, info->blocks) && qmig_writer_be32(&w, offsets->len);

    for (guint i = 0; ok && i < offsets->len; i++) {
        ok = qmig_writer_be64(&w, g_array_index(offsets, uint64_t, i));
    }
    ok = ok && put_sum(&w, id);
    g_assert(ok && w.len == w.cap);
    return bytes;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* The hash at the end of a record must be that of its other bytes. */
static bool
check_sum(const uint8_t *data, size_t len, uint64_t seed, GError **error)
{
    QmigCursor c = qmig_cursor(data + len - SUM_LENGTH, SUM_LENGTH);
    uint64_t wanted = qmig_hash64(data, len - SUM_LENGTH, seed), got;

    if (!qmig_cursor_be64(&c, &got)) {
        g_assert_not_reached();
    }
    return got == wanted ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "checksum %016" PRIx64 ", its bytes give %016" PRIx64, got,
                          wanted);
}

/* The fixed bytes a record begins with. */
static bool
check_mark(QmigCursor *c, const char *mark, size_t len, GError **error)
{
    const uint8_t *got;

    if (!qmig_cursor_bytes(c, len, &got)) {
        g_assert_not_reached();
    }
    if (memcmp(got, mark, len) == 0) {
        return true;
    }
    g_autoptr(GString) hex = g_string_new(NULL);
    for (size_t i = 0; i < len; i++) {
        g_string_append_printf(hex, "%s%02x", i > 0 ? " " : "", got[i]);
    }
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "it begins with %s, wanted \"%s\"",
                          hex->str, mark);
}

bool
qmig_save_read_header(const uint8_t data[static QMIG_SAVE_HEADER_LENGTH],
                      QmigSaveHeader *header, GError **error)
{
    QmigCursor c = qmig_cursor(data, QMIG_SAVE_HEADER_LENGTH);
    QmigSaveHeader h;
    uint32_t version;

    if (!check_mark(&c, QMIG_SAVE_MAGIC, QMIG_SAVE_MAGIC_LENGTH, error) ||
        !check_sum(data, QMIG_SAVE_HEADER_LENGTH, 0, error)) {
        return false;
    }
    if (!(qmig_cursor_be32(&c, &version) && qmig_cursor_be32(&c, &h.flags) &&
          qmig_cursor_be32(&c, &h.codec) && qmig_cursor_be32(&c, &h.chunk_size) &&
          qmig_cursor_be64(&c, &h.id))) {
        g_assert_not_reached();
    }
    if (version != QMIG_SAVE_VERSION || h.flags != 0 || h.codec >= QMIG_SAVE_N_CODECS) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "version %u, flags 0x%x, codec %u; this qmig reads version "
                              "%u, flags 0, codecs below %u",
                              version, h.flags, h.codec, QMIG_SAVE_VERSION,
                              QMIG_SAVE_N_CODECS);
    }
    if (h.chunk_size < QMIG_SAVE_CHUNK_MIN || h.chunk_size > QMIG_SAVE_CHUNK_MAX) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "chunks of %u bytes, wanted %u to %u", h.chunk_size,
                              QMIG_SAVE_CHUNK_MIN, QMIG_SAVE_CHUNK_MAX);
    }
    *header = h;
    return true;
}

/* The members of a head against each other and against what is due. */
static bool
check_head(const QmigSaveHead *h, const QmigSaveHeader *header, uint32_t number,
           GError **error)
{
    uint64_t offset = (uint64_t)number * header->chunk_size;

    if (h->number != number || h->offset != offset) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "it is number %u for stream offset %" PRIu64
                              ", wanted number %u for %" PRIu64,
                              h->number, h->offset, number, offset);
    }
    /* A packed chunk is never longer than its bytes, a stored one never than packed. */
    if (h->length == 0 || h->length > header->chunk_size || h->packed == 0 ||
        h->packed > h->length || h->stored == 0 || h->stored > h->packed ||
        h->n_runs > h->packed / QMIG_SAVE_RUN_LENGTH) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%u bytes, %u runs, packed %u, stored %u: wanted 1 to %u "
                              "bytes, none of the others more than the one before",
                              h->length, h->n_runs, h->packed, h->stored,
                              header->chunk_size);
    }
    if (h->codec >= QMIG_SAVE_N_CODECS ||
        (h->codec == QMIG_SAVE_CODEC_NONE && h->stored != h->packed)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "codec %u with %u bytes packed and %u stored", h->codec,
                              h->packed, h->stored);
    }
    return true;
}

bool
qmig_save_read_head(const uint8_t data[static QMIG_SAVE_HEAD_LENGTH],
                    const QmigSaveHeader *header, uint32_t number, QmigSaveHead *head,
                    GError **error)
{
    QmigCursor c = qmig_cursor(data, QMIG_SAVE_HEAD_LENGTH);
    QmigSaveHead h;

    if (!check_mark(&c, head_mark, QMIG_SAVE_MARK_LENGTH, error) ||
        !check_sum(data, QMIG_SAVE_HEAD_LENGTH, header->id, error)) {
        return false;
    }
    if (!(qmig_cursor_be32(&c, &h.number) && qmig_cursor_be64(&c, &h.offset) &&
          qmig_cursor_be32(&c, &h.length) && qmig_cursor_be32(&c, &h.n_runs) &&
          qmig_cursor_be32(&c, &h.packed) && qmig_cursor_be32(&c, &h.stored) &&
          qmig_cursor_be32(&c, &h.codec) && qmig_cursor_be64(&c, &h.hash))) {
        g_assert_not_reached();
    }
    if (!check_head(&h, header, number, error)) {
        return false;
    }
    *head = h;
    return true;
}

bool
qmig_save_read_trailer(const uint8_t data[static QMIG_SAVE_TRAILER_LENGTH],
                       const QmigSaveHeader *header, QmigSaveTrailer *trailer,
                       GError **error)
{
    QmigCursor c = qmig_cursor(data, QMIG_SAVE_TRAILER_LENGTH);
    QmigSaveTrailer t;

    if (!check_mark(&c, trailer_mark, QMIG_SAVE_MAGIC_LENGTH, error) ||
        !check_sum(data, QMIG_SAVE_TRAILER_LENGTH, header->id, error)) {
        return false;
    }
    if (!(qmig_cursor_be64(&c, &t.index_offset) &&
          qmig_cursor_be32(&c, &t.index_length))) {
        g_assert_not_reached();
    }
    *trailer = t;
    return true;
}

bool
qmig_save_is_index(const uint8_t data[static QMIG_SAVE_MARK_LENGTH])
{
    return memcmp(data, index_mark, QMIG_SAVE_MARK_LENGTH) == 0;
}

uint32_t
qmig_save_index_length(const uint8_t data[static 8], uint64_t n_chunks)
{
    QmigCursor c = qmig_cursor(data + QMIG_SAVE_MARK_LENGTH, 4);
    uint64_t most = INDEX_FIXED + 256 + QMIG_LIMIT_RAM_BLOCKS * (256 + 8) + 8 * n_chunks;
    uint32_t inner;

    if (!qmig_cursor_be32(&c, &inner)) {
        g_assert_not_reached();
    }
    uint64_t length = (uint64_t)inner + QMIG_SAVE_MARK_LENGTH + 4 + SUM_LENGTH;
    return length >= INDEX_FIXED && length <= most ? (uint32_t)length : 0;
}

static bool
get_facts(QmigCursor *c, QmigSaveInfo *info)
{
    char machine[256];
    uint8_t n;

    if (!(qmig_cursor_be64(c, &info->length) && qmig_cursor_be64(c, &info->zero) &&
          qmig_cursor_be64(c, &info->normal) && qmig_cursor_be64(c, &info->xbzrle) &&
          qmig_cursor_be64(c, &info->zlib) && qmig_cursor_be64(c, &info->date) &&
          qmig_cursor_be32(c, &info->flags) && qmig_cursor_be32(c, &info->qemu) &&
          qmig_cursor_be32(c, &info->page_size) && qmig_cursor_cstr(c, machine, &n))) {
        return false;
    }
    g_free(info->machine);
    info->machine = g_strdup(machine);
    return true;
}

static bool
get_blocks(QmigCursor *c, GArray *blocks)
{
    uint32_t n;

    if (!qmig_cursor_be32(c, &n) || n > QMIG_LIMIT_RAM_BLOCKS) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        QmigSaveBlock block;
        char name[256];
        uint8_t len;

        if (!(qmig_cursor_cstr(c, name, &len) && qmig_cursor_be64(c, &block.length))) {
            return false;
        }
        block.name = g_strdup(name);
        g_array_append_val(blocks, block);
    }
    return true;
}

static bool
get_offsets(QmigCursor *c, GArray *offsets)
{
    uint32_t n;

    if (!qmig_cursor_be32(c, &n) || n > QMIG_SAVE_LIMIT_CHUNKS ||
        qmig_cursor_left(c) != n * sizeof(uint64_t)) {
        return false;
    }
    g_array_set_size(offsets, n);
    for (uint32_t i = 0; i < n; i++) {
        if (!qmig_cursor_be64(c, &g_array_index(offsets, uint64_t, i))) {
            return false;
        }
    }
    return true;
}

/* Offsets against each other, the index's own place and the stream's length. */
static bool
check_offsets(const GArray *offsets, const QmigSaveHeader *header, uint64_t length,
              uint64_t end, GError **error)
{
    uint64_t at = QMIG_SAVE_HEADER_LENGTH;
    uint64_t n = length / header->chunk_size + (length % header->chunk_size != 0);

    if (offsets->len != n) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%u chunks for a stream of %" PRIu64
                              " bytes, wanted %" PRIu64,
                              offsets->len, length, n);
    }
    for (guint i = 0; i < offsets->len; i++) {
        uint64_t offset = g_array_index(offsets, uint64_t, i);
        uint64_t next = i + 1 < offsets->len ? g_array_index(offsets, uint64_t, i + 1)
                                             : end;
        if (offset != at || next <= offset || next - offset <= QMIG_SAVE_HEAD_LENGTH ||
            next - offset > QMIG_SAVE_HEAD_LENGTH + (uint64_t)header->chunk_size) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  "chunk %u from file offset %" PRIu64 " to %" PRIu64
                                  ", wanted it from %" PRIu64 " and of at most %u bytes",
                                  i, offset, next, at,
                                  QMIG_SAVE_HEAD_LENGTH + header->chunk_size);
        }
        at = next;
    }
    return at == end ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "the index begins at %" PRIu64 ", its chunks end at %" PRIu64,
                          end, at);
}

bool
qmig_save_read_index(const uint8_t *data, size_t len, const QmigSaveHeader *header,
                     uint64_t end, QmigSaveInfo *info, GArray **offsets, GError **error)
{
    QmigCursor c = qmig_cursor(data, len - SUM_LENGTH);
    g_auto(QmigSaveInfo) facts = { 0 };
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    uint32_t inner;

    g_return_val_if_fail(len >= INDEX_FIXED, false);
    if (!check_mark(&c, index_mark, QMIG_SAVE_MARK_LENGTH, error) ||
        !check_sum(data, len, header->id, error)) {
        return false;
    }
    qmig_save_info_init(&facts);
    if (!qmig_cursor_be32(&c, &inner) || inner != qmig_cursor_left(&c) ||
        !get_facts(&c, &facts) || !get_blocks(&c, facts.blocks) ||
        !get_offsets(&c, list)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "its lists do not fill its %zu bytes exactly", len);
    }
    if (!check_offsets(list, header, facts.length, end, error)) {
        return false;
    }
    *info = facts;
    facts = (QmigSaveInfo){ 0 };
    *offsets = g_steal_pointer(&list);
    return true;
}
