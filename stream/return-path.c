/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Return-path messages, reader and writer. Numbers and lengths: QEMU migration/migration.c,
 * rp_cmd_args; the bitmap behind RECV_BITMAP: migration/ram.c, ramblock_recv_bitmap_send();
 * COLO: migration/colo.c.
 */
#include "stream/return-path.h"

#include "stream/bounds.h"
#include "stream/window.h"
#include "util/error.h"

#include <inttypes.h>

#define BITMAP_END UINT64_C(0x0123456789abcdef) /* RAMBLOCK_RECV_BITMAP_ENDING */

typedef enum {
    STATE_MESSAGE,
    STATE_BITMAP,
    STATE_BITMAP_END,
    STATE_COLO,
} State;

struct QmigRpDecoder {
    QmigWindow window;
    State state;
    uint64_t offset;      /* stream position of the next message, bytes */
    uint64_t bitmap_left; /* bytes of the bitmap still to come */
    bool may_be_colo;     /* nothing so far speaks against COLO messages from here on */
    char block[256];      /* whose bitmap it is */
};

QmigRpDecoder *
qmig_rp_decoder_new(void)
{
    QmigRpDecoder *d = g_new0(QmigRpDecoder, 1);

    qmig_window_init(&d->window, QMIG_LIMIT_RP_MESSAGE + 64);
    d->may_be_colo = true;
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

uint64_t
qmig_rp_decoder_offset(const QmigRpDecoder *d)
{
    return d->offset;
}

bool
qmig_rp_decoder_is_between(const QmigRpDecoder *d)
{
    return (d->state == STATE_MESSAGE || d->state == STATE_COLO) &&
           d->window.carry_len == 0;
}

static QmigParse fail(const QmigRpDecoder *d, int code, GError **error, const char *fmt,
                      ...) G_GNUC_PRINTF(4, 5);

static QmigParse
fail(const QmigRpDecoder *d, int code, GError **error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qmig_set_error(error, (QmigErrorCode)code,
                   "return path: %s (stream offset %" PRIu64 ")", text, d->offset);
    return QMIG_PARSE_FAILED;
}

/* ---- messages --------------------------------------------------------------------------- */

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
    switch (msg->type) {
    case QMIG_RP_SHUT:
    case QMIG_RP_PONG:
    case QMIG_RP_RESUME_ACK:
        return qmig_cursor_be32(&c, &msg->value);
    case QMIG_RP_REQ_PAGES_ID:
        return qmig_cursor_be64(&c, &msg->offset) && qmig_cursor_be32(&c, &msg->length) &&
               qmig_cursor_cstr(&c, msg->block, &msg->block_length) &&
               qmig_cursor_left(&c) == 0;
    case QMIG_RP_REQ_PAGES:
        return qmig_cursor_be64(&c, &msg->offset) && qmig_cursor_be32(&c, &msg->length);
    case QMIG_RP_RECV_BITMAP:
        return qmig_cursor_cstr(&c, msg->block, &msg->block_length) &&
               qmig_cursor_left(&c) == 0;
    case QMIG_RP_SWITCHOVER_ACK:
        return true;
    case QMIG_RP_BITMAP:
    case QMIG_RP_BITMAP_END:
    case QMIG_RP_COLO:
    default:
        return false;
    }
}

