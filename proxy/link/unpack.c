/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Does to its cache what the near side did to its own, op by op, and writes the records of the
 * stream. Payloads of pages that came as they are stay in the batch until they are written;
 * pages made from the cache are copied first, for the next op may change their slot.
 */
#include "proxy/link/unpack.h"

#include "compress/hash.h"
#include "compress/xbzrle.h"
#include "proxy/link/batch.h"
#include "proxy/link/page-cache.h"
#include "stream/bounds.h"
#include "stream/encoder.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

/* Pages made from the cache that wait for the sink, bytes. */
enum { MADE_SIZE = 512 << 10, PAGE_MAX = 1 << QMIG_LIMIT_PAGE_BITS };

struct QmigUnpack {
    QmigPageCache *cache;
    QmigEncoder *encoder;
    GPtrArray *blocks; /* struct qmig_block, owned, each with its name behind it */
    QmigUnpackSink sink;
    void *self;
    uint64_t check;  /* of the pages this batch made from the cache */
    size_t made_len; /* bytes used */
    uint8_t made[MADE_SIZE];
};

static const uint8_t no_bytes[PAGE_MAX];

QmigUnpack *
qmig_unpack_new(uint64_t cache_size, GError **error)
{
    g_autoptr(QmigUnpack) u = g_new0(QmigUnpack, 1);

    u->blocks = g_ptr_array_new_with_free_func(g_free);
    u->encoder = qmig_encoder_new();
    u->cache = qmig_page_cache_new(cache_size, error);
    return u->cache != NULL ? g_steal_pointer(&u) : NULL;
}

void
qmig_unpack_free(QmigUnpack *u)
{
    if (u != NULL) {
        qmig_page_cache_free(u->cache);
        qmig_encoder_free(u->encoder);
        g_ptr_array_unref(u->blocks);
        g_free(u);
    }
}

static bool
flush(QmigUnpack *u, GError **error)
{
    const struct iovec *iov;
    size_t bytes, n = qmig_encoder_pending(u->encoder, &iov, &bytes);

    if (n > 0 && !u->sink(u->self, iov, n, error)) {
        return false;
    }
    qmig_encoder_clear(u->encoder);
    u->made_len = 0;
    return true;
}

static bool
put(QmigUnpack *u, const struct qmig_event *ev, GError **error)
{
    if (qmig_encoder_is_full(u->encoder) && !flush(u, error)) {
        return false;
    }
    if (!qmig_encoder_put(u->encoder, ev, error)) {
        g_prefix_error(error, "tunnel: batch: ");
        return false;
    }
    return true;
}

static bool reject(GError **error, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static bool
reject(GError **error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "tunnel: batch: %s", text);
}

static bool
take_block(QmigUnpack *u, const QmigBatchOp *op, GError **error)
{
    struct qmig_block *block;
    char *name;

    if (op->block != u->blocks->len || op->page_size < 1u << QMIG_LIMIT_PAGE_BITS_MIN ||
        op->page_size > PAGE_MAX || (op->page_size & (op->page_size - 1)) != 0) {
        return reject(error, "block %u, pages of %u bytes; block %u is due", op->block,
                      op->page_size, u->blocks->len);
    }
    if (!qmig_page_cache_add_block(u->cache, op->page_size, op->used_length)) {
        return reject(error, "block %u is one too many, or has other pages", op->block);
    }
    block = g_malloc0(sizeof *block + op->name_length + 1u);
    name = (char *)(block + 1);
    memcpy(name, op->name, op->name_length);
    *block = (struct qmig_block){
        .size = sizeof *block,
        .index = op->block,
        .name = name,
        .name_length = op->name_length,
        .page_size = op->page_size,
        .used_length = op->used_length,
    };
    g_ptr_array_add(u->blocks, block);
    return true;
}

static bool
take_payload(QmigBatchReader *r, uint32_t length, const uint8_t **data, GError **error)
{
    return qmig_cursor_bytes(&r->payload, length, data) ||
           reject(error, "an op takes %u bytes, %zu are left", length,
                  qmig_cursor_left(&r->payload));
}

/* A copy of a page that can wait for the sink. */
static bool
make_page(QmigUnpack *u, struct qmig_event_page *page, const uint8_t *content,
          GError **error)
{
    if (page->length > sizeof u->made - u->made_len && !flush(u, error)) {
        return false;
    }
    memcpy(u->made + u->made_len, content, page->length);
    page->data = u->made + u->made_len;
    u->made_len += page->length;
    return true;
}

/* As press.c's keep(): the page's content goes to the slot it has, or to another. */
static bool
keep(QmigUnpack *u, const QmigBatchOp *op, const struct qmig_event_page *page,
     GError **error)
{
    uint32_t slot = qmig_page_cache_find(u->cache, op->block, op->page);

    if (slot != QMIG_PAGE_CACHE_NONE) {
        qmig_page_cache_touch(u->cache, slot);
    } else {
        slot = qmig_page_cache_insert(u->cache, op->block, op->page);
    }
    if (slot == QMIG_PAGE_CACHE_NONE) {
        return reject(error, "page %" PRIu64 " of block %u cannot be cached", op->page,
                      op->block);
    }
    memcpy(qmig_page_cache_data(u->cache, slot), page->data, page->length);
    return true;
}

static bool
take_delta(QmigUnpack *u, QmigBatchReader *r, const QmigBatchOp *op,
           struct qmig_event_page *page, GError **error)
{
    uint32_t slot = qmig_page_cache_find(u->cache, op->block, op->page);
    const uint8_t *code = NULL;
    uint8_t *cached;

