/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any stream through the tunnel's page codec comes out as it went in, unless pages were replaced. */
#include "proxy/link/pack.h"
#include "proxy/link/unpack.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/split.h"
#include "util/error.h"

enum { CACHE = 128 << 10 };

static uint8_t buf[QMIG_PACK_BATCH_MIN];

static bool
collect(void *self, const struct iovec *iov, size_t n, GError **error)
{
    (void)error;
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(self, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    return true;
}

/* All batches that there are. */
static void
carry(QmigPack *p, QmigUnpack *u, GByteArray *out, const QmigCancel *now)
{
    ssize_t n;

    while ((n = qmig_pack_take(p, buf, sizeof buf, now, NULL)) > 0) {
        g_autofree uint8_t *batch = g_memdup2(buf, (gsize)n);
        g_assert_true(qmig_unpack_take(u, batch, (size_t)n, collect, out, NULL));
    }
}

static void
check(const uint8_t *data, size_t size, bool cut)
{
    QmigPackConfig config = { .cache_size = CACHE };
    g_autoptr(QmigPack) p = qmig_pack_new(&config, NULL);
    g_autoptr(QmigUnpack) u = qmig_unpack_new(CACHE, NULL);
    g_autoptr(QmigCancel) now = qmig_cancel_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    Split split = split_new(data, size, cut);
    QmigPackCounts counts;
    size_t at, n;

    qmig_cancel_raise(now);
    while (split_next(&split, &at, &n)) {
        g_autofree uint8_t *piece = g_memdup2(data + at, n);

        if (!qmig_pack_put(p, piece, n, NULL, NULL)) {
            return;
        }
        qmig_pack_request(p, "pc.ram", (at % 64) << 12, 1 << 13);
        if (cut) {
            carry(p, u, out, now);
        }
    }
    qmig_pack_finish(p);
    carry(p, u, out, now);
    g_assert_cmpuint(qmig_pack_pending(p), ==, 0);
    qmig_pack_count(p, &counts);
    g_assert_cmpuint(counts.bytes_in, ==, size);
    if (counts.replaced == 0 && counts.overtook == 0) {
        g_assert_cmpmem(out->data, out->len, data, size);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(data, size, true);
    if (size < 100 << 10) { /* of one piece nothing is taken before all is put */
        check(data, size, false);
    }
    return 0;
}
