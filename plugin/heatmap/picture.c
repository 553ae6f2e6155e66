/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "picture.h"

#include "png.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4096, MOST = 254, NO_MEMORY = 255 };

/* Blue, cyan, green, yellow, red. @f: 0 to 1. */
static void
set_colour(uint8_t colour[3], double f)
{
    static const uint8_t stops[5][3] = { { 40, 70, 200 },
                                         { 0, 180, 220 },
                                         { 40, 180, 60 },
                                         { 250, 220, 40 },
                                         { 230, 30, 30 } };
    double at = f * 4;
    int stop = at >= 4 ? 3 : (int)at;

    for (int i = 0; i < 3; i++) {
        double from = stops[stop][i], to = stops[stop + 1][i];
        colour[i] = (uint8_t)(from + (to - from) * (at - stop));
    }
}

/* @is_log: each doubling of the number is the same step of colour. */
static void
make_palette(uint8_t palette[256][3], int is_log)
{
    static const uint8_t nothing[3] = { 24, 24, 32 }, no_memory[3] = { 255, 255, 255 };

    memcpy(palette[0], nothing, 3);
    memcpy(palette[NO_MEMORY], no_memory, 3);
    for (int i = 1; i <= MOST; i++) {
        set_colour(palette[i],
                   is_log ? log(i) / log(MOST) : (i - 1) / (double)(MOST - 1));
    }
}

/* ---- memory -------------------------------------------------------------------------------- */

static unsigned
pixel_shift(const struct map *m)
{
    uint64_t total = 0;
    unsigned shift = 0;

    for (uint32_t i = 0; i < m->n_blocks; i++) {
        total += m->blocks[i].n_pages;
    }
    while (total >> shift > (uint64_t)PICTURE_WIDTH * ROWS) {
        shift++;
    }
    return shift;
}

uint64_t
picture_pixel_pages(const struct map *m)
{
    return (uint64_t)1 << pixel_shift(m);
}

static uint64_t
n_pixels(const struct map_block *b, unsigned shift)
{
    return b->n_pages > 0 ? ((b->n_pages - 1) >> shift) + 1 : 0;
}

uint32_t
picture_rows(const struct map *m, const struct map_block *b)
{
    return (uint32_t)((n_pixels(b, pixel_shift(m)) + PICTURE_WIDTH - 1) / PICTURE_WIDTH);
}

static uint8_t
hottest(const struct map_block *b, uint64_t from, uint64_t to)
{
    uint16_t most = 0;

    for (uint64_t page = from; page < to && page < b->n_pages && most < MOST; page++) {
        most = b->pages[page].times > most ? b->pages[page].times : most;
    }
    return (uint8_t)(most < MOST ? most : MOST);
}

static void
put_block(struct png *png, const struct map_block *b, unsigned shift)
{
    uint64_t n = n_pixels(b, shift);
    uint8_t row[PICTURE_WIDTH];

    for (uint64_t first = 0; first < n; first += PICTURE_WIDTH) {
        for (uint64_t i = 0; i < PICTURE_WIDTH; i++) {
            uint64_t pixel = first + i;
            row[i] = pixel >= n ? NO_MEMORY
                                : hottest(b, pixel << shift, (pixel + 1) << shift);
        }
        png_row(png, row);
    }
}

int
picture_memory(const struct map *m, FILE *file)
{
    uint8_t palette[256][3], none[PICTURE_WIDTH];
    uint32_t height = 0;

    make_palette(palette, 1);
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        height += picture_rows(m, &m->blocks[i]);
    }
    struct png *png = png_begin(file, PICTURE_WIDTH, height > 0 ? height : 1, palette);
    if (png == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        put_block(png, &m->blocks[i], pixel_shift(m));
    }
    if (height == 0) {
        memset(none, NO_MEMORY, sizeof none);
        png_row(png, none);
    }
    png_end(png);
    return 0;
}

/* ---- time ---------------------------------------------------------------------------------- */

static void
fill_row(const struct map *m, uint32_t slice, uint8_t *row)
{
    const uint32_t *cells = m->cells + (size_t)slice * m->n_regions;
    uint64_t whole = (uint64_t)1 << m->region_shift;

    for (uint32_t i = 0; i < m->n_blocks; i++) {
        const struct map_block *b = &m->blocks[i];

        for (uint32_t k = 0; k < b->n_regions; k++) {
            uint64_t left = b->n_pages - ((uint64_t)k << m->region_shift);
            uint64_t pages = left < whole ? left : whole;
            uint64_t n = cells[b->first_region + k];
            uint64_t heat = n == 0 ? 0 : 1 + n * (MOST - 1) / pages;
            row[b->first_region + k] = (uint8_t)(heat < MOST ? heat : MOST);
        }
    }
}

int
picture_timeline(const struct map *m, FILE *file)
{
    uint32_t width = m->regions != NULL && m->n_regions > 0 ? m->n_regions : 1;
    uint8_t palette[256][3];
    uint8_t *row = malloc(width);

    make_palette(palette, 0);
    struct png *png = row != NULL ? png_begin(file, width, m->slice + 1, palette) : NULL;
    if (png == NULL) {
        free(row);
        return -1;
    }
    memset(row, NO_MEMORY, width);
    for (uint32_t slice = 0; slice <= m->slice; slice++) {
        if (m->regions != NULL) {
            fill_row(m, slice, row);
        }
        png_row(png, row);
    }
    png_end(png);
    free(row);
    return 0;
}
