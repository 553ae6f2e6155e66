/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both ends of the tunnel's page codec agree on, and a far end that is sent something else. */
#include "proxy/link/pack.h"
#include "proxy/link/page-cache.h"
#include "proxy/link/unpack.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"

#include <string.h>

enum { PAGE = 4096, RAM_PAGES = 512, CACHE = 1 << 20 };

static void
test_cache_without_conflicts(void)
{
    g_autoptr(QmigPageCache) c = qmig_page_cache_new(RAM_PAGES * PAGE, NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    g_assert_true(qmig_page_cache_add_block(c, PAGE, 100 * PAGE));
    g_assert_true(qmig_page_cache_add_block(c, PAGE, (RAM_PAGES - 100) * PAGE));
    g_assert_false(qmig_page_cache_add_block(c, 2 * PAGE, 2 * PAGE));
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < RAM_PAGES; i++) {
            unsigned block = i >= 100, page = block ? i - 100 : i;
            uint32_t slot = qmig_page_cache_find(c, block, page);

            g_assert_cmpint(slot == QMIG_PAGE_CACHE_NONE, ==, round == 0);
            if (slot == QMIG_PAGE_CACHE_NONE) {
                slot = qmig_page_cache_insert(c, block, page);
                g_assert_true(g_hash_table_add(seen, GUINT_TO_POINTER(slot)));
            } else if (i % 3 == 0) {
                qmig_page_cache_touch(c, slot);
            }
            g_assert_true(qmig_page_cache_holds(c, slot));
        }
    }
    g_assert_cmpuint(qmig_page_cache_evicted(c), ==, 0);
    g_assert_false(qmig_page_cache_holds(c, RAM_PAGES));
}

