/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A migration stream -> batches: the near half of what makes its bytes few. No sockets, no threads
 * of its own: one thread puts what QEMU writes, another takes batches for the tunnel.
 *
 *     put -> decoder -> pending ----> take: zero? delta? seen before? -> batch (proxy/link/batch.h)
 *
 * What is not understood passes as bytes, at once and untouched. Everything stays in the order it
 * came in, but a page that comes again before it left is dropped from its old place; and in
 * post-copy, a page that the destination asked for overtakes other pages.
 */
#ifndef QMIG_PROXY_LINK_PACK_H
#define QMIG_PROXY_LINK_PACK_H

#include "proxy/link/batch.h"
#include "util/cancel.h"

#include <sys/types.h>

typedef struct QmigPack QmigPack;

typedef struct {
    uint64_t cache_size;  /* bytes of pages both sides keep; 0: no delta, no references */
    uint64_t pending_max; /* bytes that may wait; 0: 32 MiB; at least 1 MiB */
} QmigPackConfig;

typedef enum {
    QMIG_PACK_FAST, /* pages as they are, but empty ones: the link is faster than we are */
    QMIG_PACK_MIDDLE, /* pages are kept when they come again: memory for those alone */
    QMIG_PACK_SMALL,  /* as few bytes as can be; the default */
} QmigPackEffort;

/* The least room for a batch, bytes. */
enum { QMIG_PACK_BATCH_MIN = 68 << 10 };

/* Errors: IO: no address space for the cache. */
QmigPack *qmig_pack_new(const QmigPackConfig *config,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_pack_free(QmigPack *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPack, qmig_pack_free)

/**
 * qmig_pack_buffer() - memory to read the next bytes into
 * @size: (out) bytes of it, at least 64 KiB
 *
 * Optional: pages that were read here and put from here wait here, and are not copied. Good until
 * the next call or the next put, which may put the beginning of it only.
 * Threads: the putting one.
 */
uint8_t *qmig_pack_buffer(QmigPack *p, size_t *size);

/**
 * qmig_pack_put() - the next bytes from QEMU
 *
 * They can all be taken when it returns, but for a record that is not whole. Blocks while
 * pending_max is reached (in post-copy: 128 KiB), until batches are taken.
 * Errors: CANCELLED; IO (memory); UNSUPPORTED: the rest of a post-copy stream is not understood,
 *         and builds on the order its pages had.
 */
bool qmig_pack_put(QmigPack *p, const uint8_t *data, size_t len, const QmigCancel *cancel,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Nothing is taken any more: who waits for room, or will, gets CANCELLED. Threads: any. */
void qmig_pack_stop(QmigPack *p);

/* The end of the stream: what is left can be taken, then take returns 0. By the putting thread. */
void qmig_pack_finish(QmigPack *p);

/**
 * qmig_pack_take() - wait until there is something, and form one batch of what is there
 * @size: of @buf; at least QMIG_PACK_BATCH_MIN, at most QMIG_BATCH_MAX of it are used
 *
 * Some 64 pages as they are, more when they become small; in post-copy 16.
 * Return: bytes; 0 at the end; -1 with @error: CANCELLED, IO (memory).
 */
ssize_t qmig_pack_take(QmigPack *p, uint8_t *buf, size_t size, const QmigCancel *cancel,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* From the next batch on. Threads: any. */
void qmig_pack_set_effort(QmigPack *p, QmigPackEffort effort);

/**
 * qmig_pack_request() - the destination wants these pages first (REQ_PAGES on the return path)
 * @block:  name; (nullable): the block of the last request
 * @offset, @length: in it, bytes
 *
 * Threads: any. Without effect where it must not have one: before post-copy, and where the
 * host's pages are larger than the target's.
 */
void qmig_pack_request(QmigPack *p, const char *block, uint64_t offset, uint64_t length);

/* The guest changes sides: the last pass over memory, or post-copy, has begun. Threads: any. */
bool qmig_pack_is_switching(QmigPack *p);

/* How many bytes may wait from now on: within 1 MiB and pending_max. Threads: any. */
void qmig_pack_hold(QmigPack *p, uint64_t bytes);

/* In post-copy. Threads: any. */
bool qmig_pack_is_postcopy(QmigPack *p);

/* Bytes put and not in a batch yet. Threads: any. */
uint64_t qmig_pack_pending(QmigPack *p);

typedef struct {
    uint64_t bytes_in;  /* put */
    uint64_t bytes_out; /* of batches */
    uint64_t batches;
    struct {
        uint64_t n;          /* ops */
        uint64_t in;         /* bytes of the stream they stand for */
        uint64_t out;        /* bytes of them in batches, payload included */
    } op[QMIG_BATCH_CODES];  /* by QmigBatchCode */
    uint64_t replaced;       /* pages that were put again before they left */
    uint64_t replaced_bytes; /* of the stream */
    uint64_t overtook;       /* pages that were asked for and left before others */
    uint64_t evicted;        /* pages for which the cache had no room any more */
    uint32_t cache_pages;    /* room of the cache; 0 before RAM */
} QmigPackCounts;

/* Threads: any. */
void qmig_pack_count(QmigPack *p, QmigPackCounts *counts);

#endif
