/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who owns the guest after something broke.
 *
 * The rule: the guest is the source's until the source says "completed", which it says only
 * after the destination has told, on the return path, that it loaded everything. Then it is
 * the destination's. What cannot be proven is UNCLEAR, and nothing is touched any more.
 *
 *     source says                     proven besides               owner
 *     cancelled, failed, none         its guest is as it was       source
 *       its guest does not come back  destination gone: cont       source
 *     completed                                                    destination
 *     nothing: its process is dead    destination has loaded all   destination
 *     nothing                                                      unclear
 *     post-copy, COLO                                              unclear
 */
#include "job/hook.h"
#include "job/rescue.h"
#include "job/steps.h"
#include "util/error.h"

#include <string.h>

enum {
    /* QEMU answers within milliseconds unless its main loop is blocked by a write: in the
     * device phase that lasts as long as the downtime. */
    PATIENCE_MS = 10000,
    /* cancelling -> cancelled waits for the migration thread. */
    CANCEL_TIMEOUT_MS = 30000,
    /* failed/cancelled -> the guest resumed. */
    RESUME_TIMEOUT_MS = 5000,
    /* A destination that has the whole stream loads it; one that has not exits. */
    LOAD_TIMEOUT_MS = 10000,
    POLL_MS = 20,
};

uint32_t
qmig_job_allowance_ms(const QmigJob *job)
{
    JsonObject *limit = NULL;

    if (!json_object_object_get_ex(job->source_params, "downtime-limit", &limit)) {
        json_object_object_get_ex(job->source.parameters, "downtime-limit", &limit);
    }
    return 3 * (uint32_t)CLAMP(json_object_get_int64(limit), 0, 2000000);
}

uint32_t
qmig_job_patience_ms(const QmigJob *job)
{
    uint32_t patience_ms = job->options->patience_ms;

    return (patience_ms > 0 ? patience_ms : PATIENCE_MS) + qmig_job_allowance_ms(job);
}

/* The source hangs in a write to its migration socket: shut it, from the one end or the other. */
static bool
free_source(QmigJob *job, GError **error)
{
    qmig_storage_release_source(job);
    if (qmig_qmp_has_oob(job->source.qmp)) {
        qmig_job_message(job, "source: no answer: its migration sockets are shut (yank)");
        return qmig_qmp_yank_migration(job->source.qmp, error);
    }
    if (job->proxy == NULL) {
        return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                              "source: no answer, and nothing to shut its sockets with");
    }
    qmig_job_message(job, "source: no answer: the proxy closes its connections");
    (void)qmig_job_stats(job);
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    return true;
}

/* @job->source_hangs: it did not answer before; no second patience with it. */
static bool
ask_source(QmigJob *job, QmigMigrationInfo *info, GError **error)
{
    uint32_t patience_ms = qmig_job_patience_ms(job);
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(patience_ms) };
    g_autoptr(GError) local = NULL;

    if (job->source.qmp == NULL) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED, "source: there is no connection");
    }
    if (!job->source_hangs &&
        qmig_qmp_query_migrate(job->source.qmp, info, &call, &local)) {
        return true;
    }
    if (!job->source_hangs && !g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    job->source_hangs = false;
    if (!free_source(job, error)) {
        return false;
    }
    call.deadline = qmig_deadline_in_ms(patience_ms);
    return qmig_qmp_query_migrate(job->source.qmp, info, &call, error);
}

/* An answer that went wrong says nothing about the guest; a peer that is gone or hangs does. */
static bool
is_worth_asking_again(const GError *error, QmigDeadline deadline)
{
    return !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED) &&
           !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT) &&
           qmig_now_us() < deadline;
}

