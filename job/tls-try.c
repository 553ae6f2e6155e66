/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Driving the rehearsal: the destination's NBD server listens where the migration will be awaited,
 * the source's NBD client connects to where the proxy will stand (with --direct: to the
 * destination). Then both are gone again.
 *
 * QEMU opens an NBD client with its big lock held: the guest halts at its next device access until
 * that is through or has failed, some milliseconds. Where connecting could take longer, because
 * packets might be dropped on the way, the source is first made to connect without waiting, by a
 * character device.
 */
#include "job/rehearsal.h"
#include "job/steps.h"
#include "job/storage.h"
#include "job/tls-handshake.h"
#include "job/tls.h"
#include "util/error.h"
#include "util/socket.h"

#include <glib/gstdio.h>
#include <string.h>

#define NODE "qmig-tls"

enum {
    PATIENCE_MS = 5000,
    /* From QEMU's answer to the end of the server that it talked to. */
    SERVER_END_MS = 1000,
    PORT_TRIES = 16,
    PORT_FIRST = 49152, /* the dynamic ones */
    PORT_LAST = 65535,
    BACKLOG = 4,
    PROBE_POLL_MS = 20,
};

/* ---- addresses ------------------------------------------------------------------------------ */

/* QEMU's SocketAddress. */
static JsonObject *
flat_address(const QmigAddress *a)
{
    JsonObject *o = json_object_new_object();

    if (a->kind == QMIG_ADDRESS_UNIX) {
        json_object_object_add(o, "type", json_object_new_string("unix"));
        json_object_object_add(o, "path", json_object_new_string(a->path));
        return o;
    }
    g_autofree char *port = g_strdup_printf("%u", a->port);
    json_object_object_add(o, "type", json_object_new_string("inet"));
    json_object_object_add(o, "host", json_object_new_string(a->host));
    json_object_object_add(o, "port", json_object_new_string(port));
    return o;
}

/* SocketAddressLegacy: the same in two layers. */
static JsonObject *
legacy_address(const QmigAddress *a)
{
    JsonObject *o = json_object_new_object(), *data = flat_address(a), *type = NULL;

    if (json_object_object_get_ex(data, "type", &type)) {
        json_object_object_add(o, "type", json_object_get(type));
        json_object_object_del(data, "type");
    }
    json_object_object_add(o, "data", data);
    return o;
}

static bool
is_next_door(const QmigAddress *a)
{
    return a->kind == QMIG_ADDRESS_UNIX || g_str_has_prefix(a->host, "127.") ||
           strcmp(a->host, "::1") == 0 || strcmp(a->host, "localhost") == 0;
}

static void
skip(QmigJob *job, const char *what, const char *why)
{
    qmig_job_message(
        job,
        "TLS %s was not rehearsed (%s): a certificate that is not accepted will "
        "cost the destination",
        what, why);
}

/* ---- the destination's NBD server ----------------------------------------------------------- */

typedef enum { SERVER_RUNS, SERVER_NONE, SERVER_FAILED } ServerStart;

static bool
send_server_start(QmigJob *job, const QmigAddress *at, GError **error)
{
    JsonObject *o = json_object_new_object(), *authz = NULL;

    json_object_object_add(o, "addr", legacy_address(at));
    json_object_object_add(o, "tls-creds",
                           json_object_new_string(job->tls->destination.id));
    if (json_object_object_get_ex(job->destination_params, "tls-authz", &authz)) {
        json_object_object_add(o, "tls-authz", json_object_get(authz));
    }
    return qmig_qmp_execute(job->destination.qmp, "nbd-server-start", o, NULL, NULL,
                            error);
}

/* @at: (out) (transfer full) where it listens, as the migration will be */
static ServerStart
start_server(QmigJob *job, QmigAddress **at, GError **error)
{
    const QmigAddress *listen = job->endpoints.listen;
    bool any_port = listen->kind == QMIG_ADDRESS_TCP && listen->port == 0;
    g_autoptr(QmigAddress) here = qmig_address_copy(listen);

    if (!qmig_schema_has_command(job->destination.schema, "nbd-server-start")) {
        skip(job, "of the destination", "it has no NBD server");
        return SERVER_NONE;
    }
    if (!qmig_steps_will_undo(job, &job->destination, "nbd-server-stop", NULL, error)) {
        return SERVER_FAILED;
    }
    for (int i = 0; i < PORT_TRIES; i++) {
        g_autoptr(GError) local = NULL;

        if (any_port) {
            here->port = (uint16_t)g_random_int_range(PORT_FIRST, PORT_LAST + 1);
        }
        if (send_server_start(job, here, &local)) {
            *at = g_steal_pointer(&here);
            return SERVER_RUNS;
        }
        if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_QMP)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return SERVER_FAILED;
        }
        if (any_port && strstr(local->message, "in use") != NULL) {
            continue;
        }
        skip(job, "of the destination", local->message);
        return SERVER_NONE;
    }
    skip(job, "of the destination", "no port was free");
    return SERVER_NONE;
}

