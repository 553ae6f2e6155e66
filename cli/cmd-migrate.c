/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig migrate SOURCE DESTINATION. Options that mean the same as virsh's carry its names. */
#include "cli/cli.h"
#include "cli/render.h"
#include "qmp/knobs.h"
#include "util/error.h"
#include "util/units.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* What the command line said, before it is understood. */
static struct {
    char *migrate_uri, *listen, *record, *bandwidth, *downtime, *timeout, *cache,
        *progress, *connections;
    char **plugins, **set, **cap, **methods;
    gboolean direct, suspend, keep_source, parallel, compressed, auto_converge, json;
    gboolean postcopy, after_precopy, timeout_postcopy, timeout_suspend;
    char *recover_timeout;
} arg;

static const GOptionEntry entries[] = {
    { "bandwidth", 0, 0, G_OPTION_ARG_STRING, &arg.bandwidth,
      "limit, e.g. 1.5Gbit or 100MiB/s (default: none)", "RATE" },
    { "downtime", 0, 0, G_OPTION_ARG_STRING, &arg.downtime,
      "blackout to aim for (QEMU: 300ms)", "TIME" },
    { "timeout", 0, 0, G_OPTION_ARG_STRING, &arg.timeout, "cancel when not done by then",
      "TIME" },
    { "parallel", 0, 0, G_OPTION_ARG_NONE, &arg.parallel, "several connections (multifd)",
      NULL },
    { "parallel-connections", 0, 0, G_OPTION_ARG_STRING, &arg.connections,
      "how many; implies --parallel", "N" },
    { "compressed", 0, 0, G_OPTION_ARG_NONE, &arg.compressed,
      "same as --comp-methods xbzrle", NULL },
    { "comp-methods", 0, 0, G_OPTION_ARG_STRING_ARRAY, &arg.methods,
      "xbzrle; zlib or zstd (both imply --parallel)", "NAME" },
    { "comp-xbzrle-cache", 0, 0, G_OPTION_ARG_STRING, &arg.cache, "cache of xbzrle",
      "SIZE" },
    { "auto-converge", 0, 0, G_OPTION_ARG_NONE, &arg.auto_converge,
      "slow a guest that dirties too fast", NULL },
    { "postcopy", 0, 0, G_OPTION_ARG_NONE, &arg.postcopy,
      "allow post-copy: begun by qmig postcopy or as below", NULL },
    { "postcopy-after-precopy", 0, 0, G_OPTION_ARG_NONE, &arg.after_precopy,
      "begin post-copy after the first pass", NULL },
    { "timeout-postcopy", 0, 0, G_OPTION_ARG_NONE, &arg.timeout_postcopy,
      "at --timeout begin post-copy, do not cancel", NULL },
    { "timeout-suspend", 0, 0, G_OPTION_ARG_NONE, &arg.timeout_suspend,
      "at --timeout stop the guest until it arrived", NULL },
    { "recover-timeout", 0, 0, G_OPTION_ARG_STRING, &arg.recover_timeout,
      "try so long to resume post-copy (default: 60s)", "TIME" },
    { "suspend", 0, 0, G_OPTION_ARG_NONE, &arg.suspend,
      "leave it paused on the destination", NULL },
    { "keep-source", 0, 0, G_OPTION_ARG_NONE, &arg.keep_source,
      "do not quit the source; it stays, stopped", NULL },
    { "direct", 0, 0, G_OPTION_ARG_NONE, &arg.direct, "without the proxy", NULL },
    { "plugin", 0, 0, G_OPTION_ARG_STRING_ARRAY, &arg.plugins,
      "NAME[:key=value,…]; may be repeated", "SPEC" },
    { "record", 0, 0, G_OPTION_ARG_FILENAME, &arg.record,
      "write all connections into a new directory", "DIR" },
    { "migrateuri", 0, 0, G_OPTION_ARG_STRING, &arg.migrate_uri,
      "where the destination shall listen", "ADDRESS" },
    { "listen", 0, 0, G_OPTION_ARG_STRING, &arg.listen,
      "where the proxy listens for the source", "ADDRESS" },
    { "set", 0, 0, G_OPTION_ARG_STRING_ARRAY, &arg.set, "any parameter QEMU has",
      "NAME=VALUE" },
    { "cap", 0, 0, G_OPTION_ARG_STRING_ARRAY, &arg.cap, "any capability QEMU has",
      "NAME" },
    { "progress", 0, 0, G_OPTION_ARG_STRING, &arg.progress,
      "auto, tty, plain, json or none; on stderr", "KIND" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "the report as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "SOURCE and DESTINATION are QMP addresses. Start the destination like the\n"
    "source, with -S -incoming defer.\n\n"
    "Exit: 0 done, 1 usage, 2 refused, 3 failed, 4 cancelled, 5 deadline,\n"
    "6 post-copy paused, 7 ownership unclear. After 1 to 5 the guest is on the\n"
    "source as before.\n";

static QmigCancel *signal_cancel;
static volatile sig_atomic_t n_signals;

/* The job tells that it is cancelling; a second signal only hears that it is. */
static void
on_signal(int number)
{
    static const char again[] = "\nqmig migrate: the cancel is under way\n";

    (void)number;
    n_signals = n_signals + 1;
    if (n_signals == 1 || write(STDERR_FILENO, again, sizeof again - 1) >= 0) {
        qmig_cancel_raise(signal_cancel);
    }
}

static void
ask_capability(QmigJobOptions *options, const char *name)
{
    json_object_object_add(options->capabilities, name, json_object_new_boolean(true));
}

static void
ask_parameter(QmigJobOptions *options, const char *name, const char *text)
{
    if (text != NULL) {
        json_object_object_add(options->parameters, name, json_object_new_string(text));
    }
}

static bool
take_methods(QmigJobOptions *options, GError **error)
{
    bool xbzrle = arg.compressed && arg.methods == NULL;

    for (char **list = arg.methods; list != NULL && *list != NULL; list++) {
        g_auto(GStrv) names = g_strsplit(*list, ",", 0);
        for (char **name = names; *name != NULL; name++) {
            if (strcmp(*name, "xbzrle") == 0) {
                xbzrle = true;
            } else if (strcmp(*name, "zlib") == 0 || strcmp(*name, "zstd") == 0) {
                arg.parallel = TRUE;
                ask_parameter(options, "multifd-compression", *name);
            } else {
                return qmig_set_error(
                    error, QMIG_ERROR_CONFIG,
                    "--comp-methods: \"%s\", wanted xbzrle, zlib or zstd%s", *name,
                    strcmp(*name, "mt") == 0 ? " (QEMU removed mt compression in 9.1)"
                                             : "");
            }
        }
    }
    if (xbzrle || arg.cache != NULL) {
        ask_capability(options, "xbzrle");
        ask_parameter(options, "xbzrle-cache-size", arg.cache);
    }
    return true;
}

static bool
take_knobs(QmigJobOptions *options, GError **error)
{
    ask_parameter(options, "max-bandwidth", arg.bandwidth);
    ask_parameter(options, "downtime-limit", arg.downtime);
    if (!take_methods(options, error)) {
        return false;
    }
    if (arg.connections != NULL) {
        arg.parallel = TRUE;
        ask_parameter(options, "multifd-channels", arg.connections);
    }
    if (arg.parallel) {
        ask_capability(options, "multifd");
    }
    if (arg.auto_converge) {
        ask_capability(options, "auto-converge");
    }
    for (char **name = arg.cap; name != NULL && *name != NULL; name++) {
        ask_capability(options, *name);
    }
    for (char **pair = arg.set; pair != NULL && *pair != NULL; pair++) {
        char *value = strchr(*pair, '=');
        if (value == NULL || value == *pair) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "--set: \"%s\", wanted NAME=VALUE", *pair);
        }
        g_autofree char *name = g_strndup(*pair, (gsize)(value - *pair));
        ask_parameter(options, name, value + 1);
    }
    return true;
}

