/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See sample-stream.h. */
#include "tests/lib/sample-stream.h"

#include <string.h>

void
put_u8(GByteArray *out, uint8_t v)
{
    g_byte_array_append(out, &v, 1);
}

void
put_be16(GByteArray *out, uint16_t v)
{
    put_u8(out, (uint8_t)(v >> 8));
    put_u8(out, (uint8_t)v);
}

void
put_be32(GByteArray *out, uint32_t v)
{
    put_be16(out, (uint16_t)(v >> 16));
    put_be16(out, (uint16_t)v);
}

void
put_be64(GByteArray *out, uint64_t v)
{
    put_be32(out, (uint32_t)(v >> 32));
    put_be32(out, (uint32_t)v);
}

void
put_text(GByteArray *out, const char *s)
{
    g_byte_array_append(out, (const guint8 *)s, (guint)strlen(s));
}

void
put_cstr(GByteArray *out, const char *s)
{
    put_u8(out, (uint8_t)strlen(s));
    put_text(out, s);
}

void
put_pattern(GByteArray *out, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        put_u8(out, (uint8_t)(i * 31 + (i >> 8) * 7 + seed));
    }
}

void
put_head(GByteArray *out)
{
    put_text(out, "QEVM");
    put_be32(out, 3);
    put_u8(out, 0x07);
    put_be32(out, (uint32_t)strlen("pc-test-1.0"));
    put_text(out, "pc-test-1.0");
}

void
put_start(GByteArray *out, uint32_t id, const char *name, uint32_t version)
{
    put_u8(out, 0x01);
    put_be32(out, id);
    put_cstr(out, name);
    put_be32(out, 0);
    put_be32(out, version);
}

void
put_part(GByteArray *out, uint8_t type, uint32_t id)
{
    put_u8(out, type);
    put_be32(out, id);
}

void
put_footer(GByteArray *out, uint32_t id)
{
    put_u8(out, 0x7e);
    put_be32(out, id);
}

void
put_block_list(GByteArray *out)
{
    put_be64(out, 20 * 4096 | 0x04);
    put_cstr(out, "pc.ram");
    put_be64(out, 16 * 4096);
    put_cstr(out, "rom");
    put_be64(out, 4 * 4096);
}

static void
put_pages(GByteArray *out)
{
    put_be64(out, 0 * 4096 | 0x08); /* page, named */
    put_cstr(out, "pc.ram");
    put_pattern(out, 4096, 1);
    put_be64(out, 1 * 4096 | 0x08 | 0x20); /* page, continued */
    put_pattern(out, 4096, 2);
    put_be64(out, 15 * 4096 | 0x02 | 0x20); /* zero, continued */
    put_u8(out, 0);
    put_be64(out, 3 * 4096 | 0x02); /* zero with a fill byte, other block */
    put_cstr(out, "rom");
    put_u8(out, 0xaa);
    put_be64(out, 2 * 4096 | 0x40); /* xbzrle, named again */
    put_cstr(out, "pc.ram");
    put_u8(out, 1);
    put_be16(out, 5);
    put_pattern(out, 5, 3);
    put_be64(out, 3 * 4096 | 0x40 | 0x20); /* xbzrle, empty */
    put_u8(out, 1);
    put_be16(out, 0);
    put_be64(out, 4 * 4096 | 0x100 | 0x20); /* zlib */
    put_be32(out, 321);
    put_pattern(out, 321, 4);
    put_be64(out, 5 * 4096 | 0x08); /* named although it could continue */
    put_cstr(out, "pc.ram");
    put_pattern(out, 4096, 5);
}

static void
put_device(GByteArray *out, uint32_t id, const char *name, size_t n)
{
    put_u8(out, 0x04);
    put_be32(out, id);
    put_cstr(out, name);
    put_be32(out, 0);
    put_be32(out, 2);
    put_pattern(out, n, id);
    put_footer(out, id);
}

static void
put_config_subs(GByteArray *out)
{
    put_u8(out, 0x05);
    put_cstr(out, "configuration/target-page-bits");
    put_be32(out, 1);
    put_be32(out, 12);
    put_u8(out, 0x05);
    put_cstr(out, "configuration/uuid");
    put_be32(out, 1);
    put_pattern(out, 16, 9);
}

static void
put_command(GByteArray *out, uint16_t command, uint16_t len)
{
    put_u8(out, 0x08);
    put_be16(out, command);
    put_be16(out, len);
}

