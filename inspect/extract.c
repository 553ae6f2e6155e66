/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See extract.h. */
#include "inspect/extract.h"

#include "inspect/guest-ram.h"
#include "util/error.h"

#include <errno.h>
#include <sys/stat.h>

typedef struct {
    const char *directory;
    QmigGuestRam *ram;
    JsonObject *devices; /* of the summary; borrowed */
    JsonObject *summary;
} Extract;

static bool
make_directory(const char *path, GError **error)
{
    if (mkdir(path, 0755) == 0) {
        return true;
    }
    if (errno == EEXIST) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

        return (dir != NULL && g_dir_read_name(dir) == NULL) ||
               qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: exists and is no empty directory", path);
    }
    return qmig_set_error_errno(error, errno, "%s", path);
}

static bool
write_file(const char *path, const void *data, uint64_t len, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!g_file_set_contents(path, data, (gssize)len, &local)) {
        return qmig_set_error(error, QMIG_ERROR_IO, "%s", local->message);
    }
    return true;
}

/* Replace what an earlier checkpoint said of the same device. */
static void
list_device(Extract *x, const struct qmig_event_device *device, const char *file)
{
    JsonObject *entry = json_object_new_object();
    size_t n = json_object_array_length(x->devices), at = 0;

    while (at < n) {
        JsonObject *other = json_object_array_get_idx(x->devices, at);

        if (strcmp(json_object_get_string(json_object_object_get(other, "file")), file) ==
            0) {
            break;
        }
        at++;
    }
    json_object_object_add(entry, "name", json_object_new_string(device->name));
    json_object_object_add(entry, "instance", json_object_new_uint64(device->instance));
    json_object_object_add(entry, "version", json_object_new_uint64(device->version));
    json_object_object_add(entry, "file", json_object_new_string(file));
    json_object_object_add(entry, "length", json_object_new_uint64(device->length));
    json_object_array_put_idx(x->devices, at, entry);
}

static bool
on_device(Extract *x, const struct qmig_event_device *device, GError **error)
{
    g_autofree char *name = qmig_file_name(device->name);
    g_autofree char *file = g_strdup_printf("device/%s.%u", name, device->instance);
    g_autofree char *path = g_build_filename(x->directory, file, NULL);

    list_device(x, device, file);
    return write_file(path, device->data, device->length, error);
}

static bool
on_event(void *self, const QmigReaderChannel *channel, const struct qmig_event *ev,
         GError **error)
{
    Extract *x = self;
    g_autofree char *path = NULL;

    switch (ev->kind) {
    case QMIG_EVENT_DEVICE:
        return on_device(x, &ev->u.device, error);
    case QMIG_EVENT_DESCRIPTION:
        path = g_build_filename(x->directory, "description.json", NULL);
        return write_file(path, ev->u.description.json, ev->u.description.length, error);
    case QMIG_EVENT_CONFIG:
        json_object_object_add(
            x->summary, "machine",
            json_object_new_string_len(ev->u.config.machine, (int)ev->u.config.length));
        return true;
    default:
        return qmig_guest_ram_apply(x->ram, channel, ev, error);
    }
}

static void
list_blocks(Extract *x)
{
    JsonObject *blocks = json_object_new_array();

    for (unsigned i = 0; i < qmig_guest_ram_n_blocks(x->ram); i++) {
        QmigGuestBlock block = qmig_guest_ram_block(x->ram, i);
        JsonObject *entry = json_object_new_object();
        g_autofree char *name = qmig_file_name(block.name);
        g_autofree char *file = g_strdup_printf("ram/%s", name);

        json_object_object_add(entry, "name", json_object_new_string(block.name));
        json_object_object_add(entry, "file", json_object_new_string(file));
        json_object_object_add(entry, "length", json_object_new_uint64(block.length));
        json_object_object_add(entry, "pages", json_object_new_uint64(block.n_pages));
        json_object_object_add(entry, "received",
                               json_object_new_uint64(block.n_received));
        json_object_array_add(blocks, entry);
    }
    json_object_object_add(x->summary, "blocks", blocks);
    json_object_object_add(x->summary, "devices", json_object_get(x->devices));
}

JsonObject *
qmig_extract_run(const char *path, const char *directory,
                 void (*progress)(uint64_t done, uint64_t total), GError **error)
{
    g_autofree char *ram_path = g_build_filename(directory, "ram", NULL);
    g_autofree char *device_path = g_build_filename(directory, "device", NULL);
    g_autoptr(QmigGuestRam) ram = qmig_guest_ram_new(ram_path);
    g_autoptr(JsonObject) summary = json_object_new_object();
    g_autoptr(JsonObject) devices = json_object_new_array();
    Extract x = { directory, ram, devices, summary };
    QmigReaderSink sink = { .self = &x, .event = on_event, .progress = progress };

    g_auto(QmigReaderEnd) end = { 0 };

    if (!make_directory(directory, error) || !make_directory(ram_path, error) ||
        !make_directory(device_path, error) ||
        !qmig_reader_run(path, &sink, &end, error)) {
        return NULL;
    }
    json_object_object_add(summary, "complete", json_object_new_boolean(end.complete));
    json_object_object_add(summary, "reason", json_object_new_string(end.reason));
    list_blocks(&x);
    return g_steal_pointer(&summary);
}
