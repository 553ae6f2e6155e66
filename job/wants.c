/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which capabilities and parameters each side gets: what the user asked for, what every
 * migration needs, and what keeps a combination from losing the guest. What was asked for and
 * cannot be had is a problem, never left out.
 */
#include "job/job-priv.h"
#include "qmp/knobs.h"
#include "qmp/rules.h"

#include <string.h>

enum { QEMU_9_0 = 90000, QEMU_10_0 = 100000 };

typedef struct {
    QmigJob *job;
    GString *problems;
} Choice;

static bool
has(JsonObject *object, const char *name)
{
    return json_object_object_get_ex(object, name, NULL);
}

/* Take one asked capability or parameter to one side. */
static void
want_on(Choice *choice, const QmigSide *side, JsonObject *set, const char *name,
        const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonObject *value = qmig_knob_parse_value(name, text, side->schema, &error);

    if (value == NULL) {
        qmig_job_problem(choice->problems, "%s: %s", side->label, error->message);
        return;
    }
    json_object_object_add(set, name, value);
}

/* Take it to the sides that need it; what this qmig does not know is the source's. */
static void
want(Choice *choice, QmigKnobKind kind, const char *name, const char *text)
{
    QmigJob *job = choice->job;
    const QmigKnob *knob = qmig_knob_find(name);
    unsigned side = knob != NULL ? knob->side : QMIG_KNOB_SOURCE;
    bool capability = kind == QMIG_KNOB_CAPABILITY;

    if (knob != NULL && knob->kind != kind) {
        qmig_job_problem(choice->problems, "%s is a %s: ask for it by %s", name,
                         capability ? "parameter" : "capability",
                         capability ? "--set NAME=VALUE" : "--cap NAME");
        return;
    }
    if (side & QMIG_KNOB_SOURCE) {
        want_on(choice, &job->source, capability ? job->source_caps : job->source_params,
                name, text);
    }
    if (side & QMIG_KNOB_DESTINATION) {
        want_on(choice, &job->destination,
                capability ? job->destination_caps : job->destination_params, name, text);
    }
}

static void
add_capability(JsonObject *set, const char *name)
{
    json_object_object_add(set, name, json_object_new_boolean(true));
}

/* What this version cannot drive without risk for the guest. */
static void
refuse(Choice *choice)
{
    static const struct {
        const char *name, *why;
    } rows[] = {
        { "x-colo", "this version does not drive COLO" },
        { "background-snapshot", "it saves a guest, it does not move one" },
        { "mapped-ram",
          "it wants a file it can seek in: use qmig save --mapped-ram FILE, "
          "then qmig restore" },
    };
    QmigJob *job = choice->job;
    JsonObject *mode = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (has(job->source_caps, rows[i].name) ||
            has(job->options->capabilities, rows[i].name)) {
            qmig_job_problem(choice->problems, "capability %s: %s", rows[i].name,
                             rows[i].why);
        }
    }
    if (json_object_object_get_ex(job->source_params, "mode", &mode) &&
        g_strcmp0(json_object_get_string(mode), "normal") != 0) {
        qmig_job_problem(choice->problems, "mode=%s: this version drives \"normal\" only",
                         json_object_get_string(mode));
    }
}

/* A parameter of multifd that differs between the sides makes both hang, without an error. */
static void
agree_on(QmigJob *job, const char *name)
{
    JsonObject *ours, *theirs, *asked;

    if (json_object_object_get_ex(job->source_params, name, &asked) ||
        !json_object_object_get_ex(job->source.parameters, name, &ours) ||
        !json_object_object_get_ex(job->destination.parameters, name, &theirs) ||
        json_object_equal(ours, theirs)) {
        return;
    }
    json_object_object_add(job->destination_params, name, json_object_get(ours));
    g_autofree char *what = g_strdup_printf("destination: %s=%s", name,
                                            json_object_get_string(ours));
    qmig_job_decide(
        job, what,
        "the source has it so, and with multifd both would hang if it differed");
}

static void
keep_zero_pages(Choice *choice)
{
    QmigJob *job = choice->job;
    JsonObject *asked = NULL;

    if (job->source.version < QEMU_9_0 || job->destination.version >= QEMU_9_0 ||
        !has(job->source.parameters, "zero-page-detection")) {
        return;
    }
    if (json_object_object_get_ex(job->source_params, "zero-page-detection", &asked)) {
        if (strcmp(json_object_get_string(asked), "multifd") == 0) {
            qmig_job_problem(
                choice->problems,
                "zero-page-detection=multifd: a destination before 9.0 "
                "ignores those zero pages and keeps stale memory: use legacy");
        }
        return;
    }
    json_object_object_add(job->source_params, "zero-page-detection",
                           json_object_new_string("legacy"));
    qmig_job_decide(job, "zero-page-detection=legacy",
                    "a destination before 9.0 ignores zero pages in multifd packets and "
                    "would keep stale memory");
}

