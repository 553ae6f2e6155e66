/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Automatic cleanup for OpenSSL's types, reading PEM files, and its errors as text. */
#ifndef QMIG_UTIL_SSL_AUTO_H
#define QMIG_UTIL_SSL_AUTO_H

#include <glib.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY_CTX, EVP_PKEY_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_STORE, X509_STORE_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_STORE_CTX, X509_STORE_CTX_free)

/* The reason of the last failure in this thread; empties the queue. (transfer full) */
char *qmig_openssl_error(void);

/* The first certificate, or the key, of a PEM file. Errors: CONFIG, naming the file. An encrypted
 * key is an error: QEMU would need its password. (transfer full) */
X509 *qmig_x509_read(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
EVP_PKEY *qmig_key_read(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
