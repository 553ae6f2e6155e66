/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The working set: written, and checked. */
#pragma once

#include <stdint.h>

#include "workload.h"

struct counters {
    uint32_t dirtied, checked, errors;
};
extern struct counters counters;

void pages_fill(const struct workload *workload);

/* Verify and write the next n pages in order. */
void pages_write(uint32_t n);

/* How many of them take about a third of a millisecond. */
uint32_t pages_batch(void);

/* Verify the next n pages of the background walk. */
void pages_check(uint32_t n);
