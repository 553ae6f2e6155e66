/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The phases, and at the end of the file the table of them. */
#include "job/part.h"
#include "job/rehearsal.h"
#include "job/steps.h"
#include "job/tls.h"
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
    /* SHUT passed through the proxy before the source could call itself completed. */
    SHUT_TIMEOUT_MS = 1000,
};

/* ---- begin, check ---------------------------------------------------------------------- */

static bool
begin_enter(QmigJob *job, GError **error)
{
    if (!qmig_side_begin(&job->source, job->options->source, job->cancel, error)) {
        return false;
    }
    job->guest_runs = job->source.running ||
                      strcmp(job->source.run_state, "suspended") == 0;
    if (!qmig_via_begin(job, error) ||
        !qmig_side_begin(&job->destination, qmig_via_monitor(job), job->cancel, error)) {
        return false;
    }
    job->destination.is_local = job->destination.is_local && !qmig_via_has_monitor(job);
    if (job->options->dry_run) {
        qmig_rehearsal_begin(job);
    }
    qmig_events_introduce(job);
    return true;
}

/* ---- prepare --------------------------------------------------------------------------- */

static bool
has_unknown_port(const QmigAddress *address)
{
    return address->kind == QMIG_ADDRESS_TCP && address->port == 0;
}

char *
qmig_job_uri(const QmigJob *job, const QmigAddress *address)
{
    g_autofree char *text = qmig_address_to_string(address);

    return job->options->rdma && g_str_has_prefix(text, "tcp:")
               ? g_strdup_printf("rdma:%s", text + strlen("tcp:"))
               : g_steal_pointer(&text);
}

/* Read back where the destination listens, when the kernel chose the port. */
bool
qmig_job_find_port(QmigJob *job, GError **error)
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

/* In a rehearsal there is none, but an address it would have. */
static bool
rehearses_proxy(QmigJob *job)
{
    if (job->rehearsal == NULL || job->rehearsal->has_proxy) {
        return job->rehearsal != NULL;
    }
    job->rehearsal->has_proxy = true;
    if (has_unknown_port(job->endpoints.proxy)) {
        job->endpoints.proxy->port = QMIG_REHEARSAL_PORT;
    }
    g_autofree char *here = qmig_address_to_string(job->endpoints.proxy);
    g_autofree char *there = qmig_address_to_string(job->endpoints.connect);
    return qmig_rehearsal_note(job, "the proxy listens on %s, and will connect to %s",
                               here, there);
}

const QmigAddress *
qmig_job_target(const QmigJob *job)
{
    return job->options->direct ? (qmig_via_target(job) != NULL ? qmig_via_target(job)
                                                                : job->endpoints.connect)
           : job->proxy != NULL ? qmig_proxy_address(job->proxy)
                                : job->endpoints.proxy;
}

bool
qmig_job_start_proxy(QmigJob *job, GError **error)
{
    static const char *const only_stats[] = { "stats", NULL };
    QmigProxyConfig config = {
        .listen = job->endpoints.proxy,
        .destination = job->endpoints.connect,
        .record = job->options->record,
        .plugins = (const char *const *)job->options->plugins->pdata,
    };

    if (job->proxy != NULL) {
        return true;
    }
    if (job->options->direct) {
        return job->rehearsal != NULL || qmig_via_forward(job, error);
    }
    if (rehearses_proxy(job)) {
        return true;
    }
    if (!qmig_via_forward(job, error)) {
        return false;
    }
    if (job->via != NULL) {
        config.destination = qmig_via_target(job);
        config.near = qmig_via_near(job);
    }
    if (job->postcopy.breaks > 0) {
        /* A resumed stream has no head, so plugins cannot change it; and a recording cannot
         * go on. The guest comes first. */
        config.record = NULL;
        config.plugins = only_stats;
        config.connect_timeout_ms = qmig_postcopy_recover_ms(job);
        config.connect_again = true;
    }
    qmig_tls_configure_proxy(job, &config);
    job->proxy = qmig_proxy_start(&config, error);
    return job->proxy != NULL &&
           qmig_endpoints_admit_source(&job->endpoints, qmig_proxy_address(job->proxy),
                                       error);
}

static bool
note_incoming(QmigJob *job, const char *uri, GError **error)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "uri", json_object_new_string(uri));
    if (job->endpoints.dir != NULL) {
        json_object_object_add(o, "dir", json_object_new_string(job->endpoints.dir));
    }
    return qmig_steps_write(job, "incoming", o, error);
}

