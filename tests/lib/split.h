/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cutting an input into pieces at places that its own bytes choose: the same every time. */
#ifndef QMIG_TESTS_SPLIT_H
#define QMIG_TESTS_SPLIT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *data;
    size_t len, at;
    uint32_t state;
    bool cut;
} Split;

/* @cut: false gives all in one piece. */
static inline Split
split_new(const uint8_t *data, size_t len, bool cut)
{
    return (Split){ .data = data, .len = len, .cut = cut };
}

/* The next piece, at least one byte. Return: false at the end. */
static inline bool
split_next(Split *s, size_t *at, size_t *n)
{
    static const uint16_t sizes[] = { 1, 2, 3, 9, 40, 300, 4097, 9000 };

    if (s->at == s->len) {
        return false;
    }
    /* A linear congruential generator, stirred with the input. */
    s->state = s->state * 1664525u + s->data[s->at] + 1013904223u;
    *at = s->at;
    *n = s->cut ? 1 + (s->state >> 8) % sizes[s->state >> 29] : s->len;
    *n = MIN(*n, s->len - s->at);
    s->at += *n;
    return true;
}

#endif
