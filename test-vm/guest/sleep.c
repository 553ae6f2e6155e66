/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sleep until about the next millisecond: the PIT interrupts, HLT waits for it.
 *
 * The firmware may have left the local APIC deaf to the PIC (qboot does), so that is set, too.
 * The other half is in start.S.
 */
#include "sleep.h"

#include "io.h"

#define PIT_PER_MS 1193u
#define PIC1 0x20
#define PIC2 0xa0
#define VECTOR 0x20

void sleep_entry(void);

static struct {
    uint16_t low, segment, flags, high;
} __attribute__((aligned(8))) gates[VECTOR + 8];

static uint64_t descriptors[3] __attribute__((aligned(8))) = {
    0, 0x00cf9b000000ffff, 0x00cf93000000ffff, /* flat code, flat data */
};

static void
load_tables(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) table = { sizeof(descriptors) - 1, (uint32_t)descriptors };

    __asm__ volatile("lgdt %0; ljmp $8, $1f; 1: mov %1, %%ds; mov %1, %%es; mov %1, %%ss"
                     :
                     : "m"(table), "r"(16)
                     : "memory");
    table.limit = sizeof(gates) - 1;
    table.base = (uint32_t)gates;
    __asm__ volatile("lidt %0" : : "m"(table) : "memory");
}

void
sleep_init(void)
{
    uint32_t entry = (uint32_t)sleep_entry;

    for (int i = VECTOR; i < VECTOR + 8; i++) {
        gates[i].low = (uint16_t)entry;
        gates[i].high = (uint16_t)(entry >> 16);
        gates[i].segment = 8;
        gates[i].flags = 0x8e00;
    }
    load_tables();
    out8(PIC1, 0x11); /* initialise both, edge triggered, cascaded */
    out8(PIC2, 0x11);
    out8(PIC1 + 1, VECTOR);
    out8(PIC2 + 1, VECTOR + 8);
    out8(PIC1 + 1, 4);
    out8(PIC2 + 1, 2);
    out8(PIC1 + 1, 1);
    out8(PIC2 + 1, 1);
    out8(PIC1 + 1, 0xfe); /* the timer only */
    out8(PIC2 + 1, 0xff);
    *(volatile uint32_t *)0xfee000f0 = 0x1ff; /* local APIC on, */
    *(volatile uint32_t *)0xfee00350 = 0x700; /* passing on what the PIC says */
    out8(0x43, 0x34);                         /* channel 0, both bytes, mode 2 */
    out8(0x40, PIT_PER_MS & 0xff);
    out8(0x40, PIT_PER_MS >> 8);
}
