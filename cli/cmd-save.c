/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig save QMP FILE. */
#include "cli/cli.h"
#include "job/save.h"
#include "util/error.h"
#include "util/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_THREADS = 256, MAX_CONNECTIONS = 255 };

static struct {
    char *codec, *format;
    int level, threads, connections;
    gboolean live, resume, quit, json;
} arg;

static const GOptionEntry entries[] = {
    { "codec", 0, 0, G_OPTION_ARG_STRING, &arg.codec, "zstd (default), lz4 or none",
      "NAME" },
    { "level", 0, 0, G_OPTION_ARG_INT, &arg.level,
      "of zstd: -20 (fast) to 19 (small); default 1", "N" },
    { "threads", 0, 0, G_OPTION_ARG_INT, &arg.threads,
      "that compress (default: one for each processor)", "N" },
    { "live", 0, 0, G_OPTION_ARG_NONE, &arg.live,
      "the guest runs while its memory is copied", NULL },
    { "continue", 0, 0, G_OPTION_ARG_NONE, &arg.resume,
      "let the guest run on when it is saved", NULL },
    { "quit", 0, 0, G_OPTION_ARG_NONE, &arg.quit, "end its QEMU when it is saved", NULL },
    { "format", 0, 0, G_OPTION_ARG_STRING, &arg.format,
      "qmig (default) or mapped-ram: QEMU's own file", "NAME" },
    { "parallel-connections", 0, 0, G_OPTION_ARG_INT, &arg.connections,
      "mapped-ram: QEMU's threads (default: no multifd)", "N" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "the report as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "QMP is a unix socket; \"-\": a migration stream comes on stdin. FILE may be \"-\".\n\n"
    "Exit: 0 saved, 1 usage, 2 refused, nothing was touched, 3 failed, 4 cancelled:\n"
    "the guest is as before, 7 it could not be brought back to run.\n";

static bool
take_number(const char *option, int value, int max, GError **error)
{
    return (value >= 0 && value <= max) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: %d is out of range 1 to %d",
                          option, value, max);
}

static bool
take_codec(QmigSaveConfig *config, GError **error)
{
    const char *name = arg.codec != NULL ? arg.codec : "zstd";

    for (uint32_t codec = 0; codec < QMIG_SAVE_N_CODECS; codec++) {
        if (strcmp(name, qmig_save_codec_name(codec)) == 0) {
            config->codec = (QmigSaveCodec)codec;
            return true;
        }
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--codec: \"%s\", wanted zstd, lz4 or none", name);
}

static bool
take_format(QmigSaveOptions *options, GError **error)
{
    options->mapped_ram = g_strcmp0(arg.format, "mapped-ram") == 0;
    if (arg.format != NULL && !options->mapped_ram && strcmp(arg.format, "qmig") != 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--format: \"%s\", wanted qmig or mapped-ram", arg.format);
    }
    if (options->mapped_ram &&
        (options->qmp == NULL || strcmp(options->path, "-") == 0)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--format=mapped-ram: QEMU writes that file itself: it "
                              "wants a QMP socket and a file's name");
    }
    if (options->mapped_ram && (arg.codec != NULL || arg.level != 0)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--format=mapped-ram is not compressed: it goes without "
                              "--codec and --level");
    }
    return options->mapped_ram || arg.connections == 0 ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--parallel-connections is for --format=mapped-ram");
}

static bool
take_options(QmigSaveOptions *options, QmigAddress **qmp, char **argv, GError **error)
{
    if (strcmp(argv[1], "-") != 0) {
        *qmp = qmig_address_parse(argv[1], error);
        if (*qmp == NULL) {
            return false;
        }
    }
    options->qmp = *qmp;
    options->path = argv[2];
    options->config.level = arg.level;
    options->config.threads = (unsigned)arg.threads;
    options->connections = (unsigned)arg.connections;
    options->live = arg.live;
    options->resume = arg.resume;
    options->quit = arg.quit;
    if (*qmp == NULL && (arg.live || arg.resume || arg.quit)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--live, --continue and --quit need a QMP socket");
    }
    if (arg.resume && arg.quit) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--continue and --quit exclude each other");
    }
    return take_number("--threads", arg.threads, MAX_THREADS, error) &&
           take_number("--parallel-connections", arg.connections, MAX_CONNECTIONS,
                       error) &&
           take_codec(&options->config, error) && take_format(options, error);
}

