/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A doubly linked queue of items in one array, a hash of the pages in it (newest first), and a
 * stack of page slots. Both free lists are stacks, so that memory used last is used again first:
 * as long as the taker keeps up, all of it stays in the processor's cache.
 */
#include "proxy/link/pending.h"

#include "util/error.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ITEMS = QMIG_PENDING_ITEMS + QMIG_PENDING_SPARE,
    HEADS = 1 << 14,
    CHUNKS_SPARE = 4,
    URGENT_MAX = 1024,    /* pages that wait and were asked for */
    REQUESTED_MAX = 1024, /* pages that were asked for and have not come */
};

struct QmigPending {
    QmigPendingItem *items;
    uint32_t head, tail;
    uint32_t unused; /* items that were never used begin here */
    uint32_t free;   /* by `next` */
    uint32_t count;  /* items got and not released */
    uint32_t heads[HEADS];
    uint64_t epoch, serial;
    uint64_t weight, max_bytes;
    QmigPendingCounts counts;
    /* Slots. */
    uint8_t *slots; /* mapped */
    uint32_t slot_size, n_slots;
    uint32_t *free_slots; /* a stack */
    uint32_t n_free_slots;
    uint32_t unused_slots; /* slots that were never used begin here */
    /* Chunks. */
    uint8_t *chunks; /* mapped */
    uint32_t n_chunks;
    uint32_t *chunk_users; /* by chunk: its reader, and the items in it */
    uint32_t *free_chunks; /* a stack */
    uint32_t n_free_chunks;
    /* Post-copy. */
    bool postcopy, overtake;
    /* What was popped last. */
    bool pages_may_follow;
    const struct qmig_block *last_block;
    struct {
        uint32_t index;
        uint64_t serial;
    } urgent[URGENT_MAX]; /* a ring */
    unsigned urgent_first, n_urgent;
    struct {
        const struct qmig_block *block; /* NULL: free */
        uint64_t offset;
    } requested[REQUESTED_MAX]; /* by hash; a newer one takes the place */
};

