/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the tunnel's part of a job. */
#ifndef QMIG_JOB_VIA_PRIV_H
#define QMIG_JOB_VIA_PRIV_H

#include "job/job-priv.h"
#include "job/via.h"

struct QmigVia {
    QmigViaSettings settings;
    QmigTlsCreds *creds;   /* NULL: in the clear */
    QmigNear *near;        /* NULL: lost, and not yet made anew */
    char *dir;             /* private; its sockets are the near end's */
    unsigned n_sockets;    /* made so far: each has a name of its own */
    QmigAddress *monitor;  /* (nullable) a way to the destination's monitor */
    QmigAddress *target;   /* (nullable) a way to where it listens */
    JsonObject *described; /* (nullable) the session, when it had ended */
    unsigned sessions;     /* made so far */
    bool counted;          /* this one is in `before` already */
    QmigLinkStats before;  /* sums of those that have ended */
    QmigLinkState ended;   /* how the last one has */

    QmigLinkState told;  /* the state as people know it */
    int64_t broken_us;   /* about when it went dark; 0 = it is not */
    int64_t looked_us;   /* the last look */
    int64_t still_us;    /* since when the guest stands still in the dark; 0 = no */
    int64_t dark_us;     /* sum of dark times, up to the last look */
    uint64_t counted_ms; /* dark time by the session's own count, at the last look */
    bool critical;       /* the far end was told that the guest changes hosts */

    /* The monitor has closed: since when, and when to try again; 0 = it has not. */
    int64_t lost_us, try_us;

    /* via-hold.c */
    int64_t limit_ms; /* the downtime limit last given to the source; -1 = none */
    bool holding;     /* what is in the tunnel does not fit into the user's downtime */
    int64_t held_us;  /* since when; 0 = it does not hold */
    int64_t held_sum_us;
    unsigned holds;
    int64_t paced_us; /* when the source was given a limit last */
    int64_t drain_us; /* since when it is waited for before the end; 0 = not yet */
};

/* A moment before `migrate`, and every tick of perform. Errors: the source is gone or hangs. */
bool qmig_via_hold(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* via-settings.c: in check: what the user has asked for besides, and cannot be wanted with it. */
void qmig_via_check(QmigJob *job, GString *problems);

/* The migration is over, and so is holding it. */
void qmig_via_let_go(QmigVia *via);

/* What the session is called. The far end ends one of the same name that is dark: no other guest's
   may have it, here or elsewhere. */
void qmig_via_name_session(const QmigJob *job, char name[static QMIG_LINK_NAME_MAX + 1]);
/* "up", "dark", … */
const char *qmig_via_state_name(QmigLinkState state);
/* How it is at the moment. */
QmigLinkState qmig_via_state(const QmigVia *via);
/* Of the session; all 0 when there is none. */
void qmig_via_stats(const QmigVia *via, QmigLinkStats *stats);
/* Bytes between the source and the QEMU over there, and how long they take; UINT64_MAX: dark. */
uint64_t qmig_via_backlog(const QmigJob *job);
uint64_t qmig_via_backlog_ms(const QmigJob *job);

#endif
