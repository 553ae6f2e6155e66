/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Connections of a session: each has a thread that reads and one that writes. Frames are compressed
 * by the thread that writes them, so that as many work on it as there are connections.
 */
#include "proxy/link/link-priv.h"

#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <inttypes.h>

enum {
    CLOCK_MS = 100,
    /* The kernel has not taken one byte for so long. */
    STUCK_MS = 15000,
    /* Streams acknowledged by one frame. */
    ACKS_MAX = 256,
    /* Not worth compressing. */
    SMALL_FRAME = 256,
};

/* ---- coming and going --------------------------------------------------------------------- */

static void
requeue(QmigLink *link, Frame *f)
{
    f->wire = NULL;
    g_queue_push_head(&link->queues[f->stream->open.urgent ? 0 : 1], f);
    link->queued += f->plain_len;
}

/* What was under way on @w goes out again, in order. Frames in hand come back by their writers. */
static void
take_back(QmigLink *link, LinkWire *w)
{
    for (unsigned i = 0; i < link->n_streams; i++) {
        QmigLinkStream *s = link->streams[i];
        for (GList *l = s != NULL ? s->unacked.tail : NULL; l != NULL; l = l->prev) {
            Frame *f = l->data;
            if (f->wire == w && !f->in_hand) {
                requeue(link, f);
            }
        }
        if (s != NULL && s->consumed_seq > 0) {
            /* So may have been an acknowledgement. */
            s->ack_due = true;
        }
    }
}

/* Half of the processors are for those who make what is compressed, QEMU before all. */
static unsigned
compressing_threads(const QmigLink *link)
{
    return CLAMP(link->n_wires, 1, MAX(g_get_num_processors() / 2, 1));
}

/* With the lock held. */
static void
drop(LinkWire *w)
{
    QmigLink *link = w->link;

    if (w->broken) {
        return;
    }
    w->broken = true;
    qmig_cancel_raise(w->cancel);
    link->wires[w->index] = NULL;
    link->n_wires--;
    link->breaks += link->state == QMIG_LINK_UP;
    link->chooser.threads = compressing_threads(link);
    take_back(link, w);
    if (link->n_wires == 0 && link->state == QMIG_LINK_UP) {
        link->state = QMIG_LINK_DARK;
        link->dark_since = qmig_now_us();
    }
    pthread_cond_broadcast(&link->work);
    pthread_cond_broadcast(&link->room);
}

void
link_drop_wires(QmigLink *link)
{
    for (unsigned i = 0; i < QMIG_LINK_WIRES_MAX; i++) {
        if (link->wires[i] != NULL) {
            drop(link->wires[i]);
        }
    }
}

/* A connection broke, or its peer spoke nonsense. */
static void
wire_failed(LinkWire *w, const GError *error)
{
    QmigLink *link = w->link;

    pthread_mutex_lock(&link->lock);
    if (!w->broken && link->state == QMIG_LINK_UP) {
        g_debug("%s: connection %u: %s", link->config.name, w->index,
                error != NULL ? error->message : "ended");
    }
    drop(w);
    pthread_mutex_unlock(&link->lock);
    link->config.changed(link->config.data);
}

static void
thread_left(LinkWire *w)
{
    QmigLink *link = w->link;

    pthread_mutex_lock(&link->lock);
    bool last = --w->threads == 0;
    if (last) {
        link->wire_bytes_gone += qmig_wire_bytes_written(w->wire);
        link->blocked_us_gone += qmig_wire_blocked_us(w->wire);
    }
    pthread_mutex_unlock(&link->lock);
    if (last) {
        qmig_wire_free(w->wire);
        qmig_cancel_free(w->cancel);
        qmig_codec_state_free(w->codec_state);
        g_free(w);
    }
    pthread_mutex_lock(&link->lock);
    link->threads--;
    /* Under the lock: whoever frees the session waits for this. */
    pthread_cond_broadcast(&link->room);
    pthread_mutex_unlock(&link->lock);
}

/* ---- writing ------------------------------------------------------------------------------ */

typedef enum { SEND_NOTHING, SEND_CONTROL, SEND_FRAME, SEND_LEAVE } Errand;

