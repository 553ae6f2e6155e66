/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part that gives a migration TLS, and takes it away again. */
#include "job/tls.h"

#include "job/steps.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <string.h>

/* Of the objects made here. One that is there already was left by a qmig that was killed. */
#define OBJECT_ID "qmig-tls"

enum {
    /* A session may hold the object for a moment after its connection has ended. */
    REMOVE_TRIES = 50,
    REMOVE_AGAIN_US = 20000,
    /* A server without dh-params.pem looks for primes: half a minute was seen. */
    MAKE_TIMEOUT_MS = 120000,
};

static const char *
or_default(const char *text, const char *fallback)
{
    return text != NULL ? text : fallback;
}

/* ---- check: what there is ------------------------------------------------------------------- */

/* The type of an object of the user's, without "child<" and ">"; NULL = there is none. */
static char *
find_type(QmigQmp *qmp, const char *id)
{
    g_autoptr(JsonObject) list = NULL;
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "path", json_object_new_string("/objects"));
    if (!qmig_qmp_execute(qmp, "qom-list", arguments, &list, NULL, NULL) ||
        !json_object_is_type(list, json_type_array)) {
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *item = json_object_array_get_idx(list, i);
        const char *type = qmig_json_string(item, "type");
        if (g_strcmp0(qmig_json_string(item, "name"), id) == 0 && type != NULL &&
            g_str_has_prefix(type, "child<")) {
            return g_strndup(type + strlen("child<"), strlen(type) - strlen("child<>"));
        }
    }
    return NULL;
}

/* A text property of an object; NULL = it does not tell. */
static char *
get_property(QmigQmp *qmp, const char *id, const char *name)
{
    g_autofree char *path = g_strdup_printf("/objects/%s", id);
    g_autoptr(JsonObject) value = NULL;
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "path", json_object_new_string(path));
    json_object_object_add(arguments, "property", json_object_new_string(name));
    if (!qmig_qmp_execute(qmp, "qom-get", arguments, &value, NULL, NULL) ||
        !json_object_is_type(value, json_type_string)) {
        return NULL;
    }
    return g_strdup(json_object_get_string(value));
}

/* --tls-creds: an object that is there: of which kind, and what does it read? */
static void
take_object(QmigJobTls *tls, QmigTlsSide *s, GString *problems)
{
    static const char *const ends[] = {
        [QMIG_PKI_SERVER] = "server", [QMIG_PKI_CLIENT] = "client"
    };
    QmigQmp *qmp = s->side->qmp;
    g_autofree char *type = find_type(qmp, s->id);
    g_autofree char *end = NULL;
    const char *wanted = tls->psk ? "tls-creds-psk" : "tls-creds-x509";

    if (type == NULL) {
        qmig_job_problem(problems, "%s: TLS: it has no object \"%s\" (--tls-creds)",
                         s->side->label, s->id);
        return;
    }
    if (strcmp(type, wanted) != 0) {
        qmig_job_problem(problems, "%s: TLS: object \"%s\" is %s, wanted %s%s",
                         s->side->label, s->id, type, wanted,
                         strcmp(type, "tls-creds-psk") == 0 ? " (or give --tls-psk)"
                                                            : "");
        return;
    }
    end = get_property(qmp, s->id, "endpoint");
    if (g_strcmp0(end, ends[s->end]) != 0) {
        qmig_job_problem(
            problems,
            "%s: TLS: object \"%s\" is for endpoint=%s, wanted endpoint=%s: the "
            "destination is the server, the source its client",
            s->side->label, s->id, end != NULL ? end : "?", ends[s->end]);
    }
    s->dir = get_property(qmp, s->id, "dir");
    g_free(s->user);
    s->user = tls->psk && s->end == QMIG_PKI_CLIENT ? get_property(qmp, s->id, "username")
                                                    : NULL;
}

/* ID, or SOURCE,DESTINATION. */
static void
take_ids(QmigJobTls *tls, const char *text, GString *problems)
{
    g_auto(GStrv) ids = g_strsplit(text, ",", 0);
    guint n = g_strv_length(ids);

    if (n < 1 || n > 2 || ids[0][0] == '\0' || ids[n - 1][0] == '\0') {
        qmig_job_problem(problems, "--tls-creds: \"%s\", wanted ID or ID,ID", text);
        return;
    }
    g_free(tls->source.id);
    g_free(tls->destination.id);
    tls->source.id = g_strdup(ids[0]);
    tls->destination.id = g_strdup(ids[n - 1]);
    take_object(tls, &tls->source, problems);
    take_object(tls, &tls->destination, problems);
}

