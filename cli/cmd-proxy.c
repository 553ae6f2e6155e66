/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig proxy: the proxy alone, for migrations that something else drives. */
#include "cli/cli.h"
#include "cli/proxy-limits.h"
#include "proxy/proxy.h"
#include "util/error.h"
#include "util/privs.h"
#include "util/units.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

static struct {
    char *listen, *connect, *record, *limits, *tls_dir, *tls_destination, *tls_user;
    char **plugins;
    gboolean tls, tls_psk, json;
} arg;

/* Used by the proxy's threads until the end. */
static QmigTlsCreds *tls_server, *tls_client;

static const GOptionEntry entries[] = {
    { "listen", 0, 0, G_OPTION_ARG_STRING, &arg.listen, "where the source will connect",
      "ADDRESS" },
    { "connect", 0, 0, G_OPTION_ARG_STRING, &arg.connect, "where the destination listens",
      "ADDRESS" },
    { "plugin", 0, 0, G_OPTION_ARG_STRING_ARRAY, &arg.plugins,
      "NAME[:key=value,…]; repeatable (default: stats)", "SPEC" },
    { "limits", 0, 0, G_OPTION_ARG_FILENAME, &arg.limits,
      "lines of PLUGIN.KEY = VALUE, read again on SIGHUP", "FILE" },
    { "record", 0, 0, G_OPTION_ARG_FILENAME, &arg.record,
      "write all connections into a new directory", "DIR" },
    { "tls", 0, 0, G_OPTION_ARG_NONE, &arg.tls,
      "speak TLS with both sides: plugins see it plain", NULL },
    { "tls-dir", 0, 0, G_OPTION_ARG_FILENAME, &arg.tls_dir,
      "certificates and keys (default: /etc/pki/qemu)", "DIR" },
    { "tls-destination", 0, 0, G_OPTION_ARG_STRING, &arg.tls_destination,
      "the name in the destination's certificate", "NAME" },
    { "tls-psk", 0, 0, G_OPTION_ARG_NONE, &arg.tls_psk,
      "pre-shared keys instead of certificates", NULL },
    { "tls-user", 0, 0, G_OPTION_ARG_STRING, &arg.tls_user,
      "whose pre-shared key (default: qemu)", "NAME" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "the report as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Carries one migration and ends. The destination is contacted only when the\n"
    "source has sent its first bytes.\n\n"
    "SIGHUP reads the file of --limits again; without that it ends the session.\n\n"
    "Exit: 0 carried to its end, 1 usage, 3 failed, 4 stopped by a signal.\n";

/* SIGINT, SIGTERM and SIGHUP as a descriptor; blocked before any thread starts, so that all
 * inherit that. */
static int
open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* The name is that of the host it connects to, unless said. */
static bool
take_tls(const QmigAddress *destination, GError **error)
{
    const char *dir = arg.tls_dir != NULL ? arg.tls_dir : QMIG_PKI_DEFAULT_DIR;
    const char *user = arg.tls_user != NULL ? arg.tls_user : QMIG_PKI_DEFAULT_USER;

    if (!arg.tls) {
        return (arg.tls_dir == NULL && arg.tls_destination == NULL && !arg.tls_psk &&
                arg.tls_user == NULL) ||
               qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--tls-…: wanted only together with --tls");
    }
    if (arg.tls_destination == NULL && destination->kind == QMIG_ADDRESS_TCP) {
        arg.tls_destination = g_strdup(destination->host);
    }
    if (arg.tls_destination == NULL && !arg.tls_psk) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--tls to a unix socket: say by --tls-destination which name "
            "the destination's certificate is for");
    }
    tls_server = qmig_tls_creds_new(dir, QMIG_PKI_SERVER, arg.tls_psk ? user : NULL,
                                    error);
    if (tls_server == NULL) {
        return false;
    }
    tls_client = qmig_tls_creds_new(dir, QMIG_PKI_CLIENT, arg.tls_psk ? user : NULL,
                                    error);
    return tls_client != NULL;
}

static QmigProxy *
start(GError **error)
{
    static const char *const stats[] = { "stats", NULL };
    g_autoptr(QmigAddress) listen = NULL, destination = NULL;

    if (arg.listen == NULL || arg.connect == NULL) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "--listen and --connect are both needed");
        return NULL;
    }
    listen = qmig_address_parse(arg.listen, error);
    if (listen == NULL) {
        return NULL;
    }
    destination = qmig_address_parse(arg.connect, error);
    /* Before the proxy's threads start, hence before it listens: ports below 1024 are not for
     * it. */
    if (destination == NULL || !take_tls(destination, error) ||
        !qmig_privs_drop(listen->kind == QMIG_ADDRESS_UNIX ||
                             destination->kind == QMIG_ADDRESS_UNIX,
                         error)) {
        return NULL;
    }
    QmigProxyConfig config = {
        .listen = listen,
        .destination = destination,
        .record = arg.record,
        .tls_server = tls_server,
        .tls_client = tls_client,
        .tls_hostname = arg.tls_destination,
        .plugins = arg.plugins != NULL ? (const char *const *)arg.plugins : stats,
    };
    return qmig_proxy_start(&config, error);
}

/* What is wrong with the file is told, and nothing changes. */
static void
reload_limits(QmigProxy *proxy)
{
    g_autoptr(GError) error = NULL;
    int n = cli_limits_apply(proxy, arg.limits, &error);

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
    if (info.ssi_signo != SIGHUP || arg.limits == NULL) {
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
    signals = open_signals();
    proxy = start(&error);
    if (proxy == NULL ||
        (arg.limits != NULL && cli_limits_apply(proxy, arg.limits, &error) < 0)) {
        return cli_fail("proxy", error, QMIG_OUTCOME_USAGE);
    }
    g_autofree char *address = qmig_address_to_string(qmig_proxy_address(proxy));
    fprintf(stderr, "listening on %s\n", address);
    if (!carry(proxy, signals)) {
        fprintf(stderr, "qmig proxy: stopped by a signal\n");
        return QMIG_OUTCOME_CANCELLED;
    }
    snapshot = qmig_proxy_snapshot(proxy);
    if (arg.json) {
        cli_print_json(snapshot);
    } else {
        print_summary(snapshot);
    }
    error = qmig_proxy_error(proxy);
    return error == NULL ? 0 : cli_fail("proxy", error, QMIG_OUTCOME_FAILED);
}
