/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* XBZRLE: a code is taken or refused as a whole; what it makes can be coded again. */
#include "compress/xbzrle.h"
#include "tests/fuzz/fuzz.h"

#include <glib.h>
#include <string.h>

enum { PAGE = 4096 };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t before[PAGE], page[PAGE], again[PAGE], code[2 * PAGE];

    for (size_t i = 0; i < PAGE; i++) {
        before[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    memcpy(page, before, PAGE);
    ssize_t reach = qmig_xbzrle_check(data, size, PAGE);
    bool ok = qmig_xbzrle_decode(page, PAGE, data, size);
    g_assert_cmpint(ok, ==, reach >= 0);
    if (!ok) {
        g_assert_cmpmem(page, PAGE, before, PAGE);
        return 0;
    }
    g_assert_cmpint(reach, <=, PAGE);
    g_assert_cmpint(memcmp(page + reach, before + reach, PAGE - (size_t)reach), ==, 0);

    ssize_t n = qmig_xbzrle_encode(before, page, PAGE, code, sizeof code);
    g_assert_cmpint(n, >=, 0);
    g_assert_cmpint(n == 0, ==, memcmp(before, page, PAGE) == 0);
    memcpy(again, before, PAGE);
    g_assert_true(qmig_xbzrle_decode(again, PAGE, code, (size_t)n));
    g_assert_cmpmem(again, PAGE, page, PAGE);
    return 0;
}
