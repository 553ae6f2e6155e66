/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two QEMUs in a few lines: what they would answer after the commands that were not sent. It
 * knows a migration that goes well, and block jobs that are ready at once. The source's
 * migration moves on when it is asked about:
 *
 *   setup -> active, pass 1 -> pass 2 -> [pre-switchover -> migrate-continue] -> device -> completed
 *                                     -> postcopy-active -> completed, once the destination runs
 */
#include "job/rehearsal.h"

#include <string.h>

/* ---- small things --------------------------------------------------------------------------- */

static JsonObject *
text(const char *value)
{
    return json_object_new_string(value);
}

static void
push_status(QmigRehearsed *r, const char *status)
{
    JsonObject *data = json_object_new_object();

    r->status = status;
    r->n_asked = 0;
    json_object_object_add(data, "status", text(status));
    qmig_qmp_pretend_event(r->side->qmp, "MIGRATION", data);
}

static void
push_run(QmigRehearsed *r, const char *state, const char *event)
{
    r->run_state = state;
    if (event != NULL) {
        qmig_qmp_pretend_event(r->side->qmp, event, NULL);
    }
}

static bool
has_capability(const QmigRehearsed *r, const char *name)
{
    return qmig_json_bool(
        r->capabilities != NULL ? r->capabilities : r->side->capabilities, name, false);
}

static bool
has_members(JsonObject *object)
{
    return json_object_object_length(object) > 0;
}

static void
copy_members(JsonObject *to, JsonObject *from)
{
    json_object_object_foreach(from, name, value)
    {
        json_object_object_add(to, name, json_object_get(value));
    }
}

/* ---- changes --------------------------------------------------------------------------------- */

static void
set_capabilities(QmigRehearsed *r, JsonObject *arguments)
{
    JsonObject *list = qmig_json_get(arguments, "capabilities", json_type_array);

    if (r->capabilities == NULL) {
        r->capabilities = json_object_new_object();
        copy_members(r->capabilities, r->side->capabilities);
    }
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *entry = json_object_array_get_idx(list, i);
        const char *name = qmig_json_string(entry, "capability");
        if (name != NULL) {
            json_object_object_add(
                r->capabilities, name,
                json_object_new_boolean(qmig_json_bool(entry, "state", false)));
        }
    }
}

static void
set_parameters(QmigRehearsed *r, JsonObject *arguments)
{
    if (r->parameters == NULL) {
        r->parameters = json_object_new_object();
        copy_members(r->parameters, r->side->parameters);
    }
    copy_members(r->parameters, arguments);
}

/* "tcp:HOST:0" or "unix:PATH", as query-migrate would tell it. */
static void
listen_at(QmigRehearsed *r, const char *uri)
{
    g_autoptr(QmigAddress) address = uri != NULL ? qmig_address_parse(uri, NULL) : NULL;
    JsonObject *list = json_object_new_array(), *entry = json_object_new_object();

    json_object_array_add(list, entry);
    if (address != NULL && address->kind == QMIG_ADDRESS_TCP) {
        unsigned port = address->port != 0 ? address->port : QMIG_REHEARSAL_PORT;
        g_autofree char *number = g_strdup_printf("%u", port);
        json_object_object_add(entry, "type", text("inet"));
        json_object_object_add(entry, "host", text(address->host));
        json_object_object_add(entry, "port", text(number));
    } else if (address != NULL) {
        json_object_object_add(entry, "type", text("unix"));
        json_object_object_add(entry, "path", text(address->path));
    }
    json_object_put(r->socket_address);
    r->socket_address = list;
    push_status(r, "setup");
}

static void
stop(QmigRehearsed *r)
{
    /* "inmigrate" stays so: that is -S. */
    if (r->which == QMIG_REHEARSAL_SOURCE || r->run_state != NULL) {
        r->rehearsal->held = r->which == QMIG_REHEARSAL_SOURCE;
        push_run(r, "paused", "STOP");
    }
}

static void
cont(QmigRehearsed *r)
{
    if (r->which == QMIG_REHEARSAL_SOURCE) {
        r->rehearsal->held = false;
    }
    push_run(r, "running", "RESUME");
}

