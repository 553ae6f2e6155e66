/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/choose.h"

#include "proxy/link/frame.h"

/* From the fastest to the smallest. What is not measured yet is taken from the tables' usual. */
static const struct {
    QmigChoice choice;
    double speed, ratio;
} table[QMIG_CHOICES] = {
    { { QMIG_FRAME_PLAIN, 0 }, 1e12, 1.0 }, { { QMIG_FRAME_LZ4, 1 }, 500e6, 0.5 },
    { { QMIG_FRAME_ZSTD, 1 }, 300e6, 0.4 }, { { QMIG_FRAME_ZSTD, 3 }, 180e6, 0.37 },
    { { QMIG_FRAME_ZSTD, 6 }, 70e6, 0.35 }, { { QMIG_FRAME_ZSTD, 9 }, 40e6, 0.34 },
};

/* A measured value counts so much against those before it. */
static const double weight = 0.05;
/* Two throughputs this near are the same: the cheaper choice is taken. */
static const double enough = 0.9;
/* Every so many frames a neighbour of the best is tried, to know how it would do now. */
enum { EXPLORE_EVERY = 48 };

static void
allow_only(QmigChooser *c, const QmigChoice *fixed)
{
    bool found = false;

    for (unsigned i = 0; i < QMIG_CHOICES; i++) {
        const QmigChoice *choice = &table[i].choice;
        if (choice->codec == fixed->codec &&
            (fixed->level == 0 || choice->level <= fixed->level || !found)) {
            c->first = found && fixed->level == 0 ? c->first : i;
            c->last = i;
            found = true;
        }
    }
}

void
qmig_chooser_init(QmigChooser *c, const QmigChoice *fixed)
{
    *c = (QmigChooser){ .threads = 1, .last = QMIG_CHOICES - 1 };
    for (unsigned i = 0; i < QMIG_CHOICES; i++) {
        c->measures[i].speed = table[i].speed;
        c->measures[i].ratio = table[i].ratio;
    }
    if (fixed != NULL) {
        allow_only(c, fixed);
    }
}

QmigChoice
qmig_chooser_choice(const QmigChooser *c, unsigned which)
{
    (void)c;
    return table[which].choice;
}

static double
throughput(const QmigChooser *c, unsigned i)
{
    const QmigChoiceMeasure *m = &c->measures[i];
    double cpu = m->speed * c->threads;
    double wire = c->rate / m->ratio;

    return cpu < wire ? cpu : wire;
}

unsigned
qmig_chooser_pick(QmigChooser *c)
{
    unsigned best = c->first;

    c->asked++;
    if (c->rate > 0) {
        double top = throughput(c, best);
        for (unsigned i = c->first + 1; i <= c->last; i++) {
            if (throughput(c, i) * enough > top) {
                best = i;
                top = throughput(c, i);
            }
        }
        if (c->asked % EXPLORE_EVERY == 0) {
            unsigned next = (c->asked / EXPLORE_EVERY) % 2 == 0 ? best + 1 : best - 1;
            if (next >= c->first && next <= c->last) {
                best = next;
            }
        }
    }
    c->measures[best].wins++;
    return best;
}

void
qmig_chooser_learn(QmigChooser *c, unsigned which, uint32_t plain, uint32_t coded,
                   int64_t us)
{
    QmigChoiceMeasure *m = &c->measures[which];
    double speed = (double)plain * 1e6 / (double)(us > 0 ? us : 1);
    double ratio = plain > 0 ? (double)coded / plain : 1.0;

    /* The first measurement says more than the table. */
    double w = m->n == 0 ? 0.7 : weight;
    m->speed += (speed - m->speed) * w;
    m->ratio += (ratio - m->ratio) * w;
    m->n++;
}

void
qmig_chooser_watch(QmigChooser *c, uint64_t bytes, int64_t us, double blocked)
{
    double rate = (double)bytes * 1e6 / (double)(us > 0 ? us : 1);

    if (bytes == 0) {
        /* Dark: says nothing about the wire when it is there. */
        return;
    }
    if (blocked >= 0.25) {
        /* The wire holds us up: this is what it takes. */
        c->rate = c->rate > 0 ? c->rate + (rate - c->rate) * 0.3 : rate;
    } else if (c->rate > 0 && rate > c->rate * 0.9) {
        /* It would take more than we thought: by how much shows when it blocks. */
        c->rate = (rate > c->rate ? rate : c->rate) * 1.3;
    }
}
