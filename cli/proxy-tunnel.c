/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qmig proxy --tunnel: the tunnel's end beside the destination, as a service.
 *
 * It opens what only root may (keys, ports, its place among the control sockets), becomes nobody of
 * importance, and then lets the gate judge who comes.
 */
#include "cli/cli.h"
#include "cli/proxy.h"
#include "proxy/link/far.h"
#include "proxy/link/gate.h"
#include "util/descriptors.h"
#include "util/error.h"
#include "util/privs.h"
#include "util/service.h"
#include "util/socket.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    BACKLOG = 1024, /* whoever is refused is refused by us, with a reason */
    WIRES_MAX = 16,
    DEADLINE_MS = 600000,
    /* Beyond the time a session may be dark: for a guest that is changing hosts. */
    LEAVE_EXTRA_MS = 30000,
    LOOK_MS = 500, /* at how sessions stand, for `qmig status` */
};

/* This process's; used by threads until the end. */
static struct {
    QmigFar *far;
    QmigGate *gate;
    QmigTlsCreds *tls;
    QmigControl *control;
    QmigAddress *address;
    QmigFd listener, left;
    bool is_given; /* systemd's socket: its file is systemd's */
    CliProxyLimits limits;
    uint32_t deadline_ms;
    GThread *leaving;
} this = { .listener = -1, .left = -1 };

static bool
admit(void *data, QmigWire *wire, const QmigFrameHead *head, const void *payload,
      QmigDeadline deadline, GError **error)
{
    (void)data;
    return qmig_far_admit(this.far, wire, head, payload, deadline, error);
}

/* ---- beginning ------------------------------------------------------------------------------ */

static bool
open_listener(GError **error)
{
    g_autoptr(QmigAddress) address = NULL;

    if (strcmp(cli_proxy_options.tunnel, "systemd") == 0) {
        this.is_given = true;
        this.listener = qmig_service_socket(error);
        return this.listener >= 0;
    }
    address = qmig_address_parse(cli_proxy_options.tunnel, error);
    if (address == NULL) {
        return false;
    }
    this.listener = qmig_socket_listen(address, BACKLOG, &this.address, error);
    return this.listener >= 0;
}

/* What needs privileges, if anything does. */
static bool
drop_privileges(const QmigAddress *destination, GError **error)
{
    const char *const *allow = (const char *const *)cli_proxy_options.allow;
    bool uses_files = destination != NULL && destination->kind == QMIG_ADDRESS_UNIX;

    if (cli_proxy_options.user != NULL) {
        return qmig_privs_become(cli_proxy_options.user, error);
    }
    for (size_t i = 0; allow != NULL && allow[i] != NULL; i++) {
        uses_files = uses_files || !g_str_has_prefix(allow[i], "tcp:");
    }
    return qmig_privs_drop(uses_files, error);
}

static void
start_threads(const QmigAddress *destination)
{
    const CliProxyOptions *o = &cli_proxy_options;
    QmigFarConfig far = {
        .destination = destination,
        .allow = (const char *const *)o->allow,
        .cache_max = this.limits.cache,
        .sessions_max = this.limits.sessions,
        .wires_max = WIRES_MAX,
        .deadline_max_ms = this.deadline_ms,
        .log = cli_proxy_log,
    };
    QmigGateConfig gate = {
        .listener = this.listener,
        .tls = this.tls,
        .names = (const char *const *)o->allow_names,
        .admit = admit,
        .log = cli_proxy_log,
    };

    this.far = qmig_far_new(&far);
    qmig_far_set_limits(this.far, this.limits.sessions, this.limits.rate);
    cli_proxy_serve_control(this.control);
    this.gate = qmig_gate_new(&gate);
}

static bool
begin(GError **error)
{
    const CliProxyOptions *o = &cli_proxy_options;
    g_autoptr(QmigAddress) destination = NULL;
    g_autofree char *where = NULL;

    if (o->connect == NULL && o->allow == NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "--tunnel: where may it connect to? wanted --connect, --allow or "
            "both");
    }
    if (o->connect != NULL) {
        destination = qmig_address_parse(o->connect, error);
        if (destination == NULL) {
            return false;
        }
    }
    if (!cli_proxy_read_limits(&this.limits, error) ||
        !cli_proxy_read_deadline(DEADLINE_MS, &this.deadline_ms, error) ||
        !cli_proxy_tunnel_creds(QMIG_PKI_SERVER, &this.tls, error) ||
        !open_listener(error)) {
        return false;
    }
    where = this.address != NULL ? qmig_address_to_string(this.address)
                                 : g_strdup("systemd");
    this.control = cli_proxy_open_control("far", where, o->connect);
    if (!drop_privileges(destination, error)) {
        return false;
    }
    qmig_descriptors_raise_limit();
    start_threads(destination);
    fprintf(stderr, "listening on %s\n", where);
    return true;
}

