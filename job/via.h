/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A migration through the tunnel (--via): this process is its near end, a `qmig proxy --tunnel` on
 * the destination's host its far end.
 *
 *     begin         a session with the far end is agreed on, before anything is touched; the
 *                   destination's monitor is reached through it when its address is via:ADDRESS
 *     prepare       what the source sends comes to a socket of the near end; so do its disks
 *     perform       the downtime limit is kept from the source while the tunnel holds more than
 *                   fits into it: via-hold.c
 *     switchover    the far end is told that the guest changes hosts
 *     dark          there is no connection: nothing times out but the tunnel itself
 *
 * The tunnel decides nothing about the guest: the destination is told to run it when the source has
 * said that it is done, as without one.
 */
#ifndef QMIG_JOB_VIA_H
#define QMIG_JOB_VIA_H

#include "job/job.h"
#include "proxy/link/near.h"

/* Where `qmig proxy --tunnel` listens unless told otherwise. */
enum { QMIG_VIA_PORT = 7117 };

/* What the options ask for, understood. */
typedef struct {
    GPtrArray *far; /* QmigAddress *, tried in turn; ends with NULL */
    unsigned n_wires;
    QmigLinkCodec codec;
    int level;           /* of zstd; 0: chosen */
    uint64_t cache_size; /* bytes */
    uint64_t rate;       /* bytes/s on the wire; 0: no limit */
    uint32_t deadline_ms;
    uint32_t standstill_ms; /* 0: as long as deadline_ms */
} QmigViaSettings;

/**
 * qmig_via_settings_read() - understand the options of the tunnel
 * @settings: (out) to be cleared, also after a failure
 *
 * Errors: CONFIG, naming the option.
 */
bool qmig_via_settings_read(const QmigJobOptions *options, QmigViaSettings *settings,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_via_settings_clear(QmigViaSettings *settings);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigViaSettings, qmig_via_settings_clear)

/* HOST, HOST:PORT, [V6]:PORT, or what qmig_address_parse() reads. (transfer full) Errors: CONFIG */
QmigAddress *qmig_via_parse_far(const char *text,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The destination's QMP address as the user wrote it, "via:" included. (transfer full) */
char *qmig_via_destination_text(const QmigJobOptions *options);

/* The tunnel's options, for the journal; NULL without a tunnel. (transfer full) */
JsonObject *qmig_via_options_to_journal(QmigJobOptions *options);
/* And back; @record is NULL when there was none. Errors: PROTOCOL. */
bool qmig_via_options_from_journal(QmigJobOptions *options, JsonObject *record,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- in a job; without a tunnel all of these do nothing ---------------------------------- */

typedef struct QmigVia QmigVia;

/* A session with the far end. Errors: those of qmig_near_new(), with what to do. */
bool qmig_via_begin(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Where the destination's QMP is reached from here. Borrowed. */
const QmigAddress *qmig_via_monitor(const QmigJob *job);
/* The destination's monitor is reached through the tunnel. */
bool qmig_via_has_monitor(const QmigJob *job);

/**
 * qmig_via_forward() - a way for the connections of one migration
 *
 * To where the destination listens, whose port must be known. Done once until it is dropped. A
 * session that has failed is made anew before. Errors: as qmig_via_begin().
 */
bool qmig_via_forward(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The next connections are another migration's, or the rest of a broken one: a new way then. */
void qmig_via_drop_way(QmigJob *job);
/* The tunnel's near end; NULL: there is none. Borrowed. */
QmigNear *qmig_via_near(const QmigJob *job);
/* Where that way begins; NULL before. Borrowed. */
const QmigAddress *qmig_via_target(const QmigJob *job);
/* The same for the source's NBD client. @here: (out) (transfer full) */
bool qmig_via_forward_disks(QmigJob *job, const QmigAddress *there, QmigAddress **here,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Take in how the tunnel does, tell what has changed. Called between all steps. */
void qmig_via_look(QmigJob *job);
/* There is no connection at the moment, or no monitor, and it is worth waiting. */
bool qmig_via_is_dark(const QmigJob *job);
/* How long that was so, all together, microseconds: what waits for QEMU waits so much longer. */
int64_t qmig_via_dark_us(const QmigJob *job);
/* How long there has been no connection by now, ms; 0: there is one, or no tunnel. */
uint64_t qmig_via_down_ms(const QmigJob *job);
/* @error came because the tunnel is or was dark since the last look: ask again. */
bool qmig_via_forgives(const QmigJob *job, const GError *error);
/* Wait as long as it is dark, and as long as the user lets it. @wish: (out) set when the user does
 * not. Return: it was dark, and is not any more: ask again. */
bool qmig_via_wait(QmigJob *job, GError **wish);
/* Do @step, and again after each time that it failed because it was dark: it looks itself for what is
 * done already. Errors: its own; those of qmig_job_check_wishes(). */
bool qmig_via_despite_darkness(QmigJob *job, bool (*step)(QmigJob *job, GError **error),
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
/**
 * qmig_via_regain() - the destination's monitor has closed
 *
 * Through a tunnel that proves nothing: try once to reach it again, through a new session if need
 * be. Return: false when it is no use (any more): then it counts as closed.
 */
bool qmig_via_regain(QmigJob *job);
/* The job fails: was it the tunnel, or a connection that the far end would not make? Adds that to
   @error, and makes it a deadline's where it was one. */
void qmig_via_explain(QmigJob *job, GError *error);
/* Set a new limit of bytes/s on the wire. */
void qmig_via_set_rate(QmigJob *job, uint64_t rate);

/* Everything has arrived: end the session in order. */
void qmig_via_end(QmigJob *job);
/* Now; the journal tells what a killed one left. */
void qmig_via_free(QmigJob *job);
/* The directory with its sockets; NULL: none. Borrowed. */
const char *qmig_via_dir(const QmigJob *job);

/* Few members, for events and status; NULL without a tunnel. (transfer full) */
JsonObject *qmig_via_status(const QmigJob *job);
/* All there is to say, for the report; NULL without a tunnel. (transfer full) */
JsonObject *qmig_via_report(const QmigJob *job);

/* ---- via-hold.c ---------------------------------------------------------------------------- */

typedef struct {
    uint64_t user_ms;    /* the downtime the user wants */
    uint64_t backlog_ms; /* what is in the tunnel takes so long; UINT64_MAX: dark */
    uint64_t link_rate;  /* bytes/s of the stream that the link takes; 0: not known */
    uint64_t qemu_rate;  /* bytes/s the source believes to have; 0: not known */
} QmigViaFlow;

/* The downtime limit to give the source, ms. */
uint64_t qmig_via_limit(const QmigViaFlow *flow);

/* The source waits to be told to go on with its end, and can still go back: not while nobody can be
 * reached there, or much is still on its way. */
bool qmig_via_drains(QmigJob *job);

/* Is the source's downtime limit in the tunnel's hands? Then what the user sets is not for QEMU. */
bool qmig_via_holds(const QmigJob *job);

#endif
