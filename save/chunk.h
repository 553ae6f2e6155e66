/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One chunk of a save file: the stream's bytes <-> head and body. Pure; no I/O. */
#ifndef QMIG_SAVE_CHUNK_H
#define QMIG_SAVE_CHUNK_H

#include "compress/codec.h"
#include "compress/pipeline.h"
#include "save/format.h"

/* A row of zero pages' records, see save/format.h. */
typedef struct {
    uint32_t position; /* in the chunk's bytes: behind the record that stays */
    uint32_t count;    /* records left out */
    uint32_t step;     /* from one record's be64 to the next's */
} QmigSaveRun;

/* A chunk with memory for all its forms. */
typedef struct {
    QmigSaveHead head;
    uint8_t *raw;  /* bytes of the stream: head.length, room for the chunk size */
    GArray *runs;  /* QmigSaveRun, rising; hints: what does not hold is left alone */
    uint8_t *work; /* the packed form; room for the chunk size */
    uint8_t *body; /* as stored: head.stored bytes; room for the chunk size */
} QmigSaveChunk;

/* A chunk in the ring between threads, see compress/pipeline.h. */
typedef struct {
    QmigSaveChunk chunk;
    uint64_t file_offset; /* of the chunk's head; the reader's */
    GError *error;        /* owned; why the work on it failed */
} QmigSaveSlot;

/* For a QmigPipelineOps. */
QmigSaveSlot *qmig_save_slot_new(uint32_t chunk_size);
void qmig_save_slot_free(QmigSaveSlot *slot);

void qmig_save_chunk_init(QmigSaveChunk *chunk, uint32_t chunk_size);
void qmig_save_chunk_clear(QmigSaveChunk *chunk);

/**
 * qmig_save_chunk_seal() - raw -> body, and the rest of the head
 * @chunk: number, offset and length of its head, raw and runs are filled
 * @codec: QmigSaveCodec; a body that it does not make smaller is stored without
 * @seed:  the header's id
 */
void qmig_save_chunk_seal(QmigSaveChunk *chunk, QmigSaveCodec codec, int level,
                          uint64_t seed, QmigCodecState *state);

/**
 * qmig_save_chunk_unseal() - body -> raw
 * @chunk: head (read and checked by qmig_save_read_head()) and body are filled
 *
 * Errors: PROTOCOL: damage, told without the place.
 */
bool qmig_save_chunk_unseal(QmigSaveChunk *chunk, uint64_t seed, QmigCodecState *state,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
