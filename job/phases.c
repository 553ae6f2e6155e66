/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The phases, and at the end of the file the table of them. */
#include "job/job-priv.h"
#include "util/error.h"

#include <string.h>

enum {
    /* A destination tells its port as soon as it listens. */
    LISTEN_TIMEOUT_MS = 5000,
    /* The guest stands still: far longer than any sane blackout, short enough to get back. */
    SWITCHOVER_TIMEOUT_MS = 60000,
    FINISH_TIMEOUT_MS = 15000,
    /* Source and proxy have nothing left to do. */
    PROXY_END_TIMEOUT_MS = 3000,
    /* Its connection has ended with the destination. */
    PROXY_WORD_TIMEOUT_MS = 3000,
    /* SHUT passed through the proxy before the source could call itself completed. */
    SHUT_TIMEOUT_MS = 1000,
    /* A proxy that failed has closed the source's connections: QEMU notices at once. */
    PROXY_FAILED_GRACE_US = 5 * G_USEC_PER_SEC,
};

/* ---- begin, check ---------------------------------------------------------------------- */

static bool
begin_enter(QmigJob *job, GError **error)
{
    if (!qmig_side_begin(&job->source, job->options->source, job->cancel, error) ||
        !qmig_side_begin(&job->destination, job->options->destination, job->cancel,
                         error)) {
        return false;
    }
    job->guest_runs = job->source.running ||
                      strcmp(job->source.run_state, "suspended") == 0;
    return true;
}

/* ---- prepare --------------------------------------------------------------------------- */

static bool
has_unknown_port(const QmigAddress *address)
{
    return address->kind == QMIG_ADDRESS_TCP && address->port == 0;
}

/* Read back where the destination listens, when the kernel chose the port. */
static bool
find_port(QmigJob *job, GError **error)
{
    QmigAddress *address = job->endpoints.connect;
    QmigDeadline deadline = qmig_deadline_in_ms(LISTEN_TIMEOUT_MS);

    while (has_unknown_port(address)) {
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
        .destination = job->endpoints.connect,
        .record = job->options->record,
        .plugins = (const char *const *)job->options->plugins->pdata,
    };

    if (job->options->direct || job->proxy != NULL) {
        return true;
    }
    job->proxy = qmig_proxy_start(&config, error);
    return job->proxy != NULL &&
           qmig_endpoints_admit_source(&job->endpoints, qmig_proxy_address(job->proxy),
                                       error);
}

/*
 * Tell the destination to listen: it is good for this one migration from here on. `stop` in
 * "inmigrate" is -S: without it the destination would run the guest as soon as it has it, and
 * a source that comes back would be the second one.
 */
static bool
start_incoming(QmigJob *job, GError **error)
{
    g_autofree char *uri = qmig_address_to_string(job->endpoints.listen);
    QmigQmp *qmp = job->destination.qmp;
    g_autofree char *state = NULL;
    bool running;

    if (!qmig_qmp_query_status(qmp, &running, &state, NULL, error)) {
        return false;
    }
    if (strcmp(state, "inmigrate") != 0) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "destination: its state has become \"%s\"", state);
    }
    if (!qmig_qmp_execute(qmp, "stop", NULL, NULL, NULL, error)) {
        return false;
    }
    job->incoming_sent = true;
    return qmig_qmp_migrate_incoming(qmp, uri, error) &&
           (!job->options->direct ||
            qmig_endpoints_admit_source(&job->endpoints, job->endpoints.listen, error));
}

/* All that can be refused comes before the destination is used up. */
static bool
prepare_enter(QmigJob *job, GError **error)
{
    return qmig_endpoints_choose(&job->endpoints, job->options, job->source.qmp,
                                 job->destination.qmp, error) &&
           qmig_side_apply(&job->source, job->source_caps, job->source_params, error) &&
           qmig_side_apply(&job->destination, job->destination_caps,
                           job->destination_params, error) &&
           (has_unknown_port(job->endpoints.connect) || start_proxy(job, error)) &&
           start_incoming(job, error) && find_port(job, error) && start_proxy(job, error);
}

static void
tell_trouble(QmigJob *job, const GError *error)
{
    qmig_job_message(job, "%s", error->message);
}

static void
prepare_undo(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    (void)qmig_job_stats(job);
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    /* A destination that has listened is good for nothing else; with the owner unclear it may
     * have the guest. */
    if (job->owner == QMIG_OWNER_SOURCE) {
        if (job->incoming_sent) {
            (void)qmig_job_end_destination(job);
        } else if (!qmig_side_restore(&job->destination, &error) &&
                   !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
            tell_trouble(job, error);
        }
        g_clear_error(&error);
        if (!job->source.closed && !qmig_side_restore(&job->source, &error)) {
            qmig_job_message(job,
                             "source: its migration settings could not be put back: %s",
                             error->message);
        }
    }
    qmig_endpoints_clear(&job->endpoints);
}

/* ---- perform, switchover --------------------------------------------------------------- */

