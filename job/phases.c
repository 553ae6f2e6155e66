/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The phases, and at the end of the file the table of them. */
#include "job/job-priv.h"
#include "util/error.h"

#include <string.h>

enum {
    /* A destination tells its port as soon as it listens. */
    LISTEN_TIMEOUT_MS = 5000,
    /* The guest stands still: far longer than any sane blackout, short enough to get back. */
    SWITCHOVER_TIMEOUT_MS = 120000,
    FINISH_TIMEOUT_MS = 15000,
    /* Source and proxy have nothing left to do. */
    PROXY_END_TIMEOUT_MS = 3000,
    /* In the device phase the source answers when that is done. */
    BUSY_TIMEOUT_MS = 30000,
};

/* ---- begin, check ---------------------------------------------------------------------- */

static bool
begin_enter(QmigJob *job, GError **error)
{
    return qmig_side_begin(&job->source, job->options->source, job->cancel, error) &&
           qmig_side_begin(&job->destination, job->options->destination, job->cancel,
                           error);
}

/* ---- prepare --------------------------------------------------------------------------- */

/* Read back where the destination listens, when the kernel chose the port. */
static bool
find_port(QmigJob *job, GError **error)
{
    QmigAddress *address = job->endpoints.destination;
    QmigDeadline deadline = qmig_deadline_in_ms(LISTEN_TIMEOUT_MS);

    while (address->kind == QMIG_ADDRESS_TCP && address->port == 0) {
        g_auto(QmigMigrationInfo) info = { 0 };

        if (!qmig_qmp_query_migrate(job->destination.qmp, &info, NULL, error)) {
            return false;
        }
        if (info.socket_address != NULL &&
            info.socket_address->kind == QMIG_ADDRESS_TCP) {
            address->port = info.socket_address->port;
        } else if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "destination: does not tell the port it listens on");
        } else {
            g_usleep(20000);
        }
    }
    return true;
}

static bool
start_proxy(QmigJob *job, GError **error)
{
    QmigProxyConfig config = {
        .listen = job->endpoints.proxy,
        .destination = job->endpoints.destination,
        .plugins = (const char *const *)job->options->plugins->pdata,
    };

    if (job->options->direct) {
        return true;
    }
    job->proxy = qmig_proxy_start(&config, error);
    return job->proxy != NULL && qmig_endpoints_admit_source(&job->endpoints, error);
}

static bool
prepare_enter(QmigJob *job, GError **error)
{
    g_autofree char *uri = NULL;

    if (!qmig_endpoints_choose(&job->endpoints, job->options, job->source.qmp,
                               job->destination.qmp, error) ||
        !qmig_side_apply(&job->destination, job->destination_caps,
                         job->destination_params, error)) {
        return false;
    }
    uri = qmig_address_to_string(job->endpoints.destination);
    job->incoming_sent = true;
    return qmig_qmp_migrate_incoming(job->destination.qmp, uri, error) &&
           find_port(job, error) && start_proxy(job, error);
}

static void
prepare_undo(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    /* A destination that has listened is good for nothing else; with its owner unclear it
     * may be the guest. */
    if (job->owner == QMIG_OWNER_SOURCE) {
        bool ok = job->incoming_sent ? qmig_side_end(&job->destination, &error)
                                     : qmig_side_restore(&job->destination, &error);
        /* It usually has ended by itself when its source did. */
        if (!ok && !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
            qmig_job_message(job, "%s", error->message);
        }
    }
    (void)qmig_job_stats(job);
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    qmig_endpoints_clear(&job->endpoints);
}

/* ---- perform, switchover --------------------------------------------------------------- */

static bool
perform_enter(QmigJob *job, GError **error)
{
    const QmigAddress *address = job->options->direct ? job->endpoints.destination
                                                      : qmig_proxy_address(job->proxy);
    g_autofree char *uri = qmig_address_to_string(address);

    job->perform_us = qmig_now_us();
    qmig_progress_init(&job->model, job->perform_us);
    if (!qmig_side_apply(&job->source, job->source_caps, job->source_params, error)) {
        return false;
    }
    job->migrate_sent = true;
    return qmig_qmp_migrate(job->source.qmp, uri, error);
}

/* Why the migration failed: QEMU's word, the proxy's, and whether the destination lives. */
static bool
tell_failure(QmigJob *job, GError **error)
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

/* Take in what both sides say. False: one of them is gone, or the source does not answer. */
static bool
observe(QmigJob *job, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(BUSY_TIMEOUT_MS) };
    QmigMigrationInfo info;

    if (!qmig_side_dispatch(&job->source, error) ||
        !qmig_qmp_query_migrate(job->source.qmp, &info, &call, error)) {
        return false;
    }
    qmig_migration_info_clear(&job->info);
    job->info = info;
    bool new_iteration = qmig_progress_update(&job->model, &job->info,
                                              qmig_job_stats(job), qmig_now_us());
    job->model.now.phase = job->phase;
    if (new_iteration && job->watcher->iteration != NULL) {
        job->watcher->iteration(job->data, &job->model.now);
    }
    if (job->watcher->progress != NULL) {
        job->watcher->progress(job->data, &job->model.now);
    }
    return true;
}

/* What the source's status means while memory is copied; COMPLETED and the way there are for
 * the caller. */
