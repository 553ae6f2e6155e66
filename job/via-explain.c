/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a job that failed owes to its tunnel, for the error that people read. */
#include "job/via-priv.h"

#include "util/error.h"

#include <string.h>

/* Add @why, unless it has been said. */
static void
append(GError *error, const char *why)
{
    g_autofree char *before = error->message;

    error->message = strstr(before, why) != NULL
                         ? g_steal_pointer(&before)
                         : g_strdup_printf("%s; tunnel: %s", before, why);
}

/*
 * The link stands, but a connection was broken off, or never made: its peer saw it close without a
 * word, and takes that for QEMU's end. What broke off earlier did no harm.
 */
static void
explain_connection(const QmigJob *job, GError *error)
{
    /* What breaks the copying may be noticed at its end. */
    int64_t since_us = job->phase == QMIG_PHASE_SWITCHOVER ? job->perform_us
                                                           : job->phase_us;
    g_autofree char *why = qmig_near_last_reason(job->via->near, since_us);

    /* They all break off then. */
    if (why != NULL && !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
        append(error, why);
    }
}

void
qmig_via_explain(QmigJob *job, GError *error)
{
    g_autoptr(GError) why = NULL;

    if (job->via == NULL || job->via->near == NULL) {
        return;
    }
    if (qmig_via_state(job->via) != QMIG_LINK_FAILED) {
        explain_connection(job, error);
        return;
    }
    qmig_via_look(job);
    why = qmig_link_error(qmig_near_link(job->via->near));
    if (why == NULL || strstr(error->message, why->message) != NULL) {
        return;
    }
    append(error, why->message);
    /* Else somebody ended it: the far end was restarted, say. */
    job->deadline_passed = job->deadline_passed ||
                           g_error_matches(why, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
}
