/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two relays, and what the end of each means.
 *
 *     source leg ---- forward relay ----> destination leg
 *            <------- reverse relay -----
 *
 * The reverse relay reads the destination's leg all the time, so it notices first when the
 * destination is gone, also while the source is silent; it then raises `gone`, which ends the
 * forward relay's wait. Only after that is judged whether the end is orderly: SHUT may have
 * been among the last reverse bytes.
 *
 * The last of the two threads closes both legs, whatever the session thread is doing.
 */
#include "proxy/connection.h"

#include "proxy/relay.h"
#include "util/error.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
    /* Measured over unix sockets and loopback TCP, 64 KiB to 1 MiB: on unix as fast as 256 KiB
       or somewhat faster (3.5 GB/s against 2.9), on TCP a third less CPU time. More would show
       in QEMU's estimate of the downtime: at 100 Mbit/s, 1 MiB are 84 ms. */
    FORWARD_BUFFER = 1 << 20,
    REVERSE_BUFFER = 64 << 10, /* return-path messages, now and then a bitmap */
    /* After the destination went away in a stream nobody can read: time for the source to
       take the last reverse bytes (they may say that all is well) and to close. */
    LINGER_MS = 500,
    /* A write failed: the reverse relay is about to see the end, too. */
    GONE_MS = 1000,
    /* For the farewell of TLS behind what is still on the way. */
    FAREWELL_MS = 10000,
};

struct QmigConnection {
    QmigConnectionConfig config;
    char *name;
    QmigRelay *forward, *reverse;
    QmigReturnStream return_stream; /* MAIN */
    QmigCancel *gone;               /* raised: the reverse relay has seen the end */
    GError *reverse_error;          /* how it ended; good once gone is raised */
    GThread *threads[2];
    gint running;       /* atomic: threads */
    gint is_open;       /* atomic: the destination's leg is there */
    gint has_started;   /* atomic */
    gint has_ended;     /* atomic */
    bool told_postcopy; /* forward thread's */
};

static const char *const kinds[] = {
    [QMIG_CHANNEL_MAIN] = "main",
    [QMIG_CHANNEL_MULTIFD] = "multifd",
    [QMIG_CHANNEL_PREEMPT] = "preempt",
    [QMIG_CHANNEL_TLS] = "tls",
};

static const uint32_t pieces[] = {
    [QMIG_CHANNEL_MAIN] = QMIG_PIECE_MAIN,
    [QMIG_CHANNEL_MULTIFD] = QMIG_PIECE_MULTIFD,
    [QMIG_CHANNEL_PREEMPT] = QMIG_PIECE_PREEMPT,
    [QMIG_CHANNEL_TLS] = QMIG_PIECE_OTHER,
};

char *
qmig_channel_name(QmigChannelKind kind, unsigned id)
{
    switch (kind) {
    case QMIG_CHANNEL_MAIN:
        return g_strdup("main");
    case QMIG_CHANNEL_MULTIFD:
        return g_strdup_printf("multifd %u", id);
    case QMIG_CHANNEL_PREEMPT:
        return g_strdup("preempt");
    case QMIG_CHANNEL_TLS:
        return g_strdup_printf("tls %u", id);
    }
    g_assert_not_reached();
}

static bool
is_main(const QmigConnection *c)
{
    return c->config.kind == QMIG_CHANNEL_MAIN;
}

/* End the session; or, for a channel beside main, leave the verdict to main's end. */
static void fail(QmigConnection *c, QmigErrorCode code, const char *side, const char *fmt,
                 ...) G_GNUC_PRINTF(4, 5);

static void
fail(QmigConnection *c, QmigErrorCode code, const char *side, const char *fmt, ...)
{
    GError *error = NULL;
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qmig_set_error(&error, code, "%s: %s channel: %s", side, c->name, text);
    if (is_main(c)) {
        qmig_group_fail(c->config.group, error);
    } else if (qmig_group_is_shut(c->config.group)) {
        g_error_free(error);
    } else {
        qmig_group_suspect(c->config.group, error);
    }
}

static bool
is_cancelled(const QmigConnection *c)
{
    return qmig_cancel_is_raised(c->config.group->cancel);
}

