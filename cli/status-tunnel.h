/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig status of a `qmig proxy --tunnel` or `--via`. */
#ifndef QMIG_CLI_STATUS_TUNNEL_H
#define QMIG_CLI_STATUS_TUNNEL_H

#include "util/auto.h"

#include <stdbool.h>

/* @entry: of the list of `qmig status`: { "qmig": { greeting…, "status" } }. Is it a tunnel's? */
bool cli_is_tunnel(JsonObject *entry);
/* One line for the process, one for each session. */
void cli_print_tunnel(JsonObject *entry);
/* All of it. */
void cli_print_tunnel_whole(JsonObject *entry);

#endif
