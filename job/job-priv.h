/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside a job: its state, shared by the runner (job.c), the phases and the report. */
#ifndef QMIG_JOB_JOB_PRIV_H
#define QMIG_JOB_JOB_PRIV_H

#include "job/control.h"
#include "job/endpoints.h"
#include "job/events.h"
#include "job/job.h"
#include "job/journal.h"
#include "job/postcopy.h"
#include "job/progress.h"
#include "job/side.h"
#include "job/storage.h"
#include "job/via.h"
#include "proxy/proxy.h"

/* Who owns the guest, as far as it is proven. */
typedef enum {
    QMIG_OWNER_SOURCE,
    QMIG_OWNER_DESTINATION,
    QMIG_OWNER_UNCLEAR,
} QmigOwner;

typedef struct QmigLife QmigLife;
typedef struct QmigGuard QmigGuard;
typedef struct QmigAgentState QmigAgentState;
struct QmigPreflight;
struct QmigRehearsal;

struct QmigJob {
    QmigJobOptions *options;
    const QmigJobWatcher *watcher; /* never NULL */
    void *data;
    const QmigCancel *cancel;
    QmigEvents events;
    QmigControl *control; /* NULL: nobody listens */
    bool cancel_asked;    /* at the control socket */

    QmigSide source, destination;
    QmigEndpoints endpoints;
    QmigProxy *proxy;                        /* NULL with --direct */
    JsonObject *snapshot;                    /* the proxy's last one */
    JsonObject *source_caps, *source_params; /* what will be set: chosen by check */
    JsonObject *destination_caps, *destination_params;

    QmigPhase phase;
    QmigOwner owner;
    bool incoming_sent;    /* the destination was told to listen: it is used up */
    bool migrate_sent;     /* the source was told to migrate */
    bool continue_sent;    /* out of pre-switchover */
    bool cont_sent;        /* the destination was told to run the guest */
    bool cont_again;       /* whether it heard that is not known: its monitor was lost */
    bool parts_are_done;   /* confirm: they have removed what is left */
    bool deadline_passed;  /* options->timeout_ms */
    bool mute_in_the_dark; /* it let a query wait while the tunnel was dark: later */
    bool source_hangs;     /* it let a query wait beyond all patience */
    bool cancelled;
    bool
        cancelled_elsewhere; /* not by this job: the source was told to by somebody else */
    bool
        wants_pre_switchover; /* set in check: the source shall wait before the last phase */
    bool source_held;         /* this job has stopped the source's guest */
    bool suspended;           /* by --timeout-suspend: the deadline has done its work */
    QmigPostcopy postcopy;
    bool recovers;          /* qmig recover: what came before was another process */
    QmigJournal *journal;   /* NULL = none, or not begun */
    QmigLife *life;         /* of the part "life" */
    QmigAgentState *agent;  /* of the part "agent" */
    bool definition_staged; /* of the part "definition" */
    JsonObject *blocktime;  /* of the part "blocktime"; NULL = not measured */
    QmigStorage *storage;   /* of the part "storage" */
    QmigGuard *guard;       /* of the part "guard" */
    QmigVia *via;           /* the tunnel; NULL = none */
    bool
        cont_noted; /* an earlier qmig was about to tell the destination to run the guest */
    bool
        lifeless; /* the destination ran the guest, which did nothing, and has stopped it */
    int64_t alive_us; /* when the guest was seen to live on the destination; 0 = not */
    /* The guest's vCPUs run, or would but for the switchover: false when somebody has stopped
       it, before or while it was copied. The other side shall then not run it either. */
    bool guest_runs;
    int64_t
        guest_seen_us; /* arrival of the STOP or RESUME guest_runs was last taken from */

    int64_t begin_us, perform_us, running_us; /* qmig_now_us(); 0 = not reached */
    int64_t phase_us;                         /* when this phase began */
    int64_t proxy_failed_us;                  /* when that was noticed; 0 = it has not */
    QmigMigrationInfo info;                   /* the source's last */
    QmigProgressModel model;

    struct QmigJobTls *tls;          /* NULL without --tls */
    struct QmigPreflight *preflight; /* what check found; NULL before */
    struct QmigRehearsal *rehearsal; /* of --dry-run: nothing is really done; else NULL */

    GPtrArray *messages;   /* char *: notices, in order */
    JsonObject *decisions; /* list of {"what", "why"} */
    JsonObject
        *iterations; /* list of those QEMU was seen to end; with the proxy, its own are
                               used, which are exact */
    const char *source_end; /* what became of the source: "quit", "kept", …; static */
    bool told_too_late;     /* that a cancel has no effect any more */
    QmigOutcome outcome;
    GError *error;    /* why it did not end as asked */
    char *where;      /* where the guest is, as a sentence; NULL after DONE */
    const char *next; /* what to do next; static */
};

