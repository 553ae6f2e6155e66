/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keys and ciphers of a pipe. The key that two programs share is never used itself: HKDF-SHA256
 * makes of it one for each stream, with
 *
 *     salt = the stream's salt, then with two ways the salt of the stream that comes back
 *     info = "qmig stream pipe 1", the stream's header
 *
 * so that nobody can change the header, and a nonce is used once with a key.
 */
#ifndef QMIG_PIPE_CIPHER_H
#define QMIG_PIPE_CIPHER_H

#include "pipe/format.h"

enum { QMIG_PIPE_KEY_LENGTH = 32 };

/**
 * qmig_pipe_key_read() - a shared key
 * @path: a file of 32 bytes; or a keys.psk, or the directory of one
 * @user: whose key in keys.psk
 *
 * Errors: CONFIG, TLS (no such user). Return: (transfer full) the key, or NULL.
 */
GBytes *qmig_pipe_key_read(const char *path, const char *user,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_pipe_key_derive() - the key of one stream
 * @header: the stream's
 * @back:   (nullable) header of the stream in the other direction, with QMIG_PIPE_TWO_WAY
 */
bool qmig_pipe_key_derive(GBytes *shared, const QmigPipeHeader *header,
                          const QmigPipeHeader *back,
                          uint8_t key[static QMIG_PIPE_KEY_LENGTH],
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* One direction of a cipher with its key. Threads: one at a time. */
typedef struct QmigPipeCrypt QmigPipeCrypt;

/* @seal: to encrypt. Errors: UNSUPPORTED (this OpenSSL does not have it). */
QmigPipeCrypt *qmig_pipe_crypt_new(QmigPipeCipher cipher,
                                   const uint8_t key[static QMIG_PIPE_KEY_LENGTH],
                                   bool seal, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_pipe_crypt_free(QmigPipeCrypt *crypt);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPipeCrypt, qmig_pipe_crypt_free)

/**
 * qmig_pipe_crypt_seal() - encrypt a record in place
 * @number: of the record; each one once
 * @record: a head of QMIG_PIPE_HEAD_LENGTH bytes, which stays; @len bytes of body, which are
 *          encrypted; room for QMIG_PIPE_TAG_LENGTH bytes
 */
void qmig_pipe_crypt_seal(QmigPipeCrypt *crypt, uint64_t number, uint8_t *record,
                          uint32_t len);
/* The reverse. Return: false: not what was sealed; the body is anything then. */
bool qmig_pipe_crypt_open(QmigPipeCrypt *crypt, uint64_t number, uint8_t *record,
                          uint32_t len) G_GNUC_WARN_UNUSED_RESULT;

#endif