/* The host by which the destination is reached, as far as the user said it. */
static char *
default_host(const QmigJobOptions *options)
{
    const QmigAddress *candidates[] = { options->migrate_uri, options->destination };

    for (size_t i = 0; i < G_N_ELEMENTS(candidates); i++) {
        const QmigAddress *a = candidates[i];
        if (a != NULL && a->kind == QMIG_ADDRESS_UNIX) {
            return NULL;
        }
        if (a != NULL && a->host[0] != '\0' && strcmp(a->host, "0.0.0.0") != 0 &&
            strcmp(a->host, "::") != 0) {
            return g_strdup(a->host);
        }
    }
    return NULL;
}

static bool
is_readable(const QmigTlsSide *s)
{
    return s->side->is_local && s->dir != NULL && g_access(s->dir, R_OK | X_OK) == 0;
}

static QmigJobTls *
new_state(QmigJob *job)
{
    const QmigJobOptions *o = job->options;
    const char *dir = or_default(o->tls_dir, QMIG_PKI_DEFAULT_DIR);
    QmigJobTls *tls = g_new0(QmigJobTls, 1);

    tls->psk = o->tls_psk;
    tls->source = (QmigTlsSide){ .side = &job->source,
                                 .end = QMIG_PKI_CLIENT,
                                 .id = g_strdup(OBJECT_ID),
                                 .dir = g_strdup(or_default(o->tls_source_dir, dir)) };
    tls->destination = (QmigTlsSide){
        .side = &job->destination,
        .end = QMIG_PKI_SERVER,
        .id = g_strdup(OBJECT_ID),
        .dir = g_strdup(or_default(o->tls_destination_dir, dir)),
    };
    tls->source.user = g_strdup(or_default(o->tls_user, QMIG_PKI_DEFAULT_USER));
    tls->proxy_dir = o->direct ? NULL : g_strdup(or_default(o->tls_proxy_dir, dir));
    tls->hostname = o->tls_hostname != NULL ? g_strdup(o->tls_hostname) : default_host(o);
    return tls;
}

static void
tls_check(QmigJob *job, GString *problems)
{
    QmigJobTls *tls;

    if (!job->options->tls || job->tls != NULL) {
        return;
    }
    tls = job->tls = new_state(job);
    if (job->options->tls_creds != NULL) {
        g_clear_pointer(&tls->source.dir, g_free);
        g_clear_pointer(&tls->destination.dir, g_free);
        take_ids(tls, job->options->tls_creds, problems);
    }
    if (tls->source.user == NULL) {
        tls->source.user = g_strdup(QMIG_PKI_DEFAULT_USER);
    }
    if (!tls->psk && tls->hostname == NULL) {
        qmig_job_problem(problems,
                         "TLS: the destination is reached by a unix socket: say by "
                         "--tls-destination which name its certificate is for");
    }
    if (tls->psk &&
        json_object_object_get_ex(job->options->parameters, "tls-authz", NULL)) {
        qmig_job_problem(problems, "tls-authz: QEMU looks at certificates with it, and "
                                   "ignores it with pre-shared keys");
    }
    tls->source.readable = is_readable(&tls->source);
    tls->destination.readable = is_readable(&tls->destination);
    qmig_tls_check_files(job, problems);
}

/* ---- prepare: the objects ------------------------------------------------------------------- */

static JsonObject *
object_arguments(const QmigJobTls *tls, const QmigTlsSide *s)
{
    bool server = s->end == QMIG_PKI_SERVER;
    JsonObject *o = json_object_new_object();

    json_object_object_add(
        o, "qom-type",
        json_object_new_string(tls->psk ? "tls-creds-psk" : "tls-creds-x509"));
    json_object_object_add(o, "id", json_object_new_string(s->id));
    json_object_object_add(o, "dir", json_object_new_string(s->dir));
    json_object_object_add(o, "endpoint",
                           json_object_new_string(server ? "server" : "client"));
    if (!tls->psk) {
        json_object_object_add(o, "verify-peer", json_object_new_boolean(true));
    } else if (!server) {
        json_object_object_add(o, "username", json_object_new_string(s->user));
    }
    return o;
}

static JsonObject *
id_arguments(const char *id)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "id", json_object_new_string(id));
    return o;
}

/* QEMU reads the files now, and looks whether they are good. */
static bool
make_object(QmigJob *job, QmigTlsSide *s, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(MAKE_TIMEOUT_MS),
                         .cancel = job->cancel };
    g_autoptr(GError) local = NULL;
    g_autofree char *left = find_type(s->side->qmp, s->id);

    if (left != NULL) {
        qmig_job_message(job, "%s: removing object \"%s\" that an earlier qmig left",
                         s->side->label, s->id);
        (void)!qmig_qmp_execute(s->side->qmp, "object-del", id_arguments(s->id), NULL,
                                NULL, NULL);
    }
    if (!qmig_steps_will_undo(job, s->side, "object-del", id_arguments(s->id), error)) {
        return false;
    }
    s->may_exist = true;
    if (qmig_qmp_execute(s->side->qmp, "object-add", object_arguments(job->tls, s), NULL,
                         &call, &local)) {
        return true;
    }
    if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_QMP)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return qmig_set_error(
        error, QMIG_ERROR_TLS,
        "%s; the directory is %s, on its host, and must be readable for "
        "its user; see `qmig pki show %s`",
        local->message, s->dir, s->dir);
}

