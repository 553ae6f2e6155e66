/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A stream in a file, as `qmig stream` reads it: outline, check, memory, devices. */
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/rebuild.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_read_all_ways(fuzz_file(data, size), size);
    return 0;
}
