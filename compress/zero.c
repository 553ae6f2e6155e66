/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The zero-page test. Most pages that are not zero show it in their first bytes, so one word
 * is looked at before the loop; a zero page is read once, 128 bytes a step. For 4 KiB in
 * cache that takes 24 ns with AVX2, against 55 ns for glibc's memcmp() of the page with
 * itself one byte on, which has to read it twice (test-compress-zero -m perf).
 */
#include "compress/zero.h"

#include <stdint.h>
#include <string.h>

enum { STEP = 128 }; /* bytes */

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx2"))) static bool
steps_are_zero_avx2(const uint8_t *p, size_t n_steps)
{
    for (; n_steps > 0; n_steps--, p += STEP) {
        const __m256i_u *v = (const __m256i_u *)p;
        __m256i all = _mm256_or_si256(
            _mm256_or_si256(_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)),
            _mm256_or_si256(_mm256_loadu_si256(v + 2), _mm256_loadu_si256(v + 3)));
        if (!_mm256_testz_si256(all, all)) {
            return false;
        }
    }
    return true;
}
#endif

/* Plain words: the compiler makes vectors of whatever width the target surely has. */
static bool
steps_are_zero(const uint8_t *p, size_t n_steps)
{
    for (; n_steps > 0; n_steps--, p += STEP) {
        uint64_t words[STEP / sizeof(uint64_t)];
        uint64_t all = 0;

        memcpy(words, p, sizeof words);
        for (size_t i = 0; i < STEP / sizeof(uint64_t); i++) {
            all |= words[i];
        }
        if (all != 0) {
            return false;
        }
    }
    return true;
}

bool
qmig_is_zero(const void *data, size_t len)
{
    const uint8_t *p = data;
    size_t n_steps = len / STEP;
    uint64_t first;

    if (len >= sizeof first) {
        memcpy(&first, p, sizeof first);
        if (first != 0) {
            return false;
        }
    }
    for (size_t i = n_steps * STEP; i < len; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        return steps_are_zero_avx2(p, n_steps);
    }
#endif
    return steps_are_zero(p, n_steps);
}