static bool
remove_object(QmigTlsSide *s, GError **error)
{
    for (int i = 0; s->may_exist && s->side->qmp != NULL && !s->side->closed; i++) {
        g_autoptr(GError) local = NULL;

        s->may_exist = false;
        if (qmig_qmp_execute(s->side->qmp, "object-del", id_arguments(s->id), NULL, NULL,
                             &local) ||
            strstr(local->message, "not found") != NULL ||
            g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
            return true;
        }
        if (i >= REMOVE_TRIES || strstr(local->message, "in use") == NULL) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
        s->may_exist = true;
        g_usleep(REMOVE_AGAIN_US);
    }
    return true;
}

/* ---- prepare: the settings ------------------------------------------------------------------ */

static bool
set_parameters(QmigTlsSide *s, const char *hostname, GError **error)
{
    g_autoptr(JsonObject) values = json_object_new_object();

    json_object_object_add(values, "tls-creds", json_object_new_string(s->id));
    if (hostname != NULL) {
        json_object_object_add(values, "tls-hostname", json_object_new_string(hostname));
    }
    s->side->touched = true;
    return qmig_qmp_set_parameters(s->side->qmp, values, error);
}

static bool
apply(QmigJob *job, GError **error)
{
    QmigJobTls *tls = job->tls;
    const char *expected = tls->proxy_dir != NULL ? tls->proxy_hostname : tls->hostname;

    if (expected != NULL) {
        g_autofree char *what = g_strdup_printf("tls-hostname=%s", expected);
        qmig_job_decide(
            job, what, "%s",
            tls->proxy_dir != NULL
                ? "the name in the certificate of the proxy, which the source "
                  "connects to"
            : job->options->tls_hostname != NULL
                ? "--tls-destination"
                : "the host the destination is reached by");
    }
    return set_parameters(&tls->source, expected, error) &&
           set_parameters(&tls->destination, NULL, error);
}

static bool
tls_prepare(QmigJob *job, GError **error)
{
    QmigJobTls *tls = job->tls;

    if (tls == NULL) {
        return true;
    }
    return (job->options->tls_creds != NULL ||
            (make_object(job, &tls->source, error) &&
             make_object(job, &tls->destination, error))) &&
           apply(job, error) && qmig_tls_try(job, error);
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void
remove_both(QmigJob *job)
{
    QmigTlsSide *sides[] = { &job->tls->source, &job->tls->destination };

    for (size_t i = 0; i < G_N_ELEMENTS(sides); i++) {
        g_autoptr(GError) error = NULL;
        if (!remove_object(sides[i], &error)) {
            qmig_job_message(job,
                             "%s: the TLS credentials \"%s\" could not be removed: %s",
                             sides[i]->side->label, sides[i]->id, error->message);
        }
    }
}

static void
tls_done(QmigJob *job)
{
    if (job->tls != NULL) {
        remove_both(job);
    }
}

/* A post-copy that is paused needs them to go on. */
static void
tls_undo(QmigJob *job)
{
    if (job->tls != NULL && job->owner == QMIG_OWNER_SOURCE) {
        remove_both(job);
    }
}

static void
clear_side(QmigTlsSide *s)
{
    g_free(s->id);
    g_free(s->dir);
    g_free(s->user);
}

static void
tls_free(QmigJob *job)
{
    QmigJobTls *tls = g_steal_pointer(&job->tls);

    if (tls == NULL) {
        return;
    }
    /* Its threads may use the credentials. */
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    qmig_tls_creds_free(tls->server);
    qmig_tls_creds_free(tls->client);
    clear_side(&tls->source);
    clear_side(&tls->destination);
    g_free(tls->proxy_dir);
    g_free(tls->hostname);
    g_free(tls->proxy_hostname);
    g_free(tls);
}

/* ---- for others ------------------------------------------------------------------------------- */

void
qmig_tls_configure_proxy(const QmigJob *job, QmigProxyConfig *config)
{
    if (job->tls != NULL) {
        config->tls_server = job->tls->server;
        config->tls_client = job->tls->client;
        config->tls_hostname = job->tls->hostname;
    }
}

const char *
qmig_tls_creds_id(const QmigJob *job, const QmigSide *side)
{
    if (job->tls == NULL) {
        return NULL;
    }
    return side == &job->source ? job->tls->source.id : job->tls->destination.id;
}

const char *
qmig_tls_host(const QmigJob *job)
{
    return job->tls != NULL && !job->tls->psk ? job->tls->hostname : NULL;
}

const QmigPart qmig_tls_part = {
    .name = "tls",
    .check = tls_check,
    .prepare = tls_prepare,
    .done = tls_done,
    .undo = tls_undo,
    .free = tls_free,
};
