/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cache.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    /* As the decoder's bound on the block list. */
    BLOCKS_MAX = 4096,
    /* Steps of the hand for one page: with all others in use it is not cached. */
    STEPS_MAX = 64,
};

struct slot {
    uint32_t block;  /* its index */
    uint32_t in_use; /* the slot holds a page */
    uint64_t page;   /* its number in the block */
    uint32_t batch;  /* the last batch it was in */
    uint32_t again;  /* it was found since the hand went by */
};

struct block {
    uint64_t n_pages; /* 0: not seen yet */
    uint32_t *slots;  /* by page: number of the slot + 1; 0: not here */
};

struct cache {
    uint32_t page_size;
    uint32_t n_slots, n_used, hand, batch;
    uint64_t evicted;
    uint8_t *pages;     /* n_slots of them; memory is taken when one is written */
    struct slot *slots; /* likewise */
    struct block *blocks;
};

static void *
map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void
unmap(void *p, size_t bytes)
{
    if (p != NULL) {
        munmap(p, bytes);
    }
}

struct cache *
cache_new(uint64_t bytes, uint32_t page_size)
{
    struct cache *c = calloc(1, sizeof *c);
    uint64_t n = bytes / page_size;

    if (c == NULL) {
        return NULL;
    }
    c->page_size = page_size;
    c->batch = 1;
    c->n_slots = n < 1 ? 1 : n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
    c->pages = map((size_t)c->n_slots * page_size);
    c->slots = map((size_t)c->n_slots * sizeof *c->slots);
    c->blocks = calloc(BLOCKS_MAX, sizeof *c->blocks);
    if (c->pages == NULL || c->slots == NULL || c->blocks == NULL) {
        cache_free(c);
        return NULL;
    }
    return c;
}

void
cache_free(struct cache *c)
{
    if (c == NULL) {
        return;
    }
    for (int i = 0; c->blocks != NULL && i < BLOCKS_MAX; i++) {
        unmap(c->blocks[i].slots, c->blocks[i].n_pages * sizeof *c->blocks[i].slots);
    }
    unmap(c->pages, (size_t)c->n_slots * c->page_size);
    unmap(c->slots, (size_t)c->n_slots * sizeof *c->slots);
    free(c->blocks);
    free(c);
}

/* Where the number of the page's slot stands; NULL: such a page cannot be here. */
static uint32_t *
entry_of(struct cache *c, const struct qmig_block *block, uint64_t offset)
{
    struct block *b = block->index < BLOCKS_MAX ? &c->blocks[block->index] : NULL;
    uint64_t page = offset / c->page_size;

    if (b == NULL) {
        return NULL;
    }
    if (b->slots == NULL) {
        uint64_t n = block->used_length / c->page_size;
        b->slots = n > 0 ? map(n * sizeof *b->slots) : NULL;
        b->n_pages = b->slots != NULL ? n : 0;
    }
    return page < b->n_pages ? &b->slots[page] : NULL;
}

static uint8_t *
page_of(const struct cache *c, uint32_t slot)
{
    return c->pages + (size_t)slot * c->page_size;
}

uint8_t *
cache_find(struct cache *c, const struct qmig_block *block, uint64_t offset)
{
    const uint32_t *entry = entry_of(c, block, offset);

    if (entry == NULL || *entry == 0) {
        return NULL;
    }
    c->slots[*entry - 1].again = 1;
    c->slots[*entry - 1].batch = c->batch;
    return page_of(c, *entry - 1);
}

int
cache_is_in_batch(struct cache *c, const struct qmig_block *block, uint64_t offset)
{
    const uint32_t *entry = entry_of(c, block, offset);

    return entry != NULL && *entry != 0 && c->slots[*entry - 1].batch == c->batch;
}

/* A slot that nobody needs, emptied; n_slots: there is none. */
static uint32_t
make_room(struct cache *c)
{
    if (c->n_used < c->n_slots) {
        return c->n_used++;
    }
    for (int i = 0; i < STEPS_MAX && c->n_slots > 0; i++) {
        uint32_t number = c->hand;
        struct slot *slot = &c->slots[number];

        c->hand = (c->hand + 1) % c->n_slots;
        if (!slot->in_use) {
            return number;
        }
        if (!slot->again && slot->batch != c->batch) {
            c->blocks[slot->block].slots[slot->page] = 0;
            c->evicted++;
            return number;
        }
        slot->again = 0;
    }
    return c->n_slots;
}

uint8_t *
cache_insert(struct cache *c, const struct qmig_block *block, uint64_t offset)
{
    uint32_t *entry = entry_of(c, block, offset);
    uint32_t number = entry != NULL ? make_room(c) : c->n_slots;

    if (number == c->n_slots) {
        return NULL;
    }
    c->slots[number] = (struct slot){ .block = block->index,
                                      .in_use = 1,
                                      .page = offset / c->page_size,
                                      .batch = c->batch };
    *entry = number + 1;
    return page_of(c, number);
}

void
cache_remove(struct cache *c, const struct qmig_block *block, uint64_t offset)
{
    uint32_t *entry = entry_of(c, block, offset);

    if (entry != NULL && *entry != 0) {
        c->slots[*entry - 1].in_use = 0;
        *entry = 0;
    }
}

void
cache_begin_batch(struct cache *c)
{
    c->batch++;
}

void
cache_count(const struct cache *c, struct cache_counts *counts)
{
    counts->room = c->n_slots;
    counts->pages = c->n_used;
    counts->evicted = c->evicted;
}
