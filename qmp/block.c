/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks, exports, mirrors: each function is one QMP command and the reading of its reply. */
#include "qmp/block.h"

#include "util/error.h"

#include <string.h>

/* Links of a backing chain that are read; a chain as long as that is a mistake. */
enum { MAX_BACKING = 256 };

static void
add_string(JsonObject *object, const char *key, const char *text)
{
    if (text != NULL) {
        json_object_object_add(object, key, json_object_new_string(text));
    }
}

static void
add_bool(JsonObject *object, const char *key, bool value)
{
    json_object_object_add(object, key, json_object_new_boolean(value));
}

static void
add_number(JsonObject *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_int64((int64_t)value));
}

static bool
run(QmigQmp *qmp, const char *command, JsonObject *arguments, GError **error)
{
    return qmig_qmp_execute(qmp, command, arguments, NULL, NULL, error);
}

/* One command on one named thing. */
static bool
run_on(QmigQmp *qmp, const char *command, const char *key, const char *name,
       GError **error)
{
    JsonObject *arguments = json_object_new_object();

    add_string(arguments, key, name);
    return run(qmp, command, arguments, error);
}

/* A command that answers with a list. (transfer full) */
static JsonObject *
query_list(QmigQmp *qmp, const char *command, const QmigQmpCall *call, GError **error)
{
    JsonObject *reply = NULL;

    if (!qmig_qmp_execute(qmp, command, NULL, &reply, call, error)) {
        return NULL;
    }
    if (!json_object_is_type(reply, json_type_array)) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%s: %s: unexpected reply %.200s",
                       qmig_qmp_label(qmp), command, json_object_to_json_string(reply));
        json_object_put(reply);
        return NULL;
    }
    return reply;
}

/* The texts under @key of a list's members. */
static GPtrArray *
query_names(QmigQmp *qmp, const char *command, const char *key, GError **error)
{
    g_autoptr(JsonObject) reply = query_list(qmp, command, NULL, error);
    GPtrArray *names;

    if (reply == NULL) {
        return NULL;
    }
    names = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; i < json_object_array_length(reply); i++) {
        const char *name = qmig_json_string(json_object_array_get_idx(reply, i), key);
        if (name != NULL) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    return names;
}

/* ---- disks ------------------------------------------------------------------------------ */

static char *
text_of(JsonObject *object, const char *key)
{
    const char *text = qmig_json_string(object, key);

    return g_strdup(text != NULL ? text : "");
}

static uint64_t
size_of(JsonObject *object, const char *key)
{
    return (uint64_t)MAX(qmig_json_int(object, key, 0), 0);
}

static void
free_image(void *data)
{
    QmigBlockImage *image = data;

    g_free(image->filename);
    g_free(image->format);
    g_free(image);
}

void
qmig_block_disk_free(QmigBlockDisk *disk)
{
    if (disk == NULL) {
        return;
    }
    g_free(disk->drive);
    g_free(disk->qdev);
    g_free(disk->node);
    g_free(disk->driver);
    g_free(disk->filename);
    g_ptr_array_unref(disk->backing);
    g_ptr_array_unref(disk->bitmaps);
    g_free(disk);
}

static void
free_disk(void *disk)
{
    qmig_block_disk_free(disk);
}

/* "/machine/peripheral/ID/virtio-backend" -> "ID"; NULL when the device has no id. */
static char *
device_id(const char *qdev)
{
    static const char named[] = "/machine/peripheral/";

    if (qdev[0] != '/') {
        return qdev[0] != '\0' ? g_strdup(qdev) : NULL;
    }
    if (!g_str_has_prefix(qdev, named)) {
        return NULL;
    }
    const char *id = qdev + strlen(named);
    return g_strndup(id, strcspn(id, "/"));
}

