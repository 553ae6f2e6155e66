/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One record of a pipe: the stream's bytes <-> head, body and mark. Pure; no I/O. */
#ifndef QMIG_PIPE_BLOCK_H
#define QMIG_PIPE_BLOCK_H

#include "compress/codec.h"
#include "pipe/cipher.h"

/* A record with memory for both its forms; in the ring between threads. */
typedef struct {
    QmigPipeHead head;
    uint64_t number;      /* of the record */
    uint64_t offset;      /* of its bytes in the stream */
    uint64_t position;    /* of its head in the coded input */
    int level;            /* of the codec, when sealed */
    unsigned choice;      /* the sealer's caller's: which codec that is */
    uint64_t work_us;     /* that sealing took */
    uint8_t *plain;       /* head.length bytes of the stream; room for the block limit */
    uint8_t *record;      /* head, body, mark; room for all */
    QmigPipeCrypt *crypt; /* owned; NULL: no cipher */
    GError *error;        /* owned; why the work on it failed */
} QmigPipeBlock;

/**
 * qmig_pipe_block_new() - a block for a stream
 * @key:  the stream's; unused without a cipher
 * @seal: for qmig_pipe_block_seal(), else for unseal
 *
 * Return: NULL with @error UNSUPPORTED.
 */
QmigPipeBlock *qmig_pipe_block_new(const QmigPipeHeader *header,
                                   const uint8_t key[static QMIG_PIPE_KEY_LENGTH],
                                   bool seal, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_pipe_block_free(QmigPipeBlock *block);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPipeBlock, qmig_pipe_block_free)

/* Bytes of its record. */
uint32_t qmig_pipe_block_size(const QmigPipeBlock *block, const QmigPipeHeader *header);

/**
 * qmig_pipe_block_seal() - plain -> record
 * @block: kind, length, codec, level, number, plain are filled; of an end, the offset
 *
 * A codec that makes it no smaller is not used.
 */
void qmig_pipe_block_seal(QmigPipeBlock *block, const QmigPipeHeader *header,
                          QmigCodecState *state);

/**
 * qmig_pipe_block_unseal() - record -> plain
 * @block: head (read by qmig_pipe_read_head()), number, offset and record are filled
 *
 * Errors: PROTOCOL: damage, or another key; without the place.
 */
bool qmig_pipe_block_unseal(QmigPipeBlock *block, const QmigPipeHeader *header,
                            QmigCodecState *state,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
