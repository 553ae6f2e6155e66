/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the bytes that go by tell, when they are a migration stream: the plugin `stats`. They are
 * only looked at: what cannot be read ends the looking, not the pipe.
 */
#ifndef QMIG_PIPE_WATCH_H
#define QMIG_PIPE_WATCH_H

#include "util/auto.h"

#include <stddef.h>

typedef struct QmigPipeWatch QmigPipeWatch;

QmigPipeWatch *qmig_pipe_watch_new(void);
void qmig_pipe_watch_free(QmigPipeWatch *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPipeWatch, qmig_pipe_watch_free)

/* The next bytes; @len 0: the end. Borrowed until the next push. Threads: any, one at a time. */
void qmig_pipe_watch_push(QmigPipeWatch *watch, const void *data, size_t len);

/**
 * qmig_pipe_watch_report() - add "stream" and "stream_note" to @report
 *
 * "stream" is the report of qmig-stats-plugin(1), or null; "stream_note" why it ends early, or is
 * null. Threads: any, at any time.
 */
void qmig_pipe_watch_report(QmigPipeWatch *watch, JsonObject *report);

#endif
