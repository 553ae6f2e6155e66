/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A job is built that stands where the killed one may have stood at most, and then settled like a
 * job that failed there: by what both QEMUs say. From there on it either goes on with the phases
 * that are left, or is undone.
 */
#include "job/recover.h"

#include "job/part.h"
#include "job/steps.h"
#include "job/storage.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/syscall.h>

enum {
    /* What is in use when it shall be removed may be free a little later. */
    UNDO_TIMEOUT_MS = 5000,
    UNDO_POLL_MS = 100,
    /* A source told to switch over to post-copy does so within a pass. */
    ASKED_TIMEOUT_MS = 5000,
    ASKED_POLL_MS = 50,
};

/* ---- from the journal ------------------------------------------------------------------- */

static bool
has(JsonObject *records, const char *step)
{
    return qmig_journal_last(records, step) != NULL;
}

/* When a step was written last; -1 = never. */
static int64_t
when(JsonObject *records, const char *step)
{
    JsonObject *record = qmig_journal_last(records, step);

    return record != NULL ? qmig_json_int(record, "n", -1) : -1;
}

static bool
take_address(JsonObject *object, const char *key, QmigAddress **address, GError **error)
{
    const char *text = object != NULL ? qmig_json_string(object, key) : NULL;

    text = text != NULL && g_str_has_prefix(text, "via:") ? text + strlen("via:") : text;
    *address = text != NULL ? qmig_address_parse(text, error) : NULL;
    return text == NULL || *address != NULL;
}

static QmigJobOptions *
read_options(JsonObject *begin, const char *path, const char *fence, GError **error)
{
    g_autoptr(QmigJobOptions) options = qmig_job_options_new();
    g_autofree char *default_dir = qmig_journal_default_dir();
    g_autofree char *dir = g_path_get_dirname(path);
    JsonObject *asked = qmig_json_get(begin, "options", json_type_object);

    if (!take_address(qmig_json_get(begin, "source", json_type_object), "qmp",
                      &options->source, error) ||
        !take_address(qmig_json_get(begin, "destination", json_type_object), "qmp",
                      &options->destination, error) ||
        !take_address(asked, "migrateuri", &options->migrate_uri, error) ||
        !take_address(asked, "listen", &options->listen, error) ||
        !take_address(asked, "agent", &options->agent, error) ||
        !take_address(asked, "agent_destination", &options->agent_destination, error)) {
        return NULL;
    }
    if (asked == NULL || options->source == NULL || options->destination == NULL) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "journal: %s: its begin names no source, destination or options",
                       path);
        return NULL;
    }
    options->suspend = qmig_json_bool(asked, "suspend", false);
    options->keep_source = qmig_json_bool(asked, "keep_source", false);
    options->direct = qmig_json_bool(asked, "direct", false);
    options->control = true;
    options->postcopy = qmig_json_bool(asked, "postcopy", false);
    options->fence = g_strdup(fence != NULL ? fence : qmig_json_string(asked, "fence"));
    if (!qmig_via_options_from_journal(
            options, qmig_json_get(asked, "via", json_type_object), error)) {
        return NULL;
    }
    options->destination_via = qmig_json_bool(asked, "destination_via", false);
    /* One in the default directory is removed at a clear end. */
    options->journal = strcmp(dir, default_dir) == 0 ? NULL : g_strdup(path);
    return g_steal_pointer(&options);
}

static bool
host_went_down(JsonObject *begin)
{
    g_autoptr(JsonObject) now = qmig_steps_process(getpid());
    JsonObject *then = qmig_json_get(begin, "qmig", json_type_object);

    return then == NULL ||
           g_strcmp0(qmig_json_string(then, "boot"), qmig_json_string(now, "boot")) != 0;
}

