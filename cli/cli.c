/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cli.h. */
#include "cli/cli.h"

#include "util/error.h"

#include <stdio.h>

enum { CONNECT_TIMEOUT_MS = 5000 };

bool
cli_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *usage,
          const char *description, int n_min, int n_max)
{
    g_autoptr(GOptionContext) context = g_option_context_new(usage);
    g_autofree char *name = g_strdup((*argv)[0]);
    g_autofree char *program = g_strdup_printf("qmig %s", name);
    g_autoptr(GError) error = NULL;

    g_set_prgname(program);
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_description(context, description);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "%s: %s\nTry `%s --help`.\n", program, error->message, program);
        return false;
    }
    if (*argc - 1 < n_min || *argc - 1 > n_max) {
        fprintf(stderr, "%s: %d arguments given\nusage: %s [OPTION…] %s\n", program,
                *argc - 1, program, usage);
        return false;
    }
    return true;
}

int
cli_fail(const char *command, const GError *error, int code)
{
    fprintf(stderr, "qmig %s: %s\n", command, error->message);
    return code;
}

QmigQmp *
cli_connect(const char *text, GError **error)
{
    g_autoptr(QmigAddress) address = qmig_address_parse(text, error);

    return address != NULL
               ? qmig_qmp_connect(address, "QEMU",
                                  qmig_deadline_in_ms(CONNECT_TIMEOUT_MS), NULL, error)
               : NULL;
}

void
cli_print_json(JsonObject *object)
{
    printf("%s\n", json_object_to_json_string_ext(
                       object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                   JSON_C_TO_STRING_NOSLASHESCAPE));
    fflush(stdout);
}
