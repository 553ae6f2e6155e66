/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QEMU's fw_cfg device: selector and data port, and its DMA, which fills memory at once. */
#include "fw-cfg.h"

#include "io.h"
#include "text.h"

#define PORT_SELECT 0x510
#define PORT_DATA 0x511
#define PORT_DMA_LOW 0x518
#define SELECT_ID 1
#define SELECT_DIRECTORY 0x19
#define DMA_READ 2u
#define DMA_SKIP 4u
#define DMA_SELECT 8u
#define MAX_FILES 256u

struct directory_entry {
    uint32_t size;
    uint16_t selector, reserved;
    char name[56];
};

static inline uint32_t
swap32(uint32_t value)
{
    return __builtin_bswap32(value);
}

static void
select_and_read(uint16_t selector, void *to, uint32_t length)
{
    uint8_t *bytes = to;

    out16(PORT_SELECT, selector);
    while (length--) {
        *bytes++ = in8(PORT_DATA);
    }
}

struct fw_cfg_file
fw_cfg_find(const char *name)
{
    struct directory_entry entry;
    uint32_t count;

    select_and_read(SELECT_DIRECTORY, &count, sizeof(count));
    count = swap32(count);
    for (uint32_t i = 0; i < count && i < MAX_FILES; i++) {
        for (uint32_t at = 0; at < sizeof(entry); at++) {
            ((uint8_t *)&entry)[at] = in8(PORT_DATA);
        }
        if (same_text(entry.name, name)) {
            return (struct fw_cfg_file){ __builtin_bswap16(entry.selector),
                                         swap32(entry.size) };
        }
    }
    return (struct fw_cfg_file){ 0, 0 };
}

void
fw_cfg_read(struct fw_cfg_file file, void *to, uint32_t length)
{
    select_and_read(file.selector, to, length);
}

bool
fw_cfg_has_dma(void)
{
    uint8_t id[4];

    select_and_read(SELECT_ID, id, sizeof(id));
    return id[0] & 2;
}

/* One transfer: done when the port write returns, as QEMU does it right there. */
static void
transfer(uint32_t control, void *to, uint32_t length)
{
    static volatile struct {
        uint32_t control, length, address_high, address_low;
    } __attribute__((aligned(16))) descriptor;

    descriptor.control = swap32(control);
    descriptor.length = swap32(length);
    descriptor.address_high = 0;
    descriptor.address_low = swap32((uint32_t)to);
    __asm__ volatile("outl %0, %1"
                     :
                     : "a"(swap32((uint32_t)&descriptor)), "d"((uint16_t)PORT_DMA_LOW)
                     : "memory");
}

void
fw_cfg_seek(struct fw_cfg_file file, uint32_t offset)
{
    transfer((uint32_t)file.selector << 16 | DMA_SELECT | DMA_SKIP, NULL, offset);
}

void
fw_cfg_next(void *to, uint32_t length)
{
    transfer(DMA_READ, to, length);
}
