/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See timeline.h. A line is read, checked and handed out; nothing of it is kept. */
#include "inspect/timeline.h"

#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    LINE_MAX_BYTES = 4096, /* the longest that is written, `stopped`, is far below */
    JSON_DEPTH = 3,
    MULTIFD_ID_MAX = 255,
};

/* One direction of a channel. */
typedef struct {
    uint64_t size; /* of the file */
    uint64_t done; /* bytes handed out */
    bool has_ended;
} Way;

typedef struct {
    bool is_open;
    Way ways[2]; /* forward, reverse */
} Channel;

struct QmigTimeline {
    const QmigCapture *capture; /* borrowed */
    char *path;                 /* owned; of the timeline */
    FILE *file;                 /* owned; NULL: none, or all lines were read */
    char buffer[LINE_MAX_BYTES];
    JsonObject *object; /* owned; of the present line */
    unsigned line;
    uint64_t t_us, missing;
    unsigned n_channels;
    Channel *channels; /* owned */
};

typedef struct json_tokener JsonTokener;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonTokener, json_tokener_free)

static bool refuse(const QmigTimeline *t, GError **error, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* PROTOCOL, with the place. Return: false. */
static bool
refuse(const QmigTimeline *t, GError **error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%s:%u: %s", t->path, t->line,
                          text);
}

/* ---- lines ------------------------------------------------------------------------------ */

/* The next whole line to buffer. @got: (out) false at the end of the lines. */
static bool
read_line(QmigTimeline *t, bool *got, GError **error)
{
    *got = false;
    if (t->file == NULL) {
        return true;
    }
    t->line++;
    if (fgets(t->buffer, sizeof t->buffer, t->file) == NULL) {
        if (ferror(t->file)) {
            return qmig_set_error_errno(error, errno, "%s:%u", t->path, t->line);
        }
    } else if (strchr(t->buffer, '\n') != NULL) {
        *got = true;
        return true;
    } else if (!feof(t->file)) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "%s:%u: a line of %d bytes or more, or one with a NUL",
                              t->path, t->line, LINE_MAX_BYTES);
    }
    /* The end, perhaps in the middle of a line that was being written. */
    g_clear_pointer(&t->file, fclose);
    return true;
}

/* The line in buffer to object. */
static bool
parse_line(QmigTimeline *t, GError **error)
{
    g_autoptr(JsonTokener) tokener = json_tokener_new_ex(JSON_DEPTH);
    int len = (int)strlen(g_strchomp(t->buffer));

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    g_clear_pointer(&t->object, qmig_json_put);
    t->object = json_tokener_parse_ex(tokener, t->buffer, len);
    if (t->object == NULL || !json_object_is_type(t->object, json_type_object)) {
        enum json_tokener_error code = json_tokener_get_error(tokener);
        return refuse(t, error, "wanted a JSON object: %s",
                      code != json_tokener_success ? json_tokener_error_desc(code)
                                                   : "got something else");
    }
    return json_tokener_get_parse_end(tokener) == (size_t)len ||
           refuse(t, error, "more after the JSON object");
}

/* Member @name, a whole number from @min to @max. */
static bool
get_number(const QmigTimeline *t, const char *name, uint64_t min, uint64_t max,
           uint64_t *number, GError **error)
{
    JsonObject *value = NULL;

    if (!json_object_object_get_ex(t->object, name, &value) ||
        !json_object_is_type(value, json_type_int) ||
        json_object_get_int64(value) < (int64_t)min ||
        json_object_get_uint64(value) > max) {
        return refuse(
            t, error, "\"%s\" is %s, wanted a number from %" PRIu64 " to %" PRIu64, name,
            value != NULL ? json_object_to_json_string(value) : "not there", min, max);
    }
    *number = json_object_get_uint64(value);
    return true;
}

/* Member @name, or NULL: none, or no text. */
static const char *
get_text(const QmigTimeline *t, const char *name)
{
    JsonObject *value = NULL;

    return json_object_object_get_ex(t->object, name, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : NULL;
}

static bool
has(const QmigTimeline *t, const char *name)
{
    return json_object_object_get_ex(t->object, name, NULL);
}

/* The first line. */
static bool
read_head(QmigTimeline *t, GError **error)
{
    uint64_t version;
    bool got;

    if (!read_line(t, &got, error)) {
        return false;
    }
    if (!got) {
        return true; /* not even that was written */
    }
    if (!parse_line(t, error)) {
        return false;
    }
    if (g_strcmp0(get_text(t, "format"), "qmig-capture") != 0) {
        return refuse(t, error, "no {\"format\":\"qmig-capture\",…}");
    }
    if (!get_number(t, "version", 1, INT64_MAX, &version, error)) {
        return false;
    }
    return version == 1 ||
           qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                          "%s:%u: version %" PRIu64 " of the format, this qmig reads 1",
                          t->path, t->line, version);
}

