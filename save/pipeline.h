/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chunks worked on by several threads, taken out in the order they were put in. */
#ifndef QMIG_SAVE_PIPELINE_H
#define QMIG_SAVE_PIPELINE_H

#include "save/chunk.h"

typedef struct QmigPipeline QmigPipeline;

/* Threads when nobody asked for a number: one for each processor, but no more than keep up with
 * what QEMU writes or reads (2 GB/s): each takes some 10 MiB. */
unsigned qmig_pipeline_default_threads(void);

/* A place in the ring. */
typedef struct {
    QmigSaveChunk chunk;
    uint64_t file_offset; /* of the chunk's head; the user's */
    GError *error;        /* owned; why the work on it failed */
} QmigPipelineSlot;

/* The work. Threads: any worker; @state is the worker's own. */
typedef void (*QmigPipelineFn)(QmigPipelineSlot *slot, QmigCodecState *state, void *user);

/**
 * qmig_pipeline_new() - start @n_threads workers
 * @chunk_size: room of each slot's chunk
 *
 * Threads: one thread puts (acquire, submit), one takes (take, release); they may be the same.
 */
QmigPipeline *qmig_pipeline_new(unsigned n_threads, uint32_t chunk_size,
                                QmigPipelineFn work, void *user);
/* Waits for work under way; the rest is dropped. Nobody may be in another call. */
void qmig_pipeline_free(QmigPipeline *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPipeline, qmig_pipeline_free)

/* The next slot to fill; waits for one when @wait, else NULL when all are in use. It stays
 * acquired until it is submitted: another call gives the same. */
QmigPipelineSlot *qmig_pipeline_acquire(QmigPipeline *p, bool wait);
void qmig_pipeline_submit(QmigPipeline *p);
/* No submit will follow. */
void qmig_pipeline_finish(QmigPipeline *p);

/* The oldest slot, worked on; waits. NULL: none is in the ring and finish() was called. */
QmigPipelineSlot *qmig_pipeline_take(QmigPipeline *p);
/* The slot that take() gave may be used again. */
void qmig_pipeline_release(QmigPipeline *p);
/* Slots submitted and not released. Threads: the one that puts and takes. */
unsigned qmig_pipeline_pending(QmigPipeline *p);

#endif
