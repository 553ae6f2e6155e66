/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When the bytes of a capture's channels came, source -> destination. */
#ifndef QMIG_INSPECT_TIMES_H
#define QMIG_INSPECT_TIMES_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct QmigTimes QmigTimes;

/* Memory: 16 bytes for each piece that was read, for at most QMIG_TIMES_MAX of them; of more,
 * every second one is kept, and so on. Errors: as qmig_timeline_open(). */
enum { QMIG_TIMES_MAX = 1 << 20 };
QmigTimes *qmig_times_load(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_times_free(QmigTimes *times);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigTimes, qmig_times_free)

/* When the byte at @offset of connection @number was read, microseconds since the first
 * connection. Return: false when nobody noted it. */
bool qmig_times_at(const QmigTimes *times, unsigned number, uint64_t offset,
                   uint64_t *t_us);

#endif
