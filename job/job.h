/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A migration as a table of phases:
 *
 *   begin -> check -> prepare -> storage -> perform -> switchover -> postcopy -> finish -> confirm
 *
 * Up to switchover a failure or a cancel undoes what was done, in reverse, and the guest runs
 * on the source. From the moment the source says "completed" the guest belongs to the
 * destination, which only then is told to run it.
 */
#ifndef QMIG_JOB_JOB_H
#define QMIG_JOB_JOB_H

#include "util/address.h"
#include "util/auto.h"
#include "util/cancel.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    QMIG_PHASE_BEGIN,   /* connect, read both sides */
    QMIG_PHASE_CHECK,   /* do they fit? Nothing is touched before this has passed */
    QMIG_PHASE_PREPARE, /* destination listens, proxy stands */
    QMIG_PHASE_STORAGE, /* disks are copied while the guest runs; passed at once if none */
    QMIG_PHASE_PERFORM,    /* memory is copied while the guest runs */
    QMIG_PHASE_SWITCHOVER, /* the guest stands still, the rest is copied */
    QMIG_PHASE_POSTCOPY, /* the guest runs on the destination, whose memory is still coming;
                              passed at once unless it came to that */
    QMIG_PHASE_FINISH,   /* the destination runs the guest */
    QMIG_PHASE_CONFIRM, /* the source is let go */
    QMIG_N_PHASES,
} QmigPhase;

/* "begin", "check", … */
const char *qmig_phase_name(QmigPhase phase);

typedef struct QmigJob QmigJob;

typedef enum {
    QMIG_STEP_AGAIN,
    QMIG_STEP_NEXT,
    QMIG_STEP_FAILED,
} QmigStep;

/* How it ended; the numbers are the exit codes of `qmig migrate`. */
typedef enum {
    QMIG_OUTCOME_DONE = 0,
    QMIG_OUTCOME_USAGE = 1,     /* usage or configuration; nothing touched */
    QMIG_OUTCOME_REFUSED = 2,   /* refused by the checks; nothing touched */
    QMIG_OUTCOME_FAILED = 3,    /* the guest runs on the source */
    QMIG_OUTCOME_CANCELLED = 4, /* the guest runs on the source */
    QMIG_OUTCOME_DEADLINE = 5,  /* the guest runs on the source */
    QMIG_OUTCOME_PAUSED = 6,    /* post-copy paused, recoverable */
    QMIG_OUTCOME_UNCLEAR = 7,   /* ownership unclear: a person must look */
} QmigOutcome;

/* "done", "refused", … */
const char *qmig_outcome_name(QmigOutcome outcome);

/* What happens when timeout_ms has passed. */
typedef enum {
    QMIG_ON_TIMEOUT_CANCEL,
    QMIG_ON_TIMEOUT_SUSPEND,  /* the guest stands still until it has arrived */
    QMIG_ON_TIMEOUT_POSTCOPY, /* the guest goes over at once, its memory follows */
} QmigOnTimeout;

typedef struct {
    QmigAddress *source; /* QMP of the QEMU that runs the guest; owned, as all below */
    QmigAddress *destination; /* QMP of the QEMU started with -S -incoming defer */
    QmigAddress *migrate_uri; /* (nullable) where the destination shall listen */
    QmigAddress *listen;      /* (nullable) where the proxy listens for the source */
    char *record;             /* (nullable) a new or empty directory for a capture */
    GPtrArray *plugins;       /* specs of qmig_chain_new(), after "stats" */
    JsonObject *capabilities; /* {name: true}: asked for */
    JsonObject *parameters;   /* {name: text}: asked for, as the user wrote them */
    JsonObject *asked_by;     /* {capability or parameter: "--option"}, for messages */
    bool rdma;                /* migrate_uri is of RDMA, not of tcp; only with direct */
    bool unsafe;              /* do what could lose data */
    bool offline;             /* move the definition only; there is no guest */
    char *definition;         /* (nullable) the file the guest is started from */
    char *definition_to;      /* (nullable) where it is copied to at the end */
    bool undefine_source;     /* remove `definition` at the end */
    bool check_only;          /* end well when the checks have passed */
    bool dry_run; /* rehearse: nothing is touched; the report has what would be done */
    uint64_t timeout_ms; /* from begin until the source is done; 0 = none */
    QmigOnTimeout on_timeout;
    /* Post-copy: allowed at all; and begun after the first pass without being asked. */
    bool postcopy, postcopy_after_precopy;
    uint64_t
        recover_ms; /* how long a broken post-copy is tried to be resumed; 0 = 60 000 */
    uint32_t
        patience_ms; /* how long the source may take to answer, besides three times its
                                 downtime limit, before it counts as hung; 0 = 10 000 */
    /* TLS (job/tls.c). Directories are those of QEMU's credentials, each on its own host. */
    bool tls;
    bool tls_psk;              /* pre-shared keys (keys.psk) instead of certificates */
    char *tls_dir;             /* (nullable) for all three; NULL = /etc/pki/qemu */
    char *tls_source_dir;      /* (nullable) of the source QEMU, if another */
    char *tls_destination_dir; /* (nullable) likewise */
    char *tls_proxy_dir; /* (nullable) of this process, for the proxy and the checks */
    char *tls_creds; /* (nullable) objects that both QEMUs have already: ID, or SRC,DST */
    char *tls_hostname; /* (nullable) the name in the destination's certificate */
    char *tls_user;     /* (nullable) of pre-shared keys; NULL = "qemu" */
    char *journal;      /* (nullable) the journal's file, which stays */
    bool
        journal_by_default; /* else one in the default directory, removed at a clear end */
    char *fence;      /* (nullable) command that makes sure a side runs nothing: exit 0 */
    GPtrArray *hooks; /* "PHASE=COMMAND" of qmig_hook_check() */
    uint64_t hook_timeout_ms; /* of each; 0 = 30 000 */
    uint64_t life_timeout_ms; /* until a sign of life is missed; 0 = 3 000 */
    bool no_proof_of_life;
    QmigAddress *agent,
        *agent_destination; /* (nullable) qemu-ga's channel on each side */
    /* Disks (job/storage.c), and what spoils a migration (job/guard.c). */
    bool copy_storage_all, copy_storage_inc; /* whole, or what is above a backing file */
    bool
        copy_storage_synchronous; /* the guest's writes wait for the destination's disk */
    GPtrArray *migrate_disks;     /* char *: "NAME" or "NAME=NAME-THERE"; empty: all */
    QmigAddress *disks_uri;       /* (nullable) where the destination serves its disks */
    /* The tunnel (job/via.h). */
    GPtrArray
        *via; /* char *: where its far end listens, tried in turn; empty: no tunnel */
    bool destination_via;  /* `destination` is an address over there */
    char *via_connections; /* (nullable), as all below: as the user wrote them */
    char *via_compression, *via_cache, *via_bandwidth;
    uint64_t
        via_deadline_ms; /* without a connection for so long it gives up; 0 = 120 000 */
    uint64_t via_standstill_ms; /* likewise while the guest stands still; 0 = no sooner */
    char *via_tls_dir;  /* NULL: that of tls_proxy_dir, tls_dir, or /etc/pki/qemu */
    char *via_tls_user; /* NULL: "qemu" */
    char *via_tls_destination; /* the name in the far end's certificate; NULL: its host */
    bool via_tls_psk;
    bool via_insecure;      /* in the clear, to whoever answers */
    bool abort_on_error;    /* an I/O error of the guest ends the migration */
    bool change_protection; /* so does a change of its devices or media */
    bool freeze;            /* freeze the guest's filesystems for the switchover */
    bool set_time;          /* set the guest's clock on the destination */
    bool control;           /* listen for qmig status, set, cancel, … */
    char *control_path;     /* (nullable) where; NULL: see qmig_control_start() */
    bool direct;            /* no proxy */
    bool suspend;           /* leave the guest paused on the destination */
    bool keep_source;       /* do not quit the source: it stays, stopped */
} QmigJobOptions;

