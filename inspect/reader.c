/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See reader.h. */
#include "inspect/reader.h"

#include "inspect/capture.h"
#include "inspect/input.h"
#include "stream/decoder.h"
#include "stream/multifd.h"
#include "util/cursor.h"
#include "util/error.h"

#include <string.h>

enum {
    MULTIFD_MAGIC = 0x11223344,
    MULTIFD_INIT_SIZE = 64,
    MULTIFD_ID_AT = 24, /* of the channel's number in the first packet */
};

/* What in main stands for the SYNC packets on the multifd channels. */
typedef enum {
    SYNC_UNKNOWN, /* the first RAM section tells */
    SYNC_FLUSH,   /* each FLUSH record; QEMU 8.1 and later with machine types as new */
    SYNC_EOS,     /* the end of each RAM section's body */
} SyncMode;

/* A channel while it is read. */
typedef struct {
    QmigReaderChannel public;
    char *name;                  /* owned */
    QmigInput *input;            /* owned */
    QmigDecoder *decoder;        /* owned; NULL for multifd, and until it is its turn */
    QmigMultifdDecoder *multifd; /* owned; of multifd only */
    bool ended;
} Channel;

typedef struct {
    const QmigReaderSink *sink;
    GPtrArray *channels; /* Channel, owned; ascending numbers */
    Channel *main;       /* borrowed; NULL when a multifd channel is read alone */
    unsigned n_multifd;
    SyncMode sync;
    QmigReaderEnd *end;   /* what is known so far */
    char *beside;         /* owned; what is missing on a channel beside main, or NULL */
    uint64_t done, total; /* bytes of all channels */
} Reader;

static void
channel_free(gpointer data)
{
    Channel *channel = data;

    g_clear_pointer(&channel->input, qmig_input_free);
    g_clear_pointer(&channel->decoder, qmig_decoder_free);
    g_clear_pointer(&channel->multifd, qmig_multifd_decoder_free);
    g_free(channel->name);
    g_free(channel);
}

static void
reader_clear(Reader *r)
{
    g_clear_pointer(&r->channels, g_ptr_array_unref);
    g_free(r->beside);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reader, reader_clear)

/* Lend the decoder the next piece of its file. */
static bool
feed(Reader *r, Channel *channel, GError **error)
{
    const uint8_t *data;
    size_t len;

    if (!qmig_input_next(channel->input, &data, &len, error)) {
        return false;
    }
    if (channel->multifd != NULL && len == 0) {
        qmig_multifd_decoder_eof(channel->multifd);
    } else if (channel->multifd != NULL) {
        qmig_multifd_decoder_push(channel->multifd, data, len);
    } else if (len == 0) {
        qmig_decoder_eof(channel->decoder);
    } else {
        qmig_decoder_push(channel->decoder, data, len);
    }
    r->done += len;
    if (r->sink->progress != NULL) {
        r->sink->progress(r->done, r->total);
    }
    return true;
}

/* Does @ev end a round in which each page is sent once at most? */
static bool
is_sync(Reader *r, const Channel *channel, const struct qmig_event *ev)
{
    if (channel->multifd != NULL) {
        return ev->kind == QMIG_EVENT_MULTIFD_PACKET &&
               (ev->u.multifd_packet.packet->flags & QMIG_MULTIFD_SYNC);
    }
    if (r->n_multifd == 0) {
        return false;
    }
    if (r->sync == SYNC_UNKNOWN) {
        r->sync = ev->kind == QMIG_EVENT_RAM_FLUSH ? SYNC_FLUSH
                  : ev->kind == QMIG_EVENT_RAM_EOS ? SYNC_EOS
                                                   : SYNC_UNKNOWN;
    }
    return ev->kind ==
           (r->sync == SYNC_FLUSH ? QMIG_EVENT_RAM_FLUSH : QMIG_EVENT_RAM_EOS);
}

/* What a channel's end means for all. Connections are read in the order in which they were made:
 * a recovery makes up for what broke before it. */
static void
note_end(Reader *r, const Channel *channel, const struct qmig_event_end *end)
{
    bool is_main = channel->decoder != NULL &&
                   channel->public.kind != QMIG_READER_PREEMPT;
    char **reason = is_main ? &r->end->reason : &r->beside;

    if (is_main && channel->public.kind == QMIG_READER_RECOVERY) {
        g_clear_pointer(&r->beside, g_free);
    }
    if (is_main || !end->complete) {
        g_free(*reason);
        *reason = end->complete
                      ? NULL
                      : g_strdup_printf("%s: %s", channel->public.name, end->reason);
    }
}

/* Read a channel up to its next synchronisation, or its end. */
static bool
read_round(Reader *r, Channel *channel, GError **error)
{
    struct qmig_event ev;

    while (!channel->ended) {
        switch (channel->multifd != NULL
                    ? qmig_multifd_decoder_next(channel->multifd, &ev, error)
                    : qmig_decoder_next(channel->decoder, &ev, error)) {
        case QMIG_DECODE_EVENT:
            if (!r->sink->event(r->sink->self, &channel->public, &ev, error)) {
                return false;
            }
            if (ev.kind == QMIG_EVENT_END) {
                note_end(r, channel, &ev.u.end);
            }
            if (is_sync(r, channel, &ev)) {
                return true;
            }
            break;
        case QMIG_DECODE_NEED_MORE:
            if (!feed(r, channel, error)) {
                return false;
            }
            break;
        case QMIG_DECODE_END:
            channel->ended = true;
            break;
        case QMIG_DECODE_FAILED:
        default:
            g_prefix_error(error, "%s: ", channel->public.name);
            return false;
        }
    }
    return true;
}

