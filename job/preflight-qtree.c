/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading `info qtree`: one command that tells all devices with all their properties, and has
 * looked the same from 7.2 to 11.1, where the object tree does not.
 *
 *     bus: main-system-bus
 *       type System
 *       dev: i440FX-pcihost, id ""
 *         bus: pci.0
 *           type PCI
 *           dev: virtio-blk-pci, id "vd0"
 *             addr = 05.0
 *             class SCSI controller, addr 00:05.0, pci id 1af4:1001 (sub 1af4:0002)
 *             bus: virtio-bus
 *
 * A device is matched by its location, as the stream does: the buses above it, without the
 * names that ids give to buses, and its address there, or else which of its type it is:
 * "pci.0/05.0/virtio-blk-device#0".
 */
#include "job/preflight.h"
#include "qmp/qom.h"

#include <string.h>

enum {
    MAX_DEPTH = 64,     /* of buses and devices in each other */
    MAX_DEVICES = 4096, /* of one side; what is beyond is not compared */
};

static const char system_bus[] = "main-system-bus";

/* What the lines are within: a bus, or a device. */
typedef struct {
    size_t indent;
    char *name;         /* of a bus; NULL: this is a device */
    QmigDevice *device; /* borrowed; of a bus: the device it belongs to, NULL = none */
    unsigned number;    /* of a bus: which of the device's, from 0 */
    unsigned n_buses;   /* of a device: so far */
} Level;

typedef struct {
    GPtrArray *devices; /* QmigDevice */
    GHashTable *counts; /* {"bus/TYPE": number so far} */
    Level levels[MAX_DEPTH];
    size_t depth;
} Reader;

static void
device_free(void *data)
{
    QmigDevice *device = data;

    g_free(device->id);
    g_free(device->type);
    g_free(device->bus);
    g_free(device->place);
    g_free(device->slot);
    g_free(device->location);
    g_hash_table_unref(device->properties);
    g_free(device);
}

static void
leave(Reader *r, size_t indent)
{
    while (r->depth > 0 && r->levels[r->depth - 1].indent >= indent) {
        g_clear_pointer(&r->levels[--r->depth].name, g_free);
    }
}

static Level *
enter(Reader *r, size_t indent)
{
    if (r->depth == MAX_DEPTH) {
        return NULL;
    }
    r->levels[r->depth] = (Level){ .indent = indent };
    return &r->levels[r->depth++];
}

/* The device that was begun is known by now: where is it? */
static void
settle(QmigDevice *device, GHashTable *counts)
{
    if (device == NULL || device->location != NULL) {
        return;
    }
    if (device->slot == NULL) {
        g_autofree char *key = g_strdup_printf("%s/%s", device->place, device->type);
        unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(counts, key));
        device->slot = g_strdup_printf("%s#%u", device->type, n);
        g_hash_table_replace(counts, g_steal_pointer(&key), GUINT_TO_POINTER(n + 1));
    }
    device->location = device->place[0] != '\0'
                           ? g_strdup_printf("%s/%s", device->place, device->slot)
                           : g_strdup(device->slot);
}

/* Where things on the present bus are: names of buses come from ids, or are counted, so only
 * those of the machine's own hosts count. (transfer full) */
static char *
place_of(const Level *bus)
{
    const QmigDevice *owner = bus->device;

    if (owner == NULL) {
        return g_strdup(strcmp(bus->name, system_bus) == 0 ? "" : bus->name);
    }
    if (strcmp(owner->bus, system_bus) == 0 && owner->id == NULL) {
        return g_strdup(bus->name);
    }
    return bus->number == 0 ? g_strdup(owner->location)
                            : g_strdup_printf("%s.%u", owner->location, bus->number);
}

/* "dev: TYPE, id "ID"" */
static void
begin_device(Reader *r, size_t indent, const char *text)
{
    const Level *bus = r->depth > 0 ? &r->levels[r->depth - 1] : NULL;
    const char *comma = strstr(text, ", id \"");
    Level *level = enter(r, indent);

    if (level == NULL || comma == NULL || r->devices->len >= MAX_DEVICES) {
        return;
    }
    const char *id = comma + strlen(", id \"");
    const char *end = strrchr(id, '"');
    QmigDevice *device = g_new0(QmigDevice, 1);
    device->type = g_strndup(text, (gsize)(comma - text));
    device->id = end != NULL && end > id ? g_strndup(id, (gsize)(end - id)) : NULL;
    device->bus = g_strdup(bus != NULL && bus->name != NULL ? bus->name : "");
    device->place = bus != NULL && bus->name != NULL ? place_of(bus) : g_strdup("");
    device->parent = bus != NULL ? bus->device : NULL;
    device->properties = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_ptr_array_add(r->devices, device);
    level->device = device;
}

