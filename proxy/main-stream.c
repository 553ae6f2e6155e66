/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     bytes -> decoder -> plugin chain ( -> encoder -> relay, when a plugin rewrites )
 *
 * Observing never fails: what is not understood is no reason to stop the bytes, which are on
 * their way already. Rewriting must understand: once a record was changed or left out, the
 * source's bytes no longer mean at the destination what they mean at the source.
 *
 * Payloads that the encoder references lie in the relay's buffer, which stays as it is until
 * take returns, or are copied to an arena (made by a plugin, or cut by the end of a read).
 */
#include "proxy/main-stream.h"

#include "plugin/chain.h"
#include "stream/bounds.h"
#include "stream/decoder.h"
#include "stream/encoder.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

enum {
    REPORT_MS = 200,
    SILENCE_MS = 200,       /* how often plugins are told of it */
    ARENA_SIZE = 512 << 10, /* some hundred pages for each write */
    /* More zero pages than one for so many bytes: mostly zero pages. */
    BYTES_PER_ZERO_PAGE = 64,
    ADVISE_WITH_RAM = 16, /* bytes; the empty form announces dirty bitmaps only */
};

struct QmigMainStream {
    QmigGroup *group; /* borrowed */
    QmigDecoder *decoder;
    QmigChain *chain; /* NULL: no plugins. Lives to the end: other channels ask it, too */
    bool chain_failed;    /* it gets no more events */
    uint64_t position;    /* of the event in hand, in the stream that came */
    QmigEncoder *encoder; /* NULL: observing */
    QmigRelay *output;    /* borrowed */
    uint8_t *arena;       /* owned; payloads waiting for the next write */
    size_t arena_len;     /* bytes used */
    bool raw;             /* the decoder is out of work */
    bool described;       /* the stream came to its end; what follows builds on nothing */
    bool had_page;        /* a RAM page record went by */
    uint64_t zero_pages;  /* in the bytes taken last */
    uint64_t tail_bytes;
    QmigStreamEnd end;
    char *end_reason;
    bool report_due;
    QmigDeadline report_at;
    int64_t input_us;   /* when the last bytes came; 0: none yet, or no more will */
    int64_t silence_us; /* when plugins were told of silence last */
    gint has_postcopy, has_return_path; /* atomic */
    pthread_mutex_t lock;               /* guards what follows */
    char *raw_reason;
    JsonObject *report;
};

static bool take_output(void *self, const struct qmig_event *ev, GError **error);

void
qmig_main_stream_publish(QmigMainStream *s)
{
    JsonObject *fresh = s->chain != NULL && !s->chain_failed ? qmig_chain_report(s->chain)
                                                             : NULL;

    if (fresh == NULL) {
        return;
    }
    /* json-c's reference counts are not atomic: objects change hands under the lock only. */
    pthread_mutex_lock(&s->lock);
    qmig_json_put(s->report);
    s->report = fresh;
    pthread_mutex_unlock(&s->lock);
}

/* Bytes that leave before the event in hand. What is rewritten is counted as it is written. */
static uint64_t
tell_position(void *self)
{
    QmigMainStream *s = self;
    const struct iovec *iov;
    size_t pending = 0;

    if (s->encoder == NULL) {
        return s->position;
    }
    qmig_encoder_pending(s->encoder, &iov, &pending);
    return qmig_relay_bytes_written(s->output) + pending;
}

QmigMainStream *
qmig_main_stream_new(QmigGroup *group, const char *const *plugins, GError **error)
{
    g_autoptr(QmigMainStream) s = g_new0(QmigMainStream, 1);

    s->group = group;
    pthread_mutex_init(&s->lock, NULL);
    s->report_at = 0;
    s->decoder = qmig_decoder_new();
    if (plugins != NULL && plugins[0] != NULL) {
        s->chain = qmig_chain_new(plugins, take_output, s, error);
        if (s->chain == NULL) {
            return NULL;
        }
        qmig_chain_set_position(s->chain, tell_position, s);
        if (qmig_chain_rewrites(s->chain)) {
            s->encoder = qmig_encoder_new();
            s->arena = g_malloc(ARENA_SIZE);
        }
    }
    qmig_main_stream_publish(s);
    return g_steal_pointer(&s);
}

