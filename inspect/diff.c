/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See diff.h. */
#include "inspect/diff.h"

#include "inspect/devices.h"
#include "inspect/guest-ram.h"
#include "util/error.h"

#include <string.h>

/* One of the two guests. */
typedef struct {
    const char *path;
    QmigGuestRam *ram;
    QmigDevices *reading;
    JsonObject *devices; /* its list */
    char *machine;
} Guest;

static void
guest_clear(Guest *g)
{
    g_clear_pointer(&g->ram, qmig_guest_ram_free);
    g_clear_pointer(&g->reading, qmig_devices_free);
    g_clear_pointer(&g->devices, json_object_put);
    g_free(g->machine);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Guest, guest_clear)

static bool
on_event(void *self, const QmigReaderChannel *channel, const struct qmig_event *ev,
         GError **error)
{
    Guest *g = self;

    if (ev->kind == QMIG_EVENT_CONFIG) {
        g_free(g->machine);
        g->machine = g_strndup(ev->u.config.machine, ev->u.config.length);
    }
    return qmig_guest_ram_apply(g->ram, channel, ev, error) &&
           qmig_devices_take(g->reading, channel, ev, error);
}

static bool
read_guest(Guest *g, GError **error)
{
    QmigReaderSink sink = { .self = g, .event = on_event };
    g_auto(QmigReaderEnd) end = { 0 };

    g->ram = qmig_guest_ram_new(NULL);
    g->reading = qmig_devices_new(true);
    if (!qmig_reader_run(g->path, &sink, &end, error)) {
        g_prefix_error(error, "%s: ", g->path);
        return false;
    }
    if (!end.complete) {
        return qmig_set_error(error, QMIG_ERROR_STATE, "%s: not complete: %s", g->path,
                              end.reason);
    }
    g->devices = qmig_devices_finish(g->reading);
    return true;
}

static const char *
text_of(JsonObject *object, const char *key)
{
    JsonObject *member;

    return json_object_object_get_ex(object, key, &member)
               ? json_object_get_string(member)
               : "";
}

static JsonObject *
new_named(JsonObject *list, const char *name)
{
    JsonObject *entry = json_object_new_object();

    json_object_object_add(entry, "name", json_object_new_string(name));
    json_object_array_add(list, entry);
    return entry;
}

/* ---- devices ------------------------------------------------------------------------------ */

static void flatten(JsonObject *state, const char *prefix, JsonObject *out);

static void
flatten_value(JsonObject *value, const char *path, JsonObject *out)
{
    if (json_object_is_type(value, json_type_object)) {
        g_autofree char *prefix = g_strdup_printf("%s.", path);

        flatten(value, prefix, out);
    } else {
        json_object_object_add(out, path, json_object_get(value));
    }
}

/* A state as { "path.of.field[3]": value, … }. */
static void
flatten(JsonObject *state, const char *prefix, JsonObject *out)
{
    JsonObject *fields, *subs, *value;

    json_object_object_get_ex(state, "fields", &fields);
    for (size_t i = 0; fields != NULL && i < json_object_array_length(fields); i++) {
        JsonObject *field = json_object_array_get_idx(fields, i);
        const char *name = text_of(field, "name");

        if (json_object_object_get_ex(field, "values", &value)) {
            for (size_t k = 0; k < json_object_array_length(value); k++) {
                g_autofree char *path = g_strdup_printf("%s%s[%zu]", prefix, name, k);
                flatten_value(json_object_array_get_idx(value, k), path, out);
            }
        } else {
            g_autofree char *path = g_strconcat(prefix, name, NULL);
            json_object_object_get_ex(field, "value", &value);
            flatten_value(value, path, out);
        }
    }
    json_object_object_get_ex(state, "subsections", &subs);
    for (size_t i = 0; subs != NULL && i < json_object_array_length(subs); i++) {
        JsonObject *sub = json_object_array_get_idx(subs, i);
        g_autofree char *path = g_strdup_printf("%s%s/", prefix, text_of(sub, "name"));

        json_object_object_add(out, path, json_object_new_string("present"));
        flatten(sub, path, out);
    }
}

