/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include "picture.h"

#include <stddef.h>

enum { TOP_BLOCKS = 16, TOP_RANGES = 8 };

static void
report_counts(struct qmig_report *r, const struct map_counts *counts)
{
    r->number(r, "records", counts->records);
    r->number(r, "resent", counts->resent);
    r->number(r, "bytes", counts->bytes);
    r->number(r, "resent_bytes", counts->resent_bytes);
}

/* ---- summary ------------------------------------------------------------------------------- */

static void
report_histogram(const struct map *m, struct qmig_report *r)
{
    r->begin_list(r, "times_sent");
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (m->buckets[i] == 0) {
            continue;
        }
        r->begin_group(r, NULL);
        r->number(r, "from", map_bucket_from(i));
        r->number(r, "to", map_bucket_to(i));
        r->number(r, "pages", m->buckets[i]);
        r->end(r);
    }
    r->end(r);
}

/*
 * The one with the most of those that come after @last, itself among equals of @last by its place.
 * @value: of number @i. Return: @n when there is none with any.
 */
static uint32_t
next_highest(const struct map *m, uint32_t n, uint32_t last,
             uint64_t (*value)(const struct map *, uint32_t))
{
    uint32_t best = n;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t v = value(m, i);
        int is_left = last == n || v < value(m, last) ||
                      (v == value(m, last) && i > last);

        if (v > 0 && is_left && (best == n || v > value(m, best))) {
            best = i;
        }
    }
    return best;
}

static uint64_t
block_value(const struct map *m, uint32_t i)
{
    return m->blocks[i].counts.records;
}

static uint64_t
region_value(const struct map *m, uint32_t i)
{
    return m->regions[i].resent;
}

static void
report_blocks(const struct map *m, struct qmig_report *r)
{
    uint32_t n = m->n_blocks;
    uint32_t at = next_highest(m, n, n, block_value);

    r->begin_list(r, "blocks");
    for (int i = 0; i < TOP_BLOCKS && at < n; i++) {
        const struct map_block *b = &m->blocks[at];

        r->begin_group(r, NULL);
        r->text(r, "name", b->name);
        r->number(r, "length", b->length);
        r->number(r, "pages_sent", b->n_sent);
        report_counts(r, &b->counts);
        r->end(r);
        at = next_highest(m, n, at, block_value);
    }
    r->end(r);
}

static const struct map_block *
block_of_region(const struct map *m, uint32_t region)
{
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        if (region - m->blocks[i].first_region < m->blocks[i].n_regions) {
            return &m->blocks[i];
        }
    }
    return NULL;
}

static void
report_range(const struct map *m, uint32_t region, struct qmig_report *r)
{
    const struct map_block *b = block_of_region(m, region);

    if (b == NULL) {
        return;
    }
    uint64_t first = (uint64_t)(region - b->first_region) << m->region_shift;
    uint64_t n = b->n_pages - first;
    if (n > (uint64_t)1 << m->region_shift) {
        n = (uint64_t)1 << m->region_shift;
    }
    r->begin_group(r, NULL);
    r->text(r, "block", b->name);
    r->number(r, "offset", first << b->page_shift);
    r->number(r, "length", n << b->page_shift);
    r->number(r, "records", m->regions[region].records);
    r->number(r, "resent", m->regions[region].resent);
    r->end(r);
}

static void
report_ranges(const struct map *m, struct qmig_report *r)
{
    uint32_t n = m->regions != NULL ? m->n_regions : 0;
    uint32_t at = next_highest(m, n, n, region_value);

    r->begin_list(r, "hottest");
    for (int i = 0; i < TOP_RANGES && at < n; i++) {
        report_range(m, at, r);
        at = next_highest(m, n, at, region_value);
    }
    r->end(r);
}

void
report_summary(const struct map *m, struct qmig_report *r)
{
    r->number(r, "pages_sent", m->n_sent);
    report_counts(r, &m->counts);
    r->number(r, "resent_percent",
              m->counts.bytes > 0 ? m->counts.resent_bytes * 100 / m->counts.bytes : 0);
    r->number(r, "iteration", m->pass);
    r->number(r, "untracked", m->untracked);
    report_histogram(m, r);
    report_blocks(m, r);
    report_ranges(m, r);
}

/* ---- all ----------------------------------------------------------------------------------- */

static void
report_passes(const struct map *m, struct qmig_report *r)
{
    r->begin_list(r, "iterations");
    for (uint32_t i = 0; i < m->n_passes; i++) {
        struct map_pass pass = map_pass_so_far(m, i);

        r->begin_group(r, NULL);
        r->number(r, "number", i + 1);
        r->number(r, "start_ms", (pass.start_ns - m->first_ns) / 1000000);
        r->number(r, "duration_ms", pass.duration_ns / 1000000);
        report_counts(r, &pass.counts);
        r->end(r);
    }
    r->end(r);
}

static int
is_alike(const struct map_page *a, const struct map_page *b)
{
    return a->times == b->times && a->pass == b->pass;
}

/* [first page, pages, times, last pass], for each run of like pages that were sent. */
static void
report_runs(const struct map_block *b, struct qmig_report *r)
{
    uint64_t end;

    r->begin_list(r, "runs");
    for (uint64_t page = 0; page < b->n_pages; page = end) {
        const struct map_page *p = &b->pages[page];

        end = page + 1;
        while (end < b->n_pages && is_alike(p, &b->pages[end])) {
            end++;
        }
        if (p->times == 0) {
            continue;
        }
        r->begin_list(r, NULL);
        r->number(r, NULL, page);
        r->number(r, NULL, end - page);
        r->number(r, NULL, p->times);
        r->number(r, NULL, p->pass);
        r->end(r);
    }
    r->end(r);
}

static void
report_pages(const struct map *m, struct qmig_report *r)
{
    uint32_t row = 0;

    r->begin_list(r, "pages");
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        const struct map_block *b = &m->blocks[i];

        r->begin_group(r, NULL);
        r->text(r, "block", b->name);
        r->number(r, "length", b->length);
        r->number(r, "page_size", b->page_size);
        r->number(r, "pages_sent", b->n_sent);
        r->number(r, "image_row", row);
        r->number(r, "image_rows", picture_rows(m, b));
        r->number(r, "timeline_column", b->first_region);
        r->number(r, "timeline_columns", b->n_regions);
        report_runs(b, r);
        r->end(r);
        row += picture_rows(m, b);
    }
    r->end(r);
}

/* [slice, column, records], for each cell that has any. */
static void
report_cells(const struct map *m, struct qmig_report *r)
{
    r->begin_list(r, "cells");
    for (uint32_t slice = 0; m->regions != NULL && slice <= m->slice; slice++) {
        for (uint32_t i = 0; i < m->n_regions; i++) {
            uint32_t n = m->cells[(size_t)slice * m->n_regions + i];

            if (n == 0) {
                continue;
            }
            r->begin_list(r, NULL);
            r->number(r, NULL, slice);
            r->number(r, NULL, i);
            r->number(r, NULL, n);
            r->end(r);
        }
    }
    r->end(r);
}

void
report_whole(const struct map *m, struct qmig_report *r)
{
    report_passes(m, r);
    r->begin_group(r, "image");
    r->number(r, "width", PICTURE_WIDTH);
    r->number(r, "pixel_pages", picture_pixel_pages(m));
    r->end(r);
    report_pages(m, r);
    r->begin_group(r, "timeline");
    r->number(r, "slice_ms", m->slice_ns / 1000000);
    r->number(r, "column_pages", (uint64_t)1 << m->region_shift);
    report_cells(m, r);
    r->end(r);
}
