/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where destination and proxy listen: what the user said, or private sockets. */
#ifndef QMIG_JOB_ENDPOINTS_H
#define QMIG_JOB_ENDPOINTS_H

#include "job/job.h"
#include "qmp/client.h"

typedef struct {
    char *dir;                /* (nullable) private directory, removed by clear */
    QmigAddress *destination; /* for migrate-incoming; tcp port 0 until it is known */
    QmigAddress *proxy;       /* for the proxy to listen on; tcp port 0 = any */
    uid_t source_uid;         /* owner of the source QEMU; (uid_t)-1 = not known */
} QmigEndpoints;

/**
 * qmig_endpoints_choose() - fill @e
 *
 * Without the user's word: unix sockets in a private directory where the QMP address is a unix
 * socket; else tcp on the address the QMP connection shows, port chosen by the kernel.
 * A directory that belongs to another user's QEMU is given to that user.
 */
bool qmig_endpoints_choose(QmigEndpoints *e, const QmigJobOptions *options,
                           const QmigQmp *source, const QmigQmp *destination,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The proxy listens on @e->proxy: let the source QEMU's user, and nobody else, connect. */
bool qmig_endpoints_admit_source(const QmigEndpoints *e,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Remove the private directory and the sockets in it. */
void qmig_endpoints_clear(QmigEndpoints *e);

#endif
