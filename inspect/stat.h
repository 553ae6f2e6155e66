/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a stream is made of, in numbers. */
#ifndef QMIG_INSPECT_STAT_H
#define QMIG_INSPECT_STAT_H

#include "inspect/reader.h"
#include "util/auto.h"

/**
 * qmig_stat_run() - count
 * @every:    compress each @every-th full page to learn how well they compress; 0: none
 * @progress: (nullable) as of QmigReaderSink
 *
 * Memory: constant; three bytes for each page that is sent, up to 64 GiB of guest memory, then
 * one counter for several neighbours.
 * Return: the numbers as in qmig-stream(1), or NULL. (transfer full)
 * Errors: as qmig_reader_run().
 */
JsonObject *qmig_stat_run(const char *path, unsigned every,
                          void (*progress)(uint64_t done, uint64_t total),
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
