/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig cancel, pause and postcopy: through a running qmig, or to a QEMU itself. */
#include "cli/cli.h"
#include "cli/reach.h"
#include "util/error.h"

#include <stdio.h>
#include <string.h>

enum {
    CANCEL_TIMEOUT_MS = 30000,
    /* A qmig that undoes waits for QEMUs that hang. */
    UNDO_TIMEOUT_MS = 120000,
    SWITCH_TIMEOUT_MS = 30000,
    POLL_MS = 50,
};

static gboolean arg_qmp;

static const GOptionEntry entries[] = {
    { "qmp", 0, 0, G_OPTION_ARG_NONE, &arg_qmp, "tell QEMU itself, no running qmig",
      NULL },
    G_OPTION_ENTRY_NULL,
};

/* ---- cancel ----------------------------------------------------------------------------- */

/* Wait for the end of a migration that is being cancelled. */
static bool
await_end(QmigQmp *qmp, QmigMigrationStatus *status, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(CANCEL_TIMEOUT_MS);

    for (;;) {
        g_auto(QmigMigrationInfo) info = { 0 };

        if (!qmig_qmp_query_migrate(qmp, &info, NULL, error)) {
            return false;
        }
        *status = info.status;
        if (qmig_status_is_final(info.status)) {
            return true;
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "the migration stays \"%s\" after the cancel",
                                  info.status_text);
        }
        g_usleep(POLL_MS * 1000);
    }
}

static bool
cancel(QmigQmp *qmp, QmigMigrationStatus *status, GError **error)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    if (!qmig_qmp_query_migrate(qmp, &info, NULL, error)) {
        return false;
    }
    *status = info.status;
    if (info.status == QMIG_STATUS_NONE || qmig_status_is_final(info.status)) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "no migration is running (its status is \"%s\")",
                              info.status_text);
    }
    /* QEMU 7.2 would accept it, and the guest be lost or run twice. */
    if (info.status == QMIG_STATUS_POSTCOPY || info.status == QMIG_STATUS_COLO) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE,
            "in \"%s\" the guest is not the source's alone any more: it "
            "cannot be cancelled",
            info.status_text);
    }
    return qmig_qmp_migrate_cancel(qmp, NULL, error) && await_end(qmp, status, error);
}

static int
cancel_qemu(QmigQmp *qmp)
{
    g_autoptr(GError) error = NULL;
    QmigMigrationStatus status;

    if (!cancel(qmp, &status, &error)) {
        return cli_fail("cancel", error, QMIG_OUTCOME_USAGE);
    }
    if (status != QMIG_STATUS_CANCELLED) {
        fprintf(stderr, "qmig cancel: too late: the migration has %s\n",
                status == QMIG_STATUS_COMPLETED ? "completed" : "failed");
        return QMIG_OUTCOME_FAILED;
    }
    printf("cancelled: the guest stays on the source\n");
    return 0;
}

/* Ask, and wait until it has undone everything. */
static int
cancel_job(QmigControlPeer *peer)
{
    QmigDeadline deadline = qmig_deadline_in_ms(UNDO_TIMEOUT_MS);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) end = NULL;

    if (!qmig_control_call(peer, "watch", NULL, NULL, &error) ||
        !qmig_control_call(peer, "cancel", NULL, NULL, &error)) {
        return cli_fail("cancel", error, QMIG_OUTCOME_USAGE);
    }
    if (!cli_watch_to_end(peer, deadline, NULL, NULL, &end, &error)) {
        return cli_fail("cancel", error, QMIG_OUTCOME_UNCLEAR);
    }
    const char *outcome = qmig_json_string(end, "outcome");
    if (g_strcmp0(outcome, "cancelled") == 0) {
        printf("cancelled: the guest stays on the source\n");
        return 0;
    }
    fprintf(stderr, "qmig cancel: too late: the migration has ended: %s, the guest: %s\n",
            outcome, qmig_json_string(end, "guest"));
    return QMIG_OUTCOME_FAILED;
}

int
cli_cancel(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_auto(CliReach) reach = { 0 };

    if (!cli_parse(
            &argc, &argv, entries, "TARGET",
            "Ends a migration and waits until it has ended.\n\n" CLI_TARGET_HELP
            "Of a QEMU: the source's.\n\n"
            "Exit: 0 cancelled, 1 usage or no migration, 3 it ended otherwise first.",
            1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (!cli_reach(argv[1], arg_qmp, &reach, &error)) {
        return cli_fail("cancel", error, QMIG_OUTCOME_USAGE);
    }
    return reach.peer != NULL ? cancel_job(reach.peer) : cancel_qemu(reach.qmp);
}

/* ---- pause ------------------------------------------------------------------------------ */

static bool
pause_qemu(QmigQmp *qmp, GError **error)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    if (!qmig_qmp_query_migrate(qmp, &info, NULL, error)) {
        return false;
    }
    if (strcmp(info.status_text, "postcopy-active") != 0 &&
        strcmp(info.status_text, "postcopy-recover") != 0) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "only post-copy can be paused (its status is \"%s\")",
                              info.status_text);
    }
    return qmig_qmp_migrate_pause(qmp, error);
}

