/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See device.h. */
#include "stream/device.h"

#include "stream/bounds.h"
#include "stream/format.h"
#include "util/cursor.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

enum {
    COST_VALUE = 1,
    COST_OBJECT = 16,
};

/* One section while it is decoded. */
typedef struct {
    const uint8_t *start;
    QmigCursor c;
    uint64_t *budget;
} Reading;

static JsonObject *read_state(Reading *r, JsonObject *described, GError **error);

typedef struct json_tokener JsonTokener;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonTokener, json_tokener_free)

/* What the text will take in memory, before it does; see QMIG_LIMIT_DESCRIPTION_COST. Those
 * inside of strings count, too: names have few. */
static uint64_t
description_cost(const char *json, uint64_t length)
{
    uint64_t cost = 0;

    for (uint64_t i = 0; i < length; i++) {
        cost += json[i] == ',' ? 1 : json[i] == '{' ? 16 : json[i] == '[' ? 8 : 0;
    }
    return cost;
}

JsonObject *
qmig_description_parse(const char *json, uint64_t length, GError **error)
{
    g_autoptr(JsonTokener) tok = json_tokener_new_ex(QMIG_LIMIT_DESCRIPTION_DEPTH);
    g_autoptr(JsonObject) description = NULL;

    if (length > QMIG_LIMIT_TAIL ||
        description_cost(json, length) > QMIG_LIMIT_DESCRIPTION_COST) {
        qmig_set_error(error, QMIG_ERROR_LIMIT,
                       "description: %" PRIu64 " bytes of JSON with more objects and "
                       "values than any machine has (QMIG_LIMIT_DESCRIPTION_COST)",
                       length);
        return NULL;
    }
    description = json_tokener_parse_ex(tok, json, (int)length);
    if (!json_object_is_type(description, json_type_object)) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "description: %s at byte %zu of %" PRIu64,
                       json_tokener_error_desc(json_tokener_get_error(tok)),
                       json_tokener_get_parse_end(tok), length);
        return NULL;
    }
    return g_steal_pointer(&description);
}

static JsonObject *
get_typed(JsonObject *object, const char *key, enum json_type type)
{
    JsonObject *member;

    return json_object_object_get_ex(object, key, &member) &&
                   json_object_is_type(member, type)
               ? member
               : NULL;
}

static const char *
get_text(JsonObject *object, const char *key)
{
    JsonObject *member = get_typed(object, key, json_type_string);

    return member != NULL ? json_object_get_string(member) : NULL;
}

/* Of a field, described or ours. */
static const char *
type_of(JsonObject *field)
{
    const char *type = get_text(field, "type");

    return type != NULL ? type : "";
}

/* A number that is not negative; @fallback when there is none. */
static uint64_t
get_number(JsonObject *object, const char *key, uint64_t fallback)
{
    JsonObject *member = get_typed(object, key, json_type_int);

    return member != NULL && json_object_get_int64(member) >= 0
               ? (uint64_t)json_object_get_int64(member)
               : fallback;
}

/* A hash, as both the description and the stream may have a million devices. */
GHashTable *
qmig_description_index(JsonObject *description)
{
    GHashTable *index = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    JsonObject *devices = get_typed(description, "devices", json_type_array);

    for (size_t i = 0; devices != NULL && i < json_object_array_length(devices); i++) {
        JsonObject *device = json_object_array_get_idx(devices, i);
        const char *name = get_text(device, "name");

        if (name != NULL) {
            g_hash_table_insert(index,
                                g_strdup_printf("%" PRIu64 " %s",
                                                get_number(device, "instance_id", 0),
                                                name),
                                device);
        }
    }
    return index;
}

JsonObject *
qmig_description_device(GHashTable *index, const char *name, uint32_t instance)
{
    g_autofree char *key = g_strdup_printf("%" PRIu32 " %s", instance, name);

    return g_hash_table_lookup(index, key);
}

static JsonObject *
hex(const uint8_t *data, uint64_t length)
{
    static const char digits[] = "0123456789abcdef";
    g_autofree char *text = g_malloc(2 * length + 1);

    for (uint64_t i = 0; i < length; i++) {
        text[2 * i] = digits[data[i] >> 4];
        text[2 * i + 1] = digits[data[i] & 0xf];
    }
    return json_object_new_string_len(text, (int)(2 * length));
}

