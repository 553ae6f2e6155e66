/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A capture of two channels: be16 length of the main channel's bytes, these, the multifd one's. */
#include "tests/fuzz/directory.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/rebuild.h"
#include "util/cursor.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    QmigCursor c = qmig_cursor(data, size);
    const uint8_t *main;
    uint16_t n;

    if (qmig_cursor_be16(&c, &n) && qmig_cursor_bytes(&c, n, &main)) {
        fuzz_directory_write("0-main.forward", main, n);
        fuzz_directory_write("1-multifd.forward", c.p, qmig_cursor_left(&c));
        fuzz_read_all_ways(fuzz_directory(), size);
    }
    return 0;
}
