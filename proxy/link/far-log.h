/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the far end turns down within its sessions, for its log. As bounded as what the gate refuses
 * (proxy/link/refusals.h): who has a session could ask for a thousand addresses a second.
 *
 *     refused monitor of vm1: config: the far end may not connect to unix:/vm1.qmp (its …)
 */
#ifndef QMIG_PROXY_LINK_FAR_LOG_H
#define QMIG_PROXY_LINK_FAR_LOG_H

#include "proxy/link/link.h"

typedef struct QmigFarLog QmigFarLog;

/**
 * qmig_far_log_new()
 * @emit: (nullable) writes one line, without its end; false: it could not. By any thread, one at a
 *        time; must not wait.
 */
QmigFarLog *qmig_far_log_new(bool (*emit)(void *data, const char *line), void *data);
/* Tells first what was left out. */
void qmig_far_log_free(QmigFarLog *log);
/* A stream of @session was not connected because of @why. Threads: any. */
void qmig_far_log_refused(QmigFarLog *log, QmigStreamKind kind, const char *session,
                          const GError *why);
/* Tell what was left out, once its second is over. Threads: any. */
void qmig_far_log_flush(QmigFarLog *log);

#endif
