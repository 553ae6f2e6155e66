/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A batch: a piece of a migration stream on its way through the tunnel. Without I/O.
 *
 *     batch   := be32 n, be64 check, n bytes of ops, payload   payload: what the ops take, in order
 *     check   := over all pages of DELTA and REF, in order: check * K + XXH3 of the page, from 0
 *     op      := u8 code | flags, arguments
 *     BLOCK   := be16 index, cstr name, be32 page size, be64 used length
 *     BYTES   := uleb n                        payload: n bytes of the stream as they were
 *     PAGE    := place                         payload: the page; goes to the cache
 *     LITERAL := place                         payload: the page; the cache stays as it is
 *     DELTA   := place, uleb n                 payload: n bytes XBZRLE over the page's cached version
 *     REF     := place, uleb slot              the content of a slot of the cache; cached, too
 *     EMPTY   := place                         a page of zeros that travelled as data
 *     ZERO    := place, u8 fill                a page that travelled as its fill byte
 *     XBZRLE  := place, uleb n                 payload: what QEMU's own encoder made of it
 *     ZLIB    := place, uleb n                 likewise
 *     place   := nothing, with NEXT: one page on in the same block
 *              | uleb block, uleb zigzag(page - next)      next: 0 in another block
 *     uleb    := 7 bits a byte, the lowest first, 0x80 on all but the last; at most 64 bits
 *
 * The first place of a batch comes after page -1 of block 0. Both ends keep a cache of pages
 * (proxy/link/page-cache.h) and do the same to it for each op, so that they agree about it.
 */
#ifndef QMIG_PROXY_LINK_BATCH_H
#define QMIG_PROXY_LINK_BATCH_H

#include "util/cursor.h"
#include "util/writer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    /* A batch, bytes: fits a frame. */
    QMIG_BATCH_MAX = 512 << 10,
    QMIG_BATCH_OPS_MAX = 4096,
    /* All ops of a batch, bytes. */
    QMIG_BATCH_OPS_BYTES_MAX = 64 << 10,
    QMIG_BATCH_HEAD = 4 + 8,
    /* The longest op but BLOCK, bytes: code, block, page, length. */
    QMIG_BATCH_OP_MAX = 1 + 3 + 10 + 5,
    QMIG_BATCH_BLOCK_MAX = 1 + 2 + 256 + 4 + 8,
};

typedef enum {
    QMIG_BATCH_BLOCK = 1,
    QMIG_BATCH_BYTES = 2,
    QMIG_BATCH_PAGE = 3,
    QMIG_BATCH_LITERAL = 4,
    QMIG_BATCH_DELTA = 5,
    QMIG_BATCH_REF = 6,
    QMIG_BATCH_EMPTY = 7,
    QMIG_BATCH_ZERO = 8,
    QMIG_BATCH_XBZRLE = 9,
    QMIG_BATCH_ZLIB = 10,
    QMIG_BATCH_CODES, /* one more than the last */
} QmigBatchCode;

typedef struct {
    uint8_t code;         /* QmigBatchCode */
    bool named;           /* pages: the stream named the block in the page's record */
    uint8_t fill;         /* ZERO */
    uint8_t name_length;  /* BLOCK, bytes */
    uint32_t block;       /* BLOCK and pages: index */
    uint32_t length;      /* BYTES, DELTA, XBZRLE, ZLIB: bytes of payload */
    uint32_t slot;        /* REF */
    uint32_t page_size;   /* BLOCK, bytes */
    uint64_t page;        /* number of the page in its block */
    uint64_t used_length; /* BLOCK, bytes */
    char name[256];       /* BLOCK, NUL-terminated */
} QmigBatchOp;

/* Where the last page of the batch lay. */
typedef struct {
    uint32_t block;
    uint64_t next; /* the page after it */
} QmigBatchPlace;

/**
 * qmig_batch_put() - append one op
 * @w:     has room for QMIG_BATCH_OP_MAX (BLOCK: QMIG_BATCH_BLOCK_MAX) bytes
 * @place: all zero at the beginning of a batch
 */
void qmig_batch_put(QmigWriter *w, QmigBatchPlace *place, const QmigBatchOp *op);

/*
 * What was made from a cache is compared: two caches that do not agree, for whatever reason, would
 * else change a guest's memory without a word.
 */
static inline uint64_t
qmig_batch_check(uint64_t check, uint64_t page_hash)
{
    return check * UINT64_C(0x9e3779b97f4a7c15) + page_hash;
}

typedef struct {
    uint64_t check; /* of the pages that will be made */
    QmigCursor ops;
    QmigCursor payload; /* the ops' takers move it on */
    QmigBatchPlace place;
    unsigned n_ops; /* given out */
} QmigBatchReader;

typedef enum {
    QMIG_BATCH_READ_OP,
    QMIG_BATCH_READ_END, /* all was used up */
    QMIG_BATCH_READ_FAILED,
} QmigBatchRead;

/* Borrows @batch. Errors: PROTOCOL, LIMIT. */
bool qmig_batch_open(QmigBatchReader *r, const void *batch, size_t len,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The next op; what it means is for the caller to check. `name` is filled for BLOCK only.
 * Errors: PROTOCOL, LIMIT. */
QmigBatchRead qmig_batch_next(QmigBatchReader *r, QmigBatchOp *op,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
