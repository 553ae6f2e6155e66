/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig status [TARGET]: of a running qmig, of a QEMU, or the list of all that run. */
#include "cli/cli.h"
#include "cli/reach.h"
#include "cli/status-tunnel.h"
#include "qmp/knobs.h"
#include "util/error.h"
#include "util/units.h"

#include <stdio.h>

enum { WATCH_MS = 1000, LAST_NOTES = 3 };

static gboolean arg_json, arg_watch, arg_qmp;

static const GOptionEntry entries[] = {
    { "watch", 'w', 0, G_OPTION_ARG_NONE, &arg_watch,
      "a line a second until no migration runs", NULL },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg_json, "as one JSON object", NULL },
    { "qmp", 0, 0, G_OPTION_ARG_NONE, &arg_qmp, "ask QEMU only, no running qmig", NULL },
    G_OPTION_ENTRY_NULL,
};

static void row(const char *name, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void
row(const char *name, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    printf("%-11s", name);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

/* ---- of a QEMU -------------------------------------------------------------------------- */

static void
print_status(const QmigMigrationInfo *info, const char *state)
{
    g_autofree char *remaining = qmig_format_size(info->remaining);
    g_autofree char *total = qmig_format_size(info->total);
    g_autofree char *rate = qmig_format_rate((uint64_t)(info->mbps * 1e6 / 8));

    row("guest", "%s", state);
    row("migration", "%s", info->status_text);
    if (info->total > 0) {
        row("memory", "%s left of %s, iteration %" G_GUINT64_FORMAT, remaining, total,
            info->iterations);
        row("rate", "%s, dirtied %" G_GUINT64_FORMAT " pages/s", rate, info->dirty_rate);
    }
    if (info->throttle_percent > 0) {
        row("throttle", "%" G_GUINT64_FORMAT " %%", info->throttle_percent);
    }
    if (info->error != NULL) {
        row("error", "%s", info->error);
    }
    if (info->blocked != NULL) {
        row("blocked", "%s", info->blocked);
    }
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

/* ---- of a running qmig ------------------------------------------------------------------ */

static uint64_t
number(JsonObject *object, const char *key)
{
    return (uint64_t)MAX(qmig_json_int(object, key, 0), 0);
}

static void
print_memory(JsonObject *memory)
{
    g_autofree char *remaining = qmig_format_size(number(memory, "remaining"));
    g_autofree char *total = qmig_format_size(number(memory, "total"));
    g_autofree char *rate = qmig_format_rate(number(memory, "rate"));
    g_autofree char *dirty = qmig_format_rate(number(memory, "dirty_rate"));
    g_autofree char *left = qmig_format_duration(number(memory, "left_min_ms"));

    if (number(memory, "storage_total") > 0) {
        g_autofree char *done = qmig_format_size(number(memory, "storage_done"));
        g_autofree char *all = qmig_format_size(number(memory, "storage_total"));
        row("disks", "%s copied of %s", done, all);
    }
    if (number(memory, "total") == 0) {
        return;
    }
    row("memory", "%" G_GUINT64_FORMAT " %%: %s left of %s, pass %" G_GUINT64_FORMAT,
        number(memory, "percent"), remaining, total, number(memory, "iteration"));
    row("rate", "%s, dirtied %s%s%s", rate, dirty,
        qmig_json_int(memory, "left_min_ms", -1) >= 0 ? ", left at least " : "",
        qmig_json_int(memory, "left_min_ms", -1) >= 0 ? left : "");
    if (number(memory, "throttle_percent") > 0) {
        row("throttle", "%" G_GUINT64_FORMAT " %%", number(memory, "throttle_percent"));
    }
}

static void
print_settings(JsonObject *settings)
{
    JsonObject *parameters = qmig_json_get(settings, "parameters", json_type_object);
    JsonObject *names = qmig_json_get(settings, "capabilities", json_type_array);
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; names != NULL && i < json_object_array_length(names); i++) {
        g_string_append_printf(
            text, "%s%s", text->len > 0 ? ", " : "",
            json_object_get_string(json_object_array_get_idx(names, i)));
    }
    if (parameters != NULL) {
        json_object_object_foreach(parameters, name, value)
        {
            g_autofree char *shown = qmig_knob_format_value(name, value);
            g_string_append_printf(text, "%s%s %s", text->len > 0 ? ", " : "", name,
                                   shown);
        }
    }
    if (text->len > 0) {
        row("settings", "%s", text->str);
    }
}

/* The last few decisions and messages. */
static void
print_notes(JsonObject *status)
{
    JsonObject *decisions = qmig_json_get(status, "decisions", json_type_array);
    JsonObject *messages = qmig_json_get(status, "messages", json_type_array);
    size_t n = decisions != NULL ? json_object_array_length(decisions) : 0;

    for (size_t i = n > LAST_NOTES ? n - LAST_NOTES : 0; i < n; i++) {
        JsonObject *decision = json_object_array_get_idx(decisions, i);
        row("decision", "%s: %s", qmig_json_string(decision, "what"),
            qmig_json_string(decision, "why"));
    }
    n = messages != NULL ? json_object_array_length(messages) : 0;
    for (size_t i = n > LAST_NOTES ? n - LAST_NOTES : 0; i < n; i++) {
        row("notice", "%s",
            json_object_get_string(json_object_array_get_idx(messages, i)));
    }
}

static void
print_postcopy(JsonObject *postcopy)
{
    int64_t broken_ms = qmig_json_int(postcopy, "broken_ms", -1);
    g_autofree char *broken = qmig_format_duration((uint64_t)MAX(broken_ms, 0));

    if (broken_ms >= 0) {
        row("post-copy", "broken for %s, tried %" G_GINT64_FORMAT " times", broken,
            qmig_json_int(postcopy, "tries", 0));
    } else if (qmig_json_bool(postcopy, "entered", false)) {
        row("post-copy", "under way");
    } else if (qmig_json_bool(postcopy, "allowed", false)) {
        row("post-copy", "%s",
            qmig_json_bool(postcopy, "wanted", false) ? "asked for" : "allowed");
    }
}

static void
print_job(const QmigControlPeer *peer, JsonObject *status)
{
    JsonObject *greeting = qmig_control_peer_greeting(peer);
    JsonObject *job = qmig_json_get(greeting, "job", json_type_object);
    JsonObject *qmig = qmig_json_get(greeting, "qmig", json_type_object);
    const char *name = qmig_json_string(job, "guest");
    const char *undoing = qmig_json_string(status, "undoing");
    g_autofree char *since = qmig_format_duration(number(status, "ms"));

    row("guest", "%s%s%s on the %s", name != NULL ? name : "",
        name != NULL && name[0] != '\0' ? ", " : "",
        qmig_json_bool(status, "guest_runs", false) ? "running" : "not running",
        qmig_json_string(status, "owner"));
    row("migration", "%s -> %s",
        qmig_json_string(qmig_json_get(job, "source", json_type_object), "qmp"),
        qmig_json_string(qmig_json_get(job, "destination", json_type_object), "qmp"));
    row("by", "qmig, process %" G_GINT64_FORMAT ", for %s", qmig_json_int(qmig, "pid", 0),
        since);
    row("phase", "%s, QEMU says \"%s\"%s", qmig_json_string(status, "phase"),
        qmig_json_string(status, "status"),
        qmig_json_bool(status, "can_cancel", true) ? "" : "; too late to cancel");
    if (undoing != NULL) {
        row("undoing", "%s", undoing);
    }
    print_memory(qmig_json_get(status, "memory", json_type_object));
    print_postcopy(qmig_json_get(status, "postcopy", json_type_object));
    print_settings(qmig_json_get(status, "settings", json_type_object));
    print_notes(status);
}

/* ---- together --------------------------------------------------------------------------- */

/* What --json prints: QEMU's part, and the running qmig's; null where there is none. */
static JsonObject *
new_status(const CliReach *reach, const char *state, bool running, JsonObject *reply,
           JsonObject *status)
{
    JsonObject *object = json_object_new_object(), *qmig = NULL;

    if (reach->peer != NULL) {
        qmig = json_object_new_object();
        json_object_object_foreach(qmig_control_peer_greeting(reach->peer), name, value)
        {
            json_object_object_add(qmig, name, json_object_get(value));
        }
        cli_add_text(qmig, "control", qmig_control_peer_path(reach->peer));
        json_object_object_add(qmig, "status", json_object_get(status));
    }
    cli_add_text(object, "guest", state);
    json_object_object_add(object, "running",
                           state != NULL ? json_object_new_boolean(running) : NULL);
    json_object_object_add(object, "migration", json_object_get(reply));
    json_object_object_add(object, "qmig", qmig);
    return object;
}

static void
print_object(JsonObject *object)
{
    if (arg_watch) {
        printf("%s\n",
               json_object_to_json_string_ext(
                   object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    } else {
        cli_print_json(object);
    }
}

/* Once, or with --watch until no migration runs. */
static bool
show_status(const CliReach *reach, bool *again, GError **error)
{
    g_autoptr(JsonObject) reply = NULL, status = NULL;
    g_auto(QmigMigrationInfo) info = { 0 };
    g_autofree char *state = NULL;
    bool running = false;

    if (reach->peer != NULL &&
        !qmig_control_call(reach->peer, "status", NULL, &status, error)) {
        return false;
    }
    if (reach->qmp != NULL &&
        (!qmig_qmp_query_status(reach->qmp, &running, &state, NULL, error) ||
         !qmig_qmp_execute(reach->qmp, "query-migrate", NULL, &reply, NULL, error))) {
        return false;
    }
    qmig_migration_info_parse(&info, reply);
    *again = arg_watch && (reach->peer != NULL || (info.status != QMIG_STATUS_NONE &&
                                                   !qmig_status_is_final(info.status)));
    g_autoptr(JsonObject) object = new_status(reach, state, running, reply, status);
    if (arg_json) {
        print_object(object);
    } else if (cli_is_tunnel(object)) {
        cli_print_tunnel_whole(object);
        printf("%s", arg_watch ? "\n" : "");
    } else if (reach->peer != NULL) {
        print_job(reach->peer, status);
        printf("%s", arg_watch ? "\n" : "");
    } else if (arg_watch) {
        print_line(&info, state);
    } else {
        print_status(&info, state);
    }
    fflush(stdout);
    return true;
}

/* ---- the list --------------------------------------------------------------------------- */

static JsonObject *
list_entry(QmigControlPeer *peer)
{
    g_autoptr(JsonObject) status = NULL;
    CliReach reach = { .peer = peer };

    if (!qmig_control_call(peer, "status", NULL, &status, NULL)) {
        return NULL;
    }
    return new_status(&reach, NULL, false, NULL, status);
}

static void
print_entry(JsonObject *entry)
{
    JsonObject *qmig = qmig_json_get(entry, "qmig", json_type_object);
    JsonObject *job = qmig_json_get(qmig, "job", json_type_object);
    JsonObject *status = qmig_json_get(qmig, "status", json_type_object);
    const char *name = qmig_json_string(job, "guest");

    if (cli_is_tunnel(entry)) {
        cli_print_tunnel(entry);
        return;
    }
    printf("%-20s %-11s %3" G_GINT64_FORMAT " %%  %s -> %s\n",
           name != NULL && name[0] != '\0' ? name : "-",
           qmig_json_string(status, "phase"),
           qmig_json_int(qmig_json_get(status, "memory", json_type_object), "percent", 0),
           qmig_json_string(qmig_json_get(job, "source", json_type_object), "qmp"),
           qmig_json_string(qmig_json_get(job, "destination", json_type_object), "qmp"));
}

static int
list_all(void)
{
    g_autoptr(GPtrArray) peers = qmig_control_list();
    g_autoptr(JsonObject) list = json_object_new_array();

    for (guint i = 0; i < peers->len; i++) {
        JsonObject *entry = list_entry(g_ptr_array_index(peers, i));
        if (entry != NULL) {
            json_object_array_add(list, entry);
        }
    }
    if (arg_json) {
        print_object(list);
        return 0;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        print_entry(json_object_array_get_idx(list, i));
    }
    if (json_object_array_length(list) == 0) {
        printf("no qmig migrate and no tunnel of this user is running\n");
    }
    return 0;
}

int
cli_status(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_auto(CliReach) reach = { 0 };
    bool again = true;

    if (!cli_parse(&argc, &argv, entries, "[TARGET]",
                   "Changes nothing. Without TARGET: all that run.\n\n" CLI_TARGET_HELP,
                   0, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (argc < 2) {
        return list_all();
    }
    if (!cli_reach(argv[1], arg_qmp, &reach, &error)) {
        return cli_fail("status", error, QMIG_OUTCOME_USAGE);
    }
    for (bool first = true; again; first = false) {
        if (!show_status(&reach, &again, &error)) {
            /* A qmig that is watched ends some time, and its QEMU with it. */
            return !first && reach.peer != NULL &&
                           g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED)
                       ? 0
                       : cli_fail("status", error, QMIG_OUTCOME_USAGE);
        }
        g_usleep(again ? WATCH_MS * 1000 : 0);
    }
    return 0;
}
