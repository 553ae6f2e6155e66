/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A TLS handshake with a QEMU that costs it nothing.
 *
 * A handshake that goes wrong ends a QEMU that waits for a migration. Its NBD server and client
 * use the same credentials, the same checks and the same words, and survive: so what a migration
 * would do is done once with them, before the destination is told to wait. Of NBD it takes the
 * greeting and STARTTLS; no export exists, and no disk is touched.
 */
#ifndef QMIG_JOB_TLS_HANDSHAKE_H
#define QMIG_JOB_TLS_HANDSHAKE_H

#include "proxy/tls.h"
#include "util/address.h"

/**
 * qmig_handshake_serve() - be the server that a QEMU's NBD client connects to, once
 * @listener: borrowed
 *
 * Return: true when that client takes this side, and this side it. Errors: TLS: one of them does
 * not; TIMEOUT, CANCELLED: nobody came; CLOSED, PROTOCOL, IO.
 */
bool qmig_handshake_serve(int listener, const QmigTlsCreds *creds, QmigDeadline deadline,
                          const QmigCancel *cancel,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_handshake_ask() - be a client of a QEMU's NBD server
 * @host: (nullable) the name its certificate must be for
 *
 * Errors: as above; IO also when it cannot be reached.
 */
bool qmig_handshake_ask(const QmigAddress *address, const QmigTlsCreds *creds,
                        const char *host, QmigDeadline deadline, const QmigCancel *cancel,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
