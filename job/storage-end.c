/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking down what copies disks. A mirror whose requests the destination does not answer ends
 * only when its connection does:
 *
 *     block-job-cancel force     the usual end
 *     yank of its node           a TCP connection wakes up and fails; QEMU does not notice the
 *                                end of a unix socket it waits to write to
 *     the destination's end      which the guest on the source does not need any more
 *
 * QEMU (7.2 to 11.1) frees what the guest's writes through a write-blocking mirror still use when
 * its job fails, or is cancelled by force, before they are done: heap corruption, and the guest
 * is lost. So an error only pauses these jobs, and the guest is held while they are cancelled.
 */
#include "job/part.h"
#include "job/storage.h"
#include "util/error.h"

#include <string.h>

enum {
    CANCEL_TIMEOUT_MS = 2000,
    /* With the destination gone QEMU has nothing to wait for. */
    LAST_TIMEOUT_MS = 10000,
    EXPORT_TIMEOUT_MS = 5000,
    ANSWER_TIMEOUT_MS = 1000,
    POLL_MS = 10,
};

static QmigStorageDisk *
nth(const QmigStorage *s, guint i)
{
    return s->disks->pdata[i];
}

/* ---- the source ------------------------------------------------------------------------- */

/* Dismiss those that have ended. @left: (out) how many have not. */
static bool
reap(QmigJob *job, guint *left, GError **error)
{
    QmigStorage *s = job->storage;
    g_autoptr(GPtrArray) jobs = qmig_qmp_query_jobs(job->source.qmp, NULL, error);

    *left = 0;
    if (jobs == NULL) {
        return false;
    }
    for (guint i = 0; i < s->disks->len; i++) {
        QmigStorageDisk *disk = nth(s, i);
        const QmigBlockJob *mirror = qmig_block_job_find(jobs, disk->id);
        if (!disk->mirrored) {
            continue;
        }
        if (mirror != NULL && strcmp(mirror->status, "concluded") != 0) {
            (*left)++;
            continue;
        }
        if (mirror != NULL && !qmig_qmp_job_dismiss(job->source.qmp, disk->id, error)) {
            return false;
        }
        disk->mirrored = false;
    }
    return true;
}

static bool
reap_all(QmigJob *job, uint32_t timeout_ms, guint *left, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(timeout_ms);

    for (;;) {
        if (!reap(job, left, error)) {
            return false;
        }
        if (*left == 0 || qmig_now_us() >= deadline) {
            return true;
        }
        g_usleep(POLL_MS * 1000);
    }
}

/* One that is not there, or ends at this moment, says no: reap() sees it. */
static void
cancel_mirrors(QmigJob *job)
{
    for (guint i = 0; i < job->storage->disks->len; i++) {
        const QmigStorageDisk *disk = nth(job->storage, i);
        if (disk->mirrored) {
            (void)!qmig_qmp_job_cancel(job->source.qmp, disk->id, true, NULL);
        }
    }
}

/* Also of those whose mirror has ended: the end of a node flushes, and waits for an answer. */
static void
yank_mirrors(QmigJob *job)
{
    for (guint i = 0; i < job->storage->disks->len; i++) {
        const QmigStorageDisk *disk = nth(job->storage, i);
        if (disk->connected) {
            (void)!qmig_qmp_yank_node(job->source.qmp, disk->id, NULL);
        }
    }
}

static bool
destination_answers(QmigJob *job)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(ANSWER_TIMEOUT_MS) };
    bool running;

    return job->destination.qmp != NULL &&
           qmig_qmp_query_status(job->destination.qmp, &running, NULL, &call, NULL);
}

/* Only a destination that was told to listen, and is of no use any more. */
static void
end_stuck_destination(QmigJob *job)
{
    if (job->incoming_sent && job->destination.qmp != NULL) {
        qmig_job_message(job, "destination: it does not let the source's disks go");
        (void)qmig_job_end_destination(job);
    }
}

/* Only a guest that runs: one that stands still shall not be continued afterwards.
 * @held: (out) it has to be released. */
static bool
hold_running(QmigJob *job, bool *held, GError **error)
{
    bool running;

    *held = false;
    if (!qmig_qmp_query_status(job->source.qmp, &running, NULL, NULL, error)) {
        return false;
    }
    *held = running && !job->source_held && qmig_job_hold_source(job, error);
    return !running || job->source_held;
}

static void
release(QmigJob *job, bool held)
{
    g_autoptr(GError) error = NULL;

    if (held && !qmig_job_release_source(job, &error)) {
        qmig_job_message(job, "%s", error->message);
    }
}

/* No write of the guest may be under way: those that wait for the destination fail there, which
 * the guest does not notice, and it is stopped, which waits for all. */
