/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connections of one migration: accepts them, tells them apart, opens the other legs. */
#ifndef QMIG_PROXY_SESSION_H
#define QMIG_PROXY_SESSION_H

#include "proxy/connection.h"
#include "proxy/proxy.h"

typedef struct QmigSession QmigSession;

/* Called once, in the session's thread, when DONE or FAILED has been reached. */
typedef void (*QmigSessionEnded)(void *data);

/**
 * qmig_session_start() - listen, and serve the migration that comes, in a thread of its own
 *
 * Errors: CONFIG, PLUGIN, IO.
 */
QmigSession *qmig_session_start(const QmigProxyConfig *config, QmigSessionEnded ended,
                                void *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Ends every connection at once, joins all threads. */
void qmig_session_free(QmigSession *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigSession, qmig_session_free)

/* Threads: any. */
const QmigAddress *qmig_session_address(const QmigSession *s);
QmigProxyState qmig_session_state(const QmigSession *s);
GError *qmig_session_error(QmigSession *s);
uint64_t qmig_session_backlog(QmigSession *s);
/* As qmig_proxy_set(). */
bool qmig_session_set(QmigSession *s, const char *name, const char *value, bool try,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Fill in "channels", "return_path", "plugins", "notices". */
void qmig_session_describe(QmigSession *s, JsonObject *snapshot);

#endif
