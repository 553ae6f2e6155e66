/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An input as a file, for what reads files. */
#ifndef QMIG_TESTS_FUZZ_FILE_H
#define QMIG_TESTS_FUZZ_FILE_H

#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* A file in memory with these bytes; the same one each time. Return: its path. */
static inline const char *
fuzz_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    g_assert_cmpint(pwrite(fd, data, size, 0), ==, (ssize_t)size);
    return path;
}

#endif
