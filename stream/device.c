/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See device.h. */
#include "stream/device.h"

#include "stream/bounds.h"
#include "stream/format.h"
#include "util/cursor.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

/* One section while it is decoded. */
typedef struct {
    const uint8_t *start;
    QmigCursor c;
    uint64_t n_values; /* made so far */
} Reading;

static JsonObject *read_state(Reading *r, JsonObject *described, GError **error);

typedef struct json_tokener JsonTokener;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonTokener, json_tokener_free)

JsonObject *
qmig_description_parse(const char *json, uint64_t length, GError **error)
{
    g_autoptr(JsonTokener) tok = json_tokener_new_ex(QMIG_LIMIT_DESCRIPTION_DEPTH);
    g_autoptr(JsonObject) description = NULL;

    if (length <= QMIG_LIMIT_TAIL) {
        description = json_tokener_parse_ex(tok, json, (int)length);
    }
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

/* A number that is not negative; @fallback when there is none. */
static uint64_t
get_number(JsonObject *object, const char *key, uint64_t fallback)
{
    JsonObject *member = get_typed(object, key, json_type_int);

    return member != NULL && json_object_get_int64(member) >= 0
               ? (uint64_t)json_object_get_int64(member)
               : fallback;
}

JsonObject *
qmig_description_device(JsonObject *description, const char *name, uint32_t instance)
{
    JsonObject *devices = get_typed(description, "devices", json_type_array);

    for (size_t i = 0; devices != NULL && i < json_object_array_length(devices); i++) {
        JsonObject *device = json_object_array_get_idx(devices, i);
        const char *its_name = get_text(device, "name");

        if (its_name != NULL && strcmp(its_name, name) == 0 &&
            get_number(device, "instance_id", 0) == instance) {
            return device;
        }
    }
    return NULL;
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
    if (strcmp(type, "nullptr") == 0) {
        return NULL;
    }
    if (g_str_has_prefix(type, "uint") || strcmp(type, "timer") == 0) {
        return integer(data, length, false);
    }
    if (g_str_has_prefix(type, "int")) {
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

/* One element of a field. @value may become NULL: JSON's null. */
static bool
read_value(Reading *r, JsonObject *field, const char *name, JsonObject **value,
           GError **error)
{
    JsonObject *nested = get_typed(field, "struct", json_type_object);
    const char *type = get_text(field, "type");
    uint64_t size = get_number(field, "size", UINT64_MAX);
    const uint8_t *begin = r->c.p, *data;

    if (++r->n_values > QMIG_LIMIT_DEVICE_VALUES) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "field \"%s\": a section of more than %d values", name,
                              QMIG_LIMIT_DEVICE_VALUES);
    }
    if (size > qmig_cursor_left(&r->c)) {
        return fail(r, error, name, "its size is beyond the section's end");
    }
    if (nested == NULL) {
        bool ok = qmig_cursor_bytes(&r->c, size, &data);
        g_assert(ok);
        *value = leaf(type != NULL ? type : "", data, size);
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

static JsonObject *
find_field(JsonObject *fields, const char *name)
{
    /* Pieces of one array follow each other. */
    size_t n = json_object_array_length(fields);
    JsonObject *last = n > 0 ? json_object_array_get_idx(fields, n - 1) : NULL;

    return last != NULL && strcmp(get_text(last, "name"), name) == 0 ? last : NULL;
}

/* Put a value where it belongs: a new field, or one more element. @value is taken over. */
static void
add_value(JsonObject *fields, JsonObject *field, const char *name, bool is_array,
          JsonObject *value)
{
    JsonObject *entry = find_field(fields, name), *values = NULL, *first;
    const char *type = get_text(field, "type");

    if (entry == NULL) {
        entry = json_object_new_object();
        json_object_object_add(entry, "name", json_object_new_string(name));
        json_object_object_add(entry, "type", json_object_new_string(type ? type : ""));
        json_object_object_add(entry, "size",
                               json_object_new_uint64(get_number(field, "size", 0)));
        if (is_array) {
            values = json_object_new_array();
            json_object_object_add(entry, "values", values);
        }
        json_object_array_add(fields, entry);
    } else {
        values = get_typed(entry, "values", json_type_array);
        if (values == NULL) {
            values = json_object_new_array();
            json_object_object_get_ex(entry, "value", &first);
            json_object_array_add(values, json_object_get(first));
            json_object_object_del(entry, "value");
            json_object_object_add(entry, "values", values);
        }
    }
    if (values != NULL) {
        json_object_array_add(values, value);
    } else {
        json_object_object_add(entry, "value", value);
    }
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

            if (!read_value(r, field, name, &value, error)) {
                return false;
            }
            add_value(fields, field, name, is_array, value);
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
    uint8_t type, name_len;
    uint32_t version;
    char name[256];

    if (wanted == NULL ||
        !(qmig_cursor_u8(&r->c, &type) && type == WIRE_SUBSECTION &&
          qmig_cursor_cstr(&r->c, name, &name_len) && strcmp(name, wanted) == 0 &&
          qmig_cursor_be32(&r->c, &version))) {
        fail(r, error, wanted != NULL ? wanted : "?", "no subsection of this name");
        return NULL;
    }
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
    g_autoptr(JsonObject) state = json_object_new_object();
    JsonObject *fields = json_object_new_array(), *subs;

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
                   GError **error)
{
    Reading r = { .start = data, .c = qmig_cursor(data, length) };
    g_autoptr(JsonObject) state = read_state(&r, described, error);

    if (state != NULL && qmig_cursor_left(&r.c) != 0) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "%zu of the section's %" PRIu64 " bytes are in no field",
                       qmig_cursor_left(&r.c), length);
        return NULL;
    }
    return g_steal_pointer(&state);
}
