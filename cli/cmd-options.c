/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig options: the table of `qmig migrate`'s options. */
#include "cli/cli.h"
#include "cli/migrate-options.h"

static gboolean arg_json, arg_pod;

static const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg_json, "as one JSON object", NULL },
    /* For the man page's source. */
    { "pod", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, &arg_pod, NULL, NULL },
    G_OPTION_ENTRY_NULL,
};

int
cli_options(int argc, char **argv)
{
    if (!cli_parse(
            &argc, &argv, entries, "",
            "The options of `qmig migrate`: what each asks of QEMU, with unit, side,\n"
            "range, versions, and what it does not go with.",
            0, 0)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (arg_json) {
        g_autoptr(JsonObject) object = cli_migrate_options_json();
        cli_print_json(object);
    } else if (arg_pod) {
        cli_migrate_print_pod();
    } else {
        cli_migrate_print_table();
    }
    return 0;
}
