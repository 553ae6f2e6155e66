/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one user of libxxhash. */
#include "compress/hash.h"

#include <xxhash.h>

uint64_t
qmig_hash64(const void *data, size_t len, uint64_t seed)
{
    return XXH64(data, len, seed);
}

uint64_t
qmig_hash3(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}
