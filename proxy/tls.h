/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLS on a connection: the proxy ends it on both legs, so that plugins see what QEMU wrote.
 *
 * Towards the source the proxy is the server, towards the destination the client. Either verifies
 * the other's certificate, as QEMU does; with pre-shared keys the key does that.
 */
#ifndef QMIG_PROXY_TLS_H
#define QMIG_PROXY_TLS_H

#include "util/cancel.h"
#include "util/x509.h"

#include <stddef.h>
#include <sys/types.h>

/* What this end shows and whom it trusts; shared by all its connections. Threads: any. */
typedef struct QmigTlsCreds QmigTlsCreds;

/**
 * qmig_tls_creds_new() - read credentials from a directory, as QEMU would
 * @end:      SERVER or CLIENT: what this process is
 * @psk_user: (nullable) pre-shared keys instead of certificates: as a client, which key to use;
 *            as a server, the only one whose key is taken
 *
 * Errors: TLS, CONFIG, naming the file.
 */
QmigTlsCreds *qmig_tls_creds_new(const char *dir, QmigPkiKind end, const char *psk_user,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* One more owner: connections may outlive their credentials' place. Threads: any. */
QmigTlsCreds *qmig_tls_creds_ref(QmigTlsCreds *creds);
/* One owner less. */
void qmig_tls_creds_free(QmigTlsCreds *creds);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigTlsCreds, qmig_tls_creds_free)

/**
 * qmig_tls_creds_for_tunnel() - these are for connections between two qmigs
 *
 * TLS 1.3 alone. With certificates sessions are resumed: a client that comes again, with the same
 * credentials to the same name, is known by the ticket it was given, for ten minutes; a server that
 * reads its credentials again forgets all tickets. What a server takes of a stranger is bounded more
 * tightly. Before their first connection.
 */
void qmig_tls_creds_for_tunnel(QmigTlsCreds *creds);

/* One connection. Its reader and its writer may be different threads. It owns its credentials, too. */
typedef struct QmigTls QmigTls;

/**
 * qmig_tls_new() - nothing is said yet
 * @fd:   borrowed, non-blocking
 * @host: client: (nullable) the name or address the server's certificate must be for
 * @peer: for messages: "the source"
 */
QmigTls *qmig_tls_new(const QmigTlsCreds *creds, int fd, const char *host,
                      const char *peer);
void qmig_tls_free(QmigTls *tls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigTls, qmig_tls_free)

/*
 * For a peer that must not be hurt: the handshake goes to its end whatever the peer shows, and no
 * alert is sent. QEMU's NBD client hangs for ever, its big lock held, when one comes while it sends
 * its last words of the handshake (7.2 to 11.1). Before the handshake; ask judge() after it.
 */
void qmig_tls_be_gentle(QmigTls *tls);
/* Is the peer of a gentle handshake who it should be? Errors: TLS. */
bool qmig_tls_judge(QmigTls *tls, GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef enum {
    QMIG_TLS_DONE,
    QMIG_TLS_WAIT, /* poll for the events told, and call again */
    QMIG_TLS_FAILED,
} QmigTlsStep;

/* Go on with the handshake. Errors: TLS, with the reason; CLOSED: gone without a word; IO. */
QmigTlsStep qmig_tls_handshake_step(QmigTls *tls, short *events, GError **error);
/* The same to its end. Errors: also TIMEOUT, CANCELLED. */
bool qmig_tls_handshake(QmigTls *tls, QmigDeadline deadline, const QmigCancel *cancel,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

enum { QMIG_TLS_AGAIN = -2 };

/**
 * qmig_tls_read() - what is there, up to @len bytes
 * @events: (out) with AGAIN: what to poll for
 *
 * The end without a farewell (close_notify) is an end, too: QEMU before 10.0 never says it, and a
 * migration tells itself whether it is whole. See qmig_tls_was_closed().
 * Errors: CLOSED, TLS, IO. Return: bytes; 0 at the end; AGAIN; -1 with @error set.
 */
ssize_t qmig_tls_read(QmigTls *tls, void *buf, size_t len, short *events, GError **error);
/* As many bytes as go. Return: as above, never 0. */
ssize_t qmig_tls_write(QmigTls *tls, const void *buf, size_t len, short *events,
                       GError **error);

/* The peer has said farewell. */
bool qmig_tls_was_closed(QmigTls *tls);
/* Say farewell, after what was written before; nothing can be written afterwards. A peer that is
 * gone does not hear it. */
void qmig_tls_close(QmigTls *tls, QmigDeadline deadline, const QmigCancel *cancel);

/* Bytes that came, of the transport. Threads: any. */
uint64_t qmig_tls_bytes_heard(QmigTls *tls);

/**
 * qmig_tls_check_name() - is one of the names in the peer's certificate allowed?
 * @patterns: as of g_pattern_match_simple(); null-terminated
 *
 * Names are the common name, DNS names and IP addresses. After the handshake. Errors: TLS, with the
 * names.
 */
bool qmig_tls_check_name(QmigTls *tls, const char *const *patterns,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The handshake needed no certificates: the peer came with a ticket of an earlier one. */
bool qmig_tls_was_resumed(QmigTls *tls);

/* "TLSv1.3, TLS_AES_256_GCM_SHA384". (transfer full) */
char *qmig_tls_describe(QmigTls *tls);

#endif
