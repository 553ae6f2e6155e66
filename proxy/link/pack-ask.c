/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What other threads ask of a pack, and tell it. */
#include "proxy/link/pack-priv.h"

#include <string.h>

enum { REQUEST_PAGES_MAX = 64 /* of one request */ };

void
qmig_pack_set_effort(QmigPack *p, QmigPackEffort effort)
{
    g_atomic_int_set(&p->effort, (gint)effort);
}

static const struct qmig_block *
find_block(const QmigPack *p, const char *name)
{
    for (guint i = 0; i < p->blocks->len; i++) {
        const struct qmig_block *block = g_ptr_array_index(p->blocks, i);

        if (strcmp(block->name, name) == 0) {
            return block;
        }
    }
    return NULL;
}

void
qmig_pack_request(QmigPack *p, const char *block, uint64_t offset, uint64_t length)
{
    const struct qmig_block *b;

    pthread_mutex_lock(&p->lock);
    if (block != NULL && block[0] != '\0') {
        p->requested = find_block(p, block);
    }
    b = p->requested;
    if (b != NULL && offset < b->used_length) {
        uint64_t n = MIN((length + b->page_size - 1) / b->page_size, REQUEST_PAGES_MAX);

        for (uint64_t i = 0; i < n; i++) {
            qmig_pending_request(p->pending, b, offset + i * b->page_size);
        }
    }
    pthread_mutex_unlock(&p->lock);
}

bool
qmig_pack_is_switching(QmigPack *p)
{
    return g_atomic_int_get(&p->switching) != 0;
}

void
qmig_pack_hold(QmigPack *p, uint64_t bytes)
{
    pthread_mutex_lock(&p->lock);
    p->hold_max = CLAMP(bytes, (uint64_t)PENDING_MIN, p->pending_max);
    pthread_mutex_unlock(&p->lock);
}

bool
qmig_pack_is_postcopy(QmigPack *p)
{
    pthread_mutex_lock(&p->lock);
    bool postcopy = p->postcopy;
    pthread_mutex_unlock(&p->lock);
    return postcopy;
}

uint64_t
qmig_pack_pending(QmigPack *p)
{
    QmigPendingCounts counts;
    uint64_t n;

    pthread_mutex_lock(&p->lock);
    qmig_pending_count_up(p->pending, &counts);
    n = p->bytes_in - p->bytes_done - counts.replaced_bytes;
    pthread_mutex_unlock(&p->lock);
    return n;
}

void
qmig_pack_count(QmigPack *p, QmigPackCounts *counts)
{
    pthread_mutex_lock(&p->lock);
    *counts = p->counts;
    counts->bytes_in = p->bytes_in;
    pthread_mutex_unlock(&p->lock);
}
