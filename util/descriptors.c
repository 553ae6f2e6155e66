/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/descriptors.h"

#include <errno.h>
#include <glib.h>
#include <sys/resource.h>

void
qmig_descriptors_raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        g_debug("RLIMIT_NOFILE: %s", g_strerror(errno));
    }
}
