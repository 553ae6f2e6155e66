/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The options of `qmig migrate`: one table, from which come what GOption reads, --help, the
 * OPTIONS of the man page, `qmig options`, docs/flags.md, and the checks of a command line. A new
 * option is one row in migrate-table.c and a test in tests/e2e/test-flags.py.
 */
#ifndef QMIG_CLI_MIGRATE_OPTIONS_H
#define QMIG_CLI_MIGRATE_OPTIONS_H

#include "job/job.h"
#include "qmp/knobs.h"

#include <stddef.h>

typedef enum {
    CLI_GROUP_GUEST,
    CLI_GROUP_MEMORY,
    CLI_GROUP_COMPRESSION,
    CLI_GROUP_THROTTLE,
    CLI_GROUP_POSTCOPY,
    CLI_GROUP_STORAGE,
    CLI_GROUP_TLS,
    CLI_GROUP_PATH,
    CLI_GROUP_TUNNEL,
    CLI_GROUP_NETWORK,
    CLI_GROUP_SAFETY,
    CLI_GROUP_OUTPUT,
    CLI_N_GROUPS,
} CliGroup;

/* The title of a group. */
const char *cli_group_title(CliGroup group);

typedef enum {
    CLI_FLAG,
    CLI_TEXT,  /* field: char * */
    CLI_FILE,  /* a file name; field: char * */
    CLI_LIST,  /* may be repeated; field: GPtrArray *, whose elements are g_strdup()ed */
    CLI_WORDS, /* like CLI_LIST, and each value is a list with commas */
    CLI_DURATION, /* field: uint64_t, milliseconds */
    CLI_ADDRESS,  /* field: QmigAddress * */
} CliKind;

/* A row. Texts without markup are for --help too; @text is POD. NULL or 0: does not apply. */
typedef struct {
    const char *name; /* without the dashes */
    CliKind kind;
    CliGroup group;
    const char *arg;   /* what follows the name: "RATE" */
    const char *virsh; /* what does the same in virsh, where that is so */
    /*
     * What is asked of QEMU, parted by blanks: a capability to switch on, a parameter that takes
     * the option's value, or "PARAMETER=WORD".
     */
    const char *sets;
    size_t field;         /* CLI_FIELD(): where in QmigJobOptions the value goes */
    const char *needs;    /* options parted by blanks, one of which must be there too */
    const char *excludes; /* options parted by blanks that must not be there */
    const char *why;      /* the reason of both */
    const char *refused;  /* why it cannot be had at all */
    const char *help;     /* for --help */
    const char *text;     /* for the man page */
} CliOption;

#define CLI_FIELD(member) (offsetof(QmigJobOptions, member) + 1)

/* All rows, ordered by group. Static. */
const CliOption *cli_migrate_options(size_t *n);
/* NULL = there is none of that name. */
const CliOption *cli_migrate_option(const char *name);

/* ---- a command line ---------------------------------------------------------------------- */

/**
 * cli_migrate_parse() - read the command line, once in a process
 *
 * SOURCE and DESTINATION are in argv[1] and argv[2] afterwards. Prints --help and the error.
 * Return: false for exit code 1.
 */
bool cli_migrate_parse(int *argc, char ***argv);

/* What it said. @name must be in the table. */
bool cli_option_given(const char *name);
const char *cli_option_text(const char *name);
char **cli_option_list(const char *name);

/**
 * cli_migrate_take() - the options of a job
 * @argv: as left by cli_migrate_parse()
 *
 * What cannot be had whatever the QEMUs are is refused here, all of it at once.
 * Errors: CONFIG.
 */
QmigJobOptions *cli_migrate_take(char **argv, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- the table for people and programs (migrate-docs.c) ----------------------------------- */

/* cmd-check.c: --help of qmig check, which takes the same options. */
void cli_check_print_help(void);
/* cmd-check.c: the plan in the report of a --dry-run, on stdout. */
void cli_print_plan(JsonObject *report);

/* --help */
void cli_migrate_print_help(void);
/* The items of the man page's OPTIONS. */
void cli_migrate_print_pod(void);
/* The table, for a terminal. */
void cli_migrate_print_table(void);
/* (transfer full), documented in qmig-options(1) */
JsonObject *cli_migrate_options_json(void);

#endif
