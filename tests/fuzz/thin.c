/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See thin.h. */
#include "tests/fuzz/thin.h"

#include "stream/device.h"
#include "stream/encoder.h"
#include "stream/multifd.h"
#include "stream/package.h"
#include "tests/lib/sample-stream.h"

#include <string.h>

enum {
    MAX_STATE = 400, /* of a device that is kept, bytes */
    MAX_JSON = 1200, /* of its description */
    ALL_JSON = 1800, /* of all descriptions together */
    MAX_ITEM = 300,  /* of an item of a package */
    ALL_ITEMS = 1000,
    MAX_SECTIONS = 12,   /* PARTs */
    MAX_CHANNEL = 12000, /* of a multifd channel */
};

typedef struct {
    ThinStream out;
    QmigEncoder *encoder;
    GHashTable *seen;       /* block name and page kind */
    GByteArray *blob;       /* PACKAGED or VMSTATE as it was */
    struct qmig_event head; /* the event before the blob */
    size_t json_left;
    unsigned n_sections;
    bool skipping;   /* a PART that is left out */
    GPtrArray *json; /* texts of the devices that are kept */
} Thinning;

static void
clear_device(gpointer data)
{
    ThinDevice *device = data;

    g_byte_array_unref(device->state);
    g_free(device->json);
}

void
thin_stream_clear(ThinStream *s)
{
    g_byte_array_unref(s->bytes);
    g_byte_array_unref(s->tail);
    g_byte_array_unref(s->package);
    g_array_unref(s->devices);
}