/* Without them pages are copied. */
static void
map_chunks(QmigPending *q)
{
    uint32_t n = (uint32_t)MIN(q->max_bytes / QMIG_PENDING_CHUNK + CHUNKS_SPARE, 1 << 20);
    uint8_t *chunks = mmap(NULL, (size_t)n * QMIG_PENDING_CHUNK, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (chunks == MAP_FAILED) {
        return;
    }
    q->chunks = chunks;
    q->n_chunks = q->n_free_chunks = n;
    q->chunk_users = g_new0(uint32_t, n);
    q->free_chunks = g_new(uint32_t, n);
    for (uint32_t i = 0; i < n; i++) {
        q->free_chunks[i] = n - 1 - i;
    }
}

QmigPending *
qmig_pending_new(uint64_t max_bytes)
{
    QmigPending *q = g_new0(QmigPending, 1);

    q->max_bytes = max_bytes;
    q->items = g_new(QmigPendingItem, ITEMS);
    q->head = q->tail = q->free = QMIG_PENDING_NONE;
    memset(q->heads, 0xff, sizeof q->heads);
    map_chunks(q);
    return q;
}

static bool
is_allocated(const QmigPendingItem *item)
{
    return item->slot == QMIG_PENDING_NONE && item->chunk == QMIG_PENDING_NONE;
}

void
qmig_pending_free(QmigPending *q)
{
    if (q == NULL) {
        return;
    }
    for (uint32_t i = q->head; i != QMIG_PENDING_NONE; i = q->items[i].next) {
        if (is_allocated(&q->items[i])) {
            g_free(q->items[i].data);
        }
    }
    if (q->chunks != NULL) {
        munmap(q->chunks, (size_t)q->n_chunks * QMIG_PENDING_CHUNK);
    }
    g_free(q->chunk_users);
    g_free(q->free_chunks);
    if (q->slots != NULL) {
        munmap(q->slots, (size_t)q->n_slots * q->slot_size);
    }
    g_free(q->free_slots);
    g_free(q->items);
    g_free(q);
}

bool
qmig_pending_set_page_size(QmigPending *q, uint32_t page_size, GError **error)
{
    uint64_t n = q->max_bytes / page_size + 1 + QMIG_PENDING_SPARE;
    uint8_t *slots = mmap(NULL, (size_t)(n * page_size), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    g_assert(q->slots == NULL);
    if (slots == MAP_FAILED) {
        return qmig_set_error_errno(
            error, errno, "tunnel: %" G_GUINT64_FORMAT " bytes for pages", n * page_size);
    }
    q->slots = slots;
    q->slot_size = page_size;
    q->n_slots = (uint32_t)n;
    q->free_slots = g_new(uint32_t, q->n_slots);
    return true;
}

uint32_t
qmig_pending_slot_size(const QmigPending *q)
{
    return q->slot_size;
}

QmigPendingItem *
qmig_pending_item(const QmigPending *q, uint32_t index)
{
    return &q->items[index];
}

static uint32_t
get_slot(QmigPending *q)
{
    if (q->n_free_slots > 0) {
        return q->free_slots[--q->n_free_slots];
    }
    g_assert(q->unused_slots < q->n_slots);
    return q->unused_slots++;
}

uint32_t
qmig_pending_get(QmigPending *q, bool slot)
{
    uint32_t index = q->free;
    QmigPendingItem *item;

    if (index != QMIG_PENDING_NONE) {
        item = &q->items[index];
        q->free = item->next;
    } else {
        g_assert(q->unused < ITEMS);
        index = q->unused++;
        item = &q->items[index];
    }
    *item = (QmigPendingItem){ .slot = QMIG_PENDING_NONE, .chunk = QMIG_PENDING_NONE };
    if (slot) {
        item->slot = get_slot(q);
        item->data = q->slots + (size_t)item->slot * q->slot_size;
    }
    q->count++;
    return index;
}

static uint64_t
weight_of(const QmigPending *q, const QmigPendingItem *item)
{
    return item->slot != QMIG_PENDING_NONE ? q->slot_size : item->length;
}

uint32_t
qmig_pending_get_chunk(QmigPending *q)
{
    uint32_t chunk;

    if (q->n_free_chunks == 0) {
        return QMIG_PENDING_NONE;
    }
    chunk = q->free_chunks[--q->n_free_chunks];
    q->chunk_users[chunk] = 1;
    return chunk;
}

uint8_t *
qmig_pending_chunk(const QmigPending *q, uint32_t chunk)
{
    return q->chunks + (size_t)chunk * QMIG_PENDING_CHUNK;
}

void
qmig_pending_drop_chunk(QmigPending *q, uint32_t chunk)
{
    if (--q->chunk_users[chunk] == 0) {
        q->free_chunks[q->n_free_chunks++] = chunk;
    }
}

void
qmig_pending_release(QmigPending *q, const uint32_t *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        QmigPendingItem *item = &q->items[items[i]];

        if (item->epoch != 0) {
            q->weight -= weight_of(q, item);
            if (item->chunk != QMIG_PENDING_NONE) {
                qmig_pending_drop_chunk(q, item->chunk);
            }
        }
        if (item->slot != QMIG_PENDING_NONE) {
            q->free_slots[q->n_free_slots++] = item->slot;
        } else if (is_allocated(item)) {
            g_free(item->data);
        }
        item->serial = 0;
        item->next = q->free;
        q->free = items[i];
    }
    q->count -= (uint32_t)count;
}

/* Neighbours in the guest are neighbours in the tables: they share lines of the cache. */
static uint64_t
hash_of(const struct qmig_block *block, uint64_t offset)
{
    return (offset >> __builtin_ctz(block->page_size)) +
           block->index * UINT64_C(0x9e3779b1);
}

static uint32_t *
head_of(QmigPending *q, const struct qmig_block *block, uint64_t offset)
{
    return &q->heads[hash_of(block, offset) % HEADS];
}

/* The newest version of a page that waits. */
static uint32_t
find(QmigPending *q, const struct qmig_block *block, uint64_t offset)
{
    uint32_t i = *head_of(q, block, offset);

    while (i != QMIG_PENDING_NONE &&
           (q->items[i].offset != offset || q->items[i].block != block)) {
        i = q->items[i].chain;
    }
    return i;
}

static void
unlink_item(QmigPending *q, uint32_t index)
{
    QmigPendingItem *item = &q->items[index];

    *(item->prev != QMIG_PENDING_NONE ? &q->items[item->prev].next
                                      : &q->head) = item->next;
    *(item->next != QMIG_PENDING_NONE ? &q->items[item->next].prev
                                      : &q->tail) = item->prev;
    if (item->type == QMIG_PENDING_IS_PAGE) {
        uint32_t *link = head_of(q, item->block, item->offset);

        while (*link != index) {
            link = &q->items[*link].chain;
        }
        *link = item->chain;
    }
    item->serial = 0;
}

/* May this item take the place of an older version? XBZRLE builds on it. */
static bool
drop_older(QmigPending *q, const QmigPendingItem *item)
{
    uint32_t older;

    if (q->postcopy || item->kind == QMIG_PAGE_XBZRLE) {
        return false;
    }
    older = find(q, item->block, item->offset);
    if (older == QMIG_PENDING_NONE || q->items[older].epoch != q->epoch) {
        return false;
    }
    q->counts.replaced++;
    q->counts.replaced_bytes += q->items[older].wire_size;
    unlink_item(q, older);
    qmig_pending_release(q, &older, 1);
    return true;
}

static void
make_urgent(QmigPending *q, uint32_t index)
{
    QmigPendingItem *item = &q->items[index];
    unsigned at = (q->urgent_first + q->n_urgent) % URGENT_MAX;

    if (!item->urgent && q->n_urgent < URGENT_MAX) {
        item->urgent = true;
        q->urgent[at].index = index;
        q->urgent[at].serial = item->serial;
        q->n_urgent++;
    }
}

static unsigned
request_place(const struct qmig_block *block, uint64_t offset)
{
    return hash_of(block, offset) % REQUESTED_MAX;
}

static void
append_page(QmigPending *q, uint32_t index)
{
    QmigPendingItem *item = &q->items[index];
    uint32_t *head = head_of(q, item->block, item->offset);

    item->chain = *head;
    *head = index;
    if (q->overtake) {
        unsigned place = request_place(item->block, item->offset);

        if (q->requested[place].block == item->block &&
            q->requested[place].offset == item->offset) {
            q->requested[place].block = NULL;
            make_urgent(q, index);
        }
    }
}

bool
qmig_pending_append(QmigPending *q, uint32_t index)
{
    QmigPendingItem *item = &q->items[index];
    bool dropped = false;

    if (q->epoch == 0 || item->barrier) {
        q->epoch++;
    }
    if (item->type == QMIG_PENDING_IS_PAGE) {
        dropped = drop_older(q, item);
    }
    item->epoch = q->epoch;
    item->serial = ++q->serial;
    item->prev = q->tail;
    item->next = QMIG_PENDING_NONE;
    *(q->tail != QMIG_PENDING_NONE ? &q->items[q->tail].next : &q->head) = index;
    q->tail = index;
    q->weight += weight_of(q, item);
    if (item->chunk != QMIG_PENDING_NONE) {
        q->chunk_users[item->chunk]++;
    }
    if (item->type == QMIG_PENDING_IS_PAGE) {
        append_page(q, index);
    }
    q->epoch += item->barrier;
    return dropped;
}

/* ---- post-copy -------------------------------------------------------------------------- */

void
qmig_pending_set_postcopy(QmigPending *q, bool overtake)
{
    q->postcopy = true;
    q->overtake = overtake;
}

void
qmig_pending_request(QmigPending *q, const struct qmig_block *block, uint64_t offset)
{
    uint32_t index;

    if (!q->overtake) {
        return;
    }
    index = find(q, block, offset);
    if (index != QMIG_PENDING_NONE) {
        make_urgent(q, index);
    } else {
        unsigned place = request_place(block, offset);

        q->requested[place].block = block;
        q->requested[place].offset = offset;
    }
}

const struct qmig_block *
qmig_pending_settle(QmigPending *q)
{
    q->overtake = false;
    q->n_urgent = 0;
    for (uint32_t i = q->tail; i != QMIG_PENDING_NONE; i = q->items[i].prev) {
        if (q->items[i].type == QMIG_PENDING_IS_PAGE) {
            return q->items[i].block;
        }
    }
    return q->last_block;
}

/* The page that was asked for first, and may leave now. */
static uint32_t
peek_urgent(QmigPending *q)
{
    while (q->n_urgent > 0) {
        uint32_t index = q->urgent[q->urgent_first].index;
        const QmigPendingItem *item = &q->items[index];

        if (item->serial == q->urgent[q->urgent_first].serial) {
            return q->pages_may_follow && item->epoch == q->items[q->head].epoch
                       ? index
                       : QMIG_PENDING_NONE;
        }
        q->urgent_first = (q->urgent_first + 1) % URGENT_MAX;
        q->n_urgent--;
    }
    return QMIG_PENDING_NONE;
}

uint32_t
qmig_pending_peek(QmigPending *q)
{
    uint32_t urgent = q->head != QMIG_PENDING_NONE ? peek_urgent(q) : QMIG_PENDING_NONE;

    return urgent != QMIG_PENDING_NONE ? urgent : q->head;
}

void
qmig_pending_pop(QmigPending *q, uint32_t index)
{
    const QmigPendingItem *item = &q->items[index];

    q->counts.overtook += index != q->head;
    if (item->type == QMIG_PENDING_IS_BYTES) {
        q->pages_may_follow = item->pages_may_follow;
    } else if (item->type == QMIG_PENDING_IS_PAGE) {
        q->last_block = item->block;
    }
    unlink_item(q, index);
}

/* ---- numbers ---------------------------------------------------------------------------- */

uint64_t
qmig_pending_weight(const QmigPending *q)
{
    return q->weight;
}

uint32_t
qmig_pending_count(const QmigPending *q)
{
    return q->count;
}

void
qmig_pending_count_up(const QmigPending *q, QmigPendingCounts *counts)
{
    *counts = q->counts;
}