static void
migrate(QmigRehearsed *r)
{
    r->rehearsal->guest_ran = r->run_state != NULL ? strcmp(r->run_state, "running") == 0
                                                   : r->side->running;
    r->pass = 0;
    push_status(r, "setup");
    push_status(&r->rehearsal->sides[QMIG_REHEARSAL_DESTINATION], "active");
}

static void
start_postcopy(QmigRehearsed *r)
{
    QmigRehearsed *there = &r->rehearsal->sides[QMIG_REHEARSAL_DESTINATION];

    push_run(r, "finish-migrate", NULL);
    push_status(r, "postcopy-active");
    push_run(there, "paused", NULL);
    push_status(there, "postcopy-active");
}

/* ---- block jobs and exports --------------------------------------------------------------------- */

static void
push_job_event(QmigRehearsed *r, const char *event, const char *id, JsonObject *job)
{
    JsonObject *data = json_object_new_object();

    copy_members(data, job);
    json_object_object_del(data, "status");
    json_object_object_add(data, "device", text(id));
    qmig_qmp_pretend_event(r->side->qmp, event, data);
}

static void
push_job_status(QmigRehearsed *r, const char *id, const char *status)
{
    JsonObject *data = json_object_new_object();

    json_object_object_add(data, "id", text(id));
    json_object_object_add(data, "status", text(status));
    qmig_qmp_pretend_event(r->side->qmp, "JOB_STATUS_CHANGE", data);
}

static void
begin_job(QmigRehearsed *r, const char *type, JsonObject *arguments)
{
    const char *id = qmig_json_string(arguments, "job-id");
    JsonObject *job = json_object_new_object();

    id = id != NULL ? id : qmig_json_string(arguments, "device");
    if (id == NULL) {
        json_object_put(job);
        return;
    }
    json_object_object_add(job, "type", text(type));
    json_object_object_add(job, "len", json_object_new_int64(0));
    json_object_object_add(job, "offset", json_object_new_int64(0));
    json_object_object_add(job, "speed",
                           json_object_new_int64(qmig_json_int(arguments, "speed", 0)));
    json_object_object_add(job, "status", text("ready"));
    json_object_object_add(
        job, "keep",
        json_object_new_boolean(!qmig_json_bool(arguments, "auto-dismiss", true)));
    json_object_object_add(r->jobs, id, job);
    push_job_status(r, id, "ready");
    push_job_event(r, "BLOCK_JOB_READY", id, job);
}

/* block-job-* name it "device", job-* "id". */
static void
end_job(QmigRehearsed *r, JsonObject *arguments)
{
    const char *device = qmig_json_string(arguments, "device");
    const char *id = device != NULL ? device : qmig_json_string(arguments, "id");
    JsonObject *job = id != NULL ? qmig_json_get(r->jobs, id, json_type_object) : NULL;

    if (job == NULL) {
        return;
    }
    push_job_event(r, "BLOCK_JOB_COMPLETED", id, job);
    push_job_status(r, id, "concluded");
    if (qmig_json_bool(job, "keep", false)) {
        json_object_object_add(job, "status", text("concluded"));
    } else {
        push_job_status(r, id, "null");
        json_object_object_del(r->jobs, id);
    }
}

static void
forget(JsonObject *table, JsonObject *arguments, const char *key)
{
    const char *id = qmig_json_string(arguments, key);

    if (id != NULL) {
        json_object_object_del(table, id);
    }
}

static void
note(JsonObject *table, JsonObject *arguments, const char *key)
{
    const char *id = qmig_json_string(arguments, key);

    if (id != NULL) {
        json_object_object_add(table, id, json_object_get(arguments));
    }
}

static void
delete_export(QmigRehearsed *r, JsonObject *arguments)
{
    const char *id = qmig_json_string(arguments, "id");
    JsonObject *data = json_object_new_object();

    json_object_object_add(data, "id", text(id != NULL ? id : ""));
    qmig_qmp_pretend_event(r->side->qmp, "BLOCK_EXPORT_DELETED", data);
    forget(r->exports, arguments, "id");
}

