/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job's progress. The one writer of the terminal while a migration runs. */
#ifndef QMIG_CLI_RENDER_H
#define QMIG_CLI_RENDER_H

#include "cli/lines.h"
#include "job/job.h"

#include <stdio.h>

typedef enum {
    CLI_PROGRESS_NONE,
    CLI_PROGRESS_TTY,   /* two lines, redrawn in place */
    CLI_PROGRESS_PLAIN, /* a line for each phase, iteration, decision, message */
    CLI_PROGRESS_JSON,  /* each event as an object a line */
} CliProgressKind;

typedef struct {
    CliProgressKind kind;
    FILE *out;        /* where; borrowed */
    bool is_drawn;    /* the two lines stand on the terminal, the cursor at their end */
    int64_t drawn_us; /* when */
    CliLines *lines;  /* (nullable) all that goes to `out` */
    CliLines *events; /* (nullable) of --events, on stdout; set by the caller */
} CliRender;

/* @kind: "auto" (tty if @out is one that can redraw, else plain), "tty", "plain", "json", "none".
 * False: none of these. */
bool cli_render_init(CliRender *render, FILE *out, const char *kind);
extern const QmigJobWatcher cli_render_watcher; /* its data: a CliRender */
/* An object as a line. */
void cli_put_json_line(CliLines *lines, JsonObject *object);

/* Leave the terminal with the cursor on a line of its own, and wait until all is written. */
void cli_render_end(CliRender *render);

/* The report of qmig_job_report() for people, on stdout (report.c). */
void cli_print_report(JsonObject *report);

#endif
