/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What `qmig stream pipe` writes: a stream of bytes in records. Its grammar; all integers are
 * big-endian:
 *
 *   stream  := header [ hello ] data* end
 *   header  := "QMIGPIPE", be16 version 1, u8 cipher, u8 flags, be32 block limit, 16 bytes salt,
 *              be64 hash of the bytes before it (seed 0)
 *   record  := head, body, mark
 *   head    := u8 kind, u8 codec, be16 0, be32 length, be32 stored, be32 check
 *   kind    := 1 data, 2 end, 3 hello
 *   data    := `length` bytes of the stream in `stored` bytes, through the codec (0 none, 1 lz4,
 *              2 zstd: the save file's numbers)
 *   end     := length 0, body: be64 bytes of the stream
 *   hello   := length 0, body empty; the first record when the flag TWO_WAY is set
 *   check   := the low half of the hash of the head before it (seed: the salt's be64, xor the
 *              record's number)
 *   mark    := with a cipher its tag of 16 bytes, over head and body; else be64 hash of head and
 *              body, with that seed
 *
 * Records are numbered from 0; the number does not travel. It is the cipher's nonce and part of
 * every seed, so that a record that is missing, twice or out of order is found; the end is a
 * record too, so that a stream that was cut is found. The salt makes a key of its own for each
 * stream (see pipe/cipher.h) and the records of two streams strangers to each other. With TWO_WAY
 * two such streams travel in opposite directions, and their keys are made of both salts: what was
 * recorded of an earlier connection cannot be played back into a new one. The hello proves the key
 * before anything is given to anybody.
 *
 * Why not the save file's format: its chunks all have one length, so a piece could not be sent
 * before the next bytes come; it ends in an index, and its hashes keep no forger away. The codecs
 * and the threads (compress/pipeline.h) are the same.
 *
 * Pure: bytes <-> structures, no I/O.
 */
#ifndef QMIG_PIPE_FORMAT_H
#define QMIG_PIPE_FORMAT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    QMIG_PIPE_VERSION = 1,
    QMIG_PIPE_MAGIC_LENGTH = 8,
    QMIG_PIPE_SALT_LENGTH = 16,
    QMIG_PIPE_HEADER_LENGTH = 40,
    QMIG_PIPE_HEAD_LENGTH = 16,
    QMIG_PIPE_TAG_LENGTH = 16, /* the longest mark */
    QMIG_PIPE_HASH_LENGTH = 8, /* the mark without a cipher */
    QMIG_PIPE_END_LENGTH = 8,  /* stored bytes of an end */

    /* Limits of a block, bytes: what both sides take memory for. */
    QMIG_PIPE_BLOCK_MIN = 4 << 10,
    QMIG_PIPE_BLOCK_MAX = 256 << 10,

    QMIG_PIPE_TWO_WAY = 1 << 0, /* a flag of the header */
};

#define QMIG_PIPE_MAGIC "QMIGPIPE"

typedef enum {
    QMIG_PIPE_DATA = 1,
    QMIG_PIPE_END = 2,
    QMIG_PIPE_HELLO = 3,
} QmigPipeKind;

typedef enum {
    QMIG_PIPE_CLEAR = 0,
    QMIG_PIPE_AES_256_GCM = 1,
    QMIG_PIPE_CHACHA20_POLY1305 = 2,
    QMIG_PIPE_N_CIPHERS,
} QmigPipeCipher;

typedef struct {
    uint8_t cipher;       /* QmigPipeCipher */
    uint8_t flags;        /* QMIG_PIPE_TWO_WAY */
    uint32_t block_limit; /* bytes of the stream in a record, at most */
    uint8_t salt[QMIG_PIPE_SALT_LENGTH];
} QmigPipeHeader;

typedef struct {
    uint8_t kind;    /* QmigPipeKind */
    uint8_t codec;   /* QmigSaveCodec; NONE also where a codec did not help */
    uint32_t length; /* bytes of the stream */
    uint32_t stored; /* bytes of the body; at most the block limit */
} QmigPipeHead;

/* "aes-256-gcm", "chacha20-poly1305", "none". NULL: there is no such. */
const char *qmig_pipe_cipher_name(uint32_t cipher);

void qmig_pipe_write_header(const QmigPipeHeader *header,
                            uint8_t out[static QMIG_PIPE_HEADER_LENGTH]);
/* Errors: PROTOCOL (damage), LIMIT, UNSUPPORTED (a newer version); the caller adds the place. */
bool qmig_pipe_read_header(const uint8_t data[static QMIG_PIPE_HEADER_LENGTH],
                           QmigPipeHeader *header,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The seed of all hashes of record @number. */
uint64_t qmig_pipe_seed(const QmigPipeHeader *header, uint64_t number);

/* Bytes of a record's mark. */
uint32_t qmig_pipe_mark_length(const QmigPipeHeader *header);

void qmig_pipe_write_head(const QmigPipeHead *head, uint64_t seed,
                          uint8_t out[static QMIG_PIPE_HEAD_LENGTH]);
/* Errors: PROTOCOL, LIMIT; without the place. */
bool qmig_pipe_read_head(const uint8_t data[static QMIG_PIPE_HEAD_LENGTH],
                         const QmigPipeHeader *header, uint64_t seed, QmigPipeHead *head,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
