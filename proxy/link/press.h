/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pending pages and bytes -> one batch: which op each becomes. Used by pack.c's taker alone. */
#ifndef QMIG_PROXY_LINK_PRESS_H
#define QMIG_PROXY_LINK_PRESS_H

#include "proxy/link/pack.h"
#include "proxy/link/pending.h"

typedef struct QmigPress QmigPress;

QmigPress *qmig_press_new(uint64_t cache_size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_press_free(QmigPress *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPress, qmig_press_free)

/* Bytes that an item adds to a batch at most. */
size_t qmig_press_bound(const QmigPendingItem *item);

/* Bytes and ops of the batch so far. */
size_t qmig_press_size(const QmigPress *s);
unsigned qmig_press_ops(const QmigPress *s);

/* Add to the batch; the item's data is borrowed until qmig_press_end(). Errors: IO. */
bool qmig_press_add(QmigPress *s, const QmigPendingItem *item, QmigPackEffort effort,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Write the batch, qmig_press_size() bytes, and begin the next. */
void qmig_press_end(QmigPress *s, uint8_t *buf);

/* What was done so far: op, evicted, cache_pages, batches, bytes_out. */
const QmigPackCounts *qmig_press_counts(QmigPress *s);

#endif
