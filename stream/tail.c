/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Splitting device state with the description; see stream/tail.h. */
#include "stream/tail.h"

#include "stream/bounds.h"
#include "stream/device.h"
#include "stream/format.h"
#include "stream/qmig-event.h"
#include "util/auto.h"
#include "util/cursor.h"
#include "util/error.h"

#include <inttypes.h>

/* EOF byte, type byte, be32 length. */
enum { DESCRIPTION_HEAD = 6 };

static void
clear_device(gpointer data)
{
    QmigTailDevice *device = data;

    g_free(device->name);
}

void
qmig_tail_clear(QmigTail *tail)
{
    g_clear_pointer(&tail->devices, g_array_unref);
}

/* A non-negative integer member; @fallback when absent. False when it is something else. */
static bool
get_number(JsonObject *object, const char *key, uint64_t fallback, uint64_t *out)
{
    JsonObject *member;

    *out = fallback;
    if (!json_object_object_get_ex(object, key, &member)) {
        return true;
    }
    if (!json_object_is_type(member, json_type_int) ||
        json_object_get_int64(member) < 0) {
        return false;
    }
    *out = (uint64_t)json_object_get_int64(member);
    return true;
}

static const char *
get_string(JsonObject *object, const char *key)
{
    JsonObject *member;

    return json_object_object_get_ex(object, key, &member) &&
                   json_object_is_type(member, json_type_string)
               ? json_object_get_string(member)
               : NULL;
}

static JsonObject *
get_list(JsonObject *object, const char *key)
{
    JsonObject *member;

    return json_object_object_get_ex(object, key, &member) &&
                   json_object_is_type(member, json_type_array)
               ? member
               : NULL;
}

/* No sum below may pass this: a section cannot be longer than its tail. */
static bool
add_bounded(uint64_t *sum, uint64_t size, uint64_t times)
{
    uint64_t product;

    return !__builtin_mul_overflow(size, times, &product) &&
           !__builtin_add_overflow(*sum, product, sum) && *sum <= QMIG_LIMIT_TAIL;
}

/*
 * Length of a described state on the wire:
 *   sum of size * array_len over the fields (size includes what is nested in a field)
 *   + for each subsection: type byte, cstr name, be32 version, its own length.
 */
static bool
described_length(JsonObject *state, uint64_t *sum)
{
    JsonObject *fields = get_list(state, "fields");
    JsonObject *subs = get_list(state, "subsections");

    for (size_t i = 0; fields != NULL && i < json_object_array_length(fields); i++) {
        JsonObject *field = json_object_array_get_idx(fields, i);
        uint64_t size, times;

        if (!get_number(field, "size", 0, &size) ||
            !get_number(field, "array_len", 1, &times) ||
            !add_bounded(sum, size, times)) {
            return false;
        }
    }
    /* The depth of this recursion is the depth of the JSON, bounded when it was parsed. */
    for (size_t i = 0; subs != NULL && i < json_object_array_length(subs); i++) {
        JsonObject *sub = json_object_array_get_idx(subs, i);
        const char *name = get_string(sub, "vmsd_name");

        if (name == NULL || !add_bounded(sum, 1 + 1 + strlen(name) + 4, 1) ||
            !described_length(sub, sum)) {
            return false;
        }
    }
    return true;
}

/* Head, state and footer of one section whose state has @length bytes. */
static bool
take_section(QmigCursor *c, const uint8_t *base, uint64_t length, bool footers,
             QmigTailDevice *device)
{
    uint32_t footer_id;
    uint8_t type, mark, name_len;
    char name[256];

    if (!(qmig_cursor_u8(c, &type) && type == QMIG_SECTION_FULL &&
          qmig_cursor_be32(c, &device->section_id) &&
          qmig_cursor_cstr(c, name, &name_len) &&
          qmig_cursor_be32(c, &device->instance) &&
          qmig_cursor_be32(c, &device->version))) {
        return false;
    }
    device->start = (size_t)(c->p - base);
    device->length = (size_t)length;
    if (!qmig_cursor_skip(c, device->length) ||
        (footers &&
         !(qmig_cursor_u8(c, &mark) && mark == WIRE_FOOTER &&
           qmig_cursor_be32(c, &footer_id) && footer_id == device->section_id))) {
        return false;
    }
    device->name = g_strndup(name, name_len);
    return true;
}

/* Does the section at @c carry this name and instance? The description also lists the sections
 * that went by before RAM; those are not in the tail. */
static bool
is_next(QmigCursor c, const char *name, uint64_t instance)
{
    uint8_t type, name_len;
    uint32_t id, wire_instance;
    char wire_name[256];

    return qmig_cursor_u8(&c, &type) && type == QMIG_SECTION_FULL &&
           qmig_cursor_be32(&c, &id) && qmig_cursor_cstr(&c, wire_name, &name_len) &&
           strcmp(wire_name, name) == 0 && qmig_cursor_be32(&c, &wire_instance) &&
           wire_instance == instance;
}

static bool
split_sections(QmigCursor c, JsonObject *description, bool footers, QmigTail *tail,
               GError **error)
{
    const uint8_t *data = c.p;
    JsonObject *devices = get_list(description, "devices");

    for (size_t i = 0; devices != NULL && i < json_object_array_length(devices); i++) {
        JsonObject *state = json_object_array_get_idx(devices, i);
        const char *name = get_string(state, "name");
        uint64_t instance, length = 0;
        QmigTailDevice device = { 0 };
        size_t at = (size_t)(c.p - data);

        if (name == NULL || !get_number(state, "instance_id", 0, &instance) ||
            !is_next(c, name, instance)) {
            continue;
        }
        if (!get_number(state, "size", 0, &length) ||
            (length == 0 && !described_length(state, &length)) ||
            !take_section(&c, data, length, footers, &device)) {
            return qmig_set_error(
                error, QMIG_ERROR_PROTOCOL,
                "tail: section \"%s\" at byte %zu does not have the %" PRIu64
                " bytes of state its description tells",
                name, at, length);
        }
        g_array_append_val(tail->devices, device);
    }
    if (qmig_cursor_left(&c) != 0) {
        return qmig_set_error(
            error, QMIG_ERROR_PROTOCOL,
            "tail: the %zu bytes from byte %zu are in no described section",
            qmig_cursor_left(&c), (size_t)(c.p - data));
    }
    return true;
}

bool
qmig_tail_parse(const uint8_t *data, size_t eof_at, size_t len, bool footers,
                QmigTail *tail, GError **error)
{
    g_autoptr(JsonObject) description = NULL;
    QmigTail parsed = { .json = eof_at + DESCRIPTION_HEAD };

    g_return_val_if_fail(len >= parsed.json, false);
    parsed.json_len = len - parsed.json;
    description = qmig_description_parse((const char *)data + parsed.json,
                                         parsed.json_len, error);
    if (description == NULL) {
        return false;
    }
    parsed.devices = g_array_new(FALSE, FALSE, sizeof(QmigTailDevice));
    g_array_set_clear_func(parsed.devices, clear_device);
    if (!split_sections(qmig_cursor(data, eof_at), description, footers, &parsed,
                        error)) {
        qmig_tail_clear(&parsed);
        return false;
    }
    *tail = parsed;
    return true;
}
