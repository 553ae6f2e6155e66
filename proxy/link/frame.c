/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/frame.h"

#include "compress/hash.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <inttypes.h>

enum { SUMMED_HEAD = 24 };

static uint64_t
sum_of(const uint8_t *head, const void *payload, size_t len)
{
    return qmig_hash3(payload, len, qmig_hash3(head, SUMMED_HEAD, 0));
}

void
qmig_frame_seal(QmigFrameHead *head, const void *payload,
                uint8_t out[static QMIG_FRAME_HEAD])
{
    QmigWriter w = qmig_writer(out, QMIG_FRAME_HEAD);
    bool ok = qmig_writer_u8(&w, head->type) && qmig_writer_u8(&w, head->codec) &&
              qmig_writer_be16(&w, head->stream) && qmig_writer_be32(&w, head->length) &&
              qmig_writer_be32(&w, head->plain_length) && qmig_writer_be32(&w, 0) &&
              qmig_writer_be64(&w, head->seq);

    head->sum = sum_of(out, payload, head->length);
    ok = ok && qmig_writer_be64(&w, head->sum);
    g_assert(ok);
}

static bool
is_known(uint8_t type)
{
    return (type >= QMIG_FRAME_HELLO && type <= QMIG_FRAME_REFUSED) ||
           (type >= QMIG_FRAME_ACK && type <= QMIG_FRAME_NOTE) ||
           (type >= QMIG_FRAME_OPEN && type <= QMIG_FRAME_RESET);
}

/* What could be left as it is is not made longer by compression, but where frames build on it. */
static bool
length_fits(const QmigFrameHead *head)
{
    switch ((QmigFrameCodec)head->codec) {
    case QMIG_FRAME_PLAIN:
        return head->length == head->plain_length;
    case QMIG_FRAME_ZSTD_HISTORY:
        return head->length > 0 && head->plain_length > 0;
    case QMIG_FRAME_LZ4:
    case QMIG_FRAME_ZSTD:
    default:
        return head->length > 0 && head->length < head->plain_length;
    }
}

bool
qmig_frame_read_head(const uint8_t in[static QMIG_FRAME_HEAD], QmigFrameHead *head,
                     GError **error)
{
    QmigCursor c = qmig_cursor(in, QMIG_FRAME_HEAD);
    uint32_t reserved;
    bool whole = qmig_cursor_u8(&c, &head->type) && qmig_cursor_u8(&c, &head->codec) &&
                 qmig_cursor_be16(&c, &head->stream) &&
                 qmig_cursor_be32(&c, &head->length) &&
                 qmig_cursor_be32(&c, &head->plain_length) &&
                 qmig_cursor_be32(&c, &reserved) && qmig_cursor_be64(&c, &head->seq) &&
                 qmig_cursor_be64(&c, &head->sum);

    g_assert(whole);
    if (!is_known(head->type) || head->codec > QMIG_FRAME_ZSTD_HISTORY || reserved != 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "no frame of the tunnel: type %u, codec %u, reserved %u",
                              head->type, head->codec, reserved);
    }
    uint32_t max = head->type <= QMIG_FRAME_REFUSED ? QMIG_FRAME_HELLO_MAX
                                                    : QMIG_FRAME_PAYLOAD_MAX;
    if (head->length > max || head->plain_length > max) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "frame of type %u with %u bytes (%u before compression), "
                              "limit %u",
                              head->type, head->length, head->plain_length, max);
    }
    bool plain = head->codec == QMIG_FRAME_PLAIN;
    if (!length_fits(head)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "frame of type %u, codec %u: %u bytes for %u", head->type,
                              head->codec, head->length, head->plain_length);
    }
    bool bytes = head->type == QMIG_FRAME_DATA || head->type == QMIG_FRAME_BATCH;
    if (qmig_frame_is_sequenced(head->type) != (head->stream != 0) ||
        (!qmig_frame_is_sequenced(head->type) && (head->seq != 0 || !plain)) ||
        (head->codec == QMIG_FRAME_ZSTD_HISTORY && !bytes)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "frame of type %u, codec %u, for stream %u with number "
                              "%" PRIu64,
                              head->type, head->codec, head->stream, head->seq);
    }
    return true;
}

bool
qmig_frame_verify(const uint8_t head_bytes[static QMIG_FRAME_HEAD],
                  const QmigFrameHead *head, const void *payload, GError **error)
{
    uint64_t sum = sum_of(head_bytes, payload, head->length);

    return sum == head->sum ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "frame of type %u, stream %u, number %" PRIu64
                          " was damaged on its way: checksum %016" PRIx64
                          ", wanted %016" PRIx64,
                          head->type, head->stream, head->seq, sum, head->sum);
}
