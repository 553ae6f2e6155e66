/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of parts, and calling their steps. */
#include "job/part.h"
#include "job/rehearsal.h"

/* A new part is one line here. */
/* clang-format off */
const QmigPart *const qmig_parts[] = {
    &qmig_guard_part,
    &qmig_via_part,
    &qmig_tls_part,
    &qmig_hook_part,
    &qmig_agent_part,
    &qmig_life_part,
    &qmig_shared_part,
    &qmig_definition_part,
    &qmig_announce_part,
    &qmig_blocktime_part,
    &qmig_storage_part,
    NULL,
};
/* clang-format on */

static int
n_parts(void)
{
    return (int)G_N_ELEMENTS(qmig_parts) - 1;
}

/* In a rehearsal those that deal with others than the QEMUs stay out; in a recovery those that
 * rely on what they did in check and prepare. */
static bool
takes_part(const QmigJob *job, int i)
{
    return (job->rehearsal == NULL || qmig_parts[i]->outside == NULL) &&
           (!job->recovers || qmig_parts[i]->recovers);
}

/* Call a step of every part that has it, until one fails. */
#define ALL(step, job, error)                                        \
    for (int i_ = 0; i_ < n_parts(); i_++) {                         \
        if (takes_part((job), i_) && qmig_parts[i_]->step != NULL && \
            !qmig_parts[i_]->step((job), (error))) {                 \
            return false;                                            \
        }                                                            \
    }                                                                \
    return true

void
qmig_parts_check(QmigJob *job, GString *problems)
{
    for (int i = 0; i < n_parts(); i++) {
        if (qmig_parts[i]->check != NULL) {
            qmig_parts[i]->check(job, problems);
        }
    }
}

/* What would be done by those that stay out. */
static void
note_outside(QmigJob *job)
{
    for (int i = 0; i < n_parts(); i++) {
        g_autofree char *text = !takes_part(job, i) ? qmig_parts[i]->outside(job) : NULL;
        if (text != NULL) {
            (void)qmig_rehearsal_note(job, "%s", text);
        }
    }
}

bool
qmig_parts_prepare(QmigJob *job, GError **error)
{
    note_outside(job);
    ALL(prepare, job, error);
}

bool
qmig_parts_listening(QmigJob *job, GError **error)
{
    ALL(listening, job, error);
}

QmigStep
qmig_parts_copy(QmigJob *job, GError **error)
{
    QmigStep all = QMIG_STEP_NEXT;

    for (int i = 0; i < n_parts(); i++) {
        QmigStep step = qmig_parts[i]->copy != NULL ? qmig_parts[i]->copy(job, error)
                                                    : QMIG_STEP_NEXT;
        if (step == QMIG_STEP_FAILED) {
            return step;
        }
        all = step == QMIG_STEP_AGAIN ? step : all;
    }
    return all;
}

bool
qmig_parts_watch(QmigJob *job, GError **error)
{
    ALL(watch, job, error);
}

bool
qmig_parts_pre_switchover(QmigJob *job, GError **error)
{
    ALL(pre_switchover, job, error);
}

bool
qmig_parts_before_cont(QmigJob *job, GError **error)
{
    ALL(before_cont, job, error);
}

bool
qmig_parts_after_cont(QmigJob *job, GError **error)
{
    ALL(after_cont, job, error);
}

void
qmig_parts_done(QmigJob *job)
{
    for (int i = n_parts() - 1; i >= 0; i--) {
        if (takes_part(job, i) && qmig_parts[i]->done != NULL) {
            qmig_parts[i]->done(job);
        }
    }
}

void
qmig_parts_undo(QmigJob *job)
{
    for (int i = n_parts() - 1; i >= 0; i--) {
        if (takes_part(job, i) && qmig_parts[i]->undo != NULL) {
            qmig_parts[i]->undo(job);
        }
    }
}

void
qmig_parts_free(QmigJob *job)
{
    for (int i = n_parts() - 1; i >= 0; i--) {
        if (qmig_parts[i]->free != NULL) {
            qmig_parts[i]->free(job);
        }
    }
}