static bool
put_acks(QmigLink *link, QmigWriter *w)
{
    for (unsigned i = 0, n = 0; i < link->n_streams && n < ACKS_MAX; i++) {
        QmigLinkStream *s = link->streams[i];
        if (s != NULL && s->ack_due) {
            bool ok = qmig_writer_be16(w, s->id) && qmig_writer_be64(w, s->consumed_seq);
            g_assert(ok);
            s->ack_due = false;
            n++;
        }
    }
    return w->len > 0;
}

/* Something of the session itself to be said? In the order of haste. */
static bool
next_control(LinkWire *w, QmigFrameHead *head, QmigWriter *out)
{
    QmigLink *link = w->link;
    bool ok = true, critical = link_is_critical_here(link);

    *head = (QmigFrameHead){ 0 };
    if (put_acks(link, out)) {
        head->type = QMIG_FRAME_ACK;
    } else if (w->pong_due) {
        w->pong_due = false;
        head->type = QMIG_FRAME_PONG;
        ok = qmig_writer_be64(out, w->pong);
    } else if (w->note_sent != critical) {
        w->note_sent = critical;
        head->type = QMIG_FRAME_NOTE;
        ok = qmig_writer_u8(out, critical);
    } else if (qmig_now_us() >= w->ping_at) {
        w->ping_at = qmig_deadline_in_ms(PING_MS);
        head->type = QMIG_FRAME_PING;
        ok = qmig_writer_be64(out, (uint64_t)qmig_now_us() * 1000);
    } else if (link->bye_due) {
        head->type = QMIG_FRAME_BYE;
        ok = qmig_writer_u8(out, link->gives_up);
    }
    g_assert(ok);
    head->length = head->plain_length = (uint32_t)out->len;
    return head->type != 0;
}

static Frame *
next_frame(LinkWire *w)
{
    QmigLink *link = w->link;
    Frame *f = g_queue_pop_head(&link->queues[0]);

    if (f == NULL) {
        f = g_queue_pop_head(&link->queues[1]);
    }
    if (f == NULL) {
        return NULL;
    }
    link->queued -= f->plain_len;
    f->in_hand = true;
    f->wire = w;
    f->refs++;
    pthread_cond_broadcast(&link->room);
    return f;
}

/* Wait until there is something to write on @w. With the lock held. */
static Errand
next_errand(LinkWire *w, QmigFrameHead *head, QmigWriter *out, Frame **frame)
{
    QmigLink *link = w->link;

    while (!w->broken) {
        int64_t now = qmig_now_us();
        bool may_send = link->rate_limit == 0 || now >= link->send_at;

        if (next_control(w, head, out)) {
            return SEND_CONTROL;
        }
        *frame = may_send ? next_frame(w) : NULL;
        if (*frame != NULL) {
            return SEND_FRAME;
        }
        qmig_cond_wait_until(&link->work, &link->lock,
                             may_send ? w->ping_at : MIN(w->ping_at, link->send_at));
    }
    return SEND_LEAVE;
}

/* Without the lock: the frame is in this thread's hands. Return: microseconds. */
static int64_t
compress_as(LinkWire *w, Frame *f, QmigChoice choice)
{
    const QmigCodec *codec = qmig_codec_find(choice.codec == QMIG_FRAME_LZ4 ? "lz4"
                                                                            : "zstd");
    /* A frame that shrinks by less is not worth its decompression. */
    uint32_t cap = f->buf->len - f->buf->len / 16;
    QmigBuf *small = qmig_buf_new(cap);
    int64_t since = qmig_now_us();
    size_t n = codec->compress(w->codec_state, choice.level, small->data, cap,
                               f->buf->data, f->buf->len);
    int64_t took = qmig_now_us() - since;

    if (n > 0) {
        small->len = (uint32_t)n;
        qmig_buf_unref(f->buf);
        f->buf = small;
        f->codec = choice.codec;
    } else {
        qmig_buf_unref(small);
    }
    return took;
}

static void
compress_frame(LinkWire *w, Frame *f)
{
    QmigLink *link = w->link;

    if (f->tried || f->plain_len < SMALL_FRAME) {
        return;
    }
    f->tried = true;
    pthread_mutex_lock(&link->lock);
    unsigned which = qmig_chooser_pick(&link->chooser);
    QmigChoice choice = qmig_chooser_choice(&link->chooser, which);
    pthread_mutex_unlock(&link->lock);
    if (choice.codec == QMIG_FRAME_PLAIN) {
        return;
    }
    int64_t took = compress_as(w, f, choice);
    pthread_mutex_lock(&link->lock);
    qmig_chooser_learn(&link->chooser, which, f->plain_len, f->buf->len, took);
    pthread_mutex_unlock(&link->lock);
}

