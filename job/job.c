/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running the table of phases: forwards, and on a failure backwards. */
#include "job/job.h"

#include "job/hook.h"
#include "job/part.h"
#include "job/preflight.h"
#include "job/rehearsal.h"
#include "job/steer.h"
#include "job/steps.h"
#include "util/error.h"
#include "util/units.h"

#include <poll.h>
#include <string.h>

G_STATIC_ASSERT(G_N_ELEMENTS(qmig_phases) == QMIG_N_PHASES);

const char *
qmig_phase_name(QmigPhase phase)
{
    return phase < QMIG_N_PHASES ? qmig_phases[phase].name : "?";
}

const char *
qmig_outcome_name(QmigOutcome outcome)
{
    static const char *const names[] = { "done",      "usage",    "refused", "failed",
                                         "cancelled", "deadline", "paused",  "unclear" };

    return outcome < G_N_ELEMENTS(names) ? names[outcome] : "?";
}

QmigJobOptions *
qmig_job_options_new(void)
{
    QmigJobOptions *options = g_new0(QmigJobOptions, 1);

    options->plugins = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(options->plugins, g_strdup("stats"));
    options->hooks = g_ptr_array_new_with_free_func(g_free);
    options->migrate_disks = g_ptr_array_new_with_free_func(g_free);
    options->via = g_ptr_array_new_with_free_func(g_free);
    options->capabilities = json_object_new_object();
    options->parameters = json_object_new_object();
    options->asked_by = json_object_new_object();
    return options;
}

void
qmig_job_options_free(QmigJobOptions *options)
{
    if (options == NULL) {
        return;
    }
    qmig_address_free(options->source);
    qmig_address_free(options->destination);
    qmig_address_free(options->migrate_uri);
    qmig_address_free(options->listen);
    g_free(options->control_path);
    g_free(options->record);
    g_free(options->tls_dir);
    g_free(options->tls_source_dir);
    g_free(options->tls_destination_dir);
    g_free(options->tls_proxy_dir);
    g_free(options->tls_creds);
    g_free(options->tls_hostname);
    g_free(options->tls_user);
    g_free(options->journal);
    g_free(options->fence);
    g_ptr_array_unref(options->hooks);
    g_ptr_array_unref(options->migrate_disks);
    qmig_address_free(options->disks_uri);
    g_ptr_array_unref(options->via);
    g_free(options->via_connections);
    g_free(options->via_compression);
    g_free(options->via_cache);
    g_free(options->via_bandwidth);
    g_free(options->via_tls_dir);
    g_free(options->via_tls_user);
    g_free(options->via_tls_destination);
    qmig_address_free(options->agent);
    qmig_address_free(options->agent_destination);
    g_ptr_array_unref(options->plugins);
    json_object_put(options->capabilities);
    json_object_put(options->parameters);
    json_object_put(options->asked_by);
    g_free(options->definition);
    g_free(options->definition_to);
    g_free(options);
}

QmigJob *
qmig_job_new(QmigJobOptions *options, const QmigJobWatcher *watcher, void *data,
             const QmigCancel *cancel)
{
    QmigJob *job = g_new0(QmigJob, 1);

    job->options = options;
    qmig_events_init(job, watcher, data);
    job->cancel = cancel;
    job->messages = g_ptr_array_new_with_free_func(g_free);
    job->decisions = json_object_new_array();
    job->iterations = json_object_new_array();
    qmig_side_init(&job->source, "source");
    qmig_side_init(&job->destination, "destination");
    /* The chain's list of specs ends with NULL. */
    g_ptr_array_add(options->plugins, NULL);
    return job;
}

void
qmig_job_free(QmigJob *job)
{
    if (job == NULL) {
        return;
    }
    qmig_parts_free(job);
    qmig_control_free(job->control);
    qmig_events_clear(job);
    qmig_journal_free(job->journal);
    qmig_preflight_free(job->preflight);
    qmig_rehearsal_free(job->rehearsal);
    qmig_proxy_free(job->proxy);
    qmig_endpoints_clear(&job->endpoints);
    qmig_side_clear(&job->source);
    qmig_side_clear(&job->destination);
    qmig_migration_info_clear(&job->info);
    qmig_progress_clear(&job->model);
    json_object_put(job->snapshot);
    json_object_put(job->source_caps);
    json_object_put(job->source_params);
    json_object_put(job->destination_caps);
    json_object_put(job->destination_params);
    g_ptr_array_unref(job->messages);
    json_object_put(job->decisions);
    json_object_put(job->iterations);
    g_free(job->postcopy.told);
    g_free(job->where);
    g_clear_error(&job->error);
    qmig_job_options_free(job->options);
    g_free(job);
}

