/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices: what the guest finds where, the user's and the machine's own, and how they are set. */
#include "job/preflight.h"

#include <string.h>

/* Wiring to the host, or how the host serves it: may differ, and often must. */
static const char *const of_the_host[] = { "account-failed",
                                           "account-invalid",
                                           "addr",
                                           "audiodev",
                                           "backend_defaults",
                                           "bootindex",
                                           "busnr",
                                           "chardev",
                                           "cryptodev",
                                           "discard",
                                           "display",
                                           "drive",
                                           "ebpf-rss-fds",
                                           "failover_pair_id",
                                           "host",
                                           "hostaddr",
                                           "hostbus",
                                           "i8042",
                                           "ioeventfd",
                                           "iothread",
                                           "iothread-vq-mapping",
                                           "legacy-addr",
                                           "memdev",
                                           "netdev",
                                           "smb_io_base",
                                           "MCFG",
                                           "port",
                                           "rerror",
                                           "rng",
                                           "romfile",
                                           "rombar",
                                           "rss",
                                           "share-rw",
                                           "stats-intervals",
                                           "sysfsdev",
                                           "tpmdev",
                                           "vhostfd",
                                           "werror",
                                           "write-cache",
                                           "x-txburst",
                                           "x-txtimer",
                                           NULL };

/* The guest relies on these; QEMU refuses some when it loads the state, others not at all. */
static const char *const of_the_guest[] = { "acpi-index",
                                            "aer",
                                            "ats",
                                            "chassis",
                                            "chassis_nr",
                                            "class",
                                            "config-wce",
                                            "csum",
                                            "ctrl_vq",
                                            "disable-legacy",
                                            "disable-modern",
                                            "event_idx",
                                            "guest_csum",
                                            "guest_tso4",
                                            "guest_tso6",
                                            "guest_ufo",
                                            "guest_uso4",
                                            "guest_uso6",
                                            "host_mtu",
                                            "host_tso4",
                                            "host_tso6",
                                            "host_ufo",
                                            "host_uso",
                                            "indirect_desc",
                                            "iobase",
                                            "iommu_platform",
                                            "irq",
                                            "logical_block_size",
                                            "mac",
                                            "max_ports",
                                            "mq",
                                            "mrg_rxbuf",
                                            "msi",
                                            "msix",
                                            "multifunction",
                                            "num-queues",
                                            "num_queues",
                                            "packed",
                                            "page-per-vq",
                                            "pci id",
                                            "physical_block_size",
                                            "queue-size",
                                            "queues",
                                            "romsize",
                                            "rx_queue_size",
                                            "scsi",
                                            "seg-max-adjust",
                                            "serial",
                                            "tx_queue_size",
                                            "vectors",
                                            "virtqueue_size",
                                            "write-zeroes",
                                            "wwn",
                                            NULL };

static const QmigDevice *
find_at(const GPtrArray *devices, const char *location)
{
    for (guint i = 0; i < devices->len; i++) {
        const QmigDevice *device = devices->pdata[i];
        if (strcmp(device->location, location) == 0) {
            return device;
        }
    }
    return NULL;
}

/* A part of a device that has been told already: that one is missing, or another. */
static bool
is_told(const GPtrArray *others, const QmigDevice *device)
{
    const QmigDevice *parent = device->parent, *other;

    if (parent == NULL) {
        return false;
    }
    other = find_at(others, parent->location);
    return other == NULL || strcmp(other->type, parent->type) != 0;
}

static bool
same_version(const QmigPreflight *p)
{
    return p->source->version / 100 == p->destination->version / 100;
}

/* The user made it, or it has an address the guest sees. */
static bool
is_certain(const QmigPreflight *p, const QmigDevice *device)
{
    return same_version(p) || device->id != NULL || strchr(device->slot, '#') == NULL;
}

static void
compare_properties(QmigPreflight *p, const QmigDevice *ours, const QmigDevice *theirs)
{
    g_autofree char *title = qmig_device_title(ours);
    GHashTableIter iter;
    void *name, *value;

    g_hash_table_iter_init(&iter, ours->properties);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        const char *other = g_hash_table_lookup(theirs->properties, name);
        if (other == NULL || strcmp(value, other) == 0 ||
            g_strv_contains(of_the_host, name)) {
            continue;
        }
        qmig_preflight_find(p,
                            g_strv_contains(of_the_guest, name) ? QMIG_FINDING_RISKY
                                                                : QMIG_FINDING_WARNING,
                            "%s at %s: %s is %s on the source, %s on the destination",
                            title, ours->location, (const char *)name,
                            (const char *)value, other);
        qmig_preflight_advise(p, "give both the same %s", (const char *)name);
    }
}