/*
 * Tell the destination to listen: it is good for this one migration from here on. `stop` in
 * "inmigrate" is -S: without it the destination would run the guest as soon as it has it, and
 * a source that comes back would be the second one.
 */
static bool
start_incoming(QmigJob *job, GError **error)
{
    g_autofree char *uri = qmig_job_uri(job, job->endpoints.listen);
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
    if (!qmig_qmp_execute(qmp, "stop", NULL, NULL, NULL, error) ||
        !note_incoming(job, uri, error)) {
        return false;
    }
    job->incoming_sent = true;
    return qmig_qmp_migrate_incoming(qmp, uri, error) &&
           (!job->options->direct || job->via != NULL ||
            qmig_endpoints_admit_source(&job->endpoints, job->endpoints.listen, error));
}

/* All that can be refused comes before the destination is used up. */
static bool
prepare_enter(QmigJob *job, GError **error)
{
    return qmig_endpoints_choose(&job->endpoints, job->options, job->source.qmp,
                                 job->destination.qmp, error) &&
           qmig_steps_begin(job, error) &&
           qmig_side_apply(&job->source, job->source_caps, job->source_params, error) &&
           qmig_side_apply(&job->destination, job->destination_caps,
                           job->destination_params, error) &&
           qmig_parts_prepare(job, error) &&
           (has_unknown_port(job->endpoints.connect) ||
            qmig_job_start_proxy(job, error)) &&
           start_incoming(job, error) && qmig_job_find_port(job, error) &&
           qmig_job_start_proxy(job, error) && qmig_parts_listening(job, error);
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
    qmig_parts_undo(job);
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

static QmigStep
fail(GError *local, GError **error)
{
    g_propagate_error(error, local);
    return QMIG_STEP_FAILED;
}

/* It has closed. Through a tunnel that may have been the tunnel: then what became of a `cont` is
 * not known, and nobody may conclude from the events that it did nothing. */
static QmigStep
without_monitor(QmigJob *job, GError *local, GError **error)
{
    if (!qmig_via_regain(job)) {
        return fail(local, error);
    }
    job->cont_noted = job->cont_noted || job->cont_sent;
    job->cont_again = job->cont_sent;
    g_error_free(local);
    return QMIG_STEP_AGAIN;
}

/* Once it was told to run the guest there is no way back: one answer that goes wrong is asked for
 * again, as long as the phase lasts. */
static QmigStep
forgive(QmigJob *job, GError *local, GError **error)
{
    if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        return without_monitor(job, local, error);
    }
    if (!job->cont_sent && !qmig_via_forgives(job, local)) {
        return fail(local, error);
    }
    qmig_job_message(job, "%s", local->message);
    g_error_free(local);
    return QMIG_STEP_AGAIN;
}

/* It ran, and was stopped, or has stopped itself, while nobody saw it: not to be continued. */
static bool
has_run(const QmigJob *job, const char *state)
{
    return job->cont_again && (job->running_us != 0 || strcmp(state, "paused") != 0);
}

/* Only an answer that a lost tunnel has kept is asked for again. */
static QmigStep
after_cont(QmigJob *job, GError **error)
{
    GError *local = NULL;

    if (qmig_side_dispatch(&job->destination, &local) &&
        qmig_parts_after_cont(job, &local)) {
        qmig_steps_note(job, "running", NULL);
        return QMIG_STEP_NEXT;
    }
    return qmig_via_has_monitor(job) &&
                   (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED) ||
                    g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT))
               ? forgive(job, local, error)
               : fail(local, error);
}

/* Should this fail for the first time, the source still has all of the guest. */
static QmigStep
let_it_run(QmigJob *job, GError **error)
{
    GError *local = NULL;

    if (!qmig_parts_before_cont(job, &local)) {
        return g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)
                   ? without_monitor(job, local, error)
                   : fail(local, error);
    }
    if (!qmig_steps_put(job, "cont", error)) {
        return QMIG_STEP_FAILED;
    }
    job->cont_sent = true;
    job->cont_again = false;
    if (qmig_qmp_cont(job->destination.qmp, &local)) {
        return QMIG_STEP_AGAIN;
    }
    return qmig_via_forgives(job, local) ||
                   g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)
               ? forgive(job, local, error)
               : fail(local, error);
}

