/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Post-copy: the guest goes over at once, its memory follows; a broken link pauses it, and it is
 * resumed.
 *
 * One guest: QEMU from 10.0 on lets its source's guest run again when the link breaks after the
 * last page and before the destination's last word, while that guest runs on the destination. So
 * the job stops the source's guest itself before it asks for post-copy: then there is nothing
 * QEMU would bring back. The destination, started with -S, is continued when it has loaded the
 * devices. Until then the source's memory is whole; from then on only both together are.
 */
#ifndef QMIG_JOB_POSTCOPY_H
#define QMIG_JOB_POSTCOPY_H

#include "job/job.h"

typedef struct {
    bool wanted;      /* by the user, while it runs: as soon as the link allows */
    bool asked;       /* migrate-start-postcopy was sent */
    bool entered;     /* the source says post-copy */
    bool goes_on;     /* it said so when an undo asked: it cannot be undone */
    bool objected;    /* it was told that post-copy has to wait */
    bool pause_asked; /* by the user: to be resumed later, by somebody else */
    bool recoverable; /* it ended paused, both QEMUs alive */
    /* Does the destination's host answer at a port where nobody listens? A firewall may not let
       it. */
    enum { HOST_IS_NOT_KNOWN, HOST_ANSWERS, HOST_IS_SILENT } host;
    bool mute;    /* the destination did not answer: its main loop may wait for a page */
    bool listens; /* the destination waits on a new address for the source */
    unsigned breaks;   /* how often the link broke */
    unsigned refusals; /* of the source to pause, since the destination has */
    char *told;        /* the last error of such a command */
    unsigned tries;    /* migrate with resume, since it broke */
    /* When it broke (0 = it is whole), the next try is due, the last one was made, and the
       destination was seen paused while the source was not. */
    int64_t broken_us, next_try_us, resumed_us, there_paused_us;
    /* Of the source: the last bytes it counted as sent, when that grew last, and when it was
       seen to stand still. */
    uint64_t sent;
    int64_t sent_us, stalled_us;
} QmigPostcopy;

/**
 * qmig_postcopy_ask() - switch over to post-copy now
 *
 * Stops the source's guest. Undone when QEMU refuses: then the migration goes on as precopy, which
 * is told. Errors: the source is gone or hangs.
 */
bool qmig_postcopy_ask(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Take in how the link does; with every answer of the source. */
void qmig_postcopy_watch_link(QmigJob *job);

/* Why it would be rash to begin now: the link has just stood still. NULL = it would not. Static. */
const char *qmig_postcopy_objection(QmigJob *job);

/* How long a broken link is tried to be resumed. */
uint32_t qmig_postcopy_recover_ms(const QmigJob *job);

/* The phase. Precopy passes it at once. */
QmigStep qmig_postcopy_tick(QmigJob *job, GError **error);
void qmig_postcopy_undo(QmigJob *job);

#endif
