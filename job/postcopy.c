/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Post-copy in the job: how it begins, the destination's guest, and resuming a broken link.
 *
 *     source says            destination says     what is done
 *     active                 listening            stop the source, migrate-start-postcopy
 *     postcopy-device        paused (-S)          wait; when nothing comes, yank: it fails
 *     postcopy-active        paused (-S)          cont
 *     postcopy-active        postcopy-paused      migrate-pause on the source
 *     nothing sent for long                       migrate-pause on the source
 *     postcopy-paused        postcopy-active      migrate-pause on the destination
 *     postcopy-paused        postcopy-paused      migrate-recover there, migrate resume here
 *     failed                 never continued      the source's memory is whole: cont there
 *     failed                 completed            goes on on the destination
 *     completed                                   the destination has all of it
 */
#include "job/part.h"
#include "job/steps.h"
#include "util/error.h"
#include "util/socket.h"
#include "util/units.h"

#include <string.h>

enum {
    /* A link that stood still so long is bad, … */
    STALL_US = G_USEC_PER_SEC,
    /* … and is not trusted before it has done well for so long. */
    TRUST_US = 5 * G_USEC_PER_SEC,
    /* Both ends notice a break within milliseconds; a connect may take its time. */
    NOTICE_US = G_USEC_PER_SEC,
    RESUME_US = 15 * G_USEC_PER_SEC,
    MAX_BACKOFF_US = 5 * G_USEC_PER_SEC,
    MAX_REFUSALS = 3,
    PROBE_MS = 2000,
    FIRST_PROBE_MS = 500,
    DISCARD_PORT = 9,
    RECOVER_MS = 60000,
    /* In the list of plugins: "stats" and the NULL at its end. */
    N_OWN_PLUGINS = 2,
    /* A destination that loaded everything says so at once. */
    LOADED_US = 5 * G_USEC_PER_SEC,
};

/* What the destination says. */
typedef struct {
    QmigMigrationInfo info;
    char *run_state;
    bool running;
} Word;

static void
word_clear(Word *word)
{
    qmig_migration_info_clear(&word->info);
    g_clear_pointer(&word->run_state, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Word, word_clear)

static bool
says(const QmigMigrationInfo *info, const char *status)
{
    return g_strcmp0(info->status_text, status) == 0;
}

/* ---- how it begins ---------------------------------------------------------------------- */

void
qmig_postcopy_watch_link(QmigJob *job)
{
    QmigPostcopy *pc = &job->postcopy;
    int64_t now = qmig_now_us();

    if (pc->sent_us == 0 || job->info.transferred != pc->sent) {
        pc->sent = job->info.transferred;
        pc->sent_us = now;
    } else if (now - pc->sent_us > STALL_US) {
        pc->stalled_us = now;
    }
}

const char *
qmig_postcopy_objection(QmigJob *job)
{
    const QmigPostcopy *pc = &job->postcopy;

    return pc->stalled_us != 0 && qmig_now_us() - pc->stalled_us < TRUST_US
               ? "the link has just stood still for more than a second; post-copy over a bad "
                 "link puts the guest at risk"
               : NULL;
}

/*
 * Does anybody answer at the destination's host? Not at the migration's own port: the connection
 * would be taken for the source's, and QEMU (7.2, 11.1) ends when it says nothing.
 */
static bool
ask_host(QmigJob *job, uint32_t timeout_ms, GError **error)
{
    g_autoptr(QmigAddress) host = qmig_address_copy(job->endpoints.connect);

    host->port = DISCARD_PORT;
    if (!qmig_socket_probe_host(host, qmig_deadline_in_ms(timeout_ms),
                                qmig_job_cancel(job), error)) {
        g_prefix_error(error, "destination: ");
        return false;
    }
    return true;
}

/* While the link is whole: could it be asked when it breaks? */
static void
get_to_know_host(QmigJob *job)
{
    if (!job->options->direct && job->rehearsal == NULL && job->via == NULL) {
        job->postcopy.host = ask_host(job, FIRST_PROBE_MS, NULL) ? HOST_ANSWERS
                                                                 : HOST_IS_SILENT;
    }
}

bool
qmig_postcopy_ask(QmigJob *job, GError **error)
{
    g_autoptr(GError) local = NULL;

    get_to_know_host(job);

    if (!qmig_job_hold_source(job, error)) {
        return false;
    }
    if (!qmig_steps_put(job, "postcopy", error)) {
        return false;
    }
    job->postcopy.asked = true;
    if (qmig_qmp_start_postcopy(job->source.qmp, &local)) {
        return true;
    }
    if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_QMP)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    qmig_job_message(job, "%s; it goes on without post-copy", local->message);
    return job->suspended || qmig_job_release_source(job, error);
}

