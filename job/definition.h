/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The file a guest is started from: copied and removed when the guest has moved. */
#ifndef QMIG_JOB_DEFINITION_H
#define QMIG_JOB_DEFINITION_H

#include "job/job.h"

/**
 * qmig_definition_move() - move the definition of a guest that is shut off (--offline)
 *
 * Errors: STATE: a QEMU answers at the source, or what is wrong with the files: nothing was
 * done. IO: a step failed; the message says which was done.
 */
bool qmig_definition_move(const QmigJobOptions *options,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
