/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hot path is one page record: its four bytes, its region, its cell, a bucket or two. No
 * division, and the clock every CLOCK_PAGES records only.
 */
#include "map.h"

#include <stdlib.h>
#include <string.h>

enum {
    REGIONS = 1024,    /* and one more for each block */
    BLOCKS_MAX = 4096, /* as the decoder's bound on the block list */
    CLOCK_PAGES = 64,
};

#define SLICE_NS ((uint64_t)50 * 1000 * 1000)
/* Bound on the counters: 512 GiB of guest memory with 4 KiB pages. */
#define PAGE_BYTES_MAX ((uint64_t)512 << 20)

/* ---- how often --------------------------------------------------------------------------- */

/* 1, 2, 3, 4: their own; then up to each power of two. @times: at least 1. */
static unsigned
bucket_of(uint32_t times)
{
    return times <= 4 ? times - 1 : 33u - (unsigned)__builtin_clz(times - 1);
}

uint32_t
map_bucket_to(unsigned i)
{
    return i < 4 ? i + 1 : (uint32_t)1 << (i - 1);
}

uint32_t
map_bucket_from(unsigned i)
{
    return i == 0 ? 1 : map_bucket_to(i - 1) + 1;
}

static void
count(struct map_counts *c, const struct qmig_event *ev, int resent)
{
    c->records++;
    c->bytes += ev->wire_size;
    if (resent) {
        c->resent++;
        c->resent_bytes += ev->wire_size;
    }
}

/* ---- passes, by the rules of plugin/stats/stats.c ----------------------------------------- */

struct map_pass
map_pass_so_far(const struct map *m, uint32_t i)
{
    struct map_pass pass = m->passes[i];

    if (i + 1 == m->n_passes) {
        pass.counts.records = m->counts.records - pass.counts.records;
        pass.counts.resent = m->counts.resent - pass.counts.resent;
        pass.counts.bytes = m->counts.bytes - pass.counts.bytes;
        pass.counts.resent_bytes = m->counts.resent_bytes - pass.counts.resent_bytes;
        pass.duration_ns = m->now_ns - pass.start_ns;
    }
    return pass;
}

static int
have_room_for_pass(struct map *m)
{
    if (m->n_passes < m->n_passes_allocated) {
        return 1;
    }
    if (m->n_passes == PASSES_MAX) {
        return 0;
    }
    uint32_t n = m->n_passes_allocated == 0 ? 16 : m->n_passes_allocated * 2;
    struct map_pass *grown = realloc(m->passes, n * sizeof *grown);
    if (grown == NULL) {
        return 0;
    }
    m->passes = grown;
    m->n_passes_allocated = n;
    return 1;
}

static void
begin_pass(struct map *m)
{
    m->pass++;
    m->round_ended = 0;
    if (!have_room_for_pass(m)) {
        return; /* the last one goes on */
    }
    if (m->n_passes > 0) {
        m->passes[m->n_passes - 1] = map_pass_so_far(m, m->n_passes - 1);
    }
    m->passes[m->n_passes++] = (struct map_pass){ .start_ns = m->now_ns,
                                                  .counts = m->counts };
}

static void
see_section(struct map *m, const struct qmig_event_section *section)
{
    int is_end = section->type == QMIG_SECTION_END;

    if (strcmp(section->name, "ram") != 0 || section->type == QMIG_SECTION_START) {
        return;
    }
    if (m->pass == 0 || m->round_ended || (is_end && !m->postcopy)) {
        begin_pass(m);
    }
}

/* ---- when --------------------------------------------------------------------------------- */

/* Twice as long slices, half as many. */
static void
merge_slices(struct map *m)
{
    for (uint32_t row = 0; row < SLICES_MAX; row++) {
        const uint32_t *from = m->cells + (size_t)row * m->n_regions;
        uint32_t *to = m->cells + (size_t)(row / 2) * m->n_regions;

        for (uint32_t i = 0; i < m->n_regions; i++) {
            uint32_t before = row % 2 == 0 ? 0 : to[i];
            to[i] = from[i] > UINT32_MAX - before ? UINT32_MAX : before + from[i];
        }
    }
    size_t half = (size_t)(SLICES_MAX / 2) * m->n_regions;
    memset(m->cells + half, 0, half * sizeof *m->cells);
    m->slice_ns *= 2;
}

static void
look_at_the_clock(struct map *m, uint64_t now_ns)
{
    if (m->first_ns == 0) {
        m->first_ns = now_ns;
    }
    m->now_ns = now_ns;
    m->until_clock = CLOCK_PAGES;
    if (m->regions == NULL) {
        return;
    }
    while ((now_ns - m->first_ns) / m->slice_ns >= SLICES_MAX) {
        merge_slices(m);
    }
    m->slice = (uint32_t)((now_ns - m->first_ns) / m->slice_ns);
}

/* ---- blocks and regions ------------------------------------------------------------------- */

