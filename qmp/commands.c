/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Typed commands; each is one QMP command and the reading of its reply. */
#include "qmp/commands.h"

#include "util/error.h"

#include <string.h>

static const struct {
    const char *text;
    QmigMigrationStatus status;
} statuses[] = {
    { "none", QMIG_STATUS_NONE },
    { "setup", QMIG_STATUS_SETUP },
    { "wait-unplug", QMIG_STATUS_SETUP },
    { "active", QMIG_STATUS_ACTIVE },
    { "pre-switchover", QMIG_STATUS_PRE_SWITCHOVER },
    { "device", QMIG_STATUS_DEVICE },
    { "cancelling", QMIG_STATUS_CANCELLING },
    { "cancelled", QMIG_STATUS_CANCELLED },
    { "failed", QMIG_STATUS_FAILED },
    { "completed", QMIG_STATUS_COMPLETED },
    { "colo", QMIG_STATUS_COLO },
};

QmigMigrationStatus
qmig_status_parse(const char *text)
{
    for (size_t i = 0; i < G_N_ELEMENTS(statuses); i++) {
        if (strcmp(statuses[i].text, text) == 0) {
            return statuses[i].status;
        }
    }
    return g_str_has_prefix(text, "postcopy-") ? QMIG_STATUS_POSTCOPY
                                               : QMIG_STATUS_UNKNOWN;
}

bool
qmig_status_is_final(QmigMigrationStatus status)
{
    return status == QMIG_STATUS_CANCELLED || status == QMIG_STATUS_FAILED ||
           status == QMIG_STATUS_COMPLETED;
}

void
qmig_migration_info_clear(QmigMigrationInfo *info)
{
    g_free(info->status_text);
    g_free(info->error);
    qmig_address_free(info->socket_address);
    g_free(info->blocked);
    *info = (QmigMigrationInfo){ 0 };
}

static uint64_t
count(JsonObject *object, const char *key)
{
    return (uint64_t)MAX(qmig_json_int(object, key, 0), 0);
}

/* [{"type": "inet", "host": …, "port": "…"}] or [{"type": "unix", "path": …}]. */
static QmigAddress *
parse_socket_address(JsonObject *list)
{
    JsonObject *first = list != NULL && json_object_array_length(list) > 0
                            ? json_object_array_get_idx(list, 0)
                            : NULL;
    const char *path = qmig_json_string(first, "path");
    const char *host = qmig_json_string(first, "host");
    const char *port = qmig_json_string(first, "port");
    guint64 number;

    if (path != NULL) {
        return qmig_address_new_unix(path);
    }
    if (host != NULL && port != NULL &&
        g_ascii_string_to_unsigned(port, 10, 1, 65535, &number, NULL)) {
        return qmig_address_new_tcp(host, (uint16_t)number);
    }
    return NULL;
}

/* The strings of a list as one; NULL when there are none. */
static char *
join(JsonObject *list)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new();

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *text = json_object_array_get_idx(list, i);
        if (json_object_is_type(text, json_type_string)) {
            g_ptr_array_add(texts, (gpointer)json_object_get_string(text));
        }
    }
    if (texts->len == 0) {
        return NULL;
    }
    g_ptr_array_add(texts, NULL);
    return g_strjoinv("; ", (char **)texts->pdata);
}

void
qmig_migration_info_parse(QmigMigrationInfo *info, JsonObject *reply)
{
    const char *text = qmig_json_string(reply, "status");
    JsonObject *ram = qmig_json_get(reply, "ram", json_type_object);

    *info = (QmigMigrationInfo){
        .status = text != NULL ? qmig_status_parse(text) : QMIG_STATUS_NONE,
        .status_text = g_strdup(text != NULL ? text : "none"),
        .error = g_strdup(qmig_json_string(reply, "error-desc")),
        .socket_address = parse_socket_address(
            qmig_json_get(reply, "socket-address", json_type_array)),
        .blocked = join(qmig_json_get(reply, "blocked-reasons", json_type_array)),
        .transferred = count(ram, "transferred"),
        .remaining = count(ram, "remaining"),
        .total = count(ram, "total"),
        .normal = count(ram, "normal"),
        .duplicate = count(ram, "duplicate"),
        .page_size = count(ram, "page-size"),
        .dirty_rate = count(ram, "dirty-pages-rate"),
        .iterations = count(ram, "dirty-sync-count"),
        .mbps = qmig_json_double(ram, "mbps", 0),
        .total_ms = count(reply, "total-time"),
        .setup_ms = count(reply, "setup-time"),
        .downtime_ms = count(reply, "downtime"),
        .expected_downtime_ms = count(reply, "expected-downtime"),
        .throttle_percent = count(reply, "cpu-throttle-percentage"),
    };
}

