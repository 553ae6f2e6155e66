/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration stream into a save file, decoded while it goes by. */
#ifndef QMIG_SAVE_RECORD_H
#define QMIG_SAVE_RECORD_H

#include "save/writer.h"

/* Looks at a stream that goes by, and fills what it tells of itself. */
typedef struct QmigSaveWatch QmigSaveWatch;

/**
 * qmig_save_watch_new() - begin
 * @info: (inout) filled with machine, blocks, pages; and in the end with the flags
 *        QMIG_SAVE_DECODED when the stream is proven complete by its own bytes, and
 *        QMIG_SAVE_RAN or _PAUSED as its device "globalstate" has it. Borrowed, as is:
 * @w:    (nullable) told of zero pages; the bytes pushed are the last ones added to it
 */
QmigSaveWatch *qmig_save_watch_new(QmigSaveInfo *info, QmigSaveWriter *w);
void qmig_save_watch_free(QmigSaveWatch *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigSaveWatch, qmig_save_watch_free)

/* Errors: PROTOCOL: bytes that no QEMU writes, with the stream offset; LIMIT. */
bool qmig_save_watch_push(QmigSaveWatch *watch, const void *data, size_t len,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* It has ended. @doubt: (out) (transfer full) why it is not proven complete, or NULL. */
bool qmig_save_watch_end(QmigSaveWatch *watch, char **doubt,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The head has been read: machine and @capabilities: those the stream demands of who loads it
 * (x-ignore-shared, mapped-ram), borrowed. */
bool qmig_save_watch_has_head(const QmigSaveWatch *watch, GPtrArray **capabilities);

/**
 * qmig_save_record() - take a stream in, to its end
 * @in:     the stream: a file, pipe or socket; borrowed
 * @w:      (nullable) NULL: the stream is only read and judged
 * @info:   as qmig_save_watch_new()
 * @doubt:  as qmig_save_watch_end()
 * @cancel: (nullable) ends every wait
 *
 * The file is not finished: that is for the caller, who may know more about a stream in doubt.
 * Errors: as qmig_save_watch_push(); IO; CANCELLED.
 */
bool qmig_save_record(int in, QmigSaveWriter *w, QmigSaveInfo *info, char **doubt,
                      const QmigCancel *cancel, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
