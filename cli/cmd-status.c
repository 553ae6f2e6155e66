/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig status QMP and qmig cancel QMP. */
#include "cli/cli.h"
#include "util/error.h"
#include "util/units.h"

#include <stdio.h>

enum { CANCEL_TIMEOUT_MS = 30000, POLL_MS = 50, WATCH_MS = 1000 };

static gboolean arg_json, arg_watch;

static const GOptionEntry entries[] = {
    { "watch", 'w', 0, G_OPTION_ARG_NONE, &arg_watch,
      "a line a second until no migration runs", NULL },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg_json, "as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

static void
print_status(const QmigMigrationInfo *info, const char *state)
{
    g_autofree char *remaining = qmig_format_size(info->remaining);
    g_autofree char *total = qmig_format_size(info->total);
    g_autofree char *rate = qmig_format_rate((uint64_t)(info->mbps * 1e6 / 8));

    printf("guest      %s\nmigration  %s\n", state, info->status_text);
    if (info->total > 0) {
        printf("memory     %s left of %s, iteration %" G_GUINT64_FORMAT "\n"
               "rate       %s, dirtied %" G_GUINT64_FORMAT " pages/s\n",
               remaining, total, info->iterations, rate, info->dirty_rate);
    }
    if (info->throttle_percent > 0) {
        printf("throttle   %" G_GUINT64_FORMAT " %%\n", info->throttle_percent);
    }
    if (info->error != NULL) {
        printf("error      %s\n", info->error);
    }
    if (info->blocked != NULL) {
        printf("blocked    %s\n", info->blocked);
    }
}

static JsonObject *
new_status(const char *state, bool running, JsonObject *reply)
{
    JsonObject *object = json_object_new_object();

    json_object_object_add(object, "guest", json_object_new_string(state));
    json_object_object_add(object, "running", json_object_new_boolean(running));
    json_object_object_add(object, "migration", json_object_get(reply));
    return object;
}

/* One line of --watch. */
static void
print_line(const QmigMigrationInfo *info, const char *state)
{
    g_autofree char *remaining = qmig_format_size(info->remaining);
    g_autofree char *total = qmig_format_size(info->total);
    g_autofree char *rate = qmig_format_rate((uint64_t)(info->mbps * 1e6 / 8));
    g_autofree char *dirty = qmig_format_rate(info->dirty_rate * info->page_size);

    printf("%s, %s", state, info->status_text);
    if (info->total > 0) {
        printf(": %s left of %s, pass %" G_GUINT64_FORMAT ", %s, dirtied %s", remaining,
               total, info->iterations, rate, dirty);
    }
    printf("\n");
}

/* Once, or with --watch until no migration runs. */
static bool
show_status(QmigQmp *qmp, bool *again, GError **error)
{
    g_autoptr(JsonObject) reply = NULL;
    g_auto(QmigMigrationInfo) info = { 0 };
    g_autofree char *state = NULL;
    bool running;

    if (!qmig_qmp_query_status(qmp, &running, &state, NULL, error) ||
        !qmig_qmp_execute(qmp, "query-migrate", NULL, &reply, NULL, error)) {
        return false;
    }
    qmig_migration_info_parse(&info, reply);
    *again = arg_watch && info.status != QMIG_STATUS_NONE &&
             !qmig_status_is_final(info.status);
    if (arg_json) {
        g_autoptr(JsonObject) object = new_status(state, running, reply);
        if (arg_watch) {
            printf("%s\n",
                   json_object_to_json_string_ext(
                       object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        } else {
            cli_print_json(object);
        }
    } else if (arg_watch) {
        print_line(&info, state);
    } else {
        print_status(&info, state);
    }
    fflush(stdout);
    return true;
}

int
cli_status(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigQmp) qmp = NULL;
    bool again = true;

    if (!cli_parse(&argc, &argv, entries, "QMP", "Changes nothing.", 1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    qmp = cli_connect(argv[1], &error);
    if (qmp == NULL) {
        return cli_fail("status", error, QMIG_OUTCOME_USAGE);
    }
    while (again) {
        if (!show_status(qmp, &again, &error)) {
            return cli_fail("status", error, QMIG_OUTCOME_USAGE);
        }
        g_usleep(again ? WATCH_MS * 1000 : 0);
    }
    return 0;
}

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

int
cli_cancel(int argc, char **argv)
{
    static const GOptionEntry none[] = { G_OPTION_ENTRY_NULL };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigQmp) qmp = NULL;
    QmigMigrationStatus status;

    if (!cli_parse(
            &argc, &argv, none, "QMP",
            "Of the source QEMU. Waits until the migration has ended.\n\n"
            "Exit: 0 cancelled, 1 usage or no migration, 3 it completed or failed first.",
            1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    qmp = cli_connect(argv[1], &error);
    if (qmp == NULL || !cancel(qmp, &status, &error)) {
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
