/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One thread. The timeline releases bytes and ends; what is released is sent by each channel
 * for itself, as its socket takes it: a destination may want channel 2 before it reads on from
 * channel 1, so nothing waits for another channel's bytes to be gone.
 *
 *     timeline --release--> channel 0: [sent ... released) --> socket
 *        ^                  channel 1: [sent ... released) --> socket
 *        | gate: answers so far >= answers recorded so far          |
 *        +------------------- return path <-------------------------+
 */
#include "inspect/replay.h"

#include "inspect/input.h"
#include "inspect/timeline.h"
#include "stream/return-path.h"
#include "util/error.h"
#include "util/socket.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
    DEFAULT_TIMEOUT_MS = 30000,
    CONNECT_TIMEOUT_MS = 10000,
    /* After main's end the other channels end at once, if they do. */
    LAST_ENDS_MS = 1000,
    /* QEMU reads so many bytes of a connection before anything else, and stands still. */
    FIRST_BYTES = 4,
    FIRST_BYTES_MULTIFD = 64,
};

/* A return path so far. */
typedef struct {
    QmigRpDecoder *decoder; /* owned; NULL: not, or no longer, understood */
    uint64_t bytes, pongs, requests;
    int64_t shut; /* status; -1: none */
} Talk;

typedef struct {
    const char *kind; /* borrowed */
    int id;
    QmigInput *input;     /* owned; what to send */
    const uint8_t *piece; /* borrowed from input; not yet sent */
    size_t piece_len;     /* bytes */
    uint64_t total;       /* bytes to send; 0 = not known */
    uint64_t sent;        /* bytes */
    uint64_t released;    /* bytes: so far may be sent */
    uint64_t received;    /* bytes */
    bool is_due;          /* its connection was opened */
    bool end_is_due;      /* no byte follows those released */
    bool input_ended;
    QmigFd fd;
    bool out_ended; /* the end was sent, or nobody takes more */
    bool in_ended;  /* the destination has closed */
} Channel;

typedef struct {
    const QmigReplayOptions *options;
    const char *name;
    QmigCapture *capture;   /* owned; NULL: one stream */
    QmigTimeline *timeline; /* owned; NULL: one stream, or at its end */
    QmigTimelineEntry entry;
    bool has_entry;     /* entry was read and not yet followed */
    QmigInput *reverse; /* owned (nullable): main's recorded answers */
    const uint8_t *reverse_piece;
    size_t reverse_len;
    Talk recorded, heard;
    unsigned n_channels;
    Channel *channels; /* owned */
    Channel *main;     /* one of them */
    bool reads_stdin;
    bool stdin_is_ready;
    int64_t began_us, sent_us, moved_us; /* start; last byte sent; anything moved */
    JsonObject *notices;                 /* owned */
} Replay;