/* ---- entries ---------------------------------------------------------------------------- */

/* The line's channel number to an index. */
static bool
take_channel(QmigTimeline *t, QmigTimelineEntry *entry, GError **error)
{
    uint64_t number;

    if (!get_number(t, "channel", 0, UINT32_MAX, &number, error)) {
        return false;
    }
    for (unsigned i = 0; i < t->n_channels; i++) {
        if (qmig_capture_channel(t->capture, i)->number == number) {
            entry->channel = i;
            return true;
        }
    }
    return refuse(t, error, "channel %" PRIu64 " has no file", number);
}

static bool
take_open(QmigTimeline *t, QmigTimelineEntry *entry, GError **error)
{
    const QmigCaptureChannel *file = qmig_capture_channel(t->capture, entry->channel);
    Channel *channel = &t->channels[entry->channel];
    const char *kind = get_text(t, "open");
    uint64_t id;

    if (g_strcmp0(kind, file->kind) != 0) {
        return refuse(t, error, "channel %u is opened as \"%s\", its file is %s",
                      file->number, kind != NULL ? kind : "?", file->forward);
    }
    if (channel->is_open) {
        return refuse(t, error, "channel %u is open already", file->number);
    }
    if (has(t, "id")) {
        if (!get_number(t, "id", 0, MULTIFD_ID_MAX, &id, error)) {
            return false;
        }
        entry->id = (int)id;
    }
    channel->is_open = true;
    entry->kind = QMIG_TIMELINE_OPEN;
    return true;
}

static bool
check_way(const QmigTimeline *t, const QmigTimelineEntry *entry, GError **error)
{
    unsigned number = qmig_capture_channel(t->capture, entry->channel)->number;
    const Channel *channel = &t->channels[entry->channel];

    if (!channel->is_open) {
        return refuse(t, error, "channel %u is not open", number);
    }
    if (channel->ways[entry->is_reverse].has_ended) {
        return refuse(t, error, "channel %u: \"%s\" has ended before", number,
                      entry->is_reverse ? "reverse" : "forward");
    }
    return true;
}

static bool
take_data(QmigTimeline *t, QmigTimelineEntry *entry, GError **error)
{
    Way *way = &t->channels[entry->channel].ways[entry->is_reverse];
    uint64_t claimed;

    if (!check_way(t, entry, error) ||
        !get_number(t, entry->is_reverse ? "reverse" : "forward", 1, INT64_MAX, &claimed,
                    error)) {
        return false;
    }
    entry->kind = QMIG_TIMELINE_DATA;
    entry->offset = way->done;
    entry->length = MIN(claimed, way->size - way->done);
    way->done += entry->length;
    t->missing += claimed - entry->length;
    return true;
}

static bool
take_end(QmigTimeline *t, QmigTimelineEntry *entry, const char *name, GError **error)
{
    const char *way = get_text(t, name);

    entry->is_reverse = g_strcmp0(way, "reverse") == 0;
    if (!entry->is_reverse && g_strcmp0(way, "forward") != 0) {
        return refuse(t, error, "\"%s\" is neither \"forward\" nor \"reverse\"", name);
    }
    if (!check_way(t, entry, error)) {
        return false;
    }
    t->channels[entry->channel].ways[entry->is_reverse].has_ended = true;
    entry->kind = strcmp(name, "eof") == 0 ? QMIG_TIMELINE_EOF : QMIG_TIMELINE_RESET;
    return true;
}