static bool
has_return_path(const QmigConnection *c)
{
    return qmig_main_stream_has_return_path(c->config.stream) &&
           g_atomic_int_get(&c->return_stream.is_read);
}

/* What people may count on now. */
static const char *
advice(const QmigConnection *c)
{
    if (qmig_main_stream_has_postcopy(c->config.stream)) {
        return ""; /* the guest may have begun to move over */
    }
    if (has_return_path(c)) {
        return "; the source will report a failed migration and its guest keeps running";
    }
    /* A source without return path has done its part when its last bytes are in a buffer. */
    return "; the source's guest is intact: if the source reports success all the same (it has "
           "no return path), continue it there once the destination is known to be gone";
}

/* Give the source time to take what the destination said last, and to close. */
static bool
linger(QmigConnection *c)
{
    return qmig_wait_fd(c->config.source, POLLRDHUP, qmig_deadline_in_ms(LINGER_MS),
                        c->config.group->cancel, NULL);
}

/*
 * Nothing more will be written to @fd. TLS has a farewell, which tells an end from a cut. It is
 * said where @in's end was one: QEMU 10.0 wants it on multifd channels, older ones never say it.
 */
static void
end_writing(QmigConnection *c, int fd, QmigTls *out, bool farewell)
{
    if (out != NULL && farewell) {
        qmig_tls_close(out, qmig_deadline_in_ms(FAREWELL_MS), c->config.group->cancel);
    }
    (void)shutdown(fd, SHUT_WR);
}

static bool
was_farewell(QmigTls *in)
{
    return in == NULL || qmig_tls_was_closed(in);
}

/* ---- main, forward -------------------------------------------------------------------- */

static void
main_source_ended(QmigConnection *c, QmigStreamEnd end, const char *reason)
{
    uint64_t n = qmig_relay_bytes_read(c->forward);

    if (qmig_group_is_shut(c->config.group)) {
        /* In order. */
    } else if (qmig_return_stream_shut(&c->return_stream) > 0) {
        fail(c, QMIG_ERROR_CLOSED, "destination",
             "it could not load the guest (SHUT %" PRId64 ")%s",
             qmig_return_stream_shut(&c->return_stream), advice(c));
    } else if (end == QMIG_STREAM_INCOMPLETE) {
        fail(c, QMIG_ERROR_CLOSED, "source", "closed after %" PRIu64 " bytes: %s", n,
             reason);
    } else if (has_return_path(c)) {
        fail(c, QMIG_ERROR_CLOSED, "source",
             "closed after %" PRIu64 " bytes, before the destination confirmed (SHUT)",
             n);
    } else if (end == QMIG_STREAM_UNKNOWN) {
        qmig_group_notice(c->config.group,
                          "main channel: ended after %" PRIu64
                          " bytes; whether they were complete is not known: %s",
                          n, reason);
    }
    end_writing(c, c->config.destination, c->config.destination_tls,
                end == QMIG_STREAM_COMPLETE || was_farewell(c->config.source_tls));
}

static void
main_destination_gone(QmigConnection *c, QmigStreamEnd end, const char *reason,
                      const GError *error)
{
    bool confirmed = qmig_group_is_shut(c->config.group);
    bool refused = qmig_return_stream_shut(&c->return_stream) > 0;
    /* A sink has seen all that was read, and may not have taken it. */
    bool took_all = c->config.sink.put == NULL || qmig_relay_backlog(c->forward) == 0;
    bool may_be_done = !confirmed && !refused && !has_return_path(c) && took_all;

    if (confirmed || (may_be_done && end == QMIG_STREAM_COMPLETE)) {
        /* The destination has all it wants. Late bytes have no reader; what counts is that
           the source gets to read SHUT before its socket can be reset. */
        (void)qmig_relay_drain(c->forward, false, NULL);
        return;
    }
    if (may_be_done && end == QMIG_STREAM_UNKNOWN && linger(c)) {
        qmig_group_notice(c->config.group,
                          "main channel: both sides closed; whether the "
                          "stream was complete is not known: %s",
                          reason);
        return;
    }
    if (refused) {
        fail(c, QMIG_ERROR_CLOSED, "destination",
             "it could not load the guest (SHUT %" PRId64 ")%s",
             qmig_return_stream_shut(&c->return_stream), advice(c));
        return;
    }
    if (qmig_cancel_is_raised(c->gone)) {
        error = c->reverse_error;
    }
    if (end == QMIG_STREAM_COMPLETE) {
        reason = "all was sent, but not confirmed (SHUT)";
    }
    fail(c, QMIG_ERROR_CLOSED, "destination", "%s after %" PRIu64 " bytes: %s%s",
         error != NULL ? error->message : "closed", qmig_relay_bytes_written(c->forward),
         reason, advice(c));
}

