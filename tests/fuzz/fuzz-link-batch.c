/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The far end of the tunnel's page codec, sent anything: be16 length and a batch, repeated. Taken
 * or refused as PROTOCOL or LIMIT; what an accepted batch makes is there to the last byte.
 */
#include "proxy/link/batch.h"
#include "proxy/link/unpack.h"
#include "tests/fuzz/fuzz.h"
#include "util/error.h"

enum { CACHE = 128 << 10 };

static bool
touch(void *self, const struct iovec *iov, size_t n, GError **error)
{
    (void)self;
    (void)error;
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpuint(n, <=, 1024);
    for (size_t i = 0; i < n; i++) {
        fuzz_touch(iov[i].iov_base, iov[i].iov_len);
    }
    return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(QmigUnpack) u = qmig_unpack_new(CACHE, NULL);
    QmigCursor c = qmig_cursor(data, size);
    uint16_t length;

    g_assert_nonnull(u);
    while (qmig_cursor_be16(&c, &length)) {
        g_autoptr(GError) error = NULL;
        size_t n = MIN(length, qmig_cursor_left(&c));
        const uint8_t *bytes;

        if (!qmig_cursor_bytes(&c, n, &bytes)) {
            g_assert_not_reached();
        }
        g_autofree uint8_t *batch = g_memdup2(bytes, n);
        if (!qmig_unpack_take(u, batch, n, touch, NULL, &error)) {
            g_assert_true(g_error_matches(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL) ||
                          g_error_matches(error, QMIG_ERROR, QMIG_ERROR_LIMIT));
            return 0;
        }
        g_assert_no_error(error);
    }
    return 0;
}
