/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the bodies of pages are made of, and the cheapest way to put it there. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "workload.h"

/* Load the pool from opt/qmig/pool, or make one. */
void pool_init(enum content content);

/* Fill memory from the pool, wherever it stands; return that offset. At most POOL_TAKE_MAX. */
#define POOL_TAKE_MAX 0xc000u
uint32_t pool_take(void *to, uint32_t length);

/* The first word of the memory that is not the pool's at that offset; NULL: all are. */
const uint32_t *pool_differs(const void *memory, uint32_t offset, uint32_t length);
uint32_t pool_word(uint32_t offset);
