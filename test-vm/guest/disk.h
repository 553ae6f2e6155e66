/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The disk: blocks written and, before each is written again, read back and verified. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Written blocks; what was wrong is in counters.errors. */
extern uint32_t disk_writes;

/* Find the first virtio disk, whose first @n_blocks of 4 KiB are written, @rate a second. Return:
 * whether there is one of that size. */
bool disk_init(uint32_t n_blocks, uint32_t rate);
/* Go on, without waiting. */
void disk_run(uint32_t ms);
