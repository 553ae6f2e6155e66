/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See limit-file.h. What a key means is its owner's. */
#include "util/limit-file.h"

#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct QmigLimits {
    char *name;
    GPtrArray *lines; /* QmigLimit */
};

static void
limit_free(QmigLimit *limit)
{
    g_free(limit->owner);
    g_free(limit->key);
    g_free(limit->value);
    g_free(limit);
}

void
qmig_limits_free(QmigLimits *limits)
{
    if (limits != NULL) {
        g_ptr_array_unref(limits->lines);
        g_free(limits->name);
        g_free(limits);
    }
}

/* A name as options and plugins have them. */
static bool
is_name(const char *text)
{
    return text[0] != '\0' &&
           text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_#")] == '\0';
}

static void
drop_earlier(QmigLimits *limits, const char *owner, const char *key)
{
    for (guint i = 0; i < limits->lines->len; i++) {
        const QmigLimit *limit = g_ptr_array_index(limits->lines, i);

        if (strcmp(limit->owner, owner) == 0 && strcmp(limit->key, key) == 0) {
            g_ptr_array_remove_index(limits->lines, i);
            return;
        }
    }
}

static bool
take_line(QmigLimits *limits, char *line, unsigned number, GError **error)
{
    char *equals, *dot;

    g_strstrip(line);
    if (line[0] == '\0' || line[0] == '#') {
        return true;
    }
    equals = strchr(line, '=');
    dot = equals != NULL ? memchr(line, '.', (size_t)(equals - line)) : NULL;
    if (dot == NULL || dot == line) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s:%u: \"%s\", wanted PLUGIN.KEY or tunnel.KEY = VALUE",
                              limits->name, number, line);
    }
    *equals = *dot = '\0';
    g_strchomp(dot + 1);
    char *value = g_strchug(equals + 1);
    if (!is_name(line) || !is_name(dot + 1) || value[0] == '\0') {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "%s:%u: \"%s.%s\" = \"%s\", wanted PLUGIN.KEY or tunnel.KEY = "
            "VALUE in small letters, none empty",
            limits->name, number, line, dot + 1, value);
    }
    QmigLimit *limit = g_new0(QmigLimit, 1);
    *limit = (QmigLimit){ g_strdup(line), g_strdup(dot + 1), g_strdup(value), number };
    drop_earlier(limits, limit->owner, limit->key);
    g_ptr_array_add(limits->lines, limit);
    return true;
}

QmigLimits *
qmig_limits_parse(const char *name, const char *text, GError **error)
{
    g_autoptr(QmigLimits) limits = g_new0(QmigLimits, 1);
    g_auto(GStrv) lines = NULL;

    limits->name = g_strdup(name);
    limits->lines = g_ptr_array_new_with_free_func((GDestroyNotify)limit_free);
    if (!g_utf8_validate(text, -1, NULL)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: is no text", name);
        return NULL;
    }
    lines = g_strsplit(text, "\n", QMIG_LIMITS_LINES_MAX + 1);
    if (g_strv_length(lines) > QMIG_LIMITS_LINES_MAX) {
        qmig_set_error(error, QMIG_ERROR_LIMIT, "%s: more than %d lines", name,
                       QMIG_LIMITS_LINES_MAX);
        return NULL;
    }
    for (unsigned i = 0; lines[i] != NULL; i++) {
        if (!take_line(limits, lines[i], i + 1, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&limits);
}

QmigLimits *
qmig_limits_read(const char *path, GError **error)
{
    /* A pipe or device would keep its reader waiting. */
    g_auto(QmigFd) fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    g_autofree char *text = g_malloc(QMIG_LIMITS_FILE_MAX + 1);
    size_t len = 0;
    ssize_t n = 0;

    while (fd >= 0 && len < QMIG_LIMITS_FILE_MAX &&
           (n = read(fd, text + len, QMIG_LIMITS_FILE_MAX - len)) > 0) {
        len += (size_t)n;
    }
    if (fd < 0 || n < 0) {
        qmig_set_error_errno(error, errno, "%s", path);
        return NULL;
    }
    text[len] = '\0';
    if (len == QMIG_LIMITS_FILE_MAX || strlen(text) != len) {
        qmig_set_error(error, QMIG_ERROR_LIMIT, "%s: not a text of less than %d bytes",
                       path, QMIG_LIMITS_FILE_MAX);
        return NULL;
    }
    return qmig_limits_parse(path, text, error);
}

const char *
qmig_limits_name(const QmigLimits *limits)
{
    return limits->name;
}

const QmigLimit *
qmig_limits_nth(const QmigLimits *limits, unsigned n)
{
    return n < limits->lines->len ? g_ptr_array_index(limits->lines, n) : NULL;
}

const char *
qmig_limits_get(const QmigLimits *limits, const char *owner, const char *key)
{
    for (guint i = 0; i < limits->lines->len; i++) {
        const QmigLimit *limit = g_ptr_array_index(limits->lines, i);

        if (strcmp(limit->owner, owner) == 0 && strcmp(limit->key, key) == 0) {
            return limit->value;
        }
    }
    return NULL;
}
