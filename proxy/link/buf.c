/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Large buffers are kept for the next one: memory fresh from the kernel costs a page fault for every
 * 4 KiB, more than all that is done with the bytes.
 */
#include "proxy/link/buf.h"

#include "proxy/link/frame.h"

#include <pthread.h>

enum {
    /* What is smaller comes from malloc(), which keeps such pieces itself. */
    LARGE = 32 << 10,
    /* Buffers kept; those of 512 KiB that were once in flight. */
    KEPT_MAX = 96,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static QmigBuf *kept[KEPT_MAX];
static unsigned n_kept;

QmigBuf *
qmig_buf_new(uint32_t size)
{
    QmigBuf *buf = NULL;

    g_assert(size <= QMIG_FRAME_PAYLOAD_MAX);
    if (size >= LARGE) {
        pthread_mutex_lock(&lock);
        buf = n_kept > 0 ? kept[--n_kept] : NULL;
        pthread_mutex_unlock(&lock);
        size = QMIG_FRAME_PAYLOAD_MAX;
    }
    if (buf == NULL) {
        buf = g_malloc(sizeof *buf + size);
    }
    buf->refs = 1;
    buf->len = 0;
    buf->size = size;
    return buf;
}

void
qmig_buf_unref(QmigBuf *buf)
{
    if (buf == NULL || !g_atomic_int_dec_and_test(&buf->refs)) {
        return;
    }
    if (buf->size == QMIG_FRAME_PAYLOAD_MAX) {
        pthread_mutex_lock(&lock);
        if (n_kept < KEPT_MAX) {
            kept[n_kept++] = g_steal_pointer(&buf);
        }
        pthread_mutex_unlock(&lock);
    }
    g_free(buf);
}