static bool
collect(void *self, const struct iovec *iov, size_t n, GError **error)
{
    (void)error;
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(self, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    return true;
}

/* ---- what the far end is sent ------------------------------------------------------------ */

static bool
unpack_one(const GByteArray *batch, GError **error)
{
    g_autoptr(QmigUnpack) u = qmig_unpack_new(CACHE, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();

    return qmig_unpack_take(u, batch->data, batch->len, collect, out, error);
}

static void
assert_refused(const uint8_t *ops, size_t len, size_t payload)
{
    g_autoptr(GByteArray) batch = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    put_be32(batch, (uint32_t)len);
    put_be32(batch, 0);
    put_be32(batch, 0);
    g_byte_array_append(batch, ops, (guint)len);
    put_pattern(batch, payload, 1);
    g_assert_false(unpack_one(batch, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_assert_true(g_str_has_prefix(error->message, "tunnel: "));
}

#define BLOCK_OP "\x01\0\0\x01r\0\0\x10\0\0\0\0\0\0\0\x20\0" /* 2 pages */
#define REFUSED(ops, payload) \
    assert_refused((const uint8_t *)ops, sizeof ops - 1, payload)

static void
test_refused(void)
{
    g_autoptr(GByteArray) batch = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    REFUSED("\x0f", 0);                         /* no such code */
    REFUSED("\x12\x01", 1);                     /* BYTES has no place */
    REFUSED("\x02\x05", 4);                     /* less payload than that */
    REFUSED("\x02\x05", 6);                     /* more */
    REFUSED("\x02\xff\xff\xff\xff\x7f", 4);     /* a length beyond 32 bits */
    REFUSED("\x13", 4096);                      /* a block that is not known */
    REFUSED(BLOCK_OP "\x03", 4096);             /* cut short */
    REFUSED(BLOCK_OP "\x03\0\x04", 4096);       /* page 2 of 2 */
    REFUSED(BLOCK_OP "\x03\0\x01", 4096);       /* page -1 */
    REFUSED(BLOCK_OP "\x15\x02", 2);            /* a delta to nothing */
    REFUSED(BLOCK_OP "\x13\x05\0\0\x04", 4100); /* no delta */
    REFUSED(BLOCK_OP "\x16\0", 0);              /* like an empty slot */
    REFUSED(BLOCK_OP "\x16\xff\xff\xff\xff\x0f", 0);
    REFUSED(BLOCK_OP "\x19\x81\x20", 4097); /* XBZRLE longer than a page */
    REFUSED(BLOCK_OP BLOCK_OP, 0);          /* a block twice */
    REFUSED("\x01\0\0\x01r\0\0\x10\x01\0\0\0\0\0\0\x20\0", 0); /* no page size */
    put_be32(batch, 5);
    g_assert_false(unpack_one(batch, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
}

/* Caches that do not agree are found before the batch is given on. */
static void
test_other_cache(void)
{
    g_autoptr(QmigUnpack) u = qmig_unpack_new(CACHE, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new(), first = g_byte_array_new();
    g_autoptr(GByteArray) second = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    static const uint8_t page[] = BLOCK_OP "\x03\0\0", like[] = "\x06\0\x02\0";

    put_be32(first, sizeof page - 1);
    put_be32(first, 0);
    put_be32(first, 0);
    g_byte_array_append(first, page, sizeof page - 1);
    put_pattern(first, 4096, 1);
    g_assert_true(qmig_unpack_take(u, first->data, first->len, collect, out, NULL));
    guint before = out->len;
    put_be32(second, sizeof like - 1);
    put_be32(second, 12);
    put_be32(second, 34);
    g_byte_array_append(second, like, sizeof like - 1);
    g_assert_false(qmig_unpack_take(u, second->data, second->len, collect, out, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, "do not agree"));
    g_assert_cmpuint(out->len, ==, before);
}

/* A batch with every byte wrong in turn: taken or refused, never worse. */
static void
test_damaged(void)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    QmigPackConfig config = { .cache_size = CACHE };
    g_autoptr(QmigPack) pack = qmig_pack_new(&config, NULL);
    g_autoptr(GByteArray) batch = g_byte_array_sized_new(QMIG_BATCH_MAX);

    g_assert_true(qmig_pack_put(pack, stream->data, stream->len, NULL, NULL));
    g_byte_array_set_size(batch, QMIG_BATCH_MAX);
    ssize_t n = qmig_pack_take(pack, batch->data, batch->len, NULL, NULL);
    g_assert_cmpint(n, >, 0);
    g_byte_array_set_size(batch, (guint)n);
    g_assert_true(unpack_one(batch, NULL));
    for (guint at = 0; at < MIN(batch->len, 400); at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            batch->data[at] ^= (uint8_t)(1u << bit);
            (void)!unpack_one(batch, NULL);
            batch->data[at] ^= (uint8_t)(1u << bit);
        }
    }
    for (guint len = 0; len < 400; len++) {
        g_autoptr(GByteArray) cut = g_byte_array_new();

        g_byte_array_append(cut, batch->data, len);
        g_assert_false(unpack_one(cut, NULL));
    }
}

/* Bytes of something else are not held back, be it one. */
static void
test_other_at_once(void)
{
    QmigPackConfig config = { .cache_size = CACHE };
    g_autoptr(QmigPack) pack = qmig_pack_new(&config, NULL);
    static uint8_t buf[QMIG_PACK_BATCH_MIN];

    for (uint8_t i = 0; i < 3; i++) {
        uint8_t byte = 0x16 + i;
        ssize_t n;

        g_assert_true(qmig_pack_put(pack, &byte, 1, NULL, NULL));
        n = qmig_pack_take(pack, buf, sizeof buf, NULL, NULL);
        const uint8_t want[] = { 0, 0,   0, 2, 0, 0, 0, 0, 0, 0, 0, 0, QMIG_BATCH_BYTES,
                                 1, byte };
        g_assert_cmpmem(buf, n, want, sizeof want);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link-batch/cache-without-conflicts", test_cache_without_conflicts);
    g_test_add_func("/link-batch/refused", test_refused);
    g_test_add_func("/link-batch/other-cache", test_other_cache);
    g_test_add_func("/link-batch/damaged", test_damaged);
    g_test_add_func("/link-batch/other-bytes-at-once", test_other_at_once);
    return g_test_run();
}
