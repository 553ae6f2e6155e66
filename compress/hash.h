/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A fast checksum against damage; no protection against a forger. */
#ifndef QMIG_COMPRESS_HASH_H
#define QMIG_COMPRESS_HASH_H

#include <stddef.h>
#include <stdint.h>

/* xxHash64 of @len bytes, as libxxhash's XXH64(). */
uint64_t qmig_hash64(const void *data, size_t len, uint64_t seed);

/* XXH3 of @len bytes, as libxxhash's XXH3_64bits_withSeed(): several times faster. */
uint64_t qmig_hash3(const void *data, size_t len, uint64_t seed);

#endif
