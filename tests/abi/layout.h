/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The layout of the ABI as numbers. layout.c is compiled twice, once with the headers of
 * today, once with the frozen ones; version 1 lives as long as the two agree.
 */
#ifndef QMIG_TESTS_ABI_LAYOUT_H
#define QMIG_TESTS_ABI_LAYOUT_H

#include <stddef.h>

typedef struct {
    const char *what;
    size_t value;
} LayoutRow;

extern const LayoutRow layout_now[], layout_v1[]; /* a NULL `what` ends each */

#endif
