/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lookups in the reply of query-qmp-schema: an array of entries, each with a name and a
 * meta-type, that refer to each other by name. Types have made-up names ("123"), so every
 * question starts at a command or event.
 *
 * The schema comes from a peer: a type may refer to one that is missing, or to itself. A
 * search therefore looks into each type once, not too deep, and what is not found is "no".
 */
#include "qmp/schema.h"

#include "util/error.h"

#include <string.h>

/* Types within types on the way to one member: arrays of alternates of objects of unions. */
#define MAX_HOPS 16

struct QmigSchema {
    JsonObject *entries;
    GHashTable *by_name; /* borrowed name -> borrowed entry */
};

QmigSchema *
qmig_schema_new(JsonObject *entries, GError **error)
{
    g_autoptr(GHashTable) by_name = g_hash_table_new(g_str_hash, g_str_equal);

    if (!json_object_is_type(entries, json_type_array)) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL, "query-qmp-schema: reply is no array");
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(entries); i++) {
        JsonObject *entry = json_object_array_get_idx(entries, i);
        const char *name = qmig_json_string(entry, "name");

        if (name == NULL || qmig_json_string(entry, "meta-type") == NULL) {
            qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                           "query-qmp-schema: entry %zu lacks its name or meta-type", i);
            return NULL;
        }
        g_hash_table_insert(by_name, (gpointer)name, entry);
    }
    QmigSchema *s = g_new0(QmigSchema, 1);
    s->entries = json_object_get(entries);
    s->by_name = g_steal_pointer(&by_name);
    return s;
}

QmigSchema *
qmig_schema_load(QmigQmp *q, GError **error)
{
    g_autoptr(JsonObject) entries = NULL;

    if (!qmig_qmp_execute(q, "query-qmp-schema", NULL, &entries, NULL, error)) {
        return NULL;
    }
    QmigSchema *s = qmig_schema_new(entries, error);
    if (s == NULL) {
        g_prefix_error(error, "%s: ", qmig_qmp_label(q));
    }
    return s;
}

void
qmig_schema_free(QmigSchema *s)
{
    if (s == NULL) {
        return;
    }
    g_hash_table_unref(s->by_name);
    json_object_put(s->entries);
    g_free(s);
}

static bool
is_meta(JsonObject *entry, const char *meta)
{
    return g_strcmp0(qmig_json_string(entry, "meta-type"), meta) == 0;
}

/* The entry of that name and meta-type, or NULL. */
static JsonObject *
find(const QmigSchema *s, const char *name, const char *meta)
{
    JsonObject *entry = name != NULL ? g_hash_table_lookup(s->by_name, name) : NULL;

    return entry != NULL && (meta == NULL || is_meta(entry, meta)) ? entry : NULL;
}

/* The type that member @key of @object names, or NULL. */
static JsonObject *
type_of(const QmigSchema *s, JsonObject *object, const char *key)
{
    return find(s, qmig_json_string(object, key), NULL);
}

/* One search for a member; what was looked into need not be again, however types refer. */
typedef struct {
    const QmigSchema *schema;
    const char *name; /* only the first len bytes */
    size_t len;
    GHashTable *seen; /* types, borrowed */
    int depth;        /* of calls, each on the stack */
} Search;

static JsonObject *look_into(Search *search, JsonObject *type);

/* The type of the member of @type (nullable). */
static JsonObject *
find_member(Search *search, JsonObject *type)
{
    JsonObject *found = NULL;

    if (type != NULL && search->depth < MAX_HOPS &&
        g_hash_table_add(search->seen, type)) {
        search->depth++;
        found = look_into(search, type);
        search->depth--;
    }
    return found;
}

