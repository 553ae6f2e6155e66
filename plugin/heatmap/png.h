/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A picture of 8-bit numbers and what colour each of them has, as PNG, row by row. */
#ifndef QMIG_HEATMAP_PNG_H
#define QMIG_HEATMAP_PNG_H

#include <stdint.h>
#include <stdio.h>

struct png;

/* @palette: red, green, blue of 0 to 255. NULL: no memory. Nothing is written before a row. */
struct png *png_begin(FILE *file, uint32_t width, uint32_t height,
                      const uint8_t palette[256][3]);
/* @row: @width numbers. Errors of the file: ask ferror(). */
void png_row(struct png *png, const uint8_t *row);
/* After @height rows. Frees @png, leaves the file open. */
void png_end(struct png *png);

#endif
