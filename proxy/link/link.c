/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams of a session: what users write and read. Connections: link-wires.c.
 *
 * Invariants, with the lock held: a frame is in its stream's unacked list from write until its
 * acknowledgement; it is in exactly one of: a queue, a writer's hands, a connection that stands.
 */
#include "proxy/link/link-priv.h"

#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <inttypes.h>

/* ---- frames ------------------------------------------------------------------------------- */

static uint64_t
cost_of(uint32_t len)
{
    return (uint64_t)len + FRAME_COST;
}

void
frame_unref(Frame *f)
{
    if (--f->refs == 0) {
        qmig_buf_unref(f->buf);
        g_free(f);
    }
}

static void
arrived_free(void *data)
{
    Arrived *a = data;

    qmig_buf_unref(a->buf);
    g_free(a);
}

enum {
    /* Of a stream that holds little: bytes that may always be under way, as its frames are long;
       microseconds beyond the round trip. */
    LEAN_MIN = 384 << 10,
    LEAN_FRAME = 68 << 10,
    LEAN_US = 20000,
    /* Of large frames so many bytes are acknowledged by one frame, or what came within so long.
       Those of post-copy are smaller. */
    ACK_BYTES = 512 << 10,
    ACK_FRAME = 128 << 10,
    ACK_US = 2000,
    /* Of other streams of a migration. */
    SPARE_MIN = 2 << 20,
    SPARE_US = 50000,
};

/* Of one session, bytes: what a peer can make us hold, whatever it opens. */
static const uint64_t held_max = UINT64_C(1) << 30;

/* ---- streams ------------------------------------------------------------------------------ */

static QmigLinkStream *
new_stream(QmigLink *link, uint16_t id)
{
    QmigLinkStream *s = g_new0(QmigLinkStream, 1);

    s->link = link;
    s->id = id;
    g_queue_init(&s->unacked);
    g_queue_init(&s->ready);
    s->early = g_sequence_new(arrived_free);
    qmig_cond_init(&s->arrived);
    link->streams[id - 1] = s;
    link->n_streams = MAX(link->n_streams, id);
    return s;
}

void
link_stream_destroy(QmigLinkStream *s)
{
    for (GList *l = s->unacked.head; l != NULL; l = l->next) {
        frame_unref(l->data);
    }
    g_queue_clear(&s->unacked);
    g_queue_clear_full(&s->ready, arrived_free);
    g_sequence_free(s->early);
    link_history_free(s);
    pthread_cond_destroy(&s->arrived);
    g_free(s);
}

bool
link_is_over(const QmigLink *link)
{
    return link->state == QMIG_LINK_FAILED || link->state == QMIG_LINK_CLOSED;
}

static bool
set_over(const QmigLink *link, GError **error)
{
    if (link->error != NULL) {
        g_propagate_error(error, g_error_copy(link->error));
        return false;
    }
    return qmig_set_error(error, QMIG_ERROR_CLOSED, "the tunnel's session has ended");
}

void
link_wake_all(QmigLink *link)
{
    pthread_cond_broadcast(&link->work);
    pthread_cond_broadcast(&link->room);
    pthread_cond_broadcast(&link->opened);
    pthread_cond_broadcast(&link->clock_tick);
    for (unsigned i = 0; i < link->n_streams; i++) {
        if (link->streams[i] != NULL) {
            pthread_cond_broadcast(&link->streams[i]->arrived);
        }
    }
}

void
link_fail_locked(QmigLink *link, GError *error)
{
    if (link_is_over(link)) {
        g_error_free(error);
        return;
    }
    link->state = QMIG_LINK_FAILED;
    link->error = error;
    link_drop_wires(link);
    link_wake_all(link);
}

/* ---- writing ------------------------------------------------------------------------------ */

/* @coded: (nullable) what goes out for @buf */
static void
enqueue(QmigLinkStream *s, uint8_t type, QmigBuf *buf, QmigBuf *coded)
{
    QmigLink *link = s->link;
    Frame *f = g_new0(Frame, 1);

    f->refs = 1;
    f->stream = s;
    f->type = type;
    f->seq = s->send_seq++;
    f->buf = buf;
    f->plain_len = buf != NULL ? buf->len : 0;
    if (coded != NULL) {
        qmig_buf_unref(buf);
        f->buf = coded;
        f->codec = QMIG_FRAME_ZSTD_HISTORY;
        f->tried = true;
    }
    g_queue_push_tail(&s->unacked, f);
    s->in_flight += cost_of(f->plain_len);
    s->bytes_out += f->plain_len;
    link->plain_bytes += f->plain_len;
    link->queued += f->plain_len;
    g_queue_push_tail(&link->queues[s->open.urgent ? 0 : 1], f);
    pthread_cond_signal(&link->work);
}