void
qmig_main_stream_free(QmigMainStream *s)
{
    if (s == NULL) {
        return;
    }
    g_clear_pointer(&s->chain, qmig_chain_free);
    g_clear_pointer(&s->encoder, qmig_encoder_free);
    g_clear_pointer(&s->decoder, qmig_decoder_free);
    g_clear_pointer(&s->report, qmig_json_put);
    g_free(s->raw_reason);
    g_free(s->end_reason);
    g_free(s->arena);
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

bool
qmig_main_stream_rewrites(const QmigMainStream *s)
{
    return s->encoder != NULL;
}

const char *
qmig_main_stream_record(const QmigMainStream *s)
{
    return s->chain != NULL ? qmig_chain_record(s->chain) : NULL;
}

void
qmig_main_stream_set_output(QmigMainStream *s, QmigRelay *relay)
{
    s->output = relay;
}

static void
set_raw_reason(QmigMainStream *s, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    g_free(s->raw_reason);
    s->raw_reason = g_strdup(reason);
    pthread_mutex_unlock(&s->lock);
    qmig_group_notice(s->group, "main channel: forwarded without being read: %s", reason);
}

void
qmig_main_stream_go_raw(QmigMainStream *s, const char *reason)
{
    s->raw = true;
    set_raw_reason(s, reason);
}

/*
 * A zero page is 9 bytes on the wire, but 4 KiB to be looked through, and perhaps to be
 * allocated, at the destination. Buffers full of such records are seconds of its work, which
 * the source takes for done: it would switch over too early and the guest stand still for all
 * of it (1.2 s instead of 0.05 s for a 2 GiB guest that ends in zero pages).
 * @bytes: of wire since the last call
 */
static void
watch_zero_pages(QmigMainStream *s, size_t bytes)
{
    qmig_relay_hold_little(s->output, s->zero_pages > bytes / BYTES_PER_ZERO_PAGE);
    s->zero_pages = 0;
}

/* ---- rewriting ------------------------------------------------------------------------ */

static bool
flush_output(QmigMainStream *s, GError **error)
{
    const struct iovec *iov;
    size_t bytes;
    size_t n = qmig_encoder_pending(s->encoder, &iov, &bytes);

    if (n == 0) {
        return true;
    }
    watch_zero_pages(s, bytes);
    /* What could not be written never will be; and it lies in memory of others. */
    bool ok = qmig_relay_write(s->output, iov, n, error);
    qmig_encoder_clear(s->encoder);
    s->arena_len = 0;
    return ok;
}

/* Give the page's payload a place that lasts until the next flush. */
static bool
keep_page(QmigMainStream *s, struct qmig_event *ev, GError **error)
{
    struct qmig_event_page *page = &ev->u.page;

    if (qmig_relay_holds(s->output, page->data)) {
        return true;
    }
    if (page->length > ARENA_SIZE) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "page payload of %u bytes, limit %d", page->length,
                              ARENA_SIZE);
    }
    if (page->length > ARENA_SIZE - s->arena_len && !flush_output(s, error)) {
        return false;
    }
    memcpy(s->arena + s->arena_len, page->data, page->length);
    page->data = s->arena + s->arena_len;
    s->arena_len += page->length;
    return true;
}

/* Sink of the chain: one event of the rewritten stream. */
static bool
take_output(void *self, const struct qmig_event *ev, GError **error)
{
    QmigMainStream *s = self;
    struct qmig_event copy;

    if (qmig_encoder_is_full(s->encoder) && !flush_output(s, error)) {
        return false;
    }
    if (ev->kind != QMIG_EVENT_PAGE) {
        if (!qmig_encoder_put(s->encoder, ev, error)) {
            return false;
        }
        /* Rare kinds with a payload: written before the payload can move. */
        bool borrows = ev->kind == QMIG_EVENT_CONFIG ||
                       ev->kind == QMIG_EVENT_CONFIG_SUB ||
                       ev->kind == QMIG_EVENT_COMMAND || ev->kind == QMIG_EVENT_BYTES;
        return !borrows || flush_output(s, error);
    }
    copy = *ev;
    return keep_page(s, &copy, error) && qmig_encoder_put(s->encoder, &copy, error);
}

/* ---- reading -------------------------------------------------------------------------- */

/* The decoder met something it must step over blindly. */
static bool
take_raw_note(QmigMainStream *s, const char *reason, GError **error)
{
    set_raw_reason(s, reason);
    if (s->encoder != NULL && s->had_page && !s->described) {
        /* What follows may build on records (block names) that were written differently. */
        return qmig_set_error(
            error, QMIG_ERROR_UNSUPPORTED,
            "cannot go on rewriting a stream that is not understood: %s", reason);
    }
    return true;
}

