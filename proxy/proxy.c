/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The public face of the proxy: one session, its state, and a descriptor that tells its end. */
#include "proxy/proxy.h"

#include "proxy/session.h"
#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

struct QmigProxy {
    QmigSession *session; /* owned */
    QmigFd done_fd;       /* eventfd; readable for good once DONE or FAILED */
};

static void
session_ended(void *data)
{
    QmigProxy *proxy = data;

    (void)!eventfd_write(proxy->done_fd, 1);
}

QmigProxy *
qmig_proxy_start(const QmigProxyConfig *config, GError **error)
{
    g_autoptr(QmigProxy) proxy = g_new0(QmigProxy, 1);

    g_return_val_if_fail(config->listen != NULL && config->destination != NULL, NULL);
    proxy->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (proxy->done_fd < 0) {
        qmig_set_error_errno(error, errno, "eventfd");
        return NULL;
    }
    proxy->session = qmig_session_start(config, session_ended, proxy, error);
    if (proxy->session == NULL) {
        return NULL;
    }
    return g_steal_pointer(&proxy);
}

void
qmig_proxy_free(QmigProxy *proxy)
{
    if (proxy != NULL) {
        qmig_session_free(proxy->session);
        qmig_fd_clear(&proxy->done_fd);
        g_free(proxy);
    }
}

const QmigAddress *
qmig_proxy_address(const QmigProxy *proxy)
{
    return qmig_session_address(proxy->session);
}

QmigProxyState
qmig_proxy_state(const QmigProxy *proxy)
{
    return qmig_session_state(proxy->session);
}

GError *
qmig_proxy_error(const QmigProxy *proxy)
{
    return qmig_session_error(proxy->session);
}

int
qmig_proxy_done_fd(const QmigProxy *proxy)
{
    return proxy->done_fd;
}

bool
qmig_proxy_wait(QmigProxy *proxy, int timeout_ms)
{
    QmigDeadline deadline = timeout_ms < 0 ? QMIG_DEADLINE_NEVER
                                           : qmig_deadline_in_ms(timeout_ms);

    return qmig_wait_fd(proxy->done_fd, POLLIN, deadline, NULL, NULL);
}

uint64_t
qmig_proxy_backlog(const QmigProxy *proxy)
{
    return qmig_session_backlog(proxy->session);
}

bool
qmig_proxy_set(QmigProxy *proxy, const char *name, const char *value, bool try,
               GError **error)
{
    return qmig_session_set(proxy->session, name, value, try, error);
}

JsonObject *
qmig_proxy_snapshot(QmigProxy *proxy)
{
    static const char *const names[] = {
        [QMIG_PROXY_WAITING] = "waiting",
        [QMIG_PROXY_ACTIVE] = "active",
        [QMIG_PROXY_DONE] = "done",
        [QMIG_PROXY_FAILED] = "failed",
    };
    JsonObject *snapshot = json_object_new_object();
    g_autoptr(GError) error = qmig_proxy_error(proxy);

    json_object_object_add(snapshot, "state",
                           json_object_new_string(names[qmig_proxy_state(proxy)]));
    qmig_session_describe(proxy->session, snapshot);
    json_object_object_add(snapshot, "backlog",
                           json_object_new_uint64(qmig_proxy_backlog(proxy)));
    if (error != NULL) {
        JsonObject *o = json_object_new_object();
        json_object_object_add(o, "code", json_object_new_string(qmig_error_name(error)));
        json_object_object_add(o, "message", json_object_new_string(error->message));
        json_object_object_add(snapshot, "error", o);
    }
    return snapshot;
}