/* Bytes of @s that may be under way. */
static uint64_t
window_of(const QmigLinkStream *s)
{
    const QmigLink *link = s->link;

    double spare = s->lean ? LEAN_US : SPARE_US, least = s->lean ? LEAN_MIN : SPARE_MIN;

    if (s->open.kind != QMIG_STREAM_MIGRATION) {
        return link->config.agreed.window;
    }
    /* What the link carries in a round trip, and some to spare: more would only be time that
       passes before QEMU knows how fast the link is. */
    double busy = link->goodput * ((double)link->rtt_us + spare) / 1e6;
    return MIN((uint64_t)MAX(busy, least), link->config.agreed.window);
}

/* May another frame of @s join the queue? */
static bool
has_room(const QmigLinkStream *s, uint32_t len)
{
    const QmigLink *link = s->link;
    guint max = QUEUE_PER_WIRE * MAX(link->config.agreed.n_wires, 1);

    return (s->open.urgent || link->queues[1].length < max) &&
           (s->in_flight == 0 || s->in_flight + cost_of(len) <= window_of(s));
}

/* With the lock held. Return: false with @error set when there will be no room any more. */
static bool
wait_room(QmigLinkStream *s, uint32_t len, GError **error)
{
    QmigLink *link = s->link;

    while (!link_is_over(link) && !s->interrupted && !has_room(s, len)) {
        pthread_cond_wait(&link->room, &link->lock);
    }
    if (link_is_over(link)) {
        return set_over(link, error);
    }
    return !s->interrupted ||
           qmig_set_error(error, QMIG_ERROR_CANCELLED, "the stream has been left");
}

uint64_t
qmig_link_stream_rate(QmigLinkStream *s)
{
    pthread_mutex_lock(&s->link->lock);
    uint64_t rate = (uint64_t)s->link->chooser.rate;
    pthread_mutex_unlock(&s->link->lock);
    return rate;
}

bool
qmig_link_stream_wait_room(QmigLinkStream *s, GError **error)
{
    pthread_mutex_lock(&s->link->lock);
    bool ok = wait_room(s, s->lean ? LEAN_FRAME : QMIG_FRAME_PAYLOAD_MAX, error);
    pthread_mutex_unlock(&s->link->lock);
    return ok;
}

bool
qmig_link_stream_write(QmigLinkStream *s, QmigFrameType type, QmigBuf *buf,
                       GError **error)
{
    QmigLink *link = s->link;
    g_autoptr(QmigBuf) owned = buf, coded = NULL;
    bool waits = type == QMIG_FRAME_DATA || type == QMIG_FRAME_BATCH;

    pthread_mutex_lock(&link->lock);
    bool ok = waits                ? wait_room(s, buf != NULL ? buf->len : 0, error)
              : link_is_over(link) ? set_over(link, error)
                                   : true;
    if (ok && !s->end_sent && !s->reset_sent && link_history_serves(s, type, owned)) {
        pthread_mutex_unlock(&link->lock);
        coded = link_history_code(s, owned);
        pthread_mutex_lock(&link->lock);
    }
    if (ok && !s->reset_sent && (!s->end_sent || type == QMIG_FRAME_RESET)) {
        s->end_sent = !waits;
        s->reset_sent = type == QMIG_FRAME_RESET;
        enqueue(s, (uint8_t)type, g_steal_pointer(&owned), g_steal_pointer(&coded));
    }
    pthread_mutex_unlock(&link->lock);
    return ok;
}

void
qmig_link_stream_reset(QmigLinkStream *s, const char *reason)
{
    size_t len = MIN(strlen(reason), (size_t)QMIG_LINK_REASON_MAX);
    QmigBuf *buf = qmig_buf_new((uint32_t)len);

    memcpy(buf->data, reason, len);
    buf->len = (uint32_t)len;
    /* A session that has ended has broken its streams already. */
    (void)!qmig_link_stream_write(s, QMIG_FRAME_RESET, buf, NULL);
}

static QmigBuf *
write_open(const QmigLinkOpen *open)
{
    QmigBuf *buf = qmig_buf_new(512);
    QmigWriter w = qmig_writer(buf->data, buf->size);
    bool ok = qmig_writer_u8(&w, (uint8_t)open->kind) &&
              qmig_writer_u8(&w, open->urgent) && qmig_writer_be16(&w, open->group) &&
              qmig_writer_be16(&w, open->index) &&
              qmig_writer_cstr(&w, open->address, strlen(open->address));

    g_assert(ok);
    buf->len = (uint32_t)w.len;
    return buf;
}

