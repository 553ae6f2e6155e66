/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes of a QMP connection in, whole JSON objects out; no I/O. */
#ifndef QMIG_QMP_FRAMER_H
#define QMIG_QMP_FRAMER_H

#include "util/auto.h"

#include <glib.h>
#include <stddef.h>

typedef struct QmigQmpFramer QmigQmpFramer;

typedef enum {
    QMIG_FRAME_OBJECT,    /* one object */
    QMIG_FRAME_NEED_MORE, /* push more bytes */
    QMIG_FRAME_FAILED,    /* not JSON; the framer is dead */
} QmigFrameResult;

/**
 * qmig_qmp_framer_new() - a framer at the start of a connection
 * @max_object: bytes one object may have, white space in front of it included;
 *              QMIG_QMP_MAX_OBJECT but for tests
 *
 * Objects are told apart by their own brackets: one line or many (`-mon pretty=on`).
 * Return: (transfer full)
 */
QmigQmpFramer *qmig_qmp_framer_new(size_t max_object);
void qmig_qmp_framer_free(QmigQmpFramer *framer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigQmpFramer, qmig_qmp_framer_free)

/* Append @len bytes, which are copied. Take all objects with _next() before the next push. */
void qmig_qmp_framer_push(QmigQmpFramer *framer, const void *data, size_t len);

/**
 * qmig_qmp_framer_next() - the next whole object
 * @object: (out) (transfer full) set only with QMIG_FRAME_OBJECT; always a JSON object
 * @size:   (out) (optional) bytes of its text, about
 * @error:  (out) set only with QMIG_FRAME_FAILED, and on every later call again
 *
 * The same bytes give the same objects however they are cut into pushes.
 * Threads: any one thread at a time.
 * Errors:  PROTOCOL (not JSON: offset in the connection, first bytes), LIMIT (too long, too
 *          deep; see qmp/limits.h).
 */
QmigFrameResult qmig_qmp_framer_next(QmigQmpFramer *framer, JsonObject **object,
                                     size_t *size,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
