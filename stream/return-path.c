/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Return-path messages: be16 type, be16 length, data. Numbers and lengths: QEMU
 * migration/migration.c, rp_cmd_args. A RECV_BITMAP is followed, outside its length, by
 * be64 size, size bytes, be64 0x0123456789abcdef; the bitmap is stepped over.
 */
#include "stream/return-path.h"

#include "stream/bounds.h"
#include "stream/window.h"
#include "util/error.h"

#include <inttypes.h>

struct QmigRpDecoder {
    QmigWindow window;
    uint64_t skip; /* bytes of a bitmap and its end mark still to step over */
};

QmigRpDecoder *
qmig_rp_decoder_new(void)
{
    QmigRpDecoder *d = g_new0(QmigRpDecoder, 1);

    qmig_window_init(&d->window, QMIG_LIMIT_RP_MESSAGE + 64);
    return d;
}

void
qmig_rp_decoder_free(QmigRpDecoder *d)
{
    if (d != NULL) {
        qmig_window_clear(&d->window);
        g_free(d);
    }
}

void
qmig_rp_decoder_push(QmigRpDecoder *d, const void *data, size_t len)
{
    qmig_window_push(&d->window, data, len);
}

/* Data lengths allowed for a message type. */
typedef struct {
    uint16_t min, max;
} Length;

static const Length lengths[] = {
    [QMIG_RP_SHUT] = { 4, 4 },
    [QMIG_RP_PONG] = { 4, 4 },
    [QMIG_RP_REQ_PAGES_ID] = { 13, 12 + 1 + 255 },
    [QMIG_RP_REQ_PAGES] = { 12, 12 },
    [QMIG_RP_RECV_BITMAP] = { 1, 1 + 255 },
    [QMIG_RP_RESUME_ACK] = { 4, 4 },
    [QMIG_RP_SWITCHOVER_ACK] = { 0, 0 },
};

/* The data of a message whose length has been checked. */
static bool
take_data(QmigCursor c, QmigRpMessage *msg)
{
    uint8_t len;

    switch (msg->type) {
    case QMIG_RP_SHUT:
    case QMIG_RP_PONG:
    case QMIG_RP_RESUME_ACK:
        return qmig_cursor_be32(&c, &msg->value);
    case QMIG_RP_REQ_PAGES_ID:
        return qmig_cursor_be64(&c, &msg->offset) && qmig_cursor_be32(&c, &msg->length) &&
               qmig_cursor_cstr(&c, msg->block, &len) && qmig_cursor_left(&c) == 0;
    case QMIG_RP_REQ_PAGES:
        return qmig_cursor_be64(&c, &msg->offset) && qmig_cursor_be32(&c, &msg->length);
    case QMIG_RP_RECV_BITMAP:
        return qmig_cursor_cstr(&c, msg->block, &len) && qmig_cursor_left(&c) == 0;
    case QMIG_RP_SWITCHOVER_ACK:
        return true;
    default:
        return false;
    }
}

static QmigParse
parse_message(void *self, QmigCursor *c, size_t *need, void *out, GError **error)
{
    QmigRpDecoder *d = self;
    QmigRpMessage msg = { 0 };
    uint16_t type, length;
    const uint8_t *data;

    (void)need;
    if (!(qmig_cursor_be16(c, &type) && qmig_cursor_be16(c, &length))) {
        return QMIG_PARSE_SHORT;
    }
    if (type == 0 || type >= G_N_ELEMENTS(lengths) || length < lengths[type].min ||
        length > lengths[type].max) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "return path: message type %u with %u bytes is not known", type,
                       length);
        return QMIG_PARSE_FAILED;
    }
    if (!qmig_cursor_bytes(c, length, &data)) {
        return QMIG_PARSE_SHORT;
    }
    msg.type = (QmigRpType)type;
    if (!take_data(qmig_cursor(data, length), &msg)) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "return path: data of message type %u (%u bytes) is malformed",
                       type, length);
        return QMIG_PARSE_FAILED;
    }
    if (type == QMIG_RP_RECV_BITMAP) {
        if (!qmig_cursor_be64(c, &msg.bitmap_size)) {
            return QMIG_PARSE_SHORT;
        }
        if (msg.bitmap_size > UINT64_MAX - 8) {
            qmig_set_error(error, QMIG_ERROR_LIMIT,
                           "return path: bitmap of %" PRIu64 " bytes", msg.bitmap_size);
            return QMIG_PARSE_FAILED;
        }
        d->skip = msg.bitmap_size + sizeof(uint64_t);
    }
    *(QmigRpMessage *)out = msg;
    return QMIG_PARSE_DONE;
}

QmigDecodeResult
qmig_rp_decoder_next(QmigRpDecoder *d, QmigRpMessage *msg, GError **error)
{
    const uint8_t *skipped;
    size_t consumed;

    if (d->skip > 0) {
        d->skip -= qmig_window_take(&d->window, d->skip, &skipped);
        if (d->skip > 0) {
            return QMIG_DECODE_NEED_MORE;
        }
    }
    return qmig_window_step(&d->window, parse_message, d, msg, &consumed, error);
}
