/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a job tells, as JSON: an event for each thing that happens, a status for who asks, and the
 * greeting of the control socket. All members are documented in docs/events.md, which a test
 * compares with what is sent.
 *
 * It stands between the job and its watcher: the job calls a watcher as ever, and the user's
 * watcher, those at the control socket and the journal of events all get the same.
 */
#ifndef QMIG_JOB_EVENTS_H
#define QMIG_JOB_EVENTS_H

#include "job/job.h"

typedef struct {
    const QmigJobWatcher *user; /* borrowed, with its data */
    void *user_data;
    uint64_t n;           /* events so far */
    int64_t progress_us;  /* when the last "progress" was told */
    int64_t transient_us; /* the same, at the control socket */
    int owner;            /* last told; QmigOwner */
    bool resumes;         /* it goes on with what another process has begun */
    char *undoing;        /* (nullable) why it is being undone */
} QmigEvents;

/* Stand before @watcher. */
void qmig_events_init(QmigJob *job, const QmigJobWatcher *watcher, void *data);
void qmig_events_clear(QmigJob *job);

/* The job begins: the first event, and who this is for who asks. */
void qmig_events_begin(QmigJob *job);
/* Both sides have been read: their names are known. */
void qmig_events_introduce(QmigJob *job);
/* It failed, and will be undone. */
void qmig_events_undo(QmigJob *job, const char *why);
/* But the guest turned out to be the destination's: it goes on. */
void qmig_events_redo(QmigJob *job);
/* The last event: how it ended. */
void qmig_events_end(QmigJob *job);

/* Another event; @members is added to. (transfer full) */
void qmig_events_tell(QmigJob *job, const char *kind, JsonObject *members);

/* How it stands. (transfer full) */
JsonObject *qmig_events_status(const QmigJob *job);

#endif
