/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See format.h. */
#include "pipe/format.h"

#include "compress/codec.h"
#include "compress/hash.h"
#include "save/format.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

enum { SUM = 8, CHECK = 4 };

G_STATIC_ASSERT((size_t)QMIG_PIPE_BLOCK_MAX <=
                QMIG_CODEC_INPUT_MAX); /* the codecs take no more */

const char *
qmig_pipe_cipher_name(uint32_t cipher)
{
    static const char *const names[QMIG_PIPE_N_CIPHERS] = {
        [QMIG_PIPE_CLEAR] = "none",
        [QMIG_PIPE_AES_256_GCM] = "aes-256-gcm",
        [QMIG_PIPE_CHACHA20_POLY1305] = "chacha20-poly1305",
    };

    return cipher < QMIG_PIPE_N_CIPHERS ? names[cipher] : NULL;
}

void
qmig_pipe_write_header(const QmigPipeHeader *header,
                       uint8_t out[static QMIG_PIPE_HEADER_LENGTH])
{
    QmigWriter w = qmig_writer(out, QMIG_PIPE_HEADER_LENGTH);
    bool ok = qmig_writer_bytes(&w, QMIG_PIPE_MAGIC, QMIG_PIPE_MAGIC_LENGTH) &&
              qmig_writer_be16(&w, QMIG_PIPE_VERSION) &&
              qmig_writer_u8(&w, header->cipher) && qmig_writer_u8(&w, header->flags) &&
              qmig_writer_be32(&w, header->block_limit) &&
              qmig_writer_bytes(&w, header->salt, sizeof header->salt) &&
              qmig_writer_be64(&w, qmig_hash64(out, QMIG_PIPE_HEADER_LENGTH - SUM, 0));

    g_assert(ok && w.len == w.cap);
}

static bool
check_header(const QmigPipeHeader *header, uint16_t version, GError **error)
{
    if (version != QMIG_PIPE_VERSION) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "version %u, this qmig reads %u", version,
                              QMIG_PIPE_VERSION);
    }
    if (header->cipher >= QMIG_PIPE_N_CIPHERS ||
        (header->flags & ~QMIG_PIPE_TWO_WAY) != 0) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "cipher %u, flags 0x%x: this qmig does not know them",
                              header->cipher, header->flags);
    }
    return (header->block_limit >= QMIG_PIPE_BLOCK_MIN &&
            header->block_limit <= QMIG_PIPE_BLOCK_MAX) ||
           qmig_set_error(error, QMIG_ERROR_LIMIT, "blocks of %u bytes, wanted %u to %u",
                          header->block_limit, QMIG_PIPE_BLOCK_MIN, QMIG_PIPE_BLOCK_MAX);
}

bool
qmig_pipe_read_header(const uint8_t data[static QMIG_PIPE_HEADER_LENGTH],
                      QmigPipeHeader *header, GError **error)
{
    QmigCursor c = qmig_cursor(data, QMIG_PIPE_HEADER_LENGTH);
    QmigPipeHeader h = { 0 };
    const uint8_t *magic, *salt;
    uint16_t version;
    uint64_t sum;

    bool ok = qmig_cursor_bytes(&c, QMIG_PIPE_MAGIC_LENGTH, &magic) &&
              qmig_cursor_be16(&c, &version) && qmig_cursor_u8(&c, &h.cipher) &&
              qmig_cursor_u8(&c, &h.flags) && qmig_cursor_be32(&c, &h.block_limit) &&
              qmig_cursor_bytes(&c, sizeof h.salt, &salt) && qmig_cursor_be64(&c, &sum);
    g_assert(ok);
    if (memcmp(magic, QMIG_PIPE_MAGIC, QMIG_PIPE_MAGIC_LENGTH) != 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "it does not begin as what qmig stream pipe writes");
    }
    if (sum != qmig_hash64(data, QMIG_PIPE_HEADER_LENGTH - SUM, 0)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "damaged: its sum is wrong");
    }
    memcpy(h.salt, salt, sizeof h.salt);
    if (!check_header(&h, version, error)) {
        return false;
    }
    *header = h;
    return true;
}