/* Where the killed job may have stood at most. */
static void
read_steps(QmigJob *job, JsonObject *records)
{
    JsonObject *begin = qmig_journal_last(records, "begin");
    JsonObject *guest = qmig_journal_last(records, "guest");
    JsonObject *incoming = qmig_journal_last(records, "incoming");

    job->guest_runs = qmig_json_bool(guest != NULL ? guest : begin, "runs", true);
    job->incoming_sent = incoming != NULL;
    job->migrate_sent = has(records, "migrate");
    /* After a crash of this host the last steps may be missing. */
    job->cont_noted = has(records, "cont") ||
                      (job->migrate_sent && host_went_down(begin));
    job->source_held = when(records, "hold") > when(records, "release");
    job->postcopy.asked = has(records, "postcopy");
    if (incoming != NULL) {
        job->endpoints.dir = g_strdup(qmig_json_string(incoming, "dir"));
    }
    if (has(records, "freeze")) {
        qmig_agent_is_frozen(job);
    }
}

/* ---- reaching the sides ----------------------------------------------------------------- */

static void
lose(QmigSide *side)
{
    g_clear_pointer(&side->qmp, qmig_qmp_free);
    side->closed = true;
    side->unreachable = !side->dead;
}

/* The QEMU that answers there is the one the journal means. */
static bool
is_the_same(const QmigSide *side, JsonObject *record)
{
    int64_t pid = qmig_json_int(qmig_json_get(record, "process", json_type_object), "pid",
                                0);

    return (pid == 0 || side->pid == 0 || side->pid == pid) &&
           g_strcmp0(side->uuid, qmig_json_string(record, "uuid")) == 0 &&
           g_strcmp0(side->name, qmig_json_string(record, "name")) == 0 &&
           g_strcmp0(side->machine, qmig_json_string(record, "machine")) == 0;
}

/* Before it was told to listen, a destination may be one like any other. */
static void
take_settings(QmigSide *side, JsonObject *record)
{
    JsonObject *capabilities = qmig_json_get(record, "capabilities", json_type_object);
    JsonObject *parameters = qmig_json_get(record, "parameters", json_type_object);

    if (capabilities != NULL && parameters != NULL) {
        json_object_put(side->capabilities);
        json_object_put(side->parameters);
        side->capabilities = json_object_get(capabilities);
        side->parameters = json_object_get(parameters);
        side->touched = true;
    }
}

/* A QEMU that does not answer has a process all the same, of which its end can be seen. */
static void
know_process(QmigSide *side, JsonObject *process)
{
    int64_t pid = qmig_json_int(process, "pid", 0);

    if (side->pidfd < 0 && pid > 0) {
        side->pid = (pid_t)pid;
        side->pidfd = (int)syscall(SYS_pidfd_open, side->pid, 0);
    }
    /* It may have ended just now, and its number be another's. */
    if (qmig_steps_process_has_ended(process)) {
        side->pid = 0;
        qmig_fd_clear(&side->pidfd);
        side->dead = pid > 0;
        side->unreachable = !side->dead;
    }
}

static void
reach(QmigJob *job, QmigSide *side, const QmigAddress *address, JsonObject *record)
{
    JsonObject *process = qmig_json_get(record, "process", json_type_object);
    g_autoptr(GError) error = NULL;

    if (process != NULL && qmig_steps_process_has_ended(process)) {
        qmig_job_message(job, "%s: its QEMU (process %d) has ended", side->label,
                         (int)qmig_json_int(process, "pid", 0));
        side->dead = true;
        lose(side);
        return;
    }
    if (!qmig_side_begin(side, address, job->cancel, &error)) {
        qmig_job_message(job, "%s", error->message);
        lose(side);
        know_process(side, process);
        return;
    }
    if (!is_the_same(side, record)) {
        qmig_job_message(job,
                         "%s: another QEMU answers at its address than the one of the "
                         "journal: it is not touched",
                         side->label);
        lose(side);
        return;
    }
    take_settings(side, record);
}

static bool
is_reached(const QmigSide *side)
{
    return side->qmp != NULL;
}

static bool
runs(const QmigSide *side)
{
    return is_reached(side) && side->running;
}

/* ---- what was made in them -------------------------------------------------------------- */

