/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Give the processor back until about the next millisecond. */
#pragma once

void sleep_init(void);
void sleep_until_tick(void);