/* ---- resuming --------------------------------------------------------------------------- */

uint32_t
qmig_postcopy_recover_ms(const QmigJob *job)
{
    return job->options->recover_ms > 0 ? job->options->recover_ms : RECOVER_MS;
}

static bool
tried_long_enough(const QmigJob *job)
{
    const QmigPostcopy *pc = &job->postcopy;

    return pc->broken_us != 0 &&
           qmig_now_us() - pc->broken_us > (int64_t)qmig_postcopy_recover_ms(job) * 1000;
}

static void
note_break(QmigJob *job, const char *why)
{
    QmigPostcopy *pc = &job->postcopy;

    if (pc->broken_us != 0) {
        return;
    }
    pc->broken_us = qmig_now_us();
    pc->breaks++;
    pc->tries = 0;
    pc->next_try_us = 0;
    pc->listens = false;
    if (pc->breaks == 1 &&
        (job->options->record != NULL || job->options->plugins->len > N_OWN_PLUGINS)) {
        qmig_job_message(job, "what is resumed goes past --plugin and --record: it has "
                              "no head");
    }
    if (!pc->pause_asked) {
        qmig_job_decide(job, "resume post-copy", "%s", why);
    }
}

static void
note_resumed(QmigJob *job)
{
    QmigPostcopy *pc = &job->postcopy;
    g_autofree char *dark = NULL;

    if (pc->broken_us == 0) {
        return;
    }
    dark = qmig_format_duration((uint64_t)(qmig_now_us() - pc->broken_us) / 1000);
    qmig_job_message(job, "post-copy goes on after %s (break %u, %u %s)", dark,
                     pc->breaks, pc->tries, pc->tries == 1 ? "try" : "tries");
    pc->broken_us = 0;
    pc->sent_us = qmig_now_us();
}

/* It was tried long enough, or shall not be tried. */
static bool
give_up(QmigJob *job, GError **error)
{
    QmigPostcopy *pc = &job->postcopy;
    g_autofree char *limit = qmig_format_duration(qmig_postcopy_recover_ms(job));

    pc->recoverable = true;
    return pc->pause_asked
               ? qmig_set_error(error, QMIG_ERROR_STATE, "post-copy is paused, as asked")
               : qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                "post-copy is paused: the link broke, and could not be "
                                "resumed within %s",
                                limit);
}

/* An error of one command: what else stands in the way is found at the next try. */
static void
tell_once(QmigJob *job, const GError *error)
{
    QmigPostcopy *pc = &job->postcopy;

    if (pc->tries <= 1 && g_strcmp0(pc->told, error->message) != 0) {
        qmig_job_message(job, "%s", error->message);
        g_free(pc->told);
        pc->told = g_strdup(error->message);
    }
}

/* The proxy of the last try; why it ended, it may know. */
static void
drop_proxy(QmigJob *job)
{
    g_autoptr(GError) error = job->proxy != NULL ? qmig_proxy_error(job->proxy) : NULL;

    if (error != NULL) {
        g_prefix_error(&error, "proxy: ");
        tell_once(job, error);
    }
    (void)qmig_job_stats(job);
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    qmig_via_drop_way(job);
}