static bool
learn(QmigMainStream *s, const struct qmig_event *ev, GError **error)
{
    switch (ev->kind) {
    case QMIG_EVENT_COMMAND:
        if (ev->u.command.command == QMIG_COMMAND_OPEN_RETURN_PATH) {
            g_atomic_int_set(&s->has_return_path, 1);
        } else if (ev->u.command.command == QMIG_COMMAND_POSTCOPY_ADVISE &&
                   ev->u.command.length == ADVISE_WITH_RAM) {
            g_atomic_int_set(&s->has_postcopy, 1);
        }
        return true;
    case QMIG_EVENT_BYTES:
        s->tail_bytes += ev->u.bytes.kind == QMIG_BYTES_TAIL ? ev->u.bytes.length : 0;
        return true;
    case QMIG_EVENT_DESCRIPTION:
        s->described = true;
        return true;
    case QMIG_EVENT_RAW:
        return take_raw_note(s, ev->u.raw.reason, error);
    case QMIG_EVENT_END:
        s->end = ev->u.end.complete ? QMIG_STREAM_COMPLETE
                 : s->raw_reason != NULL || s->tail_bytes > QMIG_LIMIT_TAIL
                     ? QMIG_STREAM_UNKNOWN
                     : QMIG_STREAM_INCOMPLETE;
        s->end_reason = g_strdup(ev->u.end.reason);
        return true;
    default:
        return true;
    }
}