static void notice(Replay *r, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void
notice(Replay *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    json_object_array_add(r->notices, json_object_new_string(text));
}

/* ---- return paths ----------------------------------------------------------------------- */

static void
talk_take(Talk *talk, const void *data, size_t len)
{
    QmigRpMessage msg;
    QmigDecodeResult result = QMIG_DECODE_EVENT;

    talk->bytes += len;
    if (talk->decoder == NULL) {
        return;
    }
    qmig_rp_decoder_push(talk->decoder, data, len);
    while ((result = qmig_rp_decoder_next(talk->decoder, &msg, NULL)) ==
           QMIG_DECODE_EVENT) {
        talk->pongs += msg.type == QMIG_RP_PONG;
        talk->requests += msg.type == QMIG_RP_REQ_PAGES ||
                          msg.type == QMIG_RP_REQ_PAGES_ID;
        if (msg.type == QMIG_RP_SHUT) {
            talk->shut = msg.value;
        }
    }
    if (result == QMIG_DECODE_FAILED) {
        g_clear_pointer(&talk->decoder, qmig_rp_decoder_free);
    }
}

/* The destination has said all that it had said at this point of the recording. */
static bool
has_answered(const Replay *r)
{
    return r->main->in_ended || r->heard.shut >= 0 ||
           (r->heard.pongs >= r->recorded.pongs && r->recorded.shut < 0);
}

/* The next @len bytes that the destination of the recording sent. */
static bool
recall(Replay *r, uint64_t len, GError **error)
{
    while (len > 0) {
        if (r->reverse_len == 0 &&
            !qmig_input_next(r->reverse, &r->reverse_piece, &r->reverse_len, error)) {
            return false;
        }
        if (r->reverse_len == 0) {
            return true; /* the file was cut meanwhile */
        }
        size_t n = MIN(r->reverse_len, len);
        talk_take(&r->recorded, r->reverse_piece, n);
        r->reverse_piece += n;
        r->reverse_len -= n;
        len -= n;
    }
    return true;
}

/* ---- the timeline ----------------------------------------------------------------------- */

/* Do what the entry says. Return: false: not yet. */
static bool
follow_entry(Replay *r, bool *followed, GError **error)
{
    const QmigTimelineEntry *entry = &r->entry;
    Channel *channel = &r->channels[entry->channel];
    bool is_end = entry->kind == QMIG_TIMELINE_EOF || entry->kind == QMIG_TIMELINE_RESET;

    *followed = true;
    switch (entry->kind) {
    case QMIG_TIMELINE_OPEN:
    case QMIG_TIMELINE_EOF:
    case QMIG_TIMELINE_RESET:
        if (is_end && entry->is_reverse) {
            return true;
        }
        *followed = channel == r->main && !is_end ? true : has_answered(r);
        if (*followed && is_end) {
            channel->end_is_due = true;
        } else if (*followed) {
            channel->id = entry->id;
            channel->is_due = true;
        }
        return true;
    case QMIG_TIMELINE_DATA:
        if (!entry->is_reverse) {
            channel->released += entry->length;
            return true;
        }
        return channel != r->main || recall(r, entry->length, error);
    case QMIG_TIMELINE_STOPPED:
        notice(r, "the recording ended before its migration did: %s", entry->text);
        return true;
    case QMIG_TIMELINE_END:
        break;
    }
    /* Connections that were never seen to end do so when all is answered. */
    *followed = has_answered(r);
    for (unsigned i = 0; *followed && i < r->n_channels; i++) {
        r->channels[i].end_is_due = true;
    }
    if (*followed) {
        g_clear_pointer(&r->timeline, qmig_timeline_free);
    }
    return true;
}

/* When the present entry may be followed; NEVER: when something else has happened. */
static bool
follow_timeline(Replay *r, QmigDeadline *again, GError **error)
{
    bool followed = true;

    *again = QMIG_DEADLINE_NEVER;
    while (r->timeline != NULL) {
        if (!r->has_entry && !qmig_timeline_next(r->timeline, &r->entry, error)) {
            return false;
        }
        r->has_entry = true;
        if (r->options->timing) {
            QmigDeadline at = r->began_us + (int64_t)r->entry.t_us;
            if (qmig_now_us() < at) {
                *again = at;
                r->moved_us = qmig_now_us();
                return true;
            }
        }
        if (!follow_entry(r, &followed, error)) {
            return false;
        }
        if (!followed) {
            return true;
        }
        r->has_entry = false;
        r->moved_us = qmig_now_us();
    }
    return true;
}

/* What the recorded destination said after the end of this one, for the report. */
static void
recall_rest(Replay *r)
{
    bool ok = r->timeline != NULL && r->reverse != NULL;

    while (ok && (r->has_entry || qmig_timeline_next(r->timeline, &r->entry, NULL)) &&
           r->entry.kind != QMIG_TIMELINE_END) {
        bool is_answer = r->entry.kind == QMIG_TIMELINE_DATA && r->entry.is_reverse &&
                         &r->channels[r->entry.channel] == r->main;
        ok = !is_answer || recall(r, r->entry.length, NULL);
        r->has_entry = false;
    }
}

/* ---- sending ---------------------------------------------------------------------------- */

/* The next bytes in hand, where there are any to be had without waiting. */
static bool
fill(Replay *r, Channel *channel, GError **error)
{
    if (channel->piece_len > 0 || channel->input_ended) {
        return true;
    }
    if (r->reads_stdin && !r->stdin_is_ready) {
        return true;
    }
    r->stdin_is_ready = false;
    if (!qmig_input_next(channel->input, &channel->piece, &channel->piece_len, error)) {
        return false;
    }
    if (channel->piece_len == 0) {
        channel->input_ended = true;
        channel->end_is_due = channel->end_is_due || r->capture == NULL;
    }
    return true;
}

/* Bytes that may be sent now. */
static size_t
sendable(const Channel *channel)
{
    return (size_t)MIN(channel->piece_len, channel->released - channel->sent);
}

static bool
is_preempt(const Channel *channel)
{
    return strcmp(channel->kind, "preempt") == 0;
}

/* Open the connection when its first bytes are in hand: a destination kills, freezes or
 * confuses itself over one that says nothing. Only a preempt channel is silent by nature. */
static bool
try_connect(Replay *r, Channel *channel, GError **error)
{
    uint64_t wanted = strcmp(channel->kind, "multifd") == 0 ? FIRST_BYTES_MULTIFD
                                                            : FIRST_BYTES;

    wanted = channel->total > 0 ? MIN(wanted, channel->total) : wanted;
    if (channel != r->main && r->main->sent == 0) {
        return true;
    }
    if (!is_preempt(channel) && !channel->input_ended && sendable(channel) < wanted) {
        return true;
    }
    if (!is_preempt(channel) && channel->piece_len == 0) {
        channel->is_due = false; /* never said a word: as if it had not been */
        notice(r, "a %s channel without a byte was left out", channel->kind);
        return true;
    }
    channel->fd = qmig_socket_connect(r->options->to,
                                      qmig_deadline_in_ms(CONNECT_TIMEOUT_MS),
                                      r->options->cancel, error);
    if (channel->fd < 0) {
        g_prefix_error(error, "destination: %s channel: ", channel->kind);
    }
    return channel->fd >= 0;
}

static void
send_end(Channel *channel)
{
    (void)shutdown(channel->fd, SHUT_WR);
    channel->out_ended = true;
}

/* Send what the socket takes now. */
static bool
send_some(Replay *r, Channel *channel, GError **error)
{
    while (!channel->out_ended) {
        if (!fill(r, channel, error)) {
            return false;
        }
        size_t len = sendable(channel);
        if (len == 0) {
            bool all = channel->sent == channel->released || channel->input_ended;
            if (all && channel->end_is_due && channel->piece_len == 0) {
                send_end(channel);
            }
            return true;
        }
        ssize_t n = send(channel->fd, channel->piece, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            /* Nobody there. Why, the other direction may tell. */
            channel->out_ended = true;
        }
        if (n > 0) {
            channel->piece += n;
            channel->piece_len -= (size_t)n;
            channel->sent += (uint64_t)n;
            r->moved_us = r->sent_us = qmig_now_us();
        }
    }
    return true;
}

static bool
send_all(Replay *r, GError **error)
{
    for (unsigned i = 0; i < r->n_channels; i++) {
        Channel *channel = &r->channels[i];

        if (channel->is_due && channel->fd < 0 &&
            !(fill(r, channel, error) && try_connect(r, channel, error))) {
            return false;
        }
        if (channel->fd >= 0 && !send_some(r, channel, error)) {
            return false;
        }
    }
    return true;
}

/* ---- listening -------------------------------------------------------------------------- */

static void
receive(Replay *r, Channel *channel)
{
    uint8_t buffer[16384];

    while (!channel->in_ended) {
        ssize_t n = recv(channel->fd, buffer, sizeof buffer, MSG_DONTWAIT);

        if (n > 0) {
            channel->received += (uint64_t)n;
            if (channel == r->main) {
                talk_take(&r->heard, buffer, (size_t)n);
            }
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else if (n == 0 || errno != EINTR) {
            channel->in_ended = true;
        }
        r->moved_us = qmig_now_us();
    }
}

/* Sleep until a socket, the input or the clock has something. */
static void
wait_for_news(Replay *r, QmigDeadline until)
{
    g_autofree struct pollfd *fds = g_new0(struct pollfd, r->n_channels + 2);
    unsigned n = r->n_channels;

    for (unsigned i = 0; i < n; i++) {
        const Channel *channel = &r->channels[i];
        bool sends = !channel->out_ended && sendable(channel) > 0;

        fds[i].fd = channel->in_ended && !sends ? -1 : channel->fd;
        fds[i].events = (short)((channel->in_ended ? 0 : POLLIN) | (sends ? POLLOUT : 0));
    }
    fds[n] = (struct pollfd){ .fd = qmig_cancel_fd(r->options->cancel),
                              .events = POLLIN };
    bool wants_input = r->reads_stdin && r->main->piece_len == 0 && !r->main->input_ended;
    fds[n + 1] = (struct pollfd){ .fd = wants_input ? STDIN_FILENO : -1,
                                  .events = POLLIN };
    (void)poll(fds, n + 2, qmig_deadline_poll_ms(until));
    r->stdin_is_ready = fds[n + 1].revents != 0;
    for (unsigned i = 0; i < n; i++) {
        if ((fds[i].revents & ~POLLOUT) != 0) {
            receive(r, &r->channels[i]);
        }
    }
}

/* ---- the end ---------------------------------------------------------------------------- */

/* Main has ended: close the others, and see them end. */
static void
close_all(Replay *r)
{
    QmigDeadline until = qmig_deadline_in_ms(LAST_ENDS_MS);
    bool is_open = true;

    while (is_open && qmig_now_us() < until &&
           !qmig_cancel_is_raised(r->options->cancel)) {
        is_open = false;
        for (unsigned i = 0; i < r->n_channels; i++) {
            Channel *channel = &r->channels[i];

            if (channel->fd >= 0 && !channel->out_ended) {
                send_end(channel);
            }
            is_open = is_open || (channel->fd >= 0 && !channel->in_ended);
        }
        if (is_open) {
            wait_for_news(r, until);
        }
    }
}

/* What the destination made of it. */
static bool
judge(const Replay *r, GError **error)
{
    const Channel *main_channel = r->main;
    g_autofree char *of = main_channel->total > 0
                              ? g_strdup_printf(" of %" PRIu64, main_channel->total)
                              : g_strdup("");

    if (r->heard.shut == 0) {
        return true;
    }
    if (r->heard.shut > 0) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED,
                              "destination: it could not load the guest (SHUT %" PRId64
                              ", after %" PRIu64 "%s bytes)",
                              r->heard.shut, main_channel->sent, of);
    }
    if (main_channel->piece_len > 0 || !main_channel->input_ended) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED,
                              "destination: closed after %" PRIu64 "%s bytes",
                              main_channel->sent, of);
    }
    if (r->heard.bytes > 0) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED,
                              "destination: closed without a last word (SHUT) after "
                              "%" PRIu64 " bytes",
                              main_channel->sent);
    }
    return true; /* no return path: all was taken, more nobody says */
}

