/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig proxy in its three ways: alone, as the tunnel's far end, as its near end. */
#ifndef QMIG_CLI_PROXY_H
#define QMIG_CLI_PROXY_H

#include "job/control.h"
#include "proxy/proxy.h"
#include "util/limit-file.h"

#include <glib.h>
#include <stdbool.h>

/* The options, as they were given. */
typedef struct {
    char *listen, *connect, *record, *tls_dir, *tls_destination, *tls_user;
    char **plugins;
    gboolean tls, tls_psk, json;
    /* Of the tunnel. */
    char *tunnel, *via, *cache, *deadline, *rate, *codec, *limits, *user, *control;
    char **allow, **allow_names;
    int sessions, connections;
    gboolean insecure;
} CliProxyOptions;

extern CliProxyOptions cli_proxy_options;

/* SIGINT, SIGTERM and SIGHUP as a descriptor; blocked before any thread starts, so that all
 * inherit that. */
int cli_proxy_open_signals(void);

/* Each returns the exit code. */
int cli_proxy_far(void);
int cli_proxy_near(void);

/* The proxy alone, from @listen to @destination, with the plugins asked for. @near: (nullable) whose
   socket @destination is. */
QmigProxy *cli_proxy_start_plugins(const QmigAddress *listen,
                                   const QmigAddress *destination, QmigNear *near,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- what both ends of the tunnel share (proxy-service.c) ------------------------------------- */

/**
 * cli_proxy_tunnel_creds() - what this end shows, as the options say
 * @creds: (out) NULL with --insecure, of which a warning is printed
 *
 * Errors: CONFIG, TLS, naming the file and the way out.
 */
bool cli_proxy_tunnel_creds(QmigPkiKind end, QmigTlsCreds **creds,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Limits that can be changed while it runs: options, then what the file of --limits has. */
typedef struct {
    unsigned sessions;
    uint64_t rate;  /* bytes/s; 0: none */
    uint64_t cache; /* bytes; of sessions to come */
} CliProxyLimits;

/* Errors: CONFIG, naming option or line. */
bool cli_proxy_read_limits(CliProxyLimits *limits,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * cli_proxy_reload_limits() - read them again, on SIGHUP
 * @proxy:  (nullable) the plugins in front of the tunnel: what the file has for them is set
 * @limits: (inout) of the tunnel, as they are and as they shall be, for the caller to set
 *
 * Return: false when something cannot be read or set; a line on stderr has said so, and the old
 * limits stay, those of plugins too.
 */
bool cli_proxy_reload_limits(QmigProxy *proxy,
                             CliProxyLimits *limits) G_GNUC_WARN_UNUSED_RESULT;

/* Milliseconds of --deadline. Errors: CONFIG. */
bool cli_proxy_read_deadline(uint32_t fallback_ms, uint32_t *ms,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Where `qmig status` finds this process; its socket is made, and nobody served yet. Where it cannot
 * be made, a line on stderr says so, and it goes without: NULL. */
QmigControl *cli_proxy_open_control(const char *role, const char *listen,
                                    const char *other);
/* Let it be served: after privileges were dropped. */
void cli_proxy_serve_control(QmigControl *control);
/* Requests that nobody here understands. */
void cli_proxy_refuse_requests(QmigControl *control);

/* A line on stderr; false when nobody takes it. Never waits. */
bool cli_proxy_log(void *unused, const char *line);

#endif