GByteArray *
sample_precopy(void)
{
    GByteArray *out = g_byte_array_new();
    /* 40 = 8 + 3 * 4 + (1 + 1 + 7 + 4 + 7) */
    static const char json[] =
        "{\"page_size\":4096,\"devices\":[{\"name\":\"timer\",\"instance_id\":0,"
        "\"vmsd_name\":\"timer\",\"version\":2,\"fields\":[{\"name\":\"a\",\"size\":8},"
        "{\"name\":\"b\",\"array_len\":3,\"size\":4}],\"subsections\":[{\"vmsd_name\":"
        "\"timer/x\",\"version\":1,\"fields\":[{\"name\":\"c\",\"size\":7}]}]},"
        "{\"name\":\"old\",\"instance_id\":0,\"size\":9,\"fields\":[{\"name\":\"data\","
        "\"size\":9,\"type\":\"buffer\"}]}]}";

    put_head(out);
    put_config_subs(out);
    put_command(out, 1, 0);
    put_command(out, 2, 4);
    put_be32(out, 1);
    put_start(out, 2, "ram", 4);
    put_block_list(out);
    put_be64(out, 0x200);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_part(out, 0x02, 2);
    put_pages(out);
    put_be64(out, 0x80);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_command(out, 11, 0);
    put_part(out, 0x03, 2);
    put_be64(out, 6 * 4096 | 0x08 | 0x20); /* the block is remembered over sections */
    put_pattern(out, 4096, 6);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_device(out, 0, "timer", 40);
    put_device(out, 7, "old", 9);
    put_u8(out, 0x00);
    put_u8(out, 0x06);
    put_be32(out, (uint32_t)strlen(json));
    put_text(out, json);
    return out;
}

GByteArray *
sample_postcopy(void)
{
    GByteArray *out = g_byte_array_new();

    put_head(out);
    put_command(out, 1, 0);
    put_command(out, 3, 16); /* ADVISE: all pages are 4 KiB */
    put_be64(out, 4096);
    put_be64(out, 4096);
    put_start(out, 1, "ram", 4);
    put_block_list(out);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_part(out, 0x02, 1);
    put_pages(out);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_command(out, 6, 25); /* RAM_DISCARD: version, block, 0, one range */
    put_u8(out, 0);
    put_cstr(out, "pc.ram");
    put_u8(out, 0);
    put_be64(out, 0);
    put_be64(out, 4096);
    put_command(out, 7, 4); /* PACKAGED */
    put_be32(out, 5000);
    put_pattern(out, 5000, 11);
    put_part(out, 0x02, 1);
    put_be64(out, 0 * 4096 | 0x08 | 0x20);
    put_pattern(out, 4096, 12);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_part(out, 0x03, 1);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_u8(out, 0x00);
    return out;
}

static void
put_bitmaps(GByteArray *out)
{
    put_start(out, 4, "dirty-bitmap", 1);
    put_u8(out, 0x08 | 0x04 | 0x10); /* node, name, start */
    put_cstr(out, "disk0");
    put_cstr(out, "backup");
    put_be32(out, 65536);
    put_u8(out, 3);
    put_u8(out, 0x01);
    put_footer(out, 4);
    put_part(out, 0x02, 4);
    put_u8(out, 0x40); /* bits */
    put_be64(out, 0);
    put_be32(out, 2048);
    put_be64(out, 32);
    put_pattern(out, 32, 7);
    put_u8(out, 0x40 | 0x02); /* bits, all clear */
    put_be64(out, 2048);
    put_be32(out, 2048);
    put_u8(out, 0x04 | 0x20 | 0x01); /* another name, complete, end of section */
    put_cstr(out, "second");
    put_footer(out, 4);
}

static void
put_disk_and_vfio(GByteArray *out)
{
    put_start(out, 5, "block", 1);
    put_be64(out, 4 << 9 | 0x04);
    put_be64(out, 2048 << 9 | 0x01 | 0x08);
    put_cstr(out, "drive0");
    put_be64(out, 0x02);
    put_footer(out, 5);
    put_start(out, 6, "0000:00:05.0/vfio", 1);
    put_be64(out, 0xffffffffef100003);
    put_be64(out, 0xffffffffef100001);
    put_footer(out, 6);
    put_part(out, 0x02, 6);
    put_be64(out, 0xffffffffef100004);
    put_be64(out, 99);
    put_pattern(out, 99, 8);
    put_be64(out, 0xffffffffef100005);
    put_footer(out, 6);
}