static bool
apply_to_storage(QmigRehearsed *r, const char *command, JsonObject *arguments)
{
    if (strcmp(command, "blockdev-mirror") == 0) {
        begin_job(r, "mirror", arguments);
    } else if (strcmp(command, "block-job-cancel") == 0 ||
               strcmp(command, "block-job-complete") == 0 ||
               strcmp(command, "job-cancel") == 0 ||
               strcmp(command, "job-complete") == 0) {
        end_job(r, arguments);
    } else if (strcmp(command, "job-dismiss") == 0 ||
               strcmp(command, "block-job-dismiss") == 0) {
        forget(r->jobs, arguments, "id");
    } else if (strcmp(command, "block-export-add") == 0) {
        note(r->exports, arguments, "id");
    } else if (strcmp(command, "block-export-del") == 0) {
        delete_export(r, arguments);
    } else if (strcmp(command, "nbd-server-stop") == 0) {
        json_object_put(r->exports);
        r->exports = json_object_new_object();
    } else if (strcmp(command, "blockdev-add") == 0) {
        note(r->nodes, arguments, "node-name");
    } else if (strcmp(command, "blockdev-del") == 0) {
        forget(r->nodes, arguments, "node-name");
    } else {
        return false;
    }
    return true;
}

void
qmig_rehearsal_apply(QmigRehearsed *r, const char *command, JsonObject *arguments)
{
    const char *uri = qmig_json_string(arguments, "uri");

    if (apply_to_storage(r, command, arguments)) {
        return;
    }
    if (strcmp(command, "migrate-set-capabilities") == 0) {
        set_capabilities(r, arguments);
    } else if (strcmp(command, "migrate-set-parameters") == 0) {
        set_parameters(r, arguments);
    } else if (strcmp(command, "migrate-incoming") == 0) {
        listen_at(r, uri);
    } else if (strcmp(command, "migrate") == 0) {
        migrate(r);
    } else if (strcmp(command, "migrate-start-postcopy") == 0) {
        start_postcopy(r);
    } else if (strcmp(command, "migrate-continue") == 0) {
        push_status(r, "device");
    } else if (strcmp(command, "stop") == 0) {
        stop(r);
    } else if (strcmp(command, "cont") == 0) {
        cont(r);
    } else if (strcmp(command, "migrate_cancel") == 0) {
        push_status(r, "cancelled");
    } else if (strcmp(command, "quit") == 0) {
        qmig_qmp_pretend_closed(r->side->qmp);
    }
}

/* ---- questions -------------------------------------------------------------------------------- */

static void
complete(QmigRehearsed *r)
{
    QmigRehearsed *there = &r->rehearsal->sides[QMIG_REHEARSAL_DESTINATION];
    bool is_postcopy = strcmp(r->status, "postcopy-active") == 0;

    push_run(r, "postmigrate", NULL);
    push_status(r, "completed");
    push_status(there, "completed");
    if (!is_postcopy) {
        push_run(there, "paused", NULL);
    }
}

/* Asked again: it has moved on. */
static void
move_on(QmigRehearsed *r)
{
    QmigRehearsed *there = &r->rehearsal->sides[QMIG_REHEARSAL_DESTINATION];

    if (r->n_asked++ == 0) {
        return;
    }
    if (strcmp(r->status, "setup") == 0) {
        r->pass = 1;
        push_status(r, "active");
    } else if (strcmp(r->status, "active") == 0 && r->pass < 3) {
        r->pass++;
        push_status(r, "active");
    } else if (strcmp(r->status, "active") == 0) {
        bool waits = has_capability(r, "pause-before-switchover");
        push_run(r, "finish-migrate",
                 r->rehearsal->guest_ran && !r->rehearsal->held ? "STOP" : NULL);
        push_status(r, waits ? "pre-switchover" : "device");
    } else if (strcmp(r->status, "device") == 0) {
        complete(r);
    } else if (strcmp(r->status, "postcopy-active") == 0 &&
               (there->run_state == NULL || strcmp(there->run_state, "running") == 0 ||
                r->n_asked > 20)) {
        complete(r);
    }
}

