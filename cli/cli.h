/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the subcommands share: parsing, connecting, printing. */
#ifndef QMIG_CLI_CLI_H
#define QMIG_CLI_CLI_H

#include "job/job.h"
#include "qmp/commands.h"

#include <glib.h>
#include <stdio.h>

/* A subcommand. */
typedef struct {
    const char *name;
    const char *summary; /* for `qmig help` */
    /* @argv[0] is the subcommand. Return: the exit code. */
    int (*run)(int argc, char **argv);
} CliCommand;

int cli_migrate(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_options(int argc, char **argv);
int cli_proxy(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_watch(int argc, char **argv);
int cli_cancel(int argc, char **argv);
int cli_pause(int argc, char **argv);
int cli_postcopy(int argc, char **argv);
int cli_set(int argc, char **argv);
int cli_caps(int argc, char **argv);
int cli_plugins(int argc, char **argv);
int cli_pki(int argc, char **argv);
int cli_stream(int argc, char **argv);
int cli_save(int argc, char **argv);
int cli_restore(int argc, char **argv);
int cli_recover(int argc, char **argv);

/**
 * cli_parse() - options of a subcommand
 * @usage:       what follows "qmig COMMAND [OPTION…]"
 * @description: below the options in --help
 * @n_min:       positional arguments wanted at least and at most; argv[1…] afterwards
 *
 * Prints the error itself. Return: false for exit code 1.
 */
bool cli_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *usage,
               const char *description, int n_min, int n_max);

/* Print "qmig COMMAND: MESSAGE" on stderr. Return: @code. */
int cli_fail(const char *command, const GError *error, int code);

/* Connect to the QEMU of a QMP address written by the user, labelled "QEMU". */
QmigQmp *cli_connect(const char *address, GError **error);

/* Print an object on stdout, indented, with a newline. */
void cli_print_json(JsonObject *object);
/* The same on @out. */
void cli_print_json_to(FILE *out, JsonObject *object);

/* Members of a report: a text (NULL: null), and "error": {"code", "message"}. */
void cli_add_text(JsonObject *object, const char *name, const char *text);
void cli_add_error(JsonObject *object, const GError *error);

/* A flag that SIGINT, SIGTERM and SIGHUP raise from now on. Once in a process; static. */
const QmigCancel *cli_cancel_on_signals(void);

/* A line of bytes so far, redrawn on stderr where that is a terminal. Begins as { 0 }. */
typedef struct {
    int64_t drawn_us; /* when it was last drawn; 0 = never */
} CliBytes;

/* @stream: bytes of a migration stream; @file: of a file, 0 = do not tell. @bytes: a CliBytes. */
void cli_bytes_draw(void *bytes, uint64_t stream, uint64_t file);
/* Remove the line. */
void cli_bytes_end(CliBytes *bytes);

#endif
