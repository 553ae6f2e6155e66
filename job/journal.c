/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal's file: room, lock, lines, fsync. What is written in it is in steps.c. */
#include "job/journal.h"

#include "qmp/client.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum {
    /* A migration writes some 10 KiB; each side's settings are 3 KiB of that. */
    ROOM = 128 * 1024,
    MAX_FILE = 4 * 1024 * 1024,
    MAX_RECORD = 64 * 1024,
    MAX_CANDIDATES = 10000,
    LOCK_TRIES = 15,
    LOCK_POLL_US = 20000,
};

struct QmigJournal {
    char *path;
    QmigFd fd;
    off_t end; /* of the last whole line */
    int n;     /* number of the next record */
};

/* ---- reading ---------------------------------------------------------------------------- */

static bool
read_all(QmigJournal *j, GString *text, GError **error)
{
    struct stat st;

    if (fstat(j->fd, &st) < 0) {
        return qmig_set_error_errno(error, errno, "journal: %s", j->path);
    }
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "journal: %s: no plain file of at most %d bytes", j->path,
                              MAX_FILE);
    }
    g_string_set_size(text, (gsize)st.st_size);
    ssize_t n = pread(j->fd, text->str, text->len, 0);
    if (n < 0) {
        return qmig_set_error_errno(error, errno, "journal: %s: read", j->path);
    }
    g_string_truncate(text, strnlen(text->str, (size_t)n));
    return true;
}

static JsonObject *
parse_line(const char *line, size_t len)
{
    struct json_tokener *tokener = json_tokener_new();
    JsonObject *o = len <= MAX_RECORD ? json_tokener_parse_ex(tokener, line, (int)len)
                                      : NULL;

    json_tokener_free(tokener);
    if (o != NULL && qmig_json_string(o, "step") == NULL) {
        json_object_put(o);
        return NULL;
    }
    return o;
}

/* The lines of @text; what a crash tore off at the end is not one. Sets where to go on. */
static JsonObject *
parse_all(QmigJournal *j, const GString *text, GError **error)
{
    g_autoptr(JsonObject) records = json_object_new_array();
    const char *line = text->str, *end;

    while ((end = strchr(line, '\n')) != NULL) {
        JsonObject *record = parse_line(line, (size_t)(end - line));
        if (record == NULL || qmig_json_int(record, "n", -1) != j->n) {
            json_object_put(record);
            qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                           "journal: %s: line %d is no record of a journal", j->path,
                           j->n + 1);
            return NULL;
        }
        json_object_array_add(records, record);
        j->n++;
        line = end + 1;
    }
    j->end = line - text->str;
    return g_steal_pointer(&records);
}

/* A process that was just killed, or has just begun to be another one, may hold it a moment longer. */
static bool
take_lock(int fd)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        g_usleep(LOCK_POLL_US);
    }
    return false;
}

/* Open, lock, read. */
static QmigJournal *
open_locked(const char *path, int flags, JsonObject **records, GError **error)
{
    g_autoptr(QmigJournal) j = g_new0(QmigJournal, 1);
    g_autoptr(GString) text = g_string_new(NULL);

    j->path = g_strdup(path);
    j->fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (j->fd < 0) {
        qmig_set_error_errno(error, errno, "journal: %s", path);
        return NULL;
    }
    if (!take_lock(j->fd)) {
        qmig_set_error(error, QMIG_ERROR_STATE,
                       "journal: %s: the qmig that writes it still runs", path);
        return NULL;
    }
    if (!read_all(j, text, error)) {
        return NULL;
    }
    *records = parse_all(j, text, error);
    return *records != NULL ? g_steal_pointer(&j) : NULL;
}

QmigJournal *
qmig_journal_open(const char *path, JsonObject **records, GError **error)
{
    g_autoptr(JsonObject) list = NULL;
    g_autoptr(QmigJournal) j = open_locked(path, 0, &list, error);

    if (j == NULL) {
        return NULL;
    }
    if (j->n == 0) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL, "journal: %s: no whole line in it",
                       path);
        return NULL;
    }
    *records = g_steal_pointer(&list);
    return g_steal_pointer(&j);
}

