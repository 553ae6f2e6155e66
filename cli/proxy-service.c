/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both ends of the tunnel share as programs that run for long. */
#include "cli/cli.h"
#include "cli/proxy-limits.h"
#include "cli/proxy.h"
#include "util/error.h"
#include "util/units.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { SESSIONS = 16, DEADLINE_MS_MAX = 24 * 3600 * 1000 };

static const uint64_t default_cache = UINT64_C(1) << 30;

int
cli_proxy_open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

bool
cli_proxy_log(void *unused, const char *line)
{
    struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

    (void)unused;
    /* A pipe that nobody empties would hold up the door. */
    if (poll(&fd, 1, 0) != 1 || (fd.revents & POLLOUT) == 0) {
        return false;
    }
    return fprintf(stderr, "%s\n", line) > 0;
}

/* ---- credentials ---------------------------------------------------------------------------- */

bool
cli_proxy_tunnel_creds(QmigPkiKind end, QmigTlsCreds **creds, GError **error)
{
    const CliProxyOptions *o = &cli_proxy_options;
    const char *dir = o->tls_dir != NULL ? o->tls_dir : QMIG_PKI_DEFAULT_DIR;
    const char *user = o->tls_user != NULL ? o->tls_user : QMIG_PKI_DEFAULT_USER;

    *creds = NULL;
    if (o->insecure &&
        (o->tls || o->tls_dir != NULL || o->tls_psk || o->tls_user != NULL ||
         o->tls_destination != NULL || o->allow_names != NULL)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--insecure goes without --tls-… and --tunnel-allow-name: "
                              "wanted is one or the other");
    }
    if (o->insecure) {
        fprintf(stderr,
                "qmig proxy: WARNING: --insecure: the tunnel is neither encrypted nor "
                "authenticated: whoever can reach it can read guests and take them\n");
        return true;
    }
    if (o->tls_psk && o->allow_names != NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--tunnel-allow-name goes with certificates: a pre-shared key "
            "has no name but --tls-user");
    }
    *creds = qmig_tls_creds_new(dir, end, o->tls_psk ? user : NULL, error);
    if (*creds == NULL) {
        g_prefix_error(error,
                       "the tunnel wants TLS (qmig pki makes what is needed; --insecure "
                       "goes without): ");
        return false;
    }
    qmig_tls_creds_for_tunnel(*creds);
    return true;
}

/* ---- limits --------------------------------------------------------------------------------- */

static bool
read_sessions(const char *text, unsigned *sessions, GError **error)
{
    uint64_t number = 0;

    if (!g_ascii_string_to_unsigned(text, 10, 1, 1024, &number, NULL)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "\"%s\", wanted 1 to 1024", text);
    }
    *sessions = (unsigned)number;
    return true;
}

/* A line of the file. Those of plugins are theirs. */
static bool
take_limit(CliProxyLimits *limits, const QmigLimit *limit, GError **error)
{
    if (strcmp(limit->owner, "tunnel") != 0) {
        return cli_proxy_options.plugins != NULL ||
               qmig_set_error(
                   error, QMIG_ERROR_CONFIG,
                   "no plugin is in use here, wanted tunnel.sessions, tunnel.rate "
                   "or tunnel.cache");
    }
    if (strcmp(limit->key, "sessions") == 0) {
        return read_sessions(limit->value, &limits->sessions, error);
    }
    if (strcmp(limit->key, "rate") == 0) {
        return qmig_parse_rate(limit->value, &limits->rate, error);
    }
    if (strcmp(limit->key, "cache") == 0) {
        return qmig_parse_size(limit->value, &limits->cache, error);
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "no limit of that name, wanted tunnel.sessions, tunnel.rate or "
                          "tunnel.cache");
}

static bool
take_file(CliProxyLimits *limits, GError **error)
{
    g_autoptr(QmigLimits) file = qmig_limits_read(cli_proxy_options.limits, error);

    for (unsigned i = 0; file != NULL && qmig_limits_nth(file, i) != NULL; i++) {
        const QmigLimit *limit = qmig_limits_nth(file, i);

        if (!take_limit(limits, limit, error)) {
            g_prefix_error(error, "%s:%u: %s.%s: ", qmig_limits_name(file), limit->line,
                           limit->owner, limit->key);
            return false;
        }
    }
    return file != NULL;
}

