/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where control sockets stand: their directory, what dead ones left there, and making one. */
#include "job/control-place.h"

#include "job/control.h"
#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { BACKLOG = 8 };

char *
qmig_control_directory(void)
{
    const char *given = g_getenv("QMIG_RUNTIME_DIR");
    const char *runtime = g_getenv("XDG_RUNTIME_DIR");

    if (given != NULL && given[0] != '\0') {
        return g_strdup(given);
    }
    if (geteuid() == 0) {
        return g_strdup("/run/qmig");
    }
    return runtime != NULL && runtime[0] != '\0'
               ? g_build_filename(runtime, "qmig", NULL)
               : g_strdup_printf("%s/qmig-%u", "/tmp", (unsigned)geteuid());
}

bool
qmig_control_make_directory(const char *path, GError **error)
{
    struct stat st;

    if (g_mkdir_with_parents(path, 0700) < 0 || lstat(path, &st) < 0) {
        return qmig_set_error_errno(error, errno, "directory \"%s\"", path);
    }
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
        (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "\"%s\" is not a directory of this user alone", path);
    }
    qmig_control_sweep(path);
    return true;
}

/*
 * Nobody listens: its process is gone. It was listening before it had this name. A full backlog
 * is somebody's.
 */
static bool
is_dead(const char *path)
{
    g_auto(QmigFd) fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un name = { .sun_family = AF_UNIX };

    return g_strlcpy(name.sun_path, path, sizeof name.sun_path) < sizeof name.sun_path &&
           connect(fd, (struct sockaddr *)&name, sizeof name) < 0 &&
           errno == ECONNREFUSED;
}

/* Who takes a lock here looks afterwards whether the file is still there. */
static void
remove_free_lock(const char *path)
{
    g_auto(QmigFd) fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        g_unlink(path);
    }
}

void
qmig_control_sweep(const char *directory)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        if (g_str_has_suffix(name, ".sock") && is_dead(path)) {
            g_unlink(path);
        } else if (g_str_has_suffix(name, ".lock")) {
            remove_free_lock(path);
        }
    }
}

/*
 * It listens before it has its name, so that who finds the name can connect, and a name without a
 * listener is a dead one's. link(2) does not replace.
 */
int
qmig_control_listen(const char *path, GError **error)
{
    g_auto(QmigFd) fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_autofree char *temporary = g_strdup_printf("%s.%d", path, (int)getpid());
    struct sockaddr_un hidden = { .sun_family = AF_UNIX };
    int linked, why;

    if (g_strlcpy(hidden.sun_path, temporary, sizeof hidden.sun_path) >=
        sizeof hidden.sun_path) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "socket path \"%s\" has %zu bytes, limit %zu", path, strlen(path),
                       sizeof hidden.sun_path - 1 - (strlen(temporary) - strlen(path)));
        return -1;
    }
    g_unlink(temporary);
    /* The mode of the socket becomes that of its file. */
    if (fd < 0 || fchmod(fd, 0600) < 0 ||
        bind(fd, (struct sockaddr *)&hidden, sizeof hidden) < 0 ||
        listen(fd, BACKLOG) < 0) {
        qmig_set_error_errno(error, errno, "\"%s\"", path);
        return -1;
    }
    linked = link(temporary, path);
    if (linked < 0 && errno == EEXIST && is_dead(path)) {
        linked = g_rename(temporary, path);
    }
    why = errno;
    g_unlink(temporary);
    if (linked < 0) {
        qmig_set_error_errno(error, why, "\"%s\"", path);
        return -1;
    }
    return qmig_fd_steal(&fd);
}
