/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The proxy: stands between a migrating QEMU and its destination.
 *
 * One proxy serves one migration: the group of connections (main, multifd, preempt) that the
 * source opens to the listening address. It runs in threads of its own.
 */
#ifndef QMIG_PROXY_PROXY_H
#define QMIG_PROXY_PROXY_H

#include "proxy/link/near.h"
#include "proxy/tls.h"
#include "util/address.h"
#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct QmigProxy QmigProxy;

typedef struct {
    /* Where the source will connect. */
    const QmigAddress *listen;
    /* Where the destination listens; contacted only when the first bytes of a connection are
       in hand. */
    const QmigAddress *destination;
    /* (nullable) The tunnel's near end whose forwarded socket @destination is: main's bytes go to
       it without that socket. */
    QmigNear *near;
    /* (nullable) A new or empty directory that gets a capture of all connections. */
    const char *record;
    /* Specs of qmig_chain_new(); NULL = none. */
    const char *const *plugins;
    /* TLS that ends here, leg by leg; NULL = that leg is as the source made it. Borrowed until
       the proxy is freed. */
    const QmigTlsCreds *tls_server; /* towards the source; it must speak TLS then */
    const QmigTlsCreds *tls_client; /* towards the destination */
    const char
        *tls_hostname; /* (nullable) what the destination's certificate must be for */
    /* A connection that stays silent so long, and is no preempt channel, ends the session;
       so does a multifd channel that waits so long for main. 0 = 10 000. */
    uint32_t first_bytes_timeout_ms;
    /* For reaching the destination; 0 = 10 000. */
    uint32_t connect_timeout_ms;
    /* Within that time, try again where it fails at once. */
    bool connect_again;
} QmigProxyConfig;

typedef enum {
    QMIG_PROXY_WAITING, /* listening, no connection yet */
    QMIG_PROXY_ACTIVE,  /* carrying a migration */
    QMIG_PROXY_DONE,    /* every connection ended in good order */
    QMIG_PROXY_FAILED,  /* ended by an error; qmig_proxy_error() tells */
} QmigProxyState;

/**
 * qmig_proxy_start() - listen, and carry the migration that comes
 *
 * Plugins are loaded and readied here, so that their refusal comes before anything is touched;
 * likewise the directory of the capture.
 * Errors: CONFIG, PLUGIN, IO.
 */
QmigProxy *qmig_proxy_start(const QmigProxyConfig *config,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Where it listens, with the port the kernel chose. Borrowed. */
const QmigAddress *qmig_proxy_address(const QmigProxy *proxy);

/* Threads: any. */
QmigProxyState qmig_proxy_state(const QmigProxy *proxy);

/* What ended a FAILED session: side, channel, stream position. (transfer full) (nullable) */
GError *qmig_proxy_error(const QmigProxy *proxy);

/* Wait until DONE or FAILED. Return: false when @timeout_ms passed first; -1 = for ever. */
bool qmig_proxy_wait(QmigProxy *proxy, int timeout_ms);

/* A descriptor that becomes readable once DONE or FAILED; borrowed, for poll(2). */
int qmig_proxy_done_fd(const QmigProxy *proxy);

/**
 * qmig_proxy_snapshot() - what is known now, as JSON
 *
 * { "state": "active",
 *   "channels": [ { "kind": "main" | "multifd" | "preempt" | "tls",
 *                   "id": n,                    multifd: the source's number; tls: 1, 2, …
 *                   "bytes_forward": n, "bytes_reverse": n,      written to the other leg
 *                   "tls_source": "TLSv1.3, …", "tls_destination": "…",  where TLS ends here
 *                   "mode": "observe" | "rewrite" | "raw", "raw_reason": "…" }, … ],
 *   "return_path": { "shut": 0 | n | absent, "pongs": n },
 *   "backlog": n,                     bytes taken from the source and not yet given on
 *   "plugins": { "stats": { … } },    from the last report, at most 200 ms old
 *   "notices": [ "…" ],
 *   "error": { "code": "…", "message": "…" } }
 *
 * Threads: any. Never waits for the data path. (transfer full)
 */
JsonObject *qmig_proxy_snapshot(QmigProxy *proxy);

/* Bytes taken from the source and not yet written to the destination. Threads: any. */
uint64_t qmig_proxy_backlog(const QmigProxy *proxy);

/**
 * qmig_proxy_set() - change a plugin's configuration while it runs
 * @name: "PLUGIN.KEY", e.g. "throttle.rate"
 * @try:  change nothing, say only whether it would be done
 *
 * Threads: any. Errors: CONFIG: no such plugin; PLUGIN: it says no; the old value holds.
 */
bool qmig_proxy_set(QmigProxy *proxy, const char *name, const char *value, bool try,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* End every connection at once (both legs), join the threads, remove the listening socket. */
void qmig_proxy_free(QmigProxy *proxy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigProxy, qmig_proxy_free)

#endif