static void
see_block(struct map *m, const struct qmig_block *block)
{
    if (m->regions != NULL || block->index >= BLOCKS_MAX || block->index != m->n_blocks) {
        return; /* the list comes once, in order */
    }
    struct map_block *grown = realloc(m->blocks, (m->n_blocks + 1) * sizeof *grown);
    if (grown == NULL) {
        return;
    }
    m->blocks = grown;
    struct map_block *b = &m->blocks[m->n_blocks];
    *b = (struct map_block){ .name = strdup(block->name),
                             .length = block->used_length,
                             .page_size = block->page_size };
    if (b->name == NULL) {
        return;
    }
    m->n_blocks++;
    if (block->page_size == 0 || (block->page_size & (block->page_size - 1)) != 0) {
        return;
    }
    b->page_shift = (uint32_t)__builtin_ctz(block->page_size);
    uint64_t n_pages = block->used_length >> b->page_shift;
    if (n_pages > (PAGE_BYTES_MAX - m->page_bytes) / sizeof *b->pages) {
        return;
    }
    b->pages = calloc(n_pages, sizeof *b->pages);
    b->n_pages = b->pages != NULL ? n_pages : 0;
    m->page_bytes += b->n_pages * sizeof *b->pages;
}

/* The block list is complete: lay out the regions. Return: it could be done. */
static int
lay_out(struct map *m)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < m->n_blocks; i++) {
        total += m->blocks[i].n_pages;
    }
    while (total >> m->region_shift > REGIONS) {
        m->region_shift++;
    }
    m->n_regions = 0;
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        struct map_block *b = &m->blocks[i];

        b->first_region = m->n_regions;
        if (b->n_pages > 0) {
            b->n_regions = (uint32_t)((b->n_pages - 1) >> m->region_shift) + 1;
        }
        m->n_regions += b->n_regions;
    }
    m->regions = calloc(m->n_regions + 1u, sizeof *m->regions);
    m->cells = calloc((size_t)SLICES_MAX * (m->n_regions + 1u), sizeof *m->cells);
    if (m->regions == NULL || m->cells == NULL) {
        free(m->regions);
        m->regions = NULL;
        return 0;
    }
    m->slice_ns = SLICE_NS;
    return 1;
}

/* ---- pages -------------------------------------------------------------------------------- */

static void
mark(struct map *m, struct map_block *b, uint64_t page, const struct qmig_event *ev)
{
    struct map_page *p = &b->pages[page];
    int resent = p->times > 0;

    if (m->round_ended || m->pass == 0 || (resent && p->pass == (uint16_t)m->pass)) {
        begin_pass(m);
    }
    if (resent) {
        m->buckets[bucket_of(p->times)]--;
    } else {
        b->n_sent++;
        m->n_sent++;
    }
    p->times += p->times < UINT16_MAX;
    p->pass = (uint16_t)m->pass;
    m->buckets[bucket_of(p->times)]++;
    count(&b->counts, ev, resent);
    count(&m->counts, ev, resent);

    uint32_t number = b->first_region + (uint32_t)(page >> m->region_shift);
    uint32_t *cell = &m->cells[(size_t)m->slice * m->n_regions + number];
    m->regions[number].records++;
    m->regions[number].resent += (uint64_t)resent;
    *cell += *cell < UINT32_MAX;
}

static void
see_page(struct map *m, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;
    struct map_block *b = page->block->index < m->n_blocks
                              ? &m->blocks[page->block->index]
                              : NULL;
    uint64_t number = b != NULL ? page->offset >> b->page_shift : 0;

    if (b == NULL || number >= b->n_pages || (m->regions == NULL && !lay_out(m))) {
        m->untracked++;
        return;
    }
    mark(m, b, number, ev);
}

void
map_see(struct map *m, const struct qmig_event *ev, uint64_t (*now_ns)(void *),
        void *clock)
{
    if (ev->kind == QMIG_EVENT_PAGE) {
        if (m->until_clock == 0) {
            look_at_the_clock(m, now_ns(clock));
        }
        m->until_clock--;
        see_page(m, ev);
        return;
    }
    look_at_the_clock(m, now_ns(clock));
    switch (ev->kind) {
    case QMIG_EVENT_RAM_BLOCK:
        see_block(m, ev->u.ram_block.block);
        break;
    case QMIG_EVENT_SECTION:
        see_section(m, &ev->u.section);
        break;
    case QMIG_EVENT_RAM_FLUSH:
        m->round_ended = m->pass > 0; /* that in START ends none */
        break;
    case QMIG_EVENT_COMMAND:
        m->postcopy = m->postcopy || ev->u.command.command == QMIG_COMMAND_PACKAGED;
        break;
    default:
        break;
    }
}

void
map_clear(struct map *m)
{
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        free(m->blocks[i].name);
        free(m->blocks[i].pages);
    }
    free(m->blocks);
    free(m->regions);
    free(m->cells);
    free(m->passes);
}