/* The size of the bitmap behind RECV_BITMAP. */
static QmigParse
take_bitmap_size(QmigRpDecoder *d, QmigCursor *c, QmigRpMessage *msg, GError **error)
{
    if (!qmig_cursor_be64(c, &msg->bitmap_size)) {
        return QMIG_PARSE_SHORT;
    }
    if (msg->bitmap_size % 8 != 0) {
        return fail(d, QMIG_ERROR_PROTOCOL, error,
                    "block \"%s\": bitmap of %" PRIu64 " bytes, wanted a multiple of 8",
                    msg->block, msg->bitmap_size);
    }
    if (msg->bitmap_size > UINT64_C(1) << QMIG_LIMIT_RP_BITMAP_BITS) {
        return fail(d, QMIG_ERROR_LIMIT, error,
                    "block \"%s\": bitmap of %" PRIu64 " bytes, limit 2^%d", msg->block,
                    msg->bitmap_size, QMIG_LIMIT_RP_BITMAP_BITS);
    }
    d->bitmap_left = msg->bitmap_size;
    memcpy(d->block, msg->block, sizeof d->block);
    d->state = d->bitmap_left > 0 ? STATE_BITMAP : STATE_BITMAP_END;
    return QMIG_PARSE_DONE;
}

static QmigParse
parse_message(QmigRpDecoder *d, QmigCursor *c, QmigRpMessage *msg, GError **error)
{
    const uint8_t *data;
    uint16_t type, length;

    if (!(qmig_cursor_be16(c, &type) && qmig_cursor_be16(c, &length))) {
        return QMIG_PARSE_SHORT;
    }
    if (type == 0 && length == QMIG_RP_COLO_CHECKPOINT_READY && d->may_be_colo) {
        msg->type = QMIG_RP_COLO;
        msg->value = QMIG_RP_COLO_CHECKPOINT_READY;
        d->state = STATE_COLO;
        return QMIG_PARSE_DONE;
    }
    if (type == 0 || type >= G_N_ELEMENTS(lengths) || length < lengths[type].min ||
        length > lengths[type].max) {
        return fail(d, QMIG_ERROR_PROTOCOL, error,
                    "message type %u with %u bytes is not known", type, length);
    }
    if (!qmig_cursor_bytes(c, length, &data)) {
        return QMIG_PARSE_SHORT;
    }
    msg->type = (QmigRpType)type;
    if (!take_data(qmig_cursor(data, length), msg)) {
        return fail(d, QMIG_ERROR_PROTOCOL, error,
                    "data of message type %u (%u bytes) is malformed", type, length);
    }
    QmigParse result = type == QMIG_RP_RECV_BITMAP ? take_bitmap_size(d, c, msg, error)
                                                   : QMIG_PARSE_DONE;
    if (result == QMIG_PARSE_DONE) {
        /* What a destination in COLO mode says before it: never a request for pages. */
        d->may_be_colo &= type == QMIG_RP_PONG || type == QMIG_RP_SHUT ||
                          type == QMIG_RP_SWITCHOVER_ACK;
    }
    return result;
}

static QmigParse
parse_colo(const QmigRpDecoder *d, QmigCursor *c, QmigRpMessage *msg, GError **error)
{
    if (!qmig_cursor_be32(c, &msg->value)) {
        return QMIG_PARSE_SHORT;
    }
    msg->type = QMIG_RP_COLO;
    switch (msg->value) {
    case QMIG_RP_COLO_CHECKPOINT_READY:
    case QMIG_RP_COLO_CHECKPOINT_REPLY:
    case QMIG_RP_COLO_VMSTATE_RECEIVED:
    case QMIG_RP_COLO_VMSTATE_LOADED:
        return QMIG_PARSE_DONE;
    default:
        return fail(d, QMIG_ERROR_PROTOCOL, error,
                    "COLO message %u is none of a destination", msg->value);
    }
}

static QmigParse
parse_bitmap_end(QmigRpDecoder *d, QmigCursor *c, QmigRpMessage *msg, GError **error)
{
    uint64_t mark;

    if (!qmig_cursor_be64(c, &mark)) {
        return QMIG_PARSE_SHORT;
    }
    if (mark != BITMAP_END) {
        return fail(d, QMIG_ERROR_PROTOCOL, error,
                    "block \"%s\": end mark 0x%016" PRIx64
                    " behind the bitmap, wanted 0x%016" PRIx64,
                    d->block, mark, BITMAP_END);
    }
    msg->type = QMIG_RP_BITMAP_END;
    d->state = STATE_MESSAGE;
    return QMIG_PARSE_DONE;
}

