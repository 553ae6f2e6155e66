/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks that go along: the destination exports its images (NBD), the source mirrors each disk
 * there, and keeps doing so while memory is copied. With the source's guest standing still the
 * mirrors end, both images being equal; only then may the migration go on.
 *
 *     prepare       destination: nbd-server-start, block-export-add; source: blockdev-add
 *     storage       source: blockdev-mirror, until each is ready
 *     switchover    source: block-job-cancel (a ready mirror ends well); all of it is removed
 */
#ifndef QMIG_JOB_STORAGE_H
#define QMIG_JOB_STORAGE_H

#include "job/side.h"
#include "qmp/block.h"

/* What names of exports, nodes and jobs of a copy begin with: also those that a killed qmig has
 * left. */
#define QMIG_STORAGE_PREFIX "qmig-disk"

/* A disk that is copied. */
typedef struct {
    char *name;                        /* for people */
    char *id;                          /* of its export there, and of node and job here */
    const QmigBlockDisk *here, *there; /* of QmigStorage */
    bool exported, connected, mirrored; /* what has to be removed again */
    bool deleting;        /* the node: asked for, and not answered in time */
    uint64_t done, total; /* bytes; total grows while the guest writes */
} QmigStorageDisk;

struct QmigStorage {
    GPtrArray *here, *there; /* QmigBlockDisk *: all of the source, of the destination */
    GPtrArray *disks;        /* QmigStorageDisk *: those that are copied */
    QmigAddress *address;    /* of the destination's server */
    bool serving;            /* the destination's server runs, because of this job */
    bool ready;              /* every mirror has been, once */
    bool finished;           /* the images are equal, and nothing is left of it */
    bool synchronous;        /* mirrors are, or may be, write-blocking */
    bool bitmaps;            /* dirty bitmaps go along */
    bool mapped;             /* block-bitmap-mapping was set */
    int64_t begin_us, ready_us; /* 0 = not yet */
    int64_t moved_us;           /* when bytes were last seen to move */
    uint64_t moved;             /* bytes done then */
};
typedef struct QmigStorage QmigStorage;

typedef struct QmigJob QmigJob;

/* storage-check.c: read both sides' disks, choose those to copy, find what does not fit. */
void qmig_storage_check(QmigJob *job, GString *problems);
/* storage-check.c: the disk of the other side that @disk becomes, or NULL. */
const QmigBlockDisk *qmig_storage_peer(const QmigJob *job, const QmigBlockDisk *disk);
void qmig_storage_free(QmigStorage *storage);

/* storage-bitmaps.c: dirty bitmaps go along under the names of the other side's nodes. */
void qmig_storage_check_bitmaps(QmigJob *job, GString *problems);
bool qmig_storage_map_bitmaps(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Empty the mapping again: QEMU cannot unset it. */
void qmig_storage_unmap_bitmaps(QmigJob *job);

/* storage-end.c: give up all mirrors and remove what was set up, as far as both sides live.
 * Also of an earlier migration that nobody ended: everything named "qmig-disk…". */
void qmig_storage_undo(QmigJob *job);
/* storage-end.c: the jobs and nodes on @side with such names, and the exports; each told by a
 * message. Errors: those of QMP. */
bool qmig_storage_clear_leftovers(QmigJob *job, QmigSide *side,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* storage-end.c: the source answers no more: let it not wait for the destination's disks. */
void qmig_storage_release_source(QmigJob *job);
/* storage-end.c: the source's ways to the destination's disks, those that are left. */
bool qmig_storage_disconnect(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* storage-end.c: exports and server of the destination. */
bool qmig_storage_end_serving(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* storage.c: shall disks be copied? */
bool qmig_storage_is_asked(const QmigJob *job);
/* storage.c: a new limit, in bytes per second for all disks together; 0 = none. */
bool qmig_storage_set_speed(QmigJob *job, uint64_t bytes_per_s,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* storage.c: for the report. (transfer full) */
JsonObject *qmig_storage_report(const QmigJob *job);

#endif