static bool
stop_server(QmigJob *job, GError **error)
{
    return qmig_qmp_execute(job->destination.qmp, "nbd-server-stop", NULL, NULL, NULL,
                            error);
}

/* Where it is reached from outside. */
static QmigAddress *
reachable(QmigJob *job, const QmigAddress *at, GError **error)
{
    g_autoptr(QmigAddress) there = qmig_address_copy(job->endpoints.connect);
    g_autoptr(QmigAddress) here = NULL;

    there->port = at->port;
    if (job->via == NULL) {
        return g_steal_pointer(&there);
    }
    return qmig_via_forward_disks(job, there, &here, error) ? g_steal_pointer(&here)
                                                            : NULL;
}

/* ---- the source's NBD client ---------------------------------------------------------------- */

static bool
send_client(QmigJob *job, const QmigAddress *to, const char *host, GError **error)
{
    QmigQmp *qmp = job->source.qmp;
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(2 * PATIENCE_MS) };
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "driver", json_object_new_string("nbd"));
    json_object_object_add(o, "node-name", json_object_new_string(NODE));
    json_object_object_add(o, "server", flat_address(to));
    json_object_object_add(o, "export", json_object_new_string("qmig-no-such-export"));
    json_object_object_add(o, "tls-creds", json_object_new_string(job->tls->source.id));
    json_object_object_add(o, "read-only", json_object_new_boolean(true));
    if (host != NULL) {
        json_object_object_add(o, "tls-hostname", json_object_new_string(host));
    }
    if (!qmig_qmp_execute(qmp, "blockdev-add", o, NULL, &call, error)) {
        return false;
    }
    /* Somebody has such an export. TLS is well all the same. */
    o = json_object_new_object();
    json_object_object_add(o, "node-name", json_object_new_string(NODE));
    return qmig_qmp_execute(qmp, "blockdev-del", o, NULL, NULL, error);
}

