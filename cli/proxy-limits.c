/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file of settings for running plugins. */
#include "cli/proxy-limits.h"

#include "util/limit-file.h"

#include <string.h>

/* One pass over all lines. Return: how many were set, -1 on error. */
static int
pass(QmigProxy *proxy, const QmigLimits *limits, bool beside_tunnel, bool try,
     GError **error)
{
    const QmigLimit *limit;
    int n = 0;

    for (unsigned i = 0; (limit = qmig_limits_nth(limits, i)) != NULL; i++) {
        g_autofree char *name = g_strdup_printf("%s.%s", limit->owner, limit->key);

        if (beside_tunnel && strcmp(limit->owner, "tunnel") == 0) {
            continue;
        }
        if (!qmig_proxy_set(proxy, name, limit->value, try, error)) {
            g_prefix_error(error, "%s:%u: ", qmig_limits_name(limits), limit->line);
            return -1;
        }
        n++;
    }
    return n;
}

int
cli_limits_apply(QmigProxy *proxy, const char *path, bool beside_tunnel, GError **error)
{
    g_autoptr(QmigLimits) limits = qmig_limits_read(path, error);

    if (limits == NULL || pass(proxy, limits, beside_tunnel, true, error) < 0) {
        return -1;
    }
    return pass(proxy, limits, beside_tunnel, false, error);
}
