/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both sides say while memory is copied, taken in and handed to the watcher. */
#include "job/steps.h"
#include "util/error.h"

#include <string.h>

/* Iterations kept of a migration that would not end. */
enum { MAX_ITERATIONS = 4096 };

static void
tell_state(QmigJob *job, const char *before)
{
    if (job->watcher->state != NULL && g_strcmp0(before, job->info.status_text) != 0) {
        job->watcher->state(job->data, job->info.status_text);
    }
}

/* By QEMU's count: it tells sums, so iteration @number is what came since the last one. */
static void
keep_iteration(QmigJob *job, uint64_t number)
{
    const QmigProgress *p = &job->model.now, *last = &job->model.last;
    JsonObject *o;

    if (json_object_array_length(job->iterations) >= MAX_ITERATIONS) {
        return;
    }
    o = json_object_new_object();
    json_object_object_add(o, "number", json_object_new_uint64(number));
    json_object_object_add(o, "bytes",
                           json_object_new_uint64(p->transferred - last->transferred));
    json_object_object_add(o, "zero",
                           json_object_new_uint64(p->pages_zero - last->pages_zero));
    json_object_object_add(o, "normal",
                           json_object_new_uint64(p->pages_normal - last->pages_normal));
    json_object_object_add(o, "start_ms", json_object_new_uint64(last->elapsed_ms));
    json_object_object_add(o, "duration_ms",
                           json_object_new_uint64(p->elapsed_ms - last->elapsed_ms));
    json_object_array_add(job->iterations, o);
    job->model.last = *p;
}

static void
tell_progress(QmigJob *job)
{
    bool new_iteration = qmig_progress_update(&job->model, &job->info,
                                              qmig_job_stats(job), qmig_now_us());
    const QmigProgress *now = &job->model.now;

    job->model.now.phase = job->phase;
    job->model.now.link_down_ms = qmig_via_down_ms(job);
    if (new_iteration) {
        keep_iteration(job, now->iteration - 1);
        if (job->watcher->iteration != NULL) {
            job->watcher->iteration(job->data, now);
        }
    }
    if (job->watcher->progress != NULL) {
        job->watcher->progress(job->data, now);
    }
}

/* A query of the source failed. That it is gone is told alike, whichever call noticed. */
static bool
tell_failed(QmigJob *job, GError *local, GError **error)
{
    job->source_hangs = g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        g_error_free(local);
        return qmig_set_error(
            error, QMIG_ERROR_CLOSED,
            "source: QEMU closed its QMP connection: it has quit or died");
    }
    g_propagate_error(error, local);
    return false;
}

bool
qmig_job_observe(QmigJob *job, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(qmig_job_patience_ms(job)) };
    GError *local = NULL;
    QmigMigrationInfo info;

    if (job->mute_in_the_dark && qmig_via_is_dark(job)) {
        /* What came while it was waited for in vain: nothing new comes that would tell of it. */
        (void)!qmig_side_dispatch(&job->source, NULL);
        tell_progress(job);
        return true;
    }
    job->mute_in_the_dark = false;

    /* Events that came before the answer are taken in before it is judged. A source may be
     * gone by the time its "completed" is read: that word stands. */
    if (!qmig_qmp_query_migrate(job->source.qmp, &info, &call, &local)) {
        /* It may hold its lock while it waits for a socket that nobody reads. */
        job->mute_in_the_dark = qmig_via_forgives(job, local);
        if (job->mute_in_the_dark) {
            g_error_free(local);
            return true;
        }
        return tell_failed(job, local, error);
    }
    if (!qmig_side_dispatch(&job->source, &local)) {
        if (info.status != QMIG_STATUS_COMPLETED) {
            qmig_migration_info_clear(&info);
            return tell_failed(job, local, error);
        }
        g_clear_error(&local);
    }
    g_autofree char *before = g_steal_pointer(&job->info.status_text);
    qmig_migration_info_clear(&job->info);
    job->info = info;
    qmig_postcopy_watch_link(job);
    tell_state(job, before);
    /* Every millisecond from here until the destination runs is the guest's. */
    if (info.status != QMIG_STATUS_COMPLETED) {
        tell_progress(job);
    }
    return true;
}

bool
qmig_job_guest_has_stopped(QmigJob *job, bool *stopped, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(qmig_job_patience_ms(job)) };
    int64_t seen_us = MAX(job->source.stopped_us, job->source.resumed_us);
    g_autofree char *state = NULL;
    GError *local = NULL;
    bool running;

    *stopped = false;
    if (seen_us == job->guest_seen_us) {
        return true;
    }
    if (job->mute_in_the_dark) {
        return true;
    }
    if (!qmig_qmp_query_status(job->source.qmp, &running, &state, &call, &local)) {
        job->mute_in_the_dark = qmig_via_forgives(job, local);
        if (job->mute_in_the_dark) {
            g_error_free(local);
            return true;
        }
        return tell_failed(job, local, error);
    }
    job->guest_seen_us = seen_us;
    if (job->source_held && strcmp(state, "paused") == 0) {
        return true;
    }
    if (!running &&
        (strcmp(state, "finish-migrate") == 0 || strcmp(state, "postmigrate") == 0)) {
        *stopped = true;
        return true;
    }
    if (running != job->guest_runs) {
        qmig_job_message(job,
                         "source: somebody has %s the guest (\"%s\"): it will arrive so",
                         running ? "continued" : "stopped", state);
        job->guest_runs = running;
        JsonObject *o = json_object_new_object();
        json_object_object_add(o, "runs", json_object_new_boolean(running));
        qmig_steps_note(job, "guest", o);
    }
    return true;
}

/* QEMU says "completed" a moment before it has counted the downtime: ask once more. */
static void
read_last_figures(QmigJob *job)
{
    QmigMigrationInfo info;

    if (job->source.closed || job->source.qmp == NULL ||
        !qmig_qmp_query_migrate(job->source.qmp, &info, NULL, NULL)) {
        return;
    }
    if (info.status == QMIG_STATUS_COMPLETED) {
        qmig_migration_info_clear(&job->info);
        job->info = info;
    } else {
        qmig_migration_info_clear(&info);
    }
}

void
qmig_job_close_figures(QmigJob *job)
{
    read_last_figures(job);
    tell_progress(job);
    keep_iteration(job, job->model.now.iteration);
}