/*
 * 7.2's source waits for ever when a resumed link breaks before the destination has answered: it
 * is resumed only over a link that is whole. A firewall may swallow the question, always: then it
 * is tried all the same, though late where it is not known.
 */
static bool
is_reachable(QmigJob *job)
{
    QmigPostcopy *pc = &job->postcopy;
    g_autoptr(GError) error = NULL;
    int64_t dark_us = qmig_now_us() - pc->broken_us;
    bool late = dark_us > (int64_t)qmig_postcopy_recover_ms(job) * 500;

    if (job->via != NULL) {
        if (qmig_via_forward(job, &error)) {
            return true;
        }
        tell_once(job, error);
        return false;
    }
    if (job->options->direct || pc->host == HOST_IS_SILENT ||
        ask_host(job, PROBE_MS, &error)) {
        return true;
    }
    if (late && pc->host == HOST_IS_NOT_KNOWN &&
        g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT)) {
        return true;
    }
    tell_once(job, error);
    return false;
}

/* One try: a new way from the source to the destination. */
static void
try_resume(QmigJob *job)
{
    QmigPostcopy *pc = &job->postcopy;
    g_autofree char *listen = qmig_address_to_string(job->endpoints.connect);
    g_autofree char *connect = NULL;
    g_autoptr(GError) error = NULL;

    drop_proxy(job);
    pc->tries++;
    pc->next_try_us = qmig_now_us() +
                      MIN((int64_t)pc->tries * G_USEC_PER_SEC, MAX_BACKOFF_US);
    if (!is_reachable(job)) {
        return;
    }
    if (!qmig_qmp_migrate_recover(job->destination.qmp, listen, &error)) {
        /* One that listens since the last try refuses, and is right. */
        if (!pc->listens) {
            tell_once(job, error);
            return;
        }
        g_clear_error(&error);
    }
    pc->listens = true;
    /* Of a migration whose qmig has ended, the port that the kernel chose is not known. */
    if (!qmig_job_find_port(job, &error) || !qmig_job_start_proxy(job, &error)) {
        tell_once(job, error);
        return;
    }
    connect = qmig_address_to_string(qmig_job_target(job));
    if (!qmig_qmp_migrate_resume(job->source.qmp, connect, &error)) {
        tell_once(job, error);
        return;
    }
    pc->resumed_us = qmig_now_us();
}

/* False: QEMU refused. */
static bool
force_pause(QmigJob *job, const QmigSide *side)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_qmp_migrate_pause(side->qmp, &error)) {
        tell_once(job, error);
        return !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_QMP);
    }
    return true;
}

/* The source has sent its last page, and the link has lost it: nobody can send it again. */
static void
tell_end_is_lost(QmigJob *job)
{
    if (job->cont_sent && job->where == NULL) {
        job->where = g_strdup(
            "The guest runs on the destination as long as it needs none of "
            "the pages that were lost at the end; the source cannot "
            "resume.");
    }
}

/* The source is paused: nothing moves. */
static bool
resume(QmigJob *job, const Word *there, GError **error)
{
    QmigPostcopy *pc = &job->postcopy;
    int64_t now = qmig_now_us();

    note_break(job, "the link broke");
    if (pc->pause_asked || tried_long_enough(job)) {
        return give_up(job, error);
    }
    if (now < pc->next_try_us) {
        return true;
    }
    if (says(&there->info, "postcopy-active") || says(&there->info, "postcopy-device")) {
        if (now - pc->broken_us > NOTICE_US) {
            (void)force_pause(job, &job->destination);
        }
        return true;
    }
    try_resume(job);
    return true;
}

/* The destination is paused, the source is not: 7.2's never will be when it has sent its last
 * page, which its refusals tell. */
