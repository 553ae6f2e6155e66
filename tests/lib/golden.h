/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The recorded streams of tests/golden/, which are packed by zstd. What is wrong fails the test. */
#ifndef QMIG_TESTS_LIB_GOLDEN_H
#define QMIG_TESTS_LIB_GOLDEN_H

#include <glib.h>

/* Of tests in tests/unit: where @name (below tests/golden/) with @suffix lies. (transfer full) */
char *golden_path(const char *name, const char *suffix);
/* The stream @name. (transfer full) */
GBytes *golden_load(const char *name);
/* What the packed file at @path holds. (transfer full) */
GBytes *golden_unpack(const char *path);

#endif
