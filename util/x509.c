/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading and judging certificates and pre-shared keys; the words for what is wrong with them. */
#include "util/x509.h"

#include "util/error.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

enum {
    NAMES_MAX = 64,       /* of a certificate, looked at */
    NAME_MAX_BYTES = 255, /* of one */
    PSK_FILE_MAX = 1 << 20,
    PSK_BITS_MAX = 64 * 8, /* of a key; OpenSSL takes no longer ones */
};

char *
qmig_openssl_error(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    char *text = g_strdup(reason != NULL ? reason : "no reason given");

    ERR_clear_error();
    return text;
}

/* ---- files ------------------------------------------------------------------------------ */

static BIO *
open_pem(const char *path, GError **error)
{
    BIO *bio = BIO_new_file(path, "r");

    if (bio == NULL) {
        int number = errno;
        ERR_clear_error();
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: %s", path, g_strerror(number));
    }
    return bio;
}

X509 *
qmig_x509_read(const char *path, GError **error)
{
    g_autoptr(BIO) bio = open_pem(path, error);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    if (bio != NULL && cert == NULL) {
        ERR_clear_error();
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: holds no certificate (PEM)", path);
    }
    return cert;
}

/* Ask for no password on the terminal. */
static int
no_password(char *buf, int size, int writing, void *data)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)data;
    return -1;
}

EVP_PKEY *
qmig_key_read(const char *path, GError **error)
{
    g_autoptr(BIO) bio = open_pem(path, error);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)
                                : NULL;

    if (bio != NULL && key == NULL) {
        ERR_clear_error();
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: holds no private key (PEM) that is not encrypted", path);
    }
    return key;
}

char *
qmig_x509_cert_path(const char *dir, QmigPkiKind end)
{
    static const char *const names[] = {
        [QMIG_PKI_CA] = QMIG_PKI_CA_CERT,
        [QMIG_PKI_SERVER] = QMIG_PKI_SERVER_CERT,
        [QMIG_PKI_CLIENT] = QMIG_PKI_CLIENT_CERT,
    };

    return g_build_filename(dir, names[end], NULL);
}

/* ---- what is in one ----------------------------------------------------------------------- */

static int64_t
seconds_of(const ASN1_TIME *when)
{
    struct tm tm;

    return ASN1_TIME_to_tm(when, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

char *
qmig_x509_format_time(int64_t seconds)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(seconds);

    return when != NULL ? g_date_time_format(when, "%Y-%m-%d %H:%M UTC")
                        : g_strdup("an unknown time");
}

/* As GnuTLS writes it, in the order of the certificate: what QEMU's authorization compares. */
static char *
name_text(const X509_NAME *name)
{
    const unsigned long dn_flags = XN_FLAG_RFC2253 & ~(unsigned long)XN_FLAG_DN_REV &
                                   ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    g_autoptr(BIO) bio = BIO_new(BIO_s_mem());
    char *data = NULL;

    X509_NAME_print_ex(bio, name, 0, dn_flags);
    long len = BIO_get_mem_data(bio, &data);
    return g_strndup(data, (gsize)MAX(len, 0));
}

static char *
alternative_names(X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    g_autoptr(BIO) bio = BIO_new(BIO_s_mem());
    char *data = NULL;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        BIO_puts(bio, i > 0 ? ", " : "");
        GENERAL_NAME_print(bio, sk_GENERAL_NAME_value(names, i));
    }
    GENERAL_NAMES_free(names);
    long len = BIO_get_mem_data(bio, &data);
    return g_strndup(data, (gsize)MAX(len, 0));
}

void
qmig_x509_info(X509 *cert, QmigX509Info *info)
{
    *info = (QmigX509Info){
        .subject = name_text(X509_get_subject_name(cert)),
        .issuer = name_text(X509_get_issuer_name(cert)),
        .names = alternative_names(cert),
        .from = seconds_of(X509_get0_notBefore(cert)),
        .until = seconds_of(X509_get0_notAfter(cert)),
        .is_ca = X509_check_ca(cert) > 0,
    };
}

/* One name of a certificate; one that could look like another is none. */
static void
add_name(GPtrArray *names, const void *data, int len)
{
    g_autofree char *name = NULL;

    if (len <= 0 || len > NAME_MAX_BYTES || names->len >= NAMES_MAX ||
        memchr(data, '\0', (size_t)len) != NULL) {
        return;
    }
    name = g_strndup(data, (gsize)len);
    for (const char *p = name; *p != '\0'; p++) {
        if (!g_ascii_isprint(*p)) {
            return;
        }
    }
    g_ptr_array_add(names, g_steal_pointer(&name));
}

static void
add_address(GPtrArray *names, const ASN1_OCTET_STRING *address)
{
    int family = ASN1_STRING_length(address) == 4 ? AF_INET : AF_INET6;
    char text[INET6_ADDRSTRLEN];

    if ((ASN1_STRING_length(address) == 4 || ASN1_STRING_length(address) == 16) &&
        inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof text) != NULL) {
        add_name(names, text, (int)strlen(text));
    }
}

