/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * There is no registry but the directory of the sockets: each running migration tells by itself
 * what it is.
 */
#include "job/control-client.h"

#include "job/control.h"
#include "qmp/client.h"
#include "qmp/framer.h"
#include "util/address.h"
#include "util/error.h"
#include "util/socket.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
    GREETING_TIMEOUT_MS = 2000,
    /* Longer than the other end's own deadline for its job. */
    CALL_TIMEOUT_MS = 25000,
    /* Sockets looked at: more migrations than a host has at a time. */
    MAX_LIST = 256,
};

struct QmigControlPeer {
    char *path;
    QmigFd fd;
    QmigQmpFramer *framer;
    JsonObject *greeting;
    GQueue events; /* JsonObject */
};

void
qmig_control_peer_free(QmigControlPeer *peer)
{
    if (peer == NULL) {
        return;
    }
    qmig_fd_clear(&peer->fd);
    qmig_qmp_framer_free(peer->framer);
    json_object_put(peer->greeting);
    g_queue_clear_full(&peer->events, (GDestroyNotify)qmig_json_put);
    g_free(peer->path);
    g_free(peer);
}

JsonObject *
qmig_control_peer_greeting(const QmigControlPeer *peer)
{
    return peer->greeting;
}

const char *
qmig_control_peer_path(const QmigControlPeer *peer)
{
    return peer->path;
}

/* The next line's object. */
static bool
read_object(QmigControlPeer *peer, QmigDeadline deadline, JsonObject **object,
            GError **error)
{
    for (;;) {
        char buffer[16384];
        ssize_t n;

        if (!qmig_qmp_framer_next(peer->framer, object, error)) {
            return false;
        }
        if (*object != NULL) {
            return true;
        }
        n = qmig_socket_read(peer->fd, buffer, sizeof buffer, deadline, NULL, error);
        if (n < 0) {
            return false;
        }
        if (n == 0) {
            return qmig_set_error(error, QMIG_ERROR_CLOSED,
                                  "the migration's process has ended");
        }
        if (!qmig_qmp_framer_push(peer->framer, buffer, (size_t)n, error)) {
            return false;
        }
    }
}

/* Wait no longer than that for a name of the directory: a listener's backlog may be full. */
static bool
open_peer(QmigControlPeer *peer, GError **error)
{
    g_autoptr(QmigAddress) address = qmig_address_new_unix(peer->path);
    QmigDeadline deadline = qmig_deadline_in_ms(GREETING_TIMEOUT_MS);
    struct ucred owner = { 0 };
    socklen_t size = sizeof owner;

    peer->fd = qmig_socket_connect(address, deadline, NULL, error);
    if (peer->fd < 0) {
        return false;
    }
    /* In a directory that anybody could have made, such as /tmp/qmig-UID. */
    if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERCRED, &owner, &size) < 0 ||
        (owner.uid != 0 && owner.uid != geteuid())) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "control socket \"%s\": it is another user's", peer->path);
    }
    if (!read_object(peer, deadline, &peer->greeting, error)) {
        g_prefix_error(error, "control socket \"%s\": ", peer->path);
        return false;
    }
    if (qmig_json_get(peer->greeting, "qmig", json_type_object) == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "\"%s\" is not the control socket of a qmig", peer->path);
    }
    return true;
}

QmigControlPeer *
qmig_control_open(const char *path, GError **error)
{
    g_autoptr(QmigControlPeer) peer = g_new0(QmigControlPeer, 1);

    peer->path = g_strdup(path);
    peer->fd = -1;
    peer->framer = qmig_qmp_framer_new();
    g_queue_init(&peer->events);
    return open_peer(peer, error) ? g_steal_pointer(&peer) : NULL;
}

GPtrArray *
qmig_control_list(void)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(
        (GDestroyNotify)qmig_control_peer_free);
    g_autofree char *directory = qmig_control_directory();
    g_autoptr(GDir) dir = NULL;
    const char *name;

    qmig_control_sweep(directory);
    dir = g_dir_open(directory, 0, NULL);
    for (int n = 0; dir != NULL && n < MAX_LIST && (name = g_dir_read_name(dir)) != NULL;
         n++) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        QmigControlPeer *peer = g_str_has_suffix(name, ".sock")
                                    ? qmig_control_open(path, NULL)
                                    : NULL;

        if (peer != NULL) {
            g_ptr_array_add(list, peer);
        }
    }
    return list;
}

/* ---- whom a user means ------------------------------------------------------------------ */

static bool
is_same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

/* Is @address that of the QMP socket @side tells of? */
static bool
is_same_address(const QmigAddress *address, JsonObject *side)
{
    const char *text = qmig_json_string(side, "qmp");
    g_autoptr(QmigAddress) other = text != NULL ? qmig_address_parse(text, NULL) : NULL;

    if (address == NULL || other == NULL || address->kind != other->kind) {
        return false;
    }
    if (address->kind == QMIG_ADDRESS_UNIX) {
        return is_same_file(address->path, other->path);
    }
    return address->port == other->port && strcmp(address->host, other->host) == 0;
}