static void
pace(QmigLink *link, uint32_t len)
{
    pthread_mutex_lock(&link->lock);
    if (link->rate_limit > 0) {
        int64_t now = qmig_now_us();
        link->send_at = MAX(link->send_at, now) +
                        (int64_t)((double)(len + QMIG_FRAME_HEAD) * 1e6 /
                                  (double)link->rate_limit);
    }
    pthread_mutex_unlock(&link->lock);
}

static bool
send_frame(LinkWire *w, Frame *f, GError **error)
{
    QmigLink *link = w->link;

    compress_frame(w, f);
    QmigFrameHead head = {
        .type = f->type,
        .codec = f->codec,
        .stream = f->stream->id,
        .seq = f->seq,
        .length = f->buf != NULL ? f->buf->len : 0,
        .plain_length = f->plain_len,
    };
    pace(link, head.length);
    bool ok = qmig_wire_write(w->wire, &head, f->buf != NULL ? f->buf->data : NULL,
                              STUCK_MS, w->cancel, error);
    pthread_mutex_lock(&link->lock);
    f->in_hand = false;
    if ((!ok || w->broken) && !f->acked) {
        requeue(link, f);
        pthread_cond_signal(&link->work);
    }
    frame_unref(f);
    pthread_mutex_unlock(&link->lock);
    return ok;
}

static void *
writer_thread(void *data)
{
    LinkWire *w = data;
    g_autoptr(GError) error = NULL;
    bool ok = true;

    while (ok) {
        uint8_t bytes[ACKS_MAX * 10];
        QmigWriter out = qmig_writer(bytes, sizeof bytes);
        QmigFrameHead head;
        Frame *frame = NULL;

        pthread_mutex_lock(&w->link->lock);
        Errand errand = next_errand(w, &head, &out, &frame);
        pthread_mutex_unlock(&w->link->lock);
        if (errand == SEND_FRAME) {
            ok = send_frame(w, frame, &error);
        } else {
            ok = errand == SEND_CONTROL &&
                 qmig_wire_write(w->wire, &head, bytes, STUCK_MS, w->cancel, &error) &&
                 head.type != QMIG_FRAME_BYE;
        }
    }
    wire_failed(w, error);
    qmig_wire_shutdown(w->wire);
    thread_left(w);
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool
decompress(QmigCodecState *state, const QmigFrameHead *head, QmigBuf **payload,
           GError **error)
{
    if (head->codec == QMIG_FRAME_PLAIN || head->codec == QMIG_FRAME_ZSTD_HISTORY) {
        return true; /* the latter by the stream's reader, in order */
    }
    const QmigCodec *codec = qmig_codec_find(head->codec == QMIG_FRAME_LZ4 ? "lz4"
                                                                           : "zstd");
    g_autoptr(QmigBuf) plain = qmig_buf_new(head->plain_length);

    plain->len = head->plain_length;
    if (!codec->decompress(state, plain->data, plain->len, (*payload)->data,
                           (*payload)->len)) {
        return qmig_set_error(
            error, QMIG_ERROR_PROTOCOL,
            "frame %" PRIu64 " of stream %u: %u bytes of %s do not give "
            "%u",
            head->seq, head->stream, head->length, codec->name, head->plain_length);
    }
    qmig_buf_unref(*payload);
    *payload = g_steal_pointer(&plain);
    return true;
}

static bool
take_number(const QmigBuf *payload, uint64_t *number, GError **error)
{
    QmigCursor c = qmig_cursor(payload != NULL ? payload->data : NULL,
                               payload != NULL ? payload->len : 0);

    return qmig_cursor_be64(&c, number) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL, "PING or PONG is cut");
}

