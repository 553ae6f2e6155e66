/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one thing the guest asks of text. */
#pragma once

#include <stdbool.h>

static inline bool
same_text(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}