/* ---- the report ------------------------------------------------------------------------- */

static JsonObject *
new_pages(const QmigSaveInfo *info)
{
    JsonObject *pages = json_object_new_object();

    json_object_object_add(pages, "zero", json_object_new_uint64(info->zero));
    json_object_object_add(pages, "normal", json_object_new_uint64(info->normal));
    json_object_object_add(pages, "xbzrle", json_object_new_uint64(info->xbzrle));
    json_object_object_add(pages, "compressed", json_object_new_uint64(info->zlib));
    return pages;
}

static JsonObject *
new_report(const QmigSaveOptions *options, const QmigSaveResult *result,
           QmigOutcome outcome, const GError *error)
{
    JsonObject *report = json_object_new_object(), *ms = json_object_new_object();
    const QmigSaveInfo *info = &result->info;
    bool done = outcome == QMIG_OUTCOME_DONE;

    cli_add_text(report, "outcome", qmig_outcome_name(outcome));
    json_object_object_add(report, "exit_code", json_object_new_int((int)outcome));
    cli_add_text(report, "file", options->path);
    cli_add_text(report, "format", options->mapped_ram ? "mapped-ram" : "qmig");
    cli_add_text(report, "codec",
                 options->mapped_ram ? NULL
                                     : qmig_save_codec_name(options->config.codec));
    cli_add_text(report, "machine", info->machine);
    cli_add_text(report, "guest", result->guest);
    cli_add_text(report, "proof",
                 !done                   ? NULL
                 : result->doubt == NULL ? "decoded"
                                         : "qemu");
    json_object_object_add(report, "stream_bytes", json_object_new_uint64(info->length));
    json_object_object_add(report, "file_bytes",
                           json_object_new_uint64(result->file_bytes));
    json_object_object_add(report, "pages", new_pages(info));
    json_object_object_add(ms, "total", json_object_new_uint64(result->total_ms));
    json_object_object_add(ms, "stopped", json_object_new_uint64(result->stopped_ms));
    json_object_object_add(report, "ms", ms);
    if (error != NULL) {
        cli_add_error(report, error);
    }
    return report;
}

static void
print_result(const QmigSaveOptions *options, const QmigSaveResult *result)
{
    const QmigSaveInfo *info = &result->info;
    g_autofree char *stream = qmig_format_size(info->length);
    g_autofree char *file = qmig_format_size(result->file_bytes);
    g_autofree char *total = qmig_format_duration(result->total_ms);
    /* The file itself may be on stdout. */
    FILE *out = strcmp(options->path, "-") == 0 ? stderr : stdout;

    fprintf(out, "saved  %s: %s on the disk for a stream of %s, in %s\n", options->path,
            file, stream, total);
    fprintf(out, "pages  %" PRIu64 " normal, %" PRIu64 " zero\n", info->normal,
            info->zero);
    if (result->guest != NULL) {
        fprintf(out, "guest  %s\n", result->guest);
    }
    if (result->doubt != NULL) {
        fprintf(out, "note   whole by QEMU's word alone: %s\n", result->doubt);
    }
    fflush(out);
}

int
cli_save(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) qmp = NULL;
    g_auto(QmigSaveResult) result = { 0 };
    QmigSaveOptions options = { 0 };
    CliBytes bytes = { 0 };

    if (!cli_parse(&argc, &argv, entries, "QMP FILE", description, 2, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (!take_options(&options, &qmp, argv, &error)) {
        return cli_fail("save", error, QMIG_OUTCOME_USAGE);
    }
    options.progress = cli_bytes_draw;
    options.data = &bytes;
    QmigOutcome outcome = qmig_save_guest(&options, cli_cancel_on_signals(), &result,
                                          &error);
    cli_bytes_end(&bytes);
    if (arg.json) {
        g_autoptr(JsonObject) report = new_report(&options, &result, outcome, error);
        cli_print_json_to(strcmp(options.path, "-") == 0 ? stderr : stdout, report);
    } else if (outcome == QMIG_OUTCOME_DONE) {
        print_result(&options, &result);
    }
    return outcome == QMIG_OUTCOME_DONE ? 0 : cli_fail("save", error, (int)outcome);
}
