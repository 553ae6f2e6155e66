/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who owns the guest after something broke.
 *
 * The rule: the guest is the source's until the source says "completed", which it says only
 * after the destination has told, on the return path, that it loaded everything. Then it is
 * the destination's. What cannot be proven is UNCLEAR, and nothing is touched any more.
 */
#include "job/job-priv.h"
#include "util/error.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

enum {
    /* QEMU answers within milliseconds unless its main loop is blocked by a write. */
    ANSWER_TIMEOUT_MS = 5000,
    /* cancelling -> cancelled waits for the migration thread. */
    CANCEL_TIMEOUT_MS = 30000,
    /* failed/cancelled -> the guest resumed. */
    RESUME_TIMEOUT_MS = 5000,
    POLL_MS = 20,
};

/* query-migrate; a QEMU that does not answer is blocked in a write to its migration socket:
 * shut that socket out of band and ask again. */
static bool
ask_source(QmigJob *job, QmigMigrationInfo *info, GError **error)
{
    QmigSide *source = &job->source;
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(ANSWER_TIMEOUT_MS) };
    g_autoptr(GError) local = NULL;

    if (qmig_qmp_query_migrate(source->qmp, info, &call, &local)) {
        return true;
    }
    if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT) ||
        !qmig_qmp_has_oob(source->qmp)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    qmig_job_message(job,
                     "the source does not answer: shutting its migration sockets (yank)");
    if (!qmig_qmp_yank_migration(source->qmp, error)) {
        return false;
    }
    call.deadline = qmig_deadline_in_ms(ANSWER_TIMEOUT_MS);
    return qmig_qmp_query_migrate(source->qmp, info, &call, error);
}

/* Bring the source's migration to an end, by cancelling it where that is safe. */
static bool
end_migration(QmigJob *job, QmigMigrationStatus *status, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(CANCEL_TIMEOUT_MS);
    bool cancel_sent = false;

    for (;;) {
        g_auto(QmigMigrationInfo) info = { 0 };

        if (!ask_source(job, &info, error)) {
            return false;
        }
        *status = info.status;
        /* Somebody else's cancel also ends the destination, which may have been seen first. */
        job->cancelled |= info.status == QMIG_STATUS_CANCELLED && !cancel_sent;
        if (qmig_status_is_final(info.status) || info.status == QMIG_STATUS_NONE ||
            info.status == QMIG_STATUS_POSTCOPY || info.status == QMIG_STATUS_COLO) {
            return true;
        }
        if (!cancel_sent && info.status != QMIG_STATUS_CANCELLING) {
            g_autoptr(GError) local = NULL;
            cancel_sent = true;
            if (!qmig_qmp_migrate_cancel(job->source.qmp, NULL, &local)) {
                qmig_job_message(job, "%s", local->message);
            }
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "source: the migration stays \"%s\" after a cancel",
                                  info.status_text);
        }
        g_usleep(POLL_MS * 1000);
    }
}

/* Wait until the source's guest is as it was before. */
static bool
await_source_guest(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(RESUME_TIMEOUT_MS);

    for (;;) {
        g_autofree char *state = NULL;
        bool running;

        if (!qmig_qmp_query_status(job->source.qmp, &running, &state, NULL, error)) {
            return false;
        }
        if (running == job->source.running) {
            return true;
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(
                error, QMIG_ERROR_STATE,
                "source: the guest stays \"%s\" after its migration ended", state);
        }
        g_usleep(POLL_MS * 1000);
    }
}

/* Is the process behind a local monitor gone? A zombie is. */
static bool
is_dead(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *stat = NULL;

    if (pid <= 0) {
        return false;
    }
    if (kill(pid, 0) < 0) {
        return errno == ESRCH;
    }
    if (!g_file_get_contents(path, &stat, NULL, NULL)) {
        return false;
    }
    const char *after_name = strrchr(stat, ')');
    return after_name != NULL && g_str_has_prefix(after_name, ") Z");
}

/* Quit the destination; true when it is proven that it cannot run the guest. */
static bool
end_destination(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    if (qmig_side_end(&job->destination, &error)) {
        return true;
    }
    if (is_dead(job->destination.pid)) {
        return true;
    }
    qmig_job_message(job, "%s", error->message);
    return false;
}

void
qmig_job_settle(QmigJob *job)
{
    g_autoptr(GError) error = NULL;
    QmigMigrationStatus status = QMIG_STATUS_NONE;

    job->owner = QMIG_OWNER_SOURCE;
    if (job->migrate_sent && !end_migration(job, &status, &error)) {
        job->owner = QMIG_OWNER_UNCLEAR;
    } else if (status == QMIG_STATUS_POSTCOPY || status == QMIG_STATUS_COLO) {
        job->owner = QMIG_OWNER_UNCLEAR;
        qmig_job_message(job, "the source is in a state that no cancel can leave");
    } else if (status == QMIG_STATUS_COMPLETED) {
        job->owner = QMIG_OWNER_DESTINATION;
    } else if (!await_source_guest(job, &error) &&
               !(end_destination(job) && qmig_qmp_cont(job->source.qmp, NULL))) {
        /* It did not resume by itself, and could not be resumed safely either. */
        job->owner = QMIG_OWNER_UNCLEAR;
    } else {
        g_clear_error(&error);
    }
    if (error != NULL) {
        qmig_job_message(job, "%s", error->message);
    }
    g_clear_error(&error);
    if (job->owner == QMIG_OWNER_SOURCE && !qmig_side_restore(&job->source, &error)) {
        qmig_job_message(job, "source: could not put back its migration settings: %s",
                         error->message);
    }
}

void
qmig_job_roll_back(QmigJob *job)
{
    g_autoptr(GError) error = NULL;
    bool running = false;

    job->owner = QMIG_OWNER_UNCLEAR;
    if (job->cont_sent &&
        !(job->destination.qmp != NULL &&
          qmig_qmp_query_status(job->destination.qmp, &running, NULL, NULL, NULL) &&
          !running && job->destination.resumed_us == 0)) {
        qmig_job_message(
            job, "the destination was told to run the guest and may have done so");
        return;
    }
    if (!end_destination(job)) {
        return;
    }
    if (job->source.running && !qmig_qmp_cont(job->source.qmp, &error)) {
        qmig_job_message(job, "%s", error->message);
        return;
    }
    qmig_job_message(job,
                     "the destination is gone and never ran the guest: it runs on the "
                     "source again");
    job->owner = QMIG_OWNER_SOURCE;
    if (!qmig_side_restore(&job->source, &error)) {
        qmig_job_message(job, "%s", error->message);
    }
}
