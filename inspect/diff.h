/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What differs between two streams. */
#ifndef QMIG_INSPECT_DIFF_H
#define QMIG_INSPECT_DIFF_H

#include "inspect/reader.h"
#include "util/auto.h"

/**
 * qmig_diff_run() - compare the guests in two streams, not their bytes on the wire
 *
 * Memory is rebuilt from both and compared by page, device state by field (by bytes where it
 * cannot be read by name), the machine type by name. Takes room for both guests' memory in the
 * directory for temporary files.
 *
 * Return: { "same": bool,
 *           "machine": { "a": text, "b": text }                      only when different
 *           "devices": [ { "name", "instance", "only": "a" | "b" }
 *                      | { "name", "instance", "fields": [ { "field": path, "a", "b" }, … ] } ],
 *           "blocks": [ { "name", "only": "a" | "b" }
 *                     | { "name", "length": { "a", "b" } }
 *                     | { "name", "pages": n that differ, "page_size",
 *                         "ranges": [ { "offset", "length" }, … ] } ] } (transfer full), or NULL.
 *         Only what differs is listed.
 * Errors: as qmig_reader_run(); STATE: a stream that is not complete.
 */
JsonObject *qmig_diff_run(const char *a, const char *b,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
