/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of a pack: pack.c has its two threads, pack-ask.c what others ask of it. */
#ifndef QMIG_PROXY_LINK_PACK_PRIV_H
#define QMIG_PROXY_LINK_PACK_PRIV_H

#include "proxy/link/pack.h"
#include "proxy/link/pending.h"
#include "proxy/link/press.h"
#include "stream/decoder.h"
#include "stream/encoder.h"

#include <pthread.h>

enum {
    PENDING_MIN = 1 << 20,
    GROUP = 64,         /* items that change hands at once */
    BATCH_ITEMS = 1024, /* what a batch stands for at most */
};

struct QmigPack {
    uint64_t pending_max;
    uint64_t hold_max; /* at present; guarded by lock */
    gint effort;       /* atomic; QmigPackEffort */
    gint switching;    /* atomic */

    /* The putter's. */
    QmigDecoder *decoder;
    QmigEncoder *encoder; /* for what is between the pages */
    bool raw;             /* the decoder is out of work */
    bool in_ram;          /* inside a RAM section, where pages may stand */
    bool ram_section;     /* the section that goes on is RAM */
    bool may_overtake;    /* ADVISE: no page of any block is larger than the target's */
    const struct qmig_block *last_block; /* of the page put last */
    GByteArray *unread; /* put, and in no event yet: a part of a record */
    uint64_t total;     /* bytes put */
    uint32_t fresh[GROUP];
    size_t n_fresh, fresh_bytes;
    struct {
        uint32_t item[GROUP];
        size_t n;
    } stock[2];           /* unused items without and with a slot */
    uint32_t chunk;       /* being read into; NONE */
    size_t chunk_used;    /* bytes */
    uint8_t *copied_from; /* owned (nullable): to be read into when there is no chunk */

    /* The taker's. */
    QmigPress *press;
    uint32_t taken[BATCH_ITEMS];
    size_t n_taken;
    size_t ops_bound; /* bytes of ops they become at most */

    pthread_mutex_t lock; /* guards what follows */
    QmigPending *pending;
    GPtrArray *blocks; /* const struct qmig_block, borrowed from the decoder */
    const struct qmig_block *requested; /* block of the last request */
    bool finished, stopped, postcopy;
    bool taker_waits, putter_waits;
    uint64_t bytes_in, bytes_done; /* put; in batches */
    QmigPackCounts counts;         /* copy of the taker's */
    int data_fd, room_fd;          /* eventfd: something came for one who waits */
};

#endif
