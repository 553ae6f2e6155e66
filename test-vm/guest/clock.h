/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Milliseconds from the time stamp counter. */
#pragma once

#include <stdint.h>

/* Measure the counter's rate; return it in kHz. */
uint32_t clock_init(void);

/* Milliseconds the guest has run. Wraps after 49 days. */
uint32_t clock_ms(void);
