/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines to a descriptor whose reader may be slow, stopped or gone: the writer never waits. */
#ifndef QMIG_CLI_LINES_H
#define QMIG_CLI_LINES_H

#include <glib.h>

enum { CLI_LINES_MAX = 4096 };

typedef struct CliLines CliLines;

/* @fd: borrowed; written to by a thread. */
CliLines *cli_lines_new(int fd);

/* Queue a line, without its newline; copied. With CLI_LINES_MAX waiting it is dropped, and in its
 * place goes {"event":"lost","count":N}. */
void cli_lines_put(CliLines *lines, const char *text);

/* Wait until all is written, five seconds at most. */
void cli_lines_free(CliLines *lines);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CliLines, cli_lines_free)

#endif
