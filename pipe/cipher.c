/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cipher.h. */
#include "pipe/cipher.h"

#include "util/error.h"
#include "util/pki.h"
#include "util/ssl-auto.h"
#include "util/writer.h"
#include "util/x509.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>

enum { NONCE = 12, SHARED_MIN = 16 /* bytes of a key that is worth the name */ };

static const char label[] = "qmig stream pipe 1";

/* ---- shared keys ------------------------------------------------------------------------ */

static GBytes *
read_psk(const char *dir, const char *user, GError **error)
{
    g_autoptr(GBytes) key = NULL;

    if (!qmig_psk_read(dir, user, &key, error)) {
        return NULL;
    }
    if (g_bytes_get_size(key) < SHARED_MIN) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: the key of \"%s\" has %zu bytes, wanted %d or more", dir,
                       user, (size_t)g_bytes_get_size(key), SHARED_MIN);
        return NULL;
    }
    return g_steal_pointer(&key);
}

GBytes *
qmig_pipe_key_read(const char *path, const char *user, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *base = g_path_get_basename(path), *dir = g_path_get_dirname(path);
    char *bytes = NULL;
    gsize len = 0;

    if (g_file_test(path, G_FILE_TEST_IS_DIR)) {
        return read_psk(path, user, error);
    }
    if (strcmp(base, QMIG_PKI_PSK) == 0) {
        return read_psk(dir, user, error);
    }
    if (!g_file_get_contents(path, &bytes, &len, &local)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s", local->message);
        return NULL;
    }
    g_autoptr(GBytes) key = g_bytes_new_take(bytes, len);
    if (len != QMIG_PIPE_KEY_LENGTH) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s has %zu bytes: wanted a key of %d bytes, or a %s", path,
                       (size_t)len, QMIG_PIPE_KEY_LENGTH, QMIG_PKI_PSK);
        return NULL;
    }
    return g_steal_pointer(&key);
}

static bool
openssl_error(GError **error, const char *what)
{
    g_autofree char *text = qmig_openssl_error();

    return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED, "%s: %s", what, text);
}

bool
qmig_pipe_key_derive(GBytes *shared, const QmigPipeHeader *header,
                     const QmigPipeHeader *back, uint8_t key[static QMIG_PIPE_KEY_LENGTH],
                     GError **error)
{
    uint8_t salt[2 * QMIG_PIPE_SALT_LENGTH], info[sizeof label + QMIG_PIPE_HEADER_LENGTH];
    size_t salt_len = back != NULL ? sizeof salt : QMIG_PIPE_SALT_LENGTH, shared_len;
    const void *bytes = g_bytes_get_data(shared, &shared_len);
    char digest[] = "SHA256";

    memcpy(salt, header->salt, QMIG_PIPE_SALT_LENGTH);
    if (back != NULL) {
        memcpy(salt + QMIG_PIPE_SALT_LENGTH, back->salt, QMIG_PIPE_SALT_LENGTH);
    }
    memcpy(info, label, sizeof label);
    qmig_pipe_write_header(header, info + sizeof label);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)bytes,
                                          shared_len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, salt_len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    bool ok = context != NULL &&
              EVP_KDF_derive(context, key, QMIG_PIPE_KEY_LENGTH, params) == 1;

    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return ok || openssl_error(error, "HKDF");
}

/* ---- ciphers ------------------------------------------------------------------------------ */

struct QmigPipeCrypt {
    EVP_CIPHER_CTX *context;
};

QmigPipeCrypt *
qmig_pipe_crypt_new(QmigPipeCipher cipher, const uint8_t key[static QMIG_PIPE_KEY_LENGTH],
                    bool seal, GError **error)
{
    g_autoptr(QmigPipeCrypt) crypt = g_new0(QmigPipeCrypt, 1);
    const EVP_CIPHER *type = cipher == QMIG_PIPE_AES_256_GCM ? EVP_aes_256_gcm()
                                                             : EVP_chacha20_poly1305();

    crypt->context = EVP_CIPHER_CTX_new();
    if (crypt->context == NULL ||
        EVP_CipherInit_ex(crypt->context, type, NULL, key, NULL, seal ? 1 : 0) != 1 ||
        EVP_CIPHER_CTX_get_iv_length(crypt->context) != NONCE) {
        openssl_error(error, qmig_pipe_cipher_name(cipher));
        return NULL;
    }
    return g_steal_pointer(&crypt);
}

void
qmig_pipe_crypt_free(QmigPipeCrypt *crypt)
{
    if (crypt != NULL) {
        EVP_CIPHER_CTX_free(crypt->context);
        g_free(crypt);
    }
}

/* Nonce and head; then the body through the cipher, in place. */
static bool
run(EVP_CIPHER_CTX *context, uint64_t number, uint8_t *record, uint32_t len)
{
    uint8_t nonce[NONCE], *body = record + QMIG_PIPE_HEAD_LENGTH;
    QmigWriter w = qmig_writer(nonce, sizeof nonce);
    int n = 0;

    return qmig_writer_be32(&w, 0) && qmig_writer_be64(&w, number) &&
           EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, -1) == 1 &&
           EVP_CipherUpdate(context, NULL, &n, record, QMIG_PIPE_HEAD_LENGTH) == 1 &&
           (len == 0 ||
            (EVP_CipherUpdate(context, body, &n, body, (int)len) == 1 && n == (int)len));
}

void
qmig_pipe_crypt_seal(QmigPipeCrypt *crypt, uint64_t number, uint8_t *record, uint32_t len)
{
    uint8_t *tag = record + QMIG_PIPE_HEAD_LENGTH + len;
    int n = 0;
    bool ok = run(crypt->context, number, record, len) &&
              EVP_CipherFinal_ex(crypt->context, tag, &n) == 1 && n == 0 &&
              EVP_CIPHER_CTX_ctrl(crypt->context, EVP_CTRL_AEAD_GET_TAG,
                                  QMIG_PIPE_TAG_LENGTH, tag) == 1;

    g_assert(ok); /* OpenSSL without memory: in clear it must not go out */
}

bool
qmig_pipe_crypt_open(QmigPipeCrypt *crypt, uint64_t number, uint8_t *record, uint32_t len)
{
    uint8_t *tag = record + QMIG_PIPE_HEAD_LENGTH + len, last[QMIG_PIPE_TAG_LENGTH];
    int n = 0;

    return run(crypt->context, number, record, len) &&
           EVP_CIPHER_CTX_ctrl(crypt->context, EVP_CTRL_AEAD_SET_TAG,
                               QMIG_PIPE_TAG_LENGTH, tag) == 1 &&
           EVP_CipherFinal_ex(crypt->context, last, &n) == 1 && n == 0;
}
