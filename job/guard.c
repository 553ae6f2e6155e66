/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The part that guards the source meanwhile: one qmig at a time for a guest (a lock on this
 * host), and on demand no change of its devices and no I/O error.
 *
 * QEMU itself refuses hot-plug while it migrates; not while disks are copied before that, and an
 * unplug asked for earlier may come to its end at any time.
 */
#include "job/control.h"
#include "job/part.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LOOK_US = G_USEC_PER_SEC,
    /* A lock that others take and remove at this very moment. */
    MAX_LOCK_TRIES = 16,
};

struct QmigGuard {
    QmigFd lock;
    char *lock_path;
    char *devices; /* as text; NULL: changes do not matter */
    int64_t looked_us;
    bool error_told;
};

/* ---- the lock --------------------------------------------------------------------------- */

/* What this guest, and no other one, is known by on this host. */
static char *
lock_name(const QmigJob *job)
{
    g_autofree char *address = qmig_address_to_string(job->options->source);
    g_autofree char *key = NULL, *sum = NULL;
    struct ucred peer;

    if (job->source.pidfd >= 0 && qmig_qmp_peer(job->source.qmp, &peer)) {
        key = g_strdup_printf("pid %d", (int)peer.pid);
    } else {
        key = g_strdup_printf("%s %s", job->source.uuid, address);
    }
    sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, key, -1);
    return g_strdup_printf("guest-%.16s.lock", sum);
}

/* Who has it says so in it. */
static int
read_holder(const char *path)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? atoi(text) : 0;
}

/* Whoever had it before may have removed it between our open and our lock. */
static bool
is_still_there(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
           ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* *locked = false without an error: somebody else has it. */
static bool
take_lock(QmigGuard *guard, bool *locked, GError **error)
{
    for (int i = 0; i < MAX_LOCK_TRIES; i++) {
        g_auto(QmigFd)
            fd = open(guard->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            return qmig_set_error_errno(error, errno, "%s", guard->lock_path);
        }
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            *locked = false;
            return errno == EWOULDBLOCK ||
                   qmig_set_error_errno(error, errno, "%s: flock", guard->lock_path);
        }
        if (is_still_there(fd, guard->lock_path)) {
            g_autofree char *pid = g_strdup_printf("%d\n", (int)getpid());
            (void)!ftruncate(fd, 0);
            (void)!write(fd, pid, strlen(pid));
            guard->lock = qmig_fd_steal(&fd);
            *locked = true;
            return true;
        }
    }
    return qmig_set_error(error, QMIG_ERROR_IO, "%s: it is removed again and again",
                          guard->lock_path);
}

static void
lock_guest(QmigJob *job, GString *problems)
{
    g_autofree char *dir = qmig_control_directory();
    g_autofree char *name = lock_name(job);
    g_autoptr(GError) error = NULL;
    bool locked = false;

    job->guard->lock_path = g_build_filename(dir, name, NULL);
    if (g_mkdir_with_parents(dir, 0700) < 0) {
        qmig_set_error_errno(&error, errno, "%s", dir);
    } else if (take_lock(job->guard, &locked, &error) && !locked) {
        qmig_job_problem(problems,
                         "source: another qmig (process %d) works on this guest: see "
                         "qmig status",
                         read_holder(job->guard->lock_path));
    }
    if (error == NULL) {
        return;
    }
    if (job->options->change_protection) {
        qmig_job_problem(problems, "--change-protection: the guest cannot be locked: %s",
                         error->message);
    } else {
        qmig_job_message(job, "the guest is not locked against another qmig: %s",
                         error->message);
    }
}

/* ---- changes ---------------------------------------------------------------------------- */

static JsonObject *
list_children(QmigQmp *qmp, const char *path, GError **error)
{
    JsonObject *arguments = json_object_new_object(), *reply = NULL;

    json_object_object_add(arguments, "path", json_object_new_string(path));
    return qmig_qmp_execute(qmp, "qom-list", arguments, &reply, NULL, error) ? reply
                                                                             : NULL;
}

/* The media of removable drives: those of others do not change, but for a mirror above them. */
static bool
add_media(QmigQmp *qmp, GString *text, GError **error)
{
    g_autoptr(JsonObject) reply = NULL;

    if (!qmig_qmp_execute(qmp, "query-block", NULL, &reply, NULL, error)) {
        return false;
    }
    for (size_t i = 0; json_object_is_type(reply, json_type_array) &&
                       i < json_object_array_length(reply);
         i++) {
        JsonObject *entry = json_object_array_get_idx(reply, i);
        JsonObject *medium = qmig_json_get(entry, "inserted", json_type_object);
        const char *file = qmig_json_string(medium, "file");
        if (qmig_json_bool(entry, "removable", false)) {
            g_string_append_printf(text, "%s: %s\n", qmig_json_string(entry, "qdev"),
                                   file != NULL ? file : "empty");
        }
    }
    return true;
}

