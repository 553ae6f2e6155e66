/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guest is asked to do. */
#pragma once

#include <stdint.h>

#define RATE_MAX 0xffffffffu

enum pattern { PATTERN_WORD, PATTERN_PART, PATTERN_PAGE, PATTERN_TOUCH };
enum order { ORDER_SEQUENTIAL, ORDER_RANDOM, ORDER_HOT };
enum content { CONTENT_ZERO, CONTENT_TEXT, CONTENT_RANDOM };

struct workload {
    uint32_t base; /* bytes, multiple of the page size */
    uint32_t n_pages;
    uint32_t rate;          /* pages per second, RATE_MAX: as many as possible */
    uint32_t n_disk_blocks; /* of 4 KiB; 0: no disk */
    uint32_t disk_rate;     /* blocks per second */
    enum pattern pattern;
    enum order order;
    enum content content;
};

/* key=value pairs parted by ':'; NULL, or the first word that makes no sense. */
const char *workload_parse(char *text, struct workload *workload);
