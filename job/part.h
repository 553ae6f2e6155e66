/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What takes part in a migration besides memory: storage, TLS, hooks, … Each is a file that
 * fills in one row. The phases call the rows' steps: all in the order of the table, `done` and
 * `undo` in reverse. A part keeps its state in the job.
 */
#ifndef QMIG_JOB_PART_H
#define QMIG_JOB_PART_H

#include "job/job-priv.h"

/* All members but the name may be NULL. */
typedef struct {
    const char *name;
    /* For one that deals with others than the QEMUs: what it would do, or NULL. In a rehearsal
       that is noted, and nothing but its check is called. (transfer full) */
    char *(*outside)(const QmigJob *job);
    /* Its steps are called in a recovery too, where check and prepare have not been. */
    bool recovers;
    /* check: nothing is touched; what does not fit goes to qmig_job_problem(). */
    void (*check)(QmigJob *job, GString *problems);
    /* prepare: settings are applied, the destination is not yet told to listen. */
    bool (*prepare)(QmigJob *job, GError **error);
    /* prepare: the destination listens, the proxy stands. */
    bool (*listening)(QmigJob *job, GError **error);
    /* storage: called every tick until it says NEXT. */
    QmigStep (*copy)(QmigJob *job, GError **error);
    /* Every tick of storage, perform, switchover and postcopy; false ends the migration. */
    bool (*watch)(QmigJob *job, GError **error);
    /* switchover: the source stands still and waits for migrate-continue. Only if
       job->wants_pre_switchover was set in check. */
    bool (*pre_switchover)(QmigJob *job, GError **error);
    /* finish: the guest is the destination's, runs nowhere, and is about to be continued. Not
       in post-copy. */
    bool (*before_cont)(QmigJob *job, GError **error);
    /* finish: the destination says that it runs the guest. The source stands still. */
    bool (*after_cont)(QmigJob *job, GError **error);
    /* confirm: it worked. Remove what is left on either side. */
    void (*done)(QmigJob *job);
    /* It did not; job->owner tells who has the guest. Also for a part that never began. */
    void (*undo)(QmigJob *job);
    /* Free the part's state. */
    void (*free)(QmigJob *job);
} QmigPart;

/* In the order in which they are called; ended by NULL. */
extern const QmigPart *const qmig_parts[];

/* agent.c: an earlier qmig may have frozen the guest's filesystems. */
void qmig_agent_is_frozen(QmigJob *job);

extern const QmigPart qmig_announce_part;   /* announce.c */
extern const QmigPart qmig_blocktime_part;  /* blocktime.c */
extern const QmigPart qmig_definition_part; /* definition.c */
extern const QmigPart qmig_shared_part;     /* shared.c */
extern const QmigPart qmig_tls_part;        /* tls.c */
extern const QmigPart qmig_hook_part;       /* hook.c */
extern const QmigPart qmig_agent_part;      /* agent.c */
extern const QmigPart qmig_life_part;       /* life.c */
extern const QmigPart qmig_guard_part;      /* guard.c */
extern const QmigPart qmig_storage_part;    /* storage.c */
extern const QmigPart qmig_via_part;        /* via.c */

void qmig_parts_check(QmigJob *job, GString *problems);
bool qmig_parts_prepare(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_parts_listening(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
QmigStep qmig_parts_copy(QmigJob *job, GError **error);
bool qmig_parts_watch(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_parts_pre_switchover(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_parts_before_cont(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_parts_after_cont(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_parts_done(QmigJob *job);
void qmig_parts_undo(QmigJob *job);
void qmig_parts_free(QmigJob *job);

#endif