static bool
pause_source(QmigJob *job, GError **error)
{
    QmigPostcopy *pc = &job->postcopy;
    int64_t now = qmig_now_us();

    if (pc->there_paused_us == 0) {
        pc->there_paused_us = now;
        pc->refusals = 0;
    } else if (now - pc->there_paused_us > NOTICE_US) {
        note_break(job, "the destination's link broke");
        pc->refusals += !force_pause(job, &job->source) &&
                        says(&job->info, "postcopy-active");
        pc->there_paused_us = now;
    }
    if (pc->refusals >= MAX_REFUSALS && job->info.remaining == 0) {
        tell_end_is_lost(job);
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "source: the link broke after the last page was sent, and "
                              "it refuses to be paused and resumed");
    }
    return !tried_long_enough(job) || give_up(job, error);
}

/* The source waits for the destination's word that it has the devices: from 10.1 on that is a
 * state of its own, which cannot be paused. Until it comes, the source has all of the guest. */
static bool
watch_devices(QmigJob *job, GError **error)
{
    QmigPostcopy *pc = &job->postcopy;
    int64_t patience_us = (int64_t)qmig_job_patience_ms(job) * 1000;
    g_autoptr(GError) local = NULL;

    if (qmig_now_us() - pc->sent_us > patience_us) {
        note_break(job, "the destination does not say that it has the devices");
        if (tried_long_enough(job)) {
            return give_up(job, error);
        }
        if (!qmig_qmp_yank_migration(job->source.qmp, &local)) {
            tell_once(job, local);
        }
        pc->sent_us = qmig_now_us();
    }
    return true;
}

/* The source is at it; but is it? */
static bool
watch_stall(QmigJob *job, const Word *there, GError **error)
{
    QmigPostcopy *pc = &job->postcopy;
    int64_t now = qmig_now_us();
    bool recovering = strstr(job->info.status_text, "recover") != NULL;
    int64_t patience_us = (int64_t)qmig_job_patience_ms(job) * 1000;

    if (recovering) {
        /* QEMU 7.2 can stay so for ever when a resumed link breaks at once. */
        if (tried_long_enough(job)) {
            return give_up(job, error);
        }
        if (now - pc->resumed_us > RESUME_US) {
            (void)force_pause(job, &job->source);
            pc->resumed_us = now;
        }
        return true;
    }
    if (says(&there->info, "postcopy-paused")) {
        return pause_source(job, error);
    }
    pc->there_paused_us = 0;
    if (now - pc->sent_us > patience_us && job->info.remaining > 0) {
        qmig_job_message(job, "post-copy: nothing has been sent for a while: the link is "
                              "taken for broken");
        (void)force_pause(job, &job->source);
        pc->sent_us = now;
        return true;
    }
    note_resumed(job);
    return true;
}

/* ---- the guest on the destination ------------------------------------------------------- */

static bool
ask_destination(QmigJob *job, Word *word, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(qmig_job_patience_ms(job)) };

    return qmig_side_dispatch(&job->destination, error) &&
           qmig_qmp_query_migrate(job->destination.qmp, &word->info, &call, error) &&
           qmig_qmp_query_status(job->destination.qmp, &word->running, &word->run_state,
                                 &call, error);
}

/* There is no way back: it is continued even if that cannot be written. */
static void
note_cont(QmigJob *job)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_steps_put(job, "cont", &error)) {
        qmig_job_message(job, "%s", error->message);
    }
}

/* One answer that goes wrong is asked for again: there is no way back. */
static bool
run_now(QmigJob *job, GError **error)
{
    g_autoptr(GError) local = NULL;

    if (!job->cont_sent) {
        note_cont(job);
    }
    job->cont_sent = true;
    if (!qmig_qmp_cont(job->destination.qmp, &local)) {
        if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
        qmig_job_message(job, "%s", local->message);
    }
    return true;
}

/* It has loaded the devices, and the source cannot run the guest: it is the destination's. */
static bool
run_there(QmigJob *job, const Word *there, GError **error)
{
    bool shall_run = job->guest_runs && !job->options->suspend;

    if (there->run_state == NULL || strcmp(there->run_state, "inmigrate") == 0) {
        return true;
    }
    if (job->owner != QMIG_OWNER_DESTINATION) {
        job->owner = QMIG_OWNER_DESTINATION;
        if (!shall_run) {
            job->running_us = qmig_now_us();
        }
    }
    if (shall_run && !there->running && job->running_us == 0) {
        return run_now(job, error);
    }
    if (shall_run && there->running && job->running_us == 0) {
        job->running_us = qmig_now_us();
    }
    return true;
}

