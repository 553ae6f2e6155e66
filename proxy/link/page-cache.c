/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slot = way * sets + set, so that neighbours in the guest are neighbours here and memory is
 * taken in large pieces; the tags of a set lie together, 32 bytes. Nothing is touched before it
 * is needed: a large cache for a small guest costs address space only.
 */
#include "proxy/link/page-cache.h"

#include "stream/bounds.h"
#include "util/error.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { WAYS = 8 };

/* Of all blocks that are cached: 64 PiB of 4 KiB pages. */
#define PAGES_MAX (UINT64_C(1) << 44)
#define NOT_CACHED UINT64_MAX

/* A tag: 0 nothing, else 1 + L / sets, and HOT. */
#define HOT (UINT32_C(1) << 31)

struct QmigPageCache {
    uint64_t bytes; /* of pages */
    uint32_t page_size;
    uint32_t n_sets; /* 0: nothing is kept */
    uint32_t n_slots;
    uint8_t *pages; /* mapped; n_slots of page_size */
    uint32_t *tags; /* mapped; by set and way */
    uint8_t *hands; /* mapped; by set */
    uint64_t evicted;
    uint64_t n_pages; /* of all blocks */
    uint32_t n_blocks;
    uint64_t first[QMIG_LIMIT_RAM_BLOCKS]; /* number of each block's first page */
};

struct QmigPageIndex {
    uint64_t mask; /* buckets - 1 */
    struct bucket {
        struct {
            uint32_t tag; /* of the hash; 0: free */
            uint32_t slot;
        } way[QMIG_PAGE_INDEX_WAYS];
    } * buckets; /* mapped */
};

static void *
map(uint64_t bytes, GError **error)
{
    void *p = bytes <= SIZE_MAX ? mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                : MAP_FAILED;

    if (p == MAP_FAILED) {
        qmig_set_error_errno(error, errno,
                             "page cache: %" G_GUINT64_FORMAT " bytes of address space",
                             bytes);
        return NULL;
    }
    return p;
}

static void
unmap(void *p, uint64_t bytes)
{
    if (p != NULL) {
        munmap(p, (size_t)bytes);
    }
}

/* Sets there may be: pages are not known to be larger than the smallest. */
static uint64_t
max_sets(uint64_t bytes)
{
    return MIN((bytes >> QMIG_LIMIT_PAGE_BITS_MIN) / WAYS, UINT32_MAX / WAYS);
}

QmigPageCache *
qmig_page_cache_new(uint64_t bytes, GError **error)
{
    g_autoptr(QmigPageCache) c = g_new0(QmigPageCache, 1);
    uint64_t sets = max_sets(bytes);

    if (sets > 0) {
        c->bytes = bytes;
        c->pages = map(bytes, error);
        c->tags = c->pages != NULL ? map(sets * WAYS * sizeof *c->tags, error) : NULL;
        c->hands = c->tags != NULL ? map(sets, error) : NULL;
        if (c->hands == NULL) {
            return NULL;
        }
        /* Most of it will be in use: few large faults are cheaper than many small ones. */
        (void)madvise(c->pages, (size_t)bytes, MADV_HUGEPAGE);
    }
    return g_steal_pointer(&c);
}

void
qmig_page_cache_free(QmigPageCache *c)
{
    if (c != NULL) {
        unmap(c->pages, c->bytes);
        unmap(c->tags, max_sets(c->bytes) * WAYS * sizeof *c->tags);
        unmap(c->hands, max_sets(c->bytes));
        g_free(c);
    }
}

bool
qmig_page_cache_add_block(QmigPageCache *c, uint32_t page_size, uint64_t length)
{
    uint64_t n_pages = length / page_size + (length % page_size != 0);

    if (c->n_blocks == QMIG_LIMIT_RAM_BLOCKS ||
        (c->page_size != 0 && c->page_size != page_size)) {
        return false;
    }
    if (c->page_size == 0) {
        c->page_size = page_size;
        c->n_sets = (uint32_t)MIN(c->bytes / page_size / WAYS, max_sets(c->bytes));
        c->n_slots = c->n_sets * WAYS;
    }
    if (n_pages > PAGES_MAX - c->n_pages) {
        c->first[c->n_blocks++] = NOT_CACHED;
        return true;
    }
    c->first[c->n_blocks++] = c->n_pages;
    c->n_pages += n_pages;
    return true;
}

