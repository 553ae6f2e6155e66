/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One QEMU of a migration: its monitor, what it is, and what was changed in it. */
#ifndef QMIG_JOB_SIDE_H
#define QMIG_JOB_SIDE_H

#include "qmp/commands.h"
#include "qmp/schema.h"

typedef struct {
    const char *label; /* "source", "destination" */
    QmigQmp *qmp;      /* NULL before begin and once it is proven gone */
    bool is_local;     /* its monitor is a unix socket */
    QmigFd pidfd;      /* of a QEMU on this host; -1 = not known */
    pid_t pid;         /* of it; 0 = not known */
    bool dead;         /* it runs nothing any more: seen, or fenced */
    bool unreachable;  /* qmp is NULL, and it is not known to be gone */

    /* Read in begin, and what restore puts back. */
    unsigned version;  /* qmig_qmp_version() */
    char *machine;     /* versioned machine type */
    char *name, *uuid; /* of the guest; "" = none */
    uint64_t memory;   /* bytes */
    unsigned vcpus;
    bool running;             /* vCPUs ran */
    char *run_state;          /* "running", "inmigrate", … */
    JsonObject *capabilities; /* {name: bool} */
    JsonObject *parameters;
    QmigSchema *schema;
    QmigMigrationStatus migration;

    bool touched; /* capabilities or parameters may differ from those read */
    bool closed;  /* its monitor closed: nothing more will come */

    /* From events. */
    bool
        has_news; /* something a migration is decided on has come; the reader clears it */
    bool guest_shut_down; /* the guest ended itself */
    bool device_gone;     /* one was unplugged; the reader clears it */
    char *io_error;       /* the guest's last I/O error; NULL = none */
    int64_t stopped_us;   /* arrival of the last STOP event; 0 = none */
    int64_t resumed_us;   /* arrival of the last RESUME event; 0 = none */
} QmigSide;

void qmig_side_init(QmigSide *side, const char *label);
void qmig_side_clear(QmigSide *side);

/* Connect and read everything; changes nothing. */
bool qmig_side_begin(QmigSide *side, const QmigAddress *address, const QmigCancel *cancel,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Take the events that are there. Errors: as qmig_qmp_dispatch(). */
bool qmig_side_dispatch(QmigSide *side, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_side_apply() - set what a migration needs
 * @capabilities: {name: true}: every other capability that is on is switched off: what an
 *                earlier migration left behind would change this one
 * @parameters:   {name: value}
 */
bool qmig_side_apply(QmigSide *side, JsonObject *capabilities, JsonObject *parameters,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The capabilities that qmig_side_apply() would switch off: "a, b"; NULL = none. */
char *qmig_side_leftover_capabilities(const QmigSide *side, JsonObject *wanted);

/**
 * qmig_side_restore() - make capabilities and parameters what begin has read
 *
 * Asks QEMU what they are now, and sets what differs: right also after a set that got no
 * answer, and when somebody else changed one meanwhile. Not while a migration runs.
 */
bool qmig_side_restore(QmigSide *side, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Proven: the process behind a local monitor has ended. Waits a little if its monitor closed. */
bool qmig_side_is_dead(const QmigSide *side);

/**
 * qmig_side_end() - quit this QEMU and see it gone
 *
 * Errors: TIMEOUT; CLOSED: a monitor over the network closed, which proves nothing.
 * Return: true when it is proven gone. Its connection is dropped then.
 */
bool qmig_side_end(QmigSide *side, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Kill the process of this QEMU, if it is known, and see it gone. Return: whether it is. */
bool qmig_side_kill(QmigSide *side) G_GNUC_WARN_UNUSED_RESULT;

#endif
