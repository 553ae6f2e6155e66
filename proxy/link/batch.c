/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ops <-> bytes. Writer and reader of each part stand side by side. */
#include "proxy/link/batch.h"

#include "util/error.h"

enum {
    CODE_MASK = 0x0f,
    FLAG_NEXT = 0x10,
    FLAG_NAMED = 0x20,
    FLAGS = FLAG_NEXT | FLAG_NAMED,
    ULEB_BITS = 7,
    ULEB_MORE = 0x80,
};

static bool
put_uleb(QmigWriter *w, uint64_t v)
{
    while (v >= ULEB_MORE) {
        if (!qmig_writer_u8(w, (uint8_t)(v | ULEB_MORE))) {
            return false;
        }
        v >>= ULEB_BITS;
    }
    return qmig_writer_u8(w, (uint8_t)v);
}

static bool
get_uleb(QmigCursor *c, uint64_t *v)
{
    uint8_t byte;

    *v = 0;
    for (unsigned shift = 0; shift < 64; shift += ULEB_BITS) {
        if (!qmig_cursor_u8(c, &byte) || (shift == 63 && byte > 1)) {
            return false;
        }
        *v |= (uint64_t)(byte & ~ULEB_MORE) << shift;
        if (byte < ULEB_MORE) {
            return true;
        }
    }
    return false;
}

static bool
get_uleb32(QmigCursor *c, uint32_t *v)
{
    uint64_t wide;

    if (!get_uleb(c, &wide) || wide > UINT32_MAX) {
        return false;
    }
    *v = (uint32_t)wide;
    return true;
}

static bool
has_place(uint8_t code)
{
    return code >= QMIG_BATCH_PAGE;
}

/* Small numbers for small steps in both directions. */
static uint64_t
zigzag(uint64_t step)
{
    return step << 1 ^ (uint64_t) - (int64_t)(step >> 63);
}

static uint64_t
unzigzag(uint64_t v)
{
    return v >> 1 ^ (uint64_t) - (int64_t)(v & 1);
}

static bool
put_place(QmigWriter *w, const QmigBatchPlace *place, const QmigBatchOp *op)
{
    uint64_t next = op->block == place->block ? place->next : 0;

    return put_uleb(w, op->block) && put_uleb(w, zigzag(op->page - next));
}

static bool
get_place(QmigCursor *c, const QmigBatchPlace *place, QmigBatchOp *op)
{
    uint64_t step;

    if (!get_uleb32(c, &op->block) || !get_uleb(c, &step)) {
        return false;
    }
    op->page = (op->block == place->block ? place->next : 0) + unzigzag(step);
    return true;
}

static bool
put_arguments(QmigWriter *w, const QmigBatchOp *op)
{
    switch ((QmigBatchCode)op->code) {
    case QMIG_BATCH_BLOCK:
        return qmig_writer_be16(w, (uint16_t)op->block) &&
               qmig_writer_cstr(w, op->name, op->name_length) &&
               qmig_writer_be32(w, op->page_size) && qmig_writer_be64(w, op->used_length);
    case QMIG_BATCH_BYTES:
    case QMIG_BATCH_DELTA:
    case QMIG_BATCH_XBZRLE:
    case QMIG_BATCH_ZLIB:
        return put_uleb(w, op->length);
    case QMIG_BATCH_REF:
        return put_uleb(w, op->slot);
    case QMIG_BATCH_ZERO:
        return qmig_writer_u8(w, op->fill);
    case QMIG_BATCH_PAGE:
    case QMIG_BATCH_LITERAL:
    case QMIG_BATCH_EMPTY:
    case QMIG_BATCH_CODES:
    default:
        return true;
    }
}

