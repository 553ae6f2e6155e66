/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Do the two sides fit, and what will be set in them. Nothing is touched here; all problems are
 * found before any is told.
 */
#include "job/job-priv.h"
#include "plugin/chain.h"
#include "qmp/knobs.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

enum { QEMU_9_0 = 90000, QEMU_10_0 = 100000 };

typedef struct {
    QmigJob *job;
    GString *problems; /* one a line */
} Check;

static void problem(Check *check, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void
problem(Check *check, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_string_append(check->problems, check->problems->len > 0 ? "\n  " : "");
    g_string_append_vprintf(check->problems, fmt, ap);
    va_end(ap);
}

static void
check_states(Check *check)
{
    static const char *const movable[] = { "running",        "paused",   "suspended",
                                           "prelaunch",      "io-error", "watchdog",
                                           "guest-panicked", NULL };
    const QmigSide *source = &check->job->source;
    const QmigSide *destination = &check->job->destination;

    if (!g_strv_contains(movable, source->run_state)) {
        problem(check, "source: its guest is \"%s\"%s", source->run_state,
                strcmp(source->run_state, "postmigrate") == 0
                    ? ": it has been migrated away already"
                    : ", which cannot be migrated");
    }
    if (!qmig_status_is_final(source->migration) &&
        source->migration != QMIG_STATUS_NONE) {
        problem(check, "source: a migration is running; see qmig status, or end it by "
                       "qmig cancel");
    }
    if (strcmp(destination->run_state, "inmigrate") != 0) {
        problem(check,
                "destination: its state is \"%s\", wanted \"inmigrate\": start it with "
                "-S -incoming defer",
                destination->run_state);
    } else if (destination->migration != QMIG_STATUS_NONE) {
        problem(check,
                "destination: it listens already, or has failed once: start a fresh one "
                "with -S -incoming defer");
    }
}

static void
check_machines(Check *check)
{
    const QmigSide *source = &check->job->source;
    const QmigSide *destination = &check->job->destination;

    if (strcmp(source->machine, destination->machine) != 0) {
        problem(check,
                "machine type: source \"%s\", destination \"%s\": start the destination "
                "with -machine %s",
                source->machine, destination->machine, source->machine);
    }
    if (source->memory != destination->memory) {
        g_autofree char *a = qmig_format_size(source->memory);
        g_autofree char *b = qmig_format_size(destination->memory);
        problem(check, "memory: source %s, destination %s: start both with the same -m",
                a, b);
    }
    if (source->vcpus != destination->vcpus) {
        problem(check, "vCPUs: source %u, destination %u: start both with the same -smp",
                source->vcpus, destination->vcpus);
    }
}

/* Blockers, as the source itself tells them. */
static void
check_blocked(Check *check)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    if (qmig_qmp_query_migrate(check->job->source.qmp, &info, NULL, NULL) &&
        info.blocked != NULL) {
        problem(check, "source: blocked: %s", info.blocked);
    }
}

/* Take one asked capability or parameter to one side. */
static void
want_on(Check *check, const QmigSide *side, JsonObject *set, const char *name,
        const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonObject *value = qmig_knob_parse_value(name, text, side->schema, &error);

    if (value == NULL) {
        problem(check, "%s: %s", side->label, error->message);
        return;
    }
    json_object_object_add(set, name, value);
}

/* Take it to the sides that need it; what this qmig does not know is the source's. */
static void
want(Check *check, QmigKnobKind kind, const char *name, const char *text)
{
    QmigJob *job = check->job;
    const QmigKnob *knob = qmig_knob_find(name);
    unsigned side = knob != NULL ? knob->side : QMIG_KNOB_SOURCE;
    bool capability = kind == QMIG_KNOB_CAPABILITY;

    if (side & QMIG_KNOB_SOURCE) {
        want_on(check, &job->source, capability ? job->source_caps : job->source_params,
                name, text);
    }
    if (side & QMIG_KNOB_DESTINATION) {
        want_on(check, &job->destination,
                capability ? job->destination_caps : job->destination_params, name, text);
    }
}

static bool
has(JsonObject *object, const char *name)
{
    return json_object_object_get_ex(object, name, NULL);
}

static void
add_capability(JsonObject *set, const char *name)
{
    json_object_object_add(set, name, json_object_new_boolean(true));
}

/* What every migration needs, asked or not; each with its reason. */
static void
want_basics(Check *check)
{
    QmigJob *job = check->job;

    /* MIGRATION events are off by default; without the return path "completed" would say
     * nothing about the destination. */
    want(check, QMIG_KNOB_CAPABILITY, "events", "on");
    add_capability(job->destination_caps, "events");
    want(check, QMIG_KNOB_CAPABILITY, "return-path", "on");
    /* Before 10.0 a destination takes the disks' locks when it has loaded, not when it runs:
     * a source whose guest comes back would run without its disks. */
    if (job->destination.version < QEMU_10_0 &&
        has(job->destination.capabilities, "late-block-activate")) {
        add_capability(job->destination_caps, "late-block-activate");
    }
    if (!has(job->source_params, "max-bandwidth") &&
        has(job->source.parameters, "max-bandwidth")) {
        json_object_object_add(job->source_params, "max-bandwidth",
                               json_object_new_int64(0));
        qmig_job_message(job, "bandwidth: not limited (QEMU's own default is 128 MiB/s); "
                              "--bandwidth limits it");
    }
    if (has(job->source_caps, "multifd") && job->source.version >= QEMU_9_0 &&
        job->destination.version < QEMU_9_0 &&
        has(job->source.parameters, "zero-page-detection")) {
        json_object_object_add(job->source_params, "zero-page-detection",
                               json_object_new_string("legacy"));
        qmig_job_message(job,
                         "zero-page-detection=legacy: a destination before 9.0 ignores "
                         "zero pages in multifd packets and would keep stale memory");
    }
}

static void
check_wants(Check *check)
{
    QmigJob *job = check->job;

    job->source_caps = json_object_new_object();
    job->source_params = json_object_new_object();
    job->destination_caps = json_object_new_object();
    job->destination_params = json_object_new_object();
    json_object_object_foreach(job->options->capabilities, name, state)
    {
        if (json_object_get_boolean(state)) {
            want(check, QMIG_KNOB_CAPABILITY, name, "on");
        }
    }
    json_object_object_foreach(job->options->parameters, parameter, text)
    {
        want(check, QMIG_KNOB_PARAMETER, parameter, json_object_get_string(text));
    }
    if (has(job->source_caps, "postcopy-ram") || has(job->source_caps, "x-colo")) {
        problem(check,
                "capabilities postcopy-ram and x-colo change who owns the guest while "
                "it is moved: this version does not drive them");
    }
    want_basics(check);
}

/* A plugin's refusal must come before anything is touched. */
static void
check_plugins(Check *check)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain) chain = NULL;

    if (check->job->options->direct) {
        return;
    }
    chain = qmig_chain_new((const char *const *)check->job->options->plugins->pdata, NULL,
                           NULL, &error);
    if (chain == NULL) {
        problem(check, "%s", error->message);
    }
}

bool
qmig_job_check(QmigJob *job, GError **error)
{
    Check check = { .job = job, .problems = g_string_new(NULL) };
    g_autofree char *text = NULL;

    check_states(&check);
    check_machines(&check);
    check_blocked(&check);
    check_wants(&check);
    check_plugins(&check);
    text = g_string_free(check.problems, FALSE);
    return text[0] == '\0' || qmig_set_error(error, QMIG_ERROR_STATE, "%s", text);
}
