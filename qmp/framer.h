/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes of a QMP connection -> JSON objects, one a line. Incremental, without I/O. */
#ifndef QMIG_QMP_FRAMER_H
#define QMIG_QMP_FRAMER_H

#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    /* query-qmp-schema of QEMU 11.1 is some 200 KiB in one line; nothing else comes near. */
    QMIG_QMP_LINE_LIMIT = 64 << 20,
    /* The schema nests 6 levels, query-named-block-nodes some 20. */
    QMIG_QMP_DEPTH_LIMIT = 100,
};

typedef struct QmigQmpFramer QmigQmpFramer;

QmigQmpFramer *qmig_qmp_framer_new(void);
void qmig_qmp_framer_free(QmigQmpFramer *framer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigQmpFramer, qmig_qmp_framer_free)

/* Append bytes as they came; copied. Errors: LIMIT: a line without end. */
bool qmig_qmp_framer_push(QmigQmpFramer *framer, const void *data, size_t len,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_qmp_framer_next() - the next complete line's object
 * @object: (out) (transfer full) NULL when no complete line is there
 *
 * Blank lines are passed over. Errors: PROTOCOL: a line that is no JSON object; the message
 * shows its beginning.
 * Return: false on error.
 */
bool qmig_qmp_framer_next(QmigQmpFramer *framer, JsonObject **object,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
