/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig plugins [NAME]: what plugins there are, and what one of them takes. */
#include "cli/cli.h"
#include "plugin/loader.h"

#include <stdio.h>
#include <string.h>

static struct {
    gboolean json;
} arg;

static const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "As JSON", NULL }, G_OPTION_ENTRY_NULL
};

/* What it does to a stream, by the functions it has. */
static const char *
kind_of(const struct qmig_plugin *api)
{
    return api->event != NULL     ? "rewriter"
           : api->pace != NULL    ? "pacer"
           : api->observe != NULL ? "observer"
                                  : "service";
}

static void
print_plugin(const QmigPlugin *plugin)
{
    printf("%-9s %-9s %s", plugin->api.name, kind_of(&plugin->api),
           plugin->api.description != NULL ? plugin->api.description : "");
    if (plugin->library != NULL) {
        printf(" (%s)", plugin->origin);
    }
    printf("\n");
    if (plugin->api.config_help != NULL) {
        g_auto(GStrv) lines = g_strsplit(plugin->api.config_help, "\n", 0);
        for (char **line = lines; *line != NULL; line++) {
            if (**line != '\0') {
                printf("             %s\n", *line);
            }
        }
    }
}

static void
add_text(JsonObject *object, const char *key, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text != NULL ? text : "", -1);

    json_object_object_add(object, key, json_object_new_string(valid));
}

static void
add_names(JsonObject *object, const char *key, const char *const *names)
{
    JsonObject *list = json_object_new_array();

    for (; names != NULL && *names != NULL; names++) {
        json_object_array_add(list, json_object_new_string(*names));
    }
    json_object_object_add(object, key, list);
}

static JsonObject *
describe(const QmigPlugin *plugin)
{
    JsonObject *object = json_object_new_object();

    add_text(object, "name", plugin->api.name);
    add_text(object, "kind", kind_of(&plugin->api));
    add_text(object, "description", plugin->api.description);
    add_text(object, "parameters", plugin->api.config_help);
    json_object_object_add(object, "settable",
                           json_object_new_boolean(plugin->api.set != NULL));
    add_names(object, "conflicts", plugin->api.conflicts);
    add_names(object, "not_after", plugin->api.not_after);
    add_text(object, "origin", plugin->origin);
    return object;
}

/* Into @list, or (nullable) onto stdout. */
static bool
tell(const char *name, JsonObject *list, GError **error)
{
    g_autoptr(QmigPlugin) plugin = qmig_plugin_load(name, error);

    if (plugin == NULL) {
        return false;
    }
    if (list != NULL) {
        json_object_array_add(list, describe(plugin));
    } else {
        print_plugin(plugin);
    }
    return true;
}

int
cli_plugins(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) list = NULL;

    if (!cli_parse(
            &argc, &argv, entries, "[NAME|PATH…]",
            "Without a name: the built-in ones. --plugin NAME:key=value,… uses one.", 0,
            100)) {
        return QMIG_OUTCOME_USAGE;
    }
    list = arg.json ? json_object_new_array() : NULL;
    for (int i = 1; i < argc; i++) {
        if (!tell(argv[i], list, &error)) {
            return cli_fail("plugins", error, QMIG_OUTCOME_USAGE);
        }
    }
    for (const QmigBuiltinPlugin *row = qmig_builtin_plugins;
         argc == 1 && row->name != NULL; row++) {
        if (!tell(row->name, list, &error)) {
            return cli_fail("plugins", error, QMIG_OUTCOME_USAGE);
        }
    }
    if (list != NULL) {
        cli_print_json(list);
    }
    return 0;
}
