/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks: what each device has behind it. Whether those that are not copied are the same storage,
 * and those that are copied fit, is the storage part's matter.
 */
#include "job/preflight.h"
#include "qmp/qom.h"
#include "util/units.h"

#include <string.h>
#include <sys/stat.h>

enum { MAX_CHAIN = 256 /* images of a backing chain that are looked at */ };

/* One entry of query-block. Borrowed from the reply. */
typedef struct {
    char *key;            /* where it is for the guest: the same on both sides; owned */
    char *name;           /* for people; owned */
    JsonObject *inserted; /* NULL: no medium */
    JsonObject *image;    /* NULL: no medium */
    bool failed;          /* io-status */
} Disk;

static void
disk_free(void *data)
{
    Disk *disk = data;

    g_free(disk->key);
    g_free(disk->name);
    g_free(disk);
}

/* The device of a drive: "vd0", or "/machine/peripheral/vd0/virtio-backend". */
static const QmigDevice *
find_device(const GPtrArray *devices, const char *qdev)
{
    static const char peripheral[] = "/machine/peripheral/";

    if (!g_str_has_prefix(qdev, peripheral)) {
        return qmig_device_of_id(devices, qdev);
    }
    const char *id = qdev + strlen(peripheral);
    g_autofree char *name = g_strndup(id, strcspn(id, "/"));
    return qmig_device_of_id(devices, name);
}

/* @devices: (nullable) of that side */
static GPtrArray *
list_disks(JsonObject *reply, GPtrArray *devices)
{
    GPtrArray *disks = g_ptr_array_new_with_free_func(disk_free);
    size_t n = json_object_is_type(reply, json_type_array)
                   ? json_object_array_length(reply)
                   : 0;

    for (size_t i = 0; i < n; i++) {
        JsonObject *entry = json_object_array_get_idx(reply, i);
        const char *qdev = qmig_json_string(entry, "qdev");
        const char *name = qmig_json_string(entry, "device");
        const char *status = qmig_json_string(entry, "io-status");
        const QmigDevice *device = qdev != NULL ? find_device(devices, qdev) : NULL;

        /* A drive no device has is no matter of the guest. */
        if (qdev == NULL) {
            continue;
        }
        Disk *disk = g_new0(Disk, 1);
        disk->name = device != NULL                    ? qmig_device_title(device)
                     : name != NULL && name[0] != '\0' ? g_strdup(name)
                                                       : g_strdup(qdev);
        disk->key = g_strdup(device != NULL ? device->location : disk->name);
        disk->inserted = qmig_json_get(entry, "inserted", json_type_object);
        disk->image = qmig_json_get(disk->inserted, "image", json_type_object);
        disk->failed = status != NULL && strcmp(status, "ok") != 0;
        g_ptr_array_add(disks, disk);
    }
    return disks;
}

static const Disk *
find_disk(const GPtrArray *disks, const char *key)
{
    for (guint i = 0; i < disks->len; i++) {
        const Disk *disk = disks->pdata[i];
        if (strcmp(disk->key, key) == 0) {
            return disk;
        }
    }
    return NULL;
}

typedef enum { SAME, OTHER, UNKNOWN } Sameness;

/* Are two names, each of its own QEMU, one file? */
static Sameness
compare_files(const QmigPreflight *p, const char *ours, const char *theirs)
{
    struct stat a, b;

    if (ours == NULL || theirs == NULL) {
        return UNKNOWN;
    }
    if (p->same_host && stat(ours, &a) == 0 && stat(theirs, &b) == 0) {
        return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? SAME : OTHER;
    }
    return strcmp(ours, theirs) == 0 ? SAME : UNKNOWN;
}

/* The images below, pair by pair. */
static void
compare_chain(QmigPreflight *p, const Disk *ours, const Disk *theirs)
{
    JsonObject *a = qmig_json_get(ours->image, "backing-image", json_type_object);
    JsonObject *b = qmig_json_get(theirs->image, "backing-image", json_type_object);

    for (int depth = 1; (a != NULL || b != NULL) && depth < MAX_CHAIN; depth++) {
        const char *here = qmig_json_string(a, "filename");
        const char *there = qmig_json_string(b, "filename");

        if (a == NULL || b == NULL || compare_files(p, here, there) == OTHER) {
            qmig_preflight_find(p, QMIG_FINDING_RISKY,
                                "%s: backing file %d is %s on the source, %s on the "
                                "destination",
                                ours->name, depth, here != NULL ? here : "none",
                                there != NULL ? there : "none");
            qmig_preflight_advise(p, "give both the same chain of images");
            return;
        }
        a = qmig_json_get(a, "backing-image", json_type_object);
        b = qmig_json_get(b, "backing-image", json_type_object);
    }
}

