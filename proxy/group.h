/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all threads of one migration share: the end, its reason, and what people should know. */
#ifndef QMIG_PROXY_GROUP_H
#define QMIG_PROXY_GROUP_H

#include "util/auto.h"
#include "util/cancel.h"

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    QmigCancel *cancel; /* raised: every connection ends at once */
    QmigFd wake_fd;     /* eventfd, read by the session thread: look around again */
    gint shut;          /* atomic: the destination said SHUT 0, the end is orderly */
    /* Guards what follows; never held across a system call. Not a GMutex: the thread sanitizer
       does not see those. */
    pthread_mutex_t lock;
    GError *error;   /* the first failure */
    GError *suspect; /* a side channel broke: a failure unless main ends well soon */
    QmigDeadline suspect_at;
    GPtrArray *notices; /* char * */
} QmigGroup;

void qmig_group_init(QmigGroup *group);
void qmig_group_clear(QmigGroup *group);

/* End everything because of @error (transfer full). The first one is kept. Threads: any. */
void qmig_group_fail(QmigGroup *group, GError *error);

/**
 * qmig_group_suspect() - a channel beside main broke
 * @error: (transfer full)
 *
 * At the end of a migration without return path nobody can tell a channel that is closed
 * because all is done from one that broke, until main has ended. So the verdict waits a
 * moment. Threads: any.
 */
void qmig_group_suspect(QmigGroup *group, GError *error);

/* Turn a suspicion whose time has come into a failure. Return: when to look again. */
QmigDeadline qmig_group_judge_suspect(QmigGroup *group);

/* Tell people something; kept for the snapshot, up to a limit. Threads: any. */
void qmig_group_notice(QmigGroup *group, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Make the session thread look around. Threads: any. */
void qmig_group_wake(QmigGroup *group);

/* Copies of the present values. Threads: any. (transfer full) */
GError *qmig_group_error(QmigGroup *group);
JsonObject *qmig_group_notices(QmigGroup *group);

static inline bool
qmig_group_is_shut(const QmigGroup *group)
{
    return g_atomic_int_get(&group->shut) != 0;
}

#endif
