/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --dry-run: the job runs as ever, but a stand-in answers for both QEMUs. Questions still go to
 * the QEMUs; what would change anything is written into the plan instead, never sent, and
 * answered by a small model, which from there on also answers what the change has an effect on.
 * So the plan is what the code does, not what somebody wrote that it does.
 *
 *     job -> qmp client -> stand-in --- question -----------------> QEMU
 *                              |
 *                              +------- change, or its effect ----> model; plan
 *
 * What a part does outside of QEMU (hooks, the guest's agent, files) it must not do while
 * job->rehearsal is set; it notes it by qmig_rehearsal_note().
 */
#ifndef QMIG_JOB_REHEARSAL_H
#define QMIG_JOB_REHEARSAL_H

#include "job/job-priv.h"

typedef enum { QMIG_REHEARSAL_SOURCE, QMIG_REHEARSAL_DESTINATION } QmigRehearsalSide;

/* What the model knows of one side. */
typedef struct {
    struct QmigRehearsal *rehearsal;
    QmigRehearsalSide which;
    QmigSide *side;
    JsonObject *capabilities, *parameters; /* NULL = as QEMU tells */
    const char *status;                    /* of the migration; NULL = as QEMU tells */
    const char *run_state;                 /* NULL = as QEMU tells */
    JsonObject *socket_address;            /* of a destination that listens */
    unsigned n_asked;    /* query-migrate since the status last changed */
    unsigned pass;       /* over memory */
    JsonObject *jobs;    /* {id: {"type", "status", …}} */
    JsonObject *exports; /* {id: {…}} */
    JsonObject *nodes;   /* {node name: {…}} added */
    JsonObject *objects; /* {id: type} added; null = deleted */
} QmigRehearsed;

typedef struct QmigRehearsal {
    QmigJob *job;
    QmigRehearsed sides[2];
    bool guest_ran; /* the source's, when migrate was said */
    bool held;      /* somebody stopped it since */
    bool has_proxy; /* it would stand by now */
    JsonObject
        *plan; /* list of {"phase", "side", "command", "arguments"} or {…, "note"} */
} QmigRehearsal;

/* The port of addresses the kernel would choose one for: shown as PORT. */
enum { QMIG_REHEARSAL_PORT = 65535 };

/* From now on nothing is sent that changes anything. Both sides are connected. */
void qmig_rehearsal_begin(QmigJob *job);
/* The checks have passed: from now on no process is looked at either. */
void qmig_rehearsal_go(QmigJob *job);
void qmig_rehearsal_free(QmigRehearsal *rehearsal);

/* Something that would be done outside of QEMU. False: there is no rehearsal: do it. */
bool qmig_rehearsal_note(QmigJob *job, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* {"source", "destination"}: the plan in order. (transfer full) */
JsonObject *qmig_rehearsal_plan(const QmigRehearsal *rehearsal);

/* rehearsal-model.c: an effect, or a question about one. */
void qmig_rehearsal_apply(QmigRehearsed *r, const char *command, JsonObject *arguments);
/* True: @answer (transfer full) is the model's; false: QEMU knows. */
bool qmig_rehearsal_ask(QmigRehearsed *r, const char *command, JsonObject *arguments,
                        JsonObject **answer);
void qmig_rehearsed_clear(QmigRehearsed *r);

#endif
