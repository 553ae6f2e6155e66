/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qmig proxy: the proxy alone, for migrations that something else drives; and the way to the two ends
 * of the tunnel (proxy-tunnel.c, proxy-via.c).
 */
#include "cli/cli.h"
#include "cli/proxy-limits.h"
#include "cli/proxy.h"
#include "util/error.h"
#include "util/privs.h"
#include "util/units.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

CliProxyOptions cli_proxy_options;

/* Used by the proxy's threads until the end. */
static QmigTlsCreds *tls_server, *tls_client;

static const GOptionEntry entries[] = {
    { "listen", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.listen,
      "where the source will connect", "ADDRESS" },
    { "connect", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.connect,
      "where the destination listens", "ADDRESS" },
    { "plugin", 0, 0, G_OPTION_ARG_STRING_ARRAY, &cli_proxy_options.plugins,
      "NAME[:key=value,…] (default: stats)", "SPEC" },
    { "limits", 0, 0, G_OPTION_ARG_FILENAME, &cli_proxy_options.limits,
      "lines of NAME.KEY = VALUE; again on SIGHUP", "FILE" },
    { "record", 0, 0, G_OPTION_ARG_FILENAME, &cli_proxy_options.record,
      "write all connections into a new directory", "DIR" },
    { "tls", 0, 0, G_OPTION_ARG_NONE, &cli_proxy_options.tls,
      "speak TLS with both: plugins see it plain", NULL },
    { "tls-dir", 0, 0, G_OPTION_ARG_FILENAME, &cli_proxy_options.tls_dir,
      "certificates and keys (default: /etc/pki/qemu)", "DIR" },
    { "tls-destination", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.tls_destination,
      "the name in the destination's certificate", "NAME" },
    { "tls-psk", 0, 0, G_OPTION_ARG_NONE, &cli_proxy_options.tls_psk,
      "pre-shared keys instead of certificates", NULL },
    { "tls-user", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.tls_user,
      "whose pre-shared key (default: qemu)", "NAME" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &cli_proxy_options.json,
      "the report as one JSON object", NULL },
    { "tunnel", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.tunnel,
      "be a far end: listen there, or \"systemd\"", "ADDRESS" },
    { "via", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.via,
      "be a near end: to the far end there", "HOST[:PORT],…" },
    { "allow", 0, 0, G_OPTION_ARG_STRING_ARRAY, &cli_proxy_options.allow,
      "far: addresses it may connect to; repeatable", "PATTERN" },
    { "tunnel-allow-name", 0, 0, G_OPTION_ARG_STRING_ARRAY,
      &cli_proxy_options.allow_names, "far: names in certificates; repeatable",
      "PATTERN" },
    { "insecure", 0, 0, G_OPTION_ARG_NONE, &cli_proxy_options.insecure,
      "the tunnel without TLS", NULL },
    { "sessions", 0, 0, G_OPTION_ARG_INT, &cli_proxy_options.sessions,
      "far: at most so many at a time (default: 16)", "N" },
    { "connections", 0, 0, G_OPTION_ARG_INT, &cli_proxy_options.connections,
      "near: make so many (default: 2)", "N" },
    { "codec", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.codec,
      "near: auto, none, lz4, zstd (default: auto)", "NAME" },
    { "cache", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.cache,
      "pages kept, of a session (default: 1G)", "SIZE" },
    { "rate", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.rate,
      "what this end sends, a session (default: any)", "RATE" },
    { "deadline", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.deadline,
      "without a connection (far: 10m, near: 2m)", "TIME" },
    { "user", 0, 0, G_OPTION_ARG_STRING, &cli_proxy_options.user,
      "be that user once all is open", "NAME" },
    { "control", 0, 0, G_OPTION_ARG_FILENAME, &cli_proxy_options.control,
      "the tunnel's control socket", "PATH" },
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Carries one migration and ends; a far end runs until it is told to end. The\n"
    "destination is contacted only when the source has sent its first bytes.\n\n"
    "SIGHUP reads the file of --limits again, a far end's credentials too. Without\n"
    "--limits it ends a proxy that is no end of a tunnel.\n\n"
    "Exit: 0 carried to its end, 1 usage, 3 failed, 4 stopped by a signal.\n";

/* The name is that of the host it connects to, unless said. */
static bool
take_tls(const QmigAddress *destination, GError **error)
{
    const char *dir = cli_proxy_options.tls_dir != NULL ? cli_proxy_options.tls_dir
                                                        : QMIG_PKI_DEFAULT_DIR;
    const char *user = cli_proxy_options.tls_user != NULL ? cli_proxy_options.tls_user
                                                          : QMIG_PKI_DEFAULT_USER;

    if (!cli_proxy_options.tls) {
        return (cli_proxy_options.tls_dir == NULL &&
                cli_proxy_options.tls_destination == NULL && !cli_proxy_options.tls_psk &&
                cli_proxy_options.tls_user == NULL) ||
               qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--tls-…: wanted only together with --tls");
    }
    if (cli_proxy_options.tls_destination == NULL &&
        destination->kind == QMIG_ADDRESS_TCP) {
        cli_proxy_options.tls_destination = g_strdup(destination->host);
    }
    if (cli_proxy_options.tls_destination == NULL && !cli_proxy_options.tls_psk) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--tls to a unix socket: say by --tls-destination which name "
            "the destination's certificate is for");
    }
    tls_server = qmig_tls_creds_new(dir, QMIG_PKI_SERVER,
                                    cli_proxy_options.tls_psk ? user : NULL, error);
    if (tls_server == NULL) {
        return false;
    }
    tls_client = qmig_tls_creds_new(dir, QMIG_PKI_CLIENT,
                                    cli_proxy_options.tls_psk ? user : NULL, error);
    return tls_client != NULL;
}

