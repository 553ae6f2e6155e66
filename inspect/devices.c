/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See devices.h. The description comes last, so the states are kept until then; checkpoints of
 * COLO come after it and are read at once.
 */
#include "inspect/devices.h"

#include "stream/bounds.h"
#include "stream/device.h"
#include "util/error.h"

#include <string.h>

struct QmigDevices {
    JsonObject *list;        /* owned; what is given back */
    GPtrArray *states;       /* GBytes, of those in list that wait for the description */
    size_t n_done;           /* of list: decoded, or known not to be */
    JsonObject *description; /* owned (nullable) */
    GHashTable *described;   /* owned (nullable): its index */
    uint64_t budget;
    unsigned checkpoint;
    bool with_bytes;
    /* A section before RAM comes in pieces. */
    struct qmig_event_section early;
    char early_name[256];
    uint64_t early_offset;
    GByteArray *early_state; /* owned */
};

static void
unref_bytes(gpointer bytes)
{
    g_bytes_unref(bytes);
}

QmigDevices *
qmig_devices_new(bool with_bytes)
{
    QmigDevices *d = g_new0(QmigDevices, 1);

    d->with_bytes = with_bytes;

    d->list = json_object_new_array();
    d->budget = QMIG_LIMIT_DEVICE_COST;
    d->states = g_ptr_array_new_with_free_func(unref_bytes);
    d->early_state = g_byte_array_new();
    return d;
}

void
qmig_devices_free(QmigDevices *d)
{
    if (d != NULL) {
        json_object_put(d->list);
        g_clear_pointer(&d->described, g_hash_table_unref);
        json_object_put(d->description);
        g_ptr_array_unref(d->states);
        g_byte_array_unref(d->early_state);
        g_free(d);
    }
}

static void
add_hex(JsonObject *entry, const uint8_t *data, size_t len)
{
    g_autoptr(GString) text = g_string_sized_new(2 * len + 1);

    for (size_t i = 0; i < len; i++) {
        g_string_append_printf(text, "%02x", data[i]);
    }
    json_object_object_add(entry, "state", json_object_new_string(text->str));
}

/* Move the members of @state into @entry. */
static void
merge(JsonObject *entry, JsonObject *state)
{
    json_object_object_foreach(state, key, member)
    {
        json_object_object_add(entry, key, json_object_get(member));
    }
}

/* Decode what waits; without a description, say so. */
static void
decode_waiting(QmigDevices *d)
{
    for (; d->n_done < json_object_array_length(d->list); d->n_done++) {
        JsonObject *entry = json_object_array_get_idx(d->list, d->n_done);
        GBytes *bytes = g_ptr_array_index(d->states, d->n_done);
        const char *name = json_object_get_string(json_object_object_get(entry, "name"));
        uint32_t instance = (uint32_t)json_object_get_int64(
            json_object_object_get(entry, "instance"));
        JsonObject *described = d->described != NULL ? qmig_description_device(
                                                           d->described, name, instance)
                                                     : NULL;
        g_autoptr(JsonObject) state = NULL;
        g_autoptr(GError) error = NULL;
        gsize len;
        const uint8_t *data = g_bytes_get_data(bytes, &len);

        if (described != NULL) {
            state = qmig_device_decode(described, data, len, &d->budget, &error);
        }
        if (state != NULL) {
            merge(entry, state);
        } else {
            json_object_object_add(
                entry, "reason",
                json_object_new_string(error != NULL ? error->message
                                       : d->description != NULL
                                           ? "the description does not know it"
                                           : "the stream brings no description"));
        }
        if (state == NULL || d->with_bytes) {
            add_hex(entry, data, len);
        }
        g_ptr_array_index(d->states, d->n_done) = NULL;
        g_bytes_unref(bytes);
    }
}

static void
add_device(QmigDevices *d, const QmigReaderChannel *channel,
           const struct qmig_event_device *device, uint64_t offset)
{
    JsonObject *entry = json_object_new_object();

    json_object_object_add(entry, "name", json_object_new_string(device->name));
    json_object_object_add(entry, "instance", json_object_new_uint64(device->instance));
    json_object_object_add(entry, "version", json_object_new_uint64(device->version));
    json_object_object_add(entry, "section", json_object_new_uint64(device->section_id));
    json_object_object_add(entry, "channel", json_object_new_string(channel->name));
    json_object_object_add(entry, "offset", json_object_new_uint64(offset));
    json_object_object_add(entry, "size", json_object_new_uint64(device->length));
    if (d->checkpoint > 0) {
        json_object_object_add(entry, "checkpoint",
                               json_object_new_uint64(d->checkpoint));
    }
    json_object_array_add(d->list, entry);
    g_ptr_array_add(d->states, g_bytes_new(device->data, device->length));
    if (d->description != NULL) {
        decode_waiting(d);
    }
}

