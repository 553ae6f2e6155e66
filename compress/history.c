/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "compress/history.h"

#include <glib.h>
#include <zstd.h>

struct QmigHistoryIn {
    ZSTD_CCtx *zstd;
    int next_level; /* 0: as before */
};

struct QmigHistoryOut {
    ZSTD_DCtx *zstd;
    bool failed;
};

/* Of frame headers and of empty blocks that end and flush; each block has a head of 3 bytes. */
enum { PIECE_MORE = 64, BLOCK = 64 << 10 };

static void
set(ZSTD_CCtx *zstd, ZSTD_cParameter parameter, int value)
{
    size_t result = ZSTD_CCtx_setParameter(zstd, parameter, value);

    g_assert(!ZSTD_isError(result));
}

QmigHistoryIn *
qmig_history_in_new(int level)
{
    QmigHistoryIn *h = g_new0(QmigHistoryIn, 1);

    h->zstd = ZSTD_createCCtx();
    g_assert(h->zstd != NULL); /* out of memory, as g_malloc() treats it */
    set(h->zstd, ZSTD_c_windowLog, QMIG_HISTORY_LOG);
    set(h->zstd, ZSTD_c_enableLongDistanceMatching, 1);
    set(h->zstd, ZSTD_c_compressionLevel, level);
    return h;
}

void
qmig_history_in_free(QmigHistoryIn *h)
{
    if (h != NULL) {
        ZSTD_freeCCtx(h->zstd);
        g_free(h);
    }
}

size_t
qmig_history_bound(size_t len)
{
    return ZSTD_compressBound(len) + len / BLOCK * 3 + PIECE_MORE;
}

void
qmig_history_in_set_level(QmigHistoryIn *h, int level)
{
    h->next_level = level;
}

static void
press(QmigHistoryIn *h, ZSTD_outBuffer *out, ZSTD_inBuffer *in, ZSTD_EndDirective end)
{
    size_t left = ZSTD_compressStream2(h->zstd, out, in, end);

    /* Only for want of memory or room, and there is both. */
    g_assert(left == 0 && in->pos == in->size);
}

size_t
qmig_history_put(QmigHistoryIn *h, void *dst, size_t cap, const void *src, size_t len)
{
    ZSTD_inBuffer in = { src, len, 0 }, none = { NULL, 0, 0 };
    ZSTD_outBuffer out = { dst, cap, 0 };

    if (h->next_level != 0) {
        press(h, &out, &none, ZSTD_e_end);
        set(h->zstd, ZSTD_c_compressionLevel, h->next_level);
        h->next_level = 0;
    }
    press(h, &out, &in, ZSTD_e_flush);
    return out.pos;
}

QmigHistoryOut *
qmig_history_out_new(void)
{
    QmigHistoryOut *h = g_new0(QmigHistoryOut, 1);

    h->zstd = ZSTD_createDCtx();
    g_assert(h->zstd != NULL);
    size_t result = ZSTD_DCtx_setParameter(h->zstd, ZSTD_d_windowLogMax,
                                           QMIG_HISTORY_LOG);
    g_assert(!ZSTD_isError(result));
    return h;
}

void
qmig_history_out_free(QmigHistoryOut *h)
{
    if (h != NULL) {
        ZSTD_freeDCtx(h->zstd);
        g_free(h);
    }
}

bool
qmig_history_take(QmigHistoryOut *h, void *dst, size_t len, const void *src,
                  size_t src_len)
{
    ZSTD_inBuffer in = { src, src_len, 0 };
    ZSTD_outBuffer out = { dst, len, 0 };

    while (!h->failed && in.pos < in.size) {
        size_t from = in.pos, to = out.pos;
        size_t result = ZSTD_decompressStream(h->zstd, &out, &in);

        h->failed = ZSTD_isError(result) || (in.pos == from && out.pos == to);
    }
    h->failed = h->failed || out.pos < len;
    return !h->failed;
}
