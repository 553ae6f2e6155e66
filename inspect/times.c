/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See times.h. */
#include "inspect/times.h"

#include "inspect/timeline.h"

/* A piece: where it begins, and when it was read. */
typedef struct {
    uint64_t offset;
    uint64_t t_us;
} Piece;

typedef struct {
    unsigned number; /* of the connection */
    GArray *pieces;  /* Piece, ascending; owned */
    unsigned every;  /* pieces noted: each @every-th */
    unsigned skipped;
} Channel;

struct QmigTimes {
    GArray *channels; /* Channel, as in the capture */
};

static void
channel_clear(gpointer data)
{
    g_array_unref(((Channel *)data)->pieces);
}

void
qmig_times_free(QmigTimes *times)
{
    if (times != NULL) {
        g_array_unref(times->channels);
        g_free(times);
    }
}

/* Forget every second piece. */
static void
thin_out(Channel *channel)
{
    guint n = channel->pieces->len / 2;

    for (guint i = 0; i < n; i++) {
        g_array_index(channel->pieces, Piece, i) = g_array_index(channel->pieces, Piece,
                                                                 2 * i);
    }
    g_array_set_size(channel->pieces, n);
    channel->every *= 2;
}

static void
note(Channel *channel, const QmigTimelineEntry *entry)
{
    Piece piece = { entry->offset, entry->t_us };

    if (++channel->skipped < channel->every) {
        return;
    }
    channel->skipped = 0;
    g_array_append_val(channel->pieces, piece);
    if (channel->pieces->len == QMIG_TIMES_MAX) {
        thin_out(channel);
    }
}

static bool
read_timeline(QmigTimes *times, const QmigCapture *capture, GError **error)
{
    g_autoptr(QmigTimeline) timeline = qmig_timeline_open(capture, error);
    QmigTimelineEntry entry;

    if (timeline == NULL) {
        return false;
    }
    do {
        if (!qmig_timeline_next(timeline, &entry, error)) {
            return false;
        }
        /* What no line tells of has no time. */
        if (entry.kind == QMIG_TIMELINE_DATA && !entry.is_reverse && entry.line > 0) {
            note(&g_array_index(times->channels, Channel, entry.channel), &entry);
        }
    } while (entry.kind != QMIG_TIMELINE_END);
    return true;
}

QmigTimes *
qmig_times_load(const char *path, GError **error)
{
    g_autoptr(QmigCapture) capture = qmig_capture_open(path, error);
    g_autoptr(QmigTimes) times = NULL;

    if (capture == NULL) {
        return NULL;
    }
    times = g_new0(QmigTimes, 1);
    times->channels = g_array_new(FALSE, TRUE, sizeof(Channel));
    g_array_set_clear_func(times->channels, channel_clear);
    for (unsigned i = 0; i < qmig_capture_n_channels(capture); i++) {
        Channel channel = { .number = qmig_capture_channel(capture, i)->number,
                            .pieces = g_array_new(FALSE, FALSE, sizeof(Piece)),
                            .every = 1 };
        g_array_append_val(times->channels, channel);
    }
    return read_timeline(times, capture, error) ? g_steal_pointer(&times) : NULL;
}

bool
qmig_times_at(const QmigTimes *times, unsigned number, uint64_t offset, uint64_t *t_us)
{
    for (guint i = 0; i < times->channels->len; i++) {
        const Channel *channel = &g_array_index(times->channels, Channel, i);
        guint low = 0, high = channel->pieces->len;

        /* The last piece that begins at or before the offset is just below low. */
        while (low < high) {
            guint middle = low + (high - low) / 2;

            if (g_array_index(channel->pieces, Piece, middle).offset <= offset) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (channel->number == number && low > 0) {
            *t_us = g_array_index(channel->pieces, Piece, low - 1).t_us;
            return true;
        }
    }
    return false;
}
