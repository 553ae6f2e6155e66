/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection that continues a broken postcopy. See tests/lib/stream-check.h. */
#include "tests/fuzz/fuzz.h"
#include "tests/lib/stream-check.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stream_check(&stream_recovery, data, size);
    return 0;
}
