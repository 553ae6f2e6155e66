/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file of settings for running plugins: qmig proxy --limits FILE. */
#ifndef QMIG_CLI_PROXY_LIMITS_H
#define QMIG_CLI_PROXY_LIMITS_H

#include "proxy/proxy.h"

/**
 * cli_limits_apply() - read @path (util/limit-file.h) and set what it says
 * @beside_tunnel: lines of "tunnel" are somebody else's
 *
 * Lines of "PLUGIN.KEY = VALUE"; empty ones, and those that begin with '#', say nothing. All are
 * tried before any is set: on error the old values hold.
 * Errors: IO, LIMIT, CONFIG, PLUGIN, each with file and line.
 * Return: how many lines were set, -1 on error.
 */
int cli_limits_apply(QmigProxy *proxy, const char *path, bool beside_tunnel,
                     GError **error);

#endif