/* What is known before the stream's last events are read. */
static void
learn_fate(QmigConnection *c, bool destination_gone, QmigStreamFate *fate)
{
    int64_t shut = qmig_return_stream_shut(&c->return_stream);

    fate->last_pong = qmig_return_stream_last_pong(&c->return_stream);
    if (qmig_group_is_shut(c->config.group)) {
        return;
    }
    if (shut > 0) {
        fate->failure = g_strdup_printf(
            "the destination could not load the guest (SHUT %" PRId64 ")", shut);
        return;
    }
    fate->only_if_incomplete = !has_return_path(c);
    if (destination_gone) {
        fate->failure = g_strdup_printf("the destination closed after %" PRIu64 " bytes",
                                        qmig_relay_bytes_written(c->forward));
    } else {
        fate->failure = g_strdup_printf("the source closed after %" PRIu64 " bytes",
                                        qmig_relay_bytes_read(c->forward));
    }
}

/* When it failed anyhow, what plugins say of it is for people to know, and no failure of theirs. */
static bool
finish_stream(QmigConnection *c, bool destination_gone, QmigStreamEnd *end, char **reason,
              GError **error)
{
    g_autoptr(GError) local = NULL;
    QmigStreamFate fate = { 0 };

    learn_fate(c, destination_gone, &fate);
    bool ok = qmig_main_stream_finish(c->config.stream, &fate, end, reason, &local);
    bool failed = fate.failure != NULL &&
                  (!fate.only_if_incomplete || *end != QMIG_STREAM_COMPLETE);
    if (!ok && failed && g_error_matches(local, QMIG_ERROR, QMIG_ERROR_PLUGIN)) {
        qmig_group_notice(c->config.group, "%s", local->message);
        ok = true;
    } else if (!ok) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    g_free(fate.failure);
    return ok;
}

/* It did not come to its end, because of @error, or of what the group knows. */
static void
give_up(QmigConnection *c, const GError *error)
{
    g_autoptr(GError) first = qmig_group_error(c->config.group);
    const GError *why = first != NULL ? first : error;

    if (!qmig_group_is_shut(c->config.group)) {
        qmig_main_stream_give_up(c->config.stream,
                                 why != NULL ? why->message : "it was ended",
                                 qmig_return_stream_last_pong(&c->return_stream));
    }
}

static void
run_main_forward(QmigConnection *c)
{
    g_autoptr(GError) error = NULL, finish_error = NULL;
    g_autofree char *reason = NULL;
    QmigRelayEnd end = qmig_relay_run(c->forward, &error);
    QmigStreamEnd stream_end = QMIG_STREAM_UNKNOWN;
    bool finished = true;

    qmig_main_stream_publish(c->config.stream);
    if (end == QMIG_RELAY_OUT_GONE) {
        (void)!qmig_wait_fd(qmig_cancel_fd(c->gone), POLLIN, qmig_deadline_in_ms(GONE_MS),
                            c->config.group->cancel, NULL);
    }
    if (is_cancelled(c)) {
        give_up(c, error);
        return;
    }
    bool source_closed = end == QMIG_RELAY_EOF ||
                         (end == QMIG_RELAY_FAILED &&
                          g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED));
    if (end == QMIG_RELAY_OUT_GONE || source_closed) {
        bool gone = end == QMIG_RELAY_OUT_GONE || qmig_cancel_is_raised(c->gone);
        finished = finish_stream(c, gone, &stream_end, &reason, &finish_error);
    }
    if (end == QMIG_RELAY_OUT_GONE || (source_closed && qmig_cancel_is_raised(c->gone))) {
        /* A source that closes now does so because the destination went first. That nothing
           more could be written to a reader that has left is no news. */
        main_destination_gone(c, stream_end, reason, error);
    } else if (end == QMIG_RELAY_EOF && finished) {
        main_source_ended(c, stream_end, reason);
    } else if (!qmig_group_is_shut(c->config.group)) {
        give_up(c, finished ? error : finish_error);
        const GError *cause = finished ? error : finish_error;
        fail(c, (QmigErrorCode)cause->code, "source", "%s after %" PRIu64 " bytes%s%s",
             cause->message, qmig_relay_bytes_read(c->forward),
             reason != NULL ? ": " : "", reason != NULL ? reason : "");
    }
}

