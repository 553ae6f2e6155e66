/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The codec table and its three adapters.
 *
 * Making a context costs more than compressing a page with it (zstd: some 100 us against 10),
 * hence the state object. Every adapter resets what it uses before use, not after, so that a
 * failure leaves nothing behind for the next page.
 */
#include "compress/codec.h"

#include <glib.h>
#include <lz4.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

struct QmigCodecState {
    void *lz4;           /* LZ4_sizeofState() bytes, or NULL */
    ZSTD_CCtx *zstd_in;  /* or NULL */
    ZSTD_DCtx *zstd_out; /* or NULL */
    z_stream zlib_in;    /* valid when zlib_level != 0 */
    int zlib_level;
    z_stream zlib_out; /* valid when zlib_out_ready */
    bool zlib_out_ready;
};

QmigCodecState *
qmig_codec_state_new(void)
{
    return g_new0(QmigCodecState, 1);
}

void
qmig_codec_state_free(QmigCodecState *state)
{
    if (state == NULL) {
        return;
    }
    g_free(state->lz4);
    ZSTD_freeCCtx(state->zstd_in);
    ZSTD_freeDCtx(state->zstd_out);
    if (state->zlib_level != 0) {
        deflateEnd(&state->zlib_in);
    }
    if (state->zlib_out_ready) {
        inflateEnd(&state->zlib_out);
    }
    g_free(state);
}

static int
pick_level(const QmigCodec *codec, int level)
{
    return level == 0 ? codec->level_default
                      : CLAMP(level, codec->level_min, codec->level_max);
}

enum { LZ4, ZSTD, ZLIB, N_CODECS };
static const QmigCodec codecs[N_CODECS + 1];

/* ---- lz4 ------------------------------------------------------------------------------ */

static size_t
lz4_bound(size_t len)
{
    return len > QMIG_CODEC_INPUT_MAX ? 0 : (size_t)LZ4_compressBound((int)len);
}

static size_t
lz4_compress(QmigCodecState *state, int level, void *dst, size_t cap, const void *src,
             size_t len)
{
    (void)level; /* one level: what lz4 offers below it is larger and hardly faster */
    if (len > QMIG_CODEC_INPUT_MAX) {
        return 0;
    }
    if (state->lz4 == NULL) {
        state->lz4 = g_malloc((size_t)LZ4_sizeofState());
    }
    int n = LZ4_compress_fast_extState(state->lz4, src, dst, (int)len,
                                       (int)MIN(cap, G_MAXINT), 1);
    return n > 0 ? (size_t)n : 0;
}

static bool
lz4_decompress(QmigCodecState *state, void *dst, size_t len, const void *src,
               size_t src_len)
{
    (void)state;
    if (len > QMIG_CODEC_INPUT_MAX || src_len > G_MAXINT) {
        return false;
    }
    return LZ4_decompress_safe(src, dst, (int)src_len, (int)len) == (int)len;
}

/* ---- zstd ----------------------------------------------------------------------------- */

static size_t
zstd_bound(size_t len)
{
    return len > QMIG_CODEC_INPUT_MAX ? 0 : ZSTD_compressBound(len);
}

static size_t
zstd_compress(QmigCodecState *state, int level, void *dst, size_t cap, const void *src,
              size_t len)
{
    if (len > QMIG_CODEC_INPUT_MAX) {
        return 0;
    }
    if (state->zstd_in == NULL) {
        state->zstd_in = ZSTD_createCCtx();
        g_assert(state->zstd_in != NULL); /* out of memory, as g_malloc() treats it */
    }
    size_t n = ZSTD_compressCCtx(state->zstd_in, dst, cap, src, len,
                                 pick_level(&codecs[ZSTD], level));
    return ZSTD_isError(n) ? 0 : n;
}

static bool
zstd_decompress(QmigCodecState *state, void *dst, size_t len, const void *src,
                size_t src_len)
{
    if (len > QMIG_CODEC_INPUT_MAX) {
        return false;
    }
    if (state->zstd_out == NULL) {
        state->zstd_out = ZSTD_createDCtx();
        g_assert(state->zstd_out != NULL);
    }
    /* No bytes are a valid code of no bytes to zstd; here a code is never empty. */
    return src_len > 0 &&
           ZSTD_decompressDCtx(state->zstd_out, dst, len, src, src_len) == len;
}

/* ---- zlib ----------------------------------------------------------------------------- */

static size_t
zlib_bound(size_t len)
{
    return len > QMIG_CODEC_INPUT_MAX ? 0 : compressBound(len);
}

static void
zlib_prepare(QmigCodecState *state, int level)
{
    if (state->zlib_level == level) {
        deflateReset(&state->zlib_in);
        return;
    }
    if (state->zlib_level != 0) {
        deflateEnd(&state->zlib_in);
    }
    memset(&state->zlib_in, 0, sizeof state->zlib_in);
    int result = deflateInit(&state->zlib_in, level);
    g_assert(result == Z_OK); /* only out of memory: the level is in range */
    state->zlib_level = level;
}

static size_t
zlib_compress(QmigCodecState *state, int level, void *dst, size_t cap, const void *src,
              size_t len)
{
    z_stream *z = &state->zlib_in;

    if (len > QMIG_CODEC_INPUT_MAX) {
        return 0;
    }
    zlib_prepare(state, pick_level(&codecs[ZLIB], level));
    z->next_in = (Bytef *)src;
    z->avail_in = (uInt)len;
    z->next_out = dst;
    z->avail_out = (uInt)MIN(cap, G_MAXUINT32);
    return deflate(z, Z_FINISH) == Z_STREAM_END ? z->total_out : 0;
}

static bool
zlib_decompress(QmigCodecState *state, void *dst, size_t len, const void *src,
                size_t src_len)
{
    z_stream *z = &state->zlib_out;
    unsigned char
        none; /* zlib refuses a NULL output even when there is nothing to write */

    if (len > QMIG_CODEC_INPUT_MAX || src_len > G_MAXUINT32) {
        return false;
    }
    if (!state->zlib_out_ready) {
        int result = inflateInit(z);
        g_assert(result == Z_OK);
        state->zlib_out_ready = true;
    }
    inflateReset(z);
    z->next_in = (Bytef *)src;
    z->avail_in = (uInt)src_len;
    z->next_out = len > 0 ? dst : &none;
    z->avail_out = (uInt)len;
    return inflate(z, Z_FINISH) == Z_STREAM_END && z->total_out == len &&
           z->avail_in == 0;
}

/* ---- the table ------------------------------------------------------------------------ */

static const QmigCodec codecs[N_CODECS + 1] = {
    [LZ4] = { "lz4", 1, 1, 1, lz4_bound, lz4_compress, lz4_decompress },
    [ZSTD] = { "zstd", -20, 19, 1, zstd_bound, zstd_compress, zstd_decompress },
    [ZLIB] = { "zlib", 1, 9, 1, zlib_bound, zlib_compress, zlib_decompress },
    [N_CODECS] = { 0 },
};

const QmigCodec *
qmig_codec_table(void)
{
    return codecs;
}

const QmigCodec *
qmig_codec_find(const char *name)
{
    for (const QmigCodec *codec = codecs; codec->name != NULL; codec++) {
        if (strcmp(codec->name, name) == 0) {
            return codec;
        }
    }
    return NULL;
}
