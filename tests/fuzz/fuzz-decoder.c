/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The main channel: header to COLO checkpoints. See tests/lib/stream-check.h. */
#include "tests/fuzz/fuzz.h"
#include "tests/lib/stream-check.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stream_check(&stream_main, data, size);
    return 0;
}
