/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Steering a running migration: what comes in at its control socket, done between two steps. */
#ifndef QMIG_JOB_STEER_H
#define QMIG_JOB_STEER_H

#include "job/job.h"

/* Make the control socket, if there shall be one. Errors: one at a path the user named cannot be
 * made; another is only told. */
bool qmig_steer_begin(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Do what is asked for. */
void qmig_steer(QmigJob *job);

/* Can it still be cancelled? */
bool qmig_steer_can_cancel(const QmigJob *job);

/**
 * qmig_steer_check_parameter() - may a parameter be changed while a migration runs?
 *
 * QEMU lets nearly all be changed, and reads many of them only at its begin, or, worse, does not
 * expect them to change. Errors: STATE.
 */
bool qmig_steer_check_parameter(const char *name,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
