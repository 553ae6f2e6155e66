/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making credentials as QEMU's tls-creds-x509 and tls-creds-psk read them: a directory with
 *
 *     ca-cert.pem [ca-key.pem]  server-cert.pem server-key.pem  client-cert.pem client-key.pem
 *     keys.psk                  lines of USER:HEX
 *     dh-params.pem             for a server
 *
 * ca-key.pem signs, and is needed by nobody else. Files appear whole or not at all; keys have mode
 * 0600; what is there is never overwritten.
 */
#ifndef QMIG_UTIL_PKI_H
#define QMIG_UTIL_PKI_H

#include <glib.h>
#include <stdbool.h>

/* The file names, after a directory. */
#define QMIG_PKI_CA_CERT "ca-cert.pem"
#define QMIG_PKI_CA_KEY "ca-key.pem"
#define QMIG_PKI_CRL "ca-crl.pem"
#define QMIG_PKI_SERVER_CERT "server-cert.pem"
#define QMIG_PKI_SERVER_KEY "server-key.pem"
#define QMIG_PKI_CLIENT_CERT "client-cert.pem"
#define QMIG_PKI_CLIENT_KEY "client-key.pem"
#define QMIG_PKI_PSK "keys.psk"
/* QEMU as a server looks for primes of its own when this is not there: seconds, now and then many,
 * in which it does nothing else. */
#define QMIG_PKI_DH_PARAMS "dh-params.pem"

/* Where QEMU's credentials are when nobody says. */
#define QMIG_PKI_DEFAULT_DIR "/etc/pki/qemu"
/* The user of pre-shared keys when nobody says, here as in QEMU. */
#define QMIG_PKI_DEFAULT_USER "qemu"

typedef enum {
    QMIG_PKI_CA,
    QMIG_PKI_SERVER, /* of a destination, or of a proxy towards its source */
    QMIG_PKI_CLIENT, /* of a source, or of a proxy towards its destination */
} QmigPkiKind;

typedef struct {
    QmigPkiKind kind;
    const char *dir;    /* where to; made, mode 0700, when it is not there */
    const char *ca_dir; /* SERVER, CLIENT: the CA's; its certificate is copied to @dir */
    const char *name;   /* common name */
    /* SERVER: names and IP addresses it shall be known by; NULL-terminated, at least one. */
    const char *const *hosts;
    int days; /* it is good from yesterday until so long from now; negative: it has expired */
} QmigPkiRequest;

/* Make one. Errors: CONFIG (a name that cannot be, no CA, a file is there), IO. */
bool qmig_pki_make(const QmigPkiRequest *request,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Make @dir/keys.psk with 256 random bits for @user, or add that user to it.
 * Errors: CONFIG (the user has one, a name that cannot be), IO. */
bool qmig_pki_make_psk(const char *dir, const char *user,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
