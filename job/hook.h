/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands of the user's around a migration: hooks at its phases, and the fence. */
#ifndef QMIG_JOB_HOOK_H
#define QMIG_JOB_HOOK_H

#include "job/job.h"
#include "job/side.h"

/**
 * qmig_hook_check() - is it PHASE=COMMAND?
 *
 * PHASE: a phase's name, or "done", "failed": the end. Errors: CONFIG.
 */
bool qmig_hook_check(const char *spec, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_hook_enter() - run the hooks of a phase that is about to begin
 *
 * Those of switchover run when the source waits in pre-switchover, by the part; those of post-copy
 * only when it came to that. Errors: a hook said no, while there is a way back; from post-copy and
 * finish on that is only told.
 */
bool qmig_hook_enter(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The hooks "done" or "failed", when the outcome is known. */
void qmig_hook_end(QmigJob *job);

/**
 * qmig_fence() - make sure that a side runs nothing any more, by the user's command
 * @why: for the command: QMIG_REASON
 *
 * Return: true when it is certain; false without --fence, or when that said no, which is told.
 */
bool qmig_fence(QmigJob *job, QmigSide *side, const char *why) G_GNUC_WARN_UNUSED_RESULT;

#endif