static bool
read_open(const QmigBuf *buf, QmigLinkOpen *open, GError **error)
{
    QmigCursor c = qmig_cursor(buf != NULL ? buf->data : NULL,
                               buf != NULL ? buf->len : 0);
    uint8_t kind, urgent, len;

    if (!(qmig_cursor_u8(&c, &kind) && qmig_cursor_u8(&c, &urgent) &&
          qmig_cursor_be16(&c, &open->group) && qmig_cursor_be16(&c, &open->index) &&
          qmig_cursor_cstr(&c, open->address, &len)) ||
        kind < QMIG_STREAM_MIGRATION || kind > QMIG_STREAM_CONTROL ||
        strlen(open->address) != len) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "OPEN of %zu bytes is malformed", (size_t)(c.end - c.p));
    }
    open->kind = (QmigStreamKind)kind;
    open->urgent = urgent != 0;
    return true;
}

QmigLinkStream *
qmig_link_open(QmigLink *link, const QmigLinkOpen *open, GError **error)
{
    QmigLinkStream *s = NULL;

    pthread_mutex_lock(&link->lock);
    if (link_is_over(link)) {
        set_over(link, error);
    } else if (link->n_streams == STREAMS_MAX) {
        qmig_set_error(error, QMIG_ERROR_LIMIT,
                       "this session has carried %d connections, the limit", STREAMS_MAX);
    } else {
        s = new_stream(link, (uint16_t)(link->n_streams + 1));
        s->open = *open;
        s->announced = true;
        enqueue(s, QMIG_FRAME_OPEN, write_open(open), NULL);
    }
    pthread_mutex_unlock(&link->lock);
    return s;
}

/* ---- acknowledgements --------------------------------------------------------------------- */

static void
ack_stream(QmigLinkStream *s, uint64_t next)
{
    Frame *f;

    while ((f = g_queue_peek_head(&s->unacked)) != NULL && f->seq < next) {
        g_queue_pop_head(&s->unacked);
        s->in_flight -= cost_of(f->plain_len);
        s->link->acked_bytes += f->plain_len;
        f->acked = true;
        if (f->wire == NULL && !f->in_hand &&
            g_queue_remove(&s->link->queues[s->open.urgent ? 0 : 1], f)) {
            /* To be repeated, but it had arrived. */
            s->link->queued -= f->plain_len;
        }
        frame_unref(f);
    }
}

bool
link_take_ack(QmigLink *link, const QmigBuf *payload, GError **error)
{
    QmigCursor c = qmig_cursor(payload != NULL ? payload->data : NULL,
                               payload != NULL ? payload->len : 0);
    uint16_t id;
    uint64_t next;

    while (qmig_cursor_be16(&c, &id) && qmig_cursor_be64(&c, &next)) {
        QmigLinkStream *s = id > 0 && id <= link->n_streams ? link->streams[id - 1]
                                                            : NULL;
        if (s == NULL || next > s->send_seq) {
            return qmig_set_error(
                error, QMIG_ERROR_PROTOCOL,
                "ACK of stream %u up to %" PRIu64 ", which was never sent", id, next);
        }
        ack_stream(s, next);
    }
    pthread_cond_broadcast(&link->room);
    return true;
}

/* The writer of a connection does it. */
static void
acknowledge(QmigLinkStream *s)
{
    s->unacked_in = 0;
    s->ack_due = true;
    pthread_cond_signal(&s->link->work);
}

static void
note_consumed(QmigLinkStream *s, uint64_t next, uint64_t cost)
{
    s->consumed_seq = next;
    s->held -= cost;
    s->link->held -= cost;
    s->unacked_in += cost;
    /* Each acknowledgement wakes two threads there and one here. Without a reader nobody comes back
       for what was put off. */
    if (cost < ACK_FRAME || s->unacked_in >= ACK_BYTES || s->freed) {
        acknowledge(s);
    }
}

/* ---- reading ------------------------------------------------------------------------------ */

static int
by_seq(const void *a, const void *b, void *unused)
{
    uint64_t x = ((const Arrived *)a)->seq, y = ((const Arrived *)b)->seq;

    (void)unused;
    return x < y ? -1 : x > y;
}

