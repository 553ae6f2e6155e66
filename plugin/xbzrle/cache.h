/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pages a destination has, as far as there is room: one array of pages, and per RAM block
 * which of them holds which page. When it is full, a page gives way that was not sent again since
 * the hand went by (the clock algorithm): the first pass over all memory must not drive out what
 * is written again and again.
 */
#ifndef QMIG_XBZRLE_CACHE_H
#define QMIG_XBZRLE_CACHE_H

#include "qmig-event.h"

#include <stdint.h>

struct cache;

/* @bytes: room for pages; taken as they come. NULL: no memory. */
struct cache *cache_new(uint64_t bytes, uint32_t page_size);
void cache_free(struct cache *c);

/* The page, or NULL: it is not here. */
uint8_t *cache_find(struct cache *c, const struct qmig_block *block, uint64_t offset);

/*
 * Room for a page that is not here; its content is to be written by the caller.
 * Return: NULL when nothing can give way, or without memory.
 */
uint8_t *cache_insert(struct cache *c, const struct qmig_block *block, uint64_t offset);

/* Was it found or inserted since cache_begin_batch()? */
int cache_is_in_batch(struct cache *c, const struct qmig_block *block, uint64_t offset);

/* Forget the page, if it is here. */
void cache_remove(struct cache *c, const struct qmig_block *block, uint64_t offset);

/* From here on pages that are found or inserted stay, until the next call. */
void cache_begin_batch(struct cache *c);

struct cache_counts {
    uint64_t pages, room, evicted; /* pages */
};
void cache_count(const struct cache *c, struct cache_counts *counts);

#endif