/* ---- the other directions --------------------------------------------------------------- */

static void
run_side_forward(QmigConnection *c)
{
    g_autoptr(GError) error = NULL;
    QmigRelayEnd end = qmig_relay_run(c->forward, &error);

    if (is_cancelled(c)) {
        return;
    }
    if (end == QMIG_RELAY_EOF) {
        end_writing(c, c->config.destination, c->config.destination_tls,
                    was_farewell(c->config.source_tls));
        return;
    }
    if (g_error_matches(error, QMIG_ERROR, QMIG_ERROR_PLUGIN)) {
        /* Nothing to be judged by main's end: a plugin has ended the migration. */
        g_prefix_error(&error, "%s channel: ", c->name);
        qmig_group_fail(c->config.group, g_steal_pointer(&error));
    } else if (end == QMIG_RELAY_FAILED) {
        fail(c, QMIG_ERROR_CLOSED, "source", "%s after %" PRIu64 " bytes", error->message,
             qmig_relay_bytes_read(c->forward));
    } else if (!qmig_cancel_is_raised(c->gone) || c->reverse_error != NULL) {
        fail(c, QMIG_ERROR_CLOSED, "destination", "%s after %" PRIu64 " bytes",
             error->message, qmig_relay_bytes_written(c->forward));
    } else if (c->config.kind == QMIG_CHANNEL_TLS) {
        linger(c);
    }
    /* Now the reverse relay ends, and with it the connection. */
    (void)shutdown(c->config.source, SHUT_RDWR);
    (void)shutdown(c->config.destination, SHUT_RDWR);
}

static void
run_reverse(QmigConnection *c)
{
    g_autoptr(GError) error = NULL;
    QmigRelayEnd end = qmig_relay_run(c->reverse, &error);

    if (end == QMIG_RELAY_OUT_GONE) {
        /* The source listens no more; the forward relay will find out why. Here only the
           destination's end is left to wait for. */
        g_clear_error(&error);
        (void)qmig_relay_drain(c->reverse, true, &error);
        if (is_main(c) && qmig_return_stream_shut(&c->return_stream) == 0) {
            fail(c, QMIG_ERROR_CLOSED, "source",
                 "left before it could be told that the destination has loaded the guest "
                 "(SHUT); it may run its guest on: do not continue the destination");
        }
    }
    if (error != NULL && !is_cancelled(c)) {
        c->reverse_error = g_steal_pointer(&error);
    }
    /* In this order: the source may answer by closing, and must not seem to have gone first. */
    qmig_cancel_raise(c->gone);
    end_writing(c, c->config.source, c->config.source_tls,
                end == QMIG_RELAY_EOF && c->config.destination_tls != NULL &&
                    was_farewell(c->config.destination_tls));
}

/* ---- threads ---------------------------------------------------------------------------- */

/* The last thread out: judge what only both ends together tell, and close. */
static void
thread_done(QmigConnection *c)
{
    if (!g_atomic_int_dec_and_test(&c->running)) {
        return;
    }
    if (is_main(c) && c->reverse_error != NULL && !is_cancelled(c) &&
        !qmig_group_is_shut(c->config.group)) {
        fail(c, QMIG_ERROR_CLOSED, "destination",
             "%s after %" PRIu64 " bytes, while it was loading%s",
             c->reverse_error->message, qmig_relay_bytes_written(c->forward), advice(c));
    }
    qmig_fd_clear(&c->config.source);
    qmig_fd_clear(&c->config.destination);
    g_atomic_int_set(&c->has_ended, 1);
    qmig_group_wake(c->config.group);
}

