/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts to a descriptor whose reader may be slow, stopped or gone: the writer never waits. */
#ifndef QMIG_CLI_LINES_H
#define QMIG_CLI_LINES_H

#include <glib.h>

enum { CLI_LINES_MAX = 4096 };

typedef struct CliLines CliLines;

/* @fd: borrowed; written to by a thread. @lost: what is told of texts that were dropped, with a
 * %s for how many; a literal. */
CliLines *cli_lines_new(int fd, const char *lost);

#define CLI_LINES_LOST_JSON "{\"event\":\"lost\",\"count\":%s}\n"
#define CLI_LINES_LOST_TEXT "\n(%s lines were dropped here)\n"

/* Queue a text; copied. With CLI_LINES_MAX waiting it is dropped. */
void cli_lines_put(CliLines *lines, const char *text);
void cli_lines_printf(CliLines *lines, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Wait until all is written, five seconds at most. */
void cli_lines_free(CliLines *lines);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CliLines, cli_lines_free)

#endif