/* With the lock held. */
static bool
take_control(LinkWire *w, const QmigFrameHead *head, const QmigBuf *payload,
             GError **error)
{
    QmigLink *link = w->link;
    GError *given_up = NULL;
    uint64_t sent_ns;

    switch ((QmigFrameType)head->type) {
    case QMIG_FRAME_ACK:
        return link_take_ack(link, payload, error);
    case QMIG_FRAME_PING:
        w->pong_due = true;
        pthread_cond_broadcast(&link->work);
        return take_number(payload, &w->pong, error);
    case QMIG_FRAME_PONG:
        if (!take_number(payload, &sent_ns, error)) {
            return false;
        }
        link->rtt_us = (uint64_t)qmig_now_us() -
                       MIN(sent_ns / 1000, (uint64_t)qmig_now_us());
        return true;
    case QMIG_FRAME_NOTE:
        link->peer_critical = payload != NULL && payload->len > 0 &&
                              payload->data[0] != 0;
        return true;
    case QMIG_FRAME_BYE:
        if (payload != NULL && payload->len > 0 && payload->data[0] != 0) {
            qmig_set_error(&given_up, QMIG_ERROR_CLOSED,
                           "the other side has given the session up");
            link_fail_locked(link, given_up);
        }
        if (link->state == QMIG_LINK_UP) {
            link->state = QMIG_LINK_CLOSED;
        }
        return qmig_set_error(error, QMIG_ERROR_CLOSED,
                              "the other side has said goodbye");
    case QMIG_FRAME_HELLO:
    case QMIG_FRAME_WELCOME:
    case QMIG_FRAME_RESUME:
    case QMIG_FRAME_REFUSED:
    case QMIG_FRAME_OPEN:
    case QMIG_FRAME_DATA:
    case QMIG_FRAME_BATCH:
    case QMIG_FRAME_END:
    case QMIG_FRAME_RESET:
    default:
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "frame of type %u within a session", head->type);
    }
}

/* A frame that belongs to a stream. What is wrong with it is no matter of this connection alone. */
static bool
take_sequenced(LinkWire *w, QmigCodecState *state, const QmigFrameHead *head,
               QmigBuf *payload, GError **error)
{
    QmigLink *link = w->link;
    g_autoptr(QmigBuf) owned = payload;
    g_autoptr(GError) local = NULL;

    pthread_mutex_lock(&link->lock);
    bool wanted = link_wants(link, head);
    pthread_mutex_unlock(&link->lock);
    if (!wanted) {
        return true;
    }
    bool ok = decompress(state, head, &owned, &local);
    pthread_mutex_lock(&link->lock);
    ok = ok && link_arrived(link, head, g_steal_pointer(&owned), &local);
    if (!ok) {
        link_fail_locked(link, g_error_copy(local));
    }
    pthread_mutex_unlock(&link->lock);
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return ok;
}

static void *
reader_thread(void *data)
{
    LinkWire *w = data;
    QmigCodecState *state = qmig_codec_state_new();
    g_autoptr(GError) error = NULL;
    bool ok = true;

    while (ok) {
        QmigFrameHead head;
        QmigBuf *payload = NULL;

        if (!qmig_wire_read(w->wire, SILENCE_MS, w->cancel, &head, &payload, &error)) {
            break;
        }
        if (qmig_frame_is_sequenced(head.type)) {
            ok = take_sequenced(w, state, &head, payload, &error);
        } else {
            pthread_mutex_lock(&w->link->lock);
            ok = take_control(w, &head, payload, &error);
            pthread_mutex_unlock(&w->link->lock);
            qmig_buf_unref(payload);
        }
    }
    wire_failed(w, error);
    qmig_codec_state_free(state);
    thread_left(w);
    return NULL;
}

void
qmig_link_attach(QmigLink *link, QmigWire *wire, unsigned index)
{
    pthread_mutex_lock(&link->lock);
    bool over = link->state == QMIG_LINK_FAILED || link->state == QMIG_LINK_CLOSED ||
                index >= link->config.agreed.n_wires || link->freeing;
    if (over) {
        pthread_mutex_unlock(&link->lock);
        qmig_wire_free(wire);
        return;
    }
    if (link->wires[index] != NULL) {
        drop(link->wires[index]);
    }
    LinkWire *w = g_new0(LinkWire, 1);
    *w = (LinkWire){ .link = link,
                     .wire = wire,
                     .index = index,
                     .threads = 2,
                     .cancel = qmig_cancel_new(),
                     .note_sent = -1,
                     .codec_state = qmig_codec_state_new() };
    link->wires[index] = w;
    link->n_wires++;
    link->threads += 2;
    link->chooser.threads = compressing_threads(link);
    if (link->state == QMIG_LINK_DARK) {
        link->state = QMIG_LINK_UP;
        link->dark_us += link->was_up ? (uint64_t)(qmig_now_us() - link->dark_since) : 0;
        link->was_up = true;
    }
    g_thread_unref(g_thread_new("qmig-link-read", reader_thread, w));
    g_thread_unref(g_thread_new("qmig-link-write", writer_thread, w));
    pthread_mutex_unlock(&link->lock);
    link->config.changed(link->config.data);
}