QmigProxy *
cli_proxy_start_plugins(const QmigAddress *listen, const QmigAddress *destination,
                        QmigNear *near, GError **error)
{
    static const char *const stats[] = { "stats", NULL };
    char **plugins = cli_proxy_options.plugins;
    QmigProxyConfig config = {
        .listen = listen,
        .destination = destination,
        .near = near,
        .record = cli_proxy_options.record,
        .tls_server = tls_server,
        .tls_client = tls_client,
        .tls_hostname = cli_proxy_options.tls_destination,
        .plugins = plugins != NULL ? (const char *const *)plugins : stats,
    };

    return qmig_proxy_start(&config, error);
}

static QmigProxy *
start(GError **error)
{
    const CliProxyOptions *o = &cli_proxy_options;
    g_autoptr(QmigAddress) listen = NULL, destination = NULL;

    if (o->listen == NULL || o->connect == NULL) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "--listen and --connect are both needed");
        return NULL;
    }
    listen = qmig_address_parse(o->listen, error);
    if (listen == NULL) {
        return NULL;
    }
    destination = qmig_address_parse(o->connect, error);
    /* Before the proxy's threads start, hence before it listens: ports below 1024 are not for
     * it. */
    if (destination == NULL || !take_tls(destination, error) ||
        !qmig_privs_drop(listen->kind == QMIG_ADDRESS_UNIX ||
                             destination->kind == QMIG_ADDRESS_UNIX,
                         error)) {
        return NULL;
    }
    return cli_proxy_start_plugins(listen, destination, NULL, error);
}

/* What is wrong with the file is told, and nothing changes. */
static void
reload_limits(QmigProxy *proxy)
{
    g_autoptr(GError) error = NULL;
    int n = cli_limits_apply(proxy, cli_proxy_options.limits, false, &error);

    if (n < 0) {
        fprintf(stderr, "qmig proxy: %s; the old limits stay\n", error->message);
    } else {
        fprintf(stderr, "limits read anew: %d\n", n);
    }
}

/* A signal has come. Return: false when it ends the session. */
static bool
take_signal(QmigProxy *proxy, int signals)
{
    struct signalfd_siginfo info;

    if (read(signals, &info, sizeof info) != sizeof info) {
        return true;
    }
    if (info.ssi_signo != SIGHUP || cli_proxy_options.limits == NULL) {
        return false;
    }
    reload_limits(proxy);
    return true;
}

/* Carry it; false when a signal came first. */
static bool
carry(QmigProxy *proxy, int signals)
{
    struct pollfd fds[] = { { .fd = qmig_proxy_done_fd(proxy), .events = POLLIN },
                            { .fd = signals, .events = POLLIN } };

    for (;;) {
        if (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
            continue;
        }
        if (fds[0].revents != 0) {
            return true;
        }
        if (!take_signal(proxy, signals)) {
            return false;
        }
    }
}

