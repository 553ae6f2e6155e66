/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which disks are copied, whether both sides' images fit each other, and whether those that are
 * not copied are safe: the same storage on both sides, without a cache in between that the
 * other host does not see.
 */
#include "job/part.h"
#include "job/storage.h"
#include "util/units.h"

#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Of the file systems of several hosts: those that linux/magic.h leaves out. */
enum {
    GFS2_MAGIC = 0x01161970,
    GPFS_MAGIC = 0x47504653,
    LUSTRE_MAGIC = 0x0bd00bd0,
};

typedef enum {
    SAME_STORAGE,
    SAME_BUT_CACHED, /* shared, but each host has a cache of its own */
    OTHER_STORAGE,
    CANNOT_TELL,
} Sameness;

static void
free_disk(void *data)
{
    QmigStorageDisk *disk = data;

    g_free(disk->name);
    g_free(disk->id);
    g_free(disk);
}

void
qmig_storage_free(QmigStorage *storage)
{
    if (storage == NULL) {
        return;
    }
    g_clear_pointer(&storage->here, g_ptr_array_unref);
    g_clear_pointer(&storage->there, g_ptr_array_unref);
    g_ptr_array_unref(storage->disks);
    qmig_address_free(storage->address);
    g_free(storage);
}

/* ---- pairs ------------------------------------------------------------------------------ */

static const QmigBlockDisk *
find_named(const GPtrArray *disks, const char *name)
{
    for (guint i = 0; i < disks->len; i++) {
        if (qmig_block_disk_is_named(disks->pdata[i], name)) {
            return disks->pdata[i];
        }
    }
    return NULL;
}

/* "NAME=NAME-THERE" of --migrate-disks, if @disk is one of those. */
static const char *
mapped_name(const QmigJob *job, const QmigBlockDisk *disk)
{
    const GPtrArray *list = job->options->migrate_disks;

    for (guint i = 0; i < list->len; i++) {
        const char *entry = list->pdata[i], *there = strchr(entry, '=');
        g_autofree char *here = there != NULL ? g_strndup(entry, (gsize)(there - entry))
                                              : g_strdup(entry);
        if (there != NULL && qmig_block_disk_is_named(disk, here)) {
            return there + 1;
        }
    }
    return NULL;
}

/* By the user's word; else the same device of the machine; else the same drive. */
const QmigBlockDisk *
qmig_storage_peer(const QmigJob *job, const QmigBlockDisk *disk)
{
    const char *name = mapped_name(job, disk);
    const QmigBlockDisk *peer;

    if (name != NULL) {
        return find_named(job->storage->there, name);
    }
    peer = find_named(job->storage->there, disk->qdev);
    return peer != NULL ? peer : find_named(job->storage->there, disk->drive);
}

/* Flash memory of the machine: its contents are memory, and go along as such. */
static bool
is_firmware(const QmigBlockDisk *disk)
{
    return g_str_has_prefix(disk->drive, "pflash") ||
           g_str_has_prefix(disk->qdev, "/machine/system.flash");
}

/* ---- the same storage? ------------------------------------------------------------------ */

/* Its QEMU runs on this host, and sees the files that we see. */
static bool
is_here(const QmigSide *side)
{
    return side->is_local && side->pidfd >= 0;
}

static Sameness
compare_files(const char *a, const char *b)
{
    struct stat one, other;

    if (stat(a, &one) < 0 || stat(b, &other) < 0) {
        return CANNOT_TELL;
    }
    bool same = S_ISBLK(one.st_mode) && S_ISBLK(other.st_mode)
                    ? one.st_rdev == other.st_rdev
                    : one.st_dev == other.st_dev && one.st_ino == other.st_ino;
    return same ? SAME_STORAGE : OTHER_STORAGE;
}

/* A file of this host, by its path on the other. Network file systems that forget what they
 * have cached when QEMU asks them to, as it does before it starts a guest, are as good as
 * those that share their cache. */
static Sameness
judge_file_system(const QmigBlockDisk *disk)
{
    struct statfs fs;

    if (statfs(disk->filename, &fs) < 0) {
        return CANNOT_TELL;
    }
    switch ((uint32_t)fs.f_type) {
    case NFS_SUPER_MAGIC:
    case CEPH_SUPER_MAGIC:
    case OCFS2_SUPER_MAGIC:
    case GFS2_MAGIC:
    case GPFS_MAGIC:
    case LUSTRE_MAGIC:
        return SAME_STORAGE;
    case SMB_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case V9FS_MAGIC:
    case FUSE_SUPER_MAGIC:
        return disk->is_direct ? SAME_STORAGE : SAME_BUT_CACHED;
    default:
        return OTHER_STORAGE;
    }
}

