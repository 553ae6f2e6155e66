/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/lib/golden.h"

#include <zstd.h>

/* The recorder writes through a pipe, so the size is not in the frame. */
enum { LARGEST = 64 << 20 };

char *
golden_path(const char *name, const char *suffix)
{
    g_autofree char *file = g_strconcat(name, suffix, NULL);

    return g_test_build_filename(G_TEST_DIST, "..", "golden", file, NULL);
}

GBytes *
golden_unpack(const char *path)
{
    g_autofree char *packed = NULL;
    g_autoptr(GError) error = NULL;
    char *data = g_malloc(LARGEST);
    gsize len;

    g_file_get_contents(path, &packed, &len, &error);
    g_assert_no_error(error);
    size_t n = ZSTD_decompress(data, LARGEST, packed, len);
    g_assert_false(ZSTD_isError(n));
    return g_bytes_new_take(g_realloc(data, n), n);
}

GBytes *
golden_load(const char *name)
{
    g_autofree char *path = golden_path(name, ".zst");

    return golden_unpack(path);
}