/* A row of the table. */
typedef struct {
    const char *name;
    /* Begin the phase. */
    bool (*enter)(QmigJob *job, GError **error);
    /* (nullable) Called after each event and every QMIG_TICK_MS until it says NEXT. */
    QmigStep (*tick)(QmigJob *job, GError **error);
    /* (nullable) Bring back what it was before `enter`, also after a failed one. Cannot fail:
       it tells by messages and job->owner. */
    void (*undo)(QmigJob *job);
    uint32_t timeout_ms; /* for `tick`, besides three times the source's downtime limit;
                            0 = only the user's */
    bool cancellable;    /* a cancel takes effect in this phase */
} QmigPhaseRow;

enum { QMIG_TICK_MS = 100 };

extern const QmigPhaseRow qmig_phases[QMIG_N_PHASES];

/* (nullable) The user's cancel, where it takes effect in this phase: later it shall not end what saves
   the guest. */
const QmigCancel *qmig_job_cancel(const QmigJob *job);
/* Tell and keep a notice. */
void qmig_job_message(QmigJob *job, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Tell and keep a decision with its reason. */
void qmig_job_decide(QmigJob *job, const char *what, const char *why_fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* perform.c: storage, perform, switchover. */
QmigStep qmig_job_storage_tick(QmigJob *job, GError **error);
bool qmig_job_perform_enter(QmigJob *job, GError **error);
QmigStep qmig_job_perform_tick(QmigJob *job, GError **error);
QmigStep qmig_job_switchover_tick(QmigJob *job, GError **error);
/* perform.c: "source: the migration failed: …", with what the others know. Return: false. */
bool qmig_job_tell_failure(QmigJob *job, GError **error);

/* policy.c: by the user's options: is it time for post-copy, or to hold the guest? */
bool qmig_job_follow_policy(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* policy.c: stop the source's guest; it counts as running all the same. */
bool qmig_job_hold_source(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* policy.c: let a held guest run on the source again, once its migration has ended. */
bool qmig_job_release_source(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* phases.c: @address as QEMU's migrate commands want it. (transfer full) */
char *qmig_job_uri(const QmigJob *job, const QmigAddress *address);
/* phases.c: the proxy, if there shall be one, listening for the source. */
bool qmig_job_start_proxy(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* phases.c: where the source is told to migrate to. */
const QmigAddress *qmig_job_target(const QmigJob *job);
/* phases.c: ask the destination for the port the kernel chose, if it did. */
bool qmig_job_find_port(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* check.c: compare both sides, choose what to set. Errors: STATE, with every problem. */
bool qmig_job_check(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* wants.c: fill source_caps, source_params, destination_caps, destination_params; what cannot
 * be had is added to @problems, one a line. */
void qmig_job_choose_settings(QmigJob *job, GString *problems);
/* check.c: add to @problems. */
void qmig_job_problem(GString *problems, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* job.c: run from @first on, what comes before being known to be done. */
QmigOutcome qmig_job_run_from(QmigJob *job, QmigPhase first, GError **error);
/* job.c: the user's wish to end it, as an error, where the phase lets it end: a cancel, --timeout. */
bool qmig_job_check_wishes(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* job.c: the source had been migrated away before this job: who has its guest is not known. */
bool qmig_job_source_is_spent(const QmigJob *job);

/* observe.c: take in what both sides say, tell the watcher. Errors: a side is gone, or the
 * source does not answer. */
bool qmig_job_observe(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* observe.c: the last figures, once the destination has the guest. */
void qmig_job_close_figures(QmigJob *job);
/* observe.c: the source's guest stands still for the switchover, and not because somebody
 * stopped it. */
bool qmig_job_guest_has_stopped(QmigJob *job, bool *stopped,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* settle.c: after a failure or cancel while memory was copied: make the source end its
 * migration, and find out who owns the guest; sets job->owner. */
void qmig_job_settle(QmigJob *job);
/* settle.c: the source is completed, the destination did not take over. */
void qmig_job_roll_back(QmigJob *job);
/* settle.c: the guest must run on the source again, and does not by itself: end the destination,
 * and continue it. Return: whether it runs, all being proven. */
bool qmig_job_revive_source(QmigJob *job) G_GNUC_WARN_UNUSED_RESULT;
/* settle.c: quit the destination, which does not have the guest, or kill it. Return: whether it
 * is proven gone; else that is told. */
bool qmig_job_end_destination(QmigJob *job);
/* settle.c: three times the source's downtime limit: what QEMU may do for so long, and be well. */
uint32_t qmig_job_allowance_ms(const QmigJob *job);
/* settle.c: how long the source may take to answer before it counts as hung. */
uint32_t qmig_job_patience_ms(const QmigJob *job);

/* Take the proxy's newest snapshot; the stats plugin's report in it, or NULL. */
JsonObject *qmig_job_stats(QmigJob *job);

#endif