/* The same round of all multifd channels; all rounds that are left, when main has ended. */
static bool
read_multifd(Reader *r, GError **error)
{
    for (guint i = 0; i < r->channels->len; i++) {
        Channel *channel = g_ptr_array_index(r->channels, i);

        if (channel->multifd == NULL) {
            continue;
        }
        if (r->main != NULL) {
            qmig_multifd_decoder_set_page_size(channel->multifd,
                                               qmig_decoder_page_size(r->main->decoder));
        }
        do {
            if (!read_round(r, channel, error)) {
                return false;
            }
        } while ((r->main == NULL || r->main->ended) && !channel->ended);
    }
    return true;
}

static bool
read_all(Reader *r, GError **error)
{
    while (r->main != NULL && !r->main->ended) {
        if (!read_round(r, r->main, error) || !read_multifd(r, error)) {
            return false;
        }
    }
    if (r->main == NULL && !read_multifd(r, error)) {
        return false;
    }
    for (guint i = 0; i < r->channels->len; i++) {
        Channel *channel = g_ptr_array_index(r->channels, i);

        if (channel->decoder == NULL && channel->multifd == NULL) {
            channel->decoder = qmig_decoder_continue(
                r->main->decoder, channel->public.kind == QMIG_READER_PREEMPT);
            if (!read_round(r, channel, error)) {
                return false;
            }
        }
    }
    return true;
}

/* A multifd channel says who it is. */
static bool
open_multifd(Channel *channel, const uint8_t *first, size_t len)
{
    QmigCursor c = qmig_cursor(first, len);
    uint32_t magic;

    if (!qmig_cursor_be32(&c, &magic) || magic != MULTIFD_MAGIC) {
        return false;
    }
    channel->public.kind = QMIG_READER_MULTIFD;
    channel->public.id = len > MULTIFD_ID_AT ? first[MULTIFD_ID_AT] : 0;
    channel->multifd = qmig_multifd_decoder_new();
    channel->name = g_strdup_printf("multifd %u", channel->public.id);
    return true;
}

static void
open_other(Reader *r, Channel *channel)
{
    unsigned n_same = 0;

    for (guint i = 0; i < r->channels->len; i++) {
        const Channel *other = g_ptr_array_index(r->channels, i);

        n_same += other->public.kind == channel->public.kind;
    }
    const char *kind = channel->public.kind == QMIG_READER_PREEMPT ? "preempt"
                                                                   : "recovery";
    channel->name = n_same == 0 ? g_strdup(kind)
                                : g_strdup_printf("%s %u", kind, n_same + 1);
}

static bool
add_channel(Reader *r, const char *path, unsigned number, QmigReaderKind kind,
            GError **error)
{
    Channel *channel = g_new0(Channel, 1);
    uint8_t first[MULTIFD_INIT_SIZE];
    size_t len;

    channel->public.number = number;
    channel->public.kind = kind;
    channel->input = qmig_input_open(path, error);
    if (channel->input == NULL ||
        !qmig_input_peek(channel->input, first, sizeof first, &len, error)) {
        channel_free(channel);
        return false;
    }
    if (open_multifd(channel, first, len)) {
        r->n_multifd++;
    } else if (kind == QMIG_READER_MAIN && r->main == NULL) {
        channel->name = g_strdup("main");
        channel->decoder = qmig_decoder_new();
        r->main = channel;
    } else {
        open_other(r, channel);
    }
    channel->public.name = channel->name;
    r->total += qmig_input_total(channel->input);
    g_ptr_array_add(r->channels, channel);
    return true;
}

static bool
add_captured(Reader *r, const QmigCaptureChannel *channel, GError **error)
{
    static const char *const kinds[] = {
        [QMIG_READER_MAIN] = "main",
        [QMIG_READER_RECOVERY] = "recovery",
        [QMIG_READER_MULTIFD] = "multifd",
        [QMIG_READER_PREEMPT] = "preempt",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kinds[i], channel->kind) == 0) {
            return add_channel(r, channel->forward, channel->number, (QmigReaderKind)i,
                               error);
        }
    }
    return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                          "%s: what went over this channel (%s) cannot be read",
                          channel->forward, channel->kind);
}

static bool
add_capture(Reader *r, const char *path, GError **error)
{
    g_autoptr(QmigCapture) capture = qmig_capture_open(path, error);

    if (capture == NULL) {
        return false;
    }
    for (unsigned i = 0; i < qmig_capture_n_channels(capture); i++) {
        if (!add_captured(r, qmig_capture_channel(capture, i), error)) {
            return false;
        }
    }
    return r->main != NULL || qmig_set_error(error, QMIG_ERROR_CONFIG,
                                             "%s: no main channel was captured", path);
}

bool
qmig_reader_run(const char *path, const QmigReaderSink *sink, QmigReaderEnd *end,
                GError **error)
{
    g_auto(Reader) r = { .sink = sink, .end = end };

    r.channels = g_ptr_array_new_with_free_func(channel_free);
    if (qmig_capture_is_at(path) ? !add_capture(&r, path, error)
                                 : !add_channel(&r, path, 0, QMIG_READER_MAIN, error)) {
        return false;
    }
    if (!read_all(&r, error)) {
        return false;
    }
    if (end->reason == NULL) {
        end->complete = r.beside == NULL;
        end->reason = r.beside != NULL ? g_steal_pointer(&r.beside) : g_strdup("");
    }
    return true;
}