/* What every migration needs, asked or not. */
static void
want_basics(Choice *choice)
{
    QmigJob *job = choice->job;

    /* MIGRATION events are off by default; without the return path "completed" would say
     * nothing about the destination. */
    want(choice, QMIG_KNOB_CAPABILITY, "events", "on");
    add_capability(job->destination_caps, "events");
    want(choice, QMIG_KNOB_CAPABILITY, "return-path", "on");
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
        qmig_job_decide(job, "max-bandwidth=0 (no limit)",
                        "--bandwidth was not given, and QEMU's own default is 128 MiB/s");
    }
    job->options->postcopy = job->options->postcopy ||
                             has(job->source_caps, "postcopy-ram");
    if (job->options->postcopy) {
        want(choice, QMIG_KNOB_CAPABILITY, "postcopy-ram", "on");
    }
    if (job->wants_pre_switchover) {
        want(choice, QMIG_KNOB_CAPABILITY, "pause-before-switchover", "on");
    }
    /* QEMU wants it where the answer is given, too. */
    if (has(job->destination_caps, "switchover-ack")) {
        add_capability(job->destination_caps, "return-path");
    }
    if (has(job->source_caps, "multifd")) {
        keep_zero_pages(choice);
        agree_on(job, "multifd-channels");
        agree_on(job, "multifd-compression");
    }
}

/* QEMU calls it a feature of the kernel that is missing, when the socket is no tcp. */
static void
check_zero_copy(Choice *choice)
{
    const QmigJobOptions *options = choice->job->options;
    const QmigAddress *direct = options->via->len > 0          ? options->source
                                : options->migrate_uri != NULL ? options->migrate_uri
                                                               : options->destination;
    const QmigAddress *proxy = options->listen != NULL ? options->listen
                                                       : options->source;
    const QmigAddress *address = options->direct ? direct : proxy;

    if (has(choice->job->source_caps, "zero-copy-send") &&
        address->kind == QMIG_ADDRESS_UNIX) {
        qmig_job_problem(
            choice->problems,
            "zero-copy-send: QEMU can send without copying over tcp only, and "
            "would connect to a unix socket: add %s=tcp:127.0.0.1:0",
            options->direct ? "--migrateuri" : "--listen");
    }
}

/* ---- what goes together ------------------------------------------------------------------ */

typedef struct {
    Choice *choice;
    const char *label;
    GPtrArray *told; /* both sides break the same rules: once is enough */
} Telling;

static void
on_rule(void *data, bool is_fatal, const char *text)
{
    Telling *telling = data;

    if (g_ptr_array_find_with_equal_func(telling->told, text, g_str_equal, NULL)) {
        return;
    }
    g_ptr_array_add(telling->told, g_strdup(text));
    if (is_fatal) {
        qmig_job_problem(telling->choice->problems, "%s: %s", telling->label, text);
    } else {
        qmig_job_message(telling->choice->job, "%s: %s", telling->label, text);
    }
}

static void
check_rules(Choice *choice)
{
    QmigJob *job = choice->job;
    g_autoptr(GPtrArray) told = g_ptr_array_new_with_free_func(g_free);
    Telling source = { choice, job->source.label, told };
    Telling destination = { choice, job->destination.label, told };

    qmig_rules_check(job->source_caps, job->source_params, job->source.parameters,
                     job->options->asked_by, job->source.version, on_rule, &source);
    qmig_rules_check(job->destination_caps, job->destination_params,
                     job->destination.parameters, job->options->asked_by,
                     job->destination.version, on_rule, &destination);
}

static void
tell_leftovers(QmigJob *job, const QmigSide *side, JsonObject *wanted)
{
    g_autofree char *names = qmig_side_leftover_capabilities(side, wanted);

    if (names != NULL) {
        g_autofree char *what = g_strdup_printf("%s: %s off meanwhile", side->label,
                                                names);
        qmig_job_decide(
            job, what, "it was on already, and not asked for by --cap or another option");
    }
}

void
qmig_job_choose_settings(QmigJob *job, GString *problems)
{
    Choice choice = { .job = job, .problems = problems };

    job->source_caps = json_object_new_object();
    job->source_params = json_object_new_object();
    job->destination_caps = json_object_new_object();
    job->destination_params = json_object_new_object();
    json_object_object_foreach(job->options->capabilities, name, state)
    {
        if (json_object_get_boolean(state)) {
            want(&choice, QMIG_KNOB_CAPABILITY, name, "on");
        }
    }
    json_object_object_foreach(job->options->parameters, parameter, text)
    {
        want(&choice, QMIG_KNOB_PARAMETER, parameter, json_object_get_string(text));
    }
    refuse(&choice);
    want_basics(&choice);
    check_zero_copy(&choice);
    check_rules(&choice);
    tell_leftovers(job, &job->source, job->source_caps);
    tell_leftovers(job, &job->destination, job->destination_caps);
}
