/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a job writes into its journal: before each step that matters, that it is about to be done.
 * `qmig recover` reads it after this process was killed.
 *
 *     begin       both sides: who they are, their settings; what was asked for
 *     incoming    the destination will be told to listen: it is used up
 *     migrate     the source will be told to migrate
 *     hold        the source's guest will be stopped by this job
 *     release     a held guest will be continued on the source
 *     guest       somebody has stopped or continued it: {"runs": …}
 *     continue    out of pre-switchover
 *     postcopy    the source will be told to switch over to post-copy
 *     freeze      the guest's filesystems will be frozen
 *     undo        {"side", "command", "arguments"}: takes back what will be made
 *     cont        the destination will be told to run the guest
 *     running     it was seen to run there
 *     revive      the destination is proven gone: the source's guest will be continued
 *     quit        the source will be told to quit
 *     end         {"outcome", "guest", "clear"}
 *
 * Steps while the guest stands still are written and not waited for (a disk may take longer than
 * the blackout): they survive this process. Should the host go down with them, "migrate", which is
 * on the disk, is taken for "cont".
 *
 * Without a journal all of this does nothing.
 */
#ifndef QMIG_JOB_STEPS_H
#define QMIG_JOB_STEPS_H

#include "job/job-priv.h"

/* Make the journal the options ask for, and write "begin". Errors: as qmig_journal_create(). */
bool qmig_steps_begin(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Write a step that must not be done unless it is written. @members: (transfer full)
 * (nullable). Errors: IO, LIMIT. */
bool qmig_steps_write(QmigJob *job, const char *step, JsonObject *members,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same while the guest stands still: not waited for until it is on the disk. */
bool qmig_steps_put(QmigJob *job, const char *step,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Write a step that is done anyway: where the guest runs nowhere there is no stopping. That it
 * could not be written is told. */
void qmig_steps_note(QmigJob *job, const char *step, JsonObject *members);

/**
 * qmig_steps_will_undo() - before something is made in a QEMU: the command that removes it
 * @arguments: (transfer full) (nullable)
 *
 * Recovery executes them, last one first, on a side that goes on; one that answers that there is
 * no such thing counts as done, and one that is refused is tried again for some seconds.
 */
bool qmig_steps_will_undo(QmigJob *job, const QmigSide *side, const char *command,
                          JsonObject *arguments,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Write "end", once the outcome is known. A journal in the default directory that has ended clear
 * is removed. */
void qmig_steps_end(QmigJob *job);

/* The place of a local QEMU's process: {"pid", "start", "boot"}; empty when it is not known. */
JsonObject *qmig_steps_process(pid_t pid);
/* It has ended: that pid is gone, or somebody else's, or the host was booted again. */
bool qmig_steps_process_has_ended(JsonObject *process);

#endif
