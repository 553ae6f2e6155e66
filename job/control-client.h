/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The other end of a control socket: find running migrations, ask them, watch them. */
#ifndef QMIG_JOB_CONTROL_CLIENT_H
#define QMIG_JOB_CONTROL_CLIENT_H

#include "util/auto.h"
#include "util/clock.h"

#include <glib.h>
#include <stdbool.h>

typedef struct QmigControlPeer QmigControlPeer;

void qmig_control_peer_free(QmigControlPeer *peer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigControlPeer, qmig_control_peer_free)

/**
 * qmig_control_open() - connect to a control socket and read the greeting
 *
 * Errors: IO (nobody listens), TIMEOUT, PROTOCOL (not a qmig's).
 */
QmigControlPeer *qmig_control_open(const char *path,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All that run, of qmig_control_directory(); sockets of dead ones are removed.
 * (transfer full) (element-type QmigControlPeer), free with g_ptr_array_unref(). */
GPtrArray *qmig_control_list(void);

/**
 * qmig_control_find() - the running migration a user means
 * @target: what the source's or destination's QMP address is (also another name of the same
 *          socket), the guest's name, its UUID, the process id, or the control socket
 *
 * Errors: STATE: several fit.
 * Return: (transfer full) NULL without @error when none fits.
 */
QmigControlPeer *qmig_control_find(const char *target,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The one whose source or destination is the process @pid; NULL when there is none. */
QmigControlPeer *qmig_control_find_qemu(int pid);

/* {"qmig":…,"job":…}, the greeting; borrowed. */
JsonObject *qmig_control_peer_greeting(const QmigControlPeer *peer);
const char *qmig_control_peer_path(const QmigControlPeer *peer);

/**
 * qmig_control_call() - ask, and wait for the answer
 * @arguments: (transfer full) (nullable)
 * @result:    (out) (optional) (transfer full)
 *
 * Events that come meanwhile are kept for qmig_control_next_event(). Errors: the job's own, with
 * its code; TIMEOUT, CLOSED, PROTOCOL.
 */
bool qmig_control_call(QmigControlPeer *peer, const char *command, JsonObject *arguments,
                       JsonObject **result, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_control_next_event() - the next event, after "watch"
 *
 * Errors: TIMEOUT; CLOSED: the migration's process has ended.
 * Return: (transfer full)
 */
JsonObject *qmig_control_next_event(QmigControlPeer *peer, QmigDeadline deadline,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
