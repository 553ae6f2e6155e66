/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory of its own, removed at exit, for what reads captures. */
#ifndef QMIG_TESTS_FUZZ_DIRECTORY_H
#define QMIG_TESTS_FUZZ_DIRECTORY_H

#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>

static char *fuzz_directory_path;

static inline void
fuzz_directory_remove(void)
{
    g_autoptr(GDir) dir = g_dir_open(fuzz_directory_path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(fuzz_directory_path, name, NULL);
        g_unlink(path);
    }
    g_rmdir(fuzz_directory_path);
    g_free(fuzz_directory_path);
}

/* Its path; made by the first call. */
static inline const char *
fuzz_directory(void)
{
    if (fuzz_directory_path == NULL) {
        fuzz_directory_path = g_dir_make_tmp("qmig-fuzz-XXXXXX", NULL);
        g_assert_nonnull(fuzz_directory_path);
        atexit(fuzz_directory_remove);
    }
    return fuzz_directory_path;
}

/* A file in it. */
static inline void
fuzz_directory_write(const char *name, const void *data, size_t size)
{
    g_autofree char *path = g_build_filename(fuzz_directory(), name, NULL);
    FILE *file = fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(data, 1, size, file), ==, size);
    g_assert_cmpint(fclose(file), ==, 0);
}

#endif
