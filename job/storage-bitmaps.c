/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dirty bitmaps travel in the migration stream, under an alias for their node: the names of
 * nodes differ between two QEMUs wherever nobody gave them.
 */
#include "job/part.h"
#include "job/storage.h"

static const char mapping_name[] = "block-bitmap-mapping";

/* The user's own mapping stands. */
static bool
is_mapped_by_user(const QmigJob *job)
{
    return json_object_object_get_ex(job->options->parameters, mapping_name, NULL);
}

static void
check_one(QmigJob *job, const QmigBlockDisk *here, GString *problems)
{
    const QmigBlockDisk *there = qmig_storage_peer(job, here);
    g_autofree char *name = qmig_block_disk_name(here);

    if (there == NULL && here->bitmaps->len > 0 && !is_mapped_by_user(job)) {
        qmig_job_problem(problems,
                         "disk %s: its dirty bitmaps have nowhere to go: the destination "
                         "has no disk with device %s",
                         name, here->qdev);
        return;
    }
    for (guint i = 0; i < here->bitmaps->len; i++) {
        const char *bitmap = here->bitmaps->pdata[i];
        if (there != NULL &&
            g_ptr_array_find_with_equal_func(there->bitmaps, bitmap, g_str_equal, NULL)) {
            qmig_job_problem(
                problems,
                "disk %s: destination: it has a dirty bitmap \"%s\" already: "
                "remove that by block-dirty-bitmap-remove",
                name, bitmap);
        }
    }
}

void
qmig_storage_check_bitmaps(QmigJob *job, GString *problems)
{
    const QmigJobOptions *options = job->options;
    const GPtrArray *here = job->storage->here;

    job->storage->bitmaps = json_object_object_get_ex(options->capabilities,
                                                      "dirty-bitmaps", NULL);
    if (!job->storage->bitmaps) {
        return;
    }
    for (guint i = 0; i < here->len; i++) {
        check_one(job, here->pdata[i], problems);
    }
}

/* {"node-name", "alias", "bitmaps": [{"name", "alias"}]} */
static JsonObject *
map_disk(const char *node, const char *alias, const GPtrArray *bitmaps)
{
    JsonObject *row = json_object_new_object(), *list = json_object_new_array();

    for (guint i = 0; i < bitmaps->len; i++) {
        JsonObject *entry = json_object_new_object();
        json_object_object_add(entry, "name", json_object_new_string(bitmaps->pdata[i]));
        json_object_object_add(entry, "alias", json_object_new_string(bitmaps->pdata[i]));
        json_object_array_add(list, entry);
    }
    json_object_object_add(row, "node-name", json_object_new_string(node));
    json_object_object_add(row, "alias", json_object_new_string(alias));
    json_object_object_add(row, "bitmaps", list);
    return row;
}

/* Nodes with the same name on both sides, given by a person, need no mapping. */
static bool
needs_mapping(const QmigJob *job)
{
    const GPtrArray *here = job->storage->here;

    for (guint i = 0; i < here->len; i++) {
        const QmigBlockDisk *disk = here->pdata[i];
        const QmigBlockDisk *peer = qmig_storage_peer(job, disk);
        if (disk->bitmaps->len > 0 && peer != NULL &&
            (disk->node[0] == '#' || !g_str_equal(disk->node, peer->node))) {
            return true;
        }
    }
    return false;
}

static bool
set_mapping(QmigSide *side, JsonObject *rows, GError **error)
{
    g_autoptr(JsonObject) values = json_object_new_object();

    json_object_object_add(values, mapping_name, json_object_get(rows));
    return qmig_qmp_set_parameters(side->qmp, values, error);
}

bool
qmig_storage_map_bitmaps(QmigJob *job, GError **error)
{
    g_autoptr(JsonObject) ours = json_object_new_array();
    g_autoptr(JsonObject) theirs = json_object_new_array();
    const GPtrArray *here = job->storage->here;

    if (!job->storage->bitmaps || is_mapped_by_user(job) || !needs_mapping(job)) {
        return true;
    }
    for (guint i = 0; i < here->len; i++) {
        const QmigBlockDisk *disk = here->pdata[i];
        const QmigBlockDisk *peer = qmig_storage_peer(job, disk);
        g_autofree char *alias = g_strdup_printf("disk%u", i);
        if (disk->bitmaps->len > 0 && peer != NULL) {
            json_object_array_add(ours, map_disk(disk->node, alias, disk->bitmaps));
            json_object_array_add(theirs, map_disk(peer->node, alias, disk->bitmaps));
        }
    }
    job->storage->mapped = true;
    return set_mapping(&job->source, ours, error) &&
           set_mapping(&job->destination, theirs, error);
}

static void
unmap(QmigJob *job, QmigSide *side)
{
    g_autoptr(JsonObject) none = json_object_new_array();
    g_autoptr(GError) error = NULL;

    /* One that was there before is put back with all other parameters. */
    if (side->qmp == NULL || side->closed ||
        json_object_object_get_ex(side->parameters, mapping_name, NULL)) {
        return;
    }
    if (!set_mapping(side, none, &error)) {
        qmig_job_message(job, "%s", error->message);
        return;
    }
    qmig_job_message(job,
                     "%s: %s is an empty list now: QEMU cannot unset it, and takes no "
                     "bitmap along before another one is set",
                     side->label, mapping_name);
}

void
qmig_storage_unmap_bitmaps(QmigJob *job)
{
    if (!job->storage->mapped) {
        return;
    }
    job->storage->mapped = false;
    if (job->owner == QMIG_OWNER_DESTINATION) {
        unmap(job, &job->destination);
        if (!job->options->keep_source) {
            return;
        }
    }
    unmap(job, &job->source);
}
