/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What waits to be packed: pages and the bytes between them, in the order of the stream.
 *
 *     put:   get -> (fill) -> append  ---->  queue  ---->  pop -> (pack) -> release  :take
 *
 * A page that comes again takes the place of its older version, which goes. Between the two there
 * may only be pages and the frames of RAM sections: everything else is a barrier, and begins a
 * new epoch. In post-copy nothing is replaced; there a page that was asked for is popped first,
 * within its epoch and only where a page may stand.
 *
 * Threads: none of its own, no locks: pack.c holds its lock around all calls.
 */
#ifndef QMIG_PROXY_LINK_PENDING_H
#define QMIG_PROXY_LINK_PENDING_H

#include "stream/qmig-event.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    /* Things that wait, whatever they weigh: zero pages have no weight. */
    QMIG_PENDING_ITEMS = 16384,
    /* Things got, and not appended yet, or popped and not released yet. */
    QMIG_PENDING_SPARE = 2048,
    /* What is read at once, bytes. */
    QMIG_PENDING_CHUNK = 256 << 10,
};

#define QMIG_PENDING_NONE UINT32_MAX

typedef enum {
    QMIG_PENDING_IS_BYTES,
    QMIG_PENDING_IS_PAGE,
    QMIG_PENDING_IS_BLOCK, /* a block is announced */
} QmigPendingType;

typedef struct {
    uint8_t type;          /* QmigPendingType */
    bool barrier;          /* bytes: no page passes them */
    bool pages_may_follow; /* bytes: behind them is the inside of a RAM section */
    bool urgent;           /* page: was asked for */
    bool named;            /* page: its record named the block */
    uint8_t fill;          /* page of kind ZERO */
    uint16_t kind;         /* page: enum qmig_page_kind */
    uint32_t length;       /* of data, bytes */
    uint32_t wire_size;    /* bytes of the stream this stands for */
    const struct qmig_block *block; /* page, block; borrowed */
    uint64_t offset;                /* page: in its block, bytes */
    uint8_t *data;                  /* (nullable) in a slot, in a chunk, or allocated */
    uint32_t
        chunk; /* NONE, or the chunk the data lies in: to be set before it is appended */
    /* Of pending.c alone. */
    uint32_t slot;       /* NONE: data is allocated */
    uint32_t prev, next; /* in the queue */
    uint32_t chain;      /* the next one with the same hash */
    uint64_t epoch;
    uint64_t serial; /* which use of this item it is; 0: not queued */
} QmigPendingItem;

typedef struct QmigPending QmigPending;

/* @max_bytes: what the pages and bytes that wait may weigh; for the slots of pages. */
QmigPending *qmig_pending_new(uint64_t max_bytes);
void qmig_pending_free(QmigPending *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPending, qmig_pending_free)

/* Pages will have this size: once, before the first slot is wanted. Errors: IO. */
bool qmig_pending_set_page_size(QmigPending *q, uint32_t page_size, GError **error);
/* Bytes of a slot; 0 before the size is known. */
uint32_t qmig_pending_slot_size(const QmigPending *q);

/* An item's content is its holder's alone until it is appended, and again once it is popped. */
QmigPendingItem *qmig_pending_item(const QmigPending *q, uint32_t index);

/* An unused item; with @slot its data is a slot. There always is one within the SPARE. */
uint32_t qmig_pending_get(QmigPending *q, bool slot);
/* @count: items that are done with, or were never appended. */
void qmig_pending_release(QmigPending *q, const uint32_t *items, size_t count);

/*
 * Memory to read the stream into: pages can wait where they were read. Return: a chunk; NONE when
 * all have pages in them. It goes back when it was dropped and none of its pages waits any more.
 */
uint32_t qmig_pending_get_chunk(QmigPending *q);
uint8_t *qmig_pending_chunk(const QmigPending *q, uint32_t chunk);
void qmig_pending_drop_chunk(QmigPending *q, uint32_t chunk);

/* Put an item at the end. Return: the older version of the page was dropped. */
bool qmig_pending_append(QmigPending *q, uint32_t index);

/* Pages that were asked for overtake, nothing is replaced any more. */
void qmig_pending_set_postcopy(QmigPending *q, bool overtake);
/* A page was asked for: it is popped next when it waits, else when it comes. */
void qmig_pending_request(QmigPending *q, const struct qmig_block *block,
                          uint64_t offset);
/* No page overtakes any more. Return: the block of the page that leaves, or has left, last; NULL:
 * there was no page. */
const struct qmig_block *qmig_pending_settle(QmigPending *q);

/* The item that leaves next, without taking it; NONE: empty. */
uint32_t qmig_pending_peek(QmigPending *q);
/* Take that item out of the queue. It weighs on until it is released. */
void qmig_pending_pop(QmigPending *q, uint32_t index);

/* What waits or is being packed: bytes of memory, number of items. */
uint64_t qmig_pending_weight(const QmigPending *q);
uint32_t qmig_pending_count(const QmigPending *q);

typedef struct {
    uint64_t replaced;       /* pages dropped for their next version */
    uint64_t replaced_bytes; /* of the stream */
    uint64_t overtook;       /* pages popped before others that came first */
} QmigPendingCounts;
void qmig_pending_count_up(const QmigPending *q, QmigPendingCounts *counts);

#endif
