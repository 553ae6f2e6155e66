/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text to COM1. */
#pragma once

#include <stdint.h>

void serial_init(void);
void print_char(char c);
void print(const char *text);
void print_number(uint32_t number);
void print_hex(uint32_t number);
