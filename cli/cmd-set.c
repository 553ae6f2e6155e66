/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig set QMP NAME=VALUE… and qmig caps QMP. */
#include "cli/cli.h"
#include "qmp/knobs.h"
#include "util/error.h"

#include <stdio.h>
#include <string.h>

static gboolean arg_json;

/* One NAME=VALUE into the parameters to set. */
static bool
take_pair(const char *pair, const QmigSchema *schema, JsonObject *values, GError **error)
{
    const char *text = strchr(pair, '=');
    JsonObject *value;

    if (text == NULL || text == pair) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "\"%s\", wanted NAME=VALUE",
                              pair);
    }
    g_autofree char *name = g_strndup(pair, (gsize)(text - pair));
    const QmigKnob *knob = qmig_knob_find(name);
    if (knob != NULL && knob->kind != QMIG_KNOB_PARAMETER) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "\"%s\" is a capability: it is chosen when a migration "
                              "begins, by qmig migrate --cap",
                              name);
    }
    value = qmig_knob_parse_value(name, text + 1, schema, error);
    if (value == NULL) {
        return false;
    }
    json_object_object_add(values, name, value);
    return true;
}

/* All pairs are understood before any is set. */
static bool
set_all(QmigQmp *qmp, char **pairs, GError **error)
{
    g_autoptr(JsonObject) values = json_object_new_object();
    g_autoptr(QmigSchema) schema = qmig_schema_load(qmp, error);

    if (schema == NULL) {
        return false;
    }
    for (char **pair = pairs; *pair != NULL; pair++) {
        if (!take_pair(*pair, schema, values, error)) {
            return false;
        }
    }
    return qmig_qmp_set_parameters(qmp, values, error);
}

int
cli_set(int argc, char **argv)
{
    static const GOptionEntry none[] = { G_OPTION_ENTRY_NULL };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigQmp) qmp = NULL;

    if (!cli_parse(
            &argc, &argv, none, "QMP NAME=VALUE…",
            "Sets migration parameters, also while a migration runs: use the QEMU's\n"
            "second QMP socket then. `qmig caps` lists them.",
            2, 100)) {
        return QMIG_OUTCOME_USAGE;
    }
    qmp = cli_connect(argv[1], &error);
    if (qmp == NULL || !set_all(qmp, argv + 2, &error)) {
        return cli_fail("set", error, QMIG_OUTCOME_USAGE);
    }
    return 0;
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