/* How to make it: "-device TYPE,id=ID,bus=BUS,addr=05.0". (transfer full) */
static char *
recipe(const QmigDevice *device)
{
    bool is_pci = g_hash_table_contains(device->properties, "pci id");

    if (device->id == NULL && strcmp(device->bus, "main-system-bus") == 0) {
        return g_strdup("the same -machine and -nodefaults");
    }
    return g_strdup_printf("-device %s%s%s,bus=%s%s%s and the rest as on the source",
                           device->type, device->id != NULL ? ",id=" : "",
                           device->id != NULL ? device->id : "", device->bus,
                           is_pci ? ",addr=" : "", is_pci ? device->slot : "");
}

static void
tell_missing(QmigPreflight *p, const QmigDevice *ours)
{
    const QmigDevice *moved = qmig_device_of_id(p->destination_devices, ours->id);
    g_autofree char *title = qmig_device_title(ours);
    g_autofree char *how = recipe(ours);

    if (is_told(p->destination_devices, ours)) {
        return;
    }
    if (moved != NULL && strcmp(moved->type, ours->type) == 0) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                            "%s is at %s on the source, at %s on the destination", title,
                            ours->location, moved->location);
    } else {
        qmig_preflight_find(
            p, is_certain(p, ours) ? QMIG_FINDING_REFUSED : QMIG_FINDING_WARNING,
            "the destination has no %s at %s", title, ours->location);
    }
    qmig_preflight_advise(p, "start it with %s", how);
}

static void
compare_device(QmigPreflight *p, const QmigDevice *ours)
{
    const QmigDevice *theirs = find_at(p->destination_devices, ours->location);
    g_autofree char *title = qmig_device_title(ours);

    if (theirs == NULL) {
        tell_missing(p, ours);
        return;
    }
    g_autofree char *other = qmig_device_title(theirs);
    if (strcmp(ours->type, theirs->type) != 0) {
        g_autofree char *how = recipe(ours);
        qmig_preflight_find(
            p, is_certain(p, ours) ? QMIG_FINDING_REFUSED : QMIG_FINDING_WARNING,
            "at %s: source %s, destination %s", ours->location, title, other);
        qmig_preflight_advise(p, "start the destination with %s", how);
        return;
    }
    if (g_strcmp0(ours->id, theirs->id) != 0) {
        qmig_preflight_find(
            p, QMIG_FINDING_WARNING,
            "ids at %s: source %s, destination %s: the guest arrives, but "
            "who asks for it by its id will not find it",
            ours->location, title, other);
        qmig_preflight_advise(p, "give both the same id");
    }
    compare_properties(p, ours, theirs);
}

static void
tell_added(QmigPreflight *p, const QmigDevice *theirs)
{
    g_autofree char *title = qmig_device_title(theirs);

    if (find_at(p->source_devices, theirs->location) != NULL ||
        qmig_device_of_id(p->source_devices, theirs->id) != NULL ||
        is_told(p->source_devices, theirs)) {
        return;
    }
    qmig_preflight_find(p,
                        is_certain(p, theirs) ? QMIG_FINDING_RISKY : QMIG_FINDING_WARNING,
                        "the destination has a %s at %s, which the guest does not know",
                        title, theirs->location);
    qmig_preflight_advise(p, "leave it out there, also what comes without -nodefaults");
}

bool
qmig_preflight_devices(QmigPreflight *p, GError **error)
{
    if (!qmig_preflight_can(p, "human-monitor-command")) {
        return true;
    }
    if (!qmig_qtree_read(p->source->qmp, &p->source_devices, error) ||
        !qmig_qtree_read(p->destination->qmp, &p->destination_devices, error)) {
        return false;
    }
    if (p->source_devices == NULL || p->destination_devices == NULL) {
        qmig_preflight_find(p, QMIG_FINDING_NOTE, "not told by one of them");
        return true;
    }
    /* Another machine has other devices of its own: that is told already. */
    if (strcmp(p->source->machine, p->destination->machine) != 0) {
        return true;
    }
    for (guint i = 0; i < p->source_devices->len; i++) {
        compare_device(p, p->source_devices->pdata[i]);
    }
    for (guint i = 0; i < p->destination_devices->len; i++) {
        tell_added(p, p->destination_devices->pdata[i]);
    }
    return true;
}