GByteArray *
sample_sections(void)
{
    static const char json[] =
        "{\"page_size\":4096,\"devices\":[{\"name\":\"dev\",\"instance_id\":0,"
        "\"fields\":[{\"name\":\"a\",\"size\":40}]}]}";
    GByteArray *out = g_byte_array_new();

    put_head(out);
    put_command(out, 3, 16); /* ADVISE: pages of 4 KiB and 2 MiB */
    put_be64(out, 0x201000);
    put_be64(out, 4096);
    put_u8(out, 0x04);
    put_be32(out, 3);
    put_cstr(out, "0000:00:04.0/virtio-mem-device-early");
    put_be32(out, 0);
    put_be32(out, 1);
    put_be64(out, 0x100000000);
    put_be64(out, 65 * 0x200000);
    put_be64(out, 0x200000);
    put_be32(out, 0);
    put_be64(out, 0x400000);
    put_pattern(out, 16, 2);
    put_footer(out, 3);
    put_start(out, 2, "ram", 4);
    put_be64(out, (512 + 4) * 4096 | 0x04);
    put_cstr(out, "huge");
    put_be64(out, 512 * 4096);
    put_be64(out, 0x200000);
    put_cstr(out, "rom");
    put_be64(out, 4 * 4096);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_bitmaps(out);
    put_disk_and_vfio(out);
    put_part(out, 0x03, 2);
    put_be64(out, 511 * 4096 | 0x02);
    put_cstr(out, "huge");
    put_u8(out, 0);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_device(out, 7, "dev", 40);
    put_u8(out, 0x00);
    put_u8(out, 0x06);
    put_be32(out, (uint32_t)strlen(json));
    put_text(out, json);
    return out;
}

/* Entry of a mapped-ram block list, its bitmap, padding, pages (absent ones are zero). */
static void
put_mapped_block(GByteArray *out, const char *name, unsigned n_pages, uint64_t bits)
{
    const unsigned base = 64;

    put_cstr(out, name);
    put_be64(out, (uint64_t)n_pages * 4096);
    put_be32(out, 1);
    put_be64(out, 4096);
    uint64_t bitmap = base + out->len + 16;
    uint64_t pages = (bitmap + 8 + 511) / 512 * 512;
    put_be64(out, bitmap);
    put_be64(out, pages);
    for (int i = 0; i < 8; i++) {
        put_u8(out, (uint8_t)(bits >> 8 * i));
    }
    while (base + out->len < pages) {
        put_u8(out, 0);
    }
    for (unsigned i = 0; i < n_pages; i++) {
        if (bits >> i & 1) {
            put_pattern(out, 4096, i);
        } else {
            g_byte_array_set_size(out, out->len + 4096);
            memset(out->data + out->len - 4096, 0, 4096);
        }
    }
}

GByteArray *
sample_mapped_ram(void)
{
    GByteArray *out = g_byte_array_new();

    put_head(out);
    put_u8(out, 0x05);
    put_cstr(out, "configuration/capabilities");
    put_be32(out, 1);
    put_be32(out, 1);
    put_cstr(out, "mapped-ram");
    put_start(out, 2, "ram", 4);
    put_be64(out, 9 * 4096 | 0x04);
    put_mapped_block(out, "pc.ram", 6, 0x16);
    put_mapped_block(out, "rom", 3, 0x1);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_part(out, 0x03, 2);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_u8(out, 0x00);
    return out;
}

GByteArray *
sample_colo(void)
{
    GByteArray *out = sample_precopy();

    for (unsigned i = 0; i < 2; i++) {
        put_be32(out, 1);
        put_be32(out, 3);
        put_part(out, 0x03, 2);
        put_be64(out, 7 * 4096 | 0x08 | 0x20);
        put_pattern(out, 4096, 20 + i);
        put_be64(out, 0x10);
        put_footer(out, 2);
        put_u8(out, 0x00);
        put_be32(out, 4);
        put_be64(out, 77);
        put_pattern(out, 77, 30 + i);
    }
    return out;
}

GByteArray *
sample_bare(void)
{
    GByteArray *out = g_byte_array_new();

    put_be32(out, 0x5145564d);
    put_be32(out, 3);
    put_start(out, 2, "ram", 4);
    put_block_list(out);
    put_be64(out, 0x10);
    put_part(out, 0x02, 2);
    put_pages(out);
    put_be64(out, 0x10);
    put_part(out, 0x03, 2);
    put_be64(out, 0x10);
    put_u8(out, 0x00);
    return out;
}

GByteArray *
sample_recovery(void)
{
    GByteArray *out = g_byte_array_new();

    put_command(out, 10, 7); /* RECV_BITMAP */
    put_cstr(out, "pc.ram");
    put_command(out, 9, 0); /* RESUME */
    put_part(out, 0x02, 1);
    put_be64(out, 8 * 4096 | 0x08);
    put_cstr(out, "pc.ram");
    put_pattern(out, 4096, 13);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_part(out, 0x03, 1);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_u8(out, 0x00);
    return out;
}

GByteArray *
sample_preempt(void)
{
    GByteArray *out = g_byte_array_new();

    put_be64(out, 9 * 4096 | 0x08);
    put_cstr(out, "pc.ram");
    put_pattern(out, 4096, 14);
    put_be64(out, 10 * 4096 | 0x08 | 0x20);
    put_pattern(out, 4096, 15);
    put_be64(out, 0x10);
    return out;
}
