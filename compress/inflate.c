/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Both libraries may hold output back, or read input only as far as they need for the output
 * asked for. A piece is therefore over only when a call that had room for more output gave
 * none and left no input: that room is one byte beside the caller's buffer.
 */
#include "compress/inflate.h"

#include "util/error.h"

#include <stdint.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum {
    /* The largest window of zstd's levels up to 20, as 2^n bytes; also its decoder's default. */
    ZSTD_WINDOW_LOG = 27,
    /* Beside what the libraries say for one buffer: stream head, what a flush adds. */
    FLUSH_ROOM = 64,
};

/* ---- unpacking -------------------------------------------------------------------------- */

struct QmigInflate {
    QmigContinuous kind;
    bool dead;
    z_stream zlib;
    ZSTD_DCtx *zstd;
};

QmigInflate *
qmig_inflate_new(QmigContinuous kind)
{
    QmigInflate *s = g_new0(QmigInflate, 1);

    s->kind = kind;
    if (kind == QMIG_CONTINUOUS_ZLIB) {
        int result = inflateInit(&s->zlib);
        g_assert(result == Z_OK); /* out of memory, as g_malloc() treats it */
    } else {
        s->zstd = ZSTD_createDCtx();
        g_assert(s->zstd != NULL);
        ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    }
    return s;
}

void
qmig_inflate_free(QmigInflate *s)
{
    if (s == NULL) {
        return;
    }
    if (s->kind == QMIG_CONTINUOUS_ZLIB) {
        inflateEnd(&s->zlib);
    }
    ZSTD_freeDCtx(s->zstd);
    g_free(s);
}

/* What is left of one piece. */
typedef struct {
    const uint8_t *src;
    size_t src_len; /* bytes */
    uint8_t *dst;
    size_t len; /* bytes */
} Piece;

/* One call of zlib for at most @room bytes. Return: bytes written; -1 with *@why. */
static gssize
zlib_step(z_stream *z, Piece *p, uint8_t *dst, size_t room, const char **why)
{
    /* zlib counts in 32 bits; a piece goes through in as many calls as it takes. */
    uInt in = (uInt)MIN(p->src_len, 1u << 30), out = (uInt)MIN(room, 1u << 30);

    z->next_in = (Bytef *)p->src;
    z->avail_in = in;
    z->next_out = dst;
    z->avail_out = out;
    int result = inflate(z, Z_SYNC_FLUSH);
    p->src += in - z->avail_in;
    p->src_len -= in - z->avail_in;
    if (result == Z_OK || result == Z_BUF_ERROR) { /* the latter: nothing to do */
        return (gssize)(out - z->avail_out);
    }
    *why = result == Z_STREAM_END ? "the stream ends"
           : z->msg != NULL       ? z->msg
                                  : "not a zlib stream";
    return -1;
}

static gssize
zstd_step(ZSTD_DCtx *z, Piece *p, uint8_t *dst, size_t room, const char **why)
{
    ZSTD_inBuffer in = { p->src, p->src_len, 0 };
    ZSTD_outBuffer out = { dst, room, 0 };
    size_t result = ZSTD_decompressStream(z, &out, &in);

    p->src += in.pos;
    p->src_len -= in.pos;
    if (ZSTD_isError(result)) {
        *why = ZSTD_getErrorName(result);
        return -1;
    }
    return (gssize)out.pos;
}

