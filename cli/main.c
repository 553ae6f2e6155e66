/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig: the table of subcommands. */
#include "cli/cli.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const CliCommand commands[] = {
    { "migrate", "move a running guest from one QEMU to another", cli_migrate },
    { "check", "would it arrive? All that differs, and what to change", cli_check },
    { "options", "the options of qmig migrate, and what they ask of QEMU", cli_options },
    { "recover", "finish or undo a migration whose qmig was killed", cli_recover },
    { "proxy", "stand in a migration stream: count, check, run plugins", cli_proxy },
    { "save", "a guest into a file: compressed, checksummed", cli_save },
    { "restore", "a guest out of a file", cli_restore },
    { "status", "what a QEMU's guest and migration are doing", cli_status },
    { "watch", "follow a running migration", cli_watch },
    { "cancel", "end a running migration; the guest stays on the source", cli_cancel },
    { "pause", "stop post-copy's copying, to go on later", cli_pause },
    { "postcopy", "let the guest go over now, its memory later", cli_postcopy },
    { "set", "change parameters, also while a migration runs", cli_set },
    { "caps", "capabilities and parameters this QEMU has", cli_caps },
    { "stream", "read migration streams: show what is in them", cli_stream },
    { "pki", "certificates and keys for --tls: make them, look at them", cli_pki },
    { "plugins", "the built-in stream plugins", cli_plugins },
};

static void
usage(FILE *out)
{
    fprintf(out, "usage: qmig COMMAND [OPTION…] [ARGUMENT…]\n\n"
                 "Moves running QEMU guests, and stands in the migration stream.\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(out, "\n`qmig COMMAND --help` tells more; `qmig --version` the version.\n"
                 "Addresses: unix:PATH, tcp:HOST:PORT, or a path.\n");
}

static const CliCommand *
find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    fprintf(stderr, "qmig: \"%s\" is no command\n", name);
    usage(stderr);
    return NULL;
}

/* `qmig help migrate` is `qmig migrate --help`. */
static int
help(int argc, char **argv)
{
    static char option[] = "--help";
    const CliCommand *command;

    if (argc < 2) {
        usage(stdout);
        return 0;
    }
    command = find(argv[1]);
    char *help_argv[] = { argv[1], option, NULL };
    return command != NULL ? command->run(2, help_argv) : 1;
}

int
main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    const CliCommand *command;

    /* Whoever read our output may go; a migration must not be torn by that. */
    signal(SIGPIPE, SIG_IGN);
    setlocale(LC_CTYPE, "");
    if (name[0] == '\0') {
        usage(stderr);
        return 1;
    }
    if (strcmp(name, "--version") == 0) {
        printf("qmig %s\n", QMIG_VERSION);
        return 0;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 ||
        strcmp(name, "-h") == 0) {
        return help(argc - 1, argv + 1);
    }
    command = find(name);
    return command != NULL ? command->run(argc - 1, argv + 1) : 1;
}