/* All that was plugged in, and what lies in the drives, as text. */
static char *
describe_devices(QmigQmp *qmp, GError **error)
{
    static const char *const paths[] = { "/machine/peripheral",
                                         "/machine/peripheral-anon" };
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(JsonObject) list = list_children(qmp, paths[i], error);
        if (list == NULL) {
            return NULL;
        }
        for (size_t j = 0; json_object_is_type(list, json_type_array) &&
                           j < json_object_array_length(list);
             j++) {
            JsonObject *child = json_object_array_get_idx(list, j);
            const char *name = qmig_json_string(child, "name");
            const char *type = qmig_json_string(child, "type");
            g_string_append_printf(text, "%s: %s\n", name != NULL ? name : "?",
                                   type != NULL ? type : "?");
        }
    }
    return add_media(qmp, text, error) ? g_strdup(text->str) : NULL;
}

/* The first line of @a that is not in @b. */
static char *
find_line(const char *a, const char *b)
{
    g_auto(GStrv) lines = g_strsplit(a, "\n", 0), others = g_strsplit(b, "\n", 0);

    for (char **line = lines; *line != NULL; line++) {
        if (!g_strv_contains((const char *const *)others, *line)) {
            return g_strdup(*line);
        }
    }
    return NULL;
}

static bool
check_devices(QmigJob *job, GError **error)
{
    QmigGuard *guard = job->guard;
    g_autofree char *now = NULL, *added = NULL, *gone = NULL;

    if (guard->devices == NULL ||
        (qmig_now_us() - guard->looked_us < LOOK_US && !job->source.device_gone)) {
        return true;
    }
    guard->looked_us = qmig_now_us();
    job->source.device_gone = false;
    now = describe_devices(job->source.qmp, error);
    if (now == NULL) {
        return false;
    }
    if (strcmp(now, guard->devices) == 0) {
        return true;
    }
    added = find_line(now, guard->devices);
    gone = find_line(guard->devices, now);
    return qmig_set_error(error, QMIG_ERROR_STATE,
                          "source: its devices have changed (--change-protection): "
                          "%s%s%s%s",
                          gone != NULL ? "gone " : "", gone != NULL ? gone : "",
                          added != NULL ? (gone != NULL ? ", new " : "new ") : "",
                          added != NULL ? added : "");
}

/* ---- I/O errors ------------------------------------------------------------------------- */

static bool
check_io_errors(QmigJob *job, GError **error)
{
    const char *text = job->source.io_error;

    if (text == NULL) {
        return true;
    }
    if (job->options->abort_on_error) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "source: an I/O error of the guest (--abort-on-error): %s",
                              text);
    }
    if (!job->guard->error_told) {
        job->guard->error_told = true;
        qmig_job_message(job, "source: an I/O error of the guest: %s", text);
    }
    return true;
}

/* ---- the part --------------------------------------------------------------------------- */

static void
guard_check(QmigJob *job, GString *problems)
{
    g_autoptr(GError) error = NULL;

    job->guard = g_new0(QmigGuard, 1);
    job->guard->lock = -1;
    lock_guest(job, problems);
    if (job->options->change_protection) {
        job->guard->looked_us = qmig_now_us();
        job->guard->devices = describe_devices(job->source.qmp, &error);
        if (job->guard->devices == NULL) {
            qmig_job_problem(problems, "%s", error->message);
        }
    }
    if (job->options->abort_on_error && g_str_equal(job->source.run_state, "io-error")) {
        qmig_job_problem(problems, "source: the guest stands still after an I/O error "
                                   "(--abort-on-error)");
    }
}

static bool
guard_watch(QmigJob *job, GError **error)
{
    /* A recovery begins after check: the guest may have changed before. */
    return job->guard == NULL ||
           (check_io_errors(job, error) && check_devices(job, error));
}

/* The lock is removed while it is held: nobody else can have it at that name. */
static void
guard_free(QmigJob *job)
{
    QmigGuard *guard = job->guard;

    if (guard == NULL) {
        return;
    }
    if (guard->lock >= 0) {
        g_unlink(guard->lock_path);
    }
    qmig_fd_clear(&guard->lock);
    g_free(guard->lock_path);
    g_free(guard->devices);
    g_free(guard);
    job->guard = NULL;
}

const QmigPart qmig_guard_part = {
    .name = "guard",
    .check = guard_check,
    .watch = guard_watch,
    .free = guard_free,
};