/* The first type that the member leads to, among the types a list of @key refers to. */
static JsonObject *
find_in_list(Search *search, JsonObject *type, const char *key)
{
    JsonObject *list = qmig_json_get(type, key, json_type_array);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *branch = json_object_array_get_idx(list, i);
        JsonObject *found = find_member(search, type_of(search->schema, branch, "type"));

        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

static JsonObject *
look_into(Search *search, JsonObject *type)
{
    JsonObject *list = qmig_json_get(type, "members", json_type_array);

    if (is_meta(type, "array")) {
        return find_member(search, type_of(search->schema, type, "element-type"));
    }
    if (is_meta(type, "alternate")) {
        return find_in_list(search, type, "members");
    }
    if (!is_meta(type, "object") || list == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *member = json_object_array_get_idx(list, i);
        const char *name = qmig_json_string(member, "name");

        if (name != NULL && strlen(name) == search->len &&
            memcmp(name, search->name, search->len) == 0) {
            return type_of(search->schema, member, "type");
        }
    }
    return find_in_list(search, type, "variants");
}

/* Walk "a.b.c" from @type. */
static JsonObject *
walk(const QmigSchema *s, JsonObject *type, const char *path)
{
    while (type != NULL) {
        g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
        size_t len = strcspn(path, ".");
        Search search = { .schema = s, .name = path, .len = len, .seen = seen };

        type = find_member(&search, type);
        if (path[len] == '\0') {
            return type;
        }
        path += len + 1;
    }
    return NULL;
}

static JsonObject *
find_arg(const QmigSchema *s, const char *command, const char *path)
{
    JsonObject *entry = find(s, command, "command");

    return entry != NULL ? walk(s, type_of(s, entry, "arg-type"), path) : NULL;
}

bool
qmig_schema_has_command(const QmigSchema *s, const char *command)
{
    return find(s, command, "command") != NULL;
}

bool
qmig_schema_command_has_oob(const QmigSchema *s, const char *command)
{
    return qmig_json_bool(find(s, command, "command"), "allow-oob", false);
}

bool
qmig_schema_has_event(const QmigSchema *s, const char *event)
{
    return find(s, event, "event") != NULL;
}

bool
qmig_schema_command_has_arg(const QmigSchema *s, const char *command, const char *path)
{
    return find_arg(s, command, path) != NULL;
}

bool
qmig_schema_command_returns(const QmigSchema *s, const char *command, const char *path)
{
    JsonObject *entry = find(s, command, "command");

    return entry != NULL && walk(s, type_of(s, entry, "ret-type"), path) != NULL;
}

static QmigSchemaType
builtin_type(JsonObject *type)
{
    static const struct {
        const char *name;
        QmigSchemaType type;
    } names[] = {
        { "boolean", QMIG_SCHEMA_BOOL },
        { "int", QMIG_SCHEMA_INT },
        { "number", QMIG_SCHEMA_NUMBER },
        { "string", QMIG_SCHEMA_STRING },
    };
    const char *json = qmig_json_string(type, "json-type");

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_strcmp0(json, names[i].name) == 0) {
            return names[i].type;
        }
    }
    return QMIG_SCHEMA_OTHER;
}

/* An alternate that takes a string is set as one. */
static QmigSchemaType
alternate_type(const QmigSchema *s, JsonObject *type)
{
    JsonObject *list = qmig_json_get(type, "members", json_type_array);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *branch = type_of(s, json_object_array_get_idx(list, i), "type");

        if (branch != NULL && is_meta(branch, "builtin") &&
            builtin_type(branch) == QMIG_SCHEMA_STRING) {
            return QMIG_SCHEMA_STRING;
        }
    }
    return QMIG_SCHEMA_OTHER;
}

QmigSchemaType
qmig_schema_command_arg_type(const QmigSchema *s, const char *command, const char *path)
{
    JsonObject *type = find_arg(s, command, path);

    if (type == NULL) {
        return QMIG_SCHEMA_NONE;
    }
    if (is_meta(type, "builtin")) {
        return builtin_type(type);
    }
    if (is_meta(type, "enum")) {
        return QMIG_SCHEMA_ENUM;
    }
    if (is_meta(type, "array")) {
        return QMIG_SCHEMA_ARRAY;
    }
    if (is_meta(type, "object")) {
        return QMIG_SCHEMA_OBJECT;
    }
    return is_meta(type, "alternate") ? alternate_type(s, type) : QMIG_SCHEMA_OTHER;
}

/* Names in a list of strings ("values") or of objects with a name ("members"). */
static char **
names_of(JsonObject *type, const char *key)
{
    GPtrArray *names = g_ptr_array_new();
    JsonObject *list = qmig_json_get(type, key, json_type_array);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *element = json_object_array_get_idx(list, i);
        const char *name = json_object_is_type(element, json_type_string)
                               ? json_object_get_string(element)
                               : qmig_json_string(element, "name");

        if (name != NULL) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

char **
qmig_schema_command_arg_enum_values(const QmigSchema *s, const char *command,
                                    const char *path)
{
    JsonObject *type = find_arg(s, command, path);

    /* An array of enum, such as a list of capabilities to enable. */
    for (int hops = 0; hops < MAX_HOPS && type != NULL && is_meta(type, "array");
         hops++) {
        type = type_of(s, type, "element-type");
    }
    if (type == NULL || !is_meta(type, "enum")) {
        return g_new0(char *, 1);
    }
    /* "members" since 6.2; "values" is what older ones have, and will go some day. */
    g_auto(GStrv) members = names_of(type, "members");
    return members[0] != NULL ? g_steal_pointer(&members) : names_of(type, "values");
}

bool
qmig_schema_command_arg_enum_has(const QmigSchema *s, const char *command,
                                 const char *path, const char *value)
{
    g_auto(GStrv) values = qmig_schema_command_arg_enum_values(s, command, path);

    return g_strv_contains((const char *const *)values, value);
}

bool
qmig_schema_has_capability(const QmigSchema *s, const char *name)
{
    return qmig_schema_command_arg_enum_has(s, "migrate-set-capabilities",
                                            "capabilities.capability", name);
}

bool
qmig_schema_has_parameter(const QmigSchema *s, const char *name)
{
    return strchr(name, '.') == NULL &&
           qmig_schema_command_has_arg(s, "migrate-set-parameters", name);
}

char **
qmig_schema_capabilities(const QmigSchema *s)
{
    return qmig_schema_command_arg_enum_values(s, "migrate-set-capabilities",
                                               "capabilities.capability");
}

char **
qmig_schema_parameters(const QmigSchema *s)
{
    JsonObject *entry = find(s, "migrate-set-parameters", "command");

    return names_of(entry != NULL ? type_of(s, entry, "arg-type") : NULL, "members");
}
