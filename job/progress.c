/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The percentage is the share of memory and disks that the destination has in its latest version. A busy
 * guest makes that fall; the number shown never does: it waits. It stays below 100 until the
 * guest runs on the destination.
 */
#include "job/progress.h"

enum {
    /* The rate is taken over at least this time, so that it does not jump. */
    RATE_WINDOW_US = 1000000,
    PERCENT_BEFORE_DONE = 99,
};

void
qmig_progress_init(QmigProgressModel *model, int64_t now_us)
{
    *model = (QmigProgressModel){ .begin_us = now_us,
                                  .now = { .left_min_ms = -1, .left_max_ms = -1 } };
}

void
qmig_progress_clear(QmigProgressModel *model)
{
    g_clear_pointer(&model->status, g_free);
}

static uint64_t
per_second(uint64_t now, uint64_t then, int64_t us, uint64_t fallback)
{
    return now >= then && us > 0 ? (uint64_t)((double)(now - then) * 1e6 / (double)us)
                                 : fallback;
}

/* Rates since the youngest sample that is old enough, or the oldest there is. */
static void
take_rates(QmigProgressModel *model, uint64_t bytes, uint64_t memory, int64_t now_us)
{
    unsigned n = MIN(model->n_samples, (unsigned)QMIG_RATE_SAMPLES);
    int64_t newest_us = 0;

    for (unsigned back = 1; back <= n; back++) {
        unsigned slot = (model->n_samples - back) % QMIG_RATE_SAMPLES;
        int64_t age_us = now_us - model->samples[slot].us;

        newest_us = back == 1 ? model->samples[slot].us : newest_us;
        model->now.rate = per_second(bytes, model->samples[slot].bytes, age_us,
                                     model->now.rate);
        model->memory_rate = per_second(memory, model->samples[slot].memory, age_us,
                                        model->memory_rate);
        if (age_us >= RATE_WINDOW_US) {
            break;
        }
    }
    /* Sparse samples make the ring reach over the window. */
    if (n == 0 || now_us - newest_us >= RATE_WINDOW_US / 8) {
        unsigned slot = model->n_samples++ % QMIG_RATE_SAMPLES;
        model->samples[slot].us = now_us;
        model->samples[slot].bytes = bytes;
        model->samples[slot].memory = memory;
    }
}

/* Milliseconds for @bytes at @rate; -1 when there is no rate. */
static int64_t
time_for(uint64_t bytes, uint64_t rate)
{
    double ms = rate > 0 ? (double)bytes * 1000 / (double)rate : -1;

    return ms < (double)INT64_MAX ? (int64_t)ms : -1;
}

/* By the memory dealt with, or, with codecs QEMU does not count pages of, by the bytes. */
static void
estimate_left(QmigProgressModel *model)
{
    QmigProgress *p = &model->now;
    uint64_t rate = MAX(model->memory_rate, p->rate);
    uint64_t gain = rate > p->dirty_rate ? rate - p->dirty_rate : 0;

    p->left_min_ms = time_for(p->remaining, rate);
    p->left_max_ms = time_for(p->remaining, gain);
}

/* The share of all that is to be moved, disks included. */
static void
take_share(QmigProgress *p, uint64_t remaining, uint64_t total)
{
    uint64_t all = total + p->storage_total;
    uint64_t left = MIN(remaining + p->storage_total - p->storage_done, all);
    uint64_t share = all > 0 ? (uint64_t)((double)(all - left) * 100 / (double)all) : 0;

    p->percent = (unsigned)MAX(p->percent, MIN(share, (uint64_t)PERCENT_BEFORE_DONE));
}

bool
qmig_progress_update(QmigProgressModel *model, const QmigMigrationInfo *info,
                     JsonObject *stats, int64_t now_us)
{
    QmigProgress *p = &model->now;
    JsonObject *pages = qmig_json_get(stats, "pages", json_type_object);
    uint64_t before = p->iteration;

    g_free(model->status);
    model->status = g_strdup(info->status_text);
    p->status = model->status;
    p->elapsed_ms = (uint64_t)MAX(now_us - model->begin_us, 0) / 1000;
    p->pages_resent = (uint64_t)qmig_json_int(pages, "resent", (int64_t)p->pages_resent);
    /* cancelled and failed come without figures: keep the last ones. */
    if (info->total > 0) {
        take_rates(model, info->transferred,
                   (info->duplicate + info->normal) * info->page_size, now_us);
        p->transferred = info->transferred;
        p->remaining = info->remaining;
        p->total = info->total;
        p->pages_zero = info->duplicate;
        p->pages_normal = info->normal;
        p->dirty_rate = info->dirty_rate * info->page_size;
        p->iteration = MAX(p->iteration, info->iterations);
        p->expected_downtime_ms = info->expected_downtime_ms;
        estimate_left(model);
        take_share(p, info->remaining, info->total);
    }
    return before > 0 && p->iteration > before;
}

void
qmig_progress_storage(QmigProgressModel *model, uint64_t done, uint64_t total,
                      uint64_t memory, int64_t now_us)
{
    QmigProgress *p = &model->now;

    p->storage_done = MIN(done, total);
    p->storage_total = total;
    /* Memory is not copied yet: the rates are those of the disks. */
    if (p->total == 0) {
        p->elapsed_ms = (uint64_t)MAX(now_us - model->begin_us, 0) / 1000;
        take_rates(model, done, done, now_us);
        p->left_min_ms = p->left_max_ms = time_for(total - p->storage_done, p->rate);
        take_share(p, memory, memory);
    }
}

void
qmig_progress_begin_memory(QmigProgressModel *model, int64_t now_us)
{
    QmigProgress before = model->now;

    qmig_progress_clear(model);
    qmig_progress_init(model, now_us);
    model->now.percent = before.percent;
    model->now.storage_done = before.storage_done;
    model->now.storage_total = before.storage_total;
}