static Sameness
compare(const QmigJob *job, const QmigBlockDisk *here, const QmigBlockDisk *there)
{
    bool same_name = strcmp(here->filename, there->filename) == 0;

    if (here->filename[0] == '\0' || there->filename[0] == '\0') {
        return CANNOT_TELL;
    }
    /* "nbd://…", "rbd:…", "json:{…}": served to both hosts, each without a cache. */
    if (here->filename[0] != '/' || there->filename[0] != '/') {
        return same_name ? SAME_STORAGE : OTHER_STORAGE;
    }
    if (is_here(&job->source) && is_here(&job->destination)) {
        return compare_files(here->filename, there->filename);
    }
    if (!same_name) {
        return OTHER_STORAGE;
    }
    return is_here(&job->source) ? judge_file_system(here) : CANNOT_TELL;
}

/* A disk that is not copied must be the same one there. */
static void
check_safe(QmigJob *job, const QmigBlockDisk *here, GString *problems)
{
    const QmigBlockDisk *there = qmig_storage_peer(job, here);
    g_autofree char *name = qmig_block_disk_name(here);

    if (job->options->unsafe || there == NULL || there->read_only) {
        return;
    }
    switch (compare(job, here, there)) {
    case SAME_STORAGE:
        break;
    case SAME_BUT_CACHED:
        qmig_job_problem(problems,
                         "disk %s: each host has a cache of its own for %s: start both "
                         "with cache=none, or take the risk by --unsafe",
                         name, here->filename);
        break;
    case OTHER_STORAGE:
        qmig_job_problem(problems,
                         "disk %s is not copied, and %s of the source is not the "
                         "destination's %s: copy it by --copy-storage-all, or take the "
                         "risk by --unsafe",
                         name, here->filename, there->filename);
        break;
    case CANNOT_TELL:
    default:
        qmig_job_problem(problems,
                         "disk %s: whether \"%s\" is the same storage for both cannot be "
                         "seen from here: say so by --unsafe, or copy it by "
                         "--copy-storage-all",
                         name, here->filename);
        break;
    }
}

/* ---- disks that are copied -------------------------------------------------------------- */

static void
check_backing(QmigJob *job, const char *name, const QmigBlockDisk *here,
              const QmigBlockDisk *there, GString *problems)
{
    if (!job->options->copy_storage_inc) {
        return;
    }
    if (here->backing->len == 0 || there->backing->len == 0) {
        qmig_job_problem(problems,
                         "disk %s: %s: its image has no backing file: "
                         "--copy-storage-inc copies only what lies above one; copy all "
                         "by --copy-storage-all",
                         name, here->backing->len == 0 ? "source" : "destination");
        return;
    }
    const QmigBlockImage *a = here->backing->pdata[0], *b = there->backing->pdata[0];
    if (a->virtual_size != b->virtual_size) {
        qmig_job_problem(
            problems,
            "disk %s: backing file: source %s has %" G_GUINT64_FORMAT
            " bytes, destination %s has %" G_GUINT64_FORMAT ": they cannot be the same",
            name, a->filename, a->virtual_size, b->filename, b->virtual_size);
    } else if (strcmp(a->filename, b->filename) != 0 &&
               compare_files(a->filename, b->filename) != SAME_STORAGE) {
        qmig_job_message(job,
                         "disk %s: the backing files %s and %s are taken to hold the "
                         "same; that is not verified",
                         name, a->filename, b->filename);
    }
}

static void
check_pair(QmigJob *job, const char *name, const QmigBlockDisk *here,
           const QmigBlockDisk *there, GString *problems)
{
    if (there->read_only) {
        qmig_job_problem(problems, "disk %s: destination: its image %s is read-only",
                         name, there->filename);
    }
    if (here->virtual_size != there->virtual_size) {
        qmig_job_problem(problems,
                         "disk %s: source %" G_GUINT64_FORMAT
                         " bytes, destination %" G_GUINT64_FORMAT
                         ": make the destination's image as large: qemu-img create -f %s "
                         "FILE %" G_GUINT64_FORMAT,
                         name, here->virtual_size, there->virtual_size, there->driver,
                         here->virtual_size);
    }
    check_backing(job, name, here, there, problems);
    if (here->bitmaps->len > 0 && !job->storage->bitmaps) {
        qmig_job_message(job,
                         "disk %s: its %u dirty bitmap%s stay behind: take them along by "
                         "--dirty-bitmaps",
                         name, here->bitmaps->len, here->bitmaps->len > 1 ? "s" : "");
    }
}

static void
add_disk(QmigStorage *s, const char *name, const QmigBlockDisk *here,
         const QmigBlockDisk *there)
{
    QmigStorageDisk *disk = g_new0(QmigStorageDisk, 1);

    disk->name = g_strdup(name);
    disk->id = g_strdup_printf("qmig-disk%u", s->disks->len);
    disk->here = here;
    disk->there = there;
    g_ptr_array_add(s->disks, disk);
}

