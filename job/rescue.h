/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bringing a source back from post-copy when its destination died before it ran the guest. */
#ifndef QMIG_JOB_RESCUE_H
#define QMIG_JOB_RESCUE_H

#include "job/job-priv.h"

/**
 * qmig_rescue_source() - let a source in post-copy complete, so that it can be continued
 *
 * Only when the destination is proven gone and was never told to run the guest: the source's
 * memory is whole then. QEMU refuses to continue a source whose post-copy has not ended, so this
 * resumes it towards a destination of our own, which says that it has every page.
 *
 * Errors: TIMEOUT, PROTOCOL, IO, QMP; the source is as before then, paused.
 * Return: true when the source is not in post-copy (any more).
 */
bool qmig_rescue_source(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
