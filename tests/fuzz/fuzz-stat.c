/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a stream is made of, in numbers: within the memory that is promised for any length. */
#include "inspect/stat.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/memory.h"
#include "util/error.h"

enum { MEMORY = 64 << 20 };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    g_autoptr(GError) error = NULL;

    memory_start();
    g_autoptr(JsonObject) stat = qmig_stat_run(path, 3, NULL, &error);
    g_assert_cmpuint(memory_peak(), <=, MEMORY);
    g_assert_cmpint(stat == NULL, ==, error != NULL);
    if (stat != NULL) {
        g_assert_nonnull(json_object_to_json_string(stat));
    }
    return 0;
}
