/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XBZRLE encoder and decoder. Runs are maximal: QEMU's encoder ends a run of changed bytes at
 * the first equal byte, so there is one code for a pair of pages and it is the same here.
 * The decoder walks a code twice, once to check, once to copy, through the same function: a
 * bad code leaves the page as it was.
 */
#include "compress/xbzrle.h"

#include <string.h>

enum { STEP = 4 * sizeof(uint64_t) }; /* bytes compared at once */

typedef struct {
    size_t skip;         /* bytes that stay */
    size_t n;            /* bytes replaced */
    const uint8_t *data; /* the new bytes, inside the code */
} Pair;

static uint64_t
difference(const uint8_t *a, const uint8_t *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x ^ y;
}

/* Exact: a byte of the result is non-zero only for words with a zero byte. */
static uint64_t
zero_byte_in(uint64_t word)
{
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

static size_t
equal_until(const uint8_t *a, const uint8_t *b, size_t i, size_t len)
{
    /* Most of a page, mostly. */
    while (len - i >= STEP &&
           (difference(a + i, b + i) | difference(a + i + 8, b + i + 8) |
            difference(a + i + 16, b + i + 16) | difference(a + i + 24, b + i + 24)) ==
               0) {
        i += STEP;
    }
    while (len - i >= sizeof(uint64_t) && difference(a + i, b + i) == 0) {
        i += sizeof(uint64_t);
    }
    while (i < len && a[i] == b[i]) {
        i++;
    }
    return i;
}

static size_t
different_until(const uint8_t *a, const uint8_t *b, size_t i, size_t len)
{
    while (len - i >= sizeof(uint64_t) && zero_byte_in(difference(a + i, b + i)) == 0) {
        i += sizeof(uint64_t);
    }
    while (i < len && a[i] != b[i]) {
        i++;
    }
    return i;
}

static size_t
uleb_size(size_t n)
{
    return n < 0x80 ? 1 : 2;
}

static uint8_t *
uleb_put(uint8_t *p, size_t n)
{
    if (n < 0x80) {
        *p++ = (uint8_t)n;
        return p;
    }
    *p++ = (uint8_t)((n & 0x7f) | 0x80);
    *p++ = (uint8_t)(n >> 7);
    return p;
}

ssize_t
qmig_xbzrle_encode(const uint8_t *before, const uint8_t *after, size_t len, uint8_t *dst,
                   size_t cap)
{
    uint8_t *p = dst;
    size_t at = 0;

    if (len > QMIG_XBZRLE_PAGE_MAX) {
        return -1;
    }
    for (;;) {
        size_t start = equal_until(before, after, at, len);
        if (start == len) {
            return p - dst;
        }
        size_t end = different_until(before, after, start, len);
        size_t zrun = start - at;
        size_t nzrun = end - start;

        if (uleb_size(zrun) + uleb_size(nzrun) + nzrun > cap - (size_t)(p - dst)) {
            return -1;
        }
        p = uleb_put(p, zrun);
        p = uleb_put(p, nzrun);
        memcpy(p, after + start, nzrun);
        p += nzrun;
        at = end;
    }
}

/* One length, at *@p; at least 2 bytes must be left, as QEMU's decoder demands. */
static bool
uleb_get(const uint8_t **p, const uint8_t *end, size_t *n)
{
    if (end - *p < 2) {
        return false;
    }
    uint8_t low = (*p)[0], high = (*p)[1];
    if (low < 0x80) {
        *n = low;
        *p += 1;
        return true;
    }
    if (high >= 0x80) {
        return false;
    }
    *n = (size_t)(low & 0x7f) | (size_t)high << 7;
    *p += 2;
    return true;
}

/* The pair at *@p, for a page of which @room bytes are left. */
static bool
next_pair(const uint8_t **p, const uint8_t *end, bool first, size_t room, Pair *pair)
{
    if (!uleb_get(p, end, &pair->skip) || (pair->skip == 0 && !first) ||
        pair->skip > room) {
        return false;
    }
    if (!uleb_get(p, end, &pair->n) || pair->n == 0 || pair->n > room - pair->skip ||
        pair->n > (size_t)(end - *p)) {
        return false;
    }
    pair->data = *p;
    *p += pair->n;
    return true;
}

ssize_t
qmig_xbzrle_check(const uint8_t *code, size_t code_len, size_t len)
{
    const uint8_t *p = code, *end = code + code_len;
    size_t at = 0;
    Pair pair;

    while (p < end) {
        if (!next_pair(&p, end, p == code, len - at, &pair)) {
            return -1;
        }
        at += pair.skip + pair.n;
    }
    return (ssize_t)at;
}

bool
qmig_xbzrle_decode(uint8_t *page, size_t len, const uint8_t *code, size_t code_len)
{
    const uint8_t *p = code, *end = code + code_len;
    size_t at = 0;
    Pair pair;

    if (qmig_xbzrle_check(code, code_len, len) < 0) {
        return false;
    }
    while (p < end && next_pair(&p, end, p == code, len - at, &pair)) {
        memcpy(page + at + pair.skip, pair.data, pair.n);
        at += pair.skip + pair.n;
    }
    return true;
}