static void
add_common_names(GPtrArray *names, const X509_NAME *subject)
{
    for (int at = -1;
         (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, at);
        unsigned char *text = NULL;
        int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));

        add_name(names, text, len);
        OPENSSL_free(text);
    }
}

char **
qmig_x509_names(X509 *cert)
{
    GENERAL_NAMES *list = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    add_common_names(names, X509_get_subject_name(cert));
    for (int i = 0; i < sk_GENERAL_NAME_num(list); i++) {
        int type = 0;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(list, i),
                                                           &type);

        if (type == GEN_DNS) {
            add_name(names, ASN1_STRING_get0_data(value), ASN1_STRING_length(value));
        } else if (type == GEN_IPADD) {
            add_address(names, value);
        }
    }
    GENERAL_NAMES_free(list);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

void
qmig_x509_info_clear(QmigX509Info *info)
{
    g_free(info->subject);
    g_free(info->issuer);
    g_free(info->names);
    memset(info, 0, sizeof *info);
}

/* ---- verifying ---------------------------------------------------------------------------- */

X509_STORE *
qmig_x509_trust(const char *dir, GError **error)
{
    g_autofree char *ca = g_build_filename(dir, QMIG_PKI_CA_CERT, NULL);
    g_autofree char *crl = g_build_filename(dir, QMIG_PKI_CRL, NULL);
    g_autoptr(X509_STORE) store = X509_STORE_new();
    g_autoptr(X509) cert = qmig_x509_read(ca, error);

    if (cert == NULL) {
        return NULL;
    }
    if (X509_STORE_load_file(store, ca) != 1 ||
        (g_file_test(crl, G_FILE_TEST_EXISTS) &&
         (X509_STORE_load_file(store, crl) != 1 ||
          X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK) != 1))) {
        g_autofree char *text = qmig_openssl_error();
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s, %s: %s", ca, QMIG_PKI_CRL, text);
        return NULL;
    }
    return g_steal_pointer(&store);
}

static bool
times_error(GError **error, int code, const char *whose, X509 *cert)
{
    g_auto(QmigX509Info) info = { 0 };
    g_autofree char *when = NULL;

    qmig_x509_info(cert, &info);
    if (code == X509_V_ERR_CERT_HAS_EXPIRED) {
        when = qmig_x509_format_time(info.until);
        return qmig_set_error(error, QMIG_ERROR_TLS,
                              "%s has expired: it (%s) was good "
                              "until %s",
                              whose, info.subject, when);
    }
    when = qmig_x509_format_time(info.from);
    return qmig_set_error(error, QMIG_ERROR_TLS,
                          "%s is not valid yet: it (%s) is good from %s; is the clock "
                          "right?",
                          whose, info.subject, when);
}

bool
qmig_x509_verify_error(X509_STORE_CTX *ctx, QmigPkiKind end, const char *host,
                       const char *whose, GError **error)
{
    int code = X509_STORE_CTX_get_error(ctx);
    X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
    g_auto(QmigX509Info) info = { 0 };

    if (cert == NULL) {
        cert = X509_STORE_CTX_get0_cert(ctx);
    }
    if (code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID) {
        return times_error(error, code, whose, cert);
    }
    qmig_x509_info(cert, &info);
    switch (code) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return qmig_set_error(error, QMIG_ERROR_TLS,
                              "%s is from another CA: it (%s) was issued by %s, whose "
                              "certificate is not among those trusted here (ca-cert.pem)",
                              whose, info.subject, info.issuer);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return qmig_set_error(error, QMIG_ERROR_TLS,
                              "%s is for another name: it (%s) is for %s, wanted \"%s\"",
                              whose, info.subject,
                              info.names[0] != '\0' ? info.names : "no host at all",
                              host != NULL ? host : "");
    case X509_V_ERR_INVALID_PURPOSE:
        return qmig_set_error(error, QMIG_ERROR_TLS, "%s (%s) is not meant for a %s",
                              whose, info.subject,
                              end == QMIG_PKI_SERVER ? "server" : "client");
    case X509_V_ERR_CERT_REVOKED:
        return qmig_set_error(error, QMIG_ERROR_TLS, "%s (%s) has been revoked", whose,
                              info.subject);
    default:
        return qmig_set_error(error, QMIG_ERROR_TLS, "%s (%s): %s", whose, info.subject,
                              X509_verify_cert_error_string(code));
    }
}