/* Big-endian, of 1, 2, 4 or 8 bytes; of others the bytes as text. */
static JsonObject *
integer(const uint8_t *data, uint64_t length, bool is_signed)
{
    QmigCursor c = qmig_cursor(data, length);
    uint64_t v = 0;
    uint8_t byte;

    if (length > sizeof v) {
        return hex(data, length);
    }
    while (qmig_cursor_u8(&c, &byte)) {
        v = v << 8 | byte;
    }
    if (!is_signed) {
        return json_object_new_uint64(v);
    }
    unsigned unused = (unsigned)(64 - 8 * length) % 64;
    return json_object_new_int64((int64_t)(v << unused) >> unused);
}

static JsonObject *
leaf(const char *type, const uint8_t *data, uint64_t length)
{
    if (strcmp(type, "bool") == 0 && length == 1) {
        return json_object_new_boolean(data[0] != 0);
    }
    if (strcmp(type, "nullptr") == 0 && length == 1 && data[0] == WIRE_NULL_POINTER) {
        return NULL;
    }
    if (g_str_has_prefix(type, "uint")) {
        return integer(data, length, false);
    }
    if (g_str_has_prefix(type, "int") || strcmp(type, "timer") == 0) {
        return integer(data, length, true);
    }
    return hex(data, length);
}

static bool
fail(const Reading *r, GError **error, const char *field, const char *text)
{
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "field \"%s\" at byte %zu: %s",
                          field, (size_t)(r->c.p - r->start), text);
}

static bool
spend(Reading *r, uint64_t cost, GError **error)
{
    if (*r->budget < cost) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "the states of the stream have more fields than %d allow",
                              QMIG_LIMIT_DEVICE_COST);
    }
    *r->budget -= cost;
    return true;
}

/* What describes the inside of a field; NULL: nothing does. */
static JsonObject *
inside(JsonObject *field, const char *type)
{
    /* QEMU writes the inside of these two right into the field. Of lists and trees ("qtailq",
       "qlist", "gtree") too, but of each element in the same place: only the last is known. */
    if ((strcmp(type, "tmp") == 0 || strcmp(type, "vstruct") == 0) &&
        get_typed(field, "fields", json_type_array) != NULL) {
        return field;
    }
    return get_typed(field, "struct", json_type_object);
}

/* One element of a field. @value may become NULL: JSON's null. */
static bool
read_value(Reading *r, JsonObject *field, const char *name, JsonObject **value,
           GError **error)
{
    const char *type = type_of(field);
    JsonObject *nested = inside(field, type);
    uint64_t size = get_number(field, "size", UINT64_MAX);
    const uint8_t *begin = r->c.p, *data;

    /* No byte of the section bounds how many there are of those without bytes. */
    if (!spend(r, size > 0 ? COST_VALUE : COST_OBJECT, error)) {
        return false;
    }
    if (size > qmig_cursor_left(&r->c)) {
        return fail(r, error, name, "its size is beyond the section's end");
    }
    if (nested == NULL) {
        bool ok = qmig_cursor_bytes(&r->c, size, &data);
        g_assert(ok);
        *value = leaf(type, data, size);
        return true;
    }
    *value = read_state(r, nested, error);
    if (*value == NULL) {
        return false;
    }
    if ((uint64_t)(r->c.p - begin) != size) {
        json_object_put(*value);
        return fail(r, error, name, "the structure does not have the size that is told");
    }
    return true;
}

/* The entry that a value of @field continues, NULL: none. Pieces of one array follow each other. */
static JsonObject *
find_entry(JsonObject *fields, const char *name, const char *type)
{
    size_t n = json_object_array_length(fields);
    JsonObject *last = n > 0 ? json_object_array_get_idx(fields, n - 1) : NULL;
    const char *last_type = last != NULL ? type_of(last) : "";

    return last != NULL && strcmp(get_text(last, "name"), name) == 0 &&
                   (strcmp(last_type, type) == 0 || strcmp(last_type, "nullptr") == 0 ||
                    strcmp(type, "nullptr") == 0)
               ? last
               : NULL;
}

static void
set_type(JsonObject *entry, JsonObject *field)
{
    json_object_object_add(entry, "type", json_object_new_string(type_of(field)));
    json_object_object_add(entry, "size",
                           json_object_new_uint64(get_number(field, "size", 0)));
}

/* The entry's array; what was a single value becomes its first element. */
static JsonObject *
need_values(JsonObject *entry)
{
    JsonObject *values = get_typed(entry, "values", json_type_array), *first;

    if (values == NULL) {
        values = json_object_new_array();
        if (json_object_object_get_ex(entry, "value", &first)) {
            json_object_array_add(values, json_object_get(first));
            json_object_object_del(entry, "value");
        }
        json_object_object_add(entry, "values", values);
    }
    return values;
}

