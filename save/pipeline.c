/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A ring of slots. Four counters only grow; a slot's place is the counter modulo the ring:
 *
 *     released <= worked on, in order of taking <= claimed by workers <= submitted
 *
 * One lock guards them: at a chunk of 1 MiB each is taken some hundred times a second.
 */
#include "save/pipeline.h"

/* Slots for each worker: one it works on, one that waits for it, one that waits to be taken. */
enum { SLOTS_PER_THREAD = 3, SLOTS_MORE = 2 };

struct QmigPipeline {
    QmigPipelineFn work;
    void *user;
    GMutex lock;
    GCond work_due, slot_done, slot_free;
    QmigPipelineSlot *slots;
    bool *done; /* of each slot: worked on */
    unsigned n_slots, n_threads;
    GThread **threads;
    uint64_t submitted, claimed, released;
    bool finished, stopping;
};

/* Wait for work and claim it. Return: NULL when the thread shall end. */
static QmigPipelineSlot *
claim(QmigPipeline *p)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    while (!p->stopping && p->claimed == p->submitted) {
        g_cond_wait(&p->work_due, &p->lock);
    }
    (void)locker;
    return p->stopping ? NULL : &p->slots[p->claimed++ % p->n_slots];
}

static void *
run_worker(void *data)
{
    QmigPipeline *p = data;
    QmigCodecState *state = qmig_codec_state_new();
    QmigPipelineSlot *slot;

    while ((slot = claim(p)) != NULL) {
        p->work(slot, state, p->user);
        g_mutex_lock(&p->lock);
        p->done[slot - p->slots] = true;
        g_cond_signal(&p->slot_done);
        g_mutex_unlock(&p->lock);
    }
    qmig_codec_state_free(state);
    return NULL;
}

QmigPipeline *
qmig_pipeline_new(unsigned n_threads, uint32_t chunk_size, QmigPipelineFn work,
                  void *user)
{
    QmigPipeline *p = g_new0(QmigPipeline, 1);

    p->work = work;
    p->user = user;
    g_mutex_init(&p->lock);
    g_cond_init(&p->work_due);
    g_cond_init(&p->slot_done);
    g_cond_init(&p->slot_free);
    p->n_threads = n_threads;
    p->n_slots = n_threads * SLOTS_PER_THREAD + SLOTS_MORE;
    p->slots = g_new0(QmigPipelineSlot, p->n_slots);
    p->done = g_new0(bool, p->n_slots);
    for (unsigned i = 0; i < p->n_slots; i++) {
        qmig_save_chunk_init(&p->slots[i].chunk, chunk_size);
    }
    p->threads = g_new0(GThread *, n_threads);
    for (unsigned i = 0; i < n_threads; i++) {
        p->threads[i] = g_thread_new("qmig-save", run_worker, p);
    }
    return p;
}

void
qmig_pipeline_free(QmigPipeline *p)
{
    if (p == NULL) {
        return;
    }
    g_mutex_lock(&p->lock);
    p->stopping = true;
    g_cond_broadcast(&p->work_due);
    g_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++) {
        g_thread_join(p->threads[i]);
    }
    for (unsigned i = 0; i < p->n_slots; i++) {
        qmig_save_chunk_clear(&p->slots[i].chunk);
        g_clear_error(&p->slots[i].error);
    }
    g_cond_clear(&p->work_due);
    g_cond_clear(&p->slot_done);
    g_cond_clear(&p->slot_free);
    g_mutex_clear(&p->lock);
    g_free(p->threads);
    g_free(p->slots);
    g_free(p->done);
    g_free(p);
}

QmigPipelineSlot *
qmig_pipeline_acquire(QmigPipeline *p, bool wait)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    while (p->submitted - p->released == p->n_slots) {
        if (!wait) {
            return NULL;
        }
        g_cond_wait(&p->slot_free, &p->lock);
    }
    (void)locker;
    return &p->slots[p->submitted % p->n_slots];
}

void
qmig_pipeline_submit(QmigPipeline *p)
{
    g_mutex_lock(&p->lock);
    p->done[p->submitted % p->n_slots] = false;
    p->submitted++;
    g_cond_signal(&p->work_due);
    g_cond_signal(&p->slot_done); /* take() may wait for the first one */
    g_mutex_unlock(&p->lock);
}

void
qmig_pipeline_finish(QmigPipeline *p)
{
    g_mutex_lock(&p->lock);
    p->finished = true;
    g_cond_signal(&p->slot_done);
    g_mutex_unlock(&p->lock);
}

QmigPipelineSlot *
qmig_pipeline_take(QmigPipeline *p)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);
    unsigned place = (unsigned)(p->released % p->n_slots);

    while (p->released == p->submitted || !p->done[place]) {
        if (p->released == p->submitted && p->finished) {
            return NULL;
        }
        g_cond_wait(&p->slot_done, &p->lock);
    }
    (void)locker;
    return &p->slots[place];
}

void
qmig_pipeline_release(QmigPipeline *p)
{
    g_mutex_lock(&p->lock);
    g_clear_error(&p->slots[p->released % p->n_slots].error);
    p->released++;
    g_cond_signal(&p->slot_free);
    g_mutex_unlock(&p->lock);
}

unsigned
qmig_pipeline_pending(QmigPipeline *p)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&p->lock);

    (void)locker;
    return (unsigned)(p->submitted - p->released);
}
