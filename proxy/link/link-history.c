/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On a wire that is slow each stream's frames are compressed with the stream's past as their
 * context, by the thread that writes the stream: one after the other, as they are read. Faster
 * wires leave no time for that; there each frame stands for itself and connections share the work.
 */
#include "proxy/link/link-priv.h"

#include "util/error.h"

#include <inttypes.h>

enum {
    /* Smaller ones gain nothing, and may be in a hurry. */
    FRAME_MIN = 512,
    /* A level is judged after so many bytes: the wire's rate is known then, too. */
    JUDGED_AFTER = 16 << 20,
    /* A higher one is tried no sooner: with another level the past is lost. */
    RAISED_AFTER = 96 << 20,
};

static const int levels[] = { 1, 3, 6, 9 };
enum { FIRST_LEVEL = 1, N_LEVELS = G_N_ELEMENTS(levels) };

/* A level may be slower than the wire by what the next one down would send more; one that is so much
 * faster leaves time for the next one up, which takes some 2.2 times as long. */
static const double fast_enough = 0.93, fast_for_next = 2.8;
/* What shrinks by less than that is no better off with more effort. */
static const double worth_it = 0.9;
static const double weight = 0.05;

struct LinkHistory {
    QmigHistoryIn *in;
    QmigHistoryOut *out;
    unsigned level; /* place in levels */
    uint64_t bytes; /* since the level is what it is */
    bool changed;
    uint64_t judged; /* of them, when it was judged last */
};

static LinkHistory *
history_of(QmigLinkStream *s, unsigned max)
{
    QmigLink *link = s->link;

    if (s->history == NULL && link->n_histories < max) {
        s->history = g_new0(LinkHistory, 1);
        s->history->level = FIRST_LEVEL;
        link->n_histories++;
    }
    return s->history;
}

/* The level that was asked for, or 0; -1: no zstd. */
static int
asked_level(const QmigLink *link)
{
    switch (link->config.codec) {
    case QMIG_CODEC_AUTO:
        return 0;
    case QMIG_CODEC_ZSTD:
        return link->config.level;
    case QMIG_CODEC_NONE:
    case QMIG_CODEC_LZ4:
    default:
        return -1;
    }
}

bool
link_history_serves(QmigLinkStream *s, uint8_t type, const QmigBuf *buf)
{
    const QmigLink *link = s->link;
    /* Once begun it is not left for a short gust. */
    double below = s->history != NULL ? 2.0 * QMIG_LINK_SLOW : QMIG_LINK_SLOW;

    return (type == QMIG_FRAME_DATA || type == QMIG_FRAME_BATCH) && buf != NULL &&
           buf->len >= FRAME_MIN &&
           qmig_history_bound(buf->len) <= QMIG_FRAME_PAYLOAD_MAX &&
           s->open.kind != QMIG_STREAM_CONTROL && !s->open.urgent &&
           asked_level(link) >= 0 && link->chooser.rate > 0 &&
           link->chooser.rate < below && history_of(s, HISTORIES_MAX) != NULL;
}

/* Choose the level for what comes next, by what it did of late. With the lock held. */
static void
judge(QmigLinkStream *s)
{
    QmigLink *link = s->link;
    LinkHistory *h = s->history;
    const QmigChoiceMeasure *m = &link->history_measure;
    double need = link->chooser.rate / m->ratio / link->n_histories;
    unsigned level = h->level;

    if (asked_level(link) > 0 || h->bytes - h->judged < JUDGED_AFTER) {
        return;
    }
    h->judged = h->bytes;
    if (m->speed < fast_enough * need && level > 0) {
        level--;
    } else if (m->speed > fast_for_next * need && m->ratio < worth_it &&
               level < N_LEVELS - 1 && (!h->changed || h->bytes >= RAISED_AFTER)) {
        level++;
    }
    if (level != h->level) {
        h->level = level;
        h->bytes = h->judged = 0;
        h->changed = true;
        qmig_history_in_set_level(h->in, levels[level]);
    }
}

/* With the lock held. */
static void
learn(QmigLinkStream *s, uint32_t plain, uint32_t coded, int64_t us)
{
    QmigChoiceMeasure *m = &s->link->history_measure;
    double speed = (double)plain * 1e6 / (double)MAX(us, 1);
    /* After another level before, the first ones say more. */
    double w = s->history->bytes == 0 ? 0.5 : weight;

    m->speed += (speed - m->speed) * (m->n == 0 ? 1 : w);
    m->ratio += ((double)coded / plain - m->ratio) * (m->n == 0 ? 1 : weight);
    m->n++;
    s->link->history_level = levels[s->history->level];
    s->history->bytes += plain;
    judge(s);
}

QmigBuf *
link_history_code(QmigLinkStream *s, const QmigBuf *plain)
{
    LinkHistory *h = s->history;
    QmigBuf *coded = qmig_buf_new((uint32_t)qmig_history_bound(plain->len));
    int64_t since = qmig_now_us();

    if (h->in == NULL) {
        int level = asked_level(s->link);
        h->in = qmig_history_in_new(level > 0 ? level : levels[h->level]);
    }
    coded->len = (uint32_t)qmig_history_put(h->in, coded->data, coded->size, plain->data,
                                            plain->len);
    int64_t us = qmig_now_us() - since;
    pthread_mutex_lock(&s->link->lock);
    learn(s, plain->len, coded->len, us);
    pthread_mutex_unlock(&s->link->lock);
    return coded;
}

QmigBuf *
link_history_decode(QmigLinkStream *s, const Arrived *a, GError **error)
{
    g_autoptr(QmigBuf) plain = qmig_buf_new(a->plain_len);

    pthread_mutex_lock(&s->link->lock);
    LinkHistory *h = history_of(s, HISTORIES_TAKEN);
    pthread_mutex_unlock(&s->link->lock);
    if (h == NULL) {
        qmig_set_error(error, QMIG_ERROR_LIMIT,
                       "stream %u: the other side compresses more than %d streams with "
                       "their past",
                       s->id, HISTORIES_TAKEN);
        return NULL;
    }
    h->out = h->out != NULL ? h->out : qmig_history_out_new();
    plain->len = a->plain_len;
    if (!qmig_history_take(h->out, plain->data, plain->len, a->buf->data, a->buf->len)) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "frame %" PRIu64 " of stream %u: %u bytes of zstd do not give %u "
                       "after those before them",
                       a->seq, s->id, a->buf->len, a->plain_len);
        return NULL;
    }
    return g_steal_pointer(&plain);
}

void
link_history_free(QmigLinkStream *s)
{
    LinkHistory *h = g_steal_pointer(&s->history);

    if (h != NULL) {
        s->link->n_histories--;
        qmig_history_in_free(h->in);
        qmig_history_out_free(h->out);
        g_free(h);
    }
}
