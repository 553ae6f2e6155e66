/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig plugins [NAME]: what plugins there are, and what one of them takes. */
#include "cli/cli.h"
#include "plugin/loader.h"

#include <stdio.h>

static void
print_plugin(const QmigPlugin *plugin)
{
    printf("%-8s %s (%s)\n", plugin->api.name,
           plugin->api.description != NULL ? plugin->api.description : "",
           plugin->origin);
    if (plugin->api.config_help != NULL) {
        g_auto(GStrv) lines = g_strsplit(plugin->api.config_help, "\n", 0);
        for (char **line = lines; *line != NULL; line++) {
            if (**line != '\0') {
                printf("           %s\n", *line);
            }
        }
    }
}

static bool
print_named(const char *name, GError **error)
{
    g_autoptr(QmigPlugin) plugin = qmig_plugin_load(name, error);

    if (plugin == NULL) {
        return false;
    }
    print_plugin(plugin);
    return true;
}

int
cli_plugins(int argc, char **argv)
{
    static const GOptionEntry none[] = { G_OPTION_ENTRY_NULL };
    g_autoptr(GError) error = NULL;

    if (!cli_parse(
            &argc, &argv, none, "[NAME|PATH…]",
            "Without a name: the built-in ones. --plugin NAME:key=value,… uses one.", 0,
            100)) {
        return QMIG_OUTCOME_USAGE;
    }
    for (int i = 1; i < argc; i++) {
        if (!print_named(argv[i], &error)) {
            return cli_fail("plugins", error, QMIG_OUTCOME_USAGE);
        }
    }
    for (const QmigBuiltinPlugin *row = qmig_builtin_plugins;
         argc == 1 && row->name != NULL; row++) {
        if (!print_named(row->name, &error)) {
            return cli_fail("plugins", error, QMIG_OUTCOME_USAGE);
        }
    }
    return 0;
}