static void
begin_bus(Reader *r, size_t indent, const char *name)
{
    Level *above = r->depth > 0 ? &r->levels[r->depth - 1] : NULL;
    QmigDevice *owner = above != NULL ? above->device : NULL;
    unsigned number = above != NULL ? above->n_buses++ : 0;
    Level *level;

    /* All that is told of the device itself comes before its buses. */
    settle(owner, r->counts);
    level = enter(r, indent);
    if (level != NULL) {
        level->name = g_strdup(name);
        level->device = owner;
        level->number = number;
    }
}

/* Addresses on buses; all others are counted. */
static void
take_slot(QmigDevice *device, const char *name, const char *value)
{
    bool is_pci = strcmp(name, "addr") == 0 && strchr(value, '.') != NULL;
    bool is_lun = strcmp(name, "lun") == 0 || strcmp(name, "scsi-id") == 0 ||
                  strcmp(name, "channel") == 0;

    if (device->slot == NULL && is_pci) {
        device->slot = g_strdup(value);
    } else if (is_lun) {
        g_autofree char *before = g_steal_pointer(&device->slot);
        device->slot = g_strdup_printf("%s%s%s=%u", before != NULL ? before : "",
                                       before != NULL ? "," : "", name,
                                       (unsigned)g_ascii_strtoull(value, NULL, 10));
    } else if (device->slot == NULL && strcmp(name, "nr") == 0) {
        device->slot = g_strdup_printf("nr=%u",
                                       (unsigned)g_ascii_strtoull(value, NULL, 10));
    }
}

/* "NAME = VALUE", and what some buses tell besides. */
static void
take_line(QmigDevice *device, const char *line)
{
    const char *equals = strstr(line, " = ");
    const char *pci = strstr(line, ", pci id ");
    const char *port = strstr(line, ", port ");

    if (g_str_has_prefix(line, "class ") && pci != NULL) {
        g_hash_table_replace(device->properties, g_strdup("pci id"),
                             g_strdup(pci + strlen(", pci id ")));
    } else if (g_str_has_prefix(line, "addr ") && port != NULL && device->slot == NULL) {
        port += strlen(", port ");
        device->slot = g_strdup_printf("port=%.*s", (int)strcspn(port, ","), port);
    } else if (equals != NULL && equals > line) {
        char *name = g_strndup(line, (gsize)(equals - line));
        take_slot(device, name, equals + 3);
        g_hash_table_replace(device->properties, name, g_strdup(equals + 3));
    }
}

static void
read_line(Reader *r, const char *line)
{
    size_t indent = strspn(line, " ");
    const char *text = line + indent;

    if (g_str_has_prefix(text, "dev: ") || g_str_has_prefix(text, "bus: ")) {
        /* The device that ends here may be the one begun last, without buses. */
        if (r->depth > 0) {
            settle(r->levels[r->depth - 1].device, r->counts);
        }
        leave(r, indent);
        if (text[0] == 'd') {
            begin_device(r, indent, text + strlen("dev: "));
        } else {
            begin_bus(r, indent, text + strlen("bus: "));
        }
    } else if (r->depth > 0 && r->levels[r->depth - 1].name == NULL &&
               r->levels[r->depth - 1].device != NULL) {
        take_line(r->levels[r->depth - 1].device, text);
    }
}

GPtrArray *
qmig_qtree_parse(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    Reader r = {
        .devices = g_ptr_array_new_with_free_func(device_free),
        .counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
    };

    for (char **line = lines; *line != NULL; line++) {
        g_strchomp(*line);
        read_line(&r, *line);
    }
    leave(&r, 0);
    for (guint i = 0; i < r.devices->len; i++) {
        settle(r.devices->pdata[i], r.counts);
    }
    g_hash_table_unref(r.counts);
    return r.devices;
}

bool
qmig_qtree_read(QmigQmp *qmp, GPtrArray **devices, GError **error)
{
    g_autofree char *text = NULL;

    if (!qmig_qmp_ask_human(qmp, "info qtree", &text, error)) {
        return false;
    }
    /* QEMU answers with a text also when it has no such command. */
    *devices = text != NULL && strstr(text, "bus: ") != NULL ? qmig_qtree_parse(text)
                                                             : NULL;
    return true;
}

const QmigDevice *
qmig_device_of_id(const GPtrArray *devices, const char *id)
{
    for (guint i = 0; devices != NULL && id != NULL && i < devices->len; i++) {
        const QmigDevice *device = devices->pdata[i];
        if (g_strcmp0(device->id, id) == 0) {
            return device;
        }
    }
    return NULL;
}

char *
qmig_device_title(const QmigDevice *device)
{
    return device->id != NULL ? g_strdup_printf("%s \"%s\"", device->type, device->id)
                              : g_strdup(device->type);
}
