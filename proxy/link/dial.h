/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How the near side reaches the far one, the first time and after every break. */
#ifndef QMIG_PROXY_LINK_DIAL_H
#define QMIG_PROXY_LINK_DIAL_H

#include "proxy/link/near.h"

typedef struct QmigDialer QmigDialer;

/**
 * qmig_dial_first() - reach the far end and agree on a session
 * @config: addresses, TLS; borrowed until the dialer is freed
 * @agreed: (out) what both sides know from now on
 *
 * Return: the first connection, or NULL. Errors: TLS, TIMEOUT, IO, CLOSED, CANCELLED, UNSUPPORTED
 * (refused), PROTOCOL.
 */
QmigWire *qmig_dial_first(const QmigNearConfig *config, const QmigCancel *cancel,
                          QmigWelcome *agreed, GError **error);

/* Makes and remakes the session's connections, in a thread of its own once started. */
QmigDialer *qmig_dialer_new(const QmigNearConfig *config, const QmigWelcome *agreed);
void qmig_dialer_start(QmigDialer *d, QmigLink *link);
/* Something has changed: look whether a connection is missing. Threads: any. */
void qmig_dialer_wake(QmigDialer *d);
/* No connection is made any more. Then the session may be freed, then the dialer. */
void qmig_dialer_stop(QmigDialer *d);
void qmig_dialer_free(QmigDialer *d);

#endif
