/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The return path: messages destination -> source on the main channel. Without I/O.
 *
 *   reverse := ( be16 type, be16 n, n bytes data [, bitmap] )*  colo*
 *   bitmap  := be64 n, n bytes, be64 0x0123456789abcdef             (behind RECV_BITMAP)
 *   colo    := be32 0 | be32 2 | be32 5 | be32 6
 *
 * COLO changes the framing without a word: with return path behind SHUT, without it from the
 * first byte. Read as the usual framing its first message, be32 0, is type 0, which is none.
 */
#ifndef QMIG_STREAM_RETURN_PATH_H
#define QMIG_STREAM_RETURN_PATH_H

#include "stream/decoder.h"
#include "util/writer.h"

#include <stdint.h>

/* Message types (MIG_RP_MSG_*, QEMU migration/migration.h), and what else is handed out. */
typedef enum {
    QMIG_RP_SHUT = 1,         /* be32 status; 0: the guest was loaded. Last message */
    QMIG_RP_PONG = 2,         /* be32 echo of a PING */
    QMIG_RP_REQ_PAGES_ID = 3, /* be64 offset, be32 length, cstr block */
    QMIG_RP_REQ_PAGES = 4,    /* be64 offset, be32 length in the current block */
    QMIG_RP_RECV_BITMAP = 5,  /* cstr block; BITMAP pieces and BITMAP_END follow */
    QMIG_RP_RESUME_ACK = 6,   /* be32 1 */
    QMIG_RP_SWITCHOVER_ACK = 7,

    /* Not on the wire as types. */
    QMIG_RP_BITMAP = 0x10000,     /* a piece of the bitmap behind RECV_BITMAP */
    QMIG_RP_BITMAP_END = 0x10001, /* be64 end mark */
    QMIG_RP_COLO = 0x10002,       /* be32, QmigRpColo in `value` */
} QmigRpType;

/* Messages destination -> source (COLO_MESSAGE_*, QEMU qapi/migration.json). */
typedef enum {
    QMIG_RP_COLO_CHECKPOINT_READY = 0,
    QMIG_RP_COLO_CHECKPOINT_REPLY = 2,
    QMIG_RP_COLO_VMSTATE_RECEIVED = 5,
    QMIG_RP_COLO_VMSTATE_LOADED = 6,
} QmigRpColo;

typedef struct {
    QmigRpType type;
    uint32_t value;  /* SHUT status, PONG echo, RESUME_ACK value, COLO message */
    uint64_t offset; /* REQ_PAGES*: bytes inside the block */
    uint32_t length; /* REQ_PAGES*: bytes */
    char block[256]; /* REQ_PAGES_ID, RECV_BITMAP: block name, NUL-terminated, else "" */
    uint8_t block_length; /* bytes of it */
    uint64_t bitmap_size; /* RECV_BITMAP: bytes of bitmap that follow, a multiple of 8 */
    const uint8_t
        *bitmap; /* BITMAP: little-endian bits, one a target page, set = received */
    uint64_t bitmap_length; /* BITMAP: bytes of this piece */
    uint64_t stream_offset; /* position of the message's first byte in this direction */
    uint64_t wire_size;     /* bytes of it */
} QmigRpMessage;

typedef struct QmigRpDecoder QmigRpDecoder;

QmigRpDecoder *qmig_rp_decoder_new(void);
void qmig_rp_decoder_free(QmigRpDecoder *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigRpDecoder, qmig_rp_decoder_free)

/* As qmig_decoder_push(). */
void qmig_rp_decoder_push(QmigRpDecoder *d, const void *data, size_t len);

/**
 * qmig_rp_decoder_next() - the next message
 * @msg: (out) `bitmap` is borrowed from the pushed bytes until the next push
 *
 * Any split gives the same messages, but for BITMAP, which comes in pieces as it came in.
 * Errors: PROTOCOL (unknown type, wrong length: a source would fail, too; the end mark of a
 *         bitmap is wrong), LIMIT. The message has the offset.
 * Return: EVENT, NEED_MORE or FAILED; never END. After FAILED the bytes must still be
 *         forwarded: only the reading stops.
 */
QmigDecodeResult qmig_rp_decoder_next(QmigRpDecoder *d, QmigRpMessage *msg,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Bytes that messages have accounted for. */
uint64_t qmig_rp_decoder_offset(const QmigRpDecoder *d);

/* No message is begun: an end of the input here is no truncation. */
bool qmig_rp_decoder_is_between(const QmigRpDecoder *d);

/* The longest message qmig_rp_write() writes, bytes, without the bytes of a BITMAP. */
#define QMIG_RP_WRITE_MAX (4 + 256 + 12 + 8)

/**
 * qmig_rp_write() - one message as it goes over the wire
 * @w: has room for QMIG_RP_WRITE_MAX bytes, for BITMAP for `bitmap_length`
 *
 * BITMAP is written as it is; the writer does not count whether RECV_BITMAP's size is reached.
 * Errors: PROTOCOL: not a message; nothing is written then.
 */
bool qmig_rp_write(QmigWriter *w, const QmigRpMessage *msg,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