/* ---- the phase -------------------------------------------------------------------------- */

static void
enter(QmigJob *job)
{
    job->postcopy.entered = true;
    job->postcopy.sent_us = qmig_now_us();
    if (!job->source_held && job->guest_runs) {
        qmig_job_message(
            job, "somebody else switched over to post-copy: should the link break "
                 "at its very end, QEMU could let the source's guest run again");
    }
}

/* No word from the source. A dead one has nothing more to give. */
static QmigStep
without_source(QmigJob *job, GError *local, GError **error)
{
    QmigDeadline deadline = qmig_now_us() + LOADED_US;

    if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        note_break(job, local->message);
        g_error_free(local);
        return !tried_long_enough(job) || give_up(job, error) ? QMIG_STEP_AGAIN
                                                              : QMIG_STEP_FAILED;
    }
    job->source.closed = true;
    do {
        g_auto(Word) there = { 0 };
        if (!ask_destination(job, &there, NULL)) {
            break;
        }
        if (there.info.status == QMIG_STATUS_COMPLETED &&
            qmig_side_is_dead(&job->source)) {
            qmig_job_message(job, "%s; the destination has all of the guest",
                             local->message);
            g_error_free(local);
            return QMIG_STEP_NEXT;
        }
        g_usleep(50000);
    } while (qmig_now_us() < deadline);
    g_propagate_error(error, local);
    job->where = g_strdup(
        "The guest is lost: a part of its memory was only on the source, "
        "whose QEMU is gone.");
    return QMIG_STEP_FAILED;
}

static QmigStep
without_destination(QmigJob *job, GError *local, GError **error)
{
    QmigPostcopy *pc = &job->postcopy;

    if (qmig_via_forgives(job, local) ||
        (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED) && qmig_via_regain(job))) {
        g_error_free(local);
        return QMIG_STEP_AGAIN;
    }
    if (!g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        note_break(job, local->message);
        g_error_free(local);
        pc->mute = true;
        return pause_source(job, error) ? QMIG_STEP_AGAIN : QMIG_STEP_FAILED;
    }
    g_propagate_error(error, local);
    job->where = g_strdup(
        job->cont_sent
            ? "The guest is lost: it ran on the destination, whose QEMU is gone, and the "
              "source's memory is old."
            : "The guest runs nowhere: the destination's QEMU is gone before it was "
              "continued, and the source's, in post-copy, lets its guest not run again, "
              "though its memory is whole.");
    return QMIG_STEP_FAILED;
}

/*
 * A device of the guest touches a page that is not there: until the link is back the destination's
 * main loop waits, and only out-of-band commands are answered, on a connection that is open
 * already. Others would but fill its queue.
 */
static QmigStep
resume_mute(QmigJob *job, GError **error)
{
    const Word unknown = { 0 };
    GError *local = NULL;

    if (!qmig_side_dispatch(&job->destination, &local)) {
        return without_destination(job, local, error);
    }
    return resume(job, &unknown, error) ? QMIG_STEP_AGAIN : QMIG_STEP_FAILED;
}

/* The source gave up by itself, at the very end or at the very beginning. */
static QmigStep
source_failed(QmigJob *job, const Word *there, GError **error)
{
    if (there->info.status == QMIG_STATUS_COMPLETED) {
        qmig_job_message(job,
                         "source: it says \"failed\", but the destination has all of "
                         "the guest");
        return QMIG_STEP_NEXT;
    }
    tell_end_is_lost(job);
    qmig_job_tell_failure(job, error);
    return QMIG_STEP_FAILED;
}