/* The destination has loaded the guest: it leaves "inmigrate". Then it may run it. */
static QmigStep
finish_tick(QmigJob *job, GError **error)
{
    g_autofree char *state = NULL;
    GError *local = NULL;
    bool running, shall_run = job->guest_runs && !job->options->suspend;

    if (!qmig_side_dispatch(&job->destination, &local)) {
        return without_monitor(job, local, error);
    }
    if (qmig_via_is_dark(job)) {
        return QMIG_STEP_AGAIN;
    }
    if (!qmig_qmp_query_status(job->destination.qmp, &running, &state, NULL, &local)) {
        return forgive(job, local, error);
    }
    /* `cont` before that would be taken for "run when loaded", and undo -S. */
    if (strcmp(state, "inmigrate") == 0) {
        return QMIG_STEP_AGAIN;
    }
    /* A guest in ACPI sleep "runs" when it sleeps there. */
    if (!shall_run || running || strcmp(state, "suspended") == 0 || has_run(job, state)) {
        job->running_us = job->running_us != 0 ? job->running_us : qmig_now_us();
        g_free(job->destination.run_state);
        job->destination.run_state = g_steal_pointer(&state);
        return after_cont(job, error);
    }
    return job->cont_sent && !job->cont_again ? QMIG_STEP_AGAIN : let_it_run(job, error);
}

/* Kept or not: the source's guest is never told to run again. */
static void
let_source_go(QmigJob *job)
{
    g_autoptr(GError) error = NULL;
    bool was_gone = job->source.closed;
    bool keep = job->options->keep_source && !was_gone;

    if (!keep) {
        qmig_steps_note(job, "quit", NULL);
    }
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
    (void)error;
    qmig_job_close_figures(job);
    return true;
}

static bool
restore_destination(QmigJob *job, GError **error)
{
    return qmig_side_restore(&job->destination, error);
}

static QmigStep
confirm_tick(QmigJob *job, GError **error)
{
    g_autoptr(GError) trouble = NULL;
    GError *local = NULL;

    if (!qmig_side_dispatch(&job->destination, &local)) {
        return without_monitor(job, local, error);
    }
    if (qmig_via_has_monitor(job) && qmig_via_is_dark(job)) {
        return QMIG_STEP_AGAIN;
    }
    if (!job->parts_are_done) {
        job->parts_are_done = true;
        qmig_parts_done(job);
    }
    bool restored = qmig_via_despite_darkness(job, restore_destination, &trouble);
    /* Its memory is all there is of a guest whose destination died at once. */
    if (!qmig_side_dispatch(&job->destination, &local)) {
        return without_monitor(job, local, error);
    }
    if (!restored) {
        tell_trouble(job, trouble);
    }
    let_source_go(job);
    if (job->proxy != NULL) {
        (void)qmig_proxy_wait(job->proxy, PROXY_END_TIMEOUT_MS);
        (void)qmig_job_stats(job);
    }
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    qmig_via_end(job);
    qmig_endpoints_clear(&job->endpoints);
    job->model.now.percent = 100;
    if (job->watcher->progress != NULL) {
        job->watcher->progress(job->data, &job->model.now);
    }
    return QMIG_STEP_NEXT;
}

static bool
nothing_to_enter(QmigJob *job, GError **error)
{
    (void)job;
    (void)error;
    return true;
}

/* ---- the table ------------------------------------------------------------------------- */

/* "What if it breaks here?": the undo of this row and of those above it, upwards. */
const QmigPhaseRow qmig_phases[QMIG_N_PHASES] = {
    [QMIG_PHASE_BEGIN] = { "begin", begin_enter, .cancellable = true },
    [QMIG_PHASE_CHECK] = { "check", qmig_job_check, .cancellable = true },
    [QMIG_PHASE_PREPARE] = { "prepare", prepare_enter, .undo = prepare_undo,
                             .cancellable = true },
    [QMIG_PHASE_STORAGE] = { "storage", nothing_to_enter, qmig_job_storage_tick,
                             .cancellable = true },
    [QMIG_PHASE_PERFORM] = { "perform", qmig_job_perform_enter, qmig_job_perform_tick,
                             qmig_job_settle, .cancellable = true },
    [QMIG_PHASE_SWITCHOVER] = { "switchover", nothing_to_enter, qmig_job_switchover_tick,
                                .timeout_ms = SWITCHOVER_TIMEOUT_MS,
                                .cancellable = true },
    [QMIG_PHASE_POSTCOPY] = { "postcopy", nothing_to_enter, qmig_postcopy_tick,
                              qmig_postcopy_undo },
    [QMIG_PHASE_FINISH] = { "finish", finish_enter, finish_tick, qmig_job_roll_back,
                            .timeout_ms = FINISH_TIMEOUT_MS },
    [QMIG_PHASE_CONFIRM] = { "confirm", confirm_enter, confirm_tick },
};