/* It says that there is no such thing: done before, or never made. */
static bool
is_gone(const GError *error)
{
    static const char *const words[] = {
        "not found",   "o find",
        "nnot find",   "No active",
        "not running", "does not exist",
        "No such",     "not been added",
        "no active",   "'concluded' cannot accept command verb 'cancel'"
    };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strstr(error->message, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static void
undo_one(QmigJob *job, QmigSide *side, JsonObject *record)
{
    QmigDeadline deadline = qmig_deadline_in_ms(UNDO_TIMEOUT_MS);
    const char *command = qmig_json_string(record, "command");
    JsonObject *arguments = qmig_json_get(record, "arguments", json_type_object);

    while (command != NULL) {
        g_autoptr(GError) error = NULL;

        if (qmig_qmp_execute(side->qmp, command, json_object_get(arguments), NULL, NULL,
                             &error) ||
            is_gone(error)) {
            return;
        }
        if (!g_error_matches(error, QMIG_ERROR, QMIG_ERROR_QMP) ||
            qmig_now_us() >= deadline) {
            qmig_job_message(job, "%s", error->message);
            return;
        }
        g_usleep(UNDO_POLL_MS * 1000);
    }
}

/* Remove what was made for the migration, last one first; @objects: only objects such as
 * credentials, or only all else. */
static void
undo_all(QmigJob *job, QmigSide *side, JsonObject *records, bool objects)
{
    for (size_t i = json_object_array_length(records); i > 0 && is_reached(side); i--) {
        JsonObject *record = json_object_array_get_idx(records, i - 1);
        const char *command = qmig_json_string(record, "command");

        if (g_strcmp0(qmig_json_string(record, "step"), "undo") == 0 &&
            g_strcmp0(qmig_json_string(record, "side"), side->label) == 0 &&
            command != NULL && g_str_has_prefix(command, "object-") == objects) {
            undo_one(job, side, record);
        }
    }
}

/* Mirrors, nodes and exports of a copy of disks go by their names. */
static void
clear_disks(QmigJob *job, QmigSide *side)
{
    g_autoptr(GError) error = NULL;

    if (is_reached(side) && !qmig_storage_clear_leftovers(job, side, &error)) {
        qmig_job_message(job, "%s", error->message);
    }
}

/* ---- who has it ------------------------------------------------------------------------- */

static void
say_where(QmigJob *job, const char *text)
{
    g_free(job->where);
    job->where = g_strdup(text);
}

/* The source runs it again, or has done so: the destination must be gone. */
static void
take_back(QmigJob *job)
{
    if (runs(&job->source) || !job->guest_runs) {
        job->owner = QMIG_OWNER_SOURCE;
    } else if (is_reached(&job->source) && qmig_job_revive_source(job)) {
        job->owner = QMIG_OWNER_SOURCE;
    } else {
        job->owner = QMIG_OWNER_UNCLEAR;
    }
}

/* The source is done: the destination has it, if there is one. */
static void
judge_completed(QmigJob *job)
{
    const QmigSide *destination = &job->destination;

    if (is_reached(destination)) {
        job->owner = QMIG_OWNER_DESTINATION;
        return;
    }
    if (job->cont_noted || job->postcopy.asked) {
        job->owner = QMIG_OWNER_UNCLEAR;
        say_where(job, destination->dead
                           ? "The destination's QEMU is gone, after it may have run the "
                             "guest: what the source has is old."
                           : "The destination has the guest, and cannot be reached.");
        return;
    }
    take_back(job);
}

/* In post-copy the destination was told to run it, and the source says that it failed: what it has
 * is old, though it may let it run. */
static bool
has_gone_over(const QmigJob *job)
{
    return job->postcopy.asked && job->cont_noted && !is_reached(&job->destination) &&
           qmig_status_is_final(job->source.migration);
}

/* The source is gone or silent in post-copy, where only both together have the guest. */
static bool
is_torn(QmigJob *job)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    return !is_reached(&job->source) && job->postcopy.asked &&
           is_reached(&job->destination) &&
           qmig_qmp_query_migrate(job->destination.qmp, &info, NULL, NULL) &&
           info.status == QMIG_STATUS_POSTCOPY;
}

static void
find_owner(QmigJob *job, JsonObject *records)
{
    const QmigSide *source = &job->source, *destination = &job->destination;

    if (runs(source) && runs(destination)) {
        job->owner = QMIG_OWNER_UNCLEAR;
        say_where(job, "Both guests run! Stop one at once: the one that is not in use.");
    } else if (has(records, "revive") ||
               (runs(source) && source->migration == QMIG_STATUS_COMPLETED)) {
        take_back(job);
    } else if (is_torn(job)) {
        job->owner = QMIG_OWNER_UNCLEAR;
        say_where(job, source->dead
                           ? "The guest is lost: a part of its memory was only on "
                             "the source, whose QEMU is gone."
                           : "The guest is in post-copy, and its source cannot be "
                             "reached: keep both QEMUs.");
    } else if (runs(destination)) {
        job->owner = QMIG_OWNER_DESTINATION;
    } else if (is_reached(source) &&
               (source->migration == QMIG_STATUS_COMPLETED || has_gone_over(job))) {
        judge_completed(job);
    } else {
        qmig_job_settle(job);
        if (job->owner == QMIG_OWNER_DESTINATION) {
            judge_completed(job);
        }
    }
}

/* ---- going on --------------------------------------------------------------------------- */

static QmigOutcome
finish(QmigJob *job, JsonObject *records, GError **error)
{
    QmigSide *destination = &job->destination;

    clear_disks(job, destination);
    undo_all(job, destination, records, false);
    /* It ran already, and somebody stopped it, or it stopped itself. */
    if (has(records, "running") || (job->cont_noted && !destination->running &&
                                    strcmp(destination->run_state, "paused") != 0 &&
                                    strcmp(destination->run_state, "inmigrate") != 0)) {
        job->options->suspend = job->options->suspend || !destination->running;
    }
    if (job->options->keep_source) {
        clear_disks(job, &job->source);
        undo_all(job, &job->source, records, false);
        undo_all(job, &job->source, records, true);
    }
    QmigOutcome outcome = qmig_job_run_from(job, QMIG_PHASE_FINISH, error);
    if (outcome == QMIG_OUTCOME_DONE) {
        undo_all(job, destination, records, true);
    }
    return outcome;
}

static QmigOutcome
conclude(QmigJob *job, QmigOutcome outcome, GError **error)
{
    job->outcome = outcome;
    qmig_steps_end(job);
    if (job->where == NULL) {
        say_where(job, "Who owns the guest is not proven, and nothing more is touched.");
    }
    qmig_set_error(error, QMIG_ERROR_STATE, "%s\n  %s", job->where,
                   outcome == QMIG_OUTCOME_FAILED
                       ? "To try again: start a fresh destination (-S -incoming defer), "
                         "and run `qmig migrate`."
                       : "Look at both sides with `qmig status`; do not continue either "
                         "before the other is known to be gone.");
    qmig_events_end(job);
    return outcome;
}

static QmigOutcome
roll_back(QmigJob *job, JsonObject *records, GError **error)
{
    clear_disks(job, &job->source);
    undo_all(job, &job->source, records, false);
    if (!job->incoming_sent) {
        clear_disks(job, &job->destination);
        undo_all(job, &job->destination, records, false);
    }
    qmig_phases[QMIG_PHASE_PREPARE].undo(job);
    undo_all(job, &job->source, records, true);
    if (!job->incoming_sent) {
        undo_all(job, &job->destination, records, true);
    }
    if (!is_reached(&job->source)) {
        say_where(job, job->source.dead
                           ? "Nothing had been moved; the source's QEMU is gone, and its "
                             "guest with it."
                           : "Nothing had been moved; the source cannot be reached.");
        return conclude(job, QMIG_OUTCOME_UNCLEAR, error);
    }
    say_where(job, job->guest_runs
                       ? "The migration is undone: the guest runs on the "
                         "source."
                       : "The migration is undone: the guest is on the source, "
                         "not running, as before.");
    return conclude(job, QMIG_OUTCOME_FAILED, error);
}

/* The source is in post-copy. As long as the destination was not told to run the guest, the
 * source's memory is whole; but not every QEMU lets it go on from there. */
static QmigOutcome
without_destination(QmigJob *job, JsonObject *records, GError **error)
{
    const QmigSide *destination = &job->destination;

    job->owner = QMIG_OWNER_UNCLEAR;
    if (!destination->dead) {
        say_where(job,
                  "The guest is in post-copy, and its destination cannot be reached: "
                  "keep both QEMUs.");
    } else if (job->cont_noted) {
        say_where(job,
                  "The guest is lost: it ran on the destination, whose QEMU is gone.");
    } else if (qmig_job_revive_source(job)) {
        job->owner = QMIG_OWNER_SOURCE;
        return roll_back(job, records, error);
    } else {
        say_where(job,
                  "The destination's QEMU is gone and never ran the guest; the source "
                  "has all of its memory, but this QEMU does not go back from "
                  "post-copy.");
    }
    return conclude(job, QMIG_OUTCOME_UNCLEAR, error);
}

/* The memory that is still on the source has to follow. */
static QmigOutcome
go_on_with_postcopy(QmigJob *job, JsonObject *records, GError **error)
{
    job->options->postcopy = true;
    qmig_endpoints_clear(&job->endpoints);
    if (!is_reached(&job->destination)) {
        return without_destination(job, records, error);
    }
    if (!qmig_endpoints_choose(&job->endpoints, job->options, job->source.qmp,
                               job->destination.qmp, error)) {
        job->postcopy.recoverable = true;
        return QMIG_OUTCOME_PAUSED;
    }
    return qmig_job_run_from(job, QMIG_PHASE_POSTCOPY, error);
}

static bool
is_in_postcopy(QmigJob *job)
{
    return is_reached(&job->source) && job->info.status == QMIG_STATUS_POSTCOPY;
}

/* What the source's migration is doing; one that was told to switch over to post-copy, and QEMU
 * 7.2 cannot cancel then without losing the guest, is given the time to do so. */
static bool
ask_source(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(ASKED_TIMEOUT_MS);

    while (is_reached(&job->source)) {
        qmig_migration_info_clear(&job->info);
        if (!qmig_qmp_query_migrate(job->source.qmp, &job->info, NULL, error)) {
            return false;
        }
        job->source.migration = job->info.status;
        if (!job->postcopy.asked || is_in_postcopy(job) ||
            qmig_status_is_final(job->info.status) || qmig_now_us() >= deadline) {
            return true;
        }
        g_usleep(ASKED_POLL_MS * 1000);
    }
    return true;
}

static bool
ask_who_runs(QmigSide *side, GError **error)
{
    g_autofree char *state = NULL;

    if (!is_reached(side)) {
        return true;
    }
    if (!qmig_qmp_query_status(side->qmp, &side->running, &state, NULL, error)) {
        return false;
    }
    g_free(side->run_state);
    side->run_state = g_steal_pointer(&state);
    return true;
}

static QmigOutcome
go_on(QmigJob *job, JsonObject *records, GError **error)
{
    if (is_in_postcopy(job)) {
        return go_on_with_postcopy(job, records, error);
    }
    find_owner(job, records);
    switch (job->owner) {
    case QMIG_OWNER_DESTINATION:
        return finish(job, records, error);
    case QMIG_OWNER_SOURCE:
        return roll_back(job, records, error);
    case QMIG_OWNER_UNCLEAR:
    default:
        return conclude(job, QMIG_OUTCOME_UNCLEAR, error);
    }
}

/*
 * @tunnel: (out) why there is none. A destination whose monitor it leads to is then like any that
 * cannot be reached. Return: false when @tunnel is the user's to put right, or wish.
 */
static bool
reach_destination(QmigJob *job, JsonObject *record, GError **tunnel)
{
    QmigSide *side = &job->destination;
    bool has_tunnel = qmig_via_begin(job, tunnel);

    if (!has_tunnel && (g_error_matches(*tunnel, QMIG_ERROR, QMIG_ERROR_CONFIG) ||
                        g_error_matches(*tunnel, QMIG_ERROR, QMIG_ERROR_CANCELLED))) {
        return false;
    }
    if (!has_tunnel && qmig_via_has_monitor(job)) {
        lose(side);
    } else {
        reach(job, side, qmig_via_monitor(job), record);
    }
    side->is_local = side->is_local && !qmig_via_has_monitor(job);
    return true;
}

static bool
ask_both(QmigJob *job, GError **error)
{
    /* In this order: a source that runs after it said "completed" was continued. */
    return ask_source(job, error) && ask_who_runs(&job->source, error) &&
           ask_who_runs(&job->destination, error);
}

static QmigOutcome
recover_job(QmigJob *job, JsonObject *records, GError **error)
{
    JsonObject *begin = qmig_journal_last(records, "begin");
    g_autoptr(GError) tunnel = NULL;

    reach(job, &job->source, job->options->source,
          qmig_json_get(begin, "source", json_type_object));
    if (!reach_destination(job, qmig_json_get(begin, "destination", json_type_object),
                           &tunnel)) {
        g_propagate_error(error, g_steal_pointer(&tunnel));
        return QMIG_OUTCOME_REFUSED;
    }
    qmig_progress_init(&job->model, qmig_now_us());
    job->begin_us = qmig_now_us();
    if (!ask_both(job, error)) {
        return QMIG_OUTCOME_REFUSED;
    }
    /* What is still on the source can only go that way. */
    if (tunnel != NULL && is_in_postcopy(job) && !job->destination.dead) {
        g_propagate_error(error, g_steal_pointer(&tunnel));
        return QMIG_OUTCOME_REFUSED;
    }
    if (tunnel != NULL) {
        qmig_job_message(job, "%s; it goes on without the tunnel", tunnel->message);
    }
    return go_on(job, records, error);
}

/* The far end listens elsewhere now. */
static bool
take_far_end(QmigJobOptions *options, const char *const *via, GError **error)
{
    if (via == NULL) {
        return true;
    }
    if (options->via->len == 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--via: by its journal the migration did not go through a "
                              "tunnel");
    }
    g_ptr_array_set_size(options->via, 0);
    for (; *via != NULL; via++) {
        g_ptr_array_add(options->via, g_strdup(*via));
    }
    return true;
}

