/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     relay thread:  read -> note -> forward -> write -> read ...
 *                             |                   |
 *                             v                   v
 *                     pending lines (memory)   channel file, then pending -> timeline.jsonl
 *
 * Two locks, so that a note never waits for a disk: `lock` guards the pending lines and is not
 * held across a system call; `file_lock` keeps the lines in order on their way to the file.
 * Memory is bounded: a relay notes one piece and then writes it.
 */
#include "proxy/record.h"

#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

/* A block of any usual file system: room for the last lines on a disk that is full. */
enum { RESERVE = 64 << 10 };

#define TIMELINE "timeline.jsonl"
#define RESERVE_NAME "timeline.reserve"

struct QmigRecordWay {
    QmigRecord *record; /* borrowed */
    unsigned channel;
    bool is_reverse;
    bool has_ended;
    char *name; /* owned; of the file */
    QmigFd
        fd; /* opened with the first byte: most channels have nothing to say in reverse */
};

struct QmigRecord {
    QmigGroup *group; /* borrowed */
    char *directory;  /* owned */
    bool is_ours;     /* the directory was made here */
    QmigFd dir_fd, timeline_fd;
    QmigFd reserve_fd; /* an unlinked file; closing it frees its blocks */
    gint stopped;      /* atomic: an error has ended the recording */
    pthread_mutex_t file_lock;
    pthread_mutex_t lock; /* guards what follows */
    GString *pending;     /* lines not yet in the file */
    GPtrArray *ways;      /* QmigRecordWay *, owned */
    unsigned n_channels;
    int64_t began_us; /* first connection */
};

static const char *
way_name(const QmigRecordWay *way)
{
    return way->is_reverse ? "reverse" : "forward";
}

static void
way_free(void *data)
{
    QmigRecordWay *way = data;

    qmig_fd_clear(&way->fd);
    g_free(way->name);
    g_free(way);
}

/* ---- lines ------------------------------------------------------------------------------ */

static void add_line(QmigRecord *r, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* {"t":…,@fmt} */
static void
add_line(QmigRecord *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    pthread_mutex_lock(&r->lock);
    int64_t now_us = qmig_now_us();
    if (r->began_us == 0) {
        r->began_us = now_us;
    }
    g_string_append_printf(r->pending, "{\"t\":%" PRId64 ",", now_us - r->began_us);
    g_string_append_vprintf(r->pending, fmt, ap);
    g_string_append(r->pending, "}\n");
    pthread_mutex_unlock(&r->lock);
    va_end(ap);
}

/* Return: 0 or an errno. */
static int
write_all(int fd, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            return n == 0 ? ENOSPC : errno;
        }
    }
    return 0;
}

/* Pending lines to the file. Return: 0 or an errno. */
static int
flush_lines(QmigRecord *r)
{
    g_autoptr(GString) lines = NULL;
    g_autoptr(GString) fresh = g_string_new(NULL);
    int err;

    pthread_mutex_lock(&r->file_lock);
    pthread_mutex_lock(&r->lock);
    lines = g_steal_pointer(&r->pending);
    r->pending = g_steal_pointer(&fresh);
    pthread_mutex_unlock(&r->lock);
    err = write_all(r->timeline_fd, lines->str, lines->len);
    pthread_mutex_unlock(&r->file_lock);
    return err;
}

/* The end of the recording, not of the migration. */
static void
stop(QmigRecord *r, const char *name, int err)
{
    g_autoptr(JsonObject) reason = NULL;

    if (!g_atomic_int_compare_and_exchange(&r->stopped, 0, 1)) {
        return;
    }
    qmig_group_notice(r->group, "the recording in %s is not complete: %s: %s",
                      r->directory, name, g_strerror(err));
    g_autofree char *text = g_strdup_printf("%s: %s", name, g_strerror(err));
    reason = json_object_new_string(text);
    add_line(r, "\"stopped\":%s",
             json_object_to_json_string_ext(reason, JSON_C_TO_STRING_PLAIN));
    qmig_fd_clear(&r->reserve_fd);
    /* Should even this not find room, the files still tell what was written. */
    (void)flush_lines(r);
}

static bool
is_stopped(const QmigRecord *r)
{
    return g_atomic_int_get(&r->stopped) != 0;
}

/* ---- ways ------------------------------------------------------------------------------- */