char *
qmig_block_disk_name(const QmigBlockDisk *disk)
{
    g_autofree char *id = device_id(disk->qdev);

    if (disk->drive[0] != '\0') {
        return g_strdup(disk->drive);
    }
    return id != NULL ? g_steal_pointer(&id) : g_strdup(disk->node);
}

bool
qmig_block_disk_is_named(const QmigBlockDisk *disk, const char *name)
{
    g_autofree char *id = device_id(disk->qdev);

    return name[0] != '\0' &&
           (strcmp(name, disk->drive) == 0 || strcmp(name, disk->qdev) == 0 ||
            strcmp(name, disk->node) == 0 || g_strcmp0(name, id) == 0);
}

static void
read_chain(QmigBlockDisk *disk, JsonObject *image)
{
    JsonObject *link = qmig_json_get(image, "backing-image", json_type_object);

    while (link != NULL && disk->backing->len < MAX_BACKING) {
        QmigBlockImage *below = g_new0(QmigBlockImage, 1);
        below->filename = text_of(link, "filename");
        below->format = text_of(link, "format");
        below->virtual_size = size_of(link, "virtual-size");
        g_ptr_array_add(disk->backing, below);
        link = qmig_json_get(link, "backing-image", json_type_object);
    }
}

/* A mirror keeps a bitmap of its own, which has no name. */
static void
read_bitmaps(QmigBlockDisk *disk, JsonObject *medium)
{
    JsonObject *list = qmig_json_get(medium, "dirty-bitmaps", json_type_array);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        const char *name = qmig_json_string(json_object_array_get_idx(list, i), "name");
        if (name != NULL && name[0] != '\0') {
            g_ptr_array_add(disk->bitmaps, g_strdup(name));
        }
    }
}

/* NULL: the device is empty, or no device of the guest's. */
static QmigBlockDisk *
read_disk(JsonObject *entry)
{
    JsonObject *medium = qmig_json_get(entry, "inserted", json_type_object);
    JsonObject *image = qmig_json_get(medium, "image", json_type_object);
    JsonObject *cache = qmig_json_get(medium, "cache", json_type_object);
    const char *status = qmig_json_string(entry, "io-status");

    if (medium == NULL || qmig_json_string(entry, "qdev") == NULL) {
        return NULL;
    }
    QmigBlockDisk *disk = g_new0(QmigBlockDisk, 1);
    disk->drive = text_of(entry, "device");
    disk->qdev = text_of(entry, "qdev");
    disk->node = text_of(medium, "node-name");
    disk->driver = text_of(medium, "drv");
    disk->filename = text_of(medium, "file");
    disk->virtual_size = size_of(image, "virtual-size");
    disk->actual_size = size_of(image, "actual-size");
    disk->read_only = qmig_json_bool(medium, "ro", false);
    disk->is_direct = qmig_json_bool(cache, "direct", false);
    disk->is_inactive = !qmig_json_bool(medium, "active", true);
    disk->has_io_error = status != NULL && strcmp(status, "ok") != 0;
    disk->backing = g_ptr_array_new_with_free_func(free_image);
    disk->bitmaps = g_ptr_array_new_with_free_func(g_free);
    read_chain(disk, image);
    read_bitmaps(disk, medium);
    return disk;
}

GPtrArray *
qmig_qmp_query_disks(QmigQmp *qmp, GError **error)
{
    g_autoptr(JsonObject) reply = query_list(qmp, "query-block", NULL, error);
    GPtrArray *disks;

    if (reply == NULL) {
        return NULL;
    }
    disks = g_ptr_array_new_with_free_func(free_disk);
    for (size_t i = 0; i < json_object_array_length(reply); i++) {
        QmigBlockDisk *disk = read_disk(json_object_array_get_idx(reply, i));
        if (disk != NULL) {
            g_ptr_array_add(disks, disk);
        }
    }
    return disks;
}

/* ---- exports ---------------------------------------------------------------------------- */