int
cli_pause(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_auto(CliReach) reach = { 0 };
    bool ok;

    if (!cli_parse(
            &argc, &argv, entries, "TARGET",
            "Stops post-copy's copying: the guest stays on the destination, and "
            "waits\nwhere it needs memory that is not there yet. A qmig migrate ends "
            "with exit\ncode 6; qmig recover goes on.\n\n" CLI_TARGET_HELP,
            1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    ok = cli_reach(argv[1], arg_qmp, &reach, &error) &&
         (reach.peer != NULL ? qmig_control_call(reach.peer, "pause", NULL, NULL, &error)
                             : pause_qemu(reach.qmp, &error));
    if (!ok) {
        return cli_fail("pause", error, QMIG_OUTCOME_USAGE);
    }
    printf("paused: keep both QEMUs, and go on with `qmig recover`\n");
    return 0;
}

/* ---- postcopy --------------------------------------------------------------------------- */

static bool
postcopy_job(QmigControlPeer *peer, GError **error)
{
    g_autoptr(JsonObject) result = NULL;
    const char *waits;

    if (!qmig_control_call(peer, "postcopy", NULL, &result, error)) {
        return false;
    }
    waits = qmig_json_string(result, "waits");
    printf("post-copy will begin%s%s\n", waits != NULL ? " later: " : " at once",
           waits != NULL ? waits : "");
    return true;
}

/* Both sides can, and the source is at it. */
static bool
check_postcopy(QmigQmp *source, QmigQmp *destination, GError **error)
{
    g_auto(QmigMigrationInfo) info = { 0 };
    QmigQmp *const sides[] = { source, destination };

    if (!qmig_qmp_query_migrate(source, &info, NULL, error)) {
        return false;
    }
    if (info.status != QMIG_STATUS_ACTIVE) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE,
            "wanted a migration that is \"active\", its status is \"%s\"",
            info.status_text);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(sides); i++) {
        g_autoptr(JsonObject) caps = qmig_qmp_get_capabilities(sides[i], error);
        if (caps == NULL) {
            return false;
        }
        if (!qmig_json_bool(caps, "postcopy-ram", false)) {
            return qmig_set_error(error, QMIG_ERROR_STATE,
                                  "%s: its capability postcopy-ram is off, and it is too "
                                  "late to set it",
                                  qmig_qmp_label(sides[i]));
        }
    }
    return true;
}

/* The guest has gone over: into post-copy, or, when that came too late, as precopy. */
static bool
await_switch(QmigQmp *source, QmigQmp *destination, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(SWITCH_TIMEOUT_MS);

    for (;;) {
        g_auto(QmigMigrationInfo) info = { 0 };
        g_autofree char *state = NULL;
        bool running;

        if (!qmig_qmp_query_migrate(source, &info, NULL, error) ||
            !qmig_qmp_query_status(destination, &running, &state, NULL, error)) {
            return false;
        }
        if ((info.status == QMIG_STATUS_POSTCOPY ||
             info.status == QMIG_STATUS_COMPLETED) &&
            strcmp(state, "inmigrate") != 0) {
            return true;
        }
        if (info.status == QMIG_STATUS_FAILED || info.status == QMIG_STATUS_CANCELLED ||
            qmig_now_us() >= deadline) {
            return qmig_set_error(
                error, QMIG_ERROR_STATE,
                "the source says \"%s\", the destination \"%s\": the guest was stopped on "
                "the source, and stands still there; `cont` it there only when the "
                "destination is gone",
                info.status_text, state);
        }
        g_usleep(POLL_MS * 1000);
    }
}

/*
 * Without a qmig. As qmig does it: the source's guest is stopped first, so that no QEMU brings it
 * back when the link breaks, and the destination is told to run it when it has the devices.
 */
static bool
postcopy_qemu(QmigQmp *source, const char *there, GError **error)
{
    g_autoptr(QmigQmp) destination = NULL;
    g_autoptr(GError) local = NULL;
    bool running;

    if (there == NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "no qmig migrate is running for it: give the destination's "
                              "QMP address too, which has to be told to run the guest");
    }
    destination = cli_connect(there, error);
    if (destination == NULL || !check_postcopy(source, destination, error) ||
        !qmig_qmp_query_status(source, &running, NULL, NULL, error)) {
        return false;
    }
    if (running && !qmig_qmp_stop(source, error)) {
        return false;
    }
    if (!qmig_qmp_start_postcopy(source, &local)) {
        if (running && !qmig_qmp_cont(source, NULL)) {
            fprintf(stderr, "qmig postcopy: the source's guest is stopped now\n");
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!await_switch(source, destination, error) ||
        (running && !qmig_qmp_cont(destination, error))) {
        return false;
    }
    printf("post-copy: the guest %s on the destination\n", running ? "runs" : "is");
    return true;
}

int
cli_postcopy(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_auto(CliReach) reach = { 0 };
    bool ok;

    if (!cli_parse(
            &argc, &argv, entries, "TARGET [DESTINATION]",
            "Lets the guest go over now; its memory follows. The migration must have "
            "been\nbegun with --postcopy.\n\n" CLI_TARGET_HELP
            "A QEMU is the source's, and needs DESTINATION's QMP address as well.",
            1, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    ok = cli_reach(argv[1], arg_qmp, &reach, &error) &&
         (reach.peer != NULL
              ? postcopy_job(reach.peer, &error)
              : postcopy_qemu(reach.qmp, argc > 2 ? argv[2] : NULL, &error));
    return ok ? 0 : cli_fail("postcopy", error, QMIG_OUTCOME_USAGE);
}