JsonObject *
qmig_journal_last(JsonObject *records, const char *step)
{
    for (size_t i = json_object_array_length(records); i > 0; i--) {
        JsonObject *record = json_object_array_get_idx(records, i - 1);
        if (g_strcmp0(qmig_json_string(record, "step"), step) == 0) {
            return record;
        }
    }
    return NULL;
}

bool
qmig_journal_has_ended(JsonObject *records)
{
    JsonObject *end = qmig_journal_last(records, "end");

    return end != NULL && qmig_json_bool(end, "clear", false);
}

/* ---- writing ---------------------------------------------------------------------------- */

static bool
sync_dir(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_auto(QmigFd) fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return (fd >= 0 && fsync(fd) == 0) ||
           qmig_set_error_errno(error, errno, "journal: %s: fsync", dir);
}

/* Empty it, and take the room: what fails for want of space fails here. */
static bool
take_room(QmigJournal *j, GError **error)
{
    int err;

    if (ftruncate(j->fd, 0) < 0) {
        return qmig_set_error_errno(error, errno, "journal: %s", j->path);
    }
    j->n = 0;
    j->end = 0;
    err = posix_fallocate(j->fd, 0, ROOM);
    if (err != 0) {
        return qmig_set_error_errno(error, err, "journal: %s: room for %d bytes", j->path,
                                    ROOM);
    }
    return fsync(j->fd) == 0
               ? sync_dir(j->path, error)
               : qmig_set_error_errno(error, errno, "journal: %s: fsync", j->path);
}

QmigJournal *
qmig_journal_create(const char *path, GError **error)
{
    bool is_new = access(path, F_OK) < 0;
    g_autoptr(JsonObject) records = NULL;
    g_autoptr(QmigJournal) j = open_locked(path, O_CREAT, &records, error);

    if (j == NULL) {
        return NULL;
    }
    if (j->n > 0 && !qmig_journal_has_ended(records)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "journal: %s: it tells of a migration that has not ended: run "
                       "`qmig recover %s`, or name another file",
                       path, path);
        return NULL;
    }
    if (!take_room(j, error)) {
        if (is_new) {
            unlink(path);
        }
        return NULL;
    }
    return g_steal_pointer(&j);
}

void
qmig_journal_free(QmigJournal *j)
{
    if (j != NULL) {
        qmig_fd_clear(&j->fd);
        g_free(j->path);
        g_free(j);
    }
}

static char *
format_record(const QmigJournal *j, const char *step, JsonObject *members)
{
    g_autoptr(JsonObject) record = json_object_new_object();
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ");

    json_object_object_add(record, "n", json_object_new_int(j->n));
    json_object_object_add(record, "time", json_object_new_string(time));
    json_object_object_add(record, "step", json_object_new_string(step));
    if (members != NULL) {
        json_object_object_foreach(members, key, value)
        {
            json_object_object_add(record, key, json_object_get(value));
        }
    }
    return g_strconcat(
        json_object_to_json_string_ext(record, JSON_C_TO_STRING_PLAIN |
                                                   JSON_C_TO_STRING_NOSLASHESCAPE),
        "\n", NULL);
}

bool
qmig_journal_put(QmigJournal *j, const char *step, JsonObject *members, GError **error)
{
    g_autoptr(JsonObject) owned = members;
    g_autofree char *line = format_record(j, step, owned);
    /* With its NUL: whatever an earlier, failed write left behind it is not read. */
    size_t len = strlen(line), done = 0;

    if (len > MAX_RECORD || j->end + (off_t)len > MAX_FILE) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "journal: %s: step \"%s\" of %zu bytes is too long",
                              j->path, step, len);
    }
    while (done <= len) {
        ssize_t n = pwrite(j->fd, line + done, len + 1 - done, j->end + (off_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            int err = n < 0 ? errno : ENOSPC;
            /* A torn line is no line; the next one is written over it. */
            return qmig_set_error_errno(error, err, "journal: %s: step \"%s\"", j->path,
                                        step);
        }
        done += (size_t)n;
    }
    j->end += (off_t)len;
    j->n++;
    return true;
}