/* The line in object to @entry. */
static bool
take_line(QmigTimeline *t, QmigTimelineEntry *entry, GError **error)
{
    /* Time does not go back. */
    if (!get_number(t, "t", t->t_us, INT64_MAX, &t->t_us, error)) {
        return false;
    }
    *entry = (QmigTimelineEntry){ .t_us = t->t_us, .line = t->line, .id = -1 };
    if (has(t, "stopped")) {
        entry->kind = QMIG_TIMELINE_STOPPED;
        entry->text = get_text(t, "stopped");
        return entry->text != NULL || refuse(t, error, "\"stopped\" without a reason");
    }
    if (!take_channel(t, entry, error)) {
        return false;
    }
    if (has(t, "open")) {
        return take_open(t, entry, error);
    }
    if (has(t, "forward") || has(t, "reverse")) {
        entry->is_reverse = has(t, "reverse");
        return take_data(t, entry, error);
    }
    if (has(t, "eof") || has(t, "reset")) {
        return take_end(t, entry, has(t, "eof") ? "eof" : "reset", error);
    }
    return refuse(t, error,
                  "nothing happens: none of open, forward, reverse, eof, reset, stopped");
}

/* What no line tells: first all that was sent, then the answers. */
static void
take_rest(QmigTimeline *t, QmigTimelineEntry *entry)
{
    *entry = (QmigTimelineEntry){ .kind = QMIG_TIMELINE_END, .t_us = t->t_us, .id = -1 };
    for (unsigned i = 0; i < 2 * t->n_channels; i++) {
        Channel *channel = &t->channels[i % t->n_channels];

        entry->channel = i % t->n_channels;
        entry->is_reverse = i >= t->n_channels;
        if (!channel->is_open) {
            channel->is_open = true;
            entry->kind = QMIG_TIMELINE_OPEN;
            return;
        }
        Way *way = &channel->ways[entry->is_reverse];
        if (way->done < way->size) {
            entry->kind = QMIG_TIMELINE_DATA;
            entry->offset = way->done;
            entry->length = way->size - way->done;
            way->done = way->size;
            return;
        }
    }
    entry->channel = 0;
    entry->is_reverse = false;
}

bool
qmig_timeline_next(QmigTimeline *t, QmigTimelineEntry *entry, GError **error)
{
    bool got;

    do {
        if (!read_line(t, &got, error)) {
            return false;
        }
        if (!got) {
            take_rest(t, entry);
            return true;
        }
        if (!parse_line(t, error) || !take_line(t, entry, error)) {
            return false;
        }
        /* A piece of which nothing came to the file is none. */
    } while (entry->kind == QMIG_TIMELINE_DATA && entry->length == 0);
    return true;
}

/* ---- the whole -------------------------------------------------------------------------- */

static bool
get_size(const char *path, uint64_t *size, GError **error)
{
    struct stat st;

    if (path == NULL) {
        return true;
    }
    if (stat(path, &st) != 0) {
        return qmig_set_error_errno(error, errno, "%s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: not a plain file", path);
    }
    *size = (uint64_t)st.st_size;
    return true;
}

QmigTimeline *
qmig_timeline_open(const QmigCapture *capture, GError **error)
{
    g_autoptr(QmigTimeline) t = g_new0(QmigTimeline, 1);
    g_autofree char *directory = NULL;

    t->capture = capture;
    t->n_channels = qmig_capture_n_channels(capture);
    t->channels = g_new0(Channel, t->n_channels);
    for (unsigned i = 0; i < t->n_channels; i++) {
        const QmigCaptureChannel *channel = qmig_capture_channel(capture, i);

        if (!get_size(channel->forward, &t->channels[i].ways[0].size, error) ||
            !get_size(channel->reverse, &t->channels[i].ways[1].size, error)) {
            return NULL;
        }
    }
    directory = g_path_get_dirname(qmig_capture_channel(capture, 0)->forward);
    t->path = g_build_filename(directory, "timeline.jsonl", NULL);
    t->file = fopen(t->path, "re");
    if (t->file == NULL && errno != ENOENT) {
        qmig_set_error_errno(error, errno, "%s", t->path);
        return NULL;
    }
    return read_head(t, error) ? g_steal_pointer(&t) : NULL;
}

void
qmig_timeline_free(QmigTimeline *t)
{
    if (t == NULL) {
        return;
    }
    g_clear_pointer(&t->file, fclose);
    g_clear_pointer(&t->object, qmig_json_put);
    g_free(t->channels);
    g_free(t->path);
    g_free(t);
}

uint64_t
qmig_timeline_bytes(const QmigTimeline *t, unsigned channel, bool is_reverse)
{
    g_assert(channel < t->n_channels);
    return t->channels[channel].ways[is_reverse].size;
}

uint64_t
qmig_timeline_missing(const QmigTimeline *t)
{
    return t->missing;
}
