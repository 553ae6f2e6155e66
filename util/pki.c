/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * EC keys (P-256), X.509 v3 with the extensions QEMU's checks ask for: a CA says that it is one,
 * the others say what they are for.
 */
#include "util/pki.h"

#include "util/auto.h"
#include "util/error.h"
#include "util/ssl-auto.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

enum {
    DAY_S = 24 * 60 * 60,
    PSK_BYTES = 32,
    SERIAL_BITS = 120,
    HOSTS_MAX = 64,
    NAME_MAX_LEN = 64, /* RFC 5280: ub-common-name */
    DAYS_MAX = 36500,
};

static const struct {
    const char *cert, *key, *usage, *purpose, *constraints;
} kinds[] = {
    [QMIG_PKI_CA] = { QMIG_PKI_CA_CERT, QMIG_PKI_CA_KEY, "critical,keyCertSign,cRLSign",
                      NULL, "critical,CA:TRUE" },
    /* QEMU before 9.1 asks for keyEncipherment, whatever the key. */
    [QMIG_PKI_SERVER] = { QMIG_PKI_SERVER_CERT, QMIG_PKI_SERVER_KEY,
                          "critical,digitalSignature,keyEncipherment", "serverAuth",
                          "critical,CA:FALSE" },
    [QMIG_PKI_CLIENT] = { QMIG_PKI_CLIENT_CERT, QMIG_PKI_CLIENT_KEY,
                          "critical,digitalSignature,keyEncipherment", "clientAuth",
                          "critical,CA:FALSE" },
};

/* ---- files ------------------------------------------------------------------------------ */

static bool
write_fd(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return fsync(fd) == 0;
}

/* Whole or not at all, and never over another unless @replace. */
static bool
write_file(const char *path, const char *data, size_t len, mode_t mode, bool replace,
           GError **error)
{
    g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
    g_auto(QmigFd) fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0600);
    bool ok;

    if (fd < 0) {
        return qmig_set_error_errno(error, errno, "%s", temporary);
    }
    ok = write_fd(fd, data, len) && fchmod(fd, mode) == 0 &&
         (replace ? rename(temporary, path) == 0 : link(temporary, path) == 0);
    if (!ok && errno == EEXIST) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: is there already, and is not overwritten", path);
    } else if (!ok) {
        qmig_set_error_errno(error, errno, "%s", path);
    }
    if (!ok || !replace) {
        (void)unlink(temporary);
    }
    return ok;
}

static bool
write_bio(const char *dir, const char *name, BIO *bio, mode_t mode, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);

    return write_file(path, data, (size_t)len, mode, false, error);
}

static bool
make_dir(const char *dir, GError **error)
{
    return g_mkdir_with_parents(dir, 0700) == 0 ||
           qmig_set_error_errno(error, errno, "%s", dir);
}

/* Tell before a key is made for nothing. */
static bool
check_absent(const char *dir, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return !g_file_test(path, G_FILE_TEST_EXISTS) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "%s: is there already, and is not overwritten", path);
}

/* ---- the certificate -------------------------------------------------------------------- */

static bool
openssl_error(GError **error, const char *what)
{
    g_autofree char *text = qmig_openssl_error();

    return qmig_set_error(error, QMIG_ERROR_IO, "%s: %s", what, text);
}

static bool
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool
is_ip(const char *host)
{
    struct in6_addr buf;

    return inet_pton(AF_INET, host, &buf) == 1 || inet_pton(AF_INET6, host, &buf) == 1;
}

/* What may stand in a name without meaning something else in OpenSSL's syntax. */
static bool
check_host(const char *host, GError **error)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789.-_*:";
    size_t len = strlen(host);

    return (len > 0 && len < 254 && strspn(host, allowed) == len &&
            (strchr(host, ':') == NULL || is_ip(host))) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "host \"%s\": wanted a DNS name or an IP address", host);
}

/* "DNS:a,IP:192.0.2.1" */
static char *
alternative_names(const char *const *hosts, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; hosts != NULL && hosts[i] != NULL; i++) {
        if (i >= HOSTS_MAX) {
            qmig_set_error(error, QMIG_ERROR_LIMIT, "more than %d hosts", HOSTS_MAX);
            return NULL;
        }
        if (!check_host(hosts[i], error)) {
            return NULL;
        }
        g_string_append_printf(text, "%s%s:%s", i > 0 ? "," : "",
                               is_ip(hosts[i]) ? "IP" : "DNS", hosts[i]);
    }
    if (text->len == 0) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "a server's certificate needs a host: the name that sources know "
                       "it by (--host)");
        return NULL;
    }
    return g_strdup(text->str);
}

static bool
set_serial(X509 *cert)
{
    BIGNUM *number = BN_new();
    bool ok = number != NULL &&
              BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
              BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;

    BN_free(number);
    return ok;
}