bool
qmig_journal_append(QmigJournal *j, const char *step, JsonObject *members, GError **error)
{
    if (!qmig_journal_put(j, step, members, error)) {
        return false;
    }
    return fdatasync(j->fd) == 0 ||
           qmig_set_error_errno(error, errno, "journal: %s: step \"%s\": fdatasync",
                                j->path, step);
}

void
qmig_journal_remove(QmigJournal *j)
{
    unlink(j->path);
}

const char *
qmig_journal_path(const QmigJournal *j)
{
    return j->path;
}

/* ---- where they are --------------------------------------------------------------------- */

char *
qmig_journal_default_dir(void)
{
    const char *state = g_getenv("XDG_STATE_HOME");

    if (state != NULL && g_path_is_absolute(state)) {
        return g_build_filename(state, "qmig", NULL);
    }
    return geteuid() == 0
               ? g_strdup("/var/lib/qmig")
               : g_build_filename(g_get_home_dir(), ".local", "state", "qmig", NULL);
}

char *
qmig_journal_default_path(const char *guest, GError **error)
{
    g_autofree char *dir = qmig_journal_default_dir();
    g_autofree char *word = g_strndup(guest, 40);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y%m%dT%H%M%S.%f");
    g_autofree char *name = NULL;

    if (g_mkdir_with_parents(dir, 0700) < 0) {
        qmig_set_error_errno(error, errno, "journal: %s", dir);
        return NULL;
    }
    g_strcanon(word, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_", '_');
    name = g_strdup_printf("%s-%s-%d.journal", time, word[0] != '\0' ? word : "guest",
                           (int)getpid());
    return g_build_filename(dir, name, NULL);
}

static bool
names_qmp(JsonObject *records, const char *qmp)
{
    static const char *const sides[] = { "source", "destination" };
    JsonObject *begin = qmig_journal_last(records, "begin");

    for (size_t i = 0; begin != NULL && i < G_N_ELEMENTS(sides); i++) {
        JsonObject *side = qmig_json_get(begin, sides[i], json_type_object);
        if (side != NULL && g_strcmp0(qmig_json_string(side, "qmp"), qmp) == 0) {
            return true;
        }
    }
    return false;
}

/* One that is locked counts: the caller will hear that its qmig runs. */
static bool
is_candidate(const char *path, const char *qmp)
{
    g_autoptr(QmigJournal) j = g_new0(QmigJournal, 1);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(JsonObject) records = NULL;

    j->path = g_strdup(path);
    j->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    if (j->fd < 0 || !read_all(j, text, NULL)) {
        return false;
    }
    records = parse_all(j, text, NULL);
    return records != NULL && !qmig_journal_has_ended(records) && names_qmp(records, qmp);
}

char *
qmig_journal_find(const char *qmp, GError **error)
{
    g_autofree char *dir_name = qmig_journal_default_dir();
    g_autoptr(GDir) dir = g_dir_open(dir_name, 0, NULL);
    g_autofree char *best = NULL;
    const char *name;

    for (int i = 0; dir != NULL && i < MAX_CANDIDATES; i++) {
        name = g_dir_read_name(dir);
        if (name == NULL) {
            break;
        }
        g_autofree char *path = g_build_filename(dir_name, name, NULL);
        /* Names begin with the time. */
        if (g_str_has_suffix(name, ".journal") &&
            (best == NULL || strcmp(path, best) > 0) && is_candidate(path, qmp)) {
            g_free(g_steal_pointer(&best));
            best = g_steal_pointer(&path);
        }
    }
    if (best == NULL) {
        qmig_set_error(error, QMIG_ERROR_STATE,
                       "%s: no journal in %s tells of an unfinished migration with it: "
                       "give the journal's file, if it was written elsewhere",
                       qmp, dir_name);
        return NULL;
    }
    return g_steal_pointer(&best);
}