/* What can be judged without a QEMU: is it of the kind asked for, and its value well-formed? */
static bool
check_knobs(const QmigJobOptions *options, GError **error)
{
    json_object_object_foreach(options->capabilities, capability, state)
    {
        const QmigKnob *knob = qmig_knob_find(capability);
        (void)state;
        if (knob != NULL && knob->kind != QMIG_KNOB_CAPABILITY) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "--cap: \"%s\" is a parameter: give it by --set",
                                  capability);
        }
    }
    json_object_object_foreach(options->parameters, name, text)
    {
        const QmigKnob *knob = qmig_knob_find(name);
        g_autoptr(JsonObject) value = NULL;
        if (knob != NULL && knob->kind != QMIG_KNOB_PARAMETER) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "--set: \"%s\" is a capability: give it by --cap",
                                  name);
        }
        value = knob != NULL ? qmig_knob_parse_value(name, json_object_get_string(text),
                                                     NULL, error)
                             : NULL;
        if (knob != NULL && value == NULL) {
            return false;
        }
    }
    return true;
}

static bool
take_address(const char *text, QmigAddress **address, GError **error)
{
    if (text != NULL) {
        *address = qmig_address_parse(text, error);
    }
    return text == NULL || *address != NULL;
}

static bool
take_postcopy(QmigJobOptions *options, GError **error)
{
    if (arg.timeout_postcopy && arg.timeout_suspend) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--timeout-postcopy and --timeout-suspend exclude each other");
    }
    if ((arg.timeout_postcopy || arg.timeout_suspend) && arg.timeout == NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--timeout-%s needs --timeout TIME",
                              arg.timeout_postcopy ? "postcopy" : "suspend");
    }
    options->postcopy = arg.postcopy || arg.after_precopy || arg.timeout_postcopy;
    options->postcopy_after_precopy = arg.after_precopy;
    options->on_timeout = arg.timeout_postcopy  ? QMIG_ON_TIMEOUT_POSTCOPY
                          : arg.timeout_suspend ? QMIG_ON_TIMEOUT_SUSPEND
                                                : QMIG_ON_TIMEOUT_CANCEL;
    return arg.recover_timeout == NULL ||
           qmig_parse_duration(arg.recover_timeout, &options->recover_ms, error);
}

