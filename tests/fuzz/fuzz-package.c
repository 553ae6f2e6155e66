/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device state without a description: the proven items are items, in order. */
#include "stream/package.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/memory.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t behind = 0;

    memory_start();
    g_autoptr(GArray) items = qmig_package_split(data, size);
    g_assert_cmpuint(memory_peak(), <=, (16 << 10) + 16 * size);
    for (guint i = 0; i < items->len; i++) {
        const QmigPackageItem *item = &g_array_index(items, QmigPackageItem, i);

        g_assert_cmpuint(item->start, >=, behind);
        g_assert_cmpuint(item->end, >, item->start);
        g_assert_cmpuint(item->end, <=, size);
        g_assert_true(data[item->start] == 0x04 || data[item->start] == 0x08);
        behind = item->end;
    }
    return 0;
}
