/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private sockets in a private directory: nobody else on the host can join the migration.
 *
 *     qmig-XXXXXX/                   0711, ours: others pass through, and see nothing
 *         source/migrate.sock        the proxy listens; the socket is the source QEMU's user's
 *         destination/migrate.sock   the destination listens; the directory is its user's
 *         destination/disks.sock     it serves its disks; the socket is the source QEMU's user's
 */
#include "job/endpoints.h"

#include "util/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char socket_name[] = "migrate.sock";
static const char disks_name[] = "disks.sock";

static bool
make_dir(QmigEndpoints *e, GError **error)
{
    if (e->dir != NULL) {
        return true;
    }
    if (e->pretend) {
        e->dir = g_build_filename(g_get_tmp_dir(), "qmig-XXXXXX", NULL);
        return true;
    }
    e->dir = g_dir_make_tmp("qmig-XXXXXX", error);
    return e->dir != NULL && (chmod(e->dir, 0711) == 0 ||
                              qmig_set_error_errno(error, errno, "%s: chmod", e->dir));
}

/* The path of a socket in a room of its own that only @owner's user (and we) can write to. */
static QmigAddress *
private_socket(QmigEndpoints *e, const char *room, const QmigQmp *owner,
               const char *option, GError **error)
{
    g_autofree char *path = NULL, *socket = NULL;
    struct ucred peer;
    bool foreign = qmig_qmp_peer(owner, &peer) && peer.uid != 0 && peer.uid != geteuid();

    if (foreign && geteuid() != 0) {
        qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "%s: its QEMU runs as another user (uid %u): a private socket for it "
            "takes root; give an address by %s",
            room, (unsigned)peer.uid, option);
        return NULL;
    }
    if (!make_dir(e, error)) {
        return NULL;
    }
    path = g_build_filename(e->dir, room, NULL);
    socket = g_build_filename(path, socket_name, NULL);
    if (strlen(socket) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: too long for a socket: set TMPDIR to something shorter",
                       socket);
        return NULL;
    }
    if (!e->pretend &&
        (mkdir(path, 0711) < 0 || (foreign && chown(path, peer.uid, peer.gid) < 0))) {
        qmig_set_error_errno(error, errno, "%s", path);
        return NULL;
    }
    return qmig_address_new_unix(socket);
}

static bool
is_wildcard(const QmigAddress *address)
{
    return address->kind == QMIG_ADDRESS_TCP &&
           (address->host[0] == '\0' || strcmp(address->host, "0.0.0.0") == 0 ||
            strcmp(address->host, "::") == 0);
}

/* On the destination's host, of which only the place of its monitor is known. */
static QmigAddress *
beside(const QmigAddress *monitor, const char *suffix, const char *option, GError **error)
{
    g_autofree char *path = g_strconcat(monitor->path, suffix, NULL);

    if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: too long for a socket: give another by %s", path, option);
        return NULL;
    }
    return qmig_address_new_unix(path);
}

/* Where the destination listens: on the host of its own monitor, unless the user said. */
static bool
choose_destination(QmigEndpoints *e, const QmigJobOptions *options, const QmigQmp *qmp,
                   GError **error)
{
    const QmigAddress *monitor = options->destination;

    if (options->migrate_uri != NULL) {
        e->listen = qmig_address_copy(options->migrate_uri);
    } else if (options->destination_via && monitor->kind == QMIG_ADDRESS_UNIX) {
        e->listen = beside(monitor, ".migrate", "--migrateuri", error);
    } else if (monitor->kind == QMIG_ADDRESS_TCP) {
        e->listen = qmig_address_new_tcp(monitor->host, 0);
    } else if (options->direct && options->via->len == 0 &&
               options->source->kind == QMIG_ADDRESS_TCP) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--direct from a source on another host: say by --migrateuri "
            "where the destination shall listen");
    } else {
        e->listen = private_socket(e, "destination", qmp, "--migrateuri", error);
    }
    if (e->listen == NULL) {
        return false;
    }
    /* "Everywhere" is no place to connect to; its monitor's host is one of its addresses. */
    e->connect = is_wildcard(e->listen)
                     ? qmig_address_new_tcp(monitor->kind == QMIG_ADDRESS_TCP
                                                ? monitor->host
                                                : "localhost",
                                            e->listen->port)
                     : qmig_address_copy(e->listen);
    return true;
}

