/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the job does by itself while memory is copied, by the user's options. */
#include "job/steps.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

enum {
    RELEASE_TIMEOUT_MS = 5000,
    POLL_MS = 20,
};

bool
qmig_job_hold_source(QmigJob *job, GError **error)
{
    if (job->source_held || !job->guest_runs) {
        return true;
    }
    if (!qmig_steps_write(job, "hold", NULL, error) ||
        !qmig_qmp_stop(job->source.qmp, error)) {
        return false;
    }
    job->source_held = true;
    return true;
}

/* Is it a state that `cont` ends? Not yet while the migration is being torn down. @over: (out)
 * there is nothing to continue: it runs, or whoever decides on "postmigrate" does so. */
static bool
query_stopped(QmigJob *job, bool *can_continue, bool *over, GError **error)
{
    bool running;
    g_autofree char *state = NULL;

    if (!qmig_qmp_query_status(job->source.qmp, &running, &state, NULL, error)) {
        return false;
    }
    *can_continue = strcmp(state, "paused") == 0 || strcmp(state, "prelaunch") == 0;
    *over = running || strcmp(state, "postmigrate") == 0;
    return true;
}

bool
qmig_job_release_source(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(RELEASE_TIMEOUT_MS);

    while (job->source_held) {
        bool can_continue, over;

        if (!query_stopped(job, &can_continue, &over, error)) {
            return false;
        }
        if (can_continue) {
            qmig_steps_note(job, "release", NULL);
            if (!qmig_qmp_cont(job->source.qmp, error)) {
                return false;
            }
            job->source_held = false;
        } else if (over || qmig_now_us() >= deadline) {
            job->source_held = false;
        } else {
            g_usleep(POLL_MS * 1000);
        }
    }
    return true;
}

static bool
deadline_has_passed(const QmigJob *job)
{
    return job->options->timeout_ms > 0 &&
           qmig_now_us() - job->begin_us > (int64_t)job->options->timeout_ms * 1000;
}

static bool
suspend_now(QmigJob *job, GError **error)
{
    g_autofree char *limit = qmig_format_duration(job->options->timeout_ms);

    job->suspended = true;
    qmig_job_decide(job, "the guest is stopped until it has arrived",
                    "it is not done within the %s of --timeout", limit);
    return qmig_job_hold_source(job, error);
}

/* Why post-copy shall begin; NULL = it shall not. */
static const char *
reason_for_postcopy(const QmigJob *job)
{
    const QmigJobOptions *options = job->options;

    if (!options->postcopy || job->postcopy.asked ||
        job->info.status != QMIG_STATUS_ACTIVE) {
        return NULL;
    }
    if (job->postcopy.wanted) {
        return "it was asked for";
    }
    if (options->on_timeout == QMIG_ON_TIMEOUT_POSTCOPY && deadline_has_passed(job)) {
        return "it is not done within --timeout";
    }
    /* The second pass has begun. */
    return options->postcopy_after_precopy && job->info.iterations >= 2
               ? "the first pass is over"
               : NULL;
}

bool
qmig_job_follow_policy(QmigJob *job, GError **error)
{
    const char *reason = reason_for_postcopy(job);

    if (reason != NULL) {
        const char *objection = qmig_postcopy_objection(job);
        if (objection != NULL) {
            if (!job->postcopy.objected) {
                qmig_job_decide(job, "post-copy waits", "%s", objection);
            }
            job->postcopy.objected = true;
            return true;
        }
        qmig_job_decide(job, "post-copy", "%s", reason);
        return qmig_postcopy_ask(job, error);
    }
    if (job->options->on_timeout == QMIG_ON_TIMEOUT_SUSPEND && !job->suspended &&
        deadline_has_passed(job)) {
        return suspend_now(job, error);
    }
    return true;
}
