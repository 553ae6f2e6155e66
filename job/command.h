/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A command of the user's: a hook, a fence. */
#ifndef QMIG_JOB_COMMAND_H
#define QMIG_JOB_COMMAND_H

#include "util/auto.h"
#include "util/cancel.h"

#include <stdbool.h>
#include <stdint.h>

/**
 * qmig_command_run() - run a command by /bin/sh -c and wait for it
 * @what:        what it is, for messages: "hook of perform"
 * @command:     text for the shell
 * @environment: (nullable) {NAME: text} besides that of this process; borrowed
 * @timeout_ms:  after which it, and all it has started, is killed
 * @cancel:      (nullable) likewise when raised
 *
 * stdin is empty; the end of what it prints is part of the error.
 * Errors: STATE: it said no (its exit code, its last words), or died; TIMEOUT; CANCELLED; IO.
 */
bool qmig_command_run(const char *what, const char *command, JsonObject *environment,
                      uint32_t timeout_ms, const QmigCancel *cancel,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