static bool
choose_proxy(QmigEndpoints *e, const QmigJobOptions *options, const QmigQmp *qmp,
             GError **error)
{
    if (options->direct) {
        return true;
    }
    if (options->listen != NULL) {
        e->proxy = qmig_address_copy(options->listen);
    } else if (options->source->kind == QMIG_ADDRESS_UNIX) {
        e->proxy = private_socket(e, "source", qmp, "--listen", error);
        return e->proxy != NULL;
    } else {
        e->proxy = qmig_qmp_local_address(qmp);
    }
    return e->proxy != NULL ||
           qmig_set_error(
               error, QMIG_ERROR_CONFIG,
               "proxy: no address the source could reach is known; give one by "
               "--listen");
}

bool
qmig_endpoints_choose(QmigEndpoints *e, const QmigJobOptions *options,
                      const QmigQmp *source, const QmigQmp *destination, GError **error)
{
    struct ucred peer;

    e->source_uid = qmig_qmp_peer(source, &peer) ? peer.uid : (uid_t)-1;
    return choose_destination(e, options, destination, error) &&
           choose_proxy(e, options, source, error);
}

/* A socket for the disks beside the one for memory. */
static QmigAddress *
socket_beside(const QmigEndpoints *e, const QmigAddress *address, GError **error)
{
    g_autofree char *room = g_path_get_dirname(address->path);
    g_autofree char *path = e->dir != NULL && g_str_has_prefix(address->path, e->dir)
                                ? g_build_filename(room, disks_name, NULL)
                                : g_strconcat(address->path, ".disks", NULL);

    if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: too long for a socket: give another by --disks-uri", path);
        return NULL;
    }
    return qmig_address_new_unix(path);
}

bool
qmig_endpoints_choose_disks(const QmigEndpoints *e, const QmigJobOptions *options,
                            QmigAddress **listen, QmigAddress **connect, GError **error)
{
    const QmigAddress *asked = options->disks_uri;

    if (asked != NULL) {
        *listen = qmig_address_copy(asked);
    } else if (e->listen->kind == QMIG_ADDRESS_TCP) {
        *listen = qmig_address_new_tcp(e->listen->host, 0);
    } else if (options->source->kind == QMIG_ADDRESS_TCP && options->via->len == 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "the source is on another host than the destination's "
                              "socket: say by --disks-uri where the destination shall "
                              "serve its disks");
    } else {
        *listen = socket_beside(e, e->listen, error);
    }
    if (*listen == NULL) {
        return false;
    }
    /* "Everywhere" is no place to connect to. */
    *connect = is_wildcard(*listen)
                   ? qmig_address_new_tcp(e->connect->kind == QMIG_ADDRESS_TCP
                                              ? e->connect->host
                                              : "localhost",
                                          (*listen)->port)
                   : qmig_address_copy(*listen);
    return true;
}

bool
qmig_endpoints_admit_source(const QmigEndpoints *e, const QmigAddress *address,
                            GError **error)
{
    if (e->pretend || e->dir == NULL || address->kind != QMIG_ADDRESS_UNIX ||
        !g_str_has_prefix(address->path, e->dir) || geteuid() != 0 ||
        e->source_uid == 0 || e->source_uid == (uid_t)-1) {
        return true;
    }
    return chown(address->path, e->source_uid, (gid_t)-1) == 0 ||
           qmig_set_error_errno(error, errno, "%s: chown", address->path);
}

void
qmig_endpoints_clear(QmigEndpoints *e)
{
    static const char *const rooms[] = { "source", "destination" };

    for (size_t i = 0; e->dir != NULL && !e->pretend && i < G_N_ELEMENTS(rooms); i++) {
        g_autofree char *room = g_build_filename(e->dir, rooms[i], NULL);
        g_autofree char *socket = g_build_filename(room, socket_name, NULL);
        g_autofree char *disks = g_build_filename(room, disks_name, NULL);
        g_unlink(socket);
        g_unlink(disks);
        g_rmdir(room);
    }
    if (e->dir != NULL && !e->pretend) {
        g_rmdir(e->dir);
    }
    g_clear_pointer(&e->dir, g_free);
    g_clear_pointer(&e->listen, qmig_address_free);
    g_clear_pointer(&e->connect, qmig_address_free);
    g_clear_pointer(&e->proxy, qmig_address_free);
}