/* Put a value where it belongs: a new field, or one more element. @value is taken over. */
static bool
add_value(Reading *r, JsonObject *fields, JsonObject *field, bool is_array,
          JsonObject *value, GError **error)
{
    const char *name = get_text(field, "name");
    JsonObject *entry = find_entry(fields, name, type_of(field));
    bool is_new = entry == NULL;

    if (is_new) {
        if (!spend(r, COST_OBJECT, error)) {
            json_object_put(value);
            return false;
        }
        entry = json_object_new_object();
        json_object_array_add(fields, entry);
        json_object_object_add(entry, "name", json_object_new_string(name));
        set_type(entry, field);
    } else if (strcmp(type_of(entry), "nullptr") == 0) {
        set_type(entry, field);
    }
    if (is_array || !is_new) {
        json_object_array_add(need_values(entry), value);
    } else {
        json_object_object_add(entry, "value", value);
    }
    return true;
}

static bool
read_fields(Reading *r, JsonObject *described, JsonObject *fields, GError **error)
{
    for (size_t i = 0; i < json_object_array_length(described); i++) {
        JsonObject *field = json_object_array_get_idx(described, i);
        const char *name = get_text(field, "name");
        bool is_array = json_object_object_get_ex(field, "array_len", NULL) ||
                        json_object_object_get_ex(field, "index", NULL);
        uint64_t n = get_number(field, "array_len", 1);

        if (name == NULL) {
            return fail(r, error, "?", "it has no name");
        }
        for (uint64_t k = 0; k < n; k++) {
            JsonObject *value = NULL;

            if (!read_value(r, field, name, &value, error) ||
                !add_value(r, fields, field, is_array, value, error)) {
                return false;
            }
        }
    }
    return true;
}

/* Type byte, cstr name, be32 version, state. (transfer full) */
static JsonObject *
read_subsection(Reading *r, JsonObject *described, GError **error)
{
    const char *wanted = get_text(described, "vmsd_name");
    g_autoptr(JsonObject) state = NULL;
    QmigCursor c = r->c;
    uint8_t type, name_len;
    uint32_t version;
    char name[256];

    if (wanted == NULL ||
        !(qmig_cursor_u8(&c, &type) && type == WIRE_SUBSECTION &&
          qmig_cursor_cstr(&c, name, &name_len) && strcmp(name, wanted) == 0 &&
          qmig_cursor_be32(&c, &version))) {
        fail(r, error, wanted != NULL ? wanted : "?", "no subsection of this name");
        return NULL;
    }
    r->c = c;
    state = read_state(r, described, error);
    if (state == NULL) {
        return NULL;
    }
    json_object_object_add(state, "name", json_object_new_string(wanted));
    json_object_object_add(state, "version", json_object_new_uint64(version));
    return g_steal_pointer(&state);
}

/* The depth of the recursion is that of the JSON, bounded when it was parsed. */
static JsonObject *
read_state(Reading *r, JsonObject *described, GError **error)
{
    JsonObject *described_fields = get_typed(described, "fields", json_type_array);
    JsonObject *described_subs = get_typed(described, "subsections", json_type_array);
    g_autoptr(JsonObject) state = NULL;
    JsonObject *fields, *subs;

    if (!spend(r, COST_OBJECT, error)) {
        return NULL;
    }
    state = json_object_new_object();
    fields = json_object_new_array();
    json_object_object_add(state, "fields", fields);
    if (described_fields != NULL && !read_fields(r, described_fields, fields, error)) {
        return NULL;
    }
    if (described_subs == NULL) {
        return g_steal_pointer(&state);
    }
    subs = json_object_new_array();
    json_object_object_add(state, "subsections", subs);
    for (size_t i = 0; i < json_object_array_length(described_subs); i++) {
        JsonObject *sub = read_subsection(r, json_object_array_get_idx(described_subs, i),
                                          error);
        if (sub == NULL) {
            return NULL;
        }
        json_object_array_add(subs, sub);
    }
    return g_steal_pointer(&state);
}

JsonObject *
qmig_device_decode(JsonObject *described, const uint8_t *data, uint64_t length,
                   uint64_t *budget, GError **error)
{
    Reading r = { .start = data, .c = qmig_cursor(data, length), .budget = budget };
    g_autoptr(JsonObject) state = read_state(&r, described, error);

    if (state != NULL && qmig_cursor_left(&r.c) != 0) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "%zu of the section's %" PRIu64 " bytes are in no field",
                       qmig_cursor_left(&r.c), length);
        return NULL;
    }
    return g_steal_pointer(&state);
}
