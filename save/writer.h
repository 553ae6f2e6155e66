/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writing a save file to a descriptor; a pipe will do. */
#ifndef QMIG_SAVE_WRITER_H
#define QMIG_SAVE_WRITER_H

#include "save/format.h"
#include "util/cancel.h"

typedef struct QmigSaveWriter QmigSaveWriter;

typedef struct {
    QmigSaveCodec codec;
    int level;           /* of the codec, see compress/codec.h; 0 = its default */
    unsigned threads;    /* that compress; 0 = one for each processor, at most 8 */
    uint32_t chunk_size; /* 0 = QMIG_SAVE_CHUNK_MAX */
} QmigSaveConfig;

/**
 * qmig_save_writer_new() - begin a save file
 * @fd:     where to; borrowed
 * @cancel: (nullable) ends every wait
 *
 * Return: never NULL.
 */
QmigSaveWriter *qmig_save_writer_new(int fd, const QmigSaveConfig *config,
                                     const QmigCancel *cancel);
/* Stops its threads. Without finish() before it, what was written is no complete file. */
void qmig_save_writer_free(QmigSaveWriter *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigSaveWriter, qmig_save_writer_free)

/**
 * qmig_save_writer_room() - where the next bytes of the stream are to be put
 * @len: (out) room, at least 1
 *
 * Waits while threads and disk are behind. What was added before may be read until here.
 * Errors: IO: writing failed (also of earlier bytes); CANCELLED.
 * Return: the room, or NULL.
 */
uint8_t *qmig_save_writer_room(QmigSaveWriter *w, size_t *len,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* So many bytes were put there. */
void qmig_save_writer_add(QmigSaveWriter *w, size_t len);

/* Tell of a zero page's record of nine bytes at @offset of the stream, among those added since
 * the last room(). @page: its offset in the guest; @page_size. In the stream's order. */
void qmig_save_writer_hint_zero(QmigSaveWriter *w, uint64_t offset, uint64_t page,
                                uint32_t page_size);

/**
 * qmig_save_writer_finish() - write what is pending, index and trailer
 * @info: its length is filled in
 *
 * Not synced to the disk: that is for who owns the descriptor.
 */
bool qmig_save_writer_finish(QmigSaveWriter *w, QmigSaveInfo *info,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Bytes of the stream added, and of the file written. Threads: any. */
uint64_t qmig_save_writer_added(const QmigSaveWriter *w);
uint64_t qmig_save_writer_written(const QmigSaveWriter *w);

#endif
