/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See adapt.h. */
#include "pipe/adapt.h"

#include "save/format.h"

enum {
    PROBE_EVERY = 48,      /* blocks */
    SAMPLE_MIN = 16 << 10, /* bytes: shorter blocks say little */
};

static const double weight = 0.15;  /* of the newest sample */
static const double as_good = 0.95; /* of the best: then fewer bytes count */

static const double copy_rate = 2e9; /* bytes per second, about */

const QmigAdaptChoice qmig_adapt_choices[QMIG_ADAPT_CHOICES] = {
    { QMIG_SAVE_CODEC_NONE, 0 },
    { QMIG_SAVE_CODEC_LZ4, 0 },
    { QMIG_SAVE_CODEC_ZSTD, 1 },
    { QMIG_SAVE_CODEC_ZSTD, 4 },
};

void
qmig_adapt_init(QmigAdapt *adapt, unsigned threads)
{
    /* Not packing is known without trying. */
    *adapt = (QmigAdapt){ .threads = threads, .pack = { copy_rate }, .ratio = { 1 } };
    pthread_mutex_init(&adapt->lock, NULL);
}

void
qmig_adapt_clear(QmigAdapt *adapt)
{
    pthread_mutex_destroy(&adapt->lock);
}

static void
average(double *value, double sample)
{
    *value = *value > 0 ? *value + weight * (sample - *value) : sample;
}

static unsigned
best(const QmigAdapt *adapt)
{
    double through[QMIG_ADAPT_CHOICES], most = 0;
    unsigned chosen = 0;

    for (unsigned i = 0; i < QMIG_ADAPT_CHOICES; i++) {
        double packed = adapt->pack[i] * adapt->threads;
        double written = adapt->output * adapt->ratio[i];

        through[i] = adapt->output > 0 ? MIN(packed, written) : packed;
        most = MAX(most, through[i]);
    }
    for (unsigned i = 1; i < QMIG_ADAPT_CHOICES; i++) {
        bool better = through[chosen] < as_good * most ||
                      adapt->ratio[i] > adapt->ratio[chosen];

        if (through[i] >= as_good * most && better) {
            chosen = i;
        }
    }
    return chosen;
}

unsigned
qmig_adapt_next(QmigAdapt *adapt)
{
    unsigned choice = 1; /* lz4, as long as nothing is known */

    pthread_mutex_lock(&adapt->lock);
    if (++adapt->blocks % PROBE_EVERY == 0 || adapt->blocks < QMIG_ADAPT_CHOICES) {
        choice = 1 + adapt->probe++ % (QMIG_ADAPT_CHOICES - 1);
    } else if (adapt->pack[choice] > 0) {
        choice = best(adapt);
    }
    pthread_mutex_unlock(&adapt->lock);
    return choice;
}

void
qmig_adapt_packed(QmigAdapt *adapt, unsigned choice, uint64_t plain, uint64_t stored,
                  uint64_t us)
{
    if (plain < SAMPLE_MIN) {
        return;
    }
    pthread_mutex_lock(&adapt->lock);
    average(&adapt->pack[choice], (double)plain * 1e6 / (double)MAX(us, 1));
    average(&adapt->ratio[choice], (double)plain / (double)stored);
    pthread_mutex_unlock(&adapt->lock);
}

void
qmig_adapt_written(QmigAdapt *adapt, uint64_t bytes, uint64_t us)
{
    if (bytes < SAMPLE_MIN / 4) {
        return;
    }
    pthread_mutex_lock(&adapt->lock);
    average(&adapt->output, (double)bytes * 1e6 / (double)MAX(us, 1));
    pthread_mutex_unlock(&adapt->lock);
}
