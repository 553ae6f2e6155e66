/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Continuous compression streams: many pieces through one zlib or zstd stream that is flushed
 * after each piece, so that each can be unpacked as soon as it has come, and only behind all
 * that came before it. This is how QEMU's multifd channels compress. Pure; no I/O.
 */
#ifndef QMIG_COMPRESS_INFLATE_H
#define QMIG_COMPRESS_INFLATE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

typedef enum {
    QMIG_CONTINUOUS_ZLIB, /* RFC 1950, Z_SYNC_FLUSH behind each piece */
    QMIG_CONTINUOUS_ZSTD, /* one frame, ZSTD_e_flush behind each piece */
} QmigContinuous;

typedef struct QmigInflate QmigInflate;

/* Memory: 50 KiB for zlib; for zstd what the frame's head asks for, at most 128 MiB (levels
 * up to 20 do with that; QEMU's default takes 1 MiB). Threads: any one at a time. */
QmigInflate *qmig_inflate_new(QmigContinuous kind);
void qmig_inflate_free(QmigInflate *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigInflate, qmig_inflate_free)

/**
 * qmig_inflate_piece() - unpack the next piece
 * @src, @src_len: all of it, bytes
 * @dst, @len:     the piece as it was before: exactly so many bytes, at least 1
 *
 * Errors: PROTOCOL: not a valid continuation of this stream, more or less output than @len,
 *         or input left over. Never writes beyond @len. The stream is dead after an error.
 */
bool qmig_inflate_piece(QmigInflate *s, const void *src, size_t src_len, void *dst,
                        size_t len, GError **error) G_GNUC_WARN_UNUSED_RESULT;

typedef struct QmigDeflate QmigDeflate;

/* @level: 0 (zlib: stored) or 1 to 9 for zlib; 0 (zstd's default) to 20 for zstd, as QEMU's
 *         multifd-zlib-level and multifd-zstd-level. One out of range counts as the nearest. */
QmigDeflate *qmig_deflate_new(QmigContinuous kind, int level);
void qmig_deflate_free(QmigDeflate *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigDeflate, qmig_deflate_free)

/* Bytes that a piece of @len bytes takes at most. */
size_t qmig_deflate_bound(const QmigDeflate *s, size_t len);

/**
 * qmig_deflate_piece() - pack the next piece, to its end
 * @dst, @cap: room for qmig_deflate_bound() bytes
 *
 * Return: bytes written to @dst.
 */
size_t qmig_deflate_piece(QmigDeflate *s, const void *src, size_t len, void *dst,
                          size_t cap) G_GNUC_WARN_UNUSED_RESULT;

#endif