QmigJobOptions *qmig_job_options_new(void);
void qmig_job_options_free(QmigJobOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigJobOptions, qmig_job_options_free)

/* Where a migration stands. Borrowed strings live until the next progress. */
typedef struct {
    QmigPhase phase;
    const char *status;        /* QEMU's word: "active", … */
    unsigned percent;          /* never falls; 100 only when the guest runs there */
    uint64_t elapsed_ms;       /* since perform began */
    uint64_t transferred;      /* bytes of RAM QEMU counts as sent */
    uint64_t remaining, total; /* bytes of RAM */
    uint64_t storage_done, storage_total; /* bytes of disks; the total grows as the guest
                                             writes; 0 = none are copied */
    uint64_t pages_zero, pages_normal, pages_resent;
    uint64_t rate;       /* bytes per second over the last second or so */
    uint64_t dirty_rate; /* bytes per second, as QEMU last measured */
    uint64_t iteration;  /* 1-based; 0 = not begun */
    uint64_t expected_downtime_ms;
    int64_t left_min_ms; /* if the guest dirtied nothing more; -1 = cannot be told yet */
    int64_t left_max_ms; /* at the present dirty rate; -1 = it would not end */
    uint64_t link_down_ms; /* the tunnel's link is down for so long; 0 = it is not */
} QmigProgress;

/* What the job tells while it runs. All from the calling thread; any member may be NULL. */
typedef struct {
    void (*phase)(void *data, QmigPhase phase);
    /* The source's migration has a new status, in QEMU's word. */
    void (*state)(void *data, const char *status);
    /* About ten times a second while memory is copied. */
    void (*progress)(void *data, const QmigProgress *progress);
    /* An iteration ended; @progress is that of its end. */
    void (*iteration)(void *data, const QmigProgress *progress);
    /* Something was set that the user did not ask for, or chosen among several. */
    void (*decision)(void *data, const char *what, const char *why);
    /* Something worth knowing. */
    void (*message)(void *data, const char *text);
    /* Each of the above and some more, as an object of docs/events.md; "progress" about once a
       second. Borrowed. */
    void (*event)(void *data, JsonObject *event);
} QmigJobWatcher;

/**
 * qmig_job_new() - a migration, not yet begun
 * @options: (transfer full)
 * @watcher: (nullable) borrowed, with @data, until the job is freed
 * @cancel:  (nullable) raise it to cancel; borrowed
 */
QmigJob *qmig_job_new(QmigJobOptions *options, const QmigJobWatcher *watcher, void *data,
                      const QmigCancel *cancel);
void qmig_job_free(QmigJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigJob, qmig_job_free)

/**
 * qmig_job_run() - migrate
 * @error: (out) set for every outcome but DONE: "PHASE: SIDE: what failed", and on lines of
 *         their own where the guest is now and what to do next
 *
 * Blocks until the migration is over, or undone. Threads: one.
 */
QmigOutcome qmig_job_run(QmigJob *job, GError **error);

/* The report, documented in qmig-migrate(1). After run. (transfer full) */
JsonObject *qmig_job_report(QmigJob *job);

#endif