/* Bring the source's migration to an end, by cancelling it where that is safe. */
static bool
end_migration(QmigJob *job, QmigMigrationStatus *status, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(CANCEL_TIMEOUT_MS);
    bool cancel_sent = false;

    for (;;) {
        g_auto(QmigMigrationInfo) info = { 0 };
        g_autoptr(GError) wrong = NULL;

        if (!ask_source(job, &info, &wrong)) {
            if (is_worth_asking_again(wrong, deadline)) {
                g_usleep(POLL_MS * 1000);
                continue;
            }
            g_propagate_error(error, g_steal_pointer(&wrong));
            return false;
        }
        *status = info.status;
        if (!cancel_sent && (info.status == QMIG_STATUS_CANCELLED ||
                             info.status == QMIG_STATUS_CANCELLING)) {
            job->cancelled_elsewhere = true;
        }
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

bool
qmig_job_end_destination(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    if (qmig_side_end(&job->destination, &error)) {
        return true;
    }
    /* The usual end over the network: it went with its stream. Nobody can see more from here. */
    if (g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        return false;
    }
    /* Stopped or stuck, it would hold a copy of the guest that somebody could continue. */
    if (qmig_side_kill(&job->destination)) {
        qmig_job_message(job, "%s: its process was killed", error->message);
        return true;
    }
    qmig_job_message(job,
                     "%s; it may hold a copy of the guest, which must never run: kill it",
                     error->message);
    return false;
}

/* Between migrating and running: QEMU has not brought its guest back, or could not. */
static bool
is_limbo(const char *state)
{
    return strcmp(state, "finish-migrate") == 0 || strcmp(state, "postmigrate") == 0;
}

/* Wait until the source's guest is as it was before. */
static bool
await_source_guest(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(RESUME_TIMEOUT_MS);

    for (;;) {
        g_autofree char *state = NULL;
        g_autoptr(GError) wrong = NULL;
        bool running;

        if (!qmig_qmp_query_status(job->source.qmp, &running, &state, NULL, &wrong)) {
            if (is_worth_asking_again(wrong, deadline)) {
                g_usleep(POLL_MS * 1000);
                continue;
            }
            g_propagate_error(error, g_steal_pointer(&wrong));
            return false;
        }
        if (running || strcmp(state, "suspended") == 0) {
            return true;
        }
        if (!job->guest_runs) {
            if (strcmp(state, "postmigrate") == 0) {
                qmig_job_message(job, "source: the stopped guest is \"postmigrate\" now: "
                                      "QEMU migrates it again only after cont and stop");
            }
            return true;
        }
        /* It was stopped when its migration ended, and so QEMU does not let it run. */
        bool stays = strcmp(state, "postmigrate") == 0;
        if (stays || qmig_now_us() >= deadline) {
            /* Stopped for a reason of its own, such as a disk's error: still the source's. */
            if (!is_limbo(state)) {
                qmig_job_message(job, "source: the guest is \"%s\"", state);
                return true;
            }
            return qmig_set_error(
                error, QMIG_ERROR_STATE,
                "source: the guest stays \"%s\" after its migration ended", state);
        }
        g_usleep(POLL_MS * 1000);
    }
}

bool
qmig_job_revive_source(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_job_end_destination(job) &&
        !qmig_fence(
            job, &job->destination,
            "it is not proven gone, and the guest must run on the source again")) {
        qmig_job_message(job,
                         "the destination is not proven gone: the source's guest stays "
                         "stopped");
        return false;
    }
    qmig_steps_note(job, "revive", NULL);
    if (job->migrate_sent && !job->cont_sent && !job->cont_noted &&
        !qmig_rescue_source(job, &error)) {
        qmig_job_message(job, "%s", error->message);
        return false;
    }
    if (job->guest_runs && !qmig_qmp_cont(job->source.qmp, &error)) {
        qmig_job_message(job, "%s", error->message);
        return false;
    }
    return true;
}

/* It has all of the guest: it left "inmigrate", or does so now. Else it exits. */
static bool
destination_has_loaded(QmigJob *job)
{
    QmigDeadline deadline = qmig_deadline_in_ms(LOAD_TIMEOUT_MS);

    if (job->destination.qmp == NULL) {
        return false;
    }
    do {
        g_auto(QmigMigrationInfo) info = { 0 };
        g_autofree char *state = NULL;
        bool running;

        if (!qmig_qmp_query_migrate(job->destination.qmp, &info, NULL, NULL) ||
            !qmig_qmp_query_status(job->destination.qmp, &running, &state, NULL, NULL) ||
            info.status == QMIG_STATUS_FAILED) {
            return false;
        }
        if (info.status == QMIG_STATUS_COMPLETED && strcmp(state, "inmigrate") != 0) {
            return true;
        }
        g_usleep(POLL_MS * 1000);
    } while (qmig_now_us() < deadline);
    return false;
}

/* The source does not answer. A dead one cannot run the guest; who has it all, has it. */
static QmigOwner
owner_without_source(QmigJob *job)
{
    QmigSide *source = &job->source;

    (void)!qmig_side_dispatch(source, NULL);
    /* Fencing a source that has the only whole guest would be the end of it. */
    if (!qmig_side_is_dead(source) &&
        (!destination_has_loaded(job) ||
         !qmig_fence(job, source,
                     "it does not answer, and the destination has all of the guest"))) {
        return QMIG_OWNER_UNCLEAR;
    }
    source->closed = true;
    if (source->stopped_us > 0 && source->resumed_us > source->stopped_us) {
        qmig_job_message(job,
                         "source: its QEMU is dead, after its guest had run on: what "
                         "the destination has is older");
        return QMIG_OWNER_UNCLEAR;
    }
    if (source->guest_shut_down) {
        job->where = g_strdup(
            "The guest has shut itself down on the source, whose QEMU has "
            "ended.");
        return QMIG_OWNER_UNCLEAR;
    }
    if (!destination_has_loaded(job)) {
        job->where = g_strdup(
            job->destination.unreachable
                ? "The source's QEMU is dead, and the destination, which may have the "
                  "guest, cannot be reached."
                : "The source's QEMU is dead, and the destination has not got all "
                  "of the guest: its memory is lost.");
        return QMIG_OWNER_UNCLEAR;
    }
    qmig_job_message(job,
                     "source: its QEMU is dead; the destination has loaded all of the "
                     "guest and takes over");
    return QMIG_OWNER_DESTINATION;
}

static QmigOwner
find_owner(QmigJob *job, GError **error)
{
    QmigMigrationStatus status = QMIG_STATUS_NONE;

    if (!job->migrate_sent) {
        return QMIG_OWNER_SOURCE;
    }
    if (!end_migration(job, &status, error)) {
        return owner_without_source(job);
    }
    if (status == QMIG_STATUS_COMPLETED) {
        return QMIG_OWNER_DESTINATION;
    }
    if (status == QMIG_STATUS_POSTCOPY && job->options->postcopy) {
        job->postcopy.goes_on = true;
        return QMIG_OWNER_SOURCE;
    }
    if (status == QMIG_STATUS_POSTCOPY || status == QMIG_STATUS_COLO) {
        qmig_set_error(error, QMIG_ERROR_STATE,
                       "source: in its state no cancel can bring the guest back");
        return QMIG_OWNER_UNCLEAR;
    }
    if (qmig_job_release_source(job, error) && await_source_guest(job, error)) {
        return QMIG_OWNER_SOURCE;
    }
    return qmig_job_revive_source(job) ? QMIG_OWNER_SOURCE : QMIG_OWNER_UNCLEAR;
}

void
qmig_job_settle(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    job->owner = find_owner(job, &error);
    /* That it is gone has been said. */
    if (error != NULL && !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        qmig_job_message(job, "%s", error->message);
    }
}

/* `cont` was sent and did nothing: QEMU answers what came after it, and nothing ran. */
static bool
cont_had_no_effect(QmigJob *job)
{
    bool running = true;

    return job->destination.qmp != NULL &&
           qmig_qmp_query_status(job->destination.qmp, &running, NULL, NULL, NULL) &&
           qmig_side_dispatch(&job->destination, NULL) && !running &&
           job->destination.resumed_us == 0;
}

void
qmig_job_roll_back(QmigJob *job)
{
    job->owner = QMIG_OWNER_UNCLEAR;
    if (job->source.closed) {
        qmig_job_message(job, "the source is gone: only the destination has the guest");
        return;
    }
    if ((job->cont_sent && !job->lifeless && !cont_had_no_effect(job)) ||
        job->cont_noted) {
        qmig_job_message(
            job, "the destination was told to run the guest and may have done so");
        return;
    }
    if (job->postcopy.entered) {
        job->where = g_strdup(
            "The destination has the guest, or nobody: in post-copy the "
            "source's memory is old.");
        return;
    }
    if (!qmig_job_revive_source(job)) {
        return;
    }
    qmig_job_message(job, "the destination is gone and never ran the guest: it is on the "
                          "source again");
    job->owner = QMIG_OWNER_SOURCE;
}