static bool
check_patience(const Replay *r, GError **error)
{
    uint32_t timeout_ms = r->options->timeout_ms > 0 ? r->options->timeout_ms
                                                     : DEFAULT_TIMEOUT_MS;

    if (qmig_cancel_is_raised(r->options->cancel)) {
        return qmig_set_error(error, QMIG_ERROR_CANCELLED,
                              "cancelled after %" PRIu64 " bytes", r->main->sent);
    }
    if (qmig_now_us() - r->moved_us < (int64_t)timeout_ms * 1000) {
        return true;
    }
    if (r->timeline != NULL && r->heard.pongs < r->recorded.pongs) {
        return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                              "destination: %" PRIu64 " of %" PRIu64
                              " answers (PONG) came, then nothing for %u ms",
                              r->heard.pongs, r->recorded.pongs, timeout_ms);
    }
    return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                          "destination: nothing moved for %u ms, after %" PRIu64
                          " bytes sent and %" PRIu64 " received",
                          timeout_ms, r->main->sent, r->main->received);
}

static void
tell_progress(const Replay *r)
{
    uint64_t done = 0, total = 0;

    if (r->options->progress != NULL) {
        for (unsigned i = 0; i < r->n_channels; i++) {
            done += r->channels[i].sent;
            total += r->channels[i].total;
        }
        r->options->progress(done, total);
    }
}

