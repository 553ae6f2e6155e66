/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See qom.h. */
#include "qmp/qom.h"

#include "util/error.h"

#include <string.h>

bool
qmig_qmp_ask(QmigQmp *qmp, const char *command, JsonObject *arguments,
             JsonObject **answer, GError **error)
{
    g_autoptr(GError) local = NULL;

    *answer = NULL;
    if (qmig_qmp_execute(qmp, command, arguments, answer, NULL, &local) ||
        g_error_matches(local, QMIG_ERROR, QMIG_ERROR_QMP)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool
qmig_qmp_ask_human(QmigQmp *qmp, const char *command_line, char **text, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    g_autoptr(JsonObject) answer = NULL;

    *text = NULL;
    json_object_object_add(arguments, "command-line",
                           json_object_new_string(command_line));
    if (!qmig_qmp_ask(qmp, "human-monitor-command", arguments, &answer, error)) {
        return false;
    }
    if (json_object_is_type(answer, json_type_string)) {
        *text = g_strdup(json_object_get_string(answer));
    }
    return true;
}

char *
qmig_qom_child_type(JsonObject *entry)
{
    const char *type = qmig_json_string(entry, "type");

    if (type == NULL || !g_str_has_prefix(type, "child<") ||
        !g_str_has_suffix(type, ">")) {
        return NULL;
    }
    return g_strndup(type + strlen("child<"), strlen(type) - strlen("child<>"));
}

static JsonObject *
path_argument(const char *path)
{
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "path", json_object_new_string(path));
    return arguments;
}

bool
qmig_qom_list(QmigQmp *qmp, const char *path, JsonObject **list, GError **error)
{
    if (!qmig_qmp_ask(qmp, "qom-list", path_argument(path), list, error)) {
        return false;
    }
    if (*list != NULL && !json_object_is_type(*list, json_type_array)) {
        g_clear_pointer(list, json_object_put);
    }
    if (*list != NULL && json_object_array_length(*list) > QMIG_QOM_MAX_ENTRIES) {
        json_object_array_del_idx(*list, QMIG_QOM_MAX_ENTRIES,
                                  json_object_array_length(*list) - QMIG_QOM_MAX_ENTRIES);
    }
    return true;
}

bool
qmig_qom_get(QmigQmp *qmp, const char *path, const char *property, JsonObject **value,
             GError **error)
{
    JsonObject *arguments = path_argument(path);

    json_object_object_add(arguments, "property", json_object_new_string(property));
    return qmig_qmp_ask(qmp, "qom-get", arguments, value, error);
}

static bool
is_wanted(const char *name, const char *type)
{
    return name != NULL && type != NULL && !g_str_has_prefix(type, "child<") &&
           (!g_str_has_prefix(type, "link<") || strcmp(name, "parent_bus") == 0);
}

bool
qmig_qom_properties(QmigQmp *qmp, const char *path, JsonObject **properties,
                    GError **error)
{
    g_autoptr(JsonObject) list = NULL;
    g_autoptr(JsonObject) found = json_object_new_object();

    if (!qmig_qom_list(qmp, path, &list, error)) {
        return false;
    }
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *entry = json_object_array_get_idx(list, i), *value = NULL;
        const char *name = qmig_json_string(entry, "name");

        if (!is_wanted(name, qmig_json_string(entry, "type"))) {
            continue;
        }
        if (!qmig_qom_get(qmp, path, name, &value, error)) {
            return false;
        }
        if (value != NULL) {
            json_object_object_add(found, name, value);
        }
    }
    *properties = g_steal_pointer(&found);
    return true;
}
