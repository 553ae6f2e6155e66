/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is a page all zeroes? */
#ifndef QMIG_COMPRESS_ZERO_H
#define QMIG_COMPRESS_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* True when all @len bytes are 0; any length and alignment. No bytes are all zero. */
bool qmig_is_zero(const void *data, size_t len);

#endif
