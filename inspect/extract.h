/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in a stream, as files. */
#ifndef QMIG_INSPECT_EXTRACT_H
#define QMIG_INSPECT_EXTRACT_H

#include "inspect/reader.h"
#include "util/auto.h"

/**
 * qmig_extract_run() - write the memory and the devices of a stream to files
 * @directory: made; must not exist or be empty
 * @progress:  (nullable) as of QmigReaderSink
 *
 * ram/BLOCK: the block's memory, sparse; device/NAME.INSTANCE: the state of each section, for
 * COLO the last checkpoint's; description.json; config.json: what the configuration says.
 *
 * Return: a summary { "complete": …, "reason": …, "blocks": [ { "name", "file", "length",
 *         "pages", "received" } ], "devices": [ { "name", "instance", "version", "file",
 *         "length" } ] }, or NULL. (transfer full)
 * Errors: as qmig_reader_run(); IO for the files. What was written stays.
 */
JsonObject *qmig_extract_run(const char *path, const char *directory,
                             void (*progress)(uint64_t done, uint64_t total),
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
