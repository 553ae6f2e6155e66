/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pool: a stretch of content that bodies of pages are slices of, so that a page is
 * verified by one comparison and its header need only tell the offset.
 *
 * Where KVM emulates every step of a string instruction, copying a page takes 0.8 ms. One
 * DMA transfer of fw_cfg takes 0.02 ms, so slices come that way when QEMU has the pool as a
 * file. Slices follow each other in it (a seek would be a second exit), starting somewhere
 * else on every round, so that no two pages have the same body for long. A file of up to 1 MiB
 * is kept in memory to verify by; slices of a larger one are read again for that.
 */
#include "pool.h"

#include "fw-cfg.h"
#include "io.h"
#include "layout.h"

#define MADE_BYTES 0x10000u /* without a file: as much as a slow guest makes quickly */
#define ROUND_STEP 68u      /* bytes; co-prime with page and quarter but for words */

static uint8_t *const pool = (uint8_t *)POOL_ADDRESS;
static struct fw_cfg_file file;
static uint32_t size, position, round_start;
static bool is_copied; /* the pool is all of it; else it is room for one slice */

static void
make_text(uint32_t *random)
{
    static const char *const words[] = { "the ",     "migration ", "of ",     "a ",
                                         "running ", "guest ",     "moves ",  "its ",
                                         "memory ",  "while ",     "it ",     "writes ",
                                         "page ",    "after ",     "page.\n", "and " };

    for (uint32_t at = 0; at < MADE_BYTES;) {
        *random = *random * 1664525u + 1013904223u;
        for (const char *c = words[*random >> 28]; *c && at < MADE_BYTES; c++) {
            pool[at++] = (uint8_t)*c;
        }
    }
}

static void
make(enum content content)
{
    uint32_t random = 1;

    size = MADE_BYTES;
    is_copied = true;
    if (content == CONTENT_ZERO) {
        words_fill(pool, 0, size / 4);
    } else if (content == CONTENT_TEXT) {
        make_text(&random);
    } else {
        for (uint32_t i = 0; i < size / 4; i++) {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            ((uint32_t *)pool)[i] = random;
        }
    }
}

void
pool_init(enum content content)
{
    file = fw_cfg_find("opt/qmig/pool");
    if (!file.selector || !fw_cfg_has_dma()) {
        file.selector = 0;
        make(content);
        return;
    }
    size = file.size & ~3u;
    is_copied = size <= POOL_BYTES;
    if (is_copied) {
        fw_cfg_seek(file, 0);
        fw_cfg_next(pool, size);
    }
    fw_cfg_seek(file, 0);
}

uint32_t
pool_take(void *to, uint32_t length)
{
    uint32_t offset;

    if (position + length > size) {
        round_start = (round_start + ROUND_STEP) % PAGE_SIZE;
        position = round_start;
        if (file.selector) {
            fw_cfg_seek(file, position);
        }
    }
    offset = position;
    if (file.selector) {
        fw_cfg_next(to, length);
    } else {
        words_copy(to, pool + offset, length / 4);
    }
    position += length;
    return offset;
}

/* The slice, in memory. A large pool is read again, which costs three exits. */
static const uint8_t *
slice(uint32_t offset, uint32_t length)
{
    if (is_copied) {
        return pool + offset;
    }
    fw_cfg_seek(file, offset);
    fw_cfg_next(pool, length);
    fw_cfg_seek(file, position);
    return pool;
}

const uint32_t *
pool_differs(const void *memory, uint32_t offset, uint32_t length)
{
    size_t left;

    if (offset > size || length > size - offset) {
        return memory;
    }
    left = words_differ(memory, slice(offset, length), length / 4);
    return left ? (const uint32_t *)memory + (length / 4 - left) : NULL;
}

uint32_t
pool_word(uint32_t offset)
{
    return offset + 4 > size ? 0 : *(const uint32_t *)slice(offset, 4);
}
