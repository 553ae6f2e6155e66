/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where things lie in the guest's memory, and what a page of the working set holds. */
#pragma once

#include <stdint.h>

#define PAGE_SIZE 4096u

/* 0..1 MiB firmware, 1 MiB the program; the rest by hand, so the image stays small. */
#define POOL_ADDRESS 0x00200000u /* what bodies are made of */
#define POOL_BYTES 0x00100000u
#define DISK_QUEUE_ADDRESS 0x00300000u /* 16 KiB: rings of the virtio disk */
#define DISK_REQUEST_ADDRESS 0x00304000u
#define DISK_BUFFER_ADDRESS 0x00305000u
#define DISK_SEQ_ADDRESS 0x00380000u /* one u32 per block: how often it was written */
#define DISK_SEQ_ENTRIES 0x00020000u /* 512 KiB of them: half a GiB of disk */
#define SEQ_ADDRESS 0x00400000u /* one u32 per page: the sequence number it must carry */
#define SEQ_ENTRIES 0x00200000u /* 8 MiB of them: working sets up to 8 GiB, i.e. any */
#define DEFAULT_BASE 0x01000000u

#define PAGE_MAGIC 0x514d4947u
#define QUARTERS 4u
#define HEADER_WORDS 8u
#define BODY_BYTES (PAGE_SIZE - HEADER_WORDS * 4u)
#define QUARTER_BYTES (BODY_BYTES / QUARTERS)

/*
 * A page names itself, says how often it was written, and where in the pool each quarter of
 * its body came from. The sequence number is kept a second time outside the page: a page
 * that went stale is consistent in itself, and only the copy gives it away.
 */
struct page {
    uint32_t name;     /* number in the set + PAGE_MAGIC */
    uint32_t sequence; /* 1 after the first fill */
    uint32_t source[QUARTERS];
    uint32_t touched; /* pattern=touch: how often */
    uint32_t sum;     /* of the above; linear in the sequence number */
    uint8_t body[BODY_BYTES];
};
_Static_assert(sizeof(struct page) == PAGE_SIZE, "a page is a page");
_Static_assert(QUARTER_BYTES *QUARTERS == BODY_BYTES, "four whole quarters");
_Static_assert(QUARTER_BYTES % 4 == 0, "of whole words");
