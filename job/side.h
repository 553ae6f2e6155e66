/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One QEMU of a migration: its monitor, what it is, and what was changed in it. */
#ifndef QMIG_JOB_SIDE_H
#define QMIG_JOB_SIDE_H

#include "qmp/commands.h"
#include "qmp/schema.h"

typedef struct {
    const char *label; /* "source", "destination" */
    QmigQmp *qmp;      /* NULL before begin and once it is gone */
    pid_t pid;         /* of a QEMU on this host; 0 = not known */

    /* Read in begin. */
    unsigned version; /* qmig_qmp_version() */
    char *machine;    /* versioned machine type */
    uint64_t memory;  /* bytes */
    unsigned vcpus;
    bool running;             /* vCPUs ran */
    char *run_state;          /* "running", "inmigrate", … */
    JsonObject *capabilities; /* {name: bool} */
    JsonObject *parameters;
    QmigSchema *schema;
    QmigMigrationStatus migration;

    /* To be put back. */
    JsonObject *old_capabilities; /* {name: bool}; NULL = nothing was changed */
    JsonObject *old_parameters;

    int64_t stopped_us; /* arrival of the last STOP event; 0 = none */
    int64_t resumed_us; /* arrival of the last RESUME event; 0 = none */
} QmigSide;

void qmig_side_init(QmigSide *side, const char *label);
void qmig_side_clear(QmigSide *side);

/* Connect and read everything; changes nothing. */
bool qmig_side_begin(QmigSide *side, const QmigAddress *address, const QmigCancel *cancel,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Take the events that are there. Errors: as qmig_qmp_dispatch(). */
bool qmig_side_dispatch(QmigSide *side, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_side_apply() - set what a migration needs, remembering what was
 * @capabilities: {name: true}: every other capability that is on is switched off: what an
 *                earlier migration left behind would change this one
 * @parameters:   {name: value}
 */
bool qmig_side_apply(QmigSide *side, JsonObject *capabilities, JsonObject *parameters,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Put back what qmig_side_apply() changed. Not while a migration runs. */
bool qmig_side_restore(QmigSide *side, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_side_end() - quit this QEMU and see it gone
 *
 * Return: true when it is proven gone: its monitor closed. Its connection is dropped then.
 */
bool qmig_side_end(QmigSide *side, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