static bool
fits(const QmigControlPeer *peer, const char *target, const QmigAddress *address)
{
    JsonObject *job = qmig_json_get(peer->greeting, "job", json_type_object);
    JsonObject *qmig = qmig_json_get(peer->greeting, "qmig", json_type_object);
    g_autofree char *pid = g_strdup_printf("%" G_GINT64_FORMAT,
                                           qmig_json_int(qmig, "pid", 0));
    const char *uuid = qmig_json_string(job, "uuid");

    return g_strcmp0(qmig_json_string(job, "guest"), target) == 0 ||
           (uuid != NULL && g_ascii_strcasecmp(uuid, target) == 0) ||
           strcmp(pid, target) == 0 ||
           (address != NULL && address->kind == QMIG_ADDRESS_UNIX &&
            is_same_file(address->path, peer->path)) ||
           is_same_address(address, qmig_json_get(job, "source", json_type_object)) ||
           is_same_address(address, qmig_json_get(job, "destination", json_type_object));
}

QmigControlPeer *
qmig_control_find(const char *target, GError **error)
{
    g_autoptr(GPtrArray) list = qmig_control_list();
    g_autoptr(QmigAddress) address = qmig_address_parse(target, NULL);
    g_autoptr(GString) several = g_string_new(NULL);
    int found = -1, n = 0;

    for (guint i = 0; i < list->len; i++) {
        const QmigControlPeer *peer = g_ptr_array_index(list, i);
        if (fits(peer, target, address)) {
            g_string_append_printf(several, "%s%s", n > 0 ? ", " : "", peer->path);
            found = (int)i;
            n++;
        }
    }
    if (n > 1) {
        qmig_set_error(error, QMIG_ERROR_STATE,
                       "\"%s\": %d running migrations fit: name one of %s", target, n,
                       several->str);
        return NULL;
    }
    return found >= 0 ? g_ptr_array_steal_index(list, (guint)found) : NULL;
}

QmigControlPeer *
qmig_control_find_qemu(int pid)
{
    static const char *const sides[] = { "source", "destination" };
    g_autoptr(GPtrArray) list = qmig_control_list();

    for (guint i = 0; i < list->len; i++) {
        const QmigControlPeer *peer = g_ptr_array_index(list, i);
        JsonObject *job = qmig_json_get(peer->greeting, "job", json_type_object);

        for (size_t k = 0; k < G_N_ELEMENTS(sides); k++) {
            JsonObject *side = qmig_json_get(job, sides[k], json_type_object);
            if (pid > 0 && qmig_json_int(side, "pid", 0) == pid) {
                return g_ptr_array_steal_index(list, i);
            }
        }
    }
    return NULL;
}

/* ---- asking ----------------------------------------------------------------------------- */

/* The job's refusal, with its code where this qmig knows it. */
static bool
take_error(JsonObject *what, GError **error)
{
    const char *code = qmig_json_string(what, "code");
    const char *message = qmig_json_string(what, "message");

    for (int i = QMIG_ERROR_IO; i <= QMIG_ERROR_STATE; i++) {
        g_autoptr(GError) sample = g_error_new_literal(QMIG_ERROR, i, "");
        if (g_strcmp0(qmig_error_name(sample), code) == 0) {
            return qmig_set_error(error, (QmigErrorCode)i, "%s",
                                  message != NULL ? message : code);
        }
    }
    return qmig_set_error(error, QMIG_ERROR_STATE, "%s",
                          message != NULL ? message : "refused without a reason");
}

/* What one line means to a call. *@done: it is the answer. */
static bool
take_answer(QmigControlPeer *peer, JsonObject *object, bool *done, JsonObject **result,
            GError **error)
{
    JsonObject *what = NULL;

    if (json_object_object_get_ex(object, "event", NULL)) {
        g_queue_push_tail(&peer->events, json_object_get(object));
        return true;
    }
    *done = true;
    if (json_object_object_get_ex(object, "error", &what)) {
        return take_error(what, error);
    }
    if (!json_object_object_get_ex(object, "return", &what)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "control socket: neither event, return nor error");
    }
    if (result != NULL) {
        *result = json_object_get(what);
    }
    return true;
}

bool
qmig_control_call(QmigControlPeer *peer, const char *command, JsonObject *arguments,
                  JsonObject **result, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(CALL_TIMEOUT_MS);
    g_autoptr(JsonObject) request = json_object_new_object();
    g_autofree char *line = NULL;
    bool done = false;

    json_object_object_add(request, "command", json_object_new_string(command));
    if (arguments != NULL) {
        json_object_object_add(request, "arguments", arguments);
    }
    line = g_strconcat(json_object_to_json_string(request), "\n", NULL);
    if (!qmig_socket_write_all(peer->fd, line, strlen(line), deadline, NULL, error)) {
        return false;
    }
    while (!done) {
        g_autoptr(JsonObject) object = NULL;
        if (!read_object(peer, deadline, &object, error) ||
            !take_answer(peer, object, &done, result, error)) {
            return false;
        }
    }
    return true;
}

JsonObject *
qmig_control_next_event(QmigControlPeer *peer, QmigDeadline deadline, GError **error)
{
    JsonObject *object = g_queue_pop_head(&peer->events);

    while (object == NULL) {
        if (!read_object(peer, deadline, &object, error)) {
            return NULL;
        }
        if (!json_object_object_get_ex(object, "event", NULL)) {
            g_clear_pointer(&object, json_object_put);
        }
    }
    return object;
}
