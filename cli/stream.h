/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `qmig stream SUBCOMMAND`: a file for each, cli/stream-SUBCOMMAND.c. */
#ifndef QMIG_CLI_STREAM_H
#define QMIG_CLI_STREAM_H

#include "cli/cli.h"

/* As CliCommand.run; argv[0] is "stream SUBCOMMAND". */
int cli_stream_show(int argc, char **argv);

#endif
