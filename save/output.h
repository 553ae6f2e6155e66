/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file that appears under its name only when it is complete. */
#ifndef QMIG_SAVE_OUTPUT_H
#define QMIG_SAVE_OUTPUT_H

#include "util/auto.h"

#include <stdbool.h>

typedef struct {
    char *path;    /* owned; for messages */
    char *partial; /* owned; the name meanwhile; NULL: written to @path itself */
    QmigFd fd;
    bool restore_blocking; /* the descriptor is shared: blocking is put back */
} QmigSaveOutput;

/**
 * qmig_save_output_open() - where a file will be written
 * @path: "-" is stdout; what exists and is no regular file (a pipe, a device) is written as it is
 * @create: false: only choose the name; somebody else creates the file
 *
 * A file is written beside @path as .NAME.partial-XXXXXX, mode 0600: it holds a guest's memory.
 * Errors: IO.
 */
bool qmig_save_output_open(QmigSaveOutput *out, const char *path, bool create,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Onto the disk, and under its name; an older file of that name is replaced. */
bool qmig_save_output_commit(QmigSaveOutput *out,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Close; remove what was not committed. */
void qmig_save_output_clear(QmigSaveOutput *out);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigSaveOutput, qmig_save_output_clear)

#endif