int
qmig_link_missing_wire(QmigLink *link)
{
    int missing = -1;

    pthread_mutex_lock(&link->lock);
    /* Who is about to say goodbye, or has, comes no more: nobody would know it over there. */
    for (unsigned i = 0; i < link->config.agreed.n_wires && missing < 0 && !link->bye_due;
         i++) {
        if (link->wires[i] == NULL) {
            missing = (int)i;
        }
    }
    pthread_mutex_unlock(&link->lock);
    return missing;
}

/* ---- time --------------------------------------------------------------------------------- */

void
link_totals(QmigLink *link, uint64_t *wire_bytes, uint64_t *blocked_us)
{
    *wire_bytes = link->wire_bytes_gone;
    *blocked_us = link->blocked_us_gone;
    for (unsigned i = 0; i < QMIG_LINK_WIRES_MAX; i++) {
        if (link->wires[i] != NULL) {
            *wire_bytes += qmig_wire_bytes_written(link->wires[i]->wire);
            *blocked_us += qmig_wire_blocked_us(link->wires[i]->wire);
        }
    }
}

/* How long it has been dark; the end when that is too long. With the lock held. */
static bool
judge_darkness(QmigLink *link)
{
    int64_t dark_ms = (qmig_now_us() - link->dark_since) / 1000;
    GError *error = NULL;

    if (link->state != QMIG_LINK_DARK || dark_ms < link->config.agreed.deadline_ms) {
        return false;
    }
    qmig_set_error(&error, QMIG_ERROR_TIMEOUT,
                   "the tunnel had no connection for %" PRId64
                   " s, its deadline; it has been given up",
                   dark_ms / 1000);
    link_fail_locked(link, error);
    return true;
}

/* What a clock tick compares with. */
typedef struct {
    int64_t at;
    uint64_t wire_bytes, blocked_us, acked_bytes;
    bool busy;
} Before;

static bool
is_busy(const QmigLink *link)
{
    for (unsigned i = 0; i < link->n_streams; i++) {
        const QmigLinkStream *s = link->streams[i];
        if (s != NULL && s->unacked.length > 1) {
            return true;
        }
    }
    return false;
}

/* Measure what went since @before. With the lock held. */
static void
measure(QmigLink *link, Before *before)
{
    Before now = { .at = qmig_now_us(), .acked_bytes = link->acked_bytes };
    int64_t us = now.at - before->at;

    link_totals(link, &now.wire_bytes, &now.blocked_us);
    now.busy = is_busy(link);
    /* What a broken connection had counted comes back when its threads have left. */
    if (now.wire_bytes >= before->wire_bytes && now.blocked_us >= before->blocked_us &&
        link->n_wires > 0) {
        qmig_chooser_watch(&link->chooser, now.wire_bytes - before->wire_bytes, us,
                           (double)(now.blocked_us - before->blocked_us) /
                               (double)(us * link->n_wires));
    }
    link_heed_limit(link);
    if (now.busy && before->busy) {
        double rate = (double)(now.acked_bytes - before->acked_bytes) * 1e6 / (double)us;
        link->goodput += link->goodput > 0 ? (rate - link->goodput) * 0.3 : rate;
    }
    *before = now;
}

void *
link_clock_thread(void *data)
{
    QmigLink *link = data;
    Before before = { .at = qmig_now_us() };

    pthread_mutex_lock(&link->lock);
    while (!link->freeing) {
        qmig_cond_wait_until(&link->clock_tick, &link->lock, before.at + CLOCK_MS * 1000);
        if (qmig_now_us() < before.at + CLOCK_MS * 1000) {
            continue;
        }
        bool failed = judge_darkness(link);
        measure(link, &before);
        if (failed) {
            pthread_mutex_unlock(&link->lock);
            link->config.changed(link->config.data);
            pthread_mutex_lock(&link->lock);
        }
    }
    pthread_mutex_unlock(&link->lock);
    return NULL;
}
