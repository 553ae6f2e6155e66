/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading a save file: the plain stream in order, with threads that decompress ahead; from a
 * file also from any offset.
 *
 * From a file everything but the chunks is checked before the first byte is given. From a pipe
 * the end can only be checked at the end: the last chunk is kept back until then, so that nobody
 * gets a whole stream out of a file that was never completed.
 */
#ifndef QMIG_SAVE_READER_H
#define QMIG_SAVE_READER_H

#include "save/format.h"
#include "util/cancel.h"

typedef struct QmigSaveReader QmigSaveReader;

typedef struct {
    unsigned threads;         /* that decompress; 0 = one for each processor, at most 8 */
    const QmigCancel *cancel; /* (nullable) borrowed; ends waits for a pipe */
    const void *head;   /* bytes already taken off @fd (of a pipe), borrowed; or NULL */
    size_t head_length; /* at most QMIG_SAVE_HEADER_LENGTH */
} QmigSaveReaderConfig;

/**
 * qmig_save_reader_new() - open a save file
 * @fd:     a file (read from its first byte, wherever it stands) or a pipe; borrowed, to stay
 *          open as long as the reader
 * @name:   for messages; copied
 * @config: (nullable)
 *
 * Errors: IO; PROTOCOL (no save file, damage; the message has file offset, and where it
 *         applies stream offset and chunk number, wanted and got); UNSUPPORTED; LIMIT.
 */
QmigSaveReader *qmig_save_reader_new(int fd, const char *name,
                                     const QmigSaveReaderConfig *config,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_save_reader_free(QmigSaveReader *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigSaveReader, qmig_save_reader_free)

/* From now on waits for a pipe are ended by @cancel (nullable, borrowed). */
void qmig_save_reader_set_cancel(QmigSaveReader *r, const QmigCancel *cancel);

/**
 * qmig_save_reader_next() - the next bytes of the stream, as many as lie together
 * @data: (out) borrowed until the next call
 * @len:  (out) 0 at the end of the stream
 *
 * Errors: as new(), CANCELLED. The reader is dead after one.
 * Threads: one at a time.
 */
bool qmig_save_reader_next(QmigSaveReader *r, const uint8_t **data, size_t *len,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same, copied. Return: bytes, 0 at the end, -1 on error. */
ssize_t qmig_save_reader_read(QmigSaveReader *r, void *buf, size_t len,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_save_reader_seek() - go on at @offset of the stream
 *
 * In a pipe only forward, and what lies between is read. Errors: CONFIG (beyond the end, or
 * back in a pipe), as new().
 */
bool qmig_save_reader_seek(QmigSaveReader *r, uint64_t offset,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What the file tells of itself; borrowed. NULL in a pipe whose end has not come. */
const QmigSaveInfo *qmig_save_reader_info(const QmigSaveReader *r);

/* The codec that was asked for when it was written, and the bytes of the stream in a chunk. */
const QmigSaveHeader *qmig_save_reader_header(const QmigSaveReader *r);

#endif
