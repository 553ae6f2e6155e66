/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream replay: a recorded migration, sent to a QEMU that waits for one. */
#include "cli/stream.h"
#include "inspect/replay.h"
#include "util/error.h"
#include "util/units.h"

#include <inttypes.h>
#include <stdio.h>

static struct {
    char *to;
    gboolean timing, json;
    int timeout_s;
} arg;

static const GOptionEntry entries[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &arg.to, "where the QEMU listens (-incoming)",
      "ADDRESS" },
    { "timing", 0, 0, G_OPTION_ARG_NONE, &arg.timing,
      "at the recorded times (default: as fast as it is taken)", NULL },
    { "timeout", 0, 0, G_OPTION_ARG_INT, &arg.timeout_s,
      "give up when nothing moves for so long (default 30)", "SECONDS" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "the report as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

static void
print_report(JsonObject *report, bool ok)
{
    JsonObject *channels = qmig_json_get(report, "channels", json_type_array);
    JsonObject *notices = qmig_json_get(report, "notices", json_type_array);
    JsonObject *talk = qmig_json_get(report, "return_path", json_type_object);
    JsonObject *ms = qmig_json_get(report, "ms", json_type_object);

    for (size_t i = 0; channels != NULL && i < json_object_array_length(channels); i++) {
        JsonObject *channel = json_object_array_get_idx(channels, i);
        g_autofree char *sent = qmig_format_size(
            (uint64_t)qmig_json_int(channel, "bytes_forward", 0));

        printf("%-8s %10s sent, %" PRId64 " bytes back\n",
               qmig_json_string(channel, "kind"), sent,
               qmig_json_int(channel, "bytes_reverse", 0));
    }
    for (size_t i = 0; notices != NULL && i < json_object_array_length(notices); i++) {
        printf("notice   %s\n",
               json_object_get_string(json_object_array_get_idx(notices, i)));
    }
    printf("time     %" PRId64 " ms, %" PRId64 " ms of it sending\n",
           qmig_json_int(ms, "total", 0), qmig_json_int(ms, "sending", 0));
    if (ok) {
        printf(
            "verdict  %s\n",
            qmig_json_int(talk, "shut", -1) == 0
                ? "the guest is loaded (SHUT 0)"
                : "all was taken; without return path nobody says whether it is loaded");
    }
}

/* Exit code of an error after the destination was contacted. */
static int
outcome(const GError *error)
{
    return g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)
               ? QMIG_OUTCOME_CANCELLED
               : QMIG_OUTCOME_FAILED;
}

int
cli_stream_replay(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) to = NULL;
    g_autoptr(JsonObject) report = NULL;

    if (!cli_parse(
            &argc, &argv, entries, "INPUT",
            "Sends what was recorded to a QEMU that was started with -incoming (same\n"
            "machine and devices, capabilities as then), as its source would. INPUT: a\n"
            "capture of qmig proxy --record, or a single stream.\n\n"
            "Exit: 0 taken, 1 usage or input, 3 the destination did not take it, 4 stopped\n"
            "by a signal.\n",
            1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (arg.to == NULL || arg.timeout_s < 0 || arg.timeout_s > G_MAXINT / 1000) {
        qmig_set_error(&error, QMIG_ERROR_CONFIG,
                       arg.to == NULL ? "--to is needed" : "--timeout: out of range");
        return cli_fail("stream replay", error, QMIG_OUTCOME_USAGE);
    }
    to = qmig_address_parse(arg.to, &error);
    if (to == NULL) {
        return cli_fail("stream replay", error, QMIG_OUTCOME_USAGE);
    }
    QmigReplayOptions options = {
        .to = to,
        .timing = arg.timing,
        .timeout_ms = (uint32_t)arg.timeout_s * 1000,
        .cancel = cli_cancel_on_signals(),
        .progress = cli_stream_progress(),
    };
    bool ok = qmig_replay_run(argv[1], &options, &report, &error);
    if (report == NULL) {
        return cli_fail("stream replay", error, QMIG_OUTCOME_USAGE);
    }
    if (arg.json) {
        if (!ok) {
            cli_add_error(report, error);
        }
        cli_print_json(report);
    } else {
        print_report(report, ok);
    }
    return ok ? 0 : cli_fail("stream replay", error, outcome(error));
}
