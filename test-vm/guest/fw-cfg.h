/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files QEMU hands in with -fw_cfg. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fw_cfg_file {
    uint16_t selector; /* 0 when there is no such file */
    uint32_t size;
};

struct fw_cfg_file fw_cfg_find(const char *name);

/* The first bytes of a file, through the data port. */
void fw_cfg_read(struct fw_cfg_file file, void *to, uint32_t length);

bool fw_cfg_has_dma(void);

/* Start anew at an offset; fw_cfg_next() goes on from there. Zeros follow behind the end. */
void fw_cfg_seek(struct fw_cfg_file file, uint32_t offset);
void fw_cfg_next(void *to, uint32_t length);