static bool
set_names(X509 *cert, const char *name, X509 *issuer)
{
    X509_NAME *subject = X509_get_subject_name(cert);

    return X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8,
                                      (const unsigned char *)"qmig", -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                      (const unsigned char *)name, -1, -1, 0) == 1 &&
           X509_set_issuer_name(
               cert, X509_get_subject_name(issuer != NULL ? issuer : cert)) == 1;
}

/* An expired one was good for a day. */
static bool
set_times(X509 *cert, int days)
{
    long from = days > 0 ? -DAY_S : (long)(days - 1) * DAY_S;

    return X509_gmtime_adj(X509_getm_notBefore(cert), from) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * DAY_S) != NULL;
}

/* @issuer: NULL: it signs itself with @signer. */
static X509 *
make_cert(const QmigPkiRequest *request, EVP_PKEY *key, X509 *issuer, EVP_PKEY *signer,
          GError **error)
{
    g_autoptr(X509) cert = X509_new();
    g_autofree char *hosts = NULL;
    bool ok;

    if (request->kind == QMIG_PKI_SERVER) {
        hosts = alternative_names(request->hosts, error);
        if (hosts == NULL) {
            return NULL;
        }
    }
    X509 *above = issuer != NULL ? issuer : cert;
    ok = cert != NULL && X509_set_version(cert, 2) == 1 && set_serial(cert) &&
         set_names(cert, request->name, issuer) && set_times(cert, request->days) &&
         X509_set_pubkey(cert, key) == 1 &&
         add_extension(cert, above, NID_basic_constraints,
                       kinds[request->kind].constraints) &&
         add_extension(cert, above, NID_key_usage, kinds[request->kind].usage) &&
         (kinds[request->kind].purpose == NULL ||
          add_extension(cert, above, NID_ext_key_usage, kinds[request->kind].purpose)) &&
         (hosts == NULL || add_extension(cert, above, NID_subject_alt_name, hosts)) &&
         add_extension(cert, above, NID_subject_key_identifier, "hash") &&
         (issuer == NULL ||
          add_extension(cert, above, NID_authority_key_identifier, "keyid")) &&
         X509_sign(cert, signer, EVP_sha256()) > 0;
    if (!ok) {
        openssl_error(error, "making a certificate");
        return NULL;
    }
    return g_steal_pointer(&cert);
}

/* The group ffdhe2048 of RFC 7919, for a server; what is there stays. */
static bool
write_dh_params(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, QMIG_PKI_DH_PARAMS, NULL);
    g_autoptr(EVP_PKEY_CTX) ctx = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
    g_autoptr(EVP_PKEY) params = NULL;
    g_autoptr(BIO) bio = BIO_new(BIO_s_mem());

    if (g_file_test(path, G_FILE_TEST_EXISTS)) {
        return true;
    }
    if (ctx == NULL || EVP_PKEY_paramgen_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_group_name(ctx, "ffdhe2048") != 1 ||
        EVP_PKEY_paramgen(ctx, &params) != 1 ||
        PEM_write_bio_Parameters(bio, params) != 1) {
        return openssl_error(error, QMIG_PKI_DH_PARAMS);
    }
    return write_bio(dir, QMIG_PKI_DH_PARAMS, bio, 0644, error);
}

static bool
write_pair(const QmigPkiRequest *request, X509 *cert, EVP_PKEY *key, GError **error)
{
    g_autoptr(BIO) cert_bio = BIO_new(BIO_s_mem());
    g_autoptr(BIO) key_bio = BIO_new(BIO_s_secmem());
    g_autofree char *key_path = NULL;

    if (PEM_write_bio_X509(cert_bio, cert) != 1 ||
        PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        return openssl_error(error, "writing a certificate");
    }
    if (!write_bio(request->dir, kinds[request->kind].key, key_bio, 0600, error)) {
        return false;
    }
    if (!write_bio(request->dir, kinds[request->kind].cert, cert_bio, 0644, error)) {
        key_path = g_build_filename(request->dir, kinds[request->kind].key, NULL);
        (void)unlink(key_path);
        return false;
    }
    return true;
}

/* ---- the CA ----------------------------------------------------------------------------- */

static bool
load_ca(const char *dir, X509 **cert, EVP_PKEY **key, GError **error)
{
    g_autofree char *cert_path = g_build_filename(dir, QMIG_PKI_CA_CERT, NULL);
    g_autofree char *key_path = g_build_filename(dir, QMIG_PKI_CA_KEY, NULL);
    g_autoptr(X509) ca = qmig_x509_read(cert_path, error);

    if (ca == NULL) {
        g_prefix_error(error, "the CA (make one by `qmig pki ca`): ");
        return false;
    }
    *key = qmig_key_read(key_path, error);
    if (*key == NULL) {
        g_prefix_error(error, "the CA's key: ");
        return false;
    }
    if (X509_check_private_key(ca, *key) != 1) {
        g_clear_pointer(key, EVP_PKEY_free);
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s is not the key of %s",
                              key_path, cert_path);
    }
    *cert = g_steal_pointer(&ca);
    return true;
}

