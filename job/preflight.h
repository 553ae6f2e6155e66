/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Do the two sides fit? Everything that can be asked is asked, and all that differs is found at
 * once, each with what to change. Nothing is touched.
 *
 *   theme (preflight-*.c) -> findings -> of the levels: refused  -> problems of the check phase
 *                                                      warning  -> messages
 *                                                      note     -> `qmig check` alone
 */
#ifndef QMIG_JOB_PREFLIGHT_H
#define QMIG_JOB_PREFLIGHT_H

#include "job/job-priv.h"

typedef enum {
    QMIG_FINDING_REFUSED, /* the migration would fail */
    QMIG_FINDING_RISKY, /* it would pass, and the guest suffer: refused but for --unsafe */
    QMIG_FINDING_WARNING, /* it works, and somebody should know */
    QMIG_FINDING_NOTE,    /* nothing to change: what was seen, what could not be */
} QmigFindingLevel;

/* "refused", "risky", "warning", "note". */
const char *qmig_finding_level_name(QmigFindingLevel level);

typedef struct {
    QmigFindingLevel level;
    const char *theme; /* "cpu", …; static */
    char *text;        /* what is so, on which side; owned */
    char *advice;      /* what to change; owned; NULL = nothing */
} QmigFinding;

/* A device of one side. */
typedef struct QmigDevice {
    char *id;               /* NULL: it has none */
    char *type;             /* "virtio-blk-pci" */
    char *bus;              /* name of its bus */
    char *place, *slot;     /* where that is, and where on it: "pci.0", "05.0" */
    char *location;         /* both: where the guest finds it; the same on both sides */
    GHashTable *properties; /* {name: value as printed} */
    const struct QmigDevice *parent; /* whose bus it is on; NULL = nobody's */
} QmigDevice;

typedef struct QmigPreflight {
    QmigJob *job;
    const QmigSide *source, *destination; /* of the job */
    const char *theme;                    /* the present one */
    GPtrArray *findings;                  /* QmigFinding */
    /* QmigDevice, read by the theme "devices", for those after it; NULL = not known. */
    GPtrArray *source_devices, *destination_devices;
    bool same_host; /* both QEMUs' processes are seen from here */
} QmigPreflight;

/**
 * qmig_preflight_run() - ask both sides; in the check phase, once
 * @problems: what is refused is added, by qmig_job_problem()
 *
 * A side that does not answer any more is a problem, too. Return: (transfer full)
 */
QmigPreflight *qmig_preflight_run(QmigJob *job, GString *problems);
/* What others have found, a line each, as qmig_job_problem() writes them. */
void qmig_preflight_add_problems(QmigPreflight *p, const char *problems);
void qmig_preflight_free(QmigPreflight *p);

/* {"themes": [{"name", "level" or "ok"}], "findings": [{"level", "theme", "text", "advice"}]}
 * (transfer full) */
JsonObject *qmig_preflight_report(const QmigPreflight *p);

/* A finding of the present theme. RISKY becomes a WARNING with --unsafe. @text begins with the
 * side it is about, or is about both. */
void qmig_preflight_find(QmigPreflight *p, QmigFindingLevel level, const char *text_fmt,
                         ...) G_GNUC_PRINTF(3, 4);
/* What to change about the last finding. */
void qmig_preflight_advise(QmigPreflight *p, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Both sides have this command. Where not, the theme cannot be judged. */
bool qmig_preflight_can(const QmigPreflight *p, const char *command);

/* The themes. Errors: a side does not answer: the others need not try. */
bool qmig_preflight_states(QmigPreflight *p, GError **error);
bool qmig_preflight_machine(QmigPreflight *p, GError **error);
bool qmig_preflight_versions(QmigPreflight *p, GError **error);
bool qmig_preflight_cpu(QmigPreflight *p, GError **error);
bool qmig_preflight_memory(QmigPreflight *p, GError **error);
bool qmig_preflight_devices(QmigPreflight *p, GError **error);
bool qmig_preflight_disks(QmigPreflight *p, GError **error);
bool qmig_preflight_host(QmigPreflight *p, GError **error);
bool qmig_preflight_clocks(QmigPreflight *p, GError **error);

/* The devices `info qtree` tells of; (transfer full). @devices: (out) NULL = it does not. */
GPtrArray *qmig_qtree_parse(const char *text);
bool qmig_qtree_read(QmigQmp *qmp, GPtrArray **devices,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* NULL: none of @devices (nullable) has this id. */
const QmigDevice *qmig_device_of_id(const GPtrArray *devices, const char *id);
/* "virtio-blk-pci \"vd0\"". (transfer full) */
char *qmig_device_title(const QmigDevice *device);

/* A value as QEMU's command line would take it: on, off, 5, text. (transfer full) */
char *qmig_preflight_show(JsonObject *value);

#endif