uint64_t
qmig_pipe_seed(const QmigPipeHeader *header, uint64_t number)
{
    QmigCursor c = qmig_cursor(header->salt, sizeof header->salt);
    uint64_t seed = 0;
    bool ok = qmig_cursor_be64(&c, &seed);

    g_assert(ok);
    return seed ^ number;
}

uint32_t
qmig_pipe_mark_length(const QmigPipeHeader *header)
{
    return header->cipher == QMIG_PIPE_CLEAR ? QMIG_PIPE_HASH_LENGTH
                                             : QMIG_PIPE_TAG_LENGTH;
}

void
qmig_pipe_write_head(const QmigPipeHead *head, uint64_t seed,
                     uint8_t out[static QMIG_PIPE_HEAD_LENGTH])
{
    QmigWriter w = qmig_writer(out, QMIG_PIPE_HEAD_LENGTH);
    bool ok = qmig_writer_u8(&w, head->kind) && qmig_writer_u8(&w, head->codec) &&
              qmig_writer_be16(&w, 0) && qmig_writer_be32(&w, head->length) &&
              qmig_writer_be32(&w, head->stored) &&
              qmig_writer_be32(
                  &w, (uint32_t)qmig_hash64(out, QMIG_PIPE_HEAD_LENGTH - CHECK, seed));

    g_assert(ok && w.len == w.cap);
}

/* Are the lengths such as a record of that kind has? */
static bool
check_head(const QmigPipeHead *head, uint16_t zero, const QmigPipeHeader *header,
           GError **error)
{
    bool ok = zero == 0 && head->codec < QMIG_SAVE_N_CODECS;

    switch (head->kind) {
    case QMIG_PIPE_DATA:
        ok = ok && head->length > 0 && head->length <= header->block_limit &&
             head->stored > 0 &&
             (head->codec == QMIG_SAVE_CODEC_NONE ? head->stored == head->length
                                                  : head->stored < head->length);
        break;
    case QMIG_PIPE_END:
        ok = ok && head->length == 0 && head->stored == QMIG_PIPE_END_LENGTH &&
             head->codec == QMIG_SAVE_CODEC_NONE;
        break;
    case QMIG_PIPE_HELLO:
        ok = ok && head->length == 0 && head->stored == 0 &&
             head->codec == QMIG_SAVE_CODEC_NONE;
        break;
    default:
        ok = false;
    }
    return ok || qmig_set_error(error, QMIG_ERROR_LIMIT,
                                "kind %u, codec %u, %u bytes in %u: blocks have at most "
                                "%u bytes",
                                head->kind, head->codec, head->length, head->stored,
                                header->block_limit);
}

bool
qmig_pipe_read_head(const uint8_t data[static QMIG_PIPE_HEAD_LENGTH],
                    const QmigPipeHeader *header, uint64_t seed, QmigPipeHead *head,
                    GError **error)
{
    QmigCursor c = qmig_cursor(data, QMIG_PIPE_HEAD_LENGTH);
    QmigPipeHead h = { 0 };
    uint32_t check, wanted;
    uint16_t zero;

    bool ok = qmig_cursor_u8(&c, &h.kind) && qmig_cursor_u8(&c, &h.codec) &&
              qmig_cursor_be16(&c, &zero) && qmig_cursor_be32(&c, &h.length) &&
              qmig_cursor_be32(&c, &h.stored) && qmig_cursor_be32(&c, &check);
    g_assert(ok);
    wanted = (uint32_t)qmig_hash64(data, QMIG_PIPE_HEAD_LENGTH - CHECK, seed);
    if (check != wanted) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "no record that belongs here: check 0x%08x, wanted 0x%08x",
                              check, wanted);
    }
    if (!check_head(&h, zero, header, error)) {
        return false;
    }
    *head = h;
    return true;
}