static JsonObject *
plain_address(const QmigAddress *address)
{
    JsonObject *object = json_object_new_object();

    if (address->kind == QMIG_ADDRESS_UNIX) {
        add_string(object, "path", address->path);
    } else {
        g_autofree char *port = g_strdup_printf("%u", (unsigned)address->port);
        add_string(object, "host", address->host);
        add_string(object, "port", port);
    }
    return object;
}

static const char *
address_type(const QmigAddress *address)
{
    return address->kind == QMIG_ADDRESS_UNIX ? "unix" : "inet";
}

bool
qmig_qmp_nbd_server_start(QmigQmp *qmp, const QmigNbdServer *server, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    JsonObject *address = json_object_new_object();

    add_string(address, "type", address_type(server->address));
    json_object_object_add(address, "data", plain_address(server->address));
    json_object_object_add(arguments, "addr", address);
    add_string(arguments, "tls-creds", server->tls_creds);
    add_string(arguments, "tls-authz", server->tls_authz);
    add_number(arguments, "max-connections", server->max_connections);
    return run(qmp, "nbd-server-start", arguments, error);
}

bool
qmig_qmp_nbd_server_stop(QmigQmp *qmp, GError **error)
{
    return run(qmp, "nbd-server-stop", NULL, error);
}

bool
qmig_qmp_export_add(QmigQmp *qmp, const char *id, const char *node, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    add_string(arguments, "type", "nbd");
    add_string(arguments, "id", id);
    add_string(arguments, "name", id);
    add_string(arguments, "node-name", node);
    add_bool(arguments, "writable", true);
    return run(qmp, "block-export-add", arguments, error);
}

bool
qmig_qmp_export_del(QmigQmp *qmp, const char *id, bool hard, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    add_string(arguments, "id", id);
    add_string(arguments, "mode", hard ? "hard" : "safe");
    return run(qmp, "block-export-del", arguments, error);
}

GPtrArray *
qmig_qmp_query_exports(QmigQmp *qmp, GError **error)
{
    return query_names(qmp, "query-block-exports", "id", error);
}

/* ---- targets ---------------------------------------------------------------------------- */

bool
qmig_qmp_nbd_open(QmigQmp *qmp, const QmigNbdTarget *target, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    JsonObject *server = plain_address(target->address);

    add_string(server, "type", address_type(target->address));
    add_string(arguments, "driver", "nbd");
    add_string(arguments, "node-name", target->node);
    json_object_object_add(arguments, "server", server);
    add_string(arguments, "export", target->export);
    add_string(arguments, "tls-creds", target->tls_creds);
    add_string(arguments, "tls-hostname", target->tls_hostname);
    /* Zeroes may become holes: what is sparse stays sparse, if the other side can. */
    add_string(arguments, "discard", "unmap");
    return run(qmp, "blockdev-add", arguments, error);
}

bool
qmig_qmp_blockdev_del(QmigQmp *qmp, const char *node, GError **error)
{
    return run_on(qmp, "blockdev-del", "node-name", node, error);
}

GPtrArray *
qmig_qmp_query_nodes(QmigQmp *qmp, GError **error)
{
    return query_names(qmp, "query-named-block-nodes", "node-name", error);
}

/* ---- jobs ------------------------------------------------------------------------------- */

bool
qmig_qmp_mirror(QmigQmp *qmp, const QmigMirror *mirror, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    add_string(arguments, "job-id", mirror->id);
    add_string(arguments, "device", mirror->node);
    add_string(arguments, "target", mirror->target);
    add_string(arguments, "sync", mirror->top_only ? "top" : "full");
    add_string(arguments, "copy-mode",
               mirror->synchronous ? "write-blocking" : "background");
    add_bool(arguments, "auto-dismiss", false);
    add_string(arguments, "on-source-error", "stop");
    add_string(arguments, "on-target-error", "stop");
    if (mirror->bytes_per_s > 0) {
        add_number(arguments, "speed", mirror->bytes_per_s);
    }
    return run(qmp, "blockdev-mirror", arguments, error);
}