/* What can be said of a device, by name or by its bytes. (transfer full) */
static JsonObject *
facts(JsonObject *device, bool by_name)
{
    JsonObject *out = json_object_new_object(), *member;

    if (json_object_object_get_ex(device, "version", &member)) {
        json_object_object_add(out, "(version)", json_object_get(member));
    }
    if (by_name) {
        flatten(device, "", out);
    } else if (json_object_object_get_ex(device, "state", &member)) {
        json_object_object_add(out, "(state)", json_object_get(member));
    }
    return out;
}

static void
add_difference(JsonObject *list, const char *path, JsonObject *a, bool has_a,
               JsonObject *b, bool has_b)
{
    JsonObject *entry = json_object_new_object();

    json_object_object_add(entry, "field", json_object_new_string(path));
    if (has_a) {
        json_object_object_add(entry, "a", json_object_get(a));
    }
    if (has_b) {
        json_object_object_add(entry, "b", json_object_get(b));
    }
    json_object_array_add(list, entry);
}

static void
compare_device(JsonObject *a, JsonObject *b, JsonObject *out)
{
    bool by_name = json_object_object_get_ex(a, "fields", NULL) &&
                   json_object_object_get_ex(b, "fields", NULL);
    g_autoptr(JsonObject) of_a = facts(a, by_name), of_b = facts(b, by_name);
    g_autoptr(JsonObject) fields = json_object_new_array();
    JsonObject *other;

    json_object_object_foreach(of_a, path, value)
    {
        bool has = json_object_object_get_ex(of_b, path, &other);

        if (!has || !json_object_equal(value, other)) {
            add_difference(fields, path, value, true, other, has);
        }
    }
    json_object_object_foreach(of_b, path_b, value_b)
    {
        if (!json_object_object_get_ex(of_a, path_b, NULL)) {
            add_difference(fields, path_b, NULL, false, value_b, true);
        }
    }
    if (json_object_array_length(fields) > 0) {
        JsonObject *entry = new_named(out, text_of(a, "name"));

        json_object_object_add(entry, "instance",
                               json_object_get(json_object_object_get(a, "instance")));
        json_object_object_add(entry, "fields", json_object_get(fields));
    }
}

/* The same section of the other guest; the last, where checkpoints repeat it. */
static JsonObject *
find_device(JsonObject *devices, JsonObject *like)
{
    JsonObject *found = NULL;

    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        JsonObject *device = json_object_array_get_idx(devices, i);

        if (strcmp(text_of(device, "name"), text_of(like, "name")) == 0 &&
            strcmp(text_of(device, "instance"), text_of(like, "instance")) == 0) {
            found = device;
        }
    }
    return found;
}

static void
list_only(JsonObject *out, JsonObject *of, JsonObject *other, const char *which)
{
    for (size_t i = 0; i < json_object_array_length(of); i++) {
        JsonObject *device = json_object_array_get_idx(of, i);

        if (find_device(other, device) == NULL && find_device(of, device) == device) {
            JsonObject *entry = new_named(out, text_of(device, "name"));

            json_object_object_add(
                entry, "instance",
                json_object_get(json_object_object_get(device, "instance")));
            json_object_object_add(entry, "only", json_object_new_string(which));
        }
    }
}

static JsonObject *
compare_devices(const Guest *a, const Guest *b)
{
    JsonObject *out = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(a->devices); i++) {
        JsonObject *device = json_object_array_get_idx(a->devices, i);
        JsonObject *other = find_device(b->devices, device);

        if (other != NULL && find_device(a->devices, device) == device) {
            compare_device(device, other, out);
        }
    }
    list_only(out, a->devices, b->devices, "a");
    list_only(out, b->devices, a->devices, "b");
    return out;
}

