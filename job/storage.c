/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The part that copies disks: setting up, copying, and the moment both images are equal. */
#include "job/storage.h"

#include "job/part.h"
#include "job/steps.h"
#include "job/tls.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

enum {
    /* libvirt's range for such servers, which firewalls know. */
    FIRST_PORT = 49152,
    N_PORTS = 64,
    /* The guest stands still: what is left is what it wrote in the last moment. */
    FINISH_TIMEOUT_MS = 30000,
    POLL_MS = 5,
};

static QmigStorageDisk *
nth(const QmigStorage *s, guint i)
{
    return s->disks->pdata[i];
}

static bool
copies(const QmigJob *job)
{
    return job->storage != NULL && job->storage->disks->len > 0;
}

bool
qmig_storage_is_asked(const QmigJob *job)
{
    return job->options->copy_storage_all || job->options->copy_storage_inc;
}

/* For recovery, before it is made: @command on the one whose @key is @name removes it. */
static bool
will_undo(QmigJob *job, const QmigSide *side, const char *command, const char *key,
          const char *name, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, key, json_object_new_string(name));
    if (g_str_equal(command, "block-export-del")) {
        json_object_object_add(arguments, "mode", json_object_new_string("hard"));
    } else if (g_str_equal(command, "block-job-cancel")) {
        json_object_object_add(arguments, "force", json_object_new_boolean(true));
    }
    return qmig_steps_will_undo(job, side, command, arguments, error);
}

/* ---- prepare ---------------------------------------------------------------------------- */

static bool
serve_at(QmigJob *job, QmigAddress *address, GError **error)
{
    QmigNbdServer server = {
        .address = address,
        .tls_creds = qmig_tls_creds_id(job, &job->destination),
        .tls_authz = qmig_json_string(job->destination_params, "tls-authz"),
        .max_connections = job->storage->disks->len,
    };

    if (server.tls_authz != NULL && server.tls_authz[0] == '\0') {
        server.tls_authz = NULL;
    }
    if (!qmig_qmp_nbd_server_start(job->destination.qmp, &server, error)) {
        return false;
    }
    job->storage->serving = true;
    return true;
}

/* QEMU does not tell the port the kernel chose: ports are tried. */
static bool
serve_at_some_port(QmigJob *job, QmigAddress *address, GError **error)
{
    for (unsigned i = 0; i < N_PORTS; i++) {
        g_autoptr(GError) local = NULL;

        address->port = (uint16_t)(FIRST_PORT + i);
        if (serve_at(job, address, &local)) {
            return true;
        }
        if (i + 1 == N_PORTS || !g_error_matches(local, QMIG_ERROR, QMIG_ERROR_QMP)) {
            g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                       "ports %u to %u: ", (unsigned)FIRST_PORT,
                                       (unsigned)address->port);
            return false;
        }
    }
    return false;
}

/* The source connects to the tunnel's near end. */
static bool
lead_through(QmigJob *job, GError **error)
{
    QmigStorage *s = job->storage;
    QmigAddress *here = NULL;

    if (job->rehearsal != NULL) {
        return true;
    }
    if (!qmig_via_forward_disks(job, s->address, &here, error)) {
        qmig_address_free(here);
        return false;
    }
    qmig_address_free(s->address);
    s->address = here;
    return true;
}

static bool
serve(QmigJob *job, GError **error)
{
    QmigStorage *s = job->storage;
    g_autoptr(QmigAddress) listen = NULL;

    if (!qmig_endpoints_choose_disks(&job->endpoints, job->options, &listen, &s->address,
                                     error) ||
        !qmig_steps_will_undo(job, &job->destination, "nbd-server-stop", NULL, error)) {
        return false;
    }
    if (listen->kind == QMIG_ADDRESS_TCP && listen->port == 0) {
        if (!serve_at_some_port(job, listen, error)) {
            return false;
        }
        s->address->port = listen->port;
    } else if (!serve_at(job, listen, error)) {
        return false;
    }
    for (guint i = 0; i < s->disks->len; i++) {
        QmigStorageDisk *disk = nth(s, i);
        disk->exported = true;
        if (!will_undo(job, &job->destination, "block-export-del", "id", disk->id,
                       error) ||
            !qmig_qmp_export_add(job->destination.qmp, disk->id, disk->there->node,
                                 error)) {
            return false;
        }
    }
    return job->via != NULL ? lead_through(job, error)
                            : qmig_endpoints_admit_source(&job->endpoints, listen, error);
}