static void *
forward_thread(void *data)
{
    QmigConnection *c = data;

    if (is_main(c)) {
        run_main_forward(c);
    } else {
        run_side_forward(c);
    }
    thread_done(c);
    return NULL;
}

static void *
reverse_thread(void *data)
{
    QmigConnection *c = data;

    run_reverse(c);
    thread_done(c);
    return NULL;
}

/* ---- stages ----------------------------------------------------------------------------- */

static bool
forward_take(void *self, const uint8_t *data, size_t len, GError **error)
{
    QmigConnection *c = self;

    return qmig_main_stream_take(c->config.stream, data, len, error);
}

/* Lets the session open what has been waiting for it. */
static void
forward_wrote(void *self)
{
    QmigConnection *c = self;

    if (!c->has_started && qmig_relay_bytes_written(c->forward) > 0) {
        g_atomic_int_set(&c->has_started, 1);
        qmig_group_wake(c->config.group);
    }
}

static QmigDeadline
forward_tick(void *self)
{
    QmigConnection *c = self;
    QmigMainStream *stream = c->config.stream;

    forward_wrote(c);
    /* Likewise. */
    if (stream != NULL && !c->told_postcopy && qmig_main_stream_has_postcopy(stream)) {
        c->told_postcopy = true;
        qmig_group_wake(c->config.group);
    }
    return stream != NULL ? qmig_main_stream_tick(stream) : QMIG_DEADLINE_NEVER;
}

static void *reverse_thread(void *data);

/* From now on there is a way back. */
static void
start_reverse(QmigConnection *c)
{
    qmig_relay_set_in(c->reverse, c->config.destination, c->config.destination_tls);
    g_atomic_int_set(&c->is_open, 1);
    g_atomic_int_inc(&c->running);
    c->threads[1] = g_thread_new("qmig-reverse", reverse_thread, c);
}

static const QmigRelaySink *
sink_of(const QmigConnection *c)
{
    return c->config.sink.put != NULL ? &c->config.sink : NULL;
}

/* The first byte for the destination is there. */
static bool
forward_open(void *self, int *out, QmigTls **tls, const QmigRelaySink **sink,
             GError **error)
{
    QmigConnection *c = self;

    if (!c->config.reach(c->config.reach_self, &c->config, error)) {
        return false;
    }
    *out = c->config.destination;
    *tls = c->config.destination_tls;
    *sink = sink_of(c);
    start_reverse(c);
    return true;
}

static bool
reverse_take(void *self, const uint8_t *data, size_t len, GError **error)
{
    QmigConnection *c = self;

    (void)error;
    qmig_return_stream_take(&c->return_stream, data, len);
    return true;
}

static QmigRelay *
new_forward(QmigConnection *c)
{
    QmigRelayConfig config = {
        .in = c->config.source,
        .out = c->config.destination,
        .in_tls = c->config.source_tls,
        .out_tls = c->config.destination_tls,
        .sink = sink_of(c),
        .cancel = c->config.group->cancel,
        .gone = c->gone,
        .first = c->config.first,
        .first_len = c->config.first_len,
        .buffer_size = FORWARD_BUFFER,
        .stage = { .self = c,
                   .tick = forward_tick,
                   .wrote = forward_wrote,
                   .open = forward_open },
        .record = c->config.recorded[0],
        .pacer = qmig_main_stream_pacer(c->config.plugins, pieces[c->config.kind],
                                        c->config.id),
    };

    if (is_main(c)) {
        config.stage.take = forward_take;
        config.stage.rewrites = qmig_main_stream_rewrites(c->config.stream);
        config.stage.looks_first = qmig_main_stream_looks_first(c->config.stream);
    }
    return qmig_relay_new(&config);
}

static QmigRelay *
new_reverse(QmigConnection *c)
{
    QmigRelayConfig config = {
        .in = -1, /* start_reverse() */
        .out = c->config.source,
        .out_tls = c->config.source_tls,
        .cancel = c->config.group->cancel,
        .buffer_size = REVERSE_BUFFER,
        .record = c->config.recorded[1],
    };

    if (is_main(c)) {
        /* SHUT must be known before the source can act on it by closing. */
        config.stage =
            (QmigRelayStage){ .self = c, .take = reverse_take, .looks_first = true };
    }
    return qmig_relay_new(&config);
}