/* @asked: by its name, not as one of all. */
static void
choose(QmigJob *job, const QmigBlockDisk *here, bool asked, GString *problems)
{
    const QmigBlockDisk *there = qmig_storage_peer(job, here);
    g_autofree char *name = qmig_block_disk_name(here);

    if (there == NULL) {
        qmig_job_problem(problems,
                         "disk %s: the destination has none with device %s: start it "
                         "with the same disks, or say which it is by --migrate-disks "
                         "%s=NAME",
                         name, here->qdev, name);
        return;
    }
    if (compare(job, here, there) == SAME_STORAGE) {
        if (asked) {
            qmig_job_problem(problems,
                             "disk %s: both sides have the same %s: there is nothing to "
                             "copy",
                             name, here->filename);
        } else {
            qmig_job_message(job, "disk %s: %s is shared: it is not copied", name,
                             here->filename);
        }
        return;
    }
    check_pair(job, name, here, there, problems);
    add_disk(job->storage, name, here, there);
}

static void
choose_all(QmigJob *job, GString *problems)
{
    const GPtrArray *here = job->storage->here;

    for (guint i = 0; i < here->len; i++) {
        const QmigBlockDisk *disk = here->pdata[i];
        if (!disk->read_only && !is_firmware(disk)) {
            choose(job, disk, false, problems);
        }
    }
}

static void
choose_named(QmigJob *job, GString *problems)
{
    const GPtrArray *list = job->options->migrate_disks;

    for (guint i = 0; i < list->len; i++) {
        g_auto(GStrv) names = g_strsplit(list->pdata[i], "=", 2);
        const QmigBlockDisk *here = find_named(job->storage->here, names[0]);

        if (here == NULL) {
            qmig_job_problem(problems, "--migrate-disks: the source has no disk \"%s\"",
                             names[0]);
        } else if (here->read_only) {
            qmig_job_problem(problems,
                             "--migrate-disks: disk %s is read-only: a copy of it is "
                             "made by hand, before",
                             names[0]);
        } else {
            choose(job, here, true, problems);
        }
    }
}

static bool
is_copied(const QmigStorage *s, const QmigBlockDisk *here)
{
    for (guint i = 0; i < s->disks->len; i++) {
        if (((QmigStorageDisk *)s->disks->pdata[i])->here == here) {
            return true;
        }
    }
    return false;
}

/* Two of the list that are one disk, on either side. */
static void
check_twice(const QmigStorage *s, GString *problems)
{
    for (guint i = 0; i < s->disks->len; i++) {
        for (guint j = i + 1; j < s->disks->len; j++) {
            const QmigStorageDisk *a = s->disks->pdata[i], *b = s->disks->pdata[j];
            if (a->here == b->here || a->there == b->there) {
                qmig_job_problem(problems, "disks %s and %s are one and the same",
                                 a->name, b->name);
            }
        }
    }
}

/* Somebody else's job would hold on to a disk that has to be handed over. */
static void
check_jobs(QmigJob *job, GString *problems)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) jobs = qmig_qmp_query_jobs(job->source.qmp, NULL, &error);

    if (jobs == NULL) {
        qmig_job_problem(problems, "%s", error->message);
        return;
    }
    for (guint i = 0; i < jobs->len; i++) {
        const QmigBlockJob *other = jobs->pdata[i];
        if (!g_str_has_prefix(other->id, QMIG_STORAGE_PREFIX)) {
            qmig_job_problem(problems,
                             "source: a job works on its disks: \"%s\", %s: wait for it, "
                             "or end it",
                             other->id, other->status);
        }
    }
}

static bool
read_disks(QmigJob *job, GString *problems)
{
    QmigStorage *s = g_new0(QmigStorage, 1);
    g_autoptr(GError) error = NULL;

    job->storage = s;
    s->disks = g_ptr_array_new_with_free_func(free_disk);
    s->here = qmig_qmp_query_disks(job->source.qmp, &error);
    if (s->here != NULL) {
        s->there = qmig_qmp_query_disks(job->destination.qmp, &error);
    }
    if (s->there == NULL) {
        qmig_job_problem(problems, "%s", error->message);
    }
    return s->there != NULL;
}

void
qmig_storage_check(QmigJob *job, GString *problems)
{
    if (!read_disks(job, problems)) {
        return;
    }
    QmigStorage *s = job->storage;
    qmig_storage_check_bitmaps(job, problems);
    if (qmig_storage_is_asked(job)) {
        check_jobs(job, problems);
        if (job->options->migrate_disks->len > 0) {
            choose_named(job, problems);
        } else {
            choose_all(job, problems);
        }
        check_twice(s, problems);
        if (s->disks->len == 0) {
            qmig_job_message(job, "there is no disk to copy");
        }
    }
    for (guint i = 0; i < s->here->len; i++) {
        const QmigBlockDisk *disk = s->here->pdata[i];
        if (!disk->read_only && !is_firmware(disk) && !is_copied(s, disk)) {
            check_safe(job, disk, problems);
        }
    }
    if (s->disks->len > 0) {
        job->wants_pre_switchover = true;
    }
}