/* ---- while it runs -------------------------------------------------------------------------- */

static void
take_limits(void)
{
    if (cli_proxy_reload_limits(NULL, &this.limits)) {
        qmig_far_set_limits(this.far, this.limits.sessions, this.limits.rate);
    }
}

/* What cannot be read changes nothing. */
static void
take_creds(void)
{
    g_autoptr(GError) error = NULL;
    QmigTlsCreds *tls = NULL;

    if (this.tls == NULL) {
        return;
    }
    if (!cli_proxy_tunnel_creds(QMIG_PKI_SERVER, &tls, &error)) {
        fprintf(stderr, "qmig proxy: %s; the old credentials stay\n", error->message);
        return;
    }
    qmig_gate_set_tls(this.gate, tls);
    qmig_tls_creds_free(this.tls);
    this.tls = tls;
}

static void *
leave(void *unused)
{
    uint64_t one = 1;

    (void)unused;
    qmig_far_leave(this.far,
                   qmig_deadline_in_ms((int64_t)this.deadline_ms + LEAVE_EXTRA_MS));
    (void)!write(this.left, &one, sizeof one);
    return NULL;
}

/* The door stays open meanwhile: sessions that are waited for may come with new connections. */
static void
begin_to_leave(void)
{
    qmig_service_notify("STOPPING=1");
    fprintf(stderr,
            "qmig proxy: no new session; those that live are ended, but while a guest is "
            "changing hosts\n");
    this.leaving = g_thread_new("leave", leave, NULL);
}

static void
tell_status(void)
{
    g_autoptr(JsonObject) status = json_object_new_object();
    JsonObject *limits = json_object_new_object();

    if (this.control == NULL) {
        return;
    }
    cli_add_text(status, "state", this.leaving != NULL ? "leaving" : "open");
    json_object_object_add(status, "sessions", qmig_far_describe(this.far));
    json_object_object_add(status, "gate", qmig_gate_describe(this.gate));
    json_object_object_add(status, "limits", limits);
    json_object_object_add(limits, "sessions",
                           json_object_new_int64(this.limits.sessions));
    json_object_object_add(limits, "rate",
                           json_object_new_int64((int64_t)this.limits.rate));
    json_object_object_add(limits, "cache",
                           json_object_new_int64((int64_t)this.limits.cache));
    qmig_control_set_status(this.control, status);
    cli_proxy_refuse_requests(this.control);
}

/* Return: it is to end at once. */
static bool
take_signal(int signals)
{
    struct signalfd_siginfo info;

    if (read(signals, &info, sizeof info) != sizeof info) {
        return false;
    }
    if (info.ssi_signo == SIGHUP) {
        take_limits();
        take_creds();
        return false;
    }
    if (this.leaving != NULL) {
        return true;
    }
    begin_to_leave();
    return false;
}

/* Return: the exit code. */
static int
run(int signals)
{
    struct pollfd fds[] = { { .fd = signals, .events = POLLIN },
                            { .fd = this.left, .events = POLLIN },
                            { .fd = qmig_control_fd(this.control), .events = POLLIN } };

    for (;;) {
        tell_status();
        poll(fds, G_N_ELEMENTS(fds), LOOK_MS);
        if (fds[1].revents != 0) {
            return 0;
        }
        if (fds[0].revents != 0 && take_signal(signals)) {
            fprintf(stderr, "qmig proxy: stopped by a second signal\n");
            return QMIG_OUTCOME_CANCELLED;
        }
    }
}

static void
remove_files(void)
{
    if (!this.is_given && this.address != NULL &&
        this.address->kind == QMIG_ADDRESS_UNIX) {
        g_unlink(this.address->path);
    }
}

static void
end(void)
{
    g_clear_pointer(&this.leaving, g_thread_join);
    g_clear_pointer(&this.gate, qmig_gate_free);
    g_clear_pointer(&this.far, qmig_far_free);
    g_clear_pointer(&this.control, qmig_control_free);
    g_clear_pointer(&this.tls, qmig_tls_creds_free);
    g_clear_pointer(&this.address, qmig_address_free);
    qmig_fd_clear(&this.listener);
    qmig_fd_clear(&this.left);
}

int
cli_proxy_far(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(QmigFd) signals = cli_proxy_open_signals();
    int code;

    this.left = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!begin(&error)) {
        remove_files();
        end();
        return cli_fail("proxy", error, QMIG_OUTCOME_USAGE);
    }
    qmig_service_notify("READY=1");
    code = run(signals);
    remove_files();
    if (code != 0) {
        /* Its threads may wait for a peer that does not stir. */
        if (this.control != NULL) {
            g_unlink(qmig_control_path(this.control));
        }
        _exit(code);
    }
    end();
    return code;
}
