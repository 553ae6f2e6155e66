/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For each page the cheapest op that serves: nothing for zeros, a delta when the other side has
 * an older version, a reference when it has the content, else the page. Ops are written to a
 * buffer of their own; payloads stay where they are and are copied once, at the end, behind them.
 */
#include "proxy/link/press.h"

#include "compress/hash.h"
#include "compress/xbzrle.h"
#include "compress/zero.h"
#include "proxy/link/page-cache.h"
#include "util/error.h"

#include <string.h>

enum {
    /* Codes of one batch, bytes. */
    DELTA_STORAGE = 256 << 10,
    /* A code is worth it up to a page's length / so much: a page by itself compresses, too. */
    DELTA_SHARE = 2,
    /* Bytes from one word to the next, and some: structures repeat themselves. */
    SAMPLE = 200,
    /* Of one block: 1 TiB of 4 KiB pages. */
    SENT_PAGES_MAX = 1 << 28,
};

struct QmigPress {
    QmigPageCache *cache;
    GPtrArray
        *sent; /* of each block: a bit for each page that has been sent; (nullable) */
    QmigPageIndex *index; /* made when the cache's size in pages is known */
    QmigWriter ops;
    QmigBatchPlace place;
    unsigned n_ops;
    size_t payload; /* bytes */
    struct {
        const uint8_t *data;
        size_t len;
    } piece[QMIG_BATCH_OPS_MAX];
    unsigned n_pieces;
    size_t delta_len;
    uint64_t check; /* of pages made from the cache over there */
    QmigPackCounts counts;
    uint8_t ops_storage[QMIG_BATCH_OPS_BYTES_MAX];
    uint8_t delta[DELTA_STORAGE];
};

QmigPress *
qmig_press_new(uint64_t cache_size, GError **error)
{
    g_autoptr(QmigPress) s = g_new0(QmigPress, 1);

    s->sent = g_ptr_array_new_with_free_func(g_free);
    s->ops = qmig_writer(s->ops_storage, sizeof s->ops_storage);
    s->cache = qmig_page_cache_new(cache_size, error);
    return s->cache != NULL ? g_steal_pointer(&s) : NULL;
}

void
qmig_press_free(QmigPress *s)
{
    if (s != NULL) {
        qmig_page_cache_free(s->cache);
        qmig_page_index_free(s->index);
        g_ptr_array_unref(s->sent);
        g_free(s);
    }
}

size_t
qmig_press_bound(const QmigPendingItem *item)
{
    size_t op = item->type == QMIG_PENDING_IS_BLOCK ? QMIG_BATCH_BLOCK_MAX
                                                    : QMIG_BATCH_OP_MAX;

    return op + item->length;
}

size_t
qmig_press_size(const QmigPress *s)
{
    return QMIG_BATCH_HEAD + s->ops.len + s->payload;
}

unsigned
qmig_press_ops(const QmigPress *s)
{
    return s->n_ops;
}

static void
add_op(QmigPress *s, const QmigPendingItem *item, const QmigBatchOp *op,
       const uint8_t *data, size_t len)
{
    size_t before = s->ops.len;

    qmig_batch_put(&s->ops, &s->place, op);
    s->n_ops++;
    if (len > 0) {
        s->piece[s->n_pieces].data = data;
        s->piece[s->n_pieces++].len = len;
        s->payload += len;
    }
    s->counts.op[op->code].n++;
    s->counts.op[op->code].in += item->wire_size;
    s->counts.op[op->code].out += s->ops.len - before + len;
}

