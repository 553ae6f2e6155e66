/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XBZRLE: a page as the bytes that changed since an older version of it, bit for bit as QEMU
 * (migration/xbzrle.c, 7.2 to 11.1) writes and reads it. The grammar, P = page length:
 *
 *     code  := pair*                        no pair: nothing changed
 *     pair  := zrun nzrun
 *     zrun  := uleb n                       n bytes stay; n >= 1 but in the first pair
 *     nzrun := uleb n, n bytes              n bytes are replaced; n >= 1
 *     uleb  := n < 0x80: n                  else: n & 0x7f | 0x80, n >> 7; at most 0x3fff
 *
 * The sum of all runs is at most P; unchanged bytes at the end are left out.
 */
#ifndef QMIG_COMPRESS_XBZRLE_H
#define QMIG_COMPRESS_XBZRLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The longest page, bytes: a run's length has 14 bits. */
#define QMIG_XBZRLE_PAGE_MAX ((size_t)0x3fff)

/**
 * qmig_xbzrle_encode() - what turns @before into @after
 * @before, @after: two versions of a page; they may not overlap @dst
 * @len:            bytes of each
 * @cap:            bytes of @dst; QEMU allows at most the page's own length on the wire
 *
 * Return: bytes written; 0 when the versions are equal; -1 when the code does not fit into
 *         @cap or @len is beyond QMIG_XBZRLE_PAGE_MAX: send the page as it is.
 */
ssize_t qmig_xbzrle_encode(const uint8_t *before, const uint8_t *after, size_t len,
                           uint8_t *dst, size_t cap) __attribute__((warn_unused_result));

/**
 * qmig_xbzrle_check() - does QEMU accept this code?
 * @len: bytes of the page it is for
 *
 * Return: bytes of the page it reaches (the end of its last run), or -1 when it breaks a rule.
 */
ssize_t qmig_xbzrle_check(const uint8_t *code, size_t code_len, size_t len)
    __attribute__((warn_unused_result));

/* Patch @page. Return: false, with @page untouched, when the code breaks a rule. */
bool qmig_xbzrle_decode(uint8_t *page, size_t len, const uint8_t *code, size_t code_len)
    __attribute__((warn_unused_result));

#endif