static void
encode(QmigEncoder *e, const struct qmig_event *ev, GByteArray *out)
{
    const struct iovec *iov;
    size_t bytes;

    g_assert_true(qmig_encoder_put(e, ev, NULL));
    size_t n = qmig_encoder_pending(e, &iov, &bytes);
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(out, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    qmig_encoder_clear(e);
}

/* ---- the tail ------------------------------------------------------------------------------ */

static void
put_device(GByteArray *out, const struct qmig_event_device *device)
{
    put_u8(out, 0x04);
    put_be32(out, device->section_id);
    put_cstr(out, device->name);
    put_be32(out, device->instance);
    put_be32(out, device->version);
    g_byte_array_append(out, device->data, (guint)device->length);
    put_footer(out, device->section_id);
}

/* The description comes after all devices: they are looked at first with what it says. */
static void
thin_device(Thinning *t, const struct qmig_event_device *device, GHashTable *index)
{
    JsonObject *described = qmig_description_device(index, device->name,
                                                    device->instance);
    const char *json = described != NULL ? json_object_to_json_string(described) : NULL;

    if (json == NULL || device->length > MAX_STATE || strlen(json) > MAX_JSON ||
        strlen(json) > t->json_left) {
        return;
    }
    t->json_left -= strlen(json);
    put_device(t->out.tail, device);
    ThinDevice kept = { g_byte_array_new(), g_strdup(json) };
    g_byte_array_append(kept.state, device->data, (guint)device->length);
    g_array_append_val(t->out.devices, kept);
    g_ptr_array_add(t->json, g_strdup(json));
}

static void
finish_tail(Thinning *t)
{
    g_ptr_array_add(t->json, NULL);
    g_autofree char *all = g_strjoinv(",", (char **)t->json->pdata);
    g_autofree char *json = g_strdup_printf("{\"page_size\":4096,\"devices\":[%s]}", all);

    put_u8(t->out.tail, 0x00);
    put_u8(t->out.tail, 0x06);
    put_be32(t->out.tail, (uint32_t)strlen(json));
    put_text(t->out.tail, json);
    g_byte_array_append(t->out.bytes, t->out.tail->data, t->out.tail->len);
}

/* The description of @golden, from a reading of its own. */
static JsonObject *
find_description(GBytes *golden)
{
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    struct qmig_event ev;
    gsize len;
    const uint8_t *data = g_bytes_get_data(golden, &len);

    qmig_decoder_push(d, data, len);
    while (qmig_decoder_next(d, &ev, NULL) == QMIG_DECODE_EVENT) {
        if (ev.kind == QMIG_EVENT_DESCRIPTION) {
            return qmig_description_parse(ev.u.description.json, ev.u.description.length,
                                          NULL);
        }
    }
    return NULL;
}

/* ---- PACKAGED and checkpoints --------------------------------------------------------------- */

static void
finish_blob(Thinning *t)
{
    bool vmstate = t->head.kind == QMIG_EVENT_COLO;
    size_t len = t->blob->len - (vmstate ? 1 : 0), left = ALL_ITEMS;
    g_autoptr(GArray) items = qmig_package_split(t->blob->data, len);
    GByteArray *package = t->out.package;

    g_byte_array_set_size(package, 0);
    for (guint i = 0; i < items->len; i++) {
        const QmigPackageItem *item = &g_array_index(items, QmigPackageItem, i);
        size_t n = item->end - item->start;
        if (n <= MAX_ITEM && n <= left) {
            g_byte_array_append(package, t->blob->data + item->start, (guint)n);
            left -= n;
        }
    }
    if (vmstate) {
        put_u8(package, 0);
        put_be32(t->out.bytes, QMIG_COLO_VMSTATE_SIZE);
        put_be64(t->out.bytes, package->len);
    } else {
        put_u8(t->out.bytes, 0x08);
        put_be16(t->out.bytes, QMIG_COMMAND_PACKAGED);
        put_be16(t->out.bytes, 4);
        put_be32(t->out.bytes, package->len);
    }
    g_byte_array_append(t->out.bytes, package->data, package->len);
    g_byte_array_set_size(t->blob, 0);
    t->head.kind = 0;
}

/* Return: the event is part of a blob, and was taken. */
static bool
take_blob(Thinning *t, const struct qmig_event *ev)
{
    bool packaged = ev->kind == QMIG_EVENT_COMMAND &&
                    ev->u.command.command == QMIG_COMMAND_PACKAGED;
    bool vmstate = ev->kind == QMIG_EVENT_COLO &&
                   ev->u.colo.message == QMIG_COLO_VMSTATE_SIZE;

    if (packaged || vmstate) {
        t->head = *ev;
        return true;
    }
    if (ev->kind == QMIG_EVENT_BYTES && t->head.kind != 0) {
        g_byte_array_append(t->blob, ev->u.bytes.data, (guint)ev->u.bytes.length);
        return true;
    }
    if (t->head.kind != 0) {
        finish_blob(t);
    }
    return false;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Of whole pages one that is named and one that is not; of others one of each kind and block. */
static bool
is_new_page(Thinning *t, const struct qmig_event_page *page)
{
    bool whole = page->kind == QMIG_PAGE_NORMAL;

    return g_hash_table_add(t->seen,
                            g_strdup_printf("%s %u %u", whole ? "" : page->block->name,
                                            page->kind, page->continued));
}

static bool
is_kept(Thinning *t, const struct qmig_event *ev)
{
    if (ev->kind == QMIG_EVENT_SECTION) {
        t->skipping = ev->u.section.type == QMIG_SECTION_PART &&
                      ++t->n_sections > MAX_SECTIONS;
    }
    if (t->skipping) {
        t->skipping = ev->kind != QMIG_EVENT_FOOTER;
        return false;
    }
    if (ev->kind == QMIG_EVENT_PAGE) {
        return is_new_page(t, &ev->u.page);
    }
    return !(ev->flags & QMIG_EVENT_NOTE) &&
           !(ev->kind == QMIG_EVENT_BYTES && ev->u.bytes.kind == QMIG_BYTES_TAIL);
}

ThinStream
thin_stream(GBytes *golden)
{
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    g_autoptr(GHashTable)
        seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GByteArray) blob = g_byte_array_new();
    g_autoptr(JsonObject) description = find_description(golden);
    g_autoptr(GHashTable) index = qmig_description_index(description);
    g_autoptr(GPtrArray) json = g_ptr_array_new_with_free_func(g_free);
    Thinning t = { .out = { g_byte_array_new(), g_byte_array_new(), g_byte_array_new(),
                            g_array_new(FALSE, FALSE, sizeof(ThinDevice)) },
                   .encoder = e,
                   .seen = seen,
                   .blob = blob,
                   .json_left = ALL_JSON,
                   .json = json };
    struct qmig_event ev;
    gsize len;
    const uint8_t *data = g_bytes_get_data(golden, &len);

    g_array_set_clear_func(t.out.devices, clear_device);
    qmig_decoder_push(d, data, len);
    while (qmig_decoder_next(d, &ev, NULL) == QMIG_DECODE_EVENT) {
        if (take_blob(&t, &ev)) {
            continue;
        }
        if (ev.kind == QMIG_EVENT_DEVICE) {
            if (t.out.package->len == 0) {
                thin_device(&t, &ev.u.device, index);
            }
        } else if (ev.kind == QMIG_EVENT_DESCRIPTION) {
            finish_tail(&t);
        } else if (is_kept(&t, &ev)) {
            encode(e, &ev, t.out.bytes);
        }
    }
    if (t.head.kind != 0) {
        finish_blob(&t);
    }
    return t.out;
}

GByteArray *
thin_multifd(GBytes *golden)
{
    g_autoptr(QmigMultifdDecoder) d = qmig_multifd_decoder_new();
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    GByteArray *out = g_byte_array_new();
    struct qmig_event ev;
    gsize len;
    const uint8_t *data = g_bytes_get_data(golden, &len);

    qmig_multifd_decoder_push(d, data, len);
    while (out->len < MAX_CHANNEL &&
           qmig_multifd_decoder_next(d, &ev, NULL) == QMIG_DECODE_EVENT) {
        struct qmig_multifd_packet packet;

        if (ev.kind == QMIG_EVENT_MULTIFD_PACKET) {
            packet = *ev.u.multifd_packet.packet;
            bool plain = (packet.flags & QMIG_MULTIFD_COMPRESSION) == QMIG_MULTIFD_NONE;
            if (plain && packet.normal_pages > 1) {
                packet.normal_pages = 1;
                packet.next_packet_size = packet.page_size;
                packet.payload_length = packet.page_size;
            }
            ev.u.multifd_packet.packet = &packet;
        }
        encode(e, &ev, out);
    }
    return out;
}