/* The CA's certificate beside those it has signed. Another CA's must not be replaced. */
static bool
copy_ca(const QmigPkiRequest *request, X509 *ca, GError **error)
{
    g_autofree char *path = g_build_filename(request->dir, QMIG_PKI_CA_CERT, NULL);
    g_autoptr(BIO) bio = BIO_new(BIO_s_mem());
    g_autoptr(X509) present = NULL;

    if (g_file_test(path, G_FILE_TEST_EXISTS)) {
        present = qmig_x509_read(path, error);
        return present != NULL &&
               (X509_cmp(present, ca) == 0 ||
                qmig_set_error(error, QMIG_ERROR_CONFIG,
                               "%s: is of another CA than that in %s: use another "
                               "directory",
                               path, request->ca_dir));
    }
    if (PEM_write_bio_X509(bio, ca) != 1) {
        return openssl_error(error, "writing a certificate");
    }
    return write_bio(request->dir, QMIG_PKI_CA_CERT, bio, 0644, error);
}

static bool
check_request(const QmigPkiRequest *request, GError **error)
{
    size_t len = request->name != NULL ? strlen(request->name) : 0;

    if (len == 0 || len > NAME_MAX_LEN || !g_utf8_validate(request->name, -1, NULL)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "name: has %zu bytes, wanted 1 to %d in UTF-8", len,
                              NAME_MAX_LEN);
    }
    if (request->days == 0 || ABS(request->days) > DAYS_MAX) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "days: %d, wanted 1 to %d, or as many below 0 for an expired "
            "one",
            request->days, DAYS_MAX);
    }
    return check_absent(request->dir, kinds[request->kind].cert, error) &&
           check_absent(request->dir, kinds[request->kind].key, error);
}

bool
qmig_pki_make(const QmigPkiRequest *request, GError **error)
{
    g_autoptr(EVP_PKEY) key = NULL, ca_key = NULL;
    g_autoptr(X509) ca = NULL, cert = NULL;

    if (!check_request(request, error) ||
        (request->kind != QMIG_PKI_CA &&
         !load_ca(request->ca_dir, &ca, &ca_key, error))) {
        return false;
    }
    key = EVP_EC_gen("P-256");
    if (key == NULL) {
        return openssl_error(error, "making a key");
    }
    cert = make_cert(request, key, ca, ca_key != NULL ? ca_key : key, error);
    return cert != NULL && make_dir(request->dir, error) &&
           (ca == NULL || copy_ca(request, ca, error)) &&
           (request->kind != QMIG_PKI_SERVER || write_dh_params(request->dir, error)) &&
           write_pair(request, cert, key, error);
}

/* ---- pre-shared keys -------------------------------------------------------------------- */

static bool
has_user(const char *text, const char *user)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    g_autofree char *prefix = g_strdup_printf("%s:", user);

    for (char **line = lines; *line != NULL; line++) {
        if (g_str_has_prefix(*line, prefix)) {
            return true;
        }
    }
    return false;
}

bool
qmig_pki_make_psk(const char *dir, const char *user, GError **error)
{
    g_autofree char *path = g_build_filename(dir, QMIG_PKI_PSK, NULL);
    g_autofree char *before = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    uint8_t key[PSK_BYTES];
    bool there = g_file_test(path, G_FILE_TEST_EXISTS);

    if (user[0] == '\0' || strpbrk(user, ": \t\r\n#") != NULL || strlen(user) > 128) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "user \"%s\": wanted 1 to 128 bytes without colon, space "
                              "and #",
                              user);
    }
    if (there && !g_file_get_contents(path, &before, NULL, error)) {
        return false;
    }
    if (there && has_user(before, user)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: user \"%s\" has a key already", path, user);
    }
    if (RAND_bytes(key, sizeof key) != 1) {
        return openssl_error(error, "random numbers");
    }
    g_string_append(text, there ? before : "");
    if (text->len > 0 && text->str[text->len - 1] != '\n') {
        g_string_append_c(text, '\n');
    }
    g_string_append_printf(text, "%s:", user);
    for (size_t i = 0; i < sizeof key; i++) {
        g_string_append_printf(text, "%02x", key[i]);
    }
    g_string_append_c(text, '\n');
    return make_dir(dir, error) && write_dh_params(dir, error) &&
           write_file(path, text->str, text->len, 0600, there, error);
}