bool
cli_proxy_read_limits(CliProxyLimits *limits, GError **error)
{
    const CliProxyOptions *o = &cli_proxy_options;

    *limits = (CliProxyLimits){ .sessions = SESSIONS, .cache = default_cache };
    if (o->sessions < 0 || o->sessions > 1024) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--sessions: %d, wanted 1 to 1024", o->sessions);
    }
    limits->sessions = o->sessions > 0 ? (unsigned)o->sessions : SESSIONS;
    if (o->cache != NULL && !qmig_parse_size(o->cache, &limits->cache, error)) {
        g_prefix_error(error, "--cache: ");
        return false;
    }
    if (o->rate != NULL && !qmig_parse_rate(o->rate, &limits->rate, error)) {
        g_prefix_error(error, "--rate: ");
        return false;
    }
    return o->limits == NULL || take_file(limits, error);
}

bool
cli_proxy_reload_limits(QmigProxy *proxy, CliProxyLimits *limits)
{
    const char *file = cli_proxy_options.limits;
    CliProxyLimits fresh;
    g_autoptr(GError) error = NULL;

    if (!cli_proxy_read_limits(&fresh, &error) ||
        (proxy != NULL && file != NULL &&
         cli_limits_apply(proxy, file, true, &error) < 0)) {
        fprintf(stderr, "qmig proxy: %s; the old limits stay\n", error->message);
        return false;
    }
    if (fresh.cache != limits->cache) {
        fprintf(stderr,
                "qmig proxy: the size of the cache changes when it is started again\n");
        fresh.cache = limits->cache;
    }
    *limits = fresh;
    return true;
}

bool
cli_proxy_read_deadline(uint32_t fallback_ms, uint32_t *ms, GError **error)
{
    const char *text = cli_proxy_options.deadline;
    uint64_t number = fallback_ms;

    if (text != NULL && !qmig_parse_duration(text, &number, error)) {
        g_prefix_error(error, "--deadline: ");
        return false;
    }
    if (number < 1000 || number > DEADLINE_MS_MAX) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--deadline: %s, wanted 1s to 24h", text);
    }
    *ms = (uint32_t)number;
    return true;
}

/* ---- the control socket ----------------------------------------------------------------------- */

QmigControl *
cli_proxy_open_control(const char *role, const char *listen, const char *other)
{
    g_autoptr(JsonObject) greeting = json_object_new_object();
    g_autoptr(GError) error = NULL;
    JsonObject *qmig = json_object_new_object(), *tunnel = json_object_new_object();
    QmigControl *control;

    json_object_object_add(greeting, "qmig", qmig);
    json_object_object_add(greeting, "tunnel", tunnel);
    cli_add_text(qmig, "command", "proxy");
    json_object_object_add(qmig, "pid", json_object_new_int64(getpid()));
    json_object_object_add(qmig, "protocol",
                           json_object_new_int64(QMIG_CONTROL_PROTOCOL));
    cli_add_text(tunnel, "role", role);
    cli_add_text(tunnel, "listen", listen);
    cli_add_text(tunnel, strcmp(role, "far") == 0 ? "connect" : "via", other);
    control = qmig_control_open_socket(cli_proxy_options.control, &error);
    if (control == NULL) {
        fprintf(stderr,
                "qmig proxy: no control socket, `qmig status` will not find this "
                "process: %s\n",
                error->message);
        return NULL;
    }
    qmig_control_set_identity(control, greeting);
    return control;
}

void
cli_proxy_serve_control(QmigControl *control)
{
    if (control != NULL) {
        qmig_control_serve(control);
    }
}

void
cli_proxy_refuse_requests(QmigControl *control)
{
    QmigControlRequest *request;

    while (control != NULL && (request = qmig_control_take(control)) != NULL) {
        g_autoptr(GError) error = NULL;

        qmig_set_error(&error, QMIG_ERROR_UNSUPPORTED,
                       "\"%s\": a tunnel understands \"status\" alone",
                       qmig_control_request_command(request));
        qmig_control_refuse(control, request, error);
    }
}
