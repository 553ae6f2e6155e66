/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stream in a file, pipe or save file, in pieces, front to back. */
#ifndef QMIG_INSPECT_INPUT_H
#define QMIG_INSPECT_INPUT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct QmigInput QmigInput;

/* @path: a file, a pipe, or "-" for the standard input. Errors: IO; a save file's. */
QmigInput *qmig_input_open(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_input_free(QmigInput *in);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigInput, qmig_input_free)

/**
 * qmig_input_next() - the next piece
 * @data: (out) borrowed until the next call
 * @len:  (out) bytes; 0: the end
 *
 * Errors: IO; a save file's.
 */
bool qmig_input_next(QmigInput *in, const uint8_t **data, size_t *len,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The first bytes, without taking them: @len of them, fewer than @max only at the end. Of a save
 * file none. Only before the first qmig_input_next(). */
bool qmig_input_peek(QmigInput *in, uint8_t *first, size_t max, size_t *len,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Bytes handed out; all there are (0: not known). */
uint64_t qmig_input_done(const QmigInput *in);
uint64_t qmig_input_total(const QmigInput *in);

#endif