static bool
run(Replay *r, GError **error)
{
    QmigDeadline again;

    r->began_us = r->sent_us = r->moved_us = qmig_now_us();
    r->stdin_is_ready = true;
    while (!r->main->in_ended && !(r->heard.shut >= 0 && r->main->out_ended)) {
        if (!follow_timeline(r, &again, error) || !send_all(r, error) ||
            !check_patience(r, error)) {
            return false;
        }
        tell_progress(r);
        wait_for_news(r, MIN(again, qmig_deadline_in_ms(200)));
    }
    close_all(r);
    return judge(r, error);
}

/* ---- set up ----------------------------------------------------------------------------- */

static void
replay_clear(Replay *r)
{
    for (unsigned i = 0; i < r->n_channels; i++) {
        qmig_fd_clear(&r->channels[i].fd);
        qmig_input_free(r->channels[i].input);
    }
    g_free(r->channels);
    g_clear_pointer(&r->recorded.decoder, qmig_rp_decoder_free);
    g_clear_pointer(&r->heard.decoder, qmig_rp_decoder_free);
    g_clear_pointer(&r->reverse, qmig_input_free);
    g_clear_pointer(&r->timeline, qmig_timeline_free);
    g_clear_pointer(&r->capture, qmig_capture_free);
    g_clear_pointer(&r->notices, qmig_json_put);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Replay, replay_clear)