bool
qmig_qmp_query_migrate(QmigQmp *qmp, QmigMigrationInfo *info, const QmigQmpCall *call,
                       GError **error)
{
    g_autoptr(JsonObject) reply = NULL;

    if (!qmig_qmp_execute(qmp, "query-migrate", NULL, &reply, call, error)) {
        return false;
    }
    qmig_migration_info_parse(info, reply);
    return true;
}

/* A reply that lacks what its command promises. */
static bool
bad_reply(QmigQmp *qmp, const char *command, JsonObject *reply, GError **error)
{
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%s: %s: unexpected reply %.200s",
                          qmig_qmp_label(qmp), command,
                          json_object_to_json_string(reply));
}

bool
qmig_qmp_query_status(QmigQmp *qmp, bool *running, char **status, const QmigQmpCall *call,
                      GError **error)
{
    g_autoptr(JsonObject) reply = NULL;

    if (!qmig_qmp_execute(qmp, "query-status", NULL, &reply, call, error)) {
        return false;
    }
    const char *text = qmig_json_string(reply, "status");
    if (text == NULL || qmig_json_get(reply, "running", json_type_boolean) == NULL) {
        return bad_reply(qmp, "query-status", reply, error);
    }
    *running = qmig_json_bool(reply, "running", false);
    if (status != NULL) {
        *status = g_strdup(text);
    }
    return true;
}

char *
qmig_qmp_query_machine(QmigQmp *qmp, GError **error)
{
    g_autoptr(JsonObject) reply = NULL;
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "path", json_object_new_string("/machine"));
    json_object_object_add(arguments, "property", json_object_new_string("type"));
    if (!qmig_qmp_execute(qmp, "qom-get", arguments, &reply, NULL, error)) {
        return NULL;
    }
    if (!json_object_is_type(reply, json_type_string)) {
        bad_reply(qmp, "qom-get", reply, error);
        return NULL;
    }
    const char *type = json_object_get_string(reply);
    size_t len = strlen(type);
    if (g_str_has_suffix(type, "-machine")) {
        len -= strlen("-machine");
    }
    return g_strndup(type, len);
}

bool
qmig_qmp_query_memory(QmigQmp *qmp, uint64_t *bytes, GError **error)
{
    g_autoptr(JsonObject) reply = NULL;

    if (!qmig_qmp_execute(qmp, "query-memory-size-summary", NULL, &reply, NULL, error)) {
        return false;
    }
    if (qmig_json_get(reply, "base-memory", json_type_int) == NULL) {
        return bad_reply(qmp, "query-memory-size-summary", reply, error);
    }
    *bytes = count(reply, "base-memory") + count(reply, "plugged-memory");
    return true;
}

bool
qmig_qmp_query_vcpus(QmigQmp *qmp, unsigned *n, GError **error)
{
    g_autoptr(JsonObject) reply = NULL;

    if (!qmig_qmp_execute(qmp, "query-cpus-fast", NULL, &reply, NULL, error)) {
        return false;
    }
    if (!json_object_is_type(reply, json_type_array)) {
        return bad_reply(qmp, "query-cpus-fast", reply, error);
    }
    *n = (unsigned)json_object_array_length(reply);
    return true;
}

JsonObject *
qmig_qmp_get_capabilities(QmigQmp *qmp, GError **error)
{
    g_autoptr(JsonObject) reply = NULL;

    if (!qmig_qmp_execute(qmp, "query-migrate-capabilities", NULL, &reply, NULL, error)) {
        return NULL;
    }
    if (!json_object_is_type(reply, json_type_array)) {
        bad_reply(qmp, "query-migrate-capabilities", reply, error);
        return NULL;
    }
    JsonObject *states = json_object_new_object();
    for (size_t i = 0; i < json_object_array_length(reply); i++) {
        JsonObject *entry = json_object_array_get_idx(reply, i);
        const char *name = qmig_json_string(entry, "capability");
        if (name != NULL) {
            json_object_object_add(
                states, name,
                json_object_new_boolean(qmig_json_bool(entry, "state", false)));
        }
    }
    return states;
}

