/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session as a whole: its beginning, its end, what is said about all of it. */
#include "proxy/link/link-priv.h"

#include "util/error.h"

static void
init_chooser(QmigLink *link)
{
    static const uint8_t codecs[] = { [QMIG_CODEC_NONE] = QMIG_FRAME_PLAIN,
                                      [QMIG_CODEC_LZ4] = QMIG_FRAME_LZ4,
                                      [QMIG_CODEC_ZSTD] = QMIG_FRAME_ZSTD };
    QmigChoice fixed = { codecs[link->config.codec], link->config.level };

    qmig_chooser_init(&link->chooser,
                      link->config.codec != QMIG_CODEC_AUTO ? &fixed : NULL);
}

QmigLink *
qmig_link_new(const QmigLinkConfig *config)
{
    QmigLink *link = g_new0(QmigLink, 1);

    link->config = *config;
    pthread_mutex_init(&link->lock, NULL);
    qmig_cond_init(&link->work);
    qmig_cond_init(&link->room);
    qmig_cond_init(&link->opened);
    qmig_cond_init(&link->clock_tick);
    g_queue_init(&link->accepted);
    g_queue_init(&link->queues[0]);
    g_queue_init(&link->queues[1]);
    link->state = QMIG_LINK_DARK;
    link->dark_since = qmig_now_us();
    init_chooser(link);
    link->clock = g_thread_new("qmig-link-clock", link_clock_thread, link);
    return link;
}

void
qmig_link_free(QmigLink *link)
{
    if (link == NULL) {
        return;
    }
    pthread_mutex_lock(&link->lock);
    link->freeing = true;
    if (!link_is_over(link)) {
        link->state = QMIG_LINK_CLOSED;
    }
    link_drop_wires(link);
    link_wake_all(link);
    while (link->threads > 0) {
        pthread_cond_wait(&link->room, &link->lock);
    }
    pthread_mutex_unlock(&link->lock);
    g_thread_join(link->clock);
    for (unsigned i = 0; i < link->n_streams; i++) {
        if (link->streams[i] != NULL) {
            link_stream_destroy(link->streams[i]);
        }
    }
    g_queue_clear(&link->accepted);
    g_queue_clear(&link->queues[0]);
    g_queue_clear(&link->queues[1]);
    g_clear_error(&link->error);
    pthread_cond_destroy(&link->work);
    pthread_cond_destroy(&link->room);
    pthread_cond_destroy(&link->opened);
    pthread_cond_destroy(&link->clock_tick);
    pthread_mutex_destroy(&link->lock);
    g_free(link);
}

QmigLinkState
qmig_link_state(QmigLink *link)
{
    pthread_mutex_lock(&link->lock);
    QmigLinkState state = link->state;
    pthread_mutex_unlock(&link->lock);
    return state;
}

GError *
qmig_link_error(QmigLink *link)
{
    pthread_mutex_lock(&link->lock);
    GError *copy = link->error != NULL ? g_error_copy(link->error) : NULL;
    pthread_mutex_unlock(&link->lock);
    return copy;
}

void
qmig_link_fail(QmigLink *link, GError *error)
{
    pthread_mutex_lock(&link->lock);
    link_fail_locked(link, error);
    pthread_mutex_unlock(&link->lock);
    link->config.changed(link->config.data);
}

static bool
all_consumed(const QmigLink *link)
{
    for (unsigned i = 0; i < link->n_streams; i++) {
        if (link->streams[i] != NULL && link->streams[i]->unacked.length > 0) {
            return false;
        }
    }
    return true;
}

static bool
bye_is_said(const QmigLink *link)
{
    return link_is_over(link) || link->n_wires == 0;
}

/* With the lock held. */
static void
say_bye(QmigLink *link, QmigDeadline deadline)
{
    link->bye_due = true;
    pthread_cond_broadcast(&link->work);
    while (!bye_is_said(link) && qmig_now_us() < deadline) {
        qmig_cond_wait_until(&link->room, &link->lock, deadline);
    }
}

bool
qmig_link_close(QmigLink *link, QmigDeadline deadline)
{
    pthread_mutex_lock(&link->lock);
    while (!link_is_over(link) && !all_consumed(link) && qmig_now_us() < deadline) {
        qmig_cond_wait_until(&link->room, &link->lock, deadline);
    }
    bool ok = all_consumed(link) && !link_is_over(link);
    if (ok) {
        say_bye(link, deadline);
    }
    pthread_mutex_unlock(&link->lock);
    return ok;
}

void
qmig_link_give_up(QmigLink *link, QmigDeadline deadline)
{
    pthread_mutex_lock(&link->lock);
    if (!link_is_over(link) && !link->bye_due) {
        link->gives_up = true;
        say_bye(link, deadline);
    }
    pthread_mutex_unlock(&link->lock);
}

void
qmig_link_set_critical(QmigLink *link, bool critical)
{
    pthread_mutex_lock(&link->lock);
    link->critical = critical;
    pthread_cond_broadcast(&link->work);
    pthread_mutex_unlock(&link->lock);
}

uint64_t
qmig_link_stream_goodput(QmigLinkStream *s)
{
    pthread_mutex_lock(&s->link->lock);
    uint64_t goodput = (uint64_t)s->link->goodput;
    pthread_mutex_unlock(&s->link->lock);
    return goodput;
}

void
qmig_link_stream_hold_little(QmigLinkStream *s)
{
    pthread_mutex_lock(&s->link->lock);
    s->lean = true;
    pthread_mutex_unlock(&s->link->lock);
}

void
qmig_link_stream_set_critical(QmigLinkStream *s)
{
    pthread_mutex_lock(&s->link->lock);
    s->critical = true;
    pthread_cond_broadcast(&s->link->work);
    pthread_mutex_unlock(&s->link->lock);
}

bool
link_is_critical_here(const QmigLink *link)
{
    bool critical = link->critical;

    for (unsigned i = 0; i < link->n_streams && !critical; i++) {
        const QmigLinkStream *s = link->streams[i];
        critical = s != NULL && s->critical && !s->freed;
    }
    return critical;
}

bool
qmig_link_is_critical(QmigLink *link)
{
    pthread_mutex_lock(&link->lock);
    bool critical = link->peer_critical;
    pthread_mutex_unlock(&link->lock);
    return critical;
}

/* A limit holds us up as a slow wire does: few bytes pay. With the lock held. */
void
link_heed_limit(QmigLink *link)
{
    double limit = (double)link->rate_limit;

    if (limit > 0 && (link->chooser.rate <= 0 || link->chooser.rate > limit)) {
        link->chooser.rate = limit;
    }
}

void
qmig_link_set_rate(QmigLink *link, uint64_t bytes_per_s)
{
    pthread_mutex_lock(&link->lock);
    link->rate_limit = bytes_per_s;
    link->send_at = 0;
    link_heed_limit(link);
    pthread_cond_broadcast(&link->work);
    pthread_mutex_unlock(&link->lock);
}
