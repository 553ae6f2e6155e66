/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whom a command means by TARGET: a running qmig, by its control socket, or a QEMU, by its QMP
 * socket. A QEMU that a running qmig is migrating leads to that qmig, by whichever of its QMP
 * sockets it is named.
 */
#ifndef QMIG_CLI_REACH_H
#define QMIG_CLI_REACH_H

#include "job/control-client.h"
#include "qmp/commands.h"

typedef struct {
    QmigControlPeer *peer; /* (nullable) a running qmig */
    QmigQmp *qmp;          /* (nullable) a QEMU; with a peer: one that it migrates */
} CliReach;

/**
 * cli_reach() - find what @target names
 * @qmp_only: look for no running qmig
 *
 * Errors: STATE: several running migrations fit; CONFIG: neither a migration nor an address; else
 * those of qmig_qmp_connect().
 * Return: false when there is neither.
 */
bool cli_reach(const char *target, bool qmp_only, CliReach *reach,
               GError **error) G_GNUC_WARN_UNUSED_RESULT;
void cli_reach_clear(CliReach *reach);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CliReach, cli_reach_clear)

/* Below the options in --help, of all commands that take a TARGET. */
#define CLI_TARGET_HELP                                                               \
    "TARGET is a running qmig migrate: the guest's name, its UUID, the process, or\n" \
    "the QMP address of either side; or, when none runs, a QEMU's QMP address.\n"

/**
 * cli_watch_to_end() - read events until the last one
 * @deadline: for all of it; besides, ten minutes without a word end it
 * @take:  (nullable) called with each
 * @end:   (out) (transfer full) the event "end"
 *
 * After "watch". Errors: TIMEOUT; CLOSED: that qmig was killed.
 */
bool cli_watch_to_end(QmigControlPeer *peer, QmigDeadline deadline,
                      void (*take)(void *data, JsonObject *event), void *data,
                      JsonObject **end, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
