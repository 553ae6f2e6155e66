/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where destination and proxy listen: what the user said, or private sockets. */
#ifndef QMIG_JOB_ENDPOINTS_H
#define QMIG_JOB_ENDPOINTS_H

#include "job/job.h"
#include "qmp/client.h"

typedef struct {
    char *dir;            /* (nullable) private directory, removed by clear */
    QmigAddress *listen;  /* for migrate-incoming; tcp port 0 = the kernel chooses */
    QmigAddress *connect; /* where the destination is reached; port 0 until it is known */
    QmigAddress *proxy;   /* for the proxy to listen on, port 0 = any; NULL = no proxy */
    bool pretend;         /* make nothing: a name is enough */
    uid_t source_uid;     /* owner of the source QEMU; (uid_t)-1 = not known */
} QmigEndpoints;

/**
 * qmig_endpoints_choose() - fill @e
 *
 * Without the user's word: unix sockets in a private directory where the QMP address is a unix
 * socket; else tcp on the address the QMP connection shows, port chosen by the kernel.
 * A directory in which another user's QEMU shall listen is given to that user.
 * Errors: CONFIG, with the option that helps; IO.
 */
bool qmig_endpoints_choose(QmigEndpoints *e, const QmigJobOptions *options,
                           const QmigQmp *source, const QmigQmp *destination,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_endpoints_choose_disks() - where the destination serves its disks to the source
 * @listen:  (out) (transfer full) for the destination; port 0: one has to be tried
 * @connect: (out) (transfer full) for the source
 *
 * After qmig_endpoints_choose(): beside the place where the destination listens, unless the user
 * said where. Errors: CONFIG, with the option that helps.
 */
bool qmig_endpoints_choose_disks(const QmigEndpoints *e, const QmigJobOptions *options,
                                 QmigAddress **listen, QmigAddress **connect,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Somebody listens now on @address, a unix socket in the private directory (others are left
 * alone): let the source QEMU's user, and nobody else, connect. Errors: IO.
 */
bool qmig_endpoints_admit_source(const QmigEndpoints *e, const QmigAddress *address,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Remove the private directory and the sockets in it. */
void qmig_endpoints_clear(QmigEndpoints *e);

#endif