void
qmig_job_message(QmigJob *job, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_ptr_array_add(job->messages, text);
    if (job->watcher->message != NULL) {
        job->watcher->message(job->data, text);
    }
}

void
qmig_job_decide(QmigJob *job, const char *what, const char *why_fmt, ...)
{
    JsonObject *decision = json_object_new_object();
    g_autofree char *why = NULL;
    va_list ap;

    va_start(ap, why_fmt);
    why = g_strdup_vprintf(why_fmt, ap);
    va_end(ap);
    json_object_object_add(decision, "what", json_object_new_string(what));
    json_object_object_add(decision, "why", json_object_new_string(why));
    json_object_array_add(job->decisions, decision);
    if (job->watcher->decision != NULL) {
        job->watcher->decision(job->data, what, why);
    }
}

JsonObject *
qmig_job_stats(QmigJob *job)
{
    if (job->proxy != NULL) {
        json_object_put(job->snapshot);
        job->snapshot = qmig_proxy_snapshot(job->proxy);
    }
    return qmig_json_get(qmig_json_get(job->snapshot, "plugins", json_type_object),
                         "stats", json_type_object);
}

/* What poll(2) shall watch of a side; the descriptor of a closed one would always be ready. */
static struct pollfd
watch_side(const QmigSide *side)
{
    bool open = side->qmp != NULL && !side->closed;

    return (struct pollfd){ .fd = open ? qmig_qmp_fd(side->qmp) : -1, .events = POLLIN };
}

/* Take what came; true when the phase should look at it now rather than at the next tick. */
static bool
take_news(QmigSide *side, const struct pollfd *pollfd)
{
    if (pollfd->revents == 0) {
        return false;
    }
    side->has_news = !qmig_side_dispatch(side, NULL) || side->has_news;
    return side->has_news;
}

/*
 * Until something is decided on a monitor, a cancel comes, or the tick is over. A flood of other
 * events (MIGRATION_PASS) is taken in and costs the source no queries.
 */
static void
wait_a_tick(QmigJob *job, bool cancellable)
{
    QmigDeadline deadline = qmig_deadline_in_ms(QMIG_TICK_MS);
    bool proxy_runs = job->proxy != NULL &&
                      qmig_proxy_state(job->proxy) < QMIG_PROXY_DONE;

    /* News that a command of this tick has read along the way. */
    bool news = job->source.has_news || job->destination.has_news;
    job->source.has_news = job->destination.has_news = false;
    while (!news && qmig_now_us() < deadline) {
        struct pollfd fds[] = {
            watch_side(&job->source),
            watch_side(&job->destination),
            { .fd = cancellable ? qmig_cancel_fd(job->cancel) : -1, .events = POLLIN },
            { .fd = proxy_runs ? qmig_proxy_done_fd(job->proxy) : -1, .events = POLLIN },
            { .fd = qmig_control_fd(job->control), .events = POLLIN },
        };

        poll(fds, G_N_ELEMENTS(fds), qmig_deadline_poll_ms(deadline));
        news = take_news(&job->source, &fds[0]);
        news = take_news(&job->destination, &fds[1]) || news;
        news = news || fds[2].revents != 0 || fds[3].revents != 0 || fds[4].revents != 0;
    }
    job->source.has_news = job->destination.has_news = false;
}

const QmigCancel *
qmig_job_cancel(const QmigJob *job)
{
    return qmig_phases[job->phase].cancellable ? job->cancel : NULL;
}

