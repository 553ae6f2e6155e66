/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig restore FILE QMP. */
#include "cli/cli.h"
#include "job/restore.h"
#include "util/error.h"
#include "util/units.h"

#include <stdio.h>
#include <string.h>

enum { MAX_THREADS = 256, MAX_CONNECTIONS = 255 };

static struct {
    gboolean paused, run, json;
    int threads, connections;
    gint64 offset;
} arg;

static const GOptionEntry entries[] = {
    { "paused", 0, 0, G_OPTION_ARG_NONE, &arg.paused, "do not let the guest run", NULL },
    { "run", 0, 0, G_OPTION_ARG_NONE, &arg.run,
      "let it run, whatever it did when it was saved", NULL },
    { "threads", 0, 0, G_OPTION_ARG_INT, &arg.threads,
      "that decompress (default: one for each processor)", "N" },
    { "parallel-connections", 0, 0, G_OPTION_ARG_INT, &arg.connections,
      "mapped-ram: QEMU's threads (default: no multifd)", "N" },
    { "offset", 0, 0, G_OPTION_ARG_INT64, &arg.offset,
      "to stdout: begin at this byte of the plain stream", "N" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "the report as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "QMP is the unix socket of a QEMU with -incoming defer; \"-\": the plain stream\n"
    "goes to stdout. FILE is a save file, a plain stream or a mapped-ram file; \"-\"\n"
    "is stdin.\n\n"
    "Exit: 0 restored, 1 usage, 2 refused, nothing was touched, 3 failed,\n"
    "4 cancelled: the QEMU has ended, 7 loaded, but could not be let run.\n";

static bool
take_number(const char *option, int value, int max, GError **error)
{
    return (value >= 0 && value <= max) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: %d is out of range 1 to %d",
                          option, value, max);
}

static bool
take_options(QmigRestoreOptions *options, QmigAddress **qmp, char **argv, GError **error)
{
    if (strcmp(argv[2], "-") != 0) {
        *qmp = qmig_address_parse(argv[2], error);
        if (*qmp == NULL) {
            return false;
        }
    }
    options->path = argv[1];
    options->qmp = *qmp;
    options->threads = (unsigned)arg.threads;
    options->connections = (unsigned)arg.connections;
    options->offset = (uint64_t)arg.offset;
    options->paused = arg.paused;
    options->run = arg.run;
    if (arg.paused && arg.run) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--paused and --run exclude each other");
    }
    if (*qmp == NULL && (arg.paused || arg.run || arg.connections != 0)) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--paused, --run and --parallel-connections need a QMP socket");
    }
    if (arg.offset < 0 || (arg.offset > 0 && *qmp != NULL)) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--offset is for stdout, and not negative: a QEMU needs the "
            "whole stream");
    }
    return take_number("--threads", arg.threads, MAX_THREADS, error) &&
           take_number("--parallel-connections", arg.connections, MAX_CONNECTIONS, error);
}

static JsonObject *
new_report(const QmigRestoreOptions *options, const QmigRestoreResult *result,
           QmigOutcome outcome, const GError *error)
{
    JsonObject *report = json_object_new_object();

    cli_add_text(report, "outcome", qmig_outcome_name(outcome));
    json_object_object_add(report, "exit_code", json_object_new_int((int)outcome));
    cli_add_text(report, "file", options->path);
    cli_add_text(report, "machine", result->info.machine);
    cli_add_text(report, "guest", result->guest);
    json_object_object_add(report, "stream_bytes",
                           json_object_new_uint64(result->stream_bytes));
    json_object_object_add(report, "total_ms", json_object_new_uint64(result->total_ms));
    if (error != NULL) {
        cli_add_error(report, error);
    }
    return report;
}

static void
print_result(const QmigRestoreOptions *options, const QmigRestoreResult *result)
{
    g_autofree char *total = qmig_format_duration(result->total_ms);

    if (result->stream_bytes > 0) {
        g_autofree char *stream = qmig_format_size(result->stream_bytes);
        printf("restored  %s: a stream of %s, in %s\n", options->path, stream, total);
    } else {
        printf("restored  %s: by QEMU itself, in %s\n", options->path, total);
    }
    printf("guest     %s\n", result->guest);
    fflush(stdout);
}

int
cli_restore(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) qmp = NULL;
    g_auto(QmigRestoreResult) result = { 0 };
    QmigRestoreOptions options = { 0 };
    CliBytes bytes = { 0 };

    if (!cli_parse(&argc, &argv, entries, "FILE QMP", description, 2, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (!take_options(&options, &qmp, argv, &error)) {
        return cli_fail("restore", error, QMIG_OUTCOME_USAGE);
    }
    options.progress = cli_bytes_draw;
    options.data = &bytes;
    QmigOutcome outcome = qmig_restore_guest(&options, cli_cancel_on_signals(), &result,
                                             &error);
    cli_bytes_end(&bytes);
    if (arg.json) {
        g_autoptr(JsonObject) report = new_report(&options, &result, outcome, error);
        cli_print_json_to(qmp == NULL ? stderr : stdout, report);
    } else if (outcome == QMIG_OUTCOME_DONE && qmp != NULL) {
        print_result(&options, &result);
    }
    return outcome == QMIG_OUTCOME_DONE ? 0 : cli_fail("restore", error, (int)outcome);
}
