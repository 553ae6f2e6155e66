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

/* Verify the next page in order, then write it. */
void pages_write_one(uint32_t now_ms);

/* Verify the next page of the background walk. */
void pages_check_one(void);