/* QmigParseFn: whatever is due. */
static QmigParse
parse(void *self, QmigCursor *c, size_t *need, void *out, GError **error)
{
    QmigRpDecoder *d = self;

    (void)need;
    *(QmigRpMessage *)out = (QmigRpMessage){ .stream_offset = d->offset };
    return d->state == STATE_COLO         ? parse_colo(d, c, out, error)
           : d->state == STATE_BITMAP_END ? parse_bitmap_end(d, c, out, error)
                                          : parse_message(d, c, out, error);
}

static QmigDecodeResult
next_bitmap(QmigRpDecoder *d, QmigRpMessage *msg)
{
    const uint8_t *data;
    size_t n = qmig_window_take(&d->window, d->bitmap_left, &data);

    if (n == 0) {
        return QMIG_DECODE_NEED_MORE;
    }
    *msg = (QmigRpMessage){
        .type = QMIG_RP_BITMAP,
        .bitmap = data,
        .bitmap_length = n,
        .stream_offset = d->offset,
        .wire_size = n,
    };
    d->offset += n;
    d->bitmap_left -= n;
    d->state = d->bitmap_left > 0 ? STATE_BITMAP : STATE_BITMAP_END;
    return QMIG_DECODE_EVENT;
}

QmigDecodeResult
qmig_rp_decoder_next(QmigRpDecoder *d, QmigRpMessage *msg, GError **error)
{
    size_t consumed;

    if (d->state == STATE_BITMAP) {
        return next_bitmap(d, msg);
    }
    QmigDecodeResult result = qmig_window_step(&d->window, parse, d, msg, &consumed,
                                               error);
    if (result == QMIG_DECODE_EVENT) {
        msg->wire_size = consumed;
        d->offset += consumed;
    }
    return result;
}

/* ---- writer ----------------------------------------------------------------------------- */

static bool
write_head(QmigWriter *w, QmigRpType type, uint32_t length)
{
    return qmig_writer_be16(w, (uint16_t)type) && qmig_writer_be16(w, (uint16_t)length);
}

bool
qmig_rp_write(QmigWriter *w, const QmigRpMessage *m, GError **error)
{
    bool ok;

    switch (m->type) {
    case QMIG_RP_SHUT:
    case QMIG_RP_PONG:
    case QMIG_RP_RESUME_ACK:
        ok = write_head(w, m->type, 4) && qmig_writer_be32(w, m->value);
        break;
    case QMIG_RP_REQ_PAGES_ID:
        ok = write_head(w, m->type, 12 + 1 + m->block_length) &&
             qmig_writer_be64(w, m->offset) && qmig_writer_be32(w, m->length) &&
             qmig_writer_cstr(w, m->block, m->block_length);
        break;
    case QMIG_RP_REQ_PAGES:
        ok = write_head(w, m->type, 12) && qmig_writer_be64(w, m->offset) &&
             qmig_writer_be32(w, m->length);
        break;
    case QMIG_RP_RECV_BITMAP:
        ok = write_head(w, m->type, 1 + m->block_length) &&
             qmig_writer_cstr(w, m->block, m->block_length) &&
             qmig_writer_be64(w, m->bitmap_size);
        break;
    case QMIG_RP_SWITCHOVER_ACK:
        ok = write_head(w, m->type, 0);
        break;
    case QMIG_RP_BITMAP:
        ok = qmig_writer_bytes(w, m->bitmap, m->bitmap_length);
        break;
    case QMIG_RP_BITMAP_END:
        ok = qmig_writer_be64(w, BITMAP_END);
        break;
    case QMIG_RP_COLO:
        ok = qmig_writer_be32(w, m->value);
        break;
    default:
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "return path: message type %u is not known", m->type);
    }
    g_assert(ok);
    return true;
}
