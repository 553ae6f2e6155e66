/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig migrate SOURCE DESTINATION; its options are in migrate-table.c. */
#include "cli/cli.h"
#include "cli/migrate-options.h"
#include "cli/render.h"
#include "job/definition.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static QmigCancel *signal_cancel;
static volatile sig_atomic_t n_signals;

/* The job tells what becomes of it; a second signal only hears that. */
static void
on_signal(int number)
{
    static const char again[] = "\nqmig migrate: it ends as soon as the guest is safe\n";

    (void)number;
    n_signals = n_signals + 1;
    if (n_signals == 1 || write(STDERR_FILENO, again, sizeof again - 1) >= 0) {
        qmig_cancel_raise(signal_cancel);
    }
}

/* The report as the last of the events. */
static void
put_report(CliRender *render, JsonObject *report)
{
    g_autoptr(JsonObject) event = json_object_new_object();

    json_object_object_add(event, "event", json_object_new_string("report"));
    json_object_object_add(event, "report", json_object_get(report));
    cli_put_json_line(render->events, event);
}

/* --offline: no QEMU, no job. */
static int
move_definition(QmigJobOptions *options)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) report = json_object_new_object();
    int code = qmig_definition_move(options, &error) ? QMIG_OUTCOME_DONE
                                                     : QMIG_OUTCOME_REFUSED;

    if (cli_option_given("json")) {
        cli_add_text(report, "outcome", qmig_outcome_name((QmigOutcome)code));
        json_object_object_add(report, "exit_code", json_object_new_int(code));
        if (error != NULL) {
            cli_add_error(report, error);
        }
        cli_print_json(report);
    }
    qmig_job_options_free(options);
    return code == 0 ? 0 : cli_fail("migrate", error, code);
}

/* --postcopy-resume is virsh's word for it. */
static int
resume(char *source)
{
    static char command[] = "recover", json[] = "--json";
    g_autofree char *fence = NULL, *progress = NULL;
    char *argv[6] = { command, source };
    char **list = argv;
    int argc = 2;

    if (cli_option_given("json")) {
        argv[argc++] = json;
    }
    if (cli_option_given("fence")) {
        fence = g_strdup_printf("--fence=%s", cli_option_text("fence"));
        argv[argc++] = fence;
    }
    if (cli_option_given("progress")) {
        progress = g_strdup_printf("--progress=%s", cli_option_text("progress"));
        argv[argc++] = progress;
    }
    return cli_recover(argc, list);
}

static int
run(QmigJobOptions *options, CliRender *render, const QmigCancel *cancel)
{
    g_autoptr(QmigJob) job = qmig_job_new(options, &cli_render_watcher, render, cancel);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) report = NULL;
    QmigOutcome outcome = qmig_job_run(job, &error);

    report = qmig_job_report(job);
    if (render->events != NULL && cli_option_given("json")) {
        put_report(render, report);
    }
    bool has_events = render->events != NULL;
    cli_render_end(render);
    if (has_events) {
        /* All that goes to stdout is on its lines. */
    } else if (cli_option_given("json")) {
        cli_print_json(report);
    } else if (outcome == QMIG_OUTCOME_DONE && cli_option_given("dry-run")) {
        cli_print_plan(report);
    } else if (outcome == QMIG_OUTCOME_DONE) {
        cli_print_report(report);
    }
    return outcome == QMIG_OUTCOME_DONE ? 0 : cli_fail("migrate", error, (int)outcome);
}

static void
take_control(QmigJobOptions *options)
{
    const char *path = cli_option_text("control");

    options->control = g_strcmp0(path, "none") != 0;
    options->control_path = options->control ? g_strdup(path) : NULL;
}

int
cli_migrate(int argc, char **argv)
{
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    g_autoptr(GError) error = NULL;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    CliRender render;

    if (!cli_migrate_parse(&argc, &argv)) {
        return QMIG_OUTCOME_USAGE;
    }
    const char *progress = cli_option_text("progress");
    /* A plan has no progress. */
    progress = progress == NULL && cli_option_given("dry-run") ? "none" : progress;
    if (!cli_render_init(&render, stderr, progress)) {
        fprintf(
            stderr,
            "qmig migrate: --progress: \"%s\", wanted auto, tty, plain, json or none\n",
            cli_option_text("progress"));
        return QMIG_OUTCOME_USAGE;
    }
    QmigJobOptions *options = cli_migrate_take(argv, &error);
    if (options == NULL) {
        return cli_fail("migrate", error, QMIG_OUTCOME_USAGE);
    }
    if (cli_option_given("postcopy-resume")) {
        qmig_job_options_free(options);
        return resume(argv[1]);
    }
    if (options->offline) {
        return move_definition(options);
    }
    take_control(options);
    render.events = cli_option_given("events")
                        ? cli_lines_new(STDOUT_FILENO, CLI_LINES_LOST_JSON)
                        : NULL;
    signal_cancel = cancel;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    return run(options, &render, cancel);
}
