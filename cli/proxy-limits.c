/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file of settings for running plugins. */
#include "cli/proxy-limits.h"

#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 64 << 10 };

/* (transfer full), or NULL */
static char *
read_file(const char *path, GError **error)
{
    /* A pipe or device would keep the proxy waiting. */
    g_auto(QmigFd) fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    g_autofree char *text = g_malloc(FILE_MAX + 1);
    size_t len = 0;
    ssize_t n = 0;

    while (fd >= 0 && len < FILE_MAX && (n = read(fd, text + len, FILE_MAX - len)) > 0) {
        len += (size_t)n;
    }
    if (fd < 0 || n < 0) {
        qmig_set_error_errno(error, errno, "%s", path);
        return NULL;
    }
    text[len] = '\0';
    if (len == FILE_MAX || strlen(text) != len) {
        qmig_set_error(error, QMIG_ERROR_LIMIT, "%s: not a text of less than %d bytes",
                       path, FILE_MAX);
        return NULL;
    }
    return g_steal_pointer(&text);
}

/* Cut @line in place. *@name is NULL where it says nothing. */
static bool
split(char *line, const char **name, const char **value, GError **error)
{
    char *equals;

    *name = NULL;
    g_strstrip(line);
    if (line[0] == '\0' || line[0] == '#') {
        return true;
    }
    equals = strchr(line, '=');
    if (equals == NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "\"%s\", wanted PLUGIN.KEY = VALUE", line);
    }
    *equals = '\0';
    *name = g_strchomp(line);
    *value = g_strchug(equals + 1);
    return true;
}

/* One pass over all lines. Return: how many were set, -1 on error. */
static int
pass(QmigProxy *proxy, const char *path, const char *text, bool try, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    int n = 0;

    for (int i = 0; lines[i] != NULL; i++) {
        const char *name, *value;

        if (!split(lines[i], &name, &value, error) ||
            (name != NULL && !qmig_proxy_set(proxy, name, value, try, error))) {
            g_prefix_error(error, "%s:%d: ", path, i + 1);
            return -1;
        }
        n += name != NULL;
    }
    return n;
}

int
cli_limits_apply(QmigProxy *proxy, const char *path, GError **error)
{
    g_autofree char *text = read_file(path, error);

    if (text == NULL || pass(proxy, path, text, true, error) < 0) {
        return -1;
    }
    return pass(proxy, path, text, false, error);
}
