/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pages both ends of the tunnel hold. Each end does the same operations in the same order;
 * where a page goes and which gives way depends on nothing else, so slot numbers mean the same
 * at both ends.
 *
 * The pages of all blocks are numbered through; page L may lie in any of the WAYS slots of set
 * L mod sets. So a guest not larger than the cache has all its pages in it. In a full set the
 * slot gives way that was not used again since the set's hand went by: a first pass over all
 * memory does not drive out what is written again and again.
 */
#ifndef QMIG_PROXY_LINK_PAGE_CACHE_H
#define QMIG_PROXY_LINK_PAGE_CACHE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define QMIG_PAGE_CACHE_NONE UINT32_MAX

typedef struct QmigPageCache QmigPageCache;

/**
 * qmig_page_cache_new() - an empty cache
 * @bytes: of pages; memory is taken as they come. With less than some pages, or 0, nothing is
 *         ever found nor kept
 *
 * Errors: IO: no address space.
 */
QmigPageCache *qmig_page_cache_new(uint64_t bytes,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_page_cache_free(QmigPageCache *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPageCache, qmig_page_cache_free)

/* The next block, 0, 1, …, of @length bytes: at most QMIG_LIMIT_RAM_BLOCKS; all have one page
 * size. One that is too large is not cached. Return: false
 * when it is one too many, or of another size. */
bool qmig_page_cache_add_block(QmigPageCache *c, uint32_t page_size,
                               uint64_t length) G_GNUC_WARN_UNUSED_RESULT;

/* The slot of a page, or NONE. @page: of a block that was added. Changes nothing. */
uint32_t qmig_page_cache_find(const QmigPageCache *c, uint32_t block, uint64_t page);

/* The slot was used again: it stays longer. */
void qmig_page_cache_touch(QmigPageCache *c, uint32_t slot);

/* A slot for a page that is not here; its content is for the caller to write. NONE: cannot be
 * cached. */
uint32_t qmig_page_cache_insert(QmigPageCache *c, uint32_t block, uint64_t page);

/* Does the slot exist and hold a page? */
bool qmig_page_cache_holds(const QmigPageCache *c, uint32_t slot);

/* The content of a slot that is held: page_size bytes. */
uint8_t *qmig_page_cache_data(const QmigPageCache *c, uint32_t slot);

/* Room, pages; 0 before the first block. */
uint32_t qmig_page_cache_slots(const QmigPageCache *c);

/* Pages that had to give way. */
uint64_t qmig_page_cache_evicted(const QmigPageCache *c);

/* ---- near side only: which slot may have a content ------------------------------------- */

typedef struct QmigPageIndex QmigPageIndex;

enum { QMIG_PAGE_INDEX_WAYS = 4 };

/* For @slots slots. Errors: IO: no address space. */
QmigPageIndex *qmig_page_index_new(uint32_t slots,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_page_index_free(QmigPageIndex *x);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPageIndex, qmig_page_index_free)

/* Slots that once had a content of this hash; what they have now is to be compared. */
unsigned qmig_page_index_find(const QmigPageIndex *x, uint64_t hash,
                              uint32_t slots[static QMIG_PAGE_INDEX_WAYS]);
void qmig_page_index_put(QmigPageIndex *x, uint64_t hash, uint32_t slot);

#endif
