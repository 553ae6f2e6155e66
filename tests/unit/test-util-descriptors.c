/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/descriptors.h"

#include <glib.h>
#include <sys/resource.h>

static void
test_raise_limit(void)
{
    struct rlimit limit, now;

    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    limit.rlim_cur = 64;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    qmig_descriptors_raise_limit();
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &now), ==, 0);
    g_assert_true(now.rlim_cur == limit.rlim_max && now.rlim_max == limit.rlim_max);
    qmig_descriptors_raise_limit();
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/descriptors/raise-limit", test_raise_limit);
    return g_test_run();
}
