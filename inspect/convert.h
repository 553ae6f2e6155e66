/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A stream of any kind, written anew as one that a QEMU loads from a file or pipe. */
#ifndef QMIG_INSPECT_CONVERT_H
#define QMIG_INSPECT_CONVERT_H

#include "inspect/reader.h"

typedef struct {
    bool mapped_ram; /* a mapped-ram file (QEMU 9.0 and later); else a plain stream */
    bool drop_description; /* leave out the text that describes device state */
    void (*progress)(uint64_t done, uint64_t total); /* (nullable) as of QmigReaderSink */
} QmigConvertOptions;

/**
 * qmig_convert_run() - rebuild the guest from @path and write it
 * @fd: where to; for mapped-ram a file that can be sought in, empty
 *
 * Each page is written once: as it was last, zero pages as such. Device state is copied byte for
 * byte; of a postcopy stream it is taken from the package, of COLO from the last checkpoint.
 * Commands (return path, postcopy) are left out. Takes room for the guest's memory in the
 * directory for temporary files.
 * Errors: as qmig_reader_run(); STATE: the stream is not complete; UNSUPPORTED: device state of a
 *         postcopy stream that has more than one reading; disk contents in the stream; LIMIT.
 */
bool qmig_convert_run(const char *path, int fd, const QmigConvertOptions *options,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
