/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tunnel's wire format: what two qmig proxies say to each other. Without I/O.
 *
 *     frame = head (32 bytes, big-endian) + payload
 *
 *      0  u8    type          enum QmigFrameType
 *      1  u8    codec         how the payload travels: enum QmigFrameCodec
 *      2  be16  stream        0: the session itself
 *      4  be32  length        of the payload on the wire, bytes
 *      8  be32  plain_length  of the payload as it was, bytes; = length without codec
 *     12  be32  reserved      0
 *     16  be64  seq           counts the sequenced frames of one direction of one stream from 0
 *     24  be64  sum           XXH3 of the 24 bytes before and of the payload on the wire
 *
 * A connection begins with one frame HELLO or RESUME of the near side and one WELCOME or REFUSED of
 * the far side (proxy/link/hello.h). Sequenced frames may take any connection of the session; the
 * receiver puts each stream back in order, and drops what it has.
 */
#ifndef QMIG_PROXY_LINK_FRAME_H
#define QMIG_PROXY_LINK_FRAME_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    QMIG_FRAME_HEAD = 32,
    /* Of a payload, as it was and on the wire. */
    QMIG_FRAME_PAYLOAD_MAX = 512 << 10,
    /* Of the frames that come before the peer is known. */
    QMIG_FRAME_HELLO_MAX = 512,
};

/* The versions of the protocol this build speaks. */
enum { QMIG_LINK_VERSION_MIN = 1, QMIG_LINK_VERSION_MAX = 1 };

typedef enum {
    /* Before a session; seq is 0. */
    QMIG_FRAME_HELLO = 1,
    QMIG_FRAME_WELCOME = 2,
    QMIG_FRAME_RESUME = 3,
    QMIG_FRAME_REFUSED = 4,
    /* Of the session: never repeated; seq is 0, stream is 0. */
    QMIG_FRAME_ACK = 8,   /* n times: be16 stream, be64 the next seq wanted */
    QMIG_FRAME_PING = 9,  /* be64: nanoseconds of the sender's clock */
    QMIG_FRAME_PONG = 10, /* the same back */
    QMIG_FRAME_BYE =
        11, /* the session is over; u8: 1 it is given up, else all is consumed */
    QMIG_FRAME_NOTE = 12, /* u8: 1 the guest changes sides, 0 not any more */
    /* Of a stream, sequenced. */
    QMIG_FRAME_OPEN = 16,  /* see QmigLinkOpen */
    QMIG_FRAME_DATA = 17,  /* bytes */
    QMIG_FRAME_BATCH = 18, /* a batch of pages: proxy/link/batch.h */
    QMIG_FRAME_END = 19,   /* no more bytes in this direction */
    QMIG_FRAME_RESET = 20, /* text: the stream broke off here */
} QmigFrameType;

typedef enum {
    QMIG_FRAME_PLAIN = 0,
    QMIG_FRAME_LZ4 = 1,
    QMIG_FRAME_ZSTD = 2,
    QMIG_FRAME_ZSTD_HISTORY = 3, /* after all others of its stream with this codec */
} QmigFrameCodec;

typedef struct {
    uint8_t type;
    uint8_t codec;
    uint16_t stream;
    uint32_t length;
    uint32_t plain_length;
    uint64_t seq;
    uint64_t sum;
} QmigFrameHead;

static inline bool
qmig_frame_is_sequenced(uint8_t type)
{
    return type >= QMIG_FRAME_OPEN;
}

/* Write the head of a frame with this payload; fills in sum. */
void qmig_frame_seal(QmigFrameHead *head, const void *payload,
                     uint8_t out[static QMIG_FRAME_HEAD]);

/**
 * qmig_frame_read_head() - what follows
 *
 * Errors: PROTOCOL, LIMIT. All that can be said without the payload has been checked then.
 */
bool qmig_frame_read_head(const uint8_t in[static QMIG_FRAME_HEAD], QmigFrameHead *head,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Is the payload what was sent? Errors: PROTOCOL. */
bool qmig_frame_verify(const uint8_t head_bytes[static QMIG_FRAME_HEAD],
                       const QmigFrameHead *head, const void *payload,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
