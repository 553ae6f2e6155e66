/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ports, the time stamp counter and the string instructions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void
out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void
out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void
out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint16_t
in16(uint16_t port)
{
    uint16_t value;

    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t
in32(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint8_t
in8(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* A string instruction costs the nested KVM one emulated instruction less per byte than a
 * loop: with a FIFO in between, QEMU needs no pause between the bytes. */
static inline void
out8_string(uint16_t port, const void *bytes, size_t length)
{
    __asm__ volatile("rep outsb" : "+S"(bytes), "+c"(length) : "d"(port) : "memory");
}

static inline uint64_t
tsc_read(void)
{
    uint64_t value;

    __asm__ volatile("rdtsc" : "=A"(value));
    return value;
}

static inline void
words_fill(void *to, uint32_t value, size_t n_words)
{
    __asm__ volatile("rep stosl" : "+D"(to), "+c"(n_words) : "a"(value) : "memory");
}

static inline void
words_copy(void *to, const void *from, size_t n_words)
{
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n_words) : : "memory");
}

/* The number of words behind the first difference and it, 0 when all are equal. */
static inline size_t
words_differ(const void *a, const void *b, size_t n_words)
{
    bool equal;

    __asm__ volatile("cmpl %%eax, %%eax; repe cmpsl"
                     : "+D"(a), "+S"(b), "+c"(n_words), "=@ccz"(equal)
                     :
                     : "memory");
    return equal ? 0 : n_words + 1;
}