static QmigStep
judge(QmigJob *job, const Word *there, GError **error)
{
    QmigMigrationStatus status = job->info.status;

    if (status == QMIG_STATUS_COMPLETED) {
        return QMIG_STEP_NEXT;
    }
    if (there->info.status == QMIG_STATUS_COMPLETED && job->running_us != 0 &&
        job->info.remaining == 0 && qmig_now_us() - job->postcopy.sent_us > LOADED_US) {
        /* So does 7.2 when the link breaks before the destination's last word. */
        qmig_job_message(job,
                         "source: it stays \"%s\", but the destination has all of the "
                         "guest",
                         job->info.status_text);
        return QMIG_STEP_NEXT;
    }
    if (status == QMIG_STATUS_FAILED) {
        return source_failed(job, there, error);
    }
    if (status == QMIG_STATUS_CANCELLED || status == QMIG_STATUS_CANCELLING) {
        qmig_set_error(error, QMIG_ERROR_STATE,
                       "source: somebody cancelled it in post-copy");
        return QMIG_STEP_FAILED;
    }
    if (says(&job->info, "postcopy-device")) {
        return watch_devices(job, error) && qmig_parts_watch(job, error)
                   ? QMIG_STEP_AGAIN
                   : QMIG_STEP_FAILED;
    }
    if (!run_there(job, there, error)) {
        return QMIG_STEP_FAILED;
    }
    if (says(&job->info, "postcopy-paused")) {
        return resume(job, there, error) ? QMIG_STEP_AGAIN : QMIG_STEP_FAILED;
    }
    return watch_stall(job, there, error) && qmig_parts_watch(job, error)
               ? QMIG_STEP_AGAIN
               : QMIG_STEP_FAILED;
}

/* While the tunnel is dark both QEMUs wait, and take no harm: nothing is broken yet. A monitor that
 * was lost with it is found again in the meantime. */
static bool
is_held_by_tunnel(QmigJob *job)
{
    QmigPostcopy *pc = &job->postcopy;

    if (!qmig_via_is_dark(job) || pc->pause_asked) {
        return false;
    }
    pc->sent_us = qmig_now_us();
    pc->there_paused_us = 0;
    return !job->destination.closed;
}

QmigStep
qmig_postcopy_tick(QmigJob *job, GError **error)
{
    g_auto(Word) there = { 0 };
    GError *local = NULL;

    if (!job->postcopy.entered) {
        if (job->info.status != QMIG_STATUS_POSTCOPY && !job->postcopy.goes_on) {
            return QMIG_STEP_NEXT;
        }
        enter(job);
    }
    if (!qmig_job_observe(job, &local)) {
        return without_source(job, local, error);
    }
    if (is_held_by_tunnel(job)) {
        return QMIG_STEP_AGAIN;
    }
    if (job->postcopy.mute && says(&job->info, "postcopy-paused")) {
        return resume_mute(job, error);
    }
    if (job->info.status != QMIG_STATUS_COMPLETED &&
        !ask_destination(job, &there, &local)) {
        return without_destination(job, local, error);
    }
    job->postcopy.mute = false;
    return judge(job, &there, error);
}

void
qmig_postcopy_undo(QmigJob *job)
{
    const QmigPostcopy *pc = &job->postcopy;

    if (!pc->entered) {
        return;
    }
    if (pc->recoverable) {
        job->owner = QMIG_OWNER_DESTINATION;
        job->where = g_strdup(
            "The guest is on the destination, and stands still where it needs "
            "memory that is still on the source. Keep both QEMUs.");
        job->next =
            "When the link is whole again: `qmig recover` with the address of either.";
        return;
    }
    if (!job->cont_sent && !job->source.closed &&
        (job->info.status == QMIG_STATUS_POSTCOPY ||
         job->info.status == QMIG_STATUS_FAILED ||
         job->info.status == QMIG_STATUS_CANCELLED) &&
        qmig_job_revive_source(job)) {
        job->owner = QMIG_OWNER_SOURCE;
        g_clear_pointer(&job->where, g_free);
        return;
    }
    job->owner = QMIG_OWNER_UNCLEAR;
}