static bool
open_channel(Replay *r, unsigned i, const char *kind, const char *path, GError **error)
{
    Channel *channel = &r->channels[i];
    uint8_t first[FIRST_BYTES_MULTIFD];
    size_t len;

    channel->kind = kind;
    channel->id = -1;
    channel->fd = -1;
    channel->input = qmig_input_open(path, error);
    if (channel->input == NULL) {
        return false;
    }
    channel->total = qmig_input_total(channel->input);
    /* The first piece then has all of them. */
    return qmig_input_peek(
        channel->input, first,
        strcmp(kind, "multifd") == 0 ? FIRST_BYTES_MULTIFD : FIRST_BYTES, &len, error);
}

static bool
check_kind(const QmigCaptureChannel *channel, GError **error)
{
    if (strcmp(channel->kind, "tls") == 0) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "%s: encrypted for another connection; it cannot be sent "
                              "again",
                              channel->forward);
    }
    if (strcmp(channel->kind, "recovery") == 0) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "%s: a recovery sends what one broken link has lost; "
                              "another destination has lost other pages",
                              channel->forward);
    }
    return true;
}

/* Read the timeline once, so that damage is found before anything is sent. */
static bool
check_timeline(Replay *r, GError **error)
{
    g_autoptr(QmigTimeline) t = qmig_timeline_open(r->capture, error);
    QmigTimelineEntry entry = { 0 };

    if (t == NULL) {
        return false;
    }
    do {
        if (!qmig_timeline_next(t, &entry, error)) {
            return false;
        }
    } while (entry.kind != QMIG_TIMELINE_END);
    if (qmig_timeline_missing(t) > 0) {
        notice(r,
               "the capture was cut: its files lack %" PRIu64
               " bytes of those in the timeline",
               qmig_timeline_missing(t));
    }
    r->timeline = qmig_timeline_open(r->capture, error);
    return r->timeline != NULL;
}

static bool
open_capture(Replay *r, GError **error)
{
    r->capture = qmig_capture_open(r->name, error);
    if (r->capture == NULL) {
        return false;
    }
    r->n_channels = qmig_capture_n_channels(r->capture);
    r->channels = g_new0(Channel, r->n_channels);
    for (unsigned i = 0; i < r->n_channels; i++) {
        r->channels[i].fd = -1;
    }
    for (unsigned i = 0; i < r->n_channels; i++) {
        const QmigCaptureChannel *channel = qmig_capture_channel(r->capture, i);
        bool is_main = strcmp(channel->kind, "main") == 0;

        if (!check_kind(channel, error) ||
            !open_channel(r, i, channel->kind, channel->forward, error)) {
            return false;
        }
        if (is_main && r->main != NULL) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "%s: more than one main channel", r->name);
        }
        if (is_main) {
            r->main = &r->channels[i];
            r->reverse = channel->reverse != NULL
                             ? qmig_input_open(channel->reverse, error)
                             : NULL;
            if (channel->reverse != NULL && r->reverse == NULL) {
                return false;
            }
        }
    }
    return r->main != NULL
               ? check_timeline(r, error)
               : qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: no main channel", r->name);
}