bool
link_wants(QmigLink *link, const QmigFrameHead *head)
{
    QmigLinkStream *s = head->stream <= STREAMS_MAX ? link->streams[head->stream - 1]
                                                    : NULL;

    if (s == NULL) {
        return true;
    }
    Arrived like = { .seq = head->seq };
    bool known = head->seq < s->deliver_seq ||
                 g_sequence_lookup(s->early, &like, by_seq, NULL) != NULL;
    if (known) {
        /* Our acknowledgement may have been lost. */
        s->ack_due = true;
        pthread_cond_signal(&link->work);
    }
    return !known;
}

/* The next one in order: for the stream's reader. */
static bool
deliver(QmigLinkStream *s, Arrived *a, GError **error)
{
    QmigLink *link = s->link;
    uint32_t len = a->plain_len;

    s->deliver_seq = a->seq + 1;
    if (a->type == QMIG_FRAME_OPEN) {
        bool ok = !link->config.near && !s->announced && a->seq == 0
                      ? read_open(a->buf, &s->open, error)
                      : qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                       "OPEN of a stream that is open");
        arrived_free(a);
        if (ok) {
            s->announced = true;
            note_consumed(s, s->deliver_seq, cost_of(len));
            g_queue_push_tail(&link->accepted, s);
            pthread_cond_signal(&link->opened);
        }
        return ok;
    }
    if (!s->announced) {
        arrived_free(a);
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "stream %u does not begin with OPEN", s->id);
    }
    s->bytes_in += len;
    if (s->freed) {
        note_consumed(s, s->deliver_seq, cost_of(len));
        arrived_free(a);
        return true;
    }
    g_queue_push_tail(&s->ready, a);
    pthread_cond_signal(&s->arrived);
    return true;
}

/* The one that comes next, if it came before its time. */
static Arrived *
take_early(QmigLinkStream *s)
{
    GSequenceIter *first = g_sequence_get_begin_iter(s->early);
    Arrived *a, *copy;

    if (g_sequence_iter_is_end(first)) {
        return NULL;
    }
    a = g_sequence_get(first);
    if (a->seq != s->deliver_seq) {
        return NULL;
    }
    copy = g_memdup2(a, sizeof *a);
    a->buf = NULL;
    g_sequence_remove(first);
    return copy;
}

bool
link_arrived(QmigLink *link, const QmigFrameHead *head, QmigBuf *buf, GError **error)
{
    g_autoptr(QmigBuf) owned = buf;
    QmigLinkStream *s = head->stream <= STREAMS_MAX ? link->streams[head->stream - 1]
                                                    : NULL;
    Arrived *a;

    if (s == NULL) {
        if (link->config.near || head->stream > STREAMS_MAX) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  "a frame of stream %u, which was never opened",
                                  head->stream);
        }
        s = new_stream(link, head->stream);
    }
    if (!link_wants(link, head)) {
        return true;
    }
    if (s->held + cost_of(head->plain_length) >
        (uint64_t)link->config.agreed.window + cost_of(QMIG_FRAME_PAYLOAD_MAX)) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "stream %u: more than the agreed %u bytes on their way",
                              s->id, link->config.agreed.window);
    }
    if (link->held > held_max) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "all streams together: more than %" PRIu64
                              " bytes that nobody has read",
                              held_max);
    }
    a = g_new0(Arrived, 1);
    *a = (Arrived){ .type = head->type,
                    .seq = head->seq,
                    .codec = head->codec,
                    .plain_len = head->plain_length,
                    .buf = g_steal_pointer(&owned) };
    s->held += cost_of(head->plain_length);
    link->held += cost_of(head->plain_length);
    if (head->seq != s->deliver_seq) {
        g_sequence_insert_sorted(s->early, a, by_seq, NULL);
        return true;
    }
    while (a != NULL) {
        if (!deliver(s, a, error)) {
            return false;
        }
        a = take_early(s);
    }
    return true;
}

static void
consume(QmigLinkStream *s)
{
    if (s->reading > 0) {
        note_consumed(s, s->consumed_seq + 1, s->reading);
        s->reading = 0;
    }
}

void
qmig_link_stream_consumed(QmigLinkStream *s)
{
    pthread_mutex_lock(&s->link->lock);
    consume(s);
    pthread_mutex_unlock(&s->link->lock);
}

