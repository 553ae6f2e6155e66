/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Page codecs: lz4, zstd, zlib behind one table. Pure functions from bytes to bytes; no I/O,
 * no knowledge of streams, no GLib in this header.
 */
#ifndef QMIG_COMPRESS_CODEC_H
#define QMIG_COMPRESS_CODEC_H

#include <stdbool.h>
#include <stddef.h>

/* The largest input, bytes: a 64 KiB page or a batch of 4 KiB ones. A larger one is refused. */
#define QMIG_CODEC_INPUT_MAX ((size_t)1 << 20)

/*
 * Working memory of the codecs (about 1 MiB once all were used), made when first needed.
 * Threads: one state per thread; a state is never shared.
 */
typedef struct QmigCodecState QmigCodecState;

QmigCodecState *qmig_codec_state_new(void);
void qmig_codec_state_free(QmigCodecState *state);

/**
 * struct QmigCodec - one row of the table
 * @name:          as users write it
 * @level_min:     lowest level
 * @level_max:     highest level; higher is smaller and slower
 * @level_default: what level 0 stands for
 * @bound:         bytes that compress() needs at most for @len bytes; 0: @len is too large
 * @compress:      Return: bytes written to @dst; 0 when they do not fit into @cap (data that
 *                 does not shrink is an expected outcome, no error) or @len is too large
 * @decompress:    Return: true when @src is one whole, valid code of exactly @len bytes, now
 *                 in @dst. On false @dst holds anything, but nothing beyond @len is written.
 *
 * A level out of range counts as the nearest one.
 */
typedef struct {
    const char *name;
    int level_min;
    int level_max;
    int level_default;
    size_t (*bound)(size_t len);
    size_t (*compress)(QmigCodecState *state, int level, void *dst, size_t cap,
                       const void *src, size_t len) __attribute__((warn_unused_result));
    bool (*decompress)(QmigCodecState *state, void *dst, size_t len, const void *src,
                       size_t src_len) __attribute__((warn_unused_result));
} QmigCodec;

/* The codec called @name, or NULL. */
const QmigCodec *qmig_codec_find(const char *name);

/* All codecs; a row with a NULL name ends them. */
const QmigCodec *qmig_codec_table(void);

#endif
