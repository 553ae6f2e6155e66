/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `qmig stream SUBCOMMAND`: a file for each, cli/stream-SUBCOMMAND.c. */
#ifndef QMIG_CLI_STREAM_H
#define QMIG_CLI_STREAM_H

#include "cli/cli.h"

#include <stdint.h>

/* As CliCommand.run; argv[0] is "stream SUBCOMMAND". */
int cli_stream_show(int argc, char **argv);
int cli_stream_extract(int argc, char **argv);
int cli_stream_check(int argc, char **argv);
int cli_stream_convert(int argc, char **argv);
int cli_stream_diff(int argc, char **argv);
int cli_stream_device(int argc, char **argv);
int cli_stream_desc(int argc, char **argv);
int cli_stream_replay(int argc, char **argv);
int cli_stream_stat(int argc, char **argv);
int cli_stream_pipe(int argc, char **argv);
int cli_stream_accepts(int argc, char **argv);

/* What @binary -machine @machine (nullable) -dump-vmstate prints (transfer full); NULL with
 * @refusal (transfer full): it would not, and why; NULL with @error: it could not be run. */
char *cli_dump_vmstate(const char *binary, const char *machine, char **refusal,
                       GError **error);

/* Prints a line of progress on a terminal's stderr, from the second second on; else NULL. */
typedef void (*CliStreamProgress)(uint64_t done, uint64_t total);
CliStreamProgress cli_stream_progress(void);

#endif