/* The killed process's near end had its sockets there. */
static void
remove_tunnel_dir(JsonObject *asked)
{
    const char *path = qmig_json_string(asked, "via_dir");
    g_autoptr(GDir) dir = path != NULL ? g_dir_open(path, 0, NULL) : NULL;
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        if (g_str_has_suffix(name, ".sock")) {
            g_unlink(file);
        }
    }
    if (dir != NULL) {
        g_rmdir(path);
    }
}

QmigOutcome
qmig_recover(const char *path, const char *fence, const char *const *via,
             const QmigJobWatcher *watcher, void *data, const QmigCancel *cancel,
             JsonObject **report, GError **error)
{
    g_autoptr(JsonObject) records = NULL;
    g_autoptr(QmigJournal) journal = qmig_journal_open(path, &records, error);
    g_autoptr(QmigJob) job = NULL;
    JsonObject *begin;

    if (report != NULL) {
        *report = NULL;
    }
    if (journal == NULL) {
        return QMIG_OUTCOME_REFUSED;
    }
    if (qmig_journal_has_ended(records)) {
        return QMIG_OUTCOME_DONE;
    }
    begin = qmig_journal_last(records, "begin");
    if (begin == NULL) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL, "journal: %s: it has no begin", path);
        return QMIG_OUTCOME_REFUSED;
    }
    QmigJobOptions *options = read_options(begin, path, fence, error);
    if (options == NULL || !take_far_end(options, via, error)) {
        qmig_job_options_free(options);
        return QMIG_OUTCOME_REFUSED;
    }
    remove_tunnel_dir(qmig_json_get(begin, "options", json_type_object));
    job = qmig_job_new(options, watcher, data, cancel);
    job->recovers = true;
    job->journal = g_steal_pointer(&journal);
    read_steps(job, records);
    QmigOutcome outcome = recover_job(job, records, error);
    if (report != NULL) {
        *report = qmig_job_report(job);
    }
    return outcome;
}
