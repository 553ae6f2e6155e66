/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both ends of the tunnel in one process: connections in here, connections out there. */
#ifndef QMIG_TESTS_LINK_WORLD_H
#define QMIG_TESTS_LINK_WORLD_H

#include "proxy/link/far.h"
#include "proxy/link/near.h"
#include "util/error.h"
#include "util/socket.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

/* The door: admits everybody, and can break what it admitted. */
typedef struct {
    QmigFar *far;
    QmigFd listener;
    QmigAddress *address;
    QmigCancel *cancel;
    GThread *thread;
    gint last_fd; /* atomic; of the connection admitted last */
    gint closed;  /* atomic: nobody is let in */
    GMutex lock;  /* guards log */
    GString *log; /* what the far end wrote to it */
} Door;

static bool
take_line(void *data, const char *line)
{
    Door *d = data;

    g_mutex_lock(&d->lock);
    g_string_append_printf(d->log, "%s\n", line);
    g_mutex_unlock(&d->lock);
    return true;
}

static void *
door_thread(void *data)
{
    Door *d = data;
    int fd;

    while ((fd = qmig_socket_accept(d->listener, QMIG_DEADLINE_NEVER, d->cancel, NULL)) >=
           0) {
        QmigFrameHead head;
        QmigBuf *payload = NULL;
        if (g_atomic_int_get(&d->closed)) {
            close(fd);
            continue;
        }
        QmigWire *wire = qmig_wire_new(fd, NULL, "near");
        if (qmig_wire_read(wire, 2000, d->cancel, &head, &payload, NULL)) {
            g_autoptr(GError) error = NULL;
            g_atomic_int_set(&d->last_fd, fd);
            qmig_far_admit(d->far, wire, &head, payload != NULL ? payload->data : NULL,
                           qmig_deadline_in_ms(2000), &error);
            qmig_buf_unref(payload);
        } else {
            qmig_wire_free(wire);
        }
    }
    return NULL;
}

typedef struct {
    char *dir;
    QmigAddress *destination; /* where the test's QEMU listens */
    QmigFd listener;          /* its socket */
    Door door;
    QmigNear *near;
    QmigAddress *entry; /* where the near side listens for main */
} World;

static QmigAddress *
address_in(const World *w, const char *name)
{
    g_autofree char *text = g_strdup_printf("unix:%s/%s", w->dir, name);
    QmigAddress *address = qmig_address_parse(text, NULL);

    g_assert_nonnull(address);
    return address;
}

static void
world_up(World *w, uint32_t deadline_ms, unsigned sessions_max)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) here = NULL, any = qmig_address_parse("tcp:127.0.0.1:0", NULL);

    static const char *const allow[] = { "unix:*/monitor", NULL };

    *w = (World){ .dir = g_dir_make_tmp("qmig-tunnel-XXXXXX", NULL) };
    w->door.log = g_string_new(NULL);
    w->destination = address_in(w, "qemu");
    w->listener = qmig_socket_listen(w->destination, 16, NULL, &error);
    g_assert_no_error(error);
    QmigFarConfig far = { .destination = w->destination,
                          .allow = allow,
                          .log = take_line,
                          .data = &w->door,
                          .sessions_max = sessions_max,
                          .wires_max = 4,
                          .deadline_max_ms = 60000,
                          .cache_max = 64 << 20 };
    w->door.far = qmig_far_new(&far);
    w->door.cancel = qmig_cancel_new();
    w->door.listener = qmig_socket_listen(any, 16, &w->door.address, &error);
    g_assert_no_error(error);
    w->door.thread = g_thread_new("door", door_thread, &w->door);
    const QmigAddress *addresses[] = { w->door.address, NULL };
    QmigNearConfig near = { .far = addresses,
                            .name = "test",
                            .deadline_ms = deadline_ms };
    w->near = qmig_near_new(&near, NULL, &error);
    if (sessions_max == 0) {
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
        return;
    }
    g_assert_no_error(error);
    here = address_in(w, "entry");
    g_assert_true(
        qmig_near_forward(w->near, QMIG_STREAM_MIGRATION, here, NULL, &w->entry, &error));
}

static void
world_down(World *w)
{
    qmig_near_free(w->near);
    qmig_cancel_raise(w->door.cancel);
    g_thread_join(w->door.thread);
    qmig_far_free(w->door.far);
    g_string_free(w->door.log, TRUE);
    qmig_cancel_free(w->door.cancel);
    qmig_fd_clear(&w->door.listener);
    qmig_fd_clear(&w->listener);
    (void)g_unlink(w->destination->path);
    qmig_address_free(w->door.address);
    qmig_address_free(w->destination);
    qmig_address_free(w->entry);
    g_assert_cmpint(g_rmdir(w->dir), ==, 0);
    g_free(w->dir);
}

G_GNUC_UNUSED static int
enter(const World *w)
{
    int fd = qmig_socket_connect(w->entry, qmig_deadline_in_ms(1000), NULL, NULL);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static int
leave(const World *w, int64_t ms)
{
    return qmig_socket_accept(w->listener, qmig_deadline_in_ms(ms), NULL, NULL);
}

static void
say(int fd, const char *text)
{
    g_assert_true(qmig_socket_write_all(fd, text, strlen(text), qmig_deadline_in_ms(2000),
                                        NULL, NULL));
}

static void
hear(int fd, const char *text)
{
    size_t len = strlen(text);
    g_autofree char *got = g_malloc0(len + 1);

    for (size_t n = 0; n < len;) {
        ssize_t m = qmig_socket_read(fd, got + n, len - n, qmig_deadline_in_ms(10000),
                                     NULL, NULL);
        g_assert_cmpint(m, >, 0);
        n += (size_t)m;
    }
    g_assert_cmpstr(got, ==, text);
}

static void
hear_end(int fd)
{
    char byte;

    g_assert_cmpint(
        qmig_socket_read(fd, &byte, 1, qmig_deadline_in_ms(10000), NULL, NULL), ==, 0);
}
/* Every connection of the tunnel breaks, and none can be made. */
G_GNUC_UNUSED static void
break_all(World *w)
{
    while (qmig_link_missing_wire(qmig_near_link(w->near)) >= 0) {
        g_usleep(10000);
    }
    g_atomic_int_set(&w->door.closed, 1);
    for (int fd = g_atomic_int_get(&w->door.last_fd); fd > 2 && fd > w->door.listener;
         fd--) {
        /* Whatever of them are connections of the tunnel. */
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
            peer.ss_family == AF_INET) {
            (void)shutdown(fd, SHUT_RDWR);
        }
    }
}

#endif