/* What QEMU says of a certificate it does not accept, in more words. NULL = something else. */
static const char *
explain(const char *text)
{
    static const struct {
        const char *part, *words;
    } rows[] = {
        { "does not match the hostname", "is for another name" },
        { "got a known issuer", "is from another CA than its ca-cert.pem" },
        { "has expired", "has expired" },
        { "not yet activated", "is not valid yet: is a clock wrong?" },
        { "has been revoked", "has been revoked" },
        { "insecure algorithm", "uses an insecure algorithm" },
        { "is not trusted", "is not to be trusted" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (strstr(text, rows[i].part) != NULL) {
            return rows[i].words;
        }
    }
    return NULL;
}

static bool
refused_by_source(const char *whose, const GError *said, const char *host, GError **error)
{
    const char *words = explain(said->message);

    return qmig_set_error(error, QMIG_ERROR_TLS,
                          "source: TLS: it refuses %s's certificate: it %s%s%s (%s)",
                          whose, words, host != NULL ? ", wanted " : "",
                          host != NULL ? host : "", said->message);
}

/* ---- can the source get there at all? ------------------------------------------------------- */

static JsonObject *
probe_arguments(const QmigJob *job, const QmigAddress *to)
{
    JsonObject *o = json_object_new_object(), *backend = json_object_new_object(),
               *data = json_object_new_object();
    bool in_ms = job->source.version >= 90200;

    json_object_object_add(data, "addr", legacy_address(to));
    json_object_object_add(data, "server", json_object_new_boolean(false));
    /* With it QEMU connects in the background. */
    json_object_object_add(data, in_ms ? "reconnect-ms" : "reconnect",
                           json_object_new_int(in_ms ? 60000 : 60));
    json_object_object_add(backend, "type", json_object_new_string("socket"));
    json_object_object_add(backend, "data", data);
    json_object_object_add(o, "id", json_object_new_string(NODE));
    json_object_object_add(o, "backend", backend);
    return o;
}

static bool
is_connected(QmigQmp *qmp)
{
    g_autoptr(JsonObject) list = NULL;

    if (!qmig_qmp_execute(qmp, "query-chardev", NULL, &list, NULL, NULL) ||
        !json_object_is_type(list, json_type_array)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *item = json_object_array_get_idx(list, i);
        const char *where = qmig_json_string(item, "filename");
        if (g_strcmp0(qmig_json_string(item, "label"), NODE) == 0 && where != NULL) {
            return !g_str_has_prefix(where, "disconnected");
        }
    }
    return false;
}

/* Return: false with the reason in @why (static), or with @error when the source is gone. */
static bool
can_reach(QmigJob *job, const QmigAddress *to, const char **why, GError **error)
{
    QmigQmp *qmp = job->source.qmp;
    QmigDeadline deadline = qmig_deadline_in_ms(PATIENCE_MS);
    JsonObject *id = json_object_new_object();
    g_autoptr(GError) local = NULL;
    bool connected = false;

    json_object_object_add(id, "id", json_object_new_string(NODE));
    *why = NULL;
    if (is_next_door(to)) {
        json_object_put(id);
        return true;
    }
    if (!qmig_steps_will_undo(job, &job->source, "chardev-remove", json_object_get(id),
                              error)) {
        json_object_put(id);
        return false;
    }
    if (!qmig_qmp_execute(qmp, "chardev-add", probe_arguments(job, to), NULL, NULL,
                          &local)) {
        json_object_put(id);
        *why = "whether it can connect could not be tried";
        return false;
    }
    while (!(connected = is_connected(qmp)) && qmig_now_us() < deadline) {
        g_usleep(PROBE_POLL_MS * 1000);
    }
    if (!qmig_qmp_execute(qmp, "chardev-remove", id, NULL, NULL, error)) {
        return false;
    }
    *why = connected ? NULL : "the source does not get a connection there";
    return connected;
}

/* ---- source to proxy ------------------------------------------------------------------------ */

typedef struct {
    int listener;
    const QmigTlsCreds *creds;
    QmigCancel *stop;
    bool accepted;
    GError *error; /* good once done */
    gint done;     /* atomic */
} Serving;

static void *
serve_thread(void *data)
{
    Serving *s = data;

    s->accepted = qmig_handshake_serve(
        s->listener, s->creds, qmig_deadline_in_ms(PATIENCE_MS), s->stop, &s->error);
    g_atomic_int_set(&s->done, 1);
    return NULL;
}

/* @said: what the source's QEMU said; NULL = nothing. */
static bool
judge_source(const QmigJob *job, const Serving *s, const GError *said,
             const QmigAddress *at, GError **error)
{
    g_autofree char *where = qmig_address_to_string(at);
    const char *host = job->tls->proxy_hostname;

    if (s->accepted) {
        return true;
    }
    if (said != NULL && explain(said->message) != NULL) {
        return refused_by_source("the proxy", said, host, error);
    }
    if (g_error_matches(s->error, QMIG_ERROR, QMIG_ERROR_TLS)) {
        return qmig_set_error(error, QMIG_ERROR_TLS, "source: TLS: %s",
                              s->error->message);
    }
    return qmig_set_error(error, QMIG_ERROR_IO,
                          "source: it does not reach the proxy at %s: %s", where,
                          said != NULL ? said->message : s->error->message);
}

static bool
serve_source(QmigJob *job, int listener, const QmigAddress *at, GError **error)
{
    g_autoptr(QmigCancel) stop = qmig_cancel_new();
    g_autoptr(GError) said = NULL;
    Serving s = { .listener = listener, .creds = job->tls->server, .stop = stop };
    GThread *thread = g_thread_new("qmig-rehearsal", serve_thread, &s);
    bool ok;

    (void)!send_client(job, at, job->tls->proxy_hostname, &said);
    for (int ms = 0; ms < SERVER_END_MS && !g_atomic_int_get(&s.done); ms += 5) {
        g_usleep(5000);
    }
    qmig_cancel_raise(stop);
    g_thread_join(thread);
    ok = judge_source(job, &s, said, at, error);
    g_clear_error(&s.error);
    return ok;
}

static bool
source_to_proxy(QmigJob *job, GError **error)
{
    g_autoptr(QmigAddress) at = NULL;
    g_auto(QmigFd) listener = -1;
    const char *why = NULL;
    bool ok;

    if (!qmig_schema_has_command(job->source.schema, "blockdev-add")) {
        skip(job, "of the source", "it has no NBD client");
        return true;
    }
    listener = qmig_socket_listen(job->endpoints.proxy, BACKLOG, &at, error);
    if (listener < 0) {
        return false;
    }
    ok = qmig_endpoints_admit_source(&job->endpoints, at, error);
    if (ok && !can_reach(job, at, &why, error)) {
        ok = why != NULL;
        if (ok) {
            skip(job, "of the source", why);
        }
    } else if (ok) {
        g_auto(QmigFd) probe = -1;
        /* Take the connection of the probe, if there was one, out of the way. */
        if (!is_next_door(at)) {
            probe = qmig_socket_accept(listener, qmig_now_us(), NULL, NULL);
        }
        ok = serve_source(job, listener, at, error);
    }
    if (at->kind == QMIG_ADDRESS_UNIX) {
        (void)g_unlink(at->path);
    }
    return ok;
}

/* ---- proxy to destination --------------------------------------------------------------------- */

static bool
ask_destination(QmigJob *job, const QmigAddress *at, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(QmigAddress) there = reachable(job, at, &local);

    if (there == NULL) {
        skip(job, "of the destination", local->message);
        return true;
    }
    if (qmig_handshake_ask(there, job->tls->client, job->tls->hostname,
                           qmig_deadline_in_ms(PATIENCE_MS), job->cancel, &local)) {
        return true;
    }
    if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TLS)) {
        skip(job, "of the destination", local->message);
        return true;
    }
    return qmig_set_error(error, QMIG_ERROR_TLS, "destination: TLS: %s", local->message);
}