static QmigStep
judge(QmigJob *job, GError **error)
{
    switch (job->info.status) {
    case QMIG_STATUS_FAILED:
        tell_failure(job, error);
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_CANCELLED:
        job->cancelled = true;
        qmig_set_error(error, QMIG_ERROR_CANCELLED,
                       "source: somebody cancelled the migration");
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_POSTCOPY:
    case QMIG_STATUS_COLO:
        qmig_set_error(error, QMIG_ERROR_STATE, "source: the migration has become \"%s\"",
                       job->info.status_text);
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_COMPLETED:
        return QMIG_STEP_NEXT;
    case QMIG_STATUS_NONE:
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

static QmigStep
perform_tick(QmigJob *job, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!observe(job, error)) {
        return QMIG_STEP_FAILED;
    }
    QmigStep step = judge(job, error);
    if (step != QMIG_STEP_AGAIN) {
        return step;
    }
    if (!qmig_side_dispatch(&job->destination, &local)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return QMIG_STEP_FAILED;
    }
    bool guest_stopped = job->source.stopped_us >
                         MAX(job->perform_us, job->source.resumed_us);
    return job->info.status == QMIG_STATUS_DEVICE ||
                   job->info.status == QMIG_STATUS_PRE_SWITCHOVER ||
                   (guest_stopped && job->source.running)
               ? QMIG_STEP_NEXT
               : QMIG_STEP_AGAIN;
}

static bool
nothing_to_enter(QmigJob *job, GError **error)
{
    (void)job;
    (void)error;
    return true;
}

static QmigStep
switchover_tick(QmigJob *job, GError **error)
{
    if (!observe(job, error)) {
        return QMIG_STEP_FAILED;
    }
    if (job->info.status == QMIG_STATUS_PRE_SWITCHOVER && !job->continue_sent) {
        JsonObject *arguments = json_object_new_object();
        json_object_object_add(arguments, "state",
                               json_object_new_string("pre-switchover"));
        job->continue_sent = true;
        if (!qmig_qmp_execute(job->source.qmp, "migrate-continue", arguments, NULL, NULL,
                              error)) {
            return QMIG_STEP_FAILED;
        }
    }
    return judge(job, error);
}

/* ---- finish, confirm ------------------------------------------------------------------- */

static bool
finish_enter(QmigJob *job, GError **error)
{
    (void)error;
    job->owner = QMIG_OWNER_DESTINATION;
    return true;
}

/* The destination has loaded the guest: it leaves "inmigrate". Then it may run it. */
static QmigStep
finish_tick(QmigJob *job, GError **error)
{
    g_autofree char *state = NULL;
    bool running, shall_run = job->source.running && !job->options->suspend;

    if (!qmig_side_dispatch(&job->destination, error) ||
        !qmig_qmp_query_status(job->destination.qmp, &running, &state, NULL, error)) {
        return QMIG_STEP_FAILED;
    }
    /* `cont` before that would be taken for "run when loaded", and undo -S. */
    if (strcmp(state, "inmigrate") == 0) {
        return QMIG_STEP_AGAIN;
    }
    if (!shall_run || running) {
        job->running_us = qmig_now_us();
        return qmig_side_dispatch(&job->destination, error) ? QMIG_STEP_NEXT
                                                            : QMIG_STEP_FAILED;
    }
    if (!job->cont_sent) {
        job->cont_sent = true;
        if (!qmig_qmp_cont(job->destination.qmp, error)) {
            return QMIG_STEP_FAILED;
        }
    }
    return QMIG_STEP_AGAIN;
}

static bool
confirm_enter(QmigJob *job, GError **error)
{
    g_autoptr(GError) local = NULL;

    (void)error;
    if (!qmig_side_restore(&job->destination, &local)) {
        qmig_job_message(job, "%s", local->message);
        g_clear_error(&local);
    }
    /* Kept or not: its guest is never told to run again. */
    bool ok = job->options->keep_source ? qmig_side_restore(&job->source, &local)
                                        : qmig_side_end(&job->source, &local);
    if (!ok && !g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        qmig_job_message(job, "%s; its guest stands still and must not be continued",
                         local->message);
    }
    if (job->proxy != NULL) {
        (void)qmig_proxy_wait(job->proxy, PROXY_END_TIMEOUT_MS);
        (void)qmig_job_stats(job);
    }
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    qmig_endpoints_clear(&job->endpoints);
    job->model.now.percent = 100;
    job->model.now.phase = job->phase;
    if (job->watcher->progress != NULL) {
        job->watcher->progress(job->data, &job->model.now);
    }
    return true;
}

/* ---- the table ------------------------------------------------------------------------- */

/* "What if it breaks here?": the undo of this row and of those above it, upwards. */
const QmigPhaseRow qmig_phases[QMIG_N_PHASES] = {
    [QMIG_PHASE_BEGIN] = { "begin", begin_enter, .cancellable = true },
    [QMIG_PHASE_CHECK] = { "check", qmig_job_check, .cancellable = true },
    [QMIG_PHASE_PREPARE] = { "prepare", prepare_enter, .undo = prepare_undo,
                             .cancellable = true },
    [QMIG_PHASE_PERFORM] = { "perform", perform_enter, perform_tick, qmig_job_settle,
                             .cancellable = true },
    [QMIG_PHASE_SWITCHOVER] = { "switchover", nothing_to_enter, switchover_tick,
                                .timeout_ms = SWITCHOVER_TIMEOUT_MS,
                                .cancellable = true },
    [QMIG_PHASE_FINISH] = { "finish", finish_enter, finish_tick, qmig_job_roll_back,
                            .timeout_ms = FINISH_TIMEOUT_MS },
    [QMIG_PHASE_CONFIRM] = { "confirm", confirm_enter },
};
