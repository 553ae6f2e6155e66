/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks of a QEMU, NBD exports of them, and the jobs that copy them. Errors as
 * qmig_qmp_execute(). */
#ifndef QMIG_QMP_BLOCK_H
#define QMIG_QMP_BLOCK_H

#include "qmp/client.h"

/* An image below a disk's own: a link of its backing chain. */
typedef struct {
    char *filename, *format; /* "" = not told */
    uint64_t virtual_size;   /* bytes */
} QmigBlockImage;

/* A medium in a device of the guest. Texts are "" where QEMU told nothing. */
typedef struct {
    char *drive;  /* id of -drive */
    char *qdev;   /* QOM path or id of the guest's device */
    char *node;   /* the top node of the medium */
    char *driver; /* "raw", "qcow2", … */
    char *filename;
    uint64_t virtual_size, actual_size; /* bytes; actual 0 = not told */
    bool read_only;
    bool is_direct;     /* cache.direct: the host's page cache is not used */
    bool is_inactive;   /* waits for a migration: told from 10.0 on */
    bool has_io_error;  /* stopped by an error of this disk */
    GPtrArray *backing; /* QmigBlockImage *, nearest first */
    GPtrArray *bitmaps; /* char *: named dirty bitmaps */
} QmigBlockDisk;

void qmig_block_disk_free(QmigBlockDisk *disk);

/* A short name of a disk, for people and for --migrate-disks: the id of its drive, else of its
 * device, else its node. (transfer full) */
char *qmig_block_disk_name(const QmigBlockDisk *disk);
/* Is @name its drive, device (path or id) or node? */
bool qmig_block_disk_is_named(const QmigBlockDisk *disk, const char *name);

/* All media that the guest can reach, in QEMU's order.
 * (transfer full) (element-type QmigBlockDisk) */
GPtrArray *qmig_qmp_query_disks(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- the destination: exports ----------------------------------------------------------- */

typedef struct {
    const QmigAddress *address; /* unix or tcp; the port must be given */
    const char *tls_creds;      /* (nullable) id of server credentials */
    const char *tls_authz;      /* (nullable) */
    unsigned max_connections;
} QmigNbdServer;

bool qmig_qmp_nbd_server_start(QmigQmp *qmp, const QmigNbdServer *server,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_nbd_server_stop(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Export @node, writable, as @id, which is its NBD name, too. Activates an inactive node. */
bool qmig_qmp_export_add(QmigQmp *qmp, const char *id, const char *node,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @hard: also while somebody is connected. Returns before it is gone. */
bool qmig_qmp_export_del(QmigQmp *qmp, const char *id, bool hard,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Ids of all exports. (transfer full) (element-type utf8) */
GPtrArray *qmig_qmp_query_exports(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- the source: targets and jobs ------------------------------------------------------- */

typedef struct {
    const char *node;   /* its name here */
    const char *export; /* there */
    const QmigAddress *address;
    const char *tls_creds;    /* (nullable) id of client credentials */
    const char *tls_hostname; /* (nullable) */
} QmigNbdTarget;

/* Connect to an export: a node that writes there. */
bool qmig_qmp_nbd_open(QmigQmp *qmp, const QmigNbdTarget *target,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_blockdev_del(QmigQmp *qmp, const char *node,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Names of all nodes. (transfer full) (element-type utf8) */
GPtrArray *qmig_qmp_query_nodes(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct {
    const char *id, *node, *target;
    bool top_only;        /* only what is above the backing file */
    bool synchronous;     /* a write of the guest waits for the target's */
    uint64_t bytes_per_s; /* 0 = no limit */
} QmigMirror;

/* It stays, once it has ended, until qmig_qmp_job_dismiss(). At an I/O error it is paused: see
 * qmig_qmp_mirror_has_failed(). */
bool qmig_qmp_mirror(QmigQmp *qmp, const QmigMirror *mirror,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct {
    char *id, *status;       /* "running", "ready", "concluded", … */
    char *error;             /* (nullable) why it failed */
    uint64_t current, total; /* progress; bytes for a mirror */
} QmigBlockJob;

void qmig_block_job_free(QmigBlockJob *job);
/* (transfer full) (element-type QmigBlockJob) */
GPtrArray *qmig_qmp_query_jobs(QmigQmp *qmp, const QmigQmpCall *call,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @failed: (out) an I/O error has paused mirror @id. Worth asking when its status is "paused" or
 * "standby", which also stand for a pause of a moment. */
bool qmig_qmp_mirror_has_failed(QmigQmp *qmp, const char *id, bool *failed,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* NULL when it is not in @jobs. */
const QmigBlockJob *qmig_block_job_find(const GPtrArray *jobs, const char *id);

/* A ready mirror ends well, its target being equal to the disk at that moment; any other one is
 * given up. @force: give it up at once. Returns before it has ended. */
bool qmig_qmp_job_cancel(QmigQmp *qmp, const char *id, bool force,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_job_dismiss(QmigQmp *qmp, const char *id,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_job_set_speed(QmigQmp *qmp, const char *id, uint64_t bytes_per_s,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* From now on writes of the guest wait for the target's. Only where the schema has
 * block-job-change. */
bool qmig_qmp_mirror_make_synchronous(QmigQmp *qmp, const char *id,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Shut the connection of an NBD node, out of band where that is to be had. */
bool qmig_qmp_yank_node(QmigQmp *qmp, const char *node,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