static bool
add_block(QmigPress *s, const QmigPendingItem *item, GError **error)
{
    const struct qmig_block *block = item->block;
    QmigBatchOp op = {
        .code = QMIG_BATCH_BLOCK,
        .name_length = (uint8_t)block->name_length,
        .block = block->index,
        .page_size = block->page_size,
        .used_length = block->used_length,
    };

    memcpy(op.name, block->name, block->name_length);
    add_op(s, item, &op, NULL, 0);
    uint64_t pages = block->used_length / block->page_size + 1;
    g_ptr_array_add(s->sent, pages <= SENT_PAGES_MAX ? g_malloc0(pages / 8 + 1) : NULL);
    if (!qmig_page_cache_add_block(s->cache, block->page_size, block->used_length)) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "tunnel: RAM block \"%s\": one too many, or its pages have "
                              "%u bytes unlike those before",
                              block->name, block->page_size);
    }
    s->counts.cache_pages = qmig_page_cache_slots(s->cache);
    if (s->index == NULL && s->counts.cache_pages > 0) {
        s->index = qmig_page_index_new(s->counts.cache_pages, error);
        return s->index != NULL;
    }
    return true;
}

/* All words differ that are looked at: no need to look at the others. */
static bool
is_rewritten(const uint8_t *before, const uint8_t *after, size_t len)
{
    uint64_t a, b;

    for (size_t i = 0, n = 0; i + sizeof a <= len; i += SAMPLE + sizeof a * (n++ % 8)) {
        memcpy(&a, before + i, sizeof a);
        memcpy(&b, after + i, sizeof b);
        if (a == b) {
            return false;
        }
    }
    return true;
}

/* The page as a change of the version in @slot. Return: whether that is worth it. */
static bool
add_delta(QmigPress *s, const QmigPendingItem *item, QmigBatchOp *op, uint32_t slot)
{
    uint8_t *cached = qmig_page_cache_data(s->cache, slot);
    uint8_t *code = s->delta + s->delta_len;
    size_t room = MIN(sizeof s->delta - s->delta_len, item->length / DELTA_SHARE);
    ssize_t n;

    if (is_rewritten(cached, item->data, item->length)) {
        return false;
    }
    n = qmig_xbzrle_encode(cached, item->data, item->length, code, room);
    if (n < 0) {
        return false;
    }
    op->code = QMIG_BATCH_DELTA;
    op->length = (uint32_t)n;
    add_op(s, item, op, code, (size_t)n);
    s->delta_len += (size_t)n;
    s->check = qmig_batch_check(s->check, qmig_hash3(item->data, item->length, 0));
    qmig_page_cache_touch(s->cache, slot);
    /* As the other side does it; few bytes are written for few that changed. */
    bool patched = qmig_xbzrle_decode(cached, item->length, code, (size_t)n);
    g_assert(patched);
    return true;
}

/* A slot with this very content, or NONE. */
static uint32_t
find_content(const QmigPress *s, const QmigPendingItem *item, uint64_t hash)
{
    uint32_t slots[QMIG_PAGE_INDEX_WAYS];
    unsigned n = qmig_page_index_find(s->index, hash, slots);

    for (unsigned i = 0; i < n; i++) {
        if (memcmp(qmig_page_cache_data(s->cache, slots[i]), item->data, item->length) ==
            0) {
            return slots[i];
        }
    }
    return QMIG_PAGE_CACHE_NONE;
}

/* Keep the page's content: in the slot it has, or in another. */
static uint32_t
keep(QmigPress *s, const QmigPendingItem *item, const QmigBatchOp *op, uint32_t slot)
{
    if (slot != QMIG_PAGE_CACHE_NONE) {
        qmig_page_cache_touch(s->cache, slot);
    } else {
        slot = qmig_page_cache_insert(s->cache, op->block, op->page);
    }
    if (slot != QMIG_PAGE_CACHE_NONE) {
        memcpy(qmig_page_cache_data(s->cache, slot), item->data, item->length);
    }
    return slot;
}

static void
add_small(QmigPress *s, const QmigPendingItem *item, QmigBatchOp *op)
{
    uint32_t slot = qmig_page_cache_find(s->cache, op->block, op->page), like;
    uint64_t hash;

    if (slot != QMIG_PAGE_CACHE_NONE && add_delta(s, item, op, slot)) {
        return;
    }
    hash = qmig_hash3(item->data, item->length, 0);
    like = find_content(s, item, hash);
    if (like != QMIG_PAGE_CACHE_NONE) {
        op->code = QMIG_BATCH_REF;
        op->slot = like;
        s->check = qmig_batch_check(s->check, hash);
        add_op(s, item, op, NULL, 0);
        (void)keep(s, item, op, slot);
        return;
    }
    slot = keep(s, item, op, slot);
    op->code = slot != QMIG_PAGE_CACHE_NONE ? QMIG_BATCH_PAGE : QMIG_BATCH_LITERAL;
    add_op(s, item, op, item->data, item->length);
    if (slot != QMIG_PAGE_CACHE_NONE) {
        qmig_page_index_put(s->index, hash, slot);
    }
}