void
qmig_connection_record(QmigConnectionConfig *config, QmigRecord *record)
{
    const char *kind = config->encrypted     ? kinds[QMIG_CHANNEL_TLS]
                       : config->is_recovery ? "recovery"
                                             : kinds[config->kind];
    int id = config->kind == QMIG_CHANNEL_MULTIFD ? (int)config->id : -1;

    qmig_record_open(record, kind, id, &config->recorded[0], &config->recorded[1]);
}

QmigConnection *
qmig_connection_start(const QmigConnectionConfig *config)
{
    QmigConnection *c = g_new0(QmigConnection, 1);

    c->config = *config;
    c->name = qmig_channel_name(config->kind, config->id);
    c->gone = qmig_cancel_new();
    qmig_return_stream_init(&c->return_stream, config->group,
                            is_main(c) && !config->encrypted);
    if (is_main(c) && config->raw_reason != NULL) {
        qmig_main_stream_go_raw(config->stream, config->raw_reason);
    }
    c->forward = new_forward(c);
    c->reverse = new_reverse(c);
    if (is_main(c)) {
        qmig_main_stream_set_output(config->stream, c->forward);
    }
    c->config.first = NULL;
    c->running = 1;
    if (config->reach == NULL) {
        start_reverse(c);
    }
    c->threads[0] = g_thread_new("qmig-forward", forward_thread, c);
    return c;
}

void
qmig_connection_join(QmigConnection *c)
{
    for (guint i = 0; i < G_N_ELEMENTS(c->threads); i++) {
        if (c->threads[i] != NULL) {
            g_thread_join(g_steal_pointer(&c->threads[i]));
        }
    }
}

void
qmig_connection_free(QmigConnection *c)
{
    if (c == NULL) {
        return;
    }
    qmig_connection_join(c);
    qmig_relay_free(c->forward);
    qmig_relay_free(c->reverse);
    if (c->config.sink.put != NULL) {
        c->config.sink.release(c->config.sink.self);
    }
    qmig_tls_free(c->config.source_tls);
    qmig_tls_free(c->config.destination_tls);
    qmig_return_stream_clear(&c->return_stream);
    qmig_cancel_free(c->gone);
    g_clear_error(&c->reverse_error);
    g_free(c->name);
    g_free(c);
}

/* ---- for others ----------------------------------------------------------------------- */

bool
qmig_connection_has_started(const QmigConnection *c)
{
    return g_atomic_int_get(&c->has_started) != 0;
}

bool
qmig_connection_has_ended(const QmigConnection *c)
{
    return g_atomic_int_get(&c->has_ended) != 0;
}

uint64_t
qmig_connection_backlog(const QmigConnection *c)
{
    return qmig_relay_backlog(c->forward);
}

static void
describe_tls(JsonObject *o, const char *name, QmigTls *tls)
{
    if (tls != NULL) {
        g_autofree char *text = qmig_tls_describe(tls);
        json_object_object_add(o, name, json_object_new_string(text));
    }
}

JsonObject *
qmig_connection_describe(QmigConnection *c)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "kind", json_object_new_string(kinds[c->config.kind]));
    if (c->config.kind == QMIG_CHANNEL_MULTIFD || c->config.kind == QMIG_CHANNEL_TLS) {
        json_object_object_add(o, "id", json_object_new_int64(c->config.id));
    }
    json_object_object_add(o, "bytes_forward",
                           json_object_new_uint64(qmig_relay_bytes_written(c->forward)));
    json_object_object_add(o, "bytes_reverse",
                           json_object_new_uint64(qmig_relay_bytes_written(c->reverse)));
    describe_tls(o, "tls_source", c->config.source_tls);
    if (g_atomic_int_get(&c->is_open)) {
        describe_tls(o, "tls_destination", c->config.destination_tls);
    }
    if (is_main(c)) {
        qmig_main_stream_describe(c->config.stream, o);
        return o;
    }
    json_object_object_add(o, "mode", json_object_new_string("raw"));
    json_object_object_add(o, "raw_reason",
                           json_object_new_string("only main is read; passed as it is"));
    return o;
}

JsonObject *
qmig_connection_describe_return_path(QmigConnection *c)
{
    return qmig_return_stream_describe(&c->return_stream);
}
