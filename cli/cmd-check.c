/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig check SOURCE DESTINATION, and the plan of qmig migrate --dry-run. */
#include "cli/cli.h"
#include "cli/migrate-options.h"

#include <stdio.h>
#include <string.h>

void
cli_check_print_help(void)
{
    printf("Usage:\n"
           "  qmig check [OPTION…] SOURCE DESTINATION\n\n"
           "  -h, --help     say what there is\n"
           "  --json         as one JSON object\n\n"
           "And all options of qmig migrate: what they need is checked, too.\n\n"
           "Would this guest arrive there, and be the same? Asks both QEMUs, touches\n"
           "nothing, and tells all that differs, each with what to change.\n\n"
           "Exit: 0 they fit, 1 usage, 2 they do not, or could not be asked.\n");
}

/* ---- findings ------------------------------------------------------------------------------ */

static void
print_finding(JsonObject *finding)
{
    const char *advice = qmig_json_string(finding, "advice");
    const char *level = qmig_json_string(finding, "level");

    printf("%-8s %-9s %s\n", level, qmig_json_string(finding, "theme"),
           qmig_json_string(finding, "text"));
    if (advice != NULL) {
        printf("%18s -> %s\n", "", advice);
    }
    if (strcmp(level, "risky") == 0) {
        printf("%18s -> or --unsafe, if you know better\n", "");
    }
}

/* What was found about a theme; where there is nothing to change, that. */
static void
print_theme(JsonObject *theme, JsonObject *findings)
{
    const char *name = qmig_json_string(theme, "name");
    bool is_ok = strcmp(qmig_json_string(theme, "level"), "ok") == 0;
    g_autoptr(GString) notes = g_string_new(NULL);

    for (size_t i = 0; i < json_object_array_length(findings); i++) {
        JsonObject *finding = json_object_array_get_idx(findings, i);

        if (strcmp(qmig_json_string(finding, "theme"), name) != 0) {
            continue;
        }
        if (strcmp(qmig_json_string(finding, "level"), "note") != 0) {
            print_finding(finding);
        } else if (is_ok) {
            g_string_append_printf(notes, "%s%s", notes->len > 0 ? "; " : "",
                                   qmig_json_string(finding, "text"));
        }
    }
    if (is_ok) {
        printf("%-8s %s%*s%s\n", "ok", name, notes->len > 0 ? 10 - (int)strlen(name) : 0,
               "", notes->str);
    }
}

static void
print_findings(JsonObject *preflight)
{
    JsonObject *themes = qmig_json_get(preflight, "themes", json_type_array);
    JsonObject *findings = qmig_json_get(preflight, "findings", json_type_array);

    for (size_t i = 0;
         themes != NULL && findings != NULL && i < json_object_array_length(themes);
         i++) {
        print_theme(json_object_array_get_idx(themes, i), findings);
    }
}

static int
check(QmigJobOptions *options, bool json)
{
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, cli_cancel_on_signals());
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) whole = NULL, report = json_object_new_object();
    QmigOutcome outcome = qmig_job_run(job, &error);

    whole = qmig_job_report(job);
    JsonObject *preflight = qmig_json_get(whole, "preflight", json_type_object);
    if (json) {
        json_object_object_add(report, "fits",
                               json_object_new_boolean(outcome == QMIG_OUTCOME_DONE));
        json_object_object_add(report, "exit_code", json_object_new_int(outcome));
        json_object_object_add(report, "preflight", json_object_get(preflight));
        json_object_object_add(
            report, "decisions",
            json_object_get(json_object_object_get(whole, "decisions")));
        json_object_object_add(report, "error",
                               preflight == NULL && error != NULL
                                   ? json_object_new_string(error->message)
                                   : NULL);
        cli_print_json(report);
    } else {
        print_findings(preflight);
    }
    /* What was found has been told. */
    if (outcome != QMIG_OUTCOME_DONE && preflight == NULL) {
        return cli_fail("check", error, (int)outcome);
    }
    if (outcome != QMIG_OUTCOME_DONE) {
        fprintf(stderr, "qmig check: they do not fit; nothing was touched\n");
    }
    return (int)outcome;
}

int
cli_check(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    if (!cli_migrate_parse(&argc, &argv)) {
        return QMIG_OUTCOME_USAGE;
    }
    QmigJobOptions *options = cli_migrate_take(argv, &error);
    if (options == NULL) {
        return cli_fail("check", error, QMIG_OUTCOME_USAGE);
    }
    options->check_only = true;
    return check(options, cli_option_given("json"));
}

/* ---- the plan ------------------------------------------------------------------------------- */

static void
print_step(JsonObject *step, const char *phase)
{
    const char *name = qmig_json_string(step, "phase");
    const char *note = qmig_json_string(step, "note");
    JsonObject *arguments = qmig_json_get(step, "arguments", json_type_object);

    if (strcmp(name, phase) != 0) {
        printf("%s\n", name);
    }
    if (note != NULL) {
        printf("  %-12s (%s)\n", "", note);
        return;
    }
    bool is_bare = arguments == NULL || json_object_object_length(arguments) == 0;
    printf("  %-12s %s%s%s\n", qmig_json_string(step, "side"),
           qmig_json_string(step, "command"), is_bare ? "" : " ",
           is_bare
               ? ""
               : json_object_to_json_string_ext(
                     arguments, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* A list of texts, or of objects with two each. */
static void
print_texts(JsonObject *list, const char *first, const char *second)
{
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *item = json_object_array_get_idx(list, i);
        const char *text = first != NULL ? qmig_json_string(item, first)
                                         : json_object_get_string(item);
        printf("%s%s%s%s\n", i == 0 ? "\n" : "", text, second != NULL ? ": " : "",
               second != NULL ? qmig_json_string(item, second) : "");
    }
}

void
cli_print_plan(JsonObject *report)
{
    JsonObject *plan = qmig_json_get(report, "plan", json_type_array);
    JsonObject *decisions = qmig_json_get(report, "decisions", json_type_array);
    const char *phase = "";

    printf("What qmig migrate would do; nothing was sent that changes anything.\n\n");
    for (size_t i = 0; plan != NULL && i < json_object_array_length(plan); i++) {
        JsonObject *step = json_object_array_get_idx(plan, i);
        print_step(step, phase);
        phase = qmig_json_string(step, "phase");
    }
    print_texts(decisions, "what", "why");
    print_texts(qmig_json_get(report, "messages", json_type_array), NULL, NULL);
}
