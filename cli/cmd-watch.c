/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig watch TARGET: a running qmig migrate's progress in another terminal. */
#include "cli/cli.h"
#include "cli/reach.h"
#include "cli/render.h"
#include "util/error.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static gboolean arg_json;
static char *arg_progress;

static const GOptionEntry entries[] = {
    { "progress", 0, 0, G_OPTION_ARG_STRING, &arg_progress, "auto, tty or plain",
      "KIND" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg_json, "each event as a JSON object a line",
      NULL },
    G_OPTION_ENTRY_NULL,
};

static uint64_t
number(JsonObject *event, const char *key)
{
    return (uint64_t)MAX(qmig_json_int(event, key, 0), 0);
}

static QmigPhase
find_phase(const char *name)
{
    for (int phase = 0; phase < QMIG_N_PHASES; phase++) {
        if (g_strcmp0(qmig_phase_name((QmigPhase)phase), name) == 0) {
            return (QmigPhase)phase;
        }
    }
    return QMIG_PHASE_BEGIN;
}

/* The figures of an event, as a job in this process would have told them. */
static QmigProgress
read_progress(JsonObject *event)
{
    return (QmigProgress){
        .phase = find_phase(qmig_json_string(event, "phase")),
        .status = qmig_json_string(event, "status"),
        .percent = (unsigned)MIN(number(event, "percent"), 100),
        .elapsed_ms = number(event, "elapsed_ms"),
        .transferred = number(event, "transferred"),
        .remaining = number(event, "remaining"),
        .total = number(event, "total"),
        .storage_done = number(event, "storage_done"),
        .storage_total = number(event, "storage_total"),
        .pages_zero = number(event, "pages_zero"),
        .pages_normal = number(event, "pages_normal"),
        .pages_resent = number(event, "pages_resent"),
        .rate = number(event, "rate"),
        .dirty_rate = number(event, "dirty_rate"),
        .iteration = number(event, "iteration"),
        .expected_downtime_ms = number(event, "expected_downtime_ms"),
        .left_min_ms = qmig_json_int(event, "left_min_ms", -1),
        .left_max_ms = qmig_json_int(event, "left_max_ms", -1),
    };
}

static const char *
text_of(JsonObject *event, const char *key)
{
    const char *text = qmig_json_string(event, key);

    return text != NULL ? text : "?";
}

/* What only others than the job's own terminal have to be told. */
static void
show_rest(CliRender *render, JsonObject *event, const char *kind)
{
    const CliRender *r = render;
    g_autofree char *text = NULL;

    if (strcmp(kind, "request") == 0) {
        JsonObject *arguments = qmig_json_get(event, "arguments", json_type_object);
        text = g_strdup_printf(
            "process %" G_GINT64_FORMAT " asks: %s %s", qmig_json_int(event, "pid", 0),
            text_of(event, "command"),
            arguments != NULL && json_object_object_length(arguments) > 0
                ? json_object_to_json_string_ext(
                      arguments, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
                : "");
    } else if (strcmp(kind, "refused") == 0) {
        text = g_strdup_printf("refused: %s: %s", text_of(event, "command"),
                               text_of(event, "why"));
    } else if (strcmp(kind, "undo") == 0) {
        text = g_strdup_printf("undoing: %s: %s", text_of(event, "phase"),
                               text_of(event, "why"));
    } else if (strcmp(kind, "owner") == 0) {
        text = g_strdup_printf("the guest is now: %s", text_of(event, "guest"));
    } else if (strcmp(kind, "lost") == 0) {
        text = g_strdup_printf("%" G_GINT64_FORMAT " events were missed",
                               qmig_json_int(event, "count", 0));
    }
    if (text != NULL) {
        cli_render_watcher.message((void *)r, text);
    }
}

static void
show(void *data, JsonObject *event)
{
    CliRender *render = data;
    const QmigJobWatcher *watcher = &cli_render_watcher;
    const char *kind = text_of(event, "event");

    if (arg_json) {
        printf("%s\n",
               json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN |
                                                         JSON_C_TO_STRING_NOSLASHESCAPE));
        fflush(stdout);
    } else if (strcmp(kind, "phase") == 0) {
        watcher->phase(render, find_phase(qmig_json_string(event, "phase")));
    } else if (strcmp(kind, "progress") == 0) {
        QmigProgress progress = read_progress(event);
        watcher->progress(render, &progress);
    } else if (strcmp(kind, "iteration") == 0) {
        QmigProgress progress = read_progress(event);
        watcher->iteration(render, &progress);
    } else if (strcmp(kind, "decision") == 0) {
        watcher->decision(render, text_of(event, "what"), text_of(event, "why"));
    } else if (strcmp(kind, "message") == 0) {
        watcher->message(render, text_of(event, "text"));
    } else {
        show_rest(render, event, kind);
    }
}

