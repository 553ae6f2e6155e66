/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See block.h. */
#include "pipe/block.h"

#include "compress/hash.h"
#include "save/format.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <inttypes.h>

QmigPipeBlock *
qmig_pipe_block_new(const QmigPipeHeader *header,
                    const uint8_t key[static QMIG_PIPE_KEY_LENGTH], bool seal,
                    GError **error)
{
    g_autoptr(QmigPipeBlock) block = g_new0(QmigPipeBlock, 1);

    block->plain = g_malloc(header->block_limit);
    block->record = g_malloc(QMIG_PIPE_HEAD_LENGTH + header->block_limit +
                             QMIG_PIPE_TAG_LENGTH);
    if (header->cipher != QMIG_PIPE_CLEAR) {
        block->crypt = qmig_pipe_crypt_new((QmigPipeCipher)header->cipher, key, seal,
                                           error);
        if (block->crypt == NULL) {
            return NULL;
        }
    }
    return g_steal_pointer(&block);
}

void
qmig_pipe_block_free(QmigPipeBlock *block)
{
    if (block != NULL) {
        g_free(block->plain);
        g_free(block->record);
        g_clear_pointer(&block->crypt, qmig_pipe_crypt_free);
        g_clear_error(&block->error);
        g_free(block);
    }
}

uint32_t
qmig_pipe_block_size(const QmigPipeBlock *block, const QmigPipeHeader *header)
{
    return QMIG_PIPE_HEAD_LENGTH + block->head.stored + qmig_pipe_mark_length(header);
}

/* ---- seal --------------------------------------------------------------------------------- */

/* The body of data: fewer bytes, or the same. */
static void
pack(QmigPipeBlock *block, QmigCodecState *state)
{
    QmigPipeHead *head = &block->head;
    uint8_t *body = block->record + QMIG_PIPE_HEAD_LENGTH;
    const QmigCodec *codec = head->codec != QMIG_SAVE_CODEC_NONE
                                 ? qmig_codec_find(qmig_save_codec_name(head->codec))
                                 : NULL;

    head->stored = 0;
    if (codec != NULL && head->length > 1) {
        head->stored = (uint32_t)codec->compress(
            state, block->level, body, head->length - 1, block->plain, head->length);
    }
    if (head->stored == 0) {
        head->codec = QMIG_SAVE_CODEC_NONE;
        head->stored = head->length;
        memcpy(body, block->plain, head->length);
    }
}

static void
put_mark(QmigPipeBlock *block, uint64_t seed)
{
    size_t len = QMIG_PIPE_HEAD_LENGTH + block->head.stored;
    QmigWriter w = qmig_writer(block->record + len, QMIG_PIPE_HASH_LENGTH);
    bool ok = qmig_writer_be64(&w, qmig_hash64(block->record, len, seed));

    g_assert(ok);
}

void
qmig_pipe_block_seal(QmigPipeBlock *block, const QmigPipeHeader *header,
                     QmigCodecState *state)
{
    QmigPipeHead *head = &block->head;
    QmigWriter end = qmig_writer(block->record + QMIG_PIPE_HEAD_LENGTH,
                                 QMIG_PIPE_END_LENGTH);
    uint64_t seed = qmig_pipe_seed(header, block->number);

    if (head->kind == QMIG_PIPE_DATA) {
        pack(block, state);
    } else {
        bool ok = head->kind == QMIG_PIPE_HELLO || qmig_writer_be64(&end, block->offset);

        g_assert(ok && head->length == 0);
        head->codec = QMIG_SAVE_CODEC_NONE;
        head->stored = (uint32_t)end.len;
    }
    qmig_pipe_write_head(head, seed, block->record);
    if (block->crypt != NULL) {
        qmig_pipe_crypt_seal(block->crypt, block->number, block->record, head->stored);
    } else {
        put_mark(block, seed);
    }
}

/* ---- unseal ------------------------------------------------------------------------------- */

static bool
check_mark(const QmigPipeBlock *block, uint64_t seed, GError **error)
{
    size_t len = QMIG_PIPE_HEAD_LENGTH + block->head.stored;
    QmigCursor c = qmig_cursor(block->record + len, QMIG_PIPE_HASH_LENGTH);
    uint64_t wanted = qmig_hash64(block->record, len, seed), hash = 0;
    bool ok = qmig_cursor_be64(&c, &hash);

    return (ok && hash == wanted) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "damaged: hash %016" PRIx64 ", wanted %016" PRIx64, hash,
                          wanted);
}

static bool
open_record(QmigPipeBlock *block, uint64_t seed, GError **error)
{
    if (block->crypt == NULL) {
        return check_mark(block, seed, error);
    }
    return qmig_pipe_crypt_open(block->crypt, block->number, block->record,
                                block->head.stored) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          block->number == 0
                              ? "it cannot be decrypted: another key, or it is damaged"
                              : "it cannot be decrypted: it is damaged or forged");
}

static bool
check_end(const QmigPipeBlock *block, GError **error)
{
    QmigCursor c = qmig_cursor(block->record + QMIG_PIPE_HEAD_LENGTH,
                               QMIG_PIPE_END_LENGTH);
    uint64_t total = 0;
    bool ok = qmig_cursor_be64(&c, &total);

    return (ok && total == block->offset) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "the end of a stream of %" PRIu64 " bytes, %" PRIu64 " came",
                          total, block->offset);
}

bool
qmig_pipe_block_unseal(QmigPipeBlock *block, const QmigPipeHeader *header,
                       QmigCodecState *state, GError **error)
{
    const QmigPipeHead *head = &block->head;
    const uint8_t *body = block->record + QMIG_PIPE_HEAD_LENGTH;

    if (!open_record(block, qmig_pipe_seed(header, block->number), error)) {
        return false;
    }
    if (head->kind == QMIG_PIPE_END) {
        return check_end(block, error);
    }
    if (head->codec == QMIG_SAVE_CODEC_NONE) {
        memcpy(block->plain, body, head->length);
        return true;
    }
    const QmigCodec *codec = qmig_codec_find(qmig_save_codec_name(head->codec));
    return codec->decompress(state, block->plain, head->length, body, head->stored) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "%s: its %u bytes are no code of %u bytes", codec->name,
                          head->stored, head->length);
}
