/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A ring of slots. Four counters only grow; a slot's place is the counter modulo the ring:
 *
 *     released <= worked on, in order of taking <= claimed by workers <= submitted
 *
 * One lock guards them: at a chunk of 1 MiB each is taken some hundred times a second.
 */
#include "compress/pipeline.h"

#include <pthread.h>

/* Slots for each worker: one it works on, one that waits for it, one that waits to be taken. */
enum { SLOTS_PER_THREAD = 3, SLOTS_MORE = 2, DEFAULT_THREADS_MAX = 8 };

struct QmigPipeline {
    const QmigPipelineOps *ops; /* borrowed */
    gpointer user;
    pthread_mutex_t lock; /* GLib's is invisible to the thread sanitizer */
    pthread_cond_t work_due, slot_done, slot_free;
    gpointer *slots;
    bool *done; /* of each slot: worked on */
    unsigned n_slots, n_threads;
    GThread **threads;
    uint64_t submitted, claimed, released;
    bool finished, stopping;
};

unsigned
qmig_pipeline_default_threads(void)
{
    return MIN(g_get_num_processors(), DEFAULT_THREADS_MAX);
}

/* Wait for work and claim it: its place in the ring. Return: false when the thread shall end. */
static bool
claim(QmigPipeline *p, unsigned *place)
{
    bool claimed = false;

    pthread_mutex_lock(&p->lock);
    while (!p->stopping && p->claimed == p->submitted) {
        pthread_cond_wait(&p->work_due, &p->lock);
    }
    if (!p->stopping) {
        *place = (unsigned)(p->claimed++ % p->n_slots);
        claimed = true;
    }
    pthread_mutex_unlock(&p->lock);
    return claimed;
}

static void *
run_worker(void *data)
{
    QmigPipeline *p = data;
    QmigCodecState *state = qmig_codec_state_new();
    unsigned place;

    while (claim(p, &place)) {
        p->ops->work(p->slots[place], state, p->user);
        pthread_mutex_lock(&p->lock);
        p->done[place] = true;
        pthread_cond_signal(&p->slot_done);
        pthread_mutex_unlock(&p->lock);
    }
    qmig_codec_state_free(state);
    return NULL;
}

QmigPipeline *
qmig_pipeline_new(unsigned n_threads, const QmigPipelineOps *ops, gpointer user)
{
    QmigPipeline *p = g_new0(QmigPipeline, 1);

    p->ops = ops;
    p->user = user;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work_due, NULL);
    pthread_cond_init(&p->slot_done, NULL);
    pthread_cond_init(&p->slot_free, NULL);
    p->n_threads = n_threads;
    p->n_slots = n_threads * SLOTS_PER_THREAD + SLOTS_MORE;
    p->slots = g_new0(gpointer, p->n_slots);
    p->done = g_new0(bool, p->n_slots);
    for (unsigned i = 0; i < p->n_slots; i++) {
        p->slots[i] = ops->new_slot(user);
    }
    p->threads = g_new0(GThread *, n_threads);
    for (unsigned i = 0; i < n_threads; i++) {
        p->threads[i] = g_thread_new(ops->name, run_worker, p);
    }
    return p;
}

void
qmig_pipeline_free(QmigPipeline *p)
{
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work_due);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_threads; i++) {
        g_thread_join(p->threads[i]);
    }
    for (unsigned i = 0; i < p->n_slots; i++) {
        p->ops->free_slot(p->slots[i], p->user);
    }
    pthread_cond_destroy(&p->work_due);
    pthread_cond_destroy(&p->slot_done);
    pthread_cond_destroy(&p->slot_free);
    pthread_mutex_destroy(&p->lock);
    g_free(p->threads);
    g_free(p->slots);
    g_free(p->done);
    g_free(p);
}

gpointer
qmig_pipeline_acquire(QmigPipeline *p, bool wait)
{
    gpointer slot = NULL;

    pthread_mutex_lock(&p->lock);
    while (wait && p->submitted - p->released == p->n_slots) {
        pthread_cond_wait(&p->slot_free, &p->lock);
    }
    if (p->submitted - p->released < p->n_slots) {
        slot = p->slots[p->submitted % p->n_slots];
    }
    pthread_mutex_unlock(&p->lock);
    return slot;
}

void
qmig_pipeline_submit(QmigPipeline *p)
{
    pthread_mutex_lock(&p->lock);
    p->done[p->submitted % p->n_slots] = false;
    p->submitted++;
    pthread_cond_signal(&p->work_due);
    pthread_cond_signal(&p->slot_done); /* take() may wait for the first one */
    pthread_mutex_unlock(&p->lock);
}

void
qmig_pipeline_finish(QmigPipeline *p)
{
    pthread_mutex_lock(&p->lock);
    p->finished = true;
    pthread_cond_signal(&p->slot_done);
    pthread_mutex_unlock(&p->lock);
}

gpointer
qmig_pipeline_take(QmigPipeline *p)
{
    gpointer slot = NULL;

    pthread_mutex_lock(&p->lock);
    unsigned place = (unsigned)(p->released % p->n_slots);
    while (p->released == p->submitted ? !p->finished : !p->done[place]) {
        pthread_cond_wait(&p->slot_done, &p->lock);
    }
    if (p->released < p->submitted) {
        slot = p->slots[place];
    }
    pthread_mutex_unlock(&p->lock);
    return slot;
}

void
qmig_pipeline_release(QmigPipeline *p)
{
    pthread_mutex_lock(&p->lock);
    p->released++;
    pthread_cond_signal(&p->slot_free);
    pthread_mutex_unlock(&p->lock);
}

unsigned
qmig_pipeline_pending(QmigPipeline *p)
{
    pthread_mutex_lock(&p->lock);
    unsigned pending = (unsigned)(p->submitted - p->released);
    pthread_mutex_unlock(&p->lock);
    return pending;
}