static bool
quiet_writes(QmigJob *job, bool *held, GError **error)
{
    g_autoptr(GError) local = NULL;

    yank_mirrors(job);
    if (!destination_answers(job)) {
        end_stuck_destination(job);
    }
    if (hold_running(job, held, &local)) {
        return true;
    }
    if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    end_stuck_destination(job);
    return hold_running(job, held, error);
}

/* Each means is given its time; a source that does not answer meanwhile may do so after the
 * next. */
static bool
cancel_until_gone(QmigJob *job, GError **error)
{
    static const struct {
        void (*act)(QmigJob *job);
        uint32_t timeout_ms;
    } means[] = {
        { cancel_mirrors, CANCEL_TIMEOUT_MS },
        { yank_mirrors, CANCEL_TIMEOUT_MS },
        { end_stuck_destination, LAST_TIMEOUT_MS },
    };
    g_autoptr(GError) wrong = NULL;
    guint left = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(means); i++) {
        g_clear_error(&wrong);
        means[i].act(job);
        if (reap_all(job, means[i].timeout_ms, &left, &wrong) && left == 0) {
            return true;
        }
        if (g_error_matches(wrong, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
            break;
        }
    }
    if (wrong != NULL) {
        g_propagate_error(error, g_steal_pointer(&wrong));
        return false;
    }
    return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                          "source: %u of its mirrors (\"%s…\") do not end", left,
                          QMIG_STORAGE_PREFIX);
}

static bool
end_mirrors(QmigJob *job, GError **error)
{
    bool held, ok;

    if (!job->storage->synchronous) {
        return cancel_until_gone(job, error);
    }
    if (!quiet_writes(job, &held, error)) {
        return false;
    }
    ok = cancel_until_gone(job, error);
    release(job, held);
    return ok;
}

static bool
has_name(const GPtrArray *names, const char *name)
{
    return g_ptr_array_find_with_equal_func((GPtrArray *)names, name, g_str_equal, NULL);
}

bool
qmig_storage_disconnect(QmigJob *job, GError **error)
{
    g_autoptr(GPtrArray) nodes = qmig_qmp_query_nodes(job->source.qmp, error);

    if (nodes == NULL) {
        return false;
    }
    for (guint i = 0; i < job->storage->disks->len; i++) {
        QmigStorageDisk *disk = nth(job->storage, i);
        if (disk->connected && has_name(nodes, disk->id) &&
            !qmig_qmp_blockdev_del(job->source.qmp, disk->id, error)) {
            return false;
        }
        disk->connected = false;
    }
    return true;
}

static bool
has_anything(const QmigStorage *s)
{
    for (guint i = 0; i < s->disks->len; i++) {
        if (nth(s, i)->mirrored || nth(s, i)->connected) {
            return true;
        }
    }
    return false;
}

/* ---- the destination -------------------------------------------------------------------- */

static bool
await_exports_gone(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(EXPORT_TIMEOUT_MS);

    for (;;) {
        g_autoptr(GPtrArray) ids = qmig_qmp_query_exports(job->destination.qmp, error);
        bool left = false;

        if (ids == NULL) {
            return false;
        }
        for (guint i = 0; i < job->storage->disks->len; i++) {
            left = left || has_name(ids, nth(job->storage, i)->id);
        }
        if (!left) {
            return true;
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "destination: its disks stay exported");
        }
        g_usleep(POLL_MS * 1000);
    }
}

bool
qmig_storage_end_serving(QmigJob *job, GError **error)
{
    QmigStorage *s = job->storage;
    g_autoptr(GPtrArray) ids = NULL;

    if (!s->serving) {
        return true;
    }
    ids = qmig_qmp_query_exports(job->destination.qmp, error);
    if (ids == NULL) {
        return false;
    }
    for (guint i = 0; i < s->disks->len; i++) {
        QmigStorageDisk *disk = nth(s, i);
        if (disk->exported && has_name(ids, disk->id) &&
            !qmig_qmp_export_del(job->destination.qmp, disk->id, true, error)) {
            return false;
        }
        disk->exported = false;
    }
    if (!await_exports_gone(job, error) ||
        !qmig_qmp_nbd_server_stop(job->destination.qmp, error)) {
        return false;
    }
    s->serving = false;
    return true;
}

/* ---- both ------------------------------------------------------------------------------- */

void
qmig_storage_undo(QmigJob *job)
{
    QmigStorage *s = job->storage;
    g_autoptr(GError) error = NULL;

    if (s == NULL || (!s->mapped && !s->serving && !has_anything(s))) {
        return;
    }
    if (job->owner != QMIG_OWNER_SOURCE) {
        if (has_anything(s)) {
            qmig_job_message(job,
                             "source: its jobs and nodes \"%s…\" are left, as nothing is "
                             "touched any more",
                             QMIG_STORAGE_PREFIX);
        }
        return;
    }
    if (!job->source.closed) {
        if (has_anything(s) &&
            (!end_mirrors(job, &error) || !qmig_storage_disconnect(job, &error))) {
            qmig_job_message(job, "%s; what copied its disks is left there",
                             error->message);
            g_clear_error(&error);
        }
        qmig_storage_unmap_bitmaps(job);
    }
    /* One that has listened is ended after this, with all it has. */
    if (!job->incoming_sent && !job->destination.closed &&
        !qmig_storage_end_serving(job, &error) &&
        !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        qmig_job_message(job, "%s", error->message);
    }
}