    if (slot == QMIG_PAGE_CACHE_NONE) {
        return reject(error, "a delta for page %" PRIu64 " of block %u: not cached",
                      op->page, op->block);
    }
    cached = qmig_page_cache_data(u->cache, slot);
    if (!take_payload(r, op->length, &code, error)) {
        return false;
    }
    if (page->length > QMIG_XBZRLE_PAGE_MAX ||
        !qmig_xbzrle_decode(cached, page->length, code, op->length)) {
        return reject(error, "page %" PRIu64 " of block %u: not a delta", op->page,
                      op->block);
    }
    qmig_page_cache_touch(u->cache, slot);
    u->check = qmig_batch_check(u->check, qmig_hash3(cached, page->length, 0));
    return make_page(u, page, cached, error);
}

static bool
take_ref(QmigUnpack *u, const QmigBatchOp *op, struct qmig_event_page *page,
         GError **error)
{
    if (!qmig_page_cache_holds(u->cache, op->slot)) {
        return reject(error, "page %" PRIu64 " of block %u is like slot %u: empty",
                      op->page, op->block, op->slot);
    }
    const uint8_t *content = qmig_page_cache_data(u->cache, op->slot);
    u->check = qmig_batch_check(u->check, qmig_hash3(content, page->length, 0));
    return make_page(u, page, content, error) && keep(u, op, page, error);
}

/* Ops of QMIG_PAGE_NORMAL and of the others: what the page's record holds. */
static bool
take_content(QmigUnpack *u, QmigBatchReader *r, const QmigBatchOp *op,
             struct qmig_event_page *page, GError **error)
{
    switch ((int)op->code) {
    case QMIG_BATCH_PAGE:
        return take_payload(r, page->length, &page->data, error) &&
               keep(u, op, page, error);
    case QMIG_BATCH_LITERAL:
        return take_payload(r, page->length, &page->data, error);
    case QMIG_BATCH_DELTA:
        return take_delta(u, r, op, page, error);
    case QMIG_BATCH_REF:
        return take_ref(u, op, page, error);
    case QMIG_BATCH_ZERO:
        page->kind = QMIG_PAGE_ZERO;
        page->length = 1;
        return op->fill == 0 || make_page(u, page, &op->fill, error);
    case QMIG_BATCH_XBZRLE:
    case QMIG_BATCH_ZLIB:
        page->kind = op->code == QMIG_BATCH_XBZRLE ? QMIG_PAGE_XBZRLE : QMIG_PAGE_ZLIB;
        page->length = op->length;
        return take_payload(r, op->length, &page->data, error);
    case QMIG_BATCH_EMPTY:
    default:
        return true;
    }
}

static bool
take_page(QmigUnpack *u, QmigBatchReader *r, const QmigBatchOp *op, GError **error)
{
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_PAGE };
    const struct qmig_block *block;

    if (op->block >= u->blocks->len) {
        return reject(error, "a page of block %u, %u are known", op->block,
                      u->blocks->len);
    }
    block = g_ptr_array_index(u->blocks, op->block);
    if (op->page >= block->used_length / block->page_size +
                        (block->used_length % block->page_size != 0)) {
        return reject(error, "page %" PRIu64 " of block \"%s\" lies beyond it", op->page,
                      block->name);
    }
    ev.u.page = (struct qmig_event_page){
        .block = block,
        .offset = op->page * block->page_size,
        .data = no_bytes,
        .length = block->page_size,
        .kind = QMIG_PAGE_NORMAL,
        .continued = !op->named,
    };
    /* First room, then content: flushing takes away what was made. */
    return (!qmig_encoder_is_full(u->encoder) || flush(u, error)) &&
           take_content(u, r, op, &ev.u.page, error) && put(u, &ev, error);
}

static bool
take_bytes(QmigUnpack *u, QmigBatchReader *r, const QmigBatchOp *op, GError **error)
{
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_BYTES };

    ev.u.bytes = (struct qmig_event_bytes){ .kind = QMIG_BYTES_RAW,
                                            .length = op->length };
    return take_payload(r, op->length, &ev.u.bytes.data, error) && put(u, &ev, error);
}

static bool
take_op(QmigUnpack *u, QmigBatchReader *r, const QmigBatchOp *op, GError **error)
{
    switch ((int)op->code) {
    case QMIG_BATCH_BLOCK:
        return take_block(u, op, error);
    case QMIG_BATCH_BYTES:
        return take_bytes(u, r, op, error);
    default:
        return take_page(u, r, op, error);
    }
}

bool
qmig_unpack_take(QmigUnpack *u, const uint8_t *batch, size_t len, QmigUnpackSink sink,
                 void *self, GError **error)
{
    QmigBatchReader reader;
    QmigBatchOp op;

    u->sink = sink;
    u->self = self;
    u->check = 0;
    if (!qmig_batch_open(&reader, batch, len, error)) {
        return false;
    }
    for (;;) {
        switch (qmig_batch_next(&reader, &op, error)) {
        case QMIG_BATCH_READ_OP:
            if (!take_op(u, &reader, &op, error)) {
                return false;
            }
            break;
        case QMIG_BATCH_READ_END:
            /* Before the last of it is given on: QEMU never sees the end of a bad one. */
            return u->check == reader.check
                       ? flush(u, error)
                       : reject(error, "the pages made from the cache are not those that "
                                       "were meant: both ends' caches do not agree");
        case QMIG_BATCH_READ_FAILED:
        default:
            return false;
        }
    }
}
