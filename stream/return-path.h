/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The return path: messages destination -> source on the main channel. Without I/O. */
#ifndef QMIG_STREAM_RETURN_PATH_H
#define QMIG_STREAM_RETURN_PATH_H

#include "stream/decoder.h"

#include <stdint.h>

/* Message types (MIG_RP_MSG_*, QEMU migration/migration.h). */
typedef enum {
    QMIG_RP_SHUT = 1,         /* be32 status; 0: the guest was loaded. Last message */
    QMIG_RP_PONG = 2,         /* be32 echo of a PING */
    QMIG_RP_REQ_PAGES_ID = 3, /* be64 offset, be32 length, cstr block */
    QMIG_RP_REQ_PAGES = 4,    /* be64 offset, be32 length in the current block */
    QMIG_RP_RECV_BITMAP = 5,  /* cstr block; a bitmap follows outside the length */
    QMIG_RP_RESUME_ACK = 6,   /* be32 1 */
    QMIG_RP_SWITCHOVER_ACK = 7,
} QmigRpType;

typedef struct {
    QmigRpType type;
    uint32_t value;       /* SHUT status, PONG echo, RESUME_ACK value */
    uint64_t offset;      /* REQ_PAGES*: bytes inside the block */
    uint32_t length;      /* REQ_PAGES*: bytes */
    char block[256];      /* REQ_PAGES_ID, RECV_BITMAP: block name, else "" */
    uint64_t bitmap_size; /* RECV_BITMAP: bytes of bitmap that were skipped */
} QmigRpMessage;

typedef struct QmigRpDecoder QmigRpDecoder;

QmigRpDecoder *qmig_rp_decoder_new(void);
void qmig_rp_decoder_free(QmigRpDecoder *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigRpDecoder, qmig_rp_decoder_free)

/* As qmig_decoder_push(). */
void qmig_rp_decoder_push(QmigRpDecoder *d, const void *data, size_t len);

/**
 * qmig_rp_decoder_next() - the next message
 *
 * Return: EVENT, NEED_MORE or FAILED (unknown type, wrong length: a source would fail, too);
 *         never END. After FAILED the bytes must still be forwarded: only the reading stops.
 */
QmigDecodeResult qmig_rp_decoder_next(QmigRpDecoder *d, QmigRpMessage *msg,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
