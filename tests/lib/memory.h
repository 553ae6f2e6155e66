/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much memory a piece of code holds: every malloc of the process is counted. */
#ifndef QMIG_TESTS_MEMORY_H
#define QMIG_TESTS_MEMORY_H

#include <stddef.h>

/* Begin to measure. */
void memory_start(void);
/* Bytes held at one time at most since then, above what was held at the start. */
size_t memory_peak(void);

#endif