/* Has the page been sent before? Now it has. */
static bool
was_sent(QmigPress *s, const QmigBatchOp *op)
{
    uint8_t *bits = op->block < s->sent->len ? g_ptr_array_index(s->sent, op->block)
                                             : NULL;
    uint8_t bit = (uint8_t)(1u << op->page % 8);

    if (bits == NULL) {
        return true;
    }
    bool before = (bits[op->page / 8] & bit) != 0;
    bits[op->page / 8] |= bit;
    return before;
}

static void
add_page(QmigPress *s, const QmigPendingItem *item, QmigPackEffort effort)
{
    QmigBatchOp op;

    op.named = item->named;
    op.block = item->block->index;
    op.page = item->offset / item->block->page_size;
    op.length = item->length;
    switch (item->kind) {
    case QMIG_PAGE_ZERO:
        op.code = QMIG_BATCH_ZERO;
        op.fill = item->fill;
        add_op(s, item, &op, NULL, 0);
        return;
    case QMIG_PAGE_XBZRLE:
    case QMIG_PAGE_ZLIB:
        op.code = item->kind == QMIG_PAGE_XBZRLE ? QMIG_BATCH_XBZRLE : QMIG_BATCH_ZLIB;
        add_op(s, item, &op, item->data, item->length);
        return;
    case QMIG_PAGE_NORMAL:
    default:
        if (qmig_is_zero(item->data, item->length)) {
            op.code = QMIG_BATCH_EMPTY;
            add_op(s, item, &op, NULL, 0);
        } else if ((!was_sent(s, &op) && effort == QMIG_PACK_MIDDLE) ||
                   effort == QMIG_PACK_FAST || s->index == NULL) {
            op.code = QMIG_BATCH_LITERAL;
            add_op(s, item, &op, item->data, item->length);
        } else {
            add_small(s, item, &op);
        }
        return;
    }
}

bool
qmig_press_add(QmigPress *s, const QmigPendingItem *item, QmigPackEffort effort,
               GError **error)
{
    QmigBatchOp op;

    switch ((QmigPendingType)item->type) {
    case QMIG_PENDING_IS_BLOCK:
        return add_block(s, item, error);
    case QMIG_PENDING_IS_PAGE:
        add_page(s, item, effort);
        return true;
    case QMIG_PENDING_IS_BYTES:
    default:
        op.code = QMIG_BATCH_BYTES;
        op.length = item->length;
        add_op(s, item, &op, item->data, item->length);
        return true;
    }
}

void
qmig_press_end(QmigPress *s, uint8_t *buf)
{
    size_t size = qmig_press_size(s);
    QmigWriter w = qmig_writer(buf, size);
    bool ok = qmig_writer_be32(&w, (uint32_t)s->ops.len) &&
              qmig_writer_be64(&w, s->check) &&
              qmig_writer_bytes(&w, s->ops.buf, s->ops.len);

    for (unsigned i = 0; ok && i < s->n_pieces; i++) {
        ok = qmig_writer_bytes(&w, s->piece[i].data, s->piece[i].len);
    }
    g_assert(ok && w.len == size);
    s->counts.batches++;
    s->counts.bytes_out += size;
    s->counts.evicted = qmig_page_cache_evicted(s->cache);
    s->ops.len = 0;
    s->place = (QmigBatchPlace){ 0 };
    s->n_ops = 0;
    s->n_pieces = 0;
    s->payload = 0;
    s->delta_len = 0;
    s->check = 0;
}

const QmigPackCounts *
qmig_press_counts(QmigPress *s)
{
    return &s->counts;
}
