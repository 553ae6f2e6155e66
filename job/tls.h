/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLS in a migration: credentials are made in both QEMUs and removed again, the proxy ends TLS on
 * both of its legs, and what would go wrong is found before the destination is told to listen:
 *
 *     check     by the files, where they can be read here
 *     prepare   by QEMU's own look at them (object-add), then by a rehearsal of the handshakes
 *
 *     through the proxy:  source --- proxy's server end | proxy's client end --- destination
 *     --direct:           source ------------------------------------------- destination
 */
#ifndef QMIG_JOB_TLS_H
#define QMIG_JOB_TLS_H

#include "job/part.h"

/* What one QEMU has. */
typedef struct {
    QmigSide *side;
    QmigPkiKind end; /* the source is a CLIENT, the destination a SERVER */
    char *id;        /* of its object; owned */
    char *dir;       /* (nullable) where its files are, on its host; owned */
    char *user;      /* PSK: owned */
    bool may_exist;  /* object-add was sent: it is ours to remove */
    bool readable;   /* its files can be read here, too */
} QmigTlsSide;

typedef struct QmigJobTls {
    bool psk;
    QmigTlsSide source, destination;
    char *proxy_dir;               /* owned; NULL with --direct */
    QmigTlsCreds *server, *client; /* owned; of the proxy */
    char *hostname; /* owned (nullable): what the destination's certificate is for */
    char *
        proxy_hostname; /* owned (nullable): what the proxy's is for, as the source is told */
} QmigJobTls;

/* Add the TLS of the proxy's legs, if there is. */
void qmig_tls_configure_proxy(const QmigJob *job, QmigProxyConfig *config);

/* For others that connect the two QEMUs (storage): the object's id in @side, and the name in the
 * destination's certificate. NULL without --tls; the name also with pre-shared keys. Borrowed. */
const char *qmig_tls_creds_id(const QmigJob *job, const QmigSide *side);
const char *qmig_tls_host(const QmigJob *job);

/* tls-files.c: what the files tell; what is wrong is added to @problems. Loads the proxy's. */
void qmig_tls_check_files(QmigJob *job, GString *problems);

/* tls-try.c: handshakes with both QEMUs, over NBD. Errors: TLS, IO, naming the side. */
bool qmig_tls_try(QmigJob *job, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