static bool
perform_enter(QmigJob *job, GError **error)
{
    const QmigAddress *address = job->options->direct ? job->endpoints.connect
                                                      : qmig_proxy_address(job->proxy);
    g_autofree char *uri = qmig_address_to_string(address);

    job->perform_us = qmig_now_us();
    job->guest_seen_us = MAX(job->source.stopped_us, job->source.resumed_us);
    qmig_progress_init(&job->model, job->perform_us);
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
        tell_failure(job, error);
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_CANCELLED:
        job->cancelled_elsewhere = true;
        qmig_set_error(error, QMIG_ERROR_CANCELLED, "source: it is cancelled");
        return QMIG_STEP_FAILED;
    case QMIG_STATUS_POSTCOPY:
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

static QmigStep
perform_tick(QmigJob *job, GError **error)
{
    bool stopped;

    if (!qmig_job_observe(job, error)) {
        return QMIG_STEP_FAILED;
    }
    QmigStep step = judge(job, error);
    if (step != QMIG_STEP_AGAIN) {
        return step;
    }
    if (!check_others(job, error) || !qmig_job_guest_has_stopped(job, &stopped, error)) {
        return QMIG_STEP_FAILED;
    }
    return stopped || job->info.status == QMIG_STATUS_DEVICE ||
                   job->info.status == QMIG_STATUS_PRE_SWITCHOVER
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
    if (!qmig_job_observe(job, error)) {
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
    QmigStep step = judge(job, error);
    if (step == QMIG_STEP_AGAIN && !check_others(job, error)) {
        return QMIG_STEP_FAILED;
    }
    return step;
}

/* ---- finish, confirm ------------------------------------------------------------------- */

/* What the return path said last, as the proxy saw it; -1 = it did not see it. */
static int64_t
seen_shut(QmigJob *job)
{
    (void)qmig_job_stats(job);
    return qmig_json_int(qmig_json_get(job->snapshot, "return_path", json_type_object),
                         "shut", -1);
}

/* The proxy has seen the destination say that it loaded everything. */
static bool
finish_enter(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(SHUT_TIMEOUT_MS);
    int64_t shut = 0;

    job->owner = QMIG_OWNER_DESTINATION;
    while (job->proxy != NULL && (shut = seen_shut(job)) < 0 &&
           qmig_now_us() < deadline) {
        g_usleep(2000);
    }
    if (shut < 0) {
        /* TLS, or a stream the proxy does not know: what the destination says must do. */
        qmig_job_message(job, "the proxy did not see the destination's last word (SHUT)");
    }
    return shut <= 0 ||
           qmig_set_error(
               error, QMIG_ERROR_STATE,
               "destination: it told the source that loading failed (SHUT %d), "
               "but the source says \"completed\"",
               (int)shut);
}

/* Once it was told to run the guest there is no way back: one answer that goes wrong is asked for
 * again, as long as the phase lasts. */
static QmigStep
forgive(QmigJob *job, GError *local, GError **error)
{
    if (!job->cont_sent || g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        g_propagate_error(error, local);
        return QMIG_STEP_FAILED;
    }
    qmig_job_message(job, "%s", local->message);
    g_error_free(local);
    return QMIG_STEP_AGAIN;
}

/* The destination has loaded the guest: it leaves "inmigrate". Then it may run it. */
static QmigStep
finish_tick(QmigJob *job, GError **error)
{
    g_autofree char *state = NULL;
    GError *local = NULL;
    bool running, shall_run = job->guest_runs && !job->options->suspend;

    if (!qmig_side_dispatch(&job->destination, error)) {
        return QMIG_STEP_FAILED;
    }
    if (!qmig_qmp_query_status(job->destination.qmp, &running, &state, NULL, &local)) {
        return forgive(job, local, error);
    }
    /* `cont` before that would be taken for "run when loaded", and undo -S. */
    if (strcmp(state, "inmigrate") == 0) {
        return QMIG_STEP_AGAIN;
    }
    /* A guest in ACPI sleep "runs" when it sleeps there. */
    if (!shall_run || running || strcmp(state, "suspended") == 0) {
        job->running_us = qmig_now_us();
        g_free(job->destination.run_state);
        job->destination.run_state = g_steal_pointer(&state);
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

/* Kept or not: the source's guest is never told to run again. */
static void
let_source_go(QmigJob *job)
{
    g_autoptr(GError) error = NULL;
    bool was_gone = job->source.closed;
    bool keep = job->options->keep_source && !was_gone;
    bool ok = keep ? qmig_side_restore(&job->source, &error)
                   : qmig_side_end(&job->source, &error);

    job->source_end = keep       ? "kept"
                      : !ok      ? "not proven gone"
                      : was_gone ? "gone"
                                 : "quit";
    if (!ok) {
        qmig_job_message(job,
                         "%s; its guest stands still there, and must not be continued",
                         error->message);
    }
}

static bool
confirm_enter(QmigJob *job, GError **error)
{
    g_autoptr(GError) local = NULL;

    qmig_job_close_figures(job);
    if (!qmig_side_restore(&job->destination, &local)) {
        tell_trouble(job, local);
    }
    /* Its memory is all there is of a guest whose destination died at once. */
    if (!qmig_side_dispatch(&job->destination, error)) {
        return false;
    }
    let_source_go(job);
    if (job->proxy != NULL) {
        (void)qmig_proxy_wait(job->proxy, PROXY_END_TIMEOUT_MS);
        (void)qmig_job_stats(job);
    }
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    qmig_endpoints_clear(&job->endpoints);
    job->model.now.percent = 100;
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
