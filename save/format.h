/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The save file: a migration stream in checksummed, independently compressed chunks. Its
 * grammar; all integers are big-endian:
 *
 *   file    := header chunk* index trailer
 *   header  := "QMIGSAVE", be32 version 1, be32 flags 0, be32 codec, be32 chunk size, be64 id,
 *              sum
 *   chunk   := "QCHK", be32 number, be64 stream offset, be32 length, be32 n, be32 packed length,
 *              be32 stored length, be32 codec, be64 hash of the stream's bytes, sum, body
 *   body    := packed, through the chunk's codec (0 none: as it is; 1 lz4; 2 zstd)
 *   packed  := n × run, then the bytes of the stream that no run stands for
 *   run     := be32 position, be32 count, be32 step
 *   index   := "QIDX", be32 length of what follows but the sum, be64 stream length,
 *              be64 pages: zero, normal, xbzrle, zlib; be64 date, be32 flags,
 *              be32 QEMU version, be32 page size, cstr machine,
 *              be32 n, n × ( cstr block, be64 length ),
 *              be32 m, m × be64 file offset of a chunk, sum
 *   trailer := "QMIGDONE", be64 file offset of the index, be32 length of the index, sum
 *   sum     := be64 hash of the record's bytes before it
 *   hash    := xxHash64, seeded with the header's id (0 for the header itself)
 *   cstr    := u8 n, n bytes
 *
 * Chunk k holds the stream's bytes from k × chunk size on; only the last may be shorter. So
 * reading can begin anywhere, and chunks are packed and unpacked in parallel. Nothing is
 * written twice, so a file may be a pipe. The trailer is written last: a file without it was
 * never completed. The id makes the parts of two files strangers to each other.
 *
 * A run stands for zero pages, which travel as nine bytes each: `count` times the nine bytes
 * that come before `position` (in the chunk's bytes), each time the be64 in them `step` higher.
 *
 * Pure: bytes <-> structures, no I/O.
 */
#ifndef QMIG_SAVE_FORMAT_H
#define QMIG_SAVE_FORMAT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    QMIG_SAVE_VERSION = 1,
    QMIG_SAVE_MAGIC_LENGTH = 8,
    QMIG_SAVE_HEADER_LENGTH = 40,
    QMIG_SAVE_HEAD_LENGTH = 52, /* of a chunk */
    QMIG_SAVE_TRAILER_LENGTH = 28,
    QMIG_SAVE_MARK_LENGTH = 4,
    QMIG_SAVE_RUN_LENGTH = 12,
    QMIG_SAVE_ZERO_RECORD = 9, /* bytes of a zero page's record */

    /* Limits. Small chunks are for tests; the codecs take 1 MiB at most. */
    QMIG_SAVE_CHUNK_MIN = 64,
    QMIG_SAVE_CHUNK_MAX = 1 << 20,
    /* Memory for offsets of chunks: 8 bytes each; at 1 MiB a chunk these are 16 TiB. */
    QMIG_SAVE_LIMIT_CHUNKS = 1 << 24,
};

#define QMIG_SAVE_MAGIC "QMIGSAVE"

typedef enum {
    QMIG_SAVE_CODEC_NONE = 0,
    QMIG_SAVE_CODEC_LZ4 = 1,
    QMIG_SAVE_CODEC_ZSTD = 2,
    QMIG_SAVE_N_CODECS,
} QmigSaveCodec;

typedef struct {
    uint32_t flags;
    uint32_t codec;      /* QmigSaveCodec that the writer was asked for */
    uint32_t chunk_size; /* bytes of the stream */
    uint64_t id;         /* chosen at random */
} QmigSaveHeader;

/* The head of a chunk. */
typedef struct {
    uint32_t number;
    uint64_t offset; /* in the stream, bytes */
    uint32_t length; /* bytes of the stream */
    uint32_t n_runs;
    uint32_t packed; /* bytes, before the codec */
    uint32_t stored; /* bytes of the body in the file */
    uint32_t codec;  /* QmigSaveCodec; NONE also where the codec did not help */
    uint64_t hash;   /* of the stream's bytes */
} QmigSaveHead;