void
qmig_block_job_free(QmigBlockJob *job)
{
    if (job != NULL) {
        g_free(job->id);
        g_free(job->status);
        g_free(job->error);
        g_free(job);
    }
}

static void
free_job(void *job)
{
    qmig_block_job_free(job);
}

GPtrArray *
qmig_qmp_query_jobs(QmigQmp *qmp, const QmigQmpCall *call, GError **error)
{
    g_autoptr(JsonObject) reply = query_list(qmp, "query-jobs", call, error);
    GPtrArray *jobs;

    if (reply == NULL) {
        return NULL;
    }
    jobs = g_ptr_array_new_with_free_func(free_job);
    for (size_t i = 0; i < json_object_array_length(reply); i++) {
        JsonObject *entry = json_object_array_get_idx(reply, i);
        QmigBlockJob *job = g_new0(QmigBlockJob, 1);
        job->id = text_of(entry, "id");
        job->status = text_of(entry, "status");
        job->error = g_strdup(qmig_json_string(entry, "error"));
        job->current = size_of(entry, "current-progress");
        job->total = size_of(entry, "total-progress");
        g_ptr_array_add(jobs, job);
    }
    return jobs;
}

bool
qmig_qmp_mirror_has_failed(QmigQmp *qmp, const char *id, bool *failed, GError **error)
{
    g_autoptr(JsonObject) reply = query_list(qmp, "query-block-jobs", NULL, error);

    *failed = false;
    if (reply == NULL) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(reply); i++) {
        JsonObject *entry = json_object_array_get_idx(reply, i);
        const char *state = qmig_json_string(entry, "io-status");
        if (g_strcmp0(qmig_json_string(entry, "device"), id) == 0) {
            *failed = state != NULL && strcmp(state, "ok") != 0;
        }
    }
    return true;
}

const QmigBlockJob *
qmig_block_job_find(const GPtrArray *jobs, const char *id)
{
    for (guint i = 0; i < jobs->len; i++) {
        const QmigBlockJob *job = jobs->pdata[i];
        if (strcmp(job->id, id) == 0) {
            return job;
        }
    }
    return NULL;
}

bool
qmig_qmp_job_cancel(QmigQmp *qmp, const char *id, bool force, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    /* Not job-cancel: that one always gives up. */
    add_string(arguments, "device", id);
    add_bool(arguments, "force", force);
    return run(qmp, "block-job-cancel", arguments, error);
}

bool
qmig_qmp_job_dismiss(QmigQmp *qmp, const char *id, GError **error)
{
    return run_on(qmp, "job-dismiss", "id", id, error);
}

bool
qmig_qmp_job_set_speed(QmigQmp *qmp, const char *id, uint64_t bytes_per_s, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    add_string(arguments, "device", id);
    add_number(arguments, "speed", bytes_per_s);
    return run(qmp, "block-job-set-speed", arguments, error);
}

bool
qmig_qmp_mirror_make_synchronous(QmigQmp *qmp, const char *id, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    add_string(arguments, "id", id);
    add_string(arguments, "type", "mirror");
    add_string(arguments, "copy-mode", "write-blocking");
    return run(qmp, "block-job-change", arguments, error);
}

bool
qmig_qmp_yank_node(QmigQmp *qmp, const char *node, GError **error)
{
    JsonObject *instance = json_object_new_object();
    JsonObject *list = json_object_new_array();
    JsonObject *arguments = json_object_new_object();
    QmigQmpCall call = { .oob = qmig_qmp_has_oob(qmp) };

    add_string(instance, "type", "block-node");
    add_string(instance, "node-name", node);
    json_object_array_add(list, instance);
    json_object_object_add(arguments, "instances", list);
    return qmig_qmp_execute(qmp, "yank", arguments, NULL, &call, error);
}