/* ---- memory ------------------------------------------------------------------------------- */

static void
add_range(JsonObject *ranges, uint64_t offset, uint64_t length)
{
    JsonObject *range = json_object_new_object();

    json_object_object_add(range, "offset", json_object_new_uint64(offset));
    json_object_object_add(range, "length", json_object_new_uint64(length));
    json_object_array_add(ranges, range);
}

static void
compare_block(const QmigGuestBlock *a, const QmigGuestBlock *b, JsonObject *out)
{
    g_autoptr(JsonObject) ranges = json_object_new_array();
    uint64_t n = 0, begin = 0, page = a->page_size;
    bool inside = false;

    for (uint64_t at = 0; at < a->length; at += page) {
        bool differs = memcmp(a->memory + at, b->memory + at, page) != 0;

        n += differs;
        if (differs && !inside) {
            begin = at;
        } else if (!differs && inside) {
            add_range(ranges, begin, at - begin);
        }
        inside = differs;
    }
    if (inside) {
        add_range(ranges, begin, a->length - begin);
    }
    if (n > 0) {
        JsonObject *entry = new_named(out, a->name);

        json_object_object_add(entry, "pages", json_object_new_uint64(n));
        json_object_object_add(entry, "page_size", json_object_new_uint64(page));
        json_object_object_add(entry, "ranges", json_object_get(ranges));
    }
}

static bool
find_block(const QmigGuestRam *ram, const char *name, QmigGuestBlock *found)
{
    for (unsigned i = 0; i < qmig_guest_ram_n_blocks(ram); i++) {
        *found = qmig_guest_ram_block(ram, i);
        if (strcmp(found->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Blocks of @of; those that both have are compared when @compare. */
static void
compare_blocks(const Guest *of, const Guest *other, const char *which, bool compare,
               JsonObject *out)
{
    for (unsigned i = 0; i < qmig_guest_ram_n_blocks(of->ram); i++) {
        QmigGuestBlock a = qmig_guest_ram_block(of->ram, i), b;
        bool has = find_block(other->ram, a.name, &b);

        if (!has) {
            json_object_object_add(new_named(out, a.name), "only",
                                   json_object_new_string(which));
        } else if (compare && (a.length != b.length || a.page_size != b.page_size)) {
            JsonObject *length = json_object_new_object();

            json_object_object_add(length, "a", json_object_new_uint64(a.length));
            json_object_object_add(length, "b", json_object_new_uint64(b.length));
            json_object_object_add(new_named(out, a.name), "length", length);
        } else if (compare) {
            compare_block(&a, &b, out);
        }
    }
}

JsonObject *
qmig_diff_run(const char *path_a, const char *path_b, GError **error)
{
    g_auto(Guest) a = { .path = path_a }, b = { .path = path_b };
    JsonObject *result, *blocks, *devices;
    bool same_machine;

    if (!read_guest(&a, error) || !read_guest(&b, error)) {
        return NULL;
    }
    result = json_object_new_object();
    devices = compare_devices(&a, &b);
    blocks = json_object_new_array();
    compare_blocks(&a, &b, "a", true, blocks);
    compare_blocks(&b, &a, "b", false, blocks);
    same_machine = g_strcmp0(a.machine, b.machine) == 0;
    json_object_object_add(
        result, "same",
        json_object_new_boolean(same_machine && json_object_array_length(devices) == 0 &&
                                json_object_array_length(blocks) == 0));
    if (!same_machine) {
        JsonObject *machine = json_object_new_object();

        json_object_object_add(machine, "a", json_object_new_string(a.machine ?: ""));
        json_object_object_add(machine, "b", json_object_new_string(b.machine ?: ""));
        json_object_object_add(result, "machine", machine);
    }
    json_object_object_add(result, "devices", devices);
    json_object_object_add(result, "blocks", blocks);
    return result;
}
