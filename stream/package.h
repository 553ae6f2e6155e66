/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Device state without a description: postcopy's package, a COLO checkpoint, a tail whose machine
 * sends none. Nothing tells where a section's state ends, so nothing is guessed: all readings of
 * the whole as sections and commands are considered at once, and what is the same in each of
 * them is proven.
 *
 *   package := ( 04, be32 id, cstr idstr, be32 instance, be32 version, state, 7e, be32 id
 *              | 08, be16 command, be16 n, n bytes )*
 */
#ifndef QMIG_STREAM_PACKAGE_H
#define QMIG_STREAM_PACKAGE_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

/* One section or command that stands in every reading. */
typedef struct {
    size_t start; /* of its type byte, bytes */
    size_t end;   /* behind its footer or data */
} QmigPackageItem;

/**
 * qmig_package_split() - what is proven of a package
 *
 * Time and memory: linear in @len.
 * Return: (transfer full) QmigPackageItem, ascending, not overlapping; what lies between them
 *         can be read in several ways. Empty when there is no reading at all.
 */
GArray *qmig_package_split(const uint8_t *data, size_t len);

#endif
