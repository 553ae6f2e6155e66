/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file of limits, read again while a program runs: lines
 *
 *     # a remark
 *     throttle.rate = 100MiB/s
 *     tunnel.sessions = 4
 *
 * OWNER is "tunnel" or the name of a plugin. The last of several lines for one key counts.
 */
#ifndef QMIG_UTIL_LIMIT_FILE_H
#define QMIG_UTIL_LIMIT_FILE_H

#include <glib.h>
#include <stdbool.h>

enum {
    QMIG_LIMITS_FILE_MAX = 64 << 10, /* bytes */
    QMIG_LIMITS_LINES_MAX = 1024,
};

typedef struct {
    char *owner, *key, *value; /* none is empty */
    unsigned line;             /* from 1; for messages */
} QmigLimit;

typedef struct QmigLimits QmigLimits;

/* Read @path. Errors: CONFIG, naming file and line; IO; LIMIT. */
QmigLimits *qmig_limits_read(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same of a text. @name: for messages. */
QmigLimits *qmig_limits_parse(const char *name, const char *text,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_limits_free(QmigLimits *limits);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigLimits, qmig_limits_free)

const char *qmig_limits_name(const QmigLimits *limits);
/* In the order of the file; each key of an owner once. Borrowed. NULL after the last. */
const QmigLimit *qmig_limits_nth(const QmigLimits *limits, unsigned n);
/* What @owner's @key is set to; borrowed; NULL when it is not. */
const char *qmig_limits_get(const QmigLimits *limits, const char *owner, const char *key);

#endif