/* Return: NULL, or what is wrong. */
static const char *
unpack(QmigInflate *s, Piece *p)
{
    const char *why = NULL;

    for (;;) {
        uint8_t spare;
        bool is_full = p->len == 0;
        uint8_t *dst = is_full ? &spare : p->dst;
        size_t room = is_full ? 1 : p->len, before = p->src_len;
        gssize n = s->kind == QMIG_CONTINUOUS_ZLIB
                       ? zlib_step(&s->zlib, p, dst, room, &why)
                       : zstd_step(s->zstd, p, dst, room, &why);

        if (n < 0) {
            return why;
        }
        if (is_full && n > 0) {
            return "it unpacks to more than the pages announced";
        }
        if (!is_full) {
            p->dst += n;
            p->len -= (size_t)n;
        }
        if (n == 0 && p->src_len == before) {
            return p->src_len > 0 ? "input is left over"
                   : p->len > 0   ? "it unpacks to less than the pages announced"
                                  : NULL;
        }
        if (is_full && p->src_len == 0) {
            return NULL;
        }
    }
}

bool
qmig_inflate_piece(QmigInflate *s, const void *src, size_t src_len, void *dst, size_t len,
                   GError **error)
{
    Piece p = { src_len > 0 ? src : (const void *)"", src_len, dst, len };
    const char *name = s->kind == QMIG_CONTINUOUS_ZLIB ? "zlib" : "zstd";

    g_return_val_if_fail(len > 0, false);
    if (s->dead) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%s stream: broken by an earlier piece", name);
    }
    const char *why = unpack(s, &p);
    if (why != NULL) {
        s->dead = true;
        return qmig_set_error(
            error, QMIG_ERROR_PROTOCOL,
            "%s stream: piece of %zu bytes for %zu: %s (%zu and %zu left)", name, src_len,
            len, why, p.src_len, p.len);
    }
    return true;
}

/* ---- packing ---------------------------------------------------------------------------- */

struct QmigDeflate {
    QmigContinuous kind;
    z_stream zlib;
    ZSTD_CCtx *zstd;
};

QmigDeflate *
qmig_deflate_new(QmigContinuous kind, int level)
{
    QmigDeflate *s = g_new0(QmigDeflate, 1);

    s->kind = kind;
    if (kind == QMIG_CONTINUOUS_ZLIB) {
        int result = deflateInit(&s->zlib, CLAMP(level, 0, 9));
        g_assert(result == Z_OK);
    } else {
        s->zstd = ZSTD_createCCtx();
        g_assert(s->zstd != NULL);
        ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_compressionLevel, CLAMP(level, 0, 20));
    }
    return s;
}

void
qmig_deflate_free(QmigDeflate *s)
{
    if (s == NULL) {
        return;
    }
    if (s->kind == QMIG_CONTINUOUS_ZLIB) {
        deflateEnd(&s->zlib);
    }
    ZSTD_freeCCtx(s->zstd);
    g_free(s);
}

size_t
qmig_deflate_bound(const QmigDeflate *s, size_t len)
{
    /* zlib's streams may hold a few stored blocks more than one call's bound counts. */
    return s->kind == QMIG_CONTINUOUS_ZLIB ? compressBound(len) + len / 256 + FLUSH_ROOM
                                           : ZSTD_compressBound(len) + FLUSH_ROOM;
}

size_t
qmig_deflate_piece(QmigDeflate *s, const void *src, size_t len, void *dst, size_t cap)
{
    g_return_val_if_fail(cap >= qmig_deflate_bound(s, len) && cap <= G_MAXUINT32, 0);
    if (s->kind == QMIG_CONTINUOUS_ZLIB) {
        z_stream *z = &s->zlib;

        z->next_in = (Bytef *)src;
        z->avail_in = (uInt)len;
        z->next_out = dst;
        z->avail_out = (uInt)cap;
        int result = deflate(z, Z_SYNC_FLUSH);
        /* Room left: zlib had nothing more to write. */
        g_assert(result == Z_OK && z->avail_in == 0 && z->avail_out > 0);
        return cap - z->avail_out;
    }
    ZSTD_inBuffer in = { src, len, 0 };
    ZSTD_outBuffer out = { dst, cap, 0 };
    size_t left = ZSTD_compressStream2(s->zstd, &out, &in, ZSTD_e_flush);
    g_assert(left == 0 && in.pos == len);
    return out.pos;
}