static bool
get_arguments(QmigCursor *c, QmigBatchOp *op)
{
    uint16_t index;

    switch ((QmigBatchCode)op->code) {
    case QMIG_BATCH_BLOCK:
        if (!(qmig_cursor_be16(c, &index) &&
              qmig_cursor_cstr(c, op->name, &op->name_length) &&
              qmig_cursor_be32(c, &op->page_size) &&
              qmig_cursor_be64(c, &op->used_length))) {
            return false;
        }
        op->block = index;
        return true;
    case QMIG_BATCH_BYTES:
    case QMIG_BATCH_DELTA:
    case QMIG_BATCH_XBZRLE:
    case QMIG_BATCH_ZLIB:
        return get_uleb32(c, &op->length);
    case QMIG_BATCH_REF:
        return get_uleb32(c, &op->slot);
    case QMIG_BATCH_ZERO:
        return qmig_cursor_u8(c, &op->fill);
    case QMIG_BATCH_PAGE:
    case QMIG_BATCH_LITERAL:
    case QMIG_BATCH_EMPTY:
        return true;
    case QMIG_BATCH_CODES:
    default:
        return false;
    }
}

void
qmig_batch_put(QmigWriter *w, QmigBatchPlace *place, const QmigBatchOp *op)
{
    bool is_next = op->block == place->block && op->page == place->next;
    bool ok;

    if (has_place(op->code)) {
        uint8_t flags = (is_next ? FLAG_NEXT : 0) | (op->named ? FLAG_NAMED : 0);

        ok = qmig_writer_u8(w, op->code | flags) && (is_next || put_place(w, place, op));
        place->block = op->block;
        place->next = op->page + 1;
    } else {
        ok = qmig_writer_u8(w, op->code);
    }
    ok = ok && put_arguments(w, op);
    g_assert(ok);
}

bool
qmig_batch_open(QmigBatchReader *r, const void *batch, size_t len, GError **error)
{
    QmigCursor c = qmig_cursor(batch, len);
    const uint8_t *ops;
    uint64_t check;
    uint32_t n;

    if (len > QMIG_BATCH_MAX) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "tunnel: a batch of %zu bytes, limit %d", len,
                              QMIG_BATCH_MAX);
    }
    if (!qmig_cursor_be32(&c, &n) || !qmig_cursor_be64(&c, &check) ||
        n > QMIG_BATCH_OPS_BYTES_MAX || !qmig_cursor_bytes(&c, n, &ops)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "tunnel: the ops of a batch do not fit its %zu bytes", len);
    }
    *r = (QmigBatchReader){ .check = check, .ops = qmig_cursor(ops, n), .payload = c };
    return true;
}

static bool
get_op(QmigBatchReader *r, QmigBatchOp *op)
{
    uint8_t byte, flags;

    if (!qmig_cursor_u8(&r->ops, &byte)) {
        return false;
    }
    op->code = byte & CODE_MASK;
    flags = byte & ~CODE_MASK;
    op->named = flags & FLAG_NAMED;
    if (!has_place(op->code)) {
        return flags == 0 && get_arguments(&r->ops, op);
    }
    if (flags & ~FLAGS) {
        return false;
    }
    if (flags & FLAG_NEXT) {
        op->block = r->place.block;
        op->page = r->place.next;
    } else if (!get_place(&r->ops, &r->place, op)) {
        return false;
    }
    r->place = (QmigBatchPlace){ .block = op->block, .next = op->page + 1 };
    return get_arguments(&r->ops, op);
}

QmigBatchRead
qmig_batch_next(QmigBatchReader *r, QmigBatchOp *op, GError **error)
{
    if (qmig_cursor_left(&r->ops) == 0) {
        size_t left = qmig_cursor_left(&r->payload);

        if (left == 0) {
            return QMIG_BATCH_READ_END;
        }
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "tunnel: %zu bytes of a batch belong to no op", left);
        return QMIG_BATCH_READ_FAILED;
    }
    if (r->n_ops++ == QMIG_BATCH_OPS_MAX) {
        qmig_set_error(error, QMIG_ERROR_LIMIT, "tunnel: a batch of more than %d ops",
                       QMIG_BATCH_OPS_MAX);
        return QMIG_BATCH_READ_FAILED;
    }
    if (!get_op(r, op)) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "tunnel: op %u of a batch is cut short or not known (code %u)",
                       r->n_ops, op->code);
        return QMIG_BATCH_READ_FAILED;
    }
    return QMIG_BATCH_READ_OP;
}
