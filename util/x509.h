/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Would this certificate be taken? Asked before QEMU finds out, whose destinations end when a
 * handshake goes wrong.
 *
 * Errors are TLS, and say which file or whose certificate, what is wrong with it, and what was
 * wanted: expired, not yet valid, another CA, another name, another purpose, revoked, missing.
 */
#ifndef QMIG_UTIL_X509_H
#define QMIG_UTIL_X509_H

#include "util/pki.h"
#include "util/ssl-auto.h"

#include <stdint.h>

typedef struct {
    char *subject, *issuer; /* "O=x,CN=y", as QEMU's tls-authz compares it */
    char *names;            /* "DNS:a, IP:192.0.2.1"; "" = none */
    int64_t from, until;    /* seconds since 1970 */
    bool is_ca;
} QmigX509Info;

void qmig_x509_info_clear(QmigX509Info *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigX509Info, qmig_x509_info_clear)

/* @info: (out) overwritten. */
void qmig_x509_info(X509 *cert, QmigX509Info *info);

/* Whom it is for: common names, DNS names, IP addresses; printable, each at most 255 bytes, at most 64
 * of them. (transfer full) g_strfreev() */
char **qmig_x509_names(X509 *cert);

/* "2026-11-21 12:00 UTC" (transfer full) */
char *qmig_x509_format_time(int64_t seconds);

/* The file of an end's certificate in @dir. (transfer full) */
char *qmig_x509_cert_path(const char *dir, QmigPkiKind end);

/* Those whom @dir's CA vouches for; with its ca-crl.pem, but for those it names. (transfer full) */
X509_STORE *qmig_x509_trust(const char *dir, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_x509_verify() - is @cert signed by those in @trust, good now, for that purpose and name?
 * @chain: (nullable) what the peer sent along
 * @end:   SERVER or CLIENT: what it must be for
 * @host:  (nullable) the name or IP address it must be for
 * @whose: of the message: "/etc/pki/qemu/server-cert.pem", "the source's certificate"
 */
bool qmig_x509_verify(X509_STORE *trust, X509 *cert, STACK_OF(X509) * chain,
                      QmigPkiKind end, const char *host, const char *whose,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The reason behind a failed X509_verify_cert(), as qmig_x509_verify() would set it. */
bool qmig_x509_verify_error(X509_STORE_CTX *ctx, QmigPkiKind end, const char *host,
                            const char *whose, GError **error);

/* Is @dir's CA certificate one, and good now? */
bool qmig_x509_check_ca(const char *dir, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Are @dir's own files for @end there, readable, fitting each other, and good now? */
bool qmig_x509_check_own(const char *dir, QmigPkiKind end,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Would who trusts @dir's CA take the certificate of @end in @peer_dir? */
bool qmig_x509_check_peer(const char *dir, const char *peer_dir, QmigPkiKind end,
                          const char *host, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The key of @user in @dir/keys.psk. @key: (out) (transfer full) Errors: TLS, naming the file. */
bool qmig_psk_read(const char *dir, const char *user, GBytes **key,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
