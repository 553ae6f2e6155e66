/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The percentage is the share of memory that the destination has in its latest version. A busy
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
    *model = (QmigProgressModel){ .begin_us = now_us, .now = { .left_ms = -1 } };
}

void
qmig_progress_clear(QmigProgressModel *model)
{
    g_clear_pointer(&model->status, g_free);
}

/* Bytes per second since the youngest sample that is old enough, or the oldest there is. */
static uint64_t
take_rate(QmigProgressModel *model, uint64_t bytes, int64_t now_us)
{
    unsigned n = MIN(model->n_samples, (unsigned)QMIG_RATE_SAMPLES);
    uint64_t rate = model->now.rate;
    int64_t newest_us = 0;

    for (unsigned back = 1; back <= n; back++) {
        unsigned slot = (model->n_samples - back) % QMIG_RATE_SAMPLES;
        int64_t age_us = now_us - model->samples[slot].us;

        newest_us = back == 1 ? model->samples[slot].us : newest_us;
        if (bytes >= model->samples[slot].bytes && age_us > 0) {
            rate = (uint64_t)((double)(bytes - model->samples[slot].bytes) * 1e6 /
                              (double)age_us);
        }
        if (age_us >= RATE_WINDOW_US) {
            break;
        }
    }
    /* Sparse samples make the ring reach over the window. */
    if (n == 0 || now_us - newest_us >= RATE_WINDOW_US / 8) {
        unsigned slot = model->n_samples++ % QMIG_RATE_SAMPLES;
        model->samples[slot].us = now_us;
        model->samples[slot].bytes = bytes;
    }
    return rate;
}

static int64_t
estimate_left(const QmigProgress *p)
{
    if (p->rate == 0 || p->rate <= p->dirty_rate) {
        return -1;
    }
    return (int64_t)((double)p->remaining * 1000 / (double)(p->rate - p->dirty_rate));
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
        p->rate = take_rate(model, info->transferred, now_us);
        p->transferred = info->transferred;
        p->remaining = info->remaining;
        p->total = info->total;
        p->pages_zero = info->duplicate;
        p->pages_normal = info->normal;
        p->dirty_rate = info->dirty_rate * info->page_size;
        p->iteration = MAX(p->iteration, info->iterations);
        p->expected_downtime_ms = info->expected_downtime_ms;
        p->left_ms = estimate_left(p);
        uint64_t share = info->remaining >= info->total
                             ? 0
                             : (info->total - info->remaining) * 100 / info->total;
        p->percent = (unsigned)MAX(p->percent, MIN(share, (uint64_t)PERCENT_BEFORE_DONE));
    }
    return before > 0 && p->iteration > before;
}
