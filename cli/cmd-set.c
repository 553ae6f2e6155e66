/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig set TARGET NAME=VALUE… and qmig caps QMP. */
#include "cli/cli.h"
#include "cli/migrate-options.h"
#include "cli/reach.h"
#include "job/steer.h"
#include "qmp/knobs.h"
#include "util/error.h"

#include <stdio.h>
#include <string.h>

static gboolean arg_json, arg_qmp;

/*
 * QEMU's name of what a user calls like an option of `qmig migrate`: the parameter that takes the
 * option's value. "timeout" is qmig's own. (transfer full)
 */
static char *
qemu_name(const char *name)
{
    const CliOption *option = qmig_knob_find(name) == NULL ? cli_migrate_option(name)
                                                           : NULL;
    g_auto(GStrv) words = g_strsplit(
        option != NULL && option->sets != NULL ? option->sets : "", " ", 0);

    for (char **word = words; *word != NULL; word++) {
        const QmigKnob *knob = qmig_knob_find(*word);
        if (knob != NULL && knob->kind == QMIG_KNOB_PARAMETER) {
            return g_strdup(*word);
        }
    }
    return g_strdup(name);
}

/* {QEMU's name: text} of all pairs. */
static JsonObject *
split_pairs(char **pairs, GError **error)
{
    g_autoptr(JsonObject) texts = json_object_new_object();

    for (char **pair = pairs; *pair != NULL; pair++) {
        const char *text = strchr(*pair, '=');

        if (text == NULL || text == *pair) {
            qmig_set_error(error, QMIG_ERROR_CONFIG, "\"%s\", wanted NAME=VALUE", *pair);
            return NULL;
        }
        g_autofree char *given = g_strndup(*pair, (gsize)(text - *pair));
        g_autofree char *name = qemu_name(given);
        json_object_object_add(texts, name, json_object_new_string(text + 1));
    }
    return g_steal_pointer(&texts);
}

static bool
is_migrating(QmigQmp *qmp, bool *migrating, GError **error)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    if (!qmig_qmp_query_migrate(qmp, &info, NULL, error)) {
        return false;
    }
    *migrating = info.status != QMIG_STATUS_NONE && info.status != QMIG_STATUS_SETUP &&
                 !qmig_status_is_final(info.status);
    return true;
}

/* All pairs are understood before any is set. */
static bool
set_qemu(QmigQmp *qmp, JsonObject *texts, GError **error)
{
    g_autoptr(JsonObject) values = json_object_new_object();
    g_autoptr(QmigSchema) schema = qmig_schema_load(qmp, error);
    bool migrating;

    if (schema == NULL || !is_migrating(qmp, &migrating, error)) {
        return false;
    }
    json_object_object_foreach(texts, name, text)
    {
        const QmigKnob *knob = qmig_knob_find(name);
        bool is_capability = knob != NULL && knob->kind != QMIG_KNOB_PARAMETER;
        JsonObject *value;

        if (strcmp(name, "timeout") == 0) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "timeout: it is qmig's own, and no qmig migrate is "
                                  "running for it");
        }
        if (strcmp(name, "throttle") == 0 || strchr(name, '.') != NULL) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "%s: it is a plugin's, and no qmig migrate with that "
                                  "plugin is running for it",
                                  name);
        }
        if ((migrating || is_capability) && !qmig_steer_check_parameter(name, error)) {
            return false;
        }
        value = qmig_knob_parse_value(name, json_object_get_string(text), schema, error);
        if (value == NULL) {
            return false;
        }
        json_object_object_add(values, name, value);
    }
    return qmig_qmp_set_parameters(qmp, values, error);
}

static const GOptionEntry set_entries[] = {
    { "qmp", 0, 0, G_OPTION_ARG_NONE, &arg_qmp, "tell QEMU itself, no running qmig",
      NULL },
    G_OPTION_ENTRY_NULL,
};

int
cli_set(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_auto(CliReach) reach = { 0 };
    JsonObject *texts;
    bool ok;

    if (!cli_parse(
            &argc, &argv, set_entries, "TARGET NAME=VALUE…",
            "Changes parameters, also while a migration runs. NAME is QEMU's, or an\n"
            "option of qmig migrate: bandwidth, downtime, timeout, … `qmig caps` "
            "lists\nQEMU's. PLUGIN.KEY=VALUE is for a plugin of the running migration,\n"
            "throttle=RATE for the rate of that one.\n\n" CLI_TARGET_HELP,
            2, 100)) {
        return QMIG_OUTCOME_USAGE;
    }
    texts = split_pairs(argv + 2, &error);
    if (texts == NULL || !cli_reach(argv[1], arg_qmp, &reach, &error)) {
        json_object_put(texts);
        return cli_fail("set", error, QMIG_OUTCOME_USAGE);
    }
    if (reach.peer != NULL) {
        ok = qmig_control_call(reach.peer, "set", texts, NULL, &error);
    } else {
        ok = set_qemu(reach.qmp, texts, &error);
        json_object_put(texts);
    }
    return ok ? 0 : cli_fail("set", error, QMIG_OUTCOME_USAGE);
}

static void
print_knobs(const char *title, JsonObject *have)
{
    static const char *const sides[] = {
        [QMIG_KNOB_SOURCE] = "source",
        [QMIG_KNOB_DESTINATION] = "destination",
        [QMIG_KNOB_BOTH] = "both",
    };

    printf("%s\n", title);
    json_object_object_foreach(have, name, value)
    {
        const QmigKnob *knob = qmig_knob_find(name);
        g_autofree char *text = qmig_knob_format_value(name, value);

        printf("  %-28s %-14s %-12s %s\n", name, text,
               knob != NULL ? sides[knob->side] : "?",
               knob != NULL ? knob->help : QMIG_KNOB_UNKNOWN_HELP);
    }
}

static const GOptionEntry caps_entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg_json, "as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

int
cli_caps(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigQmp) qmp = NULL;
    g_autoptr(JsonObject) capabilities = NULL, parameters = NULL;

    if (!cli_parse(
            &argc, &argv, caps_entries, "QMP",
            "What this QEMU has, its present value, on which side it has to be set.", 1,
            1)) {
        return QMIG_OUTCOME_USAGE;
    }
    qmp = cli_connect(argv[1], &error);
    capabilities = qmp != NULL ? qmig_qmp_get_capabilities(qmp, &error) : NULL;
    parameters = capabilities != NULL ? qmig_qmp_get_parameters(qmp, &error) : NULL;
    if (parameters == NULL) {
        return cli_fail("caps", error, QMIG_OUTCOME_USAGE);
    }
    if (arg_json) {
        g_autoptr(JsonObject) object = json_object_new_object();
        json_object_object_add(object, "capabilities", json_object_get(capabilities));
        json_object_object_add(object, "parameters", json_object_get(parameters));
        cli_print_json(object);
        return 0;
    }
    print_knobs("capabilities", capabilities);
    print_knobs("parameters", parameters);
    return 0;
}
