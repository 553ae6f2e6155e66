/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `qmig stream` makes of a path: memory and devices rebuilt, checked, outlined. */
#ifndef QMIG_TESTS_FUZZ_REBUILD_H
#define QMIG_TESTS_FUZZ_REBUILD_H

#include <stddef.h>

/* @size: bytes of the input; asserts a bound on memory by it. */
void fuzz_read_all_ways(const char *path, size_t size);

#endif