/* A client of NBD negotiates when it comes and flushes before it goes, which hangs QEMU as long as the
 * tunnel is dark: so both are done in steps that look first what is left to be done. */

/* Was it opened, only nobody heard that? */
static bool
is_open(QmigJob *job, const QmigStorageDisk *disk, bool *open, GError **error)
{
    g_autoptr(GPtrArray) nodes = qmig_qmp_query_nodes(job->source.qmp, error);

    *open = nodes != NULL &&
            g_ptr_array_find_with_equal_func(nodes, disk->id, g_str_equal, NULL);
    return nodes != NULL;
}

static bool
connect_disk(QmigJob *job, QmigStorageDisk *disk, GError **error)
{
    QmigStorage *s = job->storage;
    QmigNbdTarget target = {
        .node = disk->id,
        .export = disk->id,
        .address = s->address,
        .tls_creds = qmig_tls_creds_id(job, &job->source),
        .tls_hostname = qmig_tls_host(job),
    };
    bool open = false;

    if (disk->connected && !is_open(job, disk, &open, error)) {
        return false;
    }
    if (open) {
        return true;
    }
    if (!will_undo(job, &job->source, "blockdev-del", "node-name", disk->id, error)) {
        return false;
    }
    disk->connected = true;
    if (!qmig_qmp_nbd_open(job->source.qmp, &target, error)) {
        g_autofree char *where = qmig_address_to_string(s->address);
        g_prefix_error(
            error, "disk %s: the destination's disk server at %s: ", disk->name, where);
        return false;
    }
    return true;
}

static bool
connect_disks(QmigJob *job, GError **error)
{
    for (guint i = 0; i < job->storage->disks->len; i++) {
        if (!connect_disk(job, nth(job->storage, i), error)) {
            return false;
        }
    }
    return true;
}

static bool
storage_prepare(QmigJob *job, GError **error)
{
    if (job->storage == NULL) {
        return true;
    }
    if (!qmig_storage_map_bitmaps(job, error)) {
        return false;
    }
    if (!qmig_storage_is_asked(job)) {
        return true;
    }
    return qmig_storage_clear_leftovers(job, &job->source, error) &&
           qmig_storage_clear_leftovers(job, &job->destination, error) &&
           (!copies(job) ||
            (serve(job, error) && qmig_via_despite_darkness(job, connect_disks, error)));
}

/* ---- copying ---------------------------------------------------------------------------- */

static uint64_t
speed_of_each(const QmigStorage *s, uint64_t bytes_per_s)
{
    return bytes_per_s > 0 ? MAX(bytes_per_s / s->disks->len, 1) : 0;
}

static void
tell_begin(QmigJob *job)
{
    g_autoptr(GString) names = g_string_new(NULL);
    uint64_t bytes = 0;

    for (guint i = 0; i < job->storage->disks->len; i++) {
        const QmigStorageDisk *disk = nth(job->storage, i);
        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", disk->name);
        bytes += disk->here->actual_size > 0 ? disk->here->actual_size
                                             : disk->here->virtual_size;
    }
    g_autofree char *size = qmig_format_size(bytes);
    qmig_job_message(job, "copying %s: %s allocated", names->str, size);
}