static bool
open_file(QmigRecordWay *way)
{
    if (way->fd < 0) {
        way->fd = openat(way->record->dir_fd, way->name,
                         O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    }
    if (way->fd < 0) {
        stop(way->record, way->name, errno);
    }
    return way->fd >= 0;
}

static QmigRecordWay *
new_way(QmigRecord *r, unsigned channel, const char *kind, bool is_reverse)
{
    QmigRecordWay *way = g_new0(QmigRecordWay, 1);

    way->record = r;
    way->channel = channel;
    way->is_reverse = is_reverse;
    way->fd = -1;
    way->name = g_strdup_printf("%u-%s.%s", channel, kind, way_name(way));
    g_ptr_array_add(r->ways, way);
    return way;
}

void
qmig_record_open(QmigRecord *r, const char *kind, int id, QmigRecordWay **forward,
                 QmigRecordWay **reverse)
{
    g_autofree char *id_text = id >= 0 ? g_strdup_printf(",\"id\":%d", id) : g_strdup("");

    pthread_mutex_lock(&r->lock);
    unsigned channel = r->n_channels++;
    *forward = new_way(r, channel, kind, false);
    *reverse = new_way(r, channel, kind, true);
    pthread_mutex_unlock(&r->lock);
    if (!is_stopped(r)) {
        add_line(r, "\"channel\":%u,\"open\":\"%s\"%s", channel, kind, id_text);
        /* A channel is known by its file, also a silent one. */
        (void)open_file(*forward);
    }
}

void
qmig_record_note(QmigRecordWay *way, size_t len)
{
    if (way != NULL && len > 0 && !is_stopped(way->record)) {
        add_line(way->record, "\"channel\":%u,\"%s\":%zu", way->channel, way_name(way),
                 len);
    }
}

void
qmig_record_write(QmigRecordWay *way, const void *data, size_t len)
{
    int err;

    if (way == NULL || len == 0 || is_stopped(way->record) || !open_file(way)) {
        return;
    }
    err = write_all(way->fd, data, len);
    if (err != 0) {
        stop(way->record, way->name, err);
        return;
    }
    err = flush_lines(way->record);
    if (err != 0) {
        stop(way->record, TIMELINE, err);
    }
}

void
qmig_record_end(QmigRecordWay *way, bool reset)
{
    int err;

    /* An end may be read more than once. */
    if (way == NULL || way->has_ended || is_stopped(way->record)) {
        return;
    }
    way->has_ended = true;
    add_line(way->record, "\"channel\":%u,\"%s\":\"%s\"", way->channel,
             reset ? "reset" : "eof", way_name(way));
    err = flush_lines(way->record);
    if (err != 0) {
        stop(way->record, TIMELINE, err);
    }
}

/* ---- the directory ---------------------------------------------------------------------- */

bool
qmig_record_check(const char *directory, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GDir) dir = g_dir_open(directory, 0, &local);

    if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        return true;
    }
    if (dir == NULL) {
        return qmig_set_error(error, QMIG_ERROR_IO, "%s", local->message);
    }
    return g_dir_read_name(dir) == NULL ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "%s: a recording needs a new or empty directory", directory);
}

bool
qmig_record_choose(const char *option, const char *plugin, const char **directory,
                   GError **error)
{
    if (option != NULL && plugin != NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--record=%s, and a plugin asks for a capture in %s: one is made "
            "of a migration",
            option, plugin);
    }
    *directory = option != NULL ? option : plugin;
    return true;
}

static bool
make_directory(QmigRecord *r, GError **error)
{
    r->is_ours = mkdir(r->directory, 0700) == 0;
    if (!r->is_ours && errno != EEXIST) {
        return qmig_set_error_errno(error, errno, "%s", r->directory);
    }
    if (!qmig_record_check(r->directory, error)) {
        return false;
    }
    r->dir_fd = open(r->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return r->dir_fd >= 0 || qmig_set_error_errno(error, errno, "%s", r->directory);
}

/* Blocks that are given back when the disk is full. Best effort. */
static void
reserve_room(QmigRecord *r)
{
    g_autofree uint8_t *zeros = g_malloc0(RESERVE);

    r->reserve_fd = openat(r->dir_fd, RESERVE_NAME,
                           O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (r->reserve_fd >= 0) {
        (void)unlinkat(r->dir_fd, RESERVE_NAME, 0);
        (void)write_all(r->reserve_fd, zeros, RESERVE);
    }
}

QmigRecord *
qmig_record_new(const char *directory, QmigGroup *group, GError **error)
{
    g_autoptr(QmigRecord) r = g_new0(QmigRecord, 1);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *started = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    int err;

    r->group = group;
    r->directory = g_strdup(directory);
    r->dir_fd = r->timeline_fd = r->reserve_fd = -1;
    r->pending = g_string_new(NULL);
    r->ways = g_ptr_array_new_with_free_func(way_free);
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->file_lock, NULL);
    if (!make_directory(r, error)) {
        return NULL;
    }
    (void)signal(SIGXFSZ, SIG_IGN);
    r->timeline_fd = openat(r->dir_fd, TIMELINE,
                            O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (r->timeline_fd < 0) {
        qmig_set_error_errno(error, errno, "%s/%s", directory, TIMELINE);
        return NULL;
    }
    g_string_append_printf(
        r->pending, "{\"format\":\"qmig-capture\",\"version\":1,\"started\":\"%s\"}\n",
        started);
    err = flush_lines(r);
    if (err != 0) {
        qmig_set_error_errno(error, err, "%s/%s", directory, TIMELINE);
        return NULL;
    }
    reserve_room(r);
    return g_steal_pointer(&r);
}

void
qmig_record_free(QmigRecord *r)
{
    if (r == NULL) {
        return;
    }
    if (r->timeline_fd >= 0) {
        int err = flush_lines(r);
        if (err != 0) {
            stop(r, TIMELINE, err);
        }
    }
    if (r->timeline_fd >= 0 && r->n_channels == 0) {
        (void)unlinkat(r->dir_fd, TIMELINE, 0);
    }
    if (r->is_ours && r->n_channels == 0) {
        (void)rmdir(r->directory);
    }
    g_ptr_array_unref(r->ways);
    qmig_fd_clear(&r->dir_fd);
    qmig_fd_clear(&r->timeline_fd);
    qmig_fd_clear(&r->reserve_fd);
    g_string_free(r->pending, TRUE);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->file_lock);
    g_free(r->directory);
    g_free(r);
}