static void
compare_images(QmigPreflight *p, const Disk *ours, const Disk *theirs)
{
    const char *here = qmig_json_string(ours->inserted, "file");
    const char *there = qmig_json_string(theirs->inserted, "file");
    Sameness sameness = compare_files(p, here, there);

    if (sameness == OTHER) {
        qmig_preflight_find(p, QMIG_FINDING_RISKY,
                            "%s: the source has %s, the destination another file, %s",
                            ours->name, here, there);
        qmig_preflight_advise(p, "give both the same file, or copy it by "
                                 "--copy-storage-all");
        return;
    }
    if (sameness == UNKNOWN) {
        qmig_preflight_find(p, QMIG_FINDING_WARNING,
                            "%s: %s on the source, %s on the destination: that must be "
                            "one and the same image",
                            ours->name, here != NULL ? here : "?",
                            there != NULL ? there : "?");
        qmig_preflight_advise(p, "be sure of it, or copy it by --copy-storage-all");
    }
}

static void
compare_formats(QmigPreflight *p, const Disk *ours, const Disk *theirs)
{
    const char *a = qmig_json_string(ours->image, "format");
    const char *b = qmig_json_string(theirs->image, "format");

    if (a != NULL && b != NULL && strcmp(a, b) != 0) {
        qmig_preflight_find(
            p, QMIG_FINDING_RISKY,
            "%s: the source takes the image for %s, the destination for %s", ours->name,
            a, b);
        qmig_preflight_advise(p, "give both the same format");
    }
}

static void
compare_sizes(QmigPreflight *p, const Disk *ours, const Disk *theirs)
{
    int64_t a = qmig_json_int(ours->image, "virtual-size", -1);
    int64_t b = qmig_json_int(theirs->image, "virtual-size", -1);

    if (a >= 0 && b >= 0 && a != b) {
        qmig_preflight_find(p, QMIG_FINDING_RISKY,
                            "%s: %" G_GINT64_FORMAT " bytes on the source, "
                            "%" G_GINT64_FORMAT " on the destination",
                            ours->name, a, b);
        qmig_preflight_advise(p, "give both images the same size");
    }
    bool read_only = qmig_json_bool(ours->inserted, "ro", false);
    if (read_only != qmig_json_bool(theirs->inserted, "ro", false)) {
        qmig_preflight_find(p, read_only ? QMIG_FINDING_WARNING : QMIG_FINDING_RISKY,
                            "%s: %s on the source, %s on the destination", ours->name,
                            read_only ? "read-only" : "writable",
                            read_only ? "writable" : "read-only");
        qmig_preflight_advise(p, "start the destination with readonly=%s there",
                              read_only ? "on" : "off");
    }
}

static bool
copies_storage(const QmigJobOptions *options)
{
    return options->copy_storage_all || options->copy_storage_inc ||
           options->migrate_disks->len > 0;
}

static void
compare_disk(QmigPreflight *p, const Disk *ours, const Disk *theirs)
{
    if (ours->failed) {
        qmig_preflight_find(p, QMIG_FINDING_WARNING, "%s: I/O on the source has failed",
                            ours->name);
        qmig_preflight_advise(p, "see why before the guest is moved");
    }
    /* A device without a partner is told of among the devices. */
    if (theirs == NULL) {
        return;
    }
    if ((ours->image == NULL) != (theirs->image == NULL)) {
        qmig_preflight_find(p, QMIG_FINDING_RISKY, "%s: %s", ours->name,
                            ours->image != NULL ? "the destination has no medium"
                                                : "the destination has a medium, the "
                                                  "source none");
        qmig_preflight_advise(p, "make it as on the source");
        return;
    }
    bool read_only = qmig_json_bool(ours->inserted, "ro", false);
    if (ours->image == NULL || (copies_storage(p->job->options) && !read_only)) {
        return;
    }
    compare_sizes(p, ours, theirs);
    compare_formats(p, ours, theirs);
    compare_chain(p, ours, theirs);
    /* Of a writable one the storage part tells. */
    if (read_only) {
        compare_images(p, ours, theirs);
    }
}

bool
qmig_preflight_disks(QmigPreflight *p, GError **error)
{
    g_autoptr(JsonObject) source = NULL, destination = NULL;

    if (!qmig_preflight_can(p, "query-block")) {
        return true;
    }
    if (!qmig_qmp_ask(p->source->qmp, "query-block", NULL, &source, error) ||
        !qmig_qmp_ask(p->destination->qmp, "query-block", NULL, &destination, error)) {
        return false;
    }
    g_autoptr(GPtrArray) ours = list_disks(source, p->source_devices);
    g_autoptr(GPtrArray) theirs = list_disks(destination, p->destination_devices);
    for (guint i = 0; i < ours->len; i++) {
        const Disk *disk = ours->pdata[i];
        compare_disk(p, disk, find_disk(theirs, disk->key));
    }
    return true;
}
