/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Storage, perform and switchover: the phases in which things are copied. */
#include "job/part.h"
#include "job/steps.h"
#include "util/error.h"

#include <string.h>

enum {
    /* Its connection has ended with the destination. */
    PROXY_WORD_TIMEOUT_MS = 3000,
    /* A proxy that failed has closed the source's connections: QEMU notices at once. */
    PROXY_FAILED_GRACE_US = 5 * G_USEC_PER_SEC,
};

/* ---- storage ---------------------------------------------------------------------------- */

/* Both sides live, while the source does not migrate yet. */
static bool
check_both(QmigJob *job, GError **error)
{
    return qmig_side_dispatch(&job->source, error) &&
           qmig_side_dispatch(&job->destination, error);
}

QmigStep
qmig_job_storage_tick(QmigJob *job, GError **error)
{
    if (!check_both(job, error)) {
        return QMIG_STEP_FAILED;
    }
    QmigStep step = qmig_parts_copy(job, error);
    return step == QMIG_STEP_AGAIN && !qmig_parts_watch(job, error) ? QMIG_STEP_FAILED
                                                                    : step;
}

/* ---- perform, switchover --------------------------------------------------------------- */

bool
qmig_job_perform_enter(QmigJob *job, GError **error)
{
    g_autofree char *uri = qmig_job_uri(job, qmig_job_target(job));

    job->perform_us = qmig_now_us();
    job->guest_seen_us = MAX(job->source.stopped_us, job->source.resumed_us);
    qmig_progress_begin_memory(&job->model, job->perform_us);
    JsonObject *o = json_object_new_object();
    json_object_object_add(o, "uri", json_object_new_string(uri));
    if (!qmig_steps_write(job, "migrate", o, error)) {
        return false;
    }
    job->migrate_sent = true;
    return qmig_qmp_migrate(job->source.qmp, uri, error);
}

/* Why the migration failed: QEMU's word, the proxy's, and whether the destination lives. */
bool
qmig_job_tell_failure(QmigJob *job, GError **error)
{
    g_autoptr(GError) proxy = job->proxy != NULL ? qmig_proxy_error(job->proxy) : NULL;
    g_autoptr(GError) destination = NULL;
    g_autoptr(GString) text = g_string_new("source: the migration failed");

    if (job->info.error != NULL) {
        g_string_append_printf(text, ": %s", job->info.error);
    }
    if (proxy != NULL) {
        g_string_append_printf(text, "; proxy: %s", proxy->message);
    }
    /* A destination that could not load ends within milliseconds of telling so. */
    g_usleep(100000);
    if (!qmig_side_dispatch(&job->destination, &destination)) {
        g_string_append_printf(text, "; %s", destination->message);
    }
    return qmig_set_error(error, QMIG_ERROR_STATE, "%s", text->str);
}

/* `migrate` sets a status before it answers; one that does not come will never. */
static bool
check_begun(QmigJob *job, GError **error)
{
    return qmig_now_us() - job->perform_us < (int64_t)qmig_job_patience_ms(job) * 1000 ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "source: it accepted `migrate`, and does not migrate");
}

/* What the source's status means while memory is copied. */
static QmigStep
judge(QmigJob *job, GError **error)
{
    switch (job->info.status) {
    case QMIG_STATUS_FAILED:
        qmig_job_tell_failure(job, error);
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_CANCELLED:
        job->cancelled_elsewhere = true;
        qmig_set_error(error, QMIG_ERROR_CANCELLED, "source: it is cancelled");
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_POSTCOPY:
        if (job->options->postcopy) {
            return QMIG_STEP_NEXT;
        }
        G_GNUC_FALLTHROUGH;
    case QMIG_STATUS_COLO:
        qmig_set_error(error, QMIG_ERROR_STATE, "source: the migration has become \"%s\"",
                       job->info.status_text);
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_COMPLETED:
        return QMIG_STEP_NEXT;
    case QMIG_STATUS_NONE:
        return check_begun(job, error) ? QMIG_STEP_AGAIN : QMIG_STEP_FAILED;
    case QMIG_STATUS_SETUP:
    case QMIG_STATUS_ACTIVE:
    case QMIG_STATUS_PRE_SWITCHOVER:
    case QMIG_STATUS_DEVICE:
    case QMIG_STATUS_CANCELLING:
    case QMIG_STATUS_UNKNOWN:
    default:
        return QMIG_STEP_AGAIN;
    }
}

