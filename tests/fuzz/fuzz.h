/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A fuzz target: one parser, fed with any bytes. It aborts (g_assert_…) when what its header
 * promises does not hold. With -Dfuzzing=true libFuzzer drives it, else replay.c does.
 */
#ifndef QMIG_TESTS_FUZZ_H
#define QMIG_TESTS_FUZZ_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

/* Return: 0. */
__attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t *data,
                                                                  size_t size);

/* Touches all of it: a sanitizer sees what does not belong to it, or was never written. */
static inline void
fuzz_touch(const void *data, size_t len)
{
    g_free(g_memdup2(data, len));
}

#endif