static bool
begin(QmigJob *job, GError **error)
{
    QmigStorage *s = job->storage;
    uint64_t limit = (uint64_t)MAX(qmig_json_int(job->source_params, "max-bandwidth", 0),
                                   0);

    s->begin_us = s->moved_us = qmig_now_us();
    s->synchronous = job->options->copy_storage_synchronous;
    qmig_progress_init(&job->model, s->begin_us);
    tell_begin(job);
    for (guint i = 0; i < s->disks->len; i++) {
        QmigStorageDisk *disk = nth(s, i);
        QmigMirror mirror = {
            .id = disk->id,
            .node = disk->here->node,
            .target = disk->id,
            .top_only = job->options->copy_storage_inc,
            .synchronous = s->synchronous,
            .bytes_per_s = speed_of_each(s, limit),
        };
        /* Recovery takes them from the last. */
        if (!will_undo(job, &job->source, "job-dismiss", "id", disk->id, error) ||
            !will_undo(job, &job->source, "block-job-cancel", "device", disk->id,
                       error)) {
            return false;
        }
        disk->mirrored = true;
        if (!qmig_qmp_mirror(job->source.qmp, &mirror, error)) {
            g_prefix_error(error, "disk %s: ", disk->name);
            return false;
        }
    }
    return true;
}

/* Bytes that do not come to move again, or a mirror that has sent all and does not come to be
 * ready: the link, or the destination, stands still. */
static bool
check_moves(QmigJob *job, bool has_all, GError **error)
{
    QmigStorage *s = job->storage;
    uint64_t done = 0, total = 0;
    int64_t patience_us = (int64_t)qmig_job_patience_ms(job) * 3000;

    for (guint i = 0; i < s->disks->len; i++) {
        done += nth(s, i)->done;
        total += nth(s, i)->total;
    }
    qmig_progress_storage(&job->model, done, total, job->source.memory, qmig_now_us());
    if (done != s->moved || (has_all && done >= total) || qmig_via_is_dark(job)) {
        s->moved = done;
        s->moved_us = qmig_now_us();
    }
    return qmig_now_us() - s->moved_us < patience_us ||
           qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                          "destination: its disk server has taken nothing for %u s, with "
                          "%" G_GUINT64_FORMAT " bytes to go",
                          (unsigned)(patience_us / G_USEC_PER_SEC), total - done);
}

/* What became of a mirror that is not at work any more. */
static bool
tell_broken(const QmigStorageDisk *disk, const QmigBlockJob *mirror, GError **error)
{
    return qmig_set_error(error, QMIG_ERROR_STATE,
                          "source: disk %s: copying it has ended at %" G_GUINT64_FORMAT
                          " of %" G_GUINT64_FORMAT " bytes: %s",
                          disk->name, disk->done, disk->total,
                          mirror == NULL          ? "somebody has removed its job"
                          : mirror->error != NULL ? mirror->error
                                                  : "somebody has cancelled its job");
}

/* QEMU has paused it upon an I/O error. It must not end by itself: see storage-end.c. */
static bool
check_goes_on(QmigJob *job, const QmigStorageDisk *disk, const QmigBlockJob *mirror,
              GError **error)
{
    bool failed = false;

    if (strcmp(mirror->status, "paused") != 0 && strcmp(mirror->status, "standby") != 0) {
        return true;
    }
    if (!qmig_qmp_mirror_has_failed(job->source.qmp, disk->id, &failed, error)) {
        return false;
    }
    return !failed ||
           qmig_set_error(
               error, QMIG_ERROR_STATE,
               "source: disk %s: copying it met an I/O error at %" G_GUINT64_FORMAT
               " of %" G_GUINT64_FORMAT " bytes: of the disk, of the link, or of "
               "the destination's image",
               disk->name, disk->done, disk->total);
}

/* @n_ready, @n_ended: (out) how many mirrors are so far. One that ended without being asked to
 * has failed. */