/* A destination that ends mid-stream has a reason, which the proxy may know. */
static bool
tell_destination_ended(QmigJob *job, GError *local, GError **error)
{
    g_autoptr(GError) proxy = NULL;

    if (job->proxy != NULL && qmig_proxy_wait(job->proxy, PROXY_WORD_TIMEOUT_MS)) {
        proxy = qmig_proxy_error(job->proxy);
    }
    g_propagate_error(error, local);
    if (proxy != NULL && error != NULL) {
        g_autofree char *message = (*error)->message;
        (*error)->message = g_strdup_printf("%s; proxy: %s", message, proxy->message);
    }
    return false;
}

/* The destination and the proxy, while the source is at work. */
static bool
check_others(QmigJob *job, GError **error)
{
    g_autoptr(GError) proxy = NULL;
    GError *local = NULL;

    if (!qmig_side_dispatch(&job->destination, &local)) {
        return tell_destination_ended(job, local, error);
    }
    if (job->proxy == NULL || qmig_proxy_state(job->proxy) != QMIG_PROXY_FAILED) {
        return true;
    }
    job->proxy_failed_us = job->proxy_failed_us != 0 ? job->proxy_failed_us
                                                     : qmig_now_us();
    if (qmig_now_us() - job->proxy_failed_us < PROXY_FAILED_GRACE_US) {
        return true;
    }
    proxy = qmig_proxy_error(job->proxy);
    return qmig_set_error(error, QMIG_ERROR_STATE,
                          "proxy: %s; the source has not noticed",
                          proxy != NULL ? proxy->message : "failed");
}

QmigStep
qmig_job_perform_tick(QmigJob *job, GError **error)
{
    bool stopped;

    if (!qmig_job_observe(job, error)) {
        return QMIG_STEP_FAILED;
    }
    QmigStep step = judge(job, error);
    if (step != QMIG_STEP_AGAIN) {
        return step;
    }
    if (!check_others(job, error) || !qmig_parts_watch(job, error) ||
        !qmig_job_guest_has_stopped(job, &stopped, error) ||
        !qmig_job_follow_policy(job, error)) {
        return QMIG_STEP_FAILED;
    }
    return stopped || job->info.status == QMIG_STATUS_DEVICE ||
                   job->info.status == QMIG_STATUS_PRE_SWITCHOVER
               ? QMIG_STEP_NEXT
               : QMIG_STEP_AGAIN;
}

QmigStep
qmig_job_switchover_tick(QmigJob *job, GError **error)
{
    if (!qmig_job_observe(job, error)) {
        return QMIG_STEP_FAILED;
    }
    if (job->info.status == QMIG_STATUS_PRE_SWITCHOVER && !job->continue_sent &&
        !qmig_via_drains(job)) {
        if (!qmig_parts_pre_switchover(job, error) ||
            !qmig_steps_put(job, "continue", error)) {
            return QMIG_STEP_FAILED;
        }
        JsonObject *arguments = json_object_new_object();
        json_object_object_add(arguments, "state",
                               json_object_new_string("pre-switchover"));
        job->continue_sent = true;
        if (!qmig_qmp_execute(job->source.qmp, "migrate-continue", arguments, NULL, NULL,
                              error)) {
            return QMIG_STEP_FAILED;
        }
    }
    QmigStep step = judge(job, error);
    if (step == QMIG_STEP_AGAIN &&
        (!check_others(job, error) || !qmig_parts_watch(job, error))) {
        return QMIG_STEP_FAILED;
    }
    return step;
}
