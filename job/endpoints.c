/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private sockets in a private directory: nobody else on the host can join the migration. */
#include "job/endpoints.h"

#include "util/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A sub-directory that only the user of the QEMU behind @qmp (and we) can use. */
static char *
make_room(const char *dir, const char *name, const QmigQmp *qmp, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    struct ucred peer;

    if (mkdir(path, 0700) < 0) {
        qmig_set_error_errno(error, errno, "%s: mkdir", path);
        return NULL;
    }
    if (geteuid() == 0 && qmig_qmp_peer(qmp, &peer) && peer.uid != 0 &&
        chown(path, peer.uid, peer.gid) < 0) {
        qmig_set_error_errno(error, errno, "%s: chown", path);
        return NULL;
    }
    return g_steal_pointer(&path);
}

static bool
make_dir(QmigEndpoints *e, GError **error)
{
    if (e->dir != NULL) {
        return true;
    }
    e->dir = g_dir_make_tmp("qmig-XXXXXX", error);
    /* Others may pass through to the room that is theirs, not look around. */
    return e->dir != NULL && (chmod(e->dir, 0711) == 0 ||
                              qmig_set_error_errno(error, errno, "%s: chmod", e->dir));
}

static QmigAddress *
private_socket(QmigEndpoints *e, const char *room, const QmigQmp *qmp, GError **error)
{
    g_autofree char *path = NULL, *socket = NULL;

    if (!make_dir(e, error)) {
        return NULL;
    }
    path = make_room(e->dir, room, qmp, error);
    if (path == NULL) {
        return NULL;
    }
    socket = g_build_filename(path, "migrate.sock", NULL);
    return qmig_address_new_unix(socket);
}

/* Where the destination listens: on the host part of its own QMP address. */
static QmigAddress *
destination_address(QmigEndpoints *e, const QmigJobOptions *options, const QmigQmp *qmp,
                    GError **error)
{
    if (options->migrate_uri != NULL) {
        return qmig_address_copy(options->migrate_uri);
    }
    return options->destination->kind == QMIG_ADDRESS_UNIX
               ? private_socket(e, "destination", qmp, error)
               : qmig_address_new_tcp(options->destination->host, 0);
}

static QmigAddress *
proxy_address(QmigEndpoints *e, const QmigJobOptions *options, const QmigQmp *qmp,
              GError **error)
{
    QmigAddress *address;

    if (options->listen != NULL) {
        return qmig_address_copy(options->listen);
    }
    if (options->source->kind == QMIG_ADDRESS_UNIX) {
        return private_socket(e, "source", qmp, error);
    }
    address = qmig_qmp_local_address(qmp);
    if (address == NULL) {
        qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "proxy: no address the source could reach is known; give one by --listen");
    }
    return address;
}

bool
qmig_endpoints_choose(QmigEndpoints *e, const QmigJobOptions *options,
                      const QmigQmp *source, const QmigQmp *destination, GError **error)
{
    struct ucred peer;

    e->source_uid = qmig_qmp_peer(source, &peer) ? peer.uid : (uid_t)-1;
    e->destination = destination_address(e, options, destination, error);
    if (e->destination == NULL) {
        return false;
    }
    if (!options->direct) {
        e->proxy = proxy_address(e, options, source, error);
    }
    return options->direct || e->proxy != NULL;
}

bool
qmig_endpoints_admit_source(const QmigEndpoints *e, GError **error)
{
    if (e->proxy == NULL || e->proxy->kind != QMIG_ADDRESS_UNIX || geteuid() != 0 ||
        e->source_uid == 0 || e->source_uid == (uid_t)-1) {
        return true;
    }
    return chown(e->proxy->path, e->source_uid, (gid_t)-1) == 0 ||
           qmig_set_error_errno(error, errno, "%s: chown", e->proxy->path);
}

void
qmig_endpoints_clear(QmigEndpoints *e)
{
    static const char *const rooms[] = { "source", "destination" };

    for (size_t i = 0; e->dir != NULL && i < G_N_ELEMENTS(rooms); i++) {
        g_autofree char *room = g_build_filename(e->dir, rooms[i], NULL);
        g_autofree char *socket = g_build_filename(room, "migrate.sock", NULL);
        g_unlink(socket);
        g_rmdir(room);
    }
    if (e->dir != NULL) {
        g_rmdir(e->dir);
    }
    g_clear_pointer(&e->dir, g_free);
    g_clear_pointer(&e->destination, qmig_address_free);
    g_clear_pointer(&e->proxy, qmig_address_free);
}