bool
qmig_job_check_wishes(QmigJob *job, GError **error)
{
    const QmigPhaseRow *row = &qmig_phases[job->phase];

    if (!row->cancellable && qmig_cancel_is_raised(job->cancel) && !job->told_too_late) {
        job->told_too_late = true;
        qmig_job_message(job, "too late to cancel: the guest is going over (phase %s)",
                         row->name);
    }
    if (row->cancellable && (qmig_cancel_is_raised(job->cancel) || job->cancel_asked)) {
        job->cancelled = true;
        qmig_job_message(job, "cancelling");
        return qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
    }
    if (row->cancellable && job->options->timeout_ms > 0 &&
        job->options->on_timeout == QMIG_ON_TIMEOUT_CANCEL &&
        qmig_now_us() - job->begin_us > (int64_t)job->options->timeout_ms * 1000) {
        job->deadline_passed = true;
        g_autofree char *limit = qmig_format_duration(job->options->timeout_ms);
        return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                              "the migration is not done within the %s of --timeout",
                              limit);
    }
    return true;
}

static bool
run_phase(QmigJob *job, const QmigPhaseRow *row, GError **error)
{
    uint32_t timeout_ms = row->timeout_ms > 0
                              ? row->timeout_ms + qmig_job_allowance_ms(job)
                              : 0;
    QmigDeadline deadline = timeout_ms > 0 ? qmig_deadline_in_ms(timeout_ms)
                                           : QMIG_DEADLINE_NEVER;
    int64_t dark_us = qmig_via_dark_us(job);

    if (!qmig_job_check_wishes(job, error) || !qmig_hook_enter(job, error) ||
        !row->enter(job, error)) {
        return false;
    }
    while (row->tick != NULL) {
        qmig_via_look(job);
        QmigStep step = row->tick(job, error);
        if (step != QMIG_STEP_AGAIN) {
            return step == QMIG_STEP_NEXT;
        }
        qmig_steer(job);
        if (!qmig_job_check_wishes(job, error)) {
            return false;
        }
        /* While the tunnel is dark nobody can get on. */
        if (qmig_now_us() - (qmig_via_dark_us(job) - dark_us) >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT, "not done within %u ms",
                                  timeout_ms);
        }
        wait_a_tick(job, row->cancellable);
    }
    return true;
}

/* Nothing was touched, or all of it is as before: the destination can be used again. */
static bool
is_untouched(const QmigJob *job)
{
    return job->rehearsal != NULL ||
           (!job->incoming_sent && !job->source.touched && !job->destination.touched);
}

bool
qmig_job_source_is_spent(const QmigJob *job)
{
    return g_strcmp0(job->source.run_state, "postmigrate") == 0;
}

/* A source that ended while it had the guest took it along. */
static bool
source_is_gone(QmigJob *job)
{
    return job->source.qmp != NULL && !qmig_side_dispatch(&job->source, NULL);
}

/* The outcome of a job that ended with @error, everything being undone. */
static QmigOutcome
judge_outcome(QmigJob *job, const GError *error)
{
    if (job->postcopy.recoverable) {
        return QMIG_OUTCOME_PAUSED;
    }
    if (job->owner != QMIG_OWNER_SOURCE || source_is_gone(job)) {
        return QMIG_OUTCOME_UNCLEAR;
    }
    if (job->cancelled || job->cancelled_elsewhere ||
        g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
        return QMIG_OUTCOME_CANCELLED;
    }
    if (job->deadline_passed) {
        return QMIG_OUTCOME_DEADLINE;
    }
    if (!is_untouched(job)) {
        return QMIG_OUTCOME_FAILED;
    }
    return g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CONFIG) ? QMIG_OUTCOME_USAGE
                                                                 : QMIG_OUTCOME_REFUSED;
}

/* Where the guest is and what to do, for the end of an error message. */
static void
give_advice(QmigJob *job)
{
    if (job->next != NULL) {
        return;
    }
    if (job->where != NULL) {
        job->next = "Look at both sides with `qmig status`.";
    } else if (job->owner != QMIG_OWNER_SOURCE) {
        job->where = g_strdup("Who owns the guest is not proven, and nothing more is "
                              "touched.");
        job->next =
            "Look at both sides with `qmig status`; do not continue either before "
            "the other is known to be gone.";
    } else if (source_is_gone(job)) {
        job->where = g_strdup(qmig_side_is_dead(&job->source)
                                  ? "The source's QEMU has ended, and the guest with it: "
                                    "the destination has not got it."
                                  : "The guest is on the source, which has closed its "
                                    "monitor; the destination has not got it.");
        job->next = "Look at the source's host.";
    } else if (is_untouched(job)) {
        job->where = g_strdup(job->source.qmp == NULL || qmig_job_source_is_spent(job)
                                  ? "Nothing was touched."
                                  : "Nothing was touched; the guest is on the source.");
        job->next = "Put that right, and run `qmig migrate` again.";
    } else {
        job->where = g_strdup(
            job->guest_runs ? "The guest runs on the source."
                            : "The guest is on the source, not running, as before.");
        job->next =
            "Start a fresh destination (-S -incoming defer) and run `qmig migrate` "
            "again.";
    }
}

