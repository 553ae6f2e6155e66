/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text to COM1. A byte costs one exit, about 15 us where KVM is nested: hence few bytes. */
#include "serial.h"

#include "io.h"

#define COM1 0x3f8
#define LINE_CONTROL (COM1 + 3)
#define FIFO_CONTROL (COM1 + 2)

void
serial_init(void)
{
    out8(COM1 + 1, 0); /* no interrupts */
    out8(LINE_CONTROL, 0x80);
    out8(COM1, 1); /* 115200, not that QEMU cares */
    out8(COM1 + 1, 0);
    out8(LINE_CONTROL, 3); /* 8N1 */
    out8(FIFO_CONTROL, 1);
}

/* The transmitter is not polled: QEMU hands each byte on at once, and a second exit per byte
 * would double the price. The reader's pipe must therefore never be full. */
void
print_char(char c)
{
    out8(COM1, (uint8_t)c);
}

void
print(const char *text)
{
    while (*text) {
        print_char(*text++);
    }
}

void
print_number(uint32_t number)
{
    char digits[10];
    int n = 0;

    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (n) {
        print_char(digits[--n]);
    }
}

void
print_hex(uint32_t number)
{
    print("0x");
    for (int shift = 28; shift >= 0; shift -= 4) {
        print_char("0123456789abcdef"[(number >> shift) & 15]);
    }
}
