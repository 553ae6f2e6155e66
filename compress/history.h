/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One long zstd frame in pieces: each is compressed with what went before as its context, so that
 * what comes again within QMIG_HISTORY_BYTES costs next to nothing. Pieces have to be taken out in
 * the order they were made, every one. No I/O.
 *
 * Threads: each coder belongs to one thread at a time.
 */
#ifndef QMIG_COMPRESS_HISTORY_H
#define QMIG_COMPRESS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

/* How far back it looks; what either side keeps, bytes. Some 8 MiB more on the side that compresses. */
#define QMIG_HISTORY_LOG 26
#define QMIG_HISTORY_BYTES ((size_t)1 << QMIG_HISTORY_LOG)

typedef struct QmigHistoryIn QmigHistoryIn;
typedef struct QmigHistoryOut QmigHistoryOut;

/* @level: of zstd, 1 to 19. */
QmigHistoryIn *qmig_history_in_new(int level);
void qmig_history_in_free(QmigHistoryIn *h);

/* Bytes that a piece of @len bytes needs at most. */
size_t qmig_history_bound(size_t len);

/* Another level from the next piece on, which begins without context. */
void qmig_history_in_set_level(QmigHistoryIn *h, int level);

/* The next piece. @cap: at least qmig_history_bound(len). Return: bytes written to @dst. */
size_t qmig_history_put(QmigHistoryIn *h, void *dst, size_t cap, const void *src,
                        size_t len);

QmigHistoryOut *qmig_history_out_new(void);
void qmig_history_out_free(QmigHistoryOut *h);

/**
 * qmig_history_take() - the next piece, as it was
 *
 * Return: @src was a piece of exactly @len bytes, which are in @dst now. On false @dst holds
 * anything, nothing beyond @len was written, and no later piece can be taken either.
 */
bool qmig_history_take(QmigHistoryOut *h, void *dst, size_t len, const void *src,
                       size_t src_len) __attribute__((warn_unused_result));

#endif
