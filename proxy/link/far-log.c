/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/far-log.h"

#include "proxy/link/refusals.h"
#include "util/clock.h"

#include <pthread.h>

struct QmigFarLog {
    bool (*emit)(void *data, const char *line);
    void *data;
    pthread_mutex_t lock; /* guards refusals */
    QmigRefusals *refusals;
};

static bool
emit(void *data, const char *line)
{
    const QmigFarLog *log = data;

    return log->emit == NULL || log->emit(log->data, line);
}

QmigFarLog *
qmig_far_log_new(bool (*emit_line)(void *data, const char *line), void *data)
{
    QmigFarLog *log = g_new0(QmigFarLog, 1);

    log->emit = emit_line;
    log->data = data;
    pthread_mutex_init(&log->lock, NULL);
    log->refusals = qmig_refusals_new(emit, log);
    return log;
}

void
qmig_far_log_free(QmigFarLog *log)
{
    qmig_refusals_flush(log->refusals, true, qmig_now_us());
    qmig_refusals_free(log->refusals);
    pthread_mutex_destroy(&log->lock);
    g_free(log);
}

void
qmig_far_log_refused(QmigFarLog *log, QmigStreamKind kind, const char *session,
                     const GError *why)
{
    static const char *const names[] = { [QMIG_STREAM_MIGRATION] = "migration",
                                         [QMIG_STREAM_DISK] = "disk",
                                         [QMIG_STREAM_CONTROL] = "monitor" };
    g_autofree char *who = g_strdup_printf(
        "%s of %s", names[kind], session[0] != '\0' ? session : "a nameless session");

    pthread_mutex_lock(&log->lock);
    qmig_refusals_add(log->refusals, who, why, qmig_now_us());
    pthread_mutex_unlock(&log->lock);
}

void
qmig_far_log_flush(QmigFarLog *log)
{
    pthread_mutex_lock(&log->lock);
    qmig_refusals_flush(log->refusals, false, qmig_now_us());
    pthread_mutex_unlock(&log->lock);
}
