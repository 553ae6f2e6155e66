/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running the table of phases: forwards, and on a failure backwards. */
#include "job/job.h"

#include "job/job-priv.h"
#include "util/error.h"

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
    options->capabilities = json_object_new_object();
    options->parameters = json_object_new_object();
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
    g_ptr_array_unref(options->plugins);
    json_object_put(options->capabilities);
    json_object_put(options->parameters);
    g_free(options);
}

QmigJob *
qmig_job_new(QmigJobOptions *options, const QmigJobWatcher *watcher, void *data,
             const QmigCancel *cancel)
{
    static const QmigJobWatcher nobody = { 0 };
    QmigJob *job = g_new0(QmigJob, 1);

    job->options = options;
    job->watcher = watcher != NULL ? watcher : &nobody;
    job->data = data;
    job->cancel = cancel;
    job->messages = g_ptr_array_new_with_free_func(g_free);
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

/* Until something happens on a monitor, a cancel comes, or the tick is over. */
static void
wait_a_tick(QmigJob *job, bool cancellable)
{
    struct pollfd fds[] = {
        { .fd = job->source.qmp != NULL ? qmig_qmp_fd(job->source.qmp) : -1,
          .events = POLLIN },
        { .fd = job->destination.qmp != NULL ? qmig_qmp_fd(job->destination.qmp) : -1,
          .events = POLLIN },
        { .fd = cancellable ? qmig_cancel_fd(job->cancel) : -1, .events = POLLIN },
        { .fd = job->proxy != NULL && qmig_proxy_state(job->proxy) < QMIG_PROXY_DONE
                    ? qmig_proxy_done_fd(job->proxy)
                    : -1,
          .events = POLLIN },
    };

    /* A source's end in the finish phase would make this spin: it is not read there. */
    if (!cancellable) {
        fds[0].fd = -1;
    }
    poll(fds, G_N_ELEMENTS(fds), QMIG_TICK_MS);
}

/* The user's wish to end it, as an error. */
static bool
check_wishes(QmigJob *job, const QmigPhaseRow *row, GError **error)
{
    if (row->cancellable && qmig_cancel_is_raised(job->cancel)) {
        job->cancelled = true;
        return qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
    }
    if (row->cancellable && job->options->timeout_ms > 0 && job->perform_us > 0 &&
        qmig_now_us() - job->perform_us > (int64_t)job->options->timeout_ms * 1000) {
        job->deadline_passed = true;
        return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                              "the migration is not done within the %" G_GUINT64_FORMAT
                              " ms of --timeout",
                              job->options->timeout_ms);
    }
    return true;
}

static bool
run_phase(QmigJob *job, const QmigPhaseRow *row, GError **error)
{
    QmigDeadline deadline = row->timeout_ms > 0 ? qmig_deadline_in_ms(row->timeout_ms)
                                                : QMIG_DEADLINE_NEVER;

    if (!check_wishes(job, row, error) || !row->enter(job, error)) {
        return false;
    }
    while (row->tick != NULL) {
        QmigStep step = row->tick(job, error);
        if (step != QMIG_STEP_AGAIN) {
            return step == QMIG_STEP_NEXT;
        }
        if (!check_wishes(job, row, error)) {
            return false;
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT, "not done within %u ms",
                                  row->timeout_ms);
        }
        wait_a_tick(job, row->cancellable);
    }
    return true;
}

/* The outcome of a job that ended in @phase with @error, everything being undone. */
static QmigOutcome
judge_outcome(const QmigJob *job, QmigPhase phase, const GError *error)
{
    if (job->owner == QMIG_OWNER_UNCLEAR) {
        return QMIG_OUTCOME_UNCLEAR;
    }
    if (job->cancelled || g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
        return QMIG_OUTCOME_CANCELLED;
    }
    if (job->deadline_passed) {
        return QMIG_OUTCOME_DEADLINE;
    }
    if (g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CONFIG)) {
        return phase <= QMIG_PHASE_CHECK ? QMIG_OUTCOME_USAGE : QMIG_OUTCOME_FAILED;
    }
    return phase <= QMIG_PHASE_CHECK ? QMIG_OUTCOME_REFUSED : QMIG_OUTCOME_FAILED;
}

/* Where the guest is and what to do, for the end of an error message. */
static const char *
advice(const QmigJob *job, QmigPhase phase)
{
    if (job->owner == QMIG_OWNER_UNCLEAR) {
        return "Who owns the guest is not proven. Look at both sides with `qmig status`; do "
               "not continue either before the other is known to be gone.";
    }
    if (phase <= QMIG_PHASE_CHECK) {
        return "Nothing was touched; the guest is on the source.";
    }
    return job->source.running
               ? "The guest runs on the source. Start a fresh destination "
                 "(-S -incoming defer) and run `qmig migrate` again."
               : "The guest is on the source, not running, as before. Start a "
                 "fresh destination and run `qmig migrate` again.";
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
        if (phase < QMIG_PHASE_FINISH && job->owner == QMIG_OWNER_DESTINATION) {
            return true;
        }
        /* The finish phase's undo has settled it all: perform's must not ask again. */
        if (i == QMIG_PHASE_FINISH) {
            i = QMIG_PHASE_PERFORM;
        }
    }
    return false;
}

QmigOutcome
qmig_job_run(QmigJob *job, GError **error)
{
    job->begin_us = qmig_now_us();
    for (int phase = 0; phase < QMIG_N_PHASES; phase++) {
        g_autoptr(GError) local = NULL;

        job->phase = (QmigPhase)phase;
        if (job->watcher->phase != NULL) {
            job->watcher->phase(job->data, job->phase);
        }
        if (run_phase(job, &qmig_phases[phase], &local)) {
            continue;
        }
        if (undo_phases(job, job->phase)) {
            qmig_job_message(job, "%s: too late: the destination has the guest",
                             local->message);
            phase = QMIG_PHASE_SWITCHOVER;
            continue;
        }
        job->outcome = judge_outcome(job, job->phase, local);
        job->error = g_error_new(local->domain, local->code, "%s: %s\n%s",
                                 qmig_phase_name(job->phase), local->message,
                                 advice(job, job->phase));
        g_propagate_error(error, g_error_copy(job->error));
        return job->outcome;
    }
    job->outcome = QMIG_OUTCOME_DONE;
    return job->outcome;
}
