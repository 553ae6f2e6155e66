/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's memory, rebuilt from page records: a sparse file for each block, mapped.
 *
 * Memory: what the kernel keeps of the files, and two bits for each page that came.
 */
#ifndef QMIG_INSPECT_GUEST_RAM_H
#define QMIG_INSPECT_GUEST_RAM_H

#include "inspect/reader.h"

typedef struct QmigGuestRam QmigGuestRam;

/* One block as far as it is known. */
typedef struct {
    const char *name; /* as on the wire; NUL-terminated */
    uint64_t length;  /* bytes */
    uint32_t page_size;
    const uint8_t *memory; /* length bytes, mapped; never-sent pages are zero */
    uint64_t n_pages;
    uint64_t n_received; /* pages sent, and not discarded afterwards */
} QmigGuestBlock;

/**
 * qmig_guest_ram_new() - no blocks yet
 * @directory: (nullable) where to put a file for each block, named after it with characters
 *             other than letters, digits and "._-@:" as %XX; NULL: files without a name
 */
QmigGuestRam *qmig_guest_ram_new(const char *directory);
void qmig_guest_ram_free(QmigGuestRam *ram);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigGuestRam, qmig_guest_ram_free)

/**
 * qmig_guest_ram_apply() - take an event of any kind; others than of RAM are passed over
 *
 * Errors: PROTOCOL: a page that cannot be decoded (XBZRLE, zlib, multifd payload), with block and
 *         offset; IO: the files; UNSUPPORTED: a compression this build cannot undo.
 */
bool qmig_guest_ram_apply(QmigGuestRam *ram, const QmigReaderChannel *channel,
                          const struct qmig_event *ev,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

unsigned qmig_guest_ram_n_blocks(const QmigGuestRam *ram);
QmigGuestBlock qmig_guest_ram_block(const QmigGuestRam *ram, unsigned i);

/* Was page @page of block @i sent, and not discarded afterwards? */
bool qmig_guest_ram_has(const QmigGuestRam *ram, unsigned i, uint64_t page);

/* A file name for a block or device. (transfer full) */
char *qmig_file_name(const char *name);

#endif
