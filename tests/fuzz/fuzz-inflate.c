/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Continuous decompression: u8 kind, then pieces of be16 length, be16 length of the output, bytes.
 */
#include "compress/inflate.h"
#include "tests/fuzz/fuzz.h"
#include "util/cursor.h"
#include "util/error.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    QmigCursor c = qmig_cursor(data, size);
    uint16_t n, wanted;
    const uint8_t *src;
    uint8_t kind;

    if (!qmig_cursor_u8(&c, &kind)) {
        return 0;
    }
    g_autoptr(QmigInflate)
        s = qmig_inflate_new(kind & 1 ? QMIG_CONTINUOUS_ZSTD : QMIG_CONTINUOUS_ZLIB);
    while (qmig_cursor_be16(&c, &n) && qmig_cursor_be16(&c, &wanted) && wanted > 0 &&
           qmig_cursor_bytes(&c, n, &src)) {
        g_autofree uint8_t *out = g_malloc(wanted), *piece = g_memdup2(src, n);
        g_autoptr(GError) error = NULL;

        if (!qmig_inflate_piece(s, piece, n, out, wanted, &error)) {
            g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
            return 0;
        }
        fuzz_touch(out, wanted);
    }
    return 0;
}