static bool
open_stream(Replay *r, GError **error)
{
    r->n_channels = 1;
    r->channels = g_new0(Channel, 1);
    r->main = r->channels;
    r->reads_stdin = strcmp(r->name, "-") == 0;
    r->main->fd = -1;
    if ((r->reads_stdin && !qmig_wait_fd(STDIN_FILENO, POLLIN, QMIG_DEADLINE_NEVER,
                                         r->options->cancel, error)) ||
        !open_channel(r, 0, "main", r->name, error)) {
        return false;
    }
    r->main->released = UINT64_MAX;
    r->main->is_due = true;
    return true;
}

/* ---- the report ------------------------------------------------------------------------- */

static JsonObject *
describe_talk(const Talk *talk)
{
    JsonObject *o = json_object_new_object();

    if (talk->shut >= 0) {
        json_object_object_add(o, "shut", json_object_new_int64(talk->shut));
    }
    json_object_object_add(o, "pongs", json_object_new_uint64(talk->pongs));
    json_object_object_add(o, "requests", json_object_new_uint64(talk->requests));
    return o;
}

static JsonObject *
describe_channel(const Channel *channel)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "kind", json_object_new_string(channel->kind));
    if (channel->id >= 0) {
        json_object_object_add(o, "id", json_object_new_int(channel->id));
    }
    json_object_object_add(o, "bytes_forward", json_object_new_uint64(channel->sent));
    json_object_object_add(o, "bytes_total",
                           channel->total > 0 ? json_object_new_uint64(channel->total)
                                              : NULL);
    json_object_object_add(o, "bytes_reverse", json_object_new_uint64(channel->received));
    return o;
}

static JsonObject *
describe(const Replay *r, bool ok)
{
    JsonObject *o = json_object_new_object(), *ms = json_object_new_object();
    JsonObject *channels = json_object_new_array();
    g_autofree char *to = qmig_address_to_string(r->options->to);
    uint64_t sent = 0;

    for (unsigned i = 0; i < r->n_channels; i++) {
        json_object_array_add(channels, describe_channel(&r->channels[i]));
        sent += r->channels[i].sent;
    }
    json_object_object_add(o, "input", json_object_new_string(r->name));
    json_object_object_add(o, "to", json_object_new_string(to));
    json_object_object_add(o, "loaded",
                           ok && r->heard.shut < 0 ? NULL : json_object_new_boolean(ok));
    json_object_object_add(o, "return_path", describe_talk(&r->heard));
    if (r->capture != NULL) {
        json_object_object_add(o, "recorded", describe_talk(&r->recorded));
    }
    json_object_object_add(o, "channels", channels);
    json_object_object_add(o, "bytes_forward", json_object_new_uint64(sent));
    json_object_object_add(ms, "sending",
                           json_object_new_int64((r->sent_us - r->began_us) / 1000));
    json_object_object_add(ms, "total",
                           json_object_new_int64((qmig_now_us() - r->began_us) / 1000));
    json_object_object_add(o, "ms", ms);
    json_object_object_add(o, "notices", json_object_get(r->notices));
    return o;
}

bool
qmig_replay_run(const char *input, const QmigReplayOptions *options, JsonObject **report,
                GError **error)
{
    g_auto(Replay) r = { .options = options, .name = input };

    r.recorded.shut = r.heard.shut = -1;
    r.recorded.decoder = qmig_rp_decoder_new();
    r.heard.decoder = qmig_rp_decoder_new();
    r.notices = json_object_new_array();
    if (!(qmig_capture_is_at(input) ? open_capture(&r, error) : open_stream(&r, error))) {
        return false;
    }
    bool ok = run(&r, error);
    recall_rest(&r);
    if (report != NULL) {
        *report = describe(&r, ok);
    }
    return ok;
}