bool
qmig_qmp_set_capabilities(QmigQmp *qmp, JsonObject *states, GError **error)
{
    JsonObject *arguments, *list;

    if (json_object_object_length(states) == 0) {
        return true;
    }
    list = json_object_new_array();
    json_object_object_foreach(states, name, state)
    {
        JsonObject *entry = json_object_new_object();
        json_object_object_add(entry, "capability", json_object_new_string(name));
        json_object_object_add(entry, "state", json_object_get(state));
        json_object_array_add(list, entry);
    }
    arguments = json_object_new_object();
    json_object_object_add(arguments, "capabilities", list);
    return qmig_qmp_execute(qmp, "migrate-set-capabilities", arguments, NULL, NULL,
                            error);
}

JsonObject *
qmig_qmp_get_parameters(QmigQmp *qmp, GError **error)
{
    JsonObject *reply = NULL;

    if (!qmig_qmp_execute(qmp, "query-migrate-parameters", NULL, &reply, NULL, error)) {
        return NULL;
    }
    if (!json_object_is_type(reply, json_type_object)) {
        bad_reply(qmp, "query-migrate-parameters", reply, error);
        json_object_put(reply);
        return NULL;
    }
    return reply;
}

bool
qmig_qmp_set_parameters(QmigQmp *qmp, JsonObject *values, GError **error)
{
    if (json_object_object_length(values) == 0) {
        return true;
    }
    return qmig_qmp_execute(qmp, "migrate-set-parameters", json_object_get(values), NULL,
                            NULL, error);
}

static bool
with_uri(QmigQmp *qmp, const char *command, const char *uri, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "uri", json_object_new_string(uri));
    return qmig_qmp_execute(qmp, command, arguments, NULL, NULL, error);
}

bool
qmig_qmp_migrate(QmigQmp *qmp, const char *uri, GError **error)
{
    return with_uri(qmp, "migrate", uri, error);
}

bool
qmig_qmp_migrate_resume(QmigQmp *qmp, const char *uri, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "uri", json_object_new_string(uri));
    json_object_object_add(arguments, "resume", json_object_new_boolean(true));
    return qmig_qmp_execute(qmp, "migrate", arguments, NULL, NULL, error);
}

bool
qmig_qmp_migrate_recover(QmigQmp *qmp, const char *uri, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    QmigQmpCall call = { .oob = qmig_qmp_has_oob(qmp) };

    json_object_object_add(arguments, "uri", json_object_new_string(uri));
    return qmig_qmp_execute(qmp, "migrate-recover", arguments, NULL, &call, error);
}

bool
qmig_qmp_migrate_pause(QmigQmp *qmp, GError **error)
{
    QmigQmpCall call = { .oob = qmig_qmp_has_oob(qmp) };

    return qmig_qmp_execute(qmp, "migrate-pause", NULL, NULL, &call, error);
}

bool
qmig_qmp_start_postcopy(QmigQmp *qmp, GError **error)
{
    return qmig_qmp_execute(qmp, "migrate-start-postcopy", NULL, NULL, NULL, error);
}

bool
qmig_qmp_migrate_incoming(QmigQmp *qmp, const char *uri, GError **error)
{
    return with_uri(qmp, "migrate-incoming", uri, error);
}

bool
qmig_qmp_migrate_cancel(QmigQmp *qmp, const QmigQmpCall *call, GError **error)
{
    return qmig_qmp_execute(qmp, "migrate_cancel", NULL, NULL, call, error);
}

bool
qmig_qmp_yank_migration(QmigQmp *qmp, GError **error)
{
    JsonObject *instance = json_object_new_object();
    JsonObject *list = json_object_new_array();
    JsonObject *arguments = json_object_new_object();
    QmigQmpCall call = { .oob = true };

    json_object_object_add(instance, "type", json_object_new_string("migration"));
    json_object_array_add(list, instance);
    json_object_object_add(arguments, "instances", list);
    return qmig_qmp_execute(qmp, "yank", arguments, NULL, &call, error);
}

bool
qmig_qmp_stop(QmigQmp *qmp, GError **error)
{
    return qmig_qmp_execute(qmp, "stop", NULL, NULL, NULL, error);
}

bool
qmig_qmp_cont(QmigQmp *qmp, GError **error)
{
    return qmig_qmp_execute(qmp, "cont", NULL, NULL, NULL, error);
}

bool
qmig_qmp_quit(QmigQmp *qmp, const QmigQmpCall *call, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (qmig_qmp_execute(qmp, "quit", NULL, NULL, call, &local) ||
        g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool
qmig_qmp_getfd(QmigQmp *qmp, const char *name, int fd, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    QmigQmpCall call = { .fd = fd };

    json_object_object_add(arguments, "fdname", json_object_new_string(name));
    return qmig_qmp_execute(qmp, "getfd", arguments, NULL, &call, error);
}