/* The page's set, and the tag it has there; 0: cannot be cached. */
static uint32_t
tag_of(const QmigPageCache *c, uint32_t block, uint64_t page, uint32_t *set)
{
    uint64_t number, tag;

    if (c->n_sets == 0 || c->first[block] == NOT_CACHED) {
        return 0;
    }
    number = c->first[block] + page;
    tag = number / c->n_sets + 1;
    *set = (uint32_t)(number % c->n_sets);
    return tag < HOT ? (uint32_t)tag : 0;
}

uint32_t
qmig_page_cache_find(const QmigPageCache *c, uint32_t block, uint64_t page)
{
    uint32_t set = 0, tag = tag_of(c, block, page, &set);
    const uint32_t *tags = c->tags + (size_t)set * WAYS;

    for (uint32_t way = 0; tag != 0 && way < WAYS; way++) {
        if ((tags[way] & ~HOT) == tag) {
            return way * c->n_sets + set;
        }
    }
    return QMIG_PAGE_CACHE_NONE;
}

static uint32_t *
tag_at(const QmigPageCache *c, uint32_t slot)
{
    return &c->tags[(size_t)(slot % c->n_sets) * WAYS + slot / c->n_sets];
}

void
qmig_page_cache_touch(QmigPageCache *c, uint32_t slot)
{
    *tag_at(c, slot) |= HOT;
}

uint32_t
qmig_page_cache_insert(QmigPageCache *c, uint32_t block, uint64_t page)
{
    uint32_t set = 0, tag = tag_of(c, block, page, &set);
    uint32_t *tags = c->tags + (size_t)set * WAYS;

    if (tag == 0) {
        return QMIG_PAGE_CACHE_NONE;
    }
    for (;;) {
        uint8_t way = c->hands[set];

        c->hands[set] = (way + 1) % WAYS;
        if (tags[way] & HOT) {
            tags[way] &= ~HOT;
            continue;
        }
        c->evicted += tags[way] != 0;
        tags[way] = tag;
        return way * c->n_sets + set;
    }
}

bool
qmig_page_cache_holds(const QmigPageCache *c, uint32_t slot)
{
    return slot < c->n_slots && *tag_at(c, slot) != 0;
}

uint8_t *
qmig_page_cache_data(const QmigPageCache *c, uint32_t slot)
{
    return c->pages + (size_t)slot * c->page_size;
}

uint32_t
qmig_page_cache_slots(const QmigPageCache *c)
{
    return c->n_slots;
}

uint64_t
qmig_page_cache_evicted(const QmigPageCache *c)
{
    return c->evicted;
}

/* ---- contents ------------------------------------------------------------------------- */

QmigPageIndex *
qmig_page_index_new(uint32_t slots, GError **error)
{
    g_autoptr(QmigPageIndex) x = g_new0(QmigPageIndex, 1);
    uint64_t n = 1;

    /* Twice the room that all slots need. */
    while (n * QMIG_PAGE_INDEX_WAYS < 2 * (uint64_t)slots) {
        n *= 2;
    }
    x->mask = n - 1;
    x->buckets = map(n * sizeof *x->buckets, error);
    return x->buckets != NULL ? g_steal_pointer(&x) : NULL;
}

void
qmig_page_index_free(QmigPageIndex *x)
{
    if (x != NULL) {
        unmap(x->buckets, (x->mask + 1) * sizeof *x->buckets);
        g_free(x);
    }
}

static uint32_t
content_tag(uint64_t hash)
{
    uint32_t tag = (uint32_t)(hash >> 32);

    return tag != 0 ? tag : 1;
}

unsigned
qmig_page_index_find(const QmigPageIndex *x, uint64_t hash,
                     uint32_t slots[static QMIG_PAGE_INDEX_WAYS])
{
    const struct bucket *b = &x->buckets[hash & x->mask];
    uint32_t tag = content_tag(hash);
    unsigned n = 0;

    for (int i = 0; i < QMIG_PAGE_INDEX_WAYS; i++) {
        if (b->way[i].tag == tag) {
            slots[n++] = b->way[i].slot;
        }
    }
    return n;
}

void
qmig_page_index_put(QmigPageIndex *x, uint64_t hash, uint32_t slot)
{
    struct bucket *b = &x->buckets[hash & x->mask];
    uint32_t tag = content_tag(hash);
    int last = 0;

    /* In the place of the same hash, which has become another content, or of the oldest. */
    while (last < QMIG_PAGE_INDEX_WAYS - 1 && b->way[last].tag != tag &&
           b->way[last].tag != 0) {
        last++;
    }
    memmove(&b->way[1], &b->way[0], (size_t)last * sizeof b->way[0]);
    b->way[0].tag = tag;
    b->way[0].slot = slot;
}