/* How it ended, and the migration's own exit code. */
static int
conclude(JsonObject *end)
{
    JsonObject *error = qmig_json_get(end, "error", json_type_object);
    const char *message = qmig_json_string(error, "message");
    const char *guest = qmig_json_string(end, "guest");

    if (!arg_json) {
        printf("%s: the guest is on the %s%s%s\n", text_of(end, "outcome"),
               g_strcmp0(guest, "unclear") == 0 ? "… nobody knows" : guest,
               message != NULL ? "\n  " : "", message != NULL ? message : "");
    }
    return (int)CLAMP(qmig_json_int(end, "exit_code", QMIG_OUTCOME_UNCLEAR), 0, 255);
}

/* Its process ended without a last word. */
static int
tell_killed(const CliReach *reach, const GError *error)
{
    JsonObject *greeting = qmig_control_peer_greeting(reach->peer);
    JsonObject *qmig = qmig_json_get(greeting, "qmig", json_type_object);
    JsonObject *job = qmig_json_get(greeting, "job", json_type_object);
    JsonObject *source = qmig_json_get(job, "source", json_type_object);

    fprintf(stderr,
            "qmig watch: %s; process %" G_GINT64_FORMAT " was killed\n"
            "  Where the guest is, both QEMUs know.\n"
            "  Finish or undo it: qmig recover %s\n",
            error->message, qmig_json_int(qmig, "pid", 0), text_of(source, "qmp"));
    return QMIG_OUTCOME_UNCLEAR;
}

static int
watch(const CliReach *reach, CliRender *render)
{
    JsonObject *arguments = json_object_new_object();
    g_autoptr(JsonObject) end = NULL;
    g_autoptr(GError) error = NULL;

    json_object_object_add(arguments, "history", json_object_new_boolean(true));
    if (!qmig_control_call(reach->peer, "watch", arguments, NULL, &error)) {
        return cli_fail("watch", error, QMIG_OUTCOME_USAGE);
    }
    bool ok = cli_watch_to_end(reach->peer, QMIG_DEADLINE_NEVER, show, render, &end,
                               &error);
    cli_render_end(render);
    if (ok) {
        return conclude(end);
    }
    return g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED)
               ? tell_killed(reach, error)
               : cli_fail("watch", error, QMIG_OUTCOME_USAGE);
}

int
cli_watch(int argc, char **argv)
{
    g_auto(CliReach) reach = { 0 };
    g_autoptr(GError) error = NULL;
    CliRender render;

    if (!cli_parse(
            &argc, &argv, entries, "TARGET",
            "Follows a running qmig migrate to its end: what happened before too.\n\n" CLI_TARGET_HELP
            "\nExit: that of the migration.",
            1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (g_strcmp0(arg_progress, "json") == 0 ||
        !cli_render_init(&render, stdout, arg_progress)) {
        fprintf(stderr, "qmig watch: --progress: \"%s\", wanted auto, tty or plain\n",
                arg_progress);
        return QMIG_OUTCOME_USAGE;
    }
    if (!cli_reach(argv[1], false, &reach, &error)) {
        return cli_fail("watch", error, QMIG_OUTCOME_USAGE);
    }
    if (reach.peer == NULL) {
        fprintf(stderr,
                "qmig watch: no qmig migrate is running for \"%s\"; `qmig status "
                "--watch` follows a QEMU's own migration\n",
                argv[1]);
        return QMIG_OUTCOME_USAGE;
    }
    return watch(&reach, &render);
}