enum {
    QMIG_SAVE_RAN = 1 << 0,     /* the guest ran when it was saved */
    QMIG_SAVE_PAUSED = 1 << 1,  /* it did not; neither bit: not known */
    QMIG_SAVE_DECODED = 1 << 2, /* complete by its own bytes; else by QEMU's word alone */
};

typedef struct {
    char *name;      /* owned */
    uint64_t length; /* used length, bytes */
} QmigSaveBlock;

/* What a save file tells of itself, besides the stream. */
typedef struct {
    uint64_t length;                     /* of the stream, bytes */
    uint64_t zero, normal, xbzrle, zlib; /* pages by kind */
    uint64_t date;                       /* seconds since 1970 */
    uint32_t flags;                      /* QMIG_SAVE_RAN… */
    uint32_t qemu;      /* major * 10000 + minor * 100 + micro; 0 = not known */
    uint32_t page_size; /* target page, bytes; 0 = not known */
    char *machine;      /* owned; "" = not known */
    GArray *blocks;     /* QmigSaveBlock */
} QmigSaveInfo;

void qmig_save_info_init(QmigSaveInfo *info);
void qmig_save_info_clear(QmigSaveInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigSaveInfo, qmig_save_info_clear)

typedef struct {
    uint64_t index_offset; /* in the file, bytes */
    uint32_t index_length; /* with mark and sum, bytes */
} QmigSaveTrailer;

/* The name of a codec, as compress/codec.h has it; "none". NULL when there is no such. */
const char *qmig_save_codec_name(uint32_t codec);

/* Do these bytes begin a save file? @len may be less than the magic's. */
bool qmig_save_is_magic(const void *data, size_t len);

void qmig_save_write_header(const QmigSaveHeader *header,
                            uint8_t out[static QMIG_SAVE_HEADER_LENGTH]);
void qmig_save_write_head(const QmigSaveHead *head, uint64_t id,
                          uint8_t out[static QMIG_SAVE_HEAD_LENGTH]);
void qmig_save_write_trailer(const QmigSaveTrailer *trailer, uint64_t id,
                             uint8_t out[static QMIG_SAVE_TRAILER_LENGTH]);
/* @offsets: uint64_t, file offsets of all chunks. (transfer full) */
GByteArray *qmig_save_write_index(const QmigSaveInfo *info, const GArray *offsets,
                                  uint64_t id);

/*
 * The readers. Errors: PROTOCOL (damage), LIMIT, UNSUPPORTED (a newer version); the message
 * names what was wanted and got, the caller adds the place. Nothing is filled on error.
 */
bool qmig_save_read_header(const uint8_t data[static QMIG_SAVE_HEADER_LENGTH],
                           QmigSaveHeader *header,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @number: which chunk is due. */
bool qmig_save_read_head(const uint8_t data[static QMIG_SAVE_HEAD_LENGTH],
                         const QmigSaveHeader *header, uint32_t number,
                         QmigSaveHead *head, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_save_read_trailer(const uint8_t data[static QMIG_SAVE_TRAILER_LENGTH],
                            const QmigSaveHeader *header, QmigSaveTrailer *trailer,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Is this the mark of an index, @data being the first four bytes after a chunk? */
bool qmig_save_is_index(const uint8_t data[static QMIG_SAVE_MARK_LENGTH]);
/* The length of a whole index, from its first eight bytes; 0 = more than @n_chunks explain. */
uint32_t qmig_save_index_length(const uint8_t data[static 8], uint64_t n_chunks);

/**
 * qmig_save_read_index() - take a whole index apart
 * @end:     file offset of the index: where the chunks end
 * @info:    (out) clear it
 * @offsets: (out) (transfer full) of uint64_t: rising, the first right behind the header
 */
bool qmig_save_read_index(const uint8_t *data, size_t len, const QmigSaveHeader *header,
                          uint64_t end, QmigSaveInfo *info, GArray **offsets,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