static QmigJobOptions *
take_options(char **argv, GError **error)
{
    g_autoptr(QmigJobOptions) options = qmig_job_options_new();

    if (!take_address(argv[1], &options->source, error) ||
        !take_address(argv[2], &options->destination, error) ||
        !take_address(arg.migrate_uri, &options->migrate_uri, error) ||
        !take_address(arg.listen, &options->listen, error) ||
        !take_knobs(options, error) || !take_postcopy(options, error) ||
        !check_knobs(options, error) ||
        (arg.timeout != NULL &&
         !qmig_parse_duration(arg.timeout, &options->timeout_ms, error))) {
        return NULL;
    }
    for (char **spec = arg.plugins; spec != NULL && *spec != NULL; spec++) {
        g_ptr_array_add(options->plugins, g_strdup(*spec));
    }
    if (arg.direct && (arg.plugins != NULL || arg.listen != NULL || arg.record != NULL)) {
        qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--direct goes without proxy: --plugin, --listen and --record need "
            "one");
        return NULL;
    }
    options->direct = arg.direct;
    options->record = g_strdup(arg.record);
    options->suspend = arg.suspend;
    options->keep_source = arg.keep_source;
    return g_steal_pointer(&options);
}

static int
run(QmigJobOptions *options, CliRender *render, const QmigCancel *cancel)
{
    g_autoptr(QmigJob) job = qmig_job_new(options, &cli_render_watcher, render, cancel);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) report = NULL;
    QmigOutcome outcome = qmig_job_run(job, &error);

    cli_render_end(render);
    report = qmig_job_report(job);
    if (arg.json) {
        cli_print_json(report);
    } else if (outcome == QMIG_OUTCOME_DONE) {
        cli_print_report(report);
    }
    return outcome == QMIG_OUTCOME_DONE ? 0 : cli_fail("migrate", error, (int)outcome);
}

int
cli_migrate(int argc, char **argv)
{
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    g_autoptr(GError) error = NULL;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    CliRender render;

    if (!cli_parse(&argc, &argv, entries, "SOURCE DESTINATION", description, 2, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (!cli_render_init(&render, arg.progress)) {
        fprintf(
            stderr,
            "qmig migrate: --progress: \"%s\", wanted auto, tty, plain, json or none\n",
            arg.progress);
        return QMIG_OUTCOME_USAGE;
    }
    QmigJobOptions *options = take_options(argv, &error);
    if (options == NULL) {
        return cli_fail("migrate", error, QMIG_OUTCOME_USAGE);
    }
    signal_cancel = cancel;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    return run(options, &render, cancel);
}