void
qmig_storage_release_source(QmigJob *job)
{
    if (job->storage == NULL || job->storage->finished || job->continue_sent ||
        !has_anything(job->storage)) {
        return;
    }
    /* Its last state has not been sent: the destination cannot have the guest. */
    qmig_job_message(job,
                     "source: no answer: the connections of its disks are shut (yank)");
    if (qmig_qmp_has_oob(job->source.qmp)) {
        yank_mirrors(job);
    }
    if (!destination_answers(job) && qmig_side_kill(&job->destination)) {
        qmig_job_message(job, "destination: no answer: its process was killed");
    }
}

/* ---- what a killed qmig has left -------------------------------------------------------- */

/* Dismiss those that have ended, break the connections of the others, and @cancel them; each may
 * say no to a job that changes at this moment. @left: (out) how many there were; @at_work: (out)
 * how many of them had not ended. */
static bool
act_on_jobs(QmigSide *side, bool cancel, guint *left, guint *at_work, GError **error)
{
    g_autoptr(GPtrArray) jobs = qmig_qmp_query_jobs(side->qmp, NULL, error);

    *left = *at_work = 0;
    for (guint i = 0; jobs != NULL && i < jobs->len; i++) {
        const QmigBlockJob *old = jobs->pdata[i];
        bool ended = strcmp(old->status, "concluded") == 0;
        if (!g_str_has_prefix(old->id, QMIG_STORAGE_PREFIX)) {
            continue;
        }
        (*left)++;
        *at_work += !ended;
        if (ended) {
            (void)!qmig_qmp_job_dismiss(side->qmp, old->id, NULL);
            continue;
        }
        if (cancel) {
            (void)!qmig_qmp_job_cancel(side->qmp, old->id, true, NULL);
        }
        (void)!qmig_qmp_yank_node(side->qmp, old->id, NULL);
    }
    return jobs != NULL;
}

static bool
cancel_jobs(QmigSide *side, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(EXPORT_TIMEOUT_MS);
    guint left, at_work;

    for (;;) {
        if (!act_on_jobs(side, true, &left, &at_work, error)) {
            return false;
        }
        if (left == 0) {
            return true;
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "%s: jobs of an earlier migration (\"%s…\") do not end",
                                  side->label, QMIG_STORAGE_PREFIX);
        }
        g_usleep(POLL_MS * 1000);
    }
}

static bool
clear_jobs(QmigJob *job, QmigSide *side, GError **error)
{
    guint left, at_work;
    bool held = false, ok;

    if (!act_on_jobs(side, false, &left, &at_work, error)) {
        return false;
    }
    if (left == 0) {
        return true;
    }
    if (at_work > 0 && side == &job->source && !hold_running(job, &held, error)) {
        return false;
    }
    ok = cancel_jobs(side, error);
    release(job, held);
    return ok;
}

typedef bool (*Remove)(QmigQmp *qmp, const char *name, GError **error);

static bool
remove_export(QmigQmp *qmp, const char *name, GError **error)
{
    return qmig_qmp_export_del(qmp, name, true, error);
}

/* @found: (out) set when there was one. */
static bool
clear_named(QmigSide *side, GPtrArray *names, Remove remove, bool *found, GError **error)
{
    for (guint i = 0; names != NULL && i < names->len; i++) {
        if (!g_str_has_prefix(names->pdata[i], QMIG_STORAGE_PREFIX)) {
            continue;
        }
        *found = true;
        if (!remove(side->qmp, names->pdata[i], error)) {
            return false;
        }
    }
    return names != NULL;
}

bool
qmig_storage_clear_leftovers(QmigJob *job, QmigSide *side, GError **error)
{
    g_autoptr(GPtrArray) nodes = NULL, exports = NULL;
    bool found = false, served = false;

    if (!clear_jobs(job, side, error)) {
        return false;
    }
    nodes = qmig_qmp_query_nodes(side->qmp, error);
    if (!clear_named(side, nodes, qmig_qmp_blockdev_del, &found, error)) {
        return false;
    }
    exports = qmig_qmp_query_exports(side->qmp, error);
    if (!clear_named(side, exports, remove_export, &served, error) ||
        (served && !qmig_qmp_nbd_server_stop(side->qmp, error))) {
        return false;
    }
    if (found || served) {
        qmig_job_message(job,
                         "%s: what an earlier migration of its disks left is removed",
                         side->label);
    }
    return true;
}
