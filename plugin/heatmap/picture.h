/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A map as pictures. Return: 0, or -1: no memory. Errors of the file: ask ferror(). */
#ifndef QMIG_HEATMAP_PICTURE_H
#define QMIG_HEATMAP_PICTURE_H

#include "map.h"

#include <stdio.h>

enum { PICTURE_WIDTH = 512 }; /* pixels a row of the picture of memory */

/*
 * Memory: block after block, each from a row of its own on; row by row, a pixel for as many pages
 * as picture_pixel_pages() says. Its number: how often the one sent most often was sent; 254: as
 * often or more; 255: no memory.
 */
int picture_memory(const struct map *m, FILE *file);
uint64_t picture_pixel_pages(const struct map *m);
uint32_t picture_rows(const struct map *m, const struct map_block *b);

/*
 * Time: a column for each region, a row for each slice. Its number: 0 for nothing sent, else 1 and
 * 253 for each time that all of the region was sent, 254 at most.
 */
int picture_timeline(const struct map *m, FILE *file);

#endif
