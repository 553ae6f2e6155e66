/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pieces of a stream worked on by several threads, taken out in the order they were put in. */
#ifndef QMIG_COMPRESS_PIPELINE_H
#define QMIG_COMPRESS_PIPELINE_H

#include "compress/codec.h"

#include <glib.h>
#include <stdint.h>

typedef struct QmigPipeline QmigPipeline;

/* Threads when nobody asked for a number: one for each processor, but no more than keep up with
 * what QEMU writes or reads (2 GB/s): each takes some 10 MiB. */
unsigned qmig_pipeline_default_threads(void);

/* What is worked on. All are called with the @user of qmig_pipeline_new(). */
typedef struct {
    const char *name; /* of the threads; at most 15 bytes */
    /* A place in the ring; it is used again and again. (transfer full) */
    gpointer (*new_slot)(gpointer user);
    void (*free_slot)(gpointer slot, gpointer user);
    /* The work. Threads: any worker; @state is the worker's own. */
    void (*work)(gpointer slot, QmigCodecState *state, gpointer user);
} QmigPipelineOps;

/**
 * qmig_pipeline_new() - start @n_threads workers
 * @ops: borrowed for the pipeline's life
 *
 * Threads: one thread puts (acquire, submit), one takes (take, release); they may be the same.
 */
QmigPipeline *qmig_pipeline_new(unsigned n_threads, const QmigPipelineOps *ops,
                                gpointer user);
/* Waits for work under way; the rest is dropped. Nobody may be in another call. */
void qmig_pipeline_free(QmigPipeline *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPipeline, qmig_pipeline_free)

/* The next slot to fill; waits for one when @wait, else NULL when all are in use. It stays
 * acquired until it is submitted: another call gives the same. */
gpointer qmig_pipeline_acquire(QmigPipeline *p, bool wait);
void qmig_pipeline_submit(QmigPipeline *p);
/* No submit will follow. */
void qmig_pipeline_finish(QmigPipeline *p);

/* The oldest slot, worked on; waits. NULL: none is in the ring and finish() was called. */
gpointer qmig_pipeline_take(QmigPipeline *p);
/* The slot that take() gave may be used again. */
void qmig_pipeline_release(QmigPipeline *p);
/* Slots submitted and not released. Threads: the one that puts and takes. */
unsigned qmig_pipeline_pending(QmigPipeline *p);

#endif
