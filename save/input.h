/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest can be restored from: a save file, a plain stream, QEMU's mapped-ram file. */
#ifndef QMIG_SAVE_INPUT_H
#define QMIG_SAVE_INPUT_H

#include "save/reader.h"

typedef enum {
    QMIG_SAVE_INPUT_QMIG,
    QMIG_SAVE_INPUT_PLAIN,
    QMIG_SAVE_INPUT_MAPPED, /* only QEMU itself can load it, from the file */
} QmigSaveInputKind;

typedef struct QmigSaveInput QmigSaveInput;

/**
 * qmig_save_input_open() - open, and look at the beginning
 * @path:    "-" is stdin
 * @threads: that decompress; 0 = one for each processor, at most 8
 * @cancel:  (nullable) borrowed; ends waits
 *
 * Errors: IO; PROTOCOL (neither of the three, or a save file without its end); as
 *         qmig_save_reader_new().
 */
QmigSaveInput *qmig_save_input_open(const char *path, unsigned threads,
                                    const QmigCancel *cancel,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_save_input_free(QmigSaveInput *input);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigSaveInput, qmig_save_input_free)

/* From now on waits are ended by @cancel (nullable, borrowed). */
void qmig_save_input_set_cancel(QmigSaveInput *input, const QmigCancel *cancel);

QmigSaveInputKind qmig_save_input_kind(const QmigSaveInput *input);
/* What is known by now: all of a save file that is a file; of others what their head tells. */
const QmigSaveInfo *qmig_save_input_info(const QmigSaveInput *input);
/* Capabilities that who loads it must have on; of char *, borrowed. */
GPtrArray *qmig_save_input_capabilities(const QmigSaveInput *input);

/* Go to an offset of the plain stream, before the first next(). */
bool qmig_save_input_seek(QmigSaveInput *input, uint64_t offset,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The next bytes of the plain stream, borrowed until the next call; *@len 0 at the end. */
bool qmig_save_input_next(QmigSaveInput *input, const uint8_t **data, size_t *len,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