/* With the lock held, which is given back meanwhile. */
static bool
undo_history(QmigLinkStream *s, Arrived *a, GError **error)
{
    g_autoptr(GError) local = NULL;

    pthread_mutex_unlock(&s->link->lock);
    QmigBuf *plain = link_history_decode(s, a, &local);
    pthread_mutex_lock(&s->link->lock);
    qmig_buf_unref(a->buf);
    a->buf = plain;
    if (plain == NULL) {
        link_fail_locked(s->link, g_error_copy(local));
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return plain != NULL;
}

/* Wait for a frame; what was consumed before is acknowledged when none comes soon. */
static void
wait_arrival(QmigLinkStream *s)
{
    QmigDeadline until = s->unacked_in > 0 ? qmig_now_us() + ACK_US : QMIG_DEADLINE_NEVER;

    qmig_cond_wait_until(&s->arrived, &s->link->lock, until);
    if (s->unacked_in > 0 && qmig_now_us() >= until) {
        acknowledge(s);
    }
}

bool
qmig_link_stream_read(QmigLinkStream *s, QmigFrameType *type, QmigBuf **buf,
                      GError **error)
{
    QmigLink *link = s->link;
    Arrived *a = NULL;
    bool ok = true;

    *buf = NULL;
    pthread_mutex_lock(&link->lock);
    consume(s);
    /* What came before the session failed is not given out any more: nobody may act upon a
       stream whose end will not come. */
    while (!link_is_over(link) && !s->interrupted &&
           (a = g_queue_pop_head(&s->ready)) == NULL) {
        wait_arrival(s);
    }
    if (a != NULL) {
        ok = a->codec != QMIG_FRAME_ZSTD_HISTORY || undo_history(s, a, error);
        *type = (QmigFrameType)a->type;
        *buf = g_steal_pointer(&a->buf);
        s->reading = cost_of(a->plain_len);
        if (*type == QMIG_FRAME_END || *type == QMIG_FRAME_RESET) {
            consume(s);
        }
        arrived_free(a);
    } else if (link_is_over(link)) {
        ok = set_over(link, error);
    } else {
        ok = qmig_set_error(error, QMIG_ERROR_CANCELLED, "the stream has been left");
    }
    pthread_mutex_unlock(&link->lock);
    return ok;
}

bool
qmig_link_stream_wait(QmigLinkStream *s, GError **error)
{
    QmigLink *link = s->link;
    bool ok = true;

    pthread_mutex_lock(&link->lock);
    while (!link_is_over(link) && !s->interrupted && g_queue_is_empty(&s->ready)) {
        pthread_cond_wait(&s->arrived, &link->lock);
    }
    const Arrived *first = g_queue_peek_head(&s->ready);
    if (link_is_over(link)) {
        ok = set_over(link, error);
    } else if (first == NULL) {
        ok = qmig_set_error(error, QMIG_ERROR_CANCELLED, "the stream has been left");
    } else if (first->type == QMIG_FRAME_END || first->type == QMIG_FRAME_RESET) {
        ok = qmig_set_error(error, QMIG_ERROR_CLOSED, "it ended before its first byte");
    }
    pthread_mutex_unlock(&link->lock);
    return ok;
}

QmigLinkStream *
qmig_link_accept(QmigLink *link, const QmigCancel *cancel, GError **error)
{
    QmigLinkStream *s = NULL;

    pthread_mutex_lock(&link->lock);
    while (!link_is_over(link) && !qmig_cancel_is_raised(cancel) &&
           (s = g_queue_pop_head(&link->accepted)) == NULL) {
        qmig_cond_wait_until(&link->opened, &link->lock, qmig_now_us() + 200 * 1000);
    }
    if (s == NULL && link_is_over(link)) {
        set_over(link, error);
    } else if (s == NULL) {
        qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
    }
    pthread_mutex_unlock(&link->lock);
    return s;
}

const QmigLinkOpen *
qmig_link_stream_open(const QmigLinkStream *s)
{
    return &s->open;
}

void
qmig_link_stream_interrupt(QmigLinkStream *s)
{
    pthread_mutex_lock(&s->link->lock);
    s->interrupted = true;
    pthread_cond_broadcast(&s->arrived);
    pthread_cond_broadcast(&s->link->room);
    pthread_mutex_unlock(&s->link->lock);
}

void
qmig_link_stream_free(QmigLinkStream *s)
{
    Arrived *a;

    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->link->lock);
    s->freed = true;
    consume(s);
    if (s->unacked_in > 0) {
        acknowledge(s);
    }
    while ((a = g_queue_pop_head(&s->ready)) != NULL) {
        note_consumed(s, a->seq + 1, cost_of(a->plain_len));
        arrived_free(a);
    }
    link_history_free(s);
    pthread_mutex_unlock(&s->link->lock);
}
