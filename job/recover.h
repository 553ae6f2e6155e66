/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finishing or undoing a migration whose qmig was killed.
 *
 * The journal tells what was about to be done; what was done, both QEMUs are asked. A QEMU that is
 * gone is proven so by its process, or by the fence.
 *
 *     source says             destination               what is done
 *     not told to migrate     -                         settings put back
 *     migrating               -                         cancelled, then as below
 *     failed, cancelled       gone, or does not run it  the source has the guest: undone
 *     completed               has loaded all            it runs there; the source is let go
 *     completed               gone, was never told to   the source runs it again
 *                             run it
 *     completed               gone otherwise            unclear
 *     post-copy, paused       paused                    resumed, and finished
 *     gone                    has loaded all            it runs there
 *     gone                    has not                   the guest is lost, which is told
 *     does not answer         has loaded all            with the fence: it runs there
 *     runs                    runs                      unclear, loudly
 */
#ifndef QMIG_JOB_RECOVER_H
#define QMIG_JOB_RECOVER_H

#include "job/job.h"

/**
 * qmig_recover() - recover what a journal tells of
 * @path:   the journal
 * @fence:  (nullable) the fence's command, in place of the one in the journal
 * @via:    (nullable) where the tunnel's far end listens now, in place of what the journal says of
 *          it; only of a migration that went through a tunnel
 * @report: (out) (optional) (transfer full) as qmig_job_report(); NULL when nothing was done
 * @error:  (out) set unless the guest is on the destination, or the journal has ended clear
 *
 * Outcomes: DONE: the guest is on the destination, or there was nothing to do; FAILED: it is on
 * the source; PAUSED: the link of post-copy is still broken; UNCLEAR: a person must look, and the
 * journal stays; USAGE, REFUSED: the journal cannot be used, or its qmig still runs.
 */
QmigOutcome qmig_recover(const char *path, const char *fence, const char *const *via,
                         const QmigJobWatcher *watcher, void *data,
                         const QmigCancel *cancel, JsonObject **report, GError **error);

#endif