static JsonObject *
tell_migration(QmigRehearsed *r)
{
    JsonObject *reply = json_object_new_object(), *ram;

    if (r->which == QMIG_REHEARSAL_SOURCE) {
        move_on(r);
        ram = json_object_new_object();
        json_object_object_add(ram, "total",
                               json_object_new_int64((int64_t)r->side->memory));
        json_object_object_add(ram, "remaining", json_object_new_int64(0));
        json_object_object_add(ram, "transferred", json_object_new_int64(r->pass));
        json_object_object_add(ram, "dirty-sync-count", json_object_new_int64(r->pass));
        json_object_object_add(ram, "page-size", json_object_new_int64(4096));
        json_object_object_add(reply, "ram", ram);
    }
    json_object_object_add(reply, "status", text(r->status));
    if (r->socket_address != NULL) {
        json_object_object_add(reply, "socket-address",
                               json_object_get(r->socket_address));
    }
    return reply;
}

static JsonObject *
tell_run(const QmigRehearsed *r)
{
    JsonObject *reply = json_object_new_object();

    json_object_object_add(reply, "running",
                           json_object_new_boolean(strcmp(r->run_state, "running") == 0));
    json_object_object_add(reply, "status", text(r->run_state));
    return reply;
}

static JsonObject *
tell_capabilities(const QmigRehearsed *r)
{
    JsonObject *list = json_object_new_array();

    json_object_object_foreach(r->capabilities, name, state)
    {
        JsonObject *entry = json_object_new_object();
        json_object_object_add(entry, "capability", text(name));
        json_object_object_add(entry, "state", json_object_get(state));
        json_object_array_add(list, entry);
    }
    return list;
}

/* @key: what block jobs and jobs call the name. */
static JsonObject *
tell_jobs(const QmigRehearsed *r, const char *key)
{
    JsonObject *list = json_object_new_array();

    json_object_object_foreach(r->jobs, id, job)
    {
        JsonObject *entry = json_object_new_object();
        copy_members(entry, job);
        json_object_object_del(entry, "keep");
        json_object_object_add(entry, key, text(id));
        json_object_object_add(entry, "ready", json_object_new_boolean(true));
        json_object_object_add(entry, "busy", json_object_new_boolean(false));
        json_object_object_add(entry, "paused", json_object_new_boolean(false));
        json_object_object_add(entry, "io-status", text("ok"));
        json_object_object_add(entry, "actively-synced", json_object_new_boolean(true));
        json_object_object_add(entry, "current-progress", json_object_new_int64(0));
        json_object_object_add(entry, "total-progress", json_object_new_int64(0));
        json_object_array_add(list, entry);
    }
    return list;
}

static JsonObject *
tell_exports(const QmigRehearsed *r)
{
    JsonObject *list = json_object_new_array();

    json_object_object_foreach(r->exports, id, arguments)
    {
        JsonObject *entry = json_object_new_object();
        copy_members(entry, arguments);
        json_object_object_add(entry, "id", text(id));
        json_object_object_add(entry, "shutting-down", json_object_new_boolean(false));
        json_object_array_add(list, entry);
    }
    return list;
}

bool
qmig_rehearsal_ask(QmigRehearsed *r, const char *command, JsonObject *arguments,
                   JsonObject **answer)
{
    (void)arguments;
    if (strcmp(command, "query-migrate") == 0 && r->status != NULL) {
        *answer = tell_migration(r);
    } else if (strcmp(command, "query-status") == 0 && r->run_state != NULL) {
        *answer = tell_run(r);
    } else if (strcmp(command, "query-migrate-capabilities") == 0 &&
               r->capabilities != NULL) {
        *answer = tell_capabilities(r);
    } else if (strcmp(command, "query-migrate-parameters") == 0 &&
               r->parameters != NULL) {
        *answer = json_object_get(r->parameters);
    } else if (strcmp(command, "query-block-jobs") == 0 && has_members(r->jobs)) {
        *answer = tell_jobs(r, "device");
    } else if (strcmp(command, "query-jobs") == 0 && has_members(r->jobs)) {
        *answer = tell_jobs(r, "id");
    } else if (strcmp(command, "query-block-exports") == 0 && has_members(r->exports)) {
        *answer = tell_exports(r);
    } else {
        return false;
    }
    return true;
}

void
qmig_rehearsed_clear(QmigRehearsed *r)
{
    json_object_put(r->capabilities);
    json_object_put(r->parameters);
    json_object_put(r->socket_address);
    json_object_put(r->jobs);
    json_object_put(r->exports);
    json_object_put(r->nodes);
    json_object_put(r->objects);
}
