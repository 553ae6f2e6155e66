/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See output.h. */
#include "save/output.h"

#include "save/io.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool
open_directly(QmigSaveOutput *out, GError **error)
{
    bool is_stdout = strcmp(out->path, "-") == 0;

    out->fd = is_stdout ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                        : open(out->path, O_WRONLY | O_CLOEXEC);
    if (out->fd < 0) {
        return qmig_set_error_errno(error, errno, "%s: open", out->path);
    }
    out->restore_blocking = qmig_io_set_nonblocking(out->fd, true);
    return true;
}

static bool
choose_partial(QmigSaveOutput *out, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(out->path);
    g_autofree char *name = g_path_get_basename(out->path);
    g_autofree char *hidden = g_strdup_printf(".%s.partial-XXXXXX", name);

    out->partial = g_build_filename(folder, hidden, NULL);
    out->fd = g_mkstemp_full(out->partial, O_RDWR | O_CLOEXEC, 0600);
    if (out->fd < 0) {
        int err = errno;
        g_clear_pointer(&out->partial, g_free);
        return qmig_set_error_errno(error, err, "%s: create beside it", out->path);
    }
    return true;
}

bool
qmig_save_output_open(QmigSaveOutput *out, const char *path, bool create, GError **error)
{
    struct stat info;

    *out = (QmigSaveOutput){ .path = g_strdup(path), .fd = -1 };
    if (strcmp(path, "-") == 0 || (stat(path, &info) == 0 && !S_ISREG(info.st_mode))) {
        return open_directly(out, error);
    }
    if (!choose_partial(out, error)) {
        return false;
    }
    if (!create) {
        /* The name has been proven to be ours. */
        unlink(out->partial);
        qmig_fd_clear(&out->fd);
    }
    return true;
}

/* A rename is on the disk when its directory is. */
static bool
sync_folder(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_auto(QmigFd) fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return (fd >= 0 && fsync(fd) == 0) ||
           qmig_set_error_errno(error, errno, "%s: sync", folder);
}

bool
qmig_save_output_commit(QmigSaveOutput *out, GError **error)
{
    if (out->fd < 0) {
        out->fd = open(out->partial, O_RDWR | O_CLOEXEC);
        if (out->fd < 0) {
            return qmig_set_error_errno(error, errno, "%s: open", out->partial);
        }
    }
    /* A pipe or device need not know fsync(2): EINVAL. */
    if (fsync(out->fd) < 0 && (out->partial != NULL || errno != EINVAL)) {
        return qmig_set_error_errno(error, errno, "%s: sync", out->path);
    }
    if (out->partial == NULL) {
        return true;
    }
    if (rename(out->partial, out->path) < 0) {
        return qmig_set_error_errno(error, errno, "%s: rename to %s", out->partial,
                                    out->path);
    }
    g_clear_pointer(&out->partial, g_free);
    return sync_folder(out->path, error);
}

void
qmig_save_output_clear(QmigSaveOutput *out)
{
    if (out->partial != NULL) {
        unlink(out->partial);
    }
    if (out->restore_blocking) {
        qmig_io_set_nonblocking(out->fd, false);
    }
    qmig_fd_clear(&out->fd);
    g_free(out->partial);
    g_free(out->path);
    *out = (QmigSaveOutput){ .fd = -1 };
}