/* ---- source to destination -------------------------------------------------------------------- */

/* Of --direct: the source's QEMU tells how far it came. */
static bool
judge_direct(QmigJob *job, const GError *said, GError **error)
{
    if (strstr(said->message, "export not available") != NULL) {
        return true;
    }
    if (explain(said->message) != NULL) {
        return refused_by_source("the destination", said, job->tls->hostname, error);
    }
    if (strstr(said->message, "handshake failed") != NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_TLS,
            "destination: TLS: the handshake with the source fails%s (%s)",
            job->tls->psk ? ": the pre-shared keys differ" : "", said->message);
    }
    if (strstr(said->message, "TLS") != NULL || strstr(said->message, "option") != NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_TLS,
            "destination: TLS: it does not accept the source's certificate: there is none "
            "(client-cert.pem), or it is from another CA%s (%s)",
            json_object_object_get_ex(job->destination_params, "tls-authz", NULL)
                ? ", or tls-authz does not allow its name"
                : "",
            said->message);
    }
    skip(job, "between source and destination", said->message);
    return true;
}

static bool
source_to_destination(QmigJob *job, const QmigAddress *at, GError **error)
{
    g_autoptr(QmigAddress) there = reachable(job, at, error);
    g_autoptr(GError) said = NULL;
    const char *why = NULL;

    if (there == NULL || !qmig_endpoints_admit_source(&job->endpoints, there, error)) {
        return false;
    }
    if (!can_reach(job, there, &why, error)) {
        if (why != NULL) {
            skip(job, "between source and destination", why);
        }
        return why != NULL;
    }
    return send_client(job, there, job->tls->hostname, &said) ||
           judge_direct(job, said, error);
}

bool
qmig_tls_try(QmigJob *job, GError **error)
{
    g_autoptr(QmigAddress) at = NULL;
    bool proxied = job->tls->proxy_dir != NULL;
    bool ok;

    if (qmig_rehearsal_note(job,
                            "TLS: each handshake is done once over NBD: the destination "
                            "(nbd-server-start, nbd-server-stop) and the source "
                            "(blockdev-add) survive one that goes wrong")) {
        return true;
    }

    if (proxied && !source_to_proxy(job, error)) {
        return false;
    }
    switch (start_server(job, &at, error)) {
    case SERVER_FAILED:
        return false;
    case SERVER_NONE:
        return true;
    case SERVER_RUNS:
    default:
        break;
    }
    ok = proxied ? ask_destination(job, at, error)
                 : source_to_destination(job, at, error);
    return stop_server(job, ok ? error : NULL) && ok;
}
