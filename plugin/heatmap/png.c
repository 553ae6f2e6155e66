/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PNG (ISO/IEC 15948) in its simplest form: signature, then chunks IHDR, PLTE, IDAT…, IEND, each
 * be32 length, type, data, be32 CRC over type and data. IDAT is one zlib stream of all rows, each
 * behind a byte that names its filter (0: none).
 */
#include "png.h"

#include "util/writer.h"

#include <stdlib.h>
#include <zlib.h>

enum { IDAT_SIZE = 64 << 10 };

struct png {
    FILE *file;
    z_stream z;
    uint32_t width, height;
    const uint8_t (*palette)[3];
    int begun;
    uint8_t out[IDAT_SIZE];
};

static void
write_be32(FILE *file, uint32_t number)
{
    uint8_t bytes[4];
    QmigWriter w = qmig_writer(bytes, sizeof bytes);

    (void)!qmig_writer_be32(&w, number);
    fwrite(bytes, 1, sizeof bytes, file);
}

static void
write_chunk(FILE *file, const char type[5], const uint8_t *data, size_t len)
{
    uLong sum = crc32(0, (const Bytef *)type, 4);

    if (len > 0) {
        sum = crc32(sum, data, (uInt)len);
    }
    write_be32(file, (uint32_t)len);
    fwrite(type, 1, 4, file);
    fwrite(data, 1, len, file);
    write_be32(file, (uint32_t)sum);
}

static void
write_head(struct png *png)
{
    static const uint8_t signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
    /* Eight bits, with a palette; deflate, filters, not interlaced. */
    static const uint8_t form[5] = { 8, 3, 0, 0, 0 };
    uint8_t head[13];
    QmigWriter w = qmig_writer(head, sizeof head);

    (void)!(qmig_writer_be32(&w, png->width) && qmig_writer_be32(&w, png->height) &&
            qmig_writer_bytes(&w, form, sizeof form));
    fwrite(signature, 1, sizeof signature, png->file);
    write_chunk(png->file, "IHDR", head, sizeof head);
    write_chunk(png->file, "PLTE", png->palette[0], 256 * 3);
    png->begun = 1;
}

struct png *
png_begin(FILE *file, uint32_t width, uint32_t height, const uint8_t palette[256][3])
{
    struct png *png = calloc(1, sizeof *png);

    if (png == NULL || deflateInit(&png->z, Z_DEFAULT_COMPRESSION) != Z_OK) {
        free(png);
        return NULL;
    }
    png->file = file;
    png->width = width;
    png->height = height;
    png->palette = palette;
    png->z.next_out = png->out;
    png->z.avail_out = IDAT_SIZE;
    return png;
}

static void
write_data(struct png *png)
{
    if (png->z.avail_out < IDAT_SIZE) {
        write_chunk(png->file, "IDAT", png->out, IDAT_SIZE - png->z.avail_out);
    }
    png->z.next_out = png->out;
    png->z.avail_out = IDAT_SIZE;
}

static void
pack(struct png *png, const uint8_t *data, uint32_t len, int flush)
{
    int result;

    png->z.next_in = (z_const Bytef *)data;
    png->z.avail_in = len;
    do {
        result = deflate(&png->z, flush);
        if (png->z.avail_out == 0) {
            write_data(png);
        }
    } while (png->z.avail_in > 0 || (flush == Z_FINISH && result == Z_OK));
}

void
png_row(struct png *png, const uint8_t *row)
{
    static const uint8_t no_filter = 0;

    if (!png->begun) {
        write_head(png);
    }
    pack(png, &no_filter, 1, Z_NO_FLUSH);
    pack(png, row, png->width, Z_NO_FLUSH);
}

void
png_end(struct png *png)
{
    static const uint8_t nothing = 0;

    pack(png, &nothing, 0, Z_FINISH);
    write_data(png);
    write_chunk(png->file, "IEND", &nothing, 0);
    deflateEnd(&png->z);
    free(png);
}