static bool
take_event(QmigMainStream *s, const struct qmig_event *ev, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (G_LIKELY(ev->kind == QMIG_EVENT_PAGE)) {
        s->had_page = true;
        s->zero_pages += ev->u.page.kind == QMIG_PAGE_ZERO;
    } else if (!learn(s, ev, error)) {
        return false;
    }
    s->position = ev->offset;
    if (s->chain == NULL || s->chain_failed || qmig_chain_push(s->chain, ev, &local)) {
        return true;
    }
    if (s->encoder != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    qmig_group_notice(s->group, "plugins stopped: %s", local->message);
    qmig_main_stream_publish(s);
    s->chain_failed = true;
    return true;
}

/* Events until the decoder wants more bytes or has ended. */
static bool
pump(QmigMainStream *s, GError **error)
{
    g_autoptr(GError) local = NULL;
    struct qmig_event ev;

    for (;;) {
        switch (qmig_decoder_next(s->decoder, &ev, &local)) {
        case QMIG_DECODE_EVENT:
            if (!take_event(s, &ev, error)) {
                return false;
            }
            break;
        case QMIG_DECODE_NEED_MORE:
        case QMIG_DECODE_END:
            return s->encoder == NULL || flush_output(s, error);
        case QMIG_DECODE_FAILED:
            if (s->encoder != NULL) {
                g_propagate_error(error, g_steal_pointer(&local));
                return false;
            }
            qmig_main_stream_go_raw(s, local->message);
            return true;
        }
    }
}

bool
qmig_main_stream_take(QmigMainStream *s, const uint8_t *data, size_t len, GError **error)
{
    if (s->raw) {
        return true;
    }
    s->report_due = s->chain != NULL && !s->chain_failed;
    s->input_us = s->silence_us = qmig_now_us();
    qmig_decoder_push(s->decoder, data, len);
    if (!pump(s, error)) {
        return false;
    }
    if (s->encoder == NULL) {
        watch_zero_pages(s, len);
    }
    return true;
}

/* Return: when to look again. */
static QmigDeadline
mind_silence(QmigMainStream *s)
{
    g_autoptr(GError) error = NULL;
    int64_t now = qmig_now_us();

    if (s->encoder == NULL || s->input_us == 0 || !qmig_chain_minds_silence(s->chain)) {
        return QMIG_DEADLINE_NEVER;
    }
    if (now - s->silence_us >= SILENCE_MS * 1000) {
        s->silence_us = now;
        if (!qmig_chain_idle(s->chain, (uint64_t)(now - s->input_us) * 1000, &error) ||
            !flush_output(s, &error)) {
            s->input_us = 0;
            g_prefix_error(&error, "source: main channel: ");
            qmig_group_fail(s->group, g_steal_pointer(&error));
            return QMIG_DEADLINE_NEVER;
        }
    }
    return s->silence_us + SILENCE_MS * 1000;
}

static QmigDeadline
report_tick(QmigMainStream *s)
{
    if (!s->report_due) {
        return QMIG_DEADLINE_NEVER;
    }
    if (qmig_now_us() < s->report_at) {
        return s->report_at;
    }
    qmig_main_stream_publish(s);
    s->report_due = false;
    s->report_at = qmig_deadline_in_ms(REPORT_MS);
    return QMIG_DEADLINE_NEVER;
}

QmigDeadline
qmig_main_stream_tick(QmigMainStream *s)
{
    QmigDeadline silence_at = mind_silence(s);

    return MIN(silence_at, report_tick(s));
}

static bool
finish_chain(QmigMainStream *s, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (s->encoder != NULL) {
        return qmig_chain_finish(s->chain, error) && flush_output(s, error);
    }
    if (!qmig_chain_finish(s->chain, &local)) {
        qmig_group_notice(s->group, "plugins: %s", local->message);
    }
    return true;
}

bool
qmig_main_stream_finish(QmigMainStream *s, const QmigStreamFate *fate, QmigStreamEnd *end,
                        char **reason, GError **error)
{
    g_autoptr(GError) lost = NULL;
    bool ok = true;

    s->input_us = 0;
    s->end = QMIG_STREAM_UNKNOWN;
    if (!s->raw) {
        qmig_decoder_eof(s->decoder);
        ok = pump(s, &lost);
    }
    if (s->chain != NULL) {
        bool failed = !ok || !fate->only_if_incomplete ||
                      s->end == QMIG_STREAM_INCOMPLETE;
        qmig_chain_set_outcome(s->chain, failed ? fate->failure : NULL, fate->last_pong);
    }
    /* Also when nobody takes what is left: plugins may have something to say of that. */
    if (s->chain != NULL && !s->chain_failed && !finish_chain(s, error)) {
        ok = false;
    } else if (!ok) {
        g_propagate_error(error, g_steal_pointer(&lost));
    }
    qmig_main_stream_publish(s);
    s->report_due = false;
    *end = s->end;
    *reason = g_strdup(s->end_reason != NULL   ? s->end_reason
                       : s->raw_reason != NULL ? s->raw_reason
                                               : "not read to the end");
    return ok;
}

void
qmig_main_stream_give_up(QmigMainStream *s, const char *why, int64_t last_pong)
{
    if (s->chain != NULL) {
        qmig_chain_set_outcome(s->chain, why, last_pong);
        qmig_main_stream_publish(s);
    }
}

/* ---- for others ----------------------------------------------------------------------- */

bool
qmig_main_stream_looks_first(const QmigMainStream *s)
{
    return s->chain != NULL && qmig_chain_looks_first(s->chain);
}

QmigPacer *
qmig_main_stream_pacer(QmigMainStream *s, uint32_t channel, uint32_t id)
{
    return s->chain != NULL ? qmig_pacer_new(s->chain, channel, id) : NULL;
}

bool
qmig_main_stream_set(QmigMainStream *s, const char *name, const char *value, bool try,
                     GError **error)
{
    return s->chain != NULL
               ? qmig_chain_set(s->chain, name, value, try, error)
               : qmig_set_error(error, QMIG_ERROR_CONFIG,
                                "%s: there is no plugin here; they take part "
                                "from the beginning, by --plugin",
                                name);
}

bool
qmig_main_stream_has_postcopy(const QmigMainStream *s)
{
    return g_atomic_int_get(&s->has_postcopy) != 0;
}

bool
qmig_main_stream_has_return_path(const QmigMainStream *s)
{
    return g_atomic_int_get(&s->has_return_path) != 0;
}

void
qmig_main_stream_describe(QmigMainStream *s, JsonObject *channel)
{
    pthread_mutex_lock(&s->lock);
    const char *mode = s->raw_reason != NULL ? "raw"
                       : s->encoder != NULL  ? "rewrite"
                                             : "observe";
    json_object_object_add(channel, "mode", json_object_new_string(mode));
    if (s->raw_reason != NULL) {
        json_object_object_add(channel, "raw_reason",
                               json_object_new_string(s->raw_reason));
    }
    pthread_mutex_unlock(&s->lock);
}

JsonObject *
qmig_main_stream_report(QmigMainStream *s)
{
    JsonObject *copy = NULL;

    pthread_mutex_lock(&s->lock);
    if (s->report != NULL) {
        (void)!json_object_deep_copy(s->report, &copy, NULL);
    }
    pthread_mutex_unlock(&s->lock);
    return copy != NULL ? copy : json_object_new_object();
}
