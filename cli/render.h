/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job's progress on stderr, and its report as text. The one writer of the terminal. */
#ifndef QMIG_CLI_RENDER_H
#define QMIG_CLI_RENDER_H

#include "job/job.h"

typedef enum {
    CLI_PROGRESS_NONE,
    CLI_PROGRESS_TTY,   /* one line, redrawn in place */
    CLI_PROGRESS_PLAIN, /* a line for each phase and iteration */
    CLI_PROGRESS_JSON,  /* an object a line for each phase, iteration, message */
} CliProgressKind;

typedef struct {
    CliProgressKind kind;
    bool line_drawn;  /* a line without newline stands on the terminal */
    int64_t drawn_us; /* when */
} CliRender;

/* "auto" (tty if stderr is one, else plain), "tty", "plain", "json", "none". False: none of
 * these. */
bool cli_render_init(CliRender *render, const char *kind);
extern const QmigJobWatcher cli_render_watcher; /* its data: a CliRender */
/* Leave the terminal with a clean line. */
void cli_render_end(CliRender *render);

/* The report of qmig_job_report() for people, on stdout. */
void cli_render_report(JsonObject *report);

#endif