static bool
look(QmigJob *job, bool may_end, guint *n_ready, guint *n_ended, GError **error)
{
    QmigStorage *s = job->storage;
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(qmig_job_patience_ms(job)) };
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) jobs = qmig_qmp_query_jobs(job->source.qmp, &call, &local);

    *n_ready = *n_ended = 0;
    if (jobs == NULL && qmig_via_forgives(job, local)) {
        return true;
    }
    if (jobs == NULL) {
        job->source_hangs = g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    for (guint i = 0; i < s->disks->len; i++) {
        QmigStorageDisk *disk = nth(s, i);
        const QmigBlockJob *mirror = qmig_block_job_find(jobs, disk->id);

        if (mirror == NULL || mirror->error != NULL ||
            (!may_end && strcmp(mirror->status, "concluded") == 0)) {
            return tell_broken(disk, mirror, error);
        }
        disk->done = mirror->current;
        disk->total = mirror->total;
        if (!check_goes_on(job, disk, mirror, error)) {
            return false;
        }
        *n_ready += strcmp(mirror->status, "ready") == 0;
        *n_ended += strcmp(mirror->status, "concluded") == 0;
    }
    return check_moves(job, *n_ready + *n_ended == s->disks->len, error);
}

/* From here on every write of the guest is on both sides before the guest hears of it: what is
 * left to do while it stands still does not grow with what it writes meanwhile. */
static bool
make_synchronous(QmigJob *job, GError **error)
{
    QmigStorage *s = job->storage;

    if (s->synchronous ||
        !qmig_schema_has_command(job->source.schema, "block-job-change")) {
        return true;
    }
    s->synchronous = true;
    for (guint i = 0; i < s->disks->len; i++) {
        if (!qmig_qmp_mirror_make_synchronous(job->source.qmp, nth(s, i)->id, error)) {
            return false;
        }
    }
    qmig_job_decide(job, "source: mirrors write-blocking",
                    "the copies are complete: from here on both images stay equal while "
                    "memory is copied");
    return true;
}

static void
tell_progress(QmigJob *job)
{
    job->model.now.phase = job->phase;
    job->model.now.status = "storage";
    if (job->watcher->progress != NULL) {
        job->watcher->progress(job->data, &job->model.now);
    }
}

static QmigStep
storage_copy(QmigJob *job, GError **error)
{
    guint n_ready, n_ended;

    if (!copies(job) || job->storage->ready) {
        return QMIG_STEP_NEXT;
    }
    if (job->storage->begin_us == 0 && !begin(job, error)) {
        return QMIG_STEP_FAILED;
    }
    if (!look(job, false, &n_ready, &n_ended, error)) {
        return QMIG_STEP_FAILED;
    }
    tell_progress(job);
    if (n_ready < job->storage->disks->len) {
        return QMIG_STEP_AGAIN;
    }
    job->storage->ready = true;
    job->storage->ready_us = qmig_now_us();
    return make_synchronous(job, error) ? QMIG_STEP_NEXT : QMIG_STEP_FAILED;
}

/* The mirrors go on while memory is copied. */
static bool
storage_watch(QmigJob *job, GError **error)
{
    guint n_ready, n_ended;

    return !copies(job) || !job->storage->ready || job->storage->finished ||
           look(job, false, &n_ready, &n_ended, error);
}

/* ---- the end ---------------------------------------------------------------------------- */

static bool
await_end(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(FINISH_TIMEOUT_MS);
    int64_t dark_us = qmig_via_dark_us(job);
    guint n_ready, n_ended = 0;

    for (;;) {
        if (!look(job, true, &n_ready, &n_ended, error) ||
            !qmig_side_dispatch(&job->destination, error)) {
            return false;
        }
        if (n_ended == job->storage->disks->len) {
            return true;
        }
        if (qmig_cancel_is_raised(job->cancel)) {
            job->cancelled = true;
            return qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
        }
        qmig_via_look(job);
        if (qmig_now_us() - (qmig_via_dark_us(job) - dark_us) >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "source: its disks are not equal to the destination's "
                                  "within %d s after the guest was stopped",
                                  FINISH_TIMEOUT_MS / 1000);
        }
        g_usleep(POLL_MS * 1000);
    }
}