/* Undo the phases entered, last first. True: the guest turned out to be the destination's. */
static bool
undo_phases(QmigJob *job, QmigPhase phase)
{
    for (int i = (int)phase; i >= 0; i--) {
        if (qmig_phases[i].undo == NULL) {
            continue;
        }
        qmig_phases[i].undo(job);
        if (phase < QMIG_PHASE_POSTCOPY &&
            (job->owner == QMIG_OWNER_DESTINATION || job->postcopy.goes_on)) {
            return true;
        }
        /* These have settled it all: perform's undo must not ask again. */
        if (i == QMIG_PHASE_FINISH ||
            (i == QMIG_PHASE_POSTCOPY && job->postcopy.entered)) {
            i = QMIG_PHASE_PERFORM;
        }
    }
    return false;
}

static void
end_with_error(QmigJob *job, const GError *error)
{
    give_advice(job);
    job->outcome = judge_outcome(job, error);
    if (job->outcome == QMIG_OUTCOME_CANCELLED && job->cancelled_elsewhere) {
        /* A cancelled source ends its destination, which may be noticed first. */
        job->error = g_error_new(QMIG_ERROR, QMIG_ERROR_CANCELLED,
                                 "%s: source: somebody else cancelled the migration",
                                 qmig_phase_name(job->phase));
        return;
    }
    job->error = g_error_new(error->domain, error->code, "%s: %s",
                             qmig_phase_name(job->phase), error->message);
}

/* The outcome is known. */
static QmigOutcome
conclude(QmigJob *job)
{
    qmig_steps_end(job);
    qmig_hook_end(job);
    qmig_events_end(job);
    return job->outcome;
}

/* Nothing is done: there is nothing to write down, and nobody to steer it. */
static void
leave_no_trace(QmigJobOptions *options)
{
    g_clear_pointer(&options->journal, g_free);
    options->journal_by_default = false;
    options->control = false;
    if (options->check_only) {
        g_ptr_array_set_size(options->hooks, 0);
    }
}

QmigOutcome
qmig_job_run(QmigJob *job, GError **error)
{
    return qmig_job_run_from(job, QMIG_PHASE_BEGIN, error);
}

QmigOutcome
qmig_job_run_from(QmigJob *job, QmigPhase first, GError **error)
{
    int n_phases = job->options->check_only ? QMIG_PHASE_CHECK + 1 : QMIG_N_PHASES;

    if (job->options->check_only || job->options->dry_run) {
        leave_no_trace(job->options);
    }
    job->begin_us = qmig_now_us();
    for (int phase = (int)first; phase < n_phases; phase++) {
        g_autoptr(GError) local = NULL;

        job->phase = (QmigPhase)phase;
        job->phase_us = qmig_now_us();
        bool has_begun = phase > (int)first || qmig_steer_begin(job, &local);
        job->watcher->phase(job->data, job->phase);
        if (has_begun && run_phase(job, &qmig_phases[phase], &local)) {
            continue;
        }
        qmig_via_explain(job, local);
        qmig_events_undo(job, local->message);
        if (undo_phases(job, job->phase)) {
            qmig_job_message(job, "%s; but %s", local->message,
                             job->postcopy.goes_on
                                 ? "post-copy has begun, and has to be ended"
                                 : "the destination has the guest, and it goes on there");
            job->cancelled = job->deadline_passed = false;
            qmig_events_redo(job);
            phase = QMIG_PHASE_SWITCHOVER;
            continue;
        }
        end_with_error(job, local);
        g_set_error(error, job->error->domain, job->error->code, "%s\n  %s\n  %s",
                    job->error->message, job->where, job->next);
        return conclude(job);
    }
    job->outcome = QMIG_OUTCOME_DONE;
    return conclude(job);
}