bool
qmig_x509_verify(X509_STORE *trust, X509 *cert, STACK_OF(X509) * chain, QmigPkiKind end,
                 const char *host, const char *whose, GError **error)
{
    g_autoptr(X509_STORE_CTX) ctx = X509_STORE_CTX_new();

    if (X509_STORE_CTX_init(ctx, trust, cert, chain) != 1 ||
        X509_STORE_CTX_set_default(ctx, end == QMIG_PKI_SERVER ? "ssl_server"
                                                               : "ssl_client") != 1) {
        g_autofree char *text = qmig_openssl_error();
        return qmig_set_error(error, QMIG_ERROR_TLS, "%s: %s", whose, text);
    }
    if (host != NULL) {
        X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
        if (X509_VERIFY_PARAM_set1_ip_asc(param, host) != 1) {
            ERR_clear_error();
            X509_VERIFY_PARAM_set1_host(param, host, 0);
        }
    }
    if (X509_verify_cert(ctx) == 1) {
        return true;
    }
    ERR_clear_error();
    return qmig_x509_verify_error(ctx, end, host, whose, error);
}

/* ---- directories -------------------------------------------------------------------------- */

bool
qmig_x509_check_ca(const char *dir, GError **error)
{
    g_autofree char *path = qmig_x509_cert_path(dir, QMIG_PKI_CA);
    g_autoptr(X509) cert = qmig_x509_read(path, error);
    g_auto(QmigX509Info) info = { 0 };
    int64_t now = (int64_t)time(NULL);

    if (cert == NULL) {
        return false;
    }
    qmig_x509_info(cert, &info);
    if (info.until < now) {
        return times_error(error, X509_V_ERR_CERT_HAS_EXPIRED, path, cert);
    }
    if (info.from > now) {
        return times_error(error, X509_V_ERR_CERT_NOT_YET_VALID, path, cert);
    }
    return info.is_ca ||
           qmig_set_error(error, QMIG_ERROR_TLS, "%s (%s) is not a CA's certificate",
                          path, info.subject);
}

bool
qmig_x509_check_own(const char *dir, QmigPkiKind end, GError **error)
{
    g_autofree char *path = qmig_x509_cert_path(dir, end);
    g_autofree char *key_path = g_build_filename(
        dir, end == QMIG_PKI_SERVER ? QMIG_PKI_SERVER_KEY : QMIG_PKI_CLIENT_KEY, NULL);
    g_autoptr(EVP_PKEY) key = NULL;
    g_autoptr(X509) cert = NULL;

    if (!qmig_x509_check_ca(dir, error)) {
        return false;
    }
    cert = qmig_x509_read(path, error);
    if (cert == NULL) {
        return false;
    }
    key = qmig_key_read(key_path, error);
    if (key == NULL) {
        return false;
    }
    if (X509_check_private_key(cert, key) != 1) {
        ERR_clear_error();
        return qmig_set_error(error, QMIG_ERROR_TLS, "%s is not the key of %s", key_path,
                              path);
    }
    return qmig_x509_check_peer(dir, dir, end, NULL, error);
}

bool
qmig_x509_check_peer(const char *dir, const char *peer_dir, QmigPkiKind end,
                     const char *host, GError **error)
{
    g_autofree char *path = qmig_x509_cert_path(peer_dir, end);
    g_autoptr(X509_STORE) trust = qmig_x509_trust(dir, error);
    g_autoptr(X509) cert = NULL;

    if (trust == NULL) {
        return false;
    }
    cert = qmig_x509_read(path, error);
    return cert != NULL && qmig_x509_verify(trust, cert, NULL, end, host, path, error);
}

/* ---- pre-shared keys ------------------------------------------------------------------------ */

static GBytes *
parse_hex(const char *hex)
{
    size_t n = strcspn(hex, "\r\n");
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    if (n == 0 || n % 2 != 0 || n > PSK_BITS_MAX / 4) {
        return NULL;
    }
    for (size_t i = 0; i < n; i += 2) {
        int high = g_ascii_xdigit_value(hex[i]), low = g_ascii_xdigit_value(hex[i + 1]);
        guint8 byte = (guint8)(high * 16 + low);
        if (high < 0 || low < 0) {
            return NULL;
        }
        g_byte_array_append(bytes, &byte, 1);
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&bytes));
}

bool
qmig_psk_read(const char *dir, const char *user, GBytes **key, GError **error)
{
    g_autofree char *path = g_build_filename(dir, QMIG_PKI_PSK, NULL);
    g_autofree char *prefix = g_strdup_printf("%s:", user);
    g_autofree char *text = NULL;
    g_autoptr(GError) local = NULL;
    gsize len = 0;

    if (!g_file_get_contents(path, &text, &len, &local)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s", local->message);
    }
    if (len > PSK_FILE_MAX) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT, "%s: %zu bytes, at most %d", path,
                              (size_t)len, PSK_FILE_MAX);
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line != NULL; line++) {
        if (!g_str_has_prefix(*line, prefix)) {
            continue;
        }
        *key = parse_hex(*line + strlen(prefix));
        return *key != NULL ||
               qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: the key of \"%s\" is no hexadecimal number of at most "
                              "%d bits",
                              path, user, PSK_BITS_MAX);
    }
    return qmig_set_error(error, QMIG_ERROR_TLS, "%s: no key for user \"%s\"", path,
                          user);
}