/* SECTION (FULL), BYTES, FOOTER: a device section before RAM. */
static void
on_early(QmigDevices *d, const QmigReaderChannel *channel, const struct qmig_event *ev)
{
    if (ev->kind == QMIG_EVENT_SECTION) {
        d->early = ev->u.section;
        g_strlcpy(d->early_name, ev->u.section.name, sizeof d->early_name);
        d->early_offset = ev->offset + ev->wire_size;
        g_byte_array_set_size(d->early_state, 0);
    } else if (ev->kind == QMIG_EVENT_BYTES) {
        if (ev->u.bytes.length <= QMIG_LIMIT_TAIL - d->early_state->len) {
            g_byte_array_append(d->early_state, ev->u.bytes.data,
                                (guint)ev->u.bytes.length);
        }
    } else if (d->early.type == QMIG_SECTION_FULL) {
        const struct qmig_event_device device = {
            .name = d->early_name,
            .instance = d->early.instance,
            .version = d->early.version,
            .section_id = d->early.id,
            .length = d->early_state->len,
            .data = d->early_state->data,
        };
        add_device(d, channel, &device, d->early_offset);
        d->early.type = 0;
    }
}

bool
qmig_devices_take(QmigDevices *d, const QmigReaderChannel *channel,
                  const struct qmig_event *ev, GError **error)
{
    switch (ev->kind) {
    case QMIG_EVENT_SECTION:
    case QMIG_EVENT_FOOTER:
        on_early(d, channel, ev);
        return true;
    case QMIG_EVENT_BYTES:
        if (ev->u.bytes.kind == QMIG_BYTES_DEVICE) {
            on_early(d, channel, ev);
        }
        return true;
    case QMIG_EVENT_COLO:
        d->checkpoint += ev->u.colo.message == QMIG_COLO_VMSTATE_SEND;
        return true;
    case QMIG_EVENT_DEVICE:
        add_device(d, channel, &ev->u.device, ev->offset);
        return true;
    case QMIG_EVENT_DESCRIPTION:
        g_clear_pointer(&d->described, g_hash_table_unref);
        json_object_put(d->description);
        d->description = qmig_description_parse(ev->u.description.json,
                                                ev->u.description.length, error);
        if (d->description == NULL) {
            return false;
        }
        d->described = qmig_description_index(d->description);
        decode_waiting(d);
        return true;
    default:
        return true;
    }
}

JsonObject *
qmig_devices_finish(QmigDevices *d)
{
    decode_waiting(d);
    return g_steal_pointer(&d->list);
}

/* As QmigReaderSink.event. */
static bool
on_event(void *self, const QmigReaderChannel *channel, const struct qmig_event *ev,
         GError **error)
{
    return qmig_devices_take(self, channel, ev, error);
}

JsonObject *
qmig_devices_read(const char *path, QmigReaderEnd *end, GError **error)
{
    g_autoptr(QmigDevices) d = qmig_devices_new(false);
    QmigReaderSink sink = { .self = d, .event = on_event };

    return qmig_reader_run(path, &sink, end, error) ? qmig_devices_finish(d) : NULL;
}

JsonObject *
qmig_description_read(const char *path, GError **error)
{
    g_autoptr(QmigDevices) d = qmig_devices_new(false);
    QmigReaderSink sink = { .self = d, .event = on_event };
    g_auto(QmigReaderEnd) end = { 0 };

    if (!qmig_reader_run(path, &sink, &end, error)) {
        return NULL;
    }
    if (d->description == NULL) {
        qmig_set_error(
            error, QMIG_ERROR_UNSUPPORTED,
            "%s: the stream brings no description of its devices%s%s", path,
            end.complete ? "" : "; it is not complete: ", end.complete ? "" : end.reason);
        return NULL;
    }
    return g_steal_pointer(&d->description);
}
