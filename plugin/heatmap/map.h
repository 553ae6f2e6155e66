/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How often each page was sent, and when: four bytes a page, and a table of regions by time.
 *
 *     blocks    in the order of the stream's list; each has pages, and regions of 2^n pages
 *     regions   all blocks together some 1024; none lies in two blocks
 *     slices    of time, equally long; when there are too many, two become one
 *     passes    as the stats plugin tells them (qmig-stats-plugin(1))
 */
#ifndef QMIG_HEATMAP_MAP_H
#define QMIG_HEATMAP_MAP_H

#include "qmig-event.h"

#include <stdint.h>

enum {
    BUCKETS = 18, /* times sent: 1, 2, 3, 4, 5 to 8, 9 to 16, … 32769 and more */
    SLICES_MAX = 512,
    PASSES_MAX = 4096,
};

/* What is known of a page. */
struct map_page {
    uint16_t times; /* sent; 65535: as often or more */
    uint16_t pass;  /* the last one it was sent in, modulo 65536 */
};

struct map_counts {
    uint64_t records;             /* page records, of any kind */
    uint64_t resent;              /* of them: whose page had been sent before */
    uint64_t bytes, resent_bytes; /* of the wire */
};

struct map_block {
    char *name; /* owned; NULL: not announced */
    uint64_t length;
    uint64_t n_pages; /* 0: not tracked */
    uint64_t n_sent;  /* pages sent at least once */
    uint32_t page_size, page_shift;
    uint32_t first_region, n_regions;
    struct map_page *pages; /* owned */
    struct map_counts counts;
};

struct map_region {
    uint64_t records, resent;
};

/* Of a pass that has ended; of the current one and the last listed, the counts at its begin. */
struct map_pass {
    uint64_t start_ns, duration_ns;
    struct map_counts counts;
};

struct map {
    struct map_block *blocks; /* by index */
    uint32_t n_blocks;
    uint64_t page_bytes; /* of all `pages` */
    uint64_t untracked;  /* records of pages that are not tracked */
    struct map_counts counts;
    uint64_t n_sent;
    uint64_t buckets[BUCKETS]; /* pages */

    struct map_region *regions;       /* NULL: no page has come */
    uint32_t n_regions, region_shift; /* pages of a region: 1 << shift */
    uint32_t *cells; /* SLICES_MAX rows of n_regions: records, saturating */
    uint32_t slice;  /* the current row */
    uint64_t slice_ns;

    struct map_pass *passes;
    uint32_t n_passes, n_passes_allocated; /* listed; the last takes all that follow */
    uint32_t pass;                         /* the current one, from 1; 0: none yet */
    int round_ended, postcopy;
    uint64_t first_ns, now_ns; /* of the first event; as it was looked at last */
    unsigned until_clock;      /* pages until the clock is looked at */
};

/* See one event; @now_ns reads the clock, called now and then. */
void map_see(struct map *m, const struct qmig_event *ev, uint64_t (*now_ns)(void *),
             void *clock);
void map_clear(struct map *m);

/* Of pass number @i, from 0, up to now. */
struct map_pass map_pass_so_far(const struct map *m, uint32_t i);

/* The least and most times of bucket @i. */
uint32_t map_bucket_from(unsigned i);
uint32_t map_bucket_to(unsigned i);

#endif