static void
print_summary(JsonObject *snapshot)
{
    JsonObject *channels = qmig_json_get(snapshot, "channels", json_type_array);
    JsonObject *notices = qmig_json_get(snapshot, "notices", json_type_array);

    for (size_t i = 0; channels != NULL && i < json_object_array_length(channels); i++) {
        JsonObject *channel = json_object_array_get_idx(channels, i);
        g_autofree char *bytes = qmig_format_size(
            (uint64_t)qmig_json_int(channel, "bytes_forward", 0));
        const char *kind = qmig_json_string(channel, "kind");
        printf("%-8s %s\n", kind != NULL ? kind : "?", bytes);
    }
    for (size_t i = 0; notices != NULL && i < json_object_array_length(notices); i++) {
        printf("notice   %s\n",
               json_object_get_string(json_object_array_get_idx(notices, i)));
    }
}

/* Which way an option goes with. */
typedef struct {
    const char *name;
    bool is_given, alone, far, near;
} Fit;

static bool
check_fits(GError **error)
{
    const CliProxyOptions *o = &cli_proxy_options;
    bool far = o->tunnel != NULL, near = o->via != NULL, alone = !far && !near;
    const Fit fits[] = {
        { "listen", o->listen != NULL, true, false, true },
        { "plugin", o->plugins != NULL, true, false, true },
        { "record", o->record != NULL, true, false, true },
        { "json", o->json, true, false, true },
        { "tls-destination", o->tls_destination != NULL, true, false, true },
        { "allow", o->allow != NULL, false, true, false },
        { "tunnel-allow-name", o->allow_names != NULL, false, true, false },
        { "sessions", o->sessions != 0, false, true, false },
        { "connections", o->connections != 0, false, false, true },
        { "codec", o->codec != NULL, false, false, true },
        { "insecure", o->insecure, false, true, true },
        { "cache", o->cache != NULL, false, true, true },
        { "rate", o->rate != NULL, false, true, true },
        { "deadline", o->deadline != NULL, false, true, true },
        { "user", o->user != NULL, false, true, true },
        { "control", o->control != NULL, false, true, true },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(fits); i++) {
        const Fit *fit = &fits[i];
        if (fit->is_given &&
            !((alone && fit->alone) || (far && fit->far) || (near && fit->near))) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG, "--%s: wanted only %s",
                                  fit->name,
                                  fit->alone              ? "without --tunnel"
                                  : fit->far && fit->near ? "with --tunnel or --via"
                                  : fit->far              ? "with --tunnel"
                                                          : "with --via");
        }
    }
    return !(far && near) || qmig_set_error(error, QMIG_ERROR_CONFIG,
                                            "--tunnel and --via: wanted is one of them, "
                                            "each end is a process of its own");
}

int
cli_proxy(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigProxy) proxy = NULL;
    g_autoptr(JsonObject) snapshot = NULL;
    g_auto(QmigFd) signals = -1;

    if (!cli_parse(&argc, &argv, entries, "", description, 0, 0)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (!check_fits(&error)) {
        return cli_fail("proxy", error, QMIG_OUTCOME_USAGE);
    }
    if (cli_proxy_options.tunnel != NULL || cli_proxy_options.via != NULL) {
        return cli_proxy_options.tunnel != NULL ? cli_proxy_far() : cli_proxy_near();
    }
    signals = cli_proxy_open_signals();
    proxy = start(&error);
    if (proxy == NULL ||
        (cli_proxy_options.limits != NULL &&
         cli_limits_apply(proxy, cli_proxy_options.limits, false, &error) < 0)) {
        return cli_fail("proxy", error, QMIG_OUTCOME_USAGE);
    }
    g_autofree char *address = qmig_address_to_string(qmig_proxy_address(proxy));
    fprintf(stderr, "listening on %s\n", address);
    if (!carry(proxy, signals)) {
        fprintf(stderr, "qmig proxy: stopped by a signal\n");
        return QMIG_OUTCOME_CANCELLED;
    }
    snapshot = qmig_proxy_snapshot(proxy);
    if (cli_proxy_options.json) {
        cli_print_json(snapshot);
    } else {
        print_summary(snapshot);
    }
    error = qmig_proxy_error(proxy);
    return error == NULL ? 0 : cli_fail("proxy", error, QMIG_OUTCOME_FAILED);
}
