/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Part: the definition. It is written beside its new place before the guest moves, gets its name
 * when the guest has arrived, and only then is the old one removed:
 *
 *     prepare   FILE -> TO.qmig-new     a full disk is found here
 *     done      TO.qmig-new -> TO, FILE is removed
 *     undo      TO.qmig-new is removed
 */
#include "job/definition.h"

#include "job/part.h"
#include "util/error.h"
#include "util/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEFINITION = 16 << 20, CONNECT_TIMEOUT_MS = 2000 };

static bool
read_file(const char *path, char **text, gsize *len, GError **error)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return qmig_set_error_errno(error, errno, "definition: %s", path);
    }
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_DEFINITION) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "definition: %s: not a file of at most %d bytes", path,
                              MAX_DEFINITION);
    }
    if (!g_file_get_contents(path, text, len, error)) {
        g_prefix_error(error, "definition: ");
        return false;
    }
    return true;
}

static bool
have_same_contents(const char *a, const char *b)
{
    g_autofree char *first = NULL, *second = NULL;
    gsize n, m;

    return read_file(a, &first, &n, NULL) && read_file(b, &second, &m, NULL) && n == m &&
           memcmp(first, second, n) == 0;
}

/* Nothing is touched; @problem is set to what is wrong. */
static bool
is_possible(const QmigJobOptions *o, GError **error)
{
    g_autofree char *text = NULL, *directory = NULL;
    struct stat from, to;
    gsize len;

    if (!read_file(o->definition, &text, &len, error)) {
        return false;
    }
    if (o->definition_to == NULL) {
        return o->unsafe ||
               qmig_set_error(error, QMIG_ERROR_STATE,
                              "definition: %s would be removed, and no copy be left: add "
                              "--persistent --definition-to FILE, or --unsafe",
                              o->definition);
    }
    directory = g_path_get_dirname(o->definition_to);
    if (access(directory, W_OK | X_OK) < 0) {
        return qmig_set_error_errno(error, errno, "definition: %s", directory);
    }
    if (stat(o->definition_to, &to) == 0) {
        if (stat(o->definition, &from) == 0 && from.st_dev == to.st_dev &&
            from.st_ino == to.st_ino) {
            return qmig_set_error(error, QMIG_ERROR_STATE,
                                  "definition: %s and %s are one file", o->definition,
                                  o->definition_to);
        }
        return have_same_contents(o->definition, o->definition_to) ||
               qmig_set_error(error, QMIG_ERROR_STATE,
                              "definition: %s exists, and is another: remove it, or name "
                              "another place",
                              o->definition_to);
    }
    return true;
}

static char *
staged_name(const QmigJobOptions *o)
{
    return g_strdup_printf("%s.qmig-new", o->definition_to);
}

static bool
write_all(int fd, const char *text, gsize len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        text += MAX(n, 0);
        len -= (gsize)MAX(n, 0);
    }
    return fsync(fd) == 0;
}

/* Write the copy beside its place. */
static bool
stage(const QmigJobOptions *o, GError **error)
{
    g_autofree char *text = NULL, *staged = NULL;
    g_auto(QmigFd) fd = -1;
    struct stat st;
    gsize len;

    if (o->definition_to == NULL) {
        return true;
    }
    staged = staged_name(o);
    if (!read_file(o->definition, &text, &len, error)) {
        return false;
    }
    if (stat(o->definition, &st) < 0) {
        return qmig_set_error_errno(error, errno, "definition: %s", o->definition);
    }
    fd = open(staged, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
              st.st_mode & 0777);
    if (fd < 0 || !write_all(fd, text, len)) {
        int number = errno;
        g_unlink(staged);
        return qmig_set_error_errno(error, number, "definition: %s", staged);
    }
    return true;
}

static void
sync_directory(const char *path)
{
    g_autofree char *directory = g_path_get_dirname(path);
    g_auto(QmigFd) fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!fsync(fd);
    }
}

/* The copy gets its name, the old one goes. */
static bool
finish(const QmigJobOptions *o, GError **error)
{
    if (o->definition_to != NULL) {
        g_autofree char *staged = staged_name(o);

        if (!have_same_contents(o->definition, staged)) {
            g_unlink(staged);
            return qmig_set_error(error, QMIG_ERROR_STATE,
                                  "definition: %s was changed meanwhile: it is not "
                                  "copied, and not removed",
                                  o->definition);
        }
        if (rename(staged, o->definition_to) < 0) {
            return qmig_set_error_errno(error, errno, "definition: %s, copied to %s",
                                        o->definition_to, staged);
        }
        sync_directory(o->definition_to);
    }
    if (o->undefine_source && g_unlink(o->definition) < 0) {
        return qmig_set_error_errno(error, errno, "definition: %s is not removed",
                                    o->definition);
    }
    return true;
}

static void
drop_staged(const QmigJobOptions *o)
{
    if (o->definition_to != NULL) {
        g_autofree char *staged = staged_name(o);
        g_unlink(staged);
    }
}

/* ---- with a guest ------------------------------------------------------------------------ */

static void
check(QmigJob *job, GString *problems)
{
    g_autoptr(GError) error = NULL;

    if (job->options->definition != NULL && !is_possible(job->options, &error)) {
        qmig_job_problem(problems, "%s", error->message);
    }
}

static bool
prepare(QmigJob *job, GError **error)
{
    if (job->options->definition == NULL) {
        return true;
    }
    job->definition_staged = stage(job->options, error);
    return job->definition_staged;
}

static void
done(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    if (job->definition_staged && !finish(job->options, &error)) {
        qmig_job_message(job, "%s", error->message);
    }
}

static void
undo(QmigJob *job)
{
    if (job->definition_staged) {
        drop_staged(job->options);
    }
}

static char *
outside(const QmigJob *job)
{
    const QmigJobOptions *o = job->options;
    bool copied = o->definition != NULL && o->definition_to != NULL;
    bool removed = o->definition != NULL && o->undefine_source;

    return copied || removed ? g_strdup_printf("the definition %s will be %s%s%s%s",
                                               o->definition, copied ? "copied to " : "",
                                               copied ? o->definition_to : "",
                                               copied && removed ? ", and " : "",
                                               removed ? "removed at the end" : "")
                             : NULL;
}

const QmigPart qmig_definition_part = {
    .name = "definition",
    .outside = outside,
    .check = check,
    .prepare = prepare,
    .done = done,
    .undo = undo,
};

/* ---- without ------------------------------------------------------------------------------- */

/* Nobody listens at its monitor: only then is the guest off. */
static bool
is_off(const QmigAddress *source, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(CONNECT_TIMEOUT_MS);
    g_autoptr(GError) local = NULL;
    g_auto(QmigFd) fd = qmig_socket_connect(source, deadline, NULL, &local);
    g_autofree char *text = qmig_address_to_string(source);

    if (fd >= 0) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE,
            "source: a QEMU answers at %s: --offline is for a guest that "
            "is shut off; leave it out to move this one as it runs",
            text);
    }
    if (strstr(local->message, g_strerror(ECONNREFUSED)) != NULL ||
        strstr(local->message, g_strerror(ENOENT)) != NULL) {
        return true;
    }
    return qmig_set_error(error, QMIG_ERROR_STATE,
                          "source: that no QEMU runs is not proven: %s", local->message);
}

bool
qmig_definition_move(const QmigJobOptions *options, GError **error)
{
    if (!is_off(options->source, error) || !is_possible(options, error) ||
        !stage(options, error)) {
        return false;
    }
    if (!finish(options, error)) {
        drop_staged(options);
        return false;
    }
    return true;
}
