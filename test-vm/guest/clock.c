/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Milliseconds from the time stamp counter, whose rate the PIT tells once at boot.
 *
 * What works where KVM is nested and paravirtual: channel 2 of the PIT, gated by port 0x61
 * and polled (right within 0.1 %), and rdtsc (about 2 us each, trapped). What survives a
 * migration: QEMU carries the counter's value, and KVM counts on from there as soon as the
 * destination has loaded it, paused or not, so most of a blackout shows in guest time; the
 * rate is not carried, so both hosts must have the same. A jump back is folded in.
 */
#include "clock.h"

#include "io.h"

#define PIT_HZ 1193182u
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define GATE 0x61
#define CALIBRATION_TICKS 59659u /* 50 ms */

static uint64_t start, last;
static uint32_t khz;

/* High enough quotients cannot occur: that takes an uptime of 2^32 ms. */
static uint32_t
divide(uint64_t number, uint32_t by)
{
    uint32_t quotient, rest;

    __asm__("divl %4"
            : "=a"(quotient), "=d"(rest)
            : "a"((uint32_t)number), "d"((uint32_t)(number >> 32)), "r"(by));
    return quotient;
}

static uint64_t
measure(void)
{
    uint64_t begin;

    out8(GATE, (uint8_t)((in8(GATE) & ~2u) | 1u)); /* gate open, speaker off */
    out8(PIT_COMMAND, 0xb0);                       /* channel 2, both bytes, mode 0 */
    out8(PIT_CHANNEL2, CALIBRATION_TICKS & 0xff);
    out8(PIT_CHANNEL2, CALIBRATION_TICKS >> 8);
    begin = tsc_read();
    while (!(in8(GATE) & 0x20)) {
    }
    return tsc_read() - begin;
}

uint32_t
clock_init(void)
{
    uint64_t best = measure();

    /* The host may have looked away: the shortest of three is the right one. */
    for (int i = 0; i < 2; i++) {
        uint64_t again = measure();

        best = again < best ? again : best;
    }
    khz = divide(best * (PIT_HZ / 1000u), CALIBRATION_TICKS);
    start = last = tsc_read();
    return khz;
}

uint32_t
clock_ms(void)
{
    uint64_t now = tsc_read();

    if (now < last) {
        start -= last - now;
    }
    last = now;
    return divide(now - start, khz);
}