/* The guest waits for this: what is there is known, and not asked for, the first time. */
static bool
delete_nodes(QmigJob *job, GError **error)
{
    for (guint i = 0; i < job->storage->disks->len; i++) {
        QmigStorageDisk *disk = nth(job->storage, i);

        if (disk->deleting) {
            return qmig_storage_disconnect(job, error);
        }
        if (disk->connected) {
            disk->deleting = true;
            if (!qmig_qmp_blockdev_del(job->source.qmp, disk->id, error)) {
                return false;
            }
            disk->connected = disk->deleting = false;
        }
    }
    return true;
}

/* The guest stands still: the mirrors end with both images equal. Then nothing of them may be
 * left: the destination's guest could not have a disk that is exported. */
static bool
storage_pre_switchover(QmigJob *job, GError **error)
{
    QmigStorage *s = job->storage;

    if (!copies(job)) {
        return true;
    }
    for (guint i = 0; i < s->disks->len; i++) {
        if (!qmig_qmp_job_cancel(job->source.qmp, nth(s, i)->id, false, error)) {
            return false;
        }
    }
    if (!await_end(job, error)) {
        return false;
    }
    for (guint i = 0; i < s->disks->len; i++) {
        QmigStorageDisk *disk = nth(s, i);
        if (!qmig_qmp_job_dismiss(job->source.qmp, disk->id, error)) {
            return false;
        }
        disk->mirrored = false;
    }
    if (!qmig_via_despite_darkness(job, delete_nodes, error) ||
        !qmig_via_despite_darkness(job, qmig_storage_end_serving, error)) {
        return false;
    }
    s->finished = true;
    return true;
}

static void
storage_done(QmigJob *job)
{
    if (job->storage != NULL) {
        qmig_storage_unmap_bitmaps(job);
    }
}

static void
storage_free(QmigJob *job)
{
    g_clear_pointer(&job->storage, qmig_storage_free);
}

bool
qmig_storage_set_speed(QmigJob *job, uint64_t bytes_per_s, GError **error)
{
    QmigStorage *s = job->storage;

    for (guint i = 0; s != NULL && i < s->disks->len; i++) {
        if (nth(s, i)->mirrored &&
            !qmig_qmp_job_set_speed(job->source.qmp, nth(s, i)->id,
                                    speed_of_each(s, bytes_per_s), error)) {
            return false;
        }
    }
    return true;
}

static JsonObject *
report_disks(const QmigStorage *s)
{
    JsonObject *list = json_object_new_array();

    for (guint i = 0; s != NULL && i < s->disks->len; i++) {
        const QmigStorageDisk *disk = nth(s, i);
        JsonObject *row = json_object_new_object();
        json_object_object_add(row, "name", json_object_new_string(disk->name));
        json_object_object_add(row, "size",
                               json_object_new_int64((int64_t)disk->here->virtual_size));
        json_object_object_add(row, "copied", json_object_new_int64((int64_t)disk->done));
        json_object_array_add(list, row);
    }
    return list;
}

JsonObject *
qmig_storage_report(const QmigJob *job)
{
    const QmigStorage *s = job->storage;
    JsonObject *report = json_object_new_object();
    const char *mode = job->options->copy_storage_inc ? "inc" : "all";
    bool ready = s != NULL && s->ready;

    json_object_object_add(report, "mode",
                           copies(job) ? json_object_new_string(mode) : NULL);
    json_object_object_add(
        report, "copy_ms",
        ready ? json_object_new_int64((s->ready_us - s->begin_us) / 1000) : NULL);
    json_object_object_add(report, "equal",
                           json_object_new_boolean(s != NULL && s->finished));
    json_object_object_add(report, "disks", report_disks(s));
    return report;
}

const QmigPart qmig_storage_part = {
    .name = "storage",
    .check = qmig_storage_check,
    .prepare = storage_prepare,
    .copy = storage_copy,
    .watch = storage_watch,
    .pre_switchover = storage_pre_switchover,
    .done = storage_done,
    .undo = qmig_storage_undo,
    .free = storage_free,
};
