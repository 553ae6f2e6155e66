/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Automatic cleanup for what GLib 2.74 does not cover: file descriptors, json-c objects. */
#ifndef QMIG_UTIL_AUTO_H
#define QMIG_UTIL_AUTO_H

#include <glib.h>
#include <json-c/json.h>
#include <unistd.h>

/* An owned file descriptor; -1 = none. `g_auto(QmigFd) fd = -1;` closes it on every path. */
typedef int QmigFd;

static inline void
qmig_fd_clear(QmigFd *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static inline int
qmig_fd_steal(QmigFd *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigFd, qmig_fd_clear)

/* g_autoptr(JsonObject): one reference, dropped at the end of scope. */
typedef struct json_object JsonObject;

static inline void
qmig_json_put(JsonObject *object)
{
    json_object_put(object);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonObject, qmig_json_put)

#endif
