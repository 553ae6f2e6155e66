/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qmig proxy --listen --via: the tunnel's end beside the source, for migrations that something else
 * drives.
 *
 *     source -> [proxy with plugins, where there are any] -> near end == tunnel == far end -> destination
 */
#include "cli/cli.h"
#include "cli/proxy-limits.h"
#include "cli/proxy.h"
#include "job/via.h"
#include "proxy/link/near.h"
#include "util/descriptors.h"
#include "util/error.h"
#include "util/privs.h"
#include "util/service.h"
#include "util/units.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    FAR_MAX = 16,
    DEADLINE_MS = 120000,
    CLOSE_MS = 10000,
    LOOK_MS = 200,
};

static struct {
    QmigAddress *far[FAR_MAX + 1];
    QmigNear *near;
    QmigProxy *proxy; /* (nullable) with the plugins */
    QmigTlsCreds *tls;
    QmigControl *control;
    QmigAddress *listen, *there;       /* `there` is nullable */
    QmigAddress *entry;                /* where the near end listens */
    char *private_dir;                 /* of the socket between the two, if any */
    char name[QMIG_LINK_NAME_MAX + 1]; /* of the session */
    CliProxyLimits limits;
    uint32_t deadline_ms;
    bool is_unreachable; /* the far end, at the begin */
    bool is_stopping;    /* a signal has come, but what was taken must arrive */
} this;

/* ---- what was asked for ----------------------------------------------------------------------- */

static bool
read_far(GError **error)
{
    g_auto(GStrv) list = g_strsplit(cli_proxy_options.via, ",", 0);

    for (unsigned i = 0; list[i] != NULL; i++) {
        if (i == FAR_MAX) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "--via: more than %d addresses", FAR_MAX);
        }
        this.far[i] = qmig_via_parse_far(list[i], error);
        if (this.far[i] == NULL) {
            g_prefix_error(error, "--via: ");
            return false;
        }
    }
    return this.far[0] != NULL ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--via: an empty address, wanted HOST[:PORT]");
}

static bool
read_codec(QmigLinkCodec *codec, GError **error)
{
    static const char *const names[] = { "auto", "none", "lz4", "zstd" };
    const char *text = cli_proxy_options.codec;

    *codec = QMIG_CODEC_AUTO;
    for (size_t i = 0; text != NULL && i < G_N_ELEMENTS(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *codec = (QmigLinkCodec)i;
            return true;
        }
    }
    return text == NULL ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--codec: \"%s\", wanted auto, none, lz4 or zstd", text);
}

static bool
read_options(QmigNearConfig *config, GError **error)
{
    const CliProxyOptions *o = &cli_proxy_options;

    if (o->listen == NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--via wants --listen: where will the source connect?");
    }
    this.listen = qmig_address_parse(o->listen, error);
    if (this.listen == NULL) {
        return false;
    }
    this.there = o->connect != NULL ? qmig_address_parse(o->connect, error) : NULL;
    if (o->connect != NULL && this.there == NULL) {
        return false;
    }
    if (o->connections < 0 || o->connections > QMIG_LINK_WIRES_MAX) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--connections: %d, wanted 1 to %d", o->connections,
                              QMIG_LINK_WIRES_MAX);
    }
    if (!read_far(error) || !read_codec(&config->codec, error) ||
        !cli_proxy_read_limits(&this.limits, error) ||
        !cli_proxy_read_deadline(DEADLINE_MS, &this.deadline_ms, error) ||
        !cli_proxy_tunnel_creds(QMIG_PKI_CLIENT, &this.tls, error)) {
        return false;
    }
    config->far = (const QmigAddress *const *)this.far;
    config->tls = this.tls;
    config->tls_hostname = o->tls_destination;
    qmig_link_name(o->listen, g_get_host_name(), this.name);
    config->name = this.name;
    config->n_wires = (unsigned)o->connections;
    config->cache_size = this.limits.cache;
    config->rate = this.limits.rate;
    config->deadline_ms = this.deadline_ms;
    return true;
}

/* ---- beginning ------------------------------------------------------------------------------ */

/* With plugins the source comes to the proxy, and the proxy to the near end. */
static QmigAddress *
choose_entry(GError **error)
{
    if (cli_proxy_options.plugins == NULL && cli_proxy_options.record == NULL) {
        return qmig_address_copy(this.listen);
    }
    this.private_dir = g_dir_make_tmp("qmig-XXXXXX", error);
    if (this.private_dir == NULL) {
        return NULL;
    }
    g_autofree char *path = g_build_filename(this.private_dir, "near", NULL);
    return qmig_address_new_unix(path);
}

static bool
begin(GError **error)
{
    QmigNearConfig config = { 0 };
    g_autoptr(QmigAddress) wanted = NULL;
    g_autofree char *where = NULL;

    if (!read_options(&config, error)) {
        return false;
    }
    qmig_descriptors_raise_limit();
    this.control = cli_proxy_open_control("near", cli_proxy_options.listen,
                                          cli_proxy_options.via);
    /* Before the first thread, hence before it listens: ports below 1024 are not for it. */
    if (!(cli_proxy_options.user != NULL
              ? qmig_privs_become(cli_proxy_options.user, error)
              : qmig_privs_drop(this.listen->kind == QMIG_ADDRESS_UNIX, error))) {
        return false;
    }
    cli_proxy_serve_control(this.control);
    this.near = qmig_near_new(&config, NULL, error);
    this.is_unreachable = this.near == NULL &&
                          !g_error_matches(*error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    wanted = this.near != NULL ? choose_entry(error) : NULL;
    if (wanted == NULL || !qmig_near_forward(this.near, QMIG_STREAM_MIGRATION, wanted,
                                             this.there, &this.entry, error)) {
        return false;
    }
    if (this.private_dir != NULL) {
        const char *limits = cli_proxy_options.limits;
        this.proxy = cli_proxy_start_plugins(this.listen, this.entry, this.near, error);
        if (this.proxy == NULL ||
            (limits != NULL && cli_limits_apply(this.proxy, limits, true, error) < 0)) {
            return false;
        }
    }
    where = qmig_address_to_string(this.proxy != NULL ? qmig_proxy_address(this.proxy)
                                                      : this.entry);
    fprintf(stderr, "listening on %s\n", where);
    return true;
}

/* ---- while it runs -------------------------------------------------------------------------- */

static void
take_limits(void)
{
    if (cli_proxy_reload_limits(this.proxy, &this.limits)) {
        qmig_link_set_rate(qmig_near_link(this.near), this.limits.rate);
    }
}

static JsonObject *
describe(void)
{
    JsonObject *status = json_object_new_object(), *list = json_object_new_array();

    cli_add_text(status, "state", "open");
    json_object_object_add(status, "sessions", list);
    json_object_array_add(list, qmig_near_describe(this.near));
    if (this.proxy != NULL) {
        json_object_object_add(status, "proxy", qmig_proxy_snapshot(this.proxy));
    }
    return status;
}

static void
tell_status(void)
{
    g_autoptr(JsonObject) status = describe();

    if (this.control != NULL) {
        qmig_control_set_status(this.control, status);
        cli_proxy_refuse_requests(this.control);
    }
}

/* All that came has ended in order, and all of it arrived: a session that fails after that was not
 * needed any more (the far end was told to end, and waited for just this). */
static bool
has_arrived(void)
{
    g_autoptr(JsonObject) session = qmig_near_describe(this.near);
    g_autofree char *reason = qmig_near_break(this.near);

    return qmig_near_is_through(this.near) && reason == NULL &&
           qmig_json_int(session, "unconsumed", 0) == 0;
}

/*
 * Must what was taken arrive? While the guest changes hosts, which one runs it hangs on that; and the
 * source may have said that it is done while its last megabytes are in the tunnel.
 */
static bool
must_deliver(void)
{
    g_autoptr(JsonObject) session = qmig_near_describe(this.near);

    return qmig_json_bool(session, "critical", false) ||
           qmig_near_is_switching(this.near);
}

typedef enum { RUNS, THROUGH, BROKEN, STOPPED } Fate;

/* Without plugins, which know better: whether all connections have ended, and how. */
static Fate
look_at_connections(GError **error)
{
    g_autofree char *reason = NULL;

    if (this.proxy != NULL || !qmig_near_is_through(this.near)) {
        return RUNS;
    }
    reason = qmig_near_break(this.near);
    if (reason == NULL) {
        return THROUGH;
    }
    qmig_set_error(error, QMIG_ERROR_CLOSED,
                   "a connection of the migration broke off: %s; query-migrate in the "
                   "source says what became of it",
                   reason);
    return BROKEN;
}

static Fate
take_signal(int signals, GError **error)
{
    struct signalfd_siginfo info;

    if (read(signals, &info, sizeof info) != sizeof info) {
        return RUNS;
    }
    if (info.ssi_signo == SIGHUP) {
        take_limits();
        return RUNS;
    }
    Fate fate = look_at_connections(error);
    if (fate != RUNS) {
        return fate;
    }
    if (this.is_stopping || !must_deliver()) {
        return STOPPED;
    }
    this.is_stopping = true;
    qmig_service_notify("STOPPING=1");
    fprintf(
        stderr,
        "qmig proxy: a guest is changing hosts: ends when it has; a second signal ends "
        "it at once\n");
    return RUNS;
}

static Fate
look(int signals, GError **error)
{
    struct pollfd fds[] = {
        { .fd = signals, .events = POLLIN },
        { .fd = this.proxy != NULL ? qmig_proxy_done_fd(this.proxy) : -1,
          .events = POLLIN },
    };
    QmigLinkState state;
    Fate fate = RUNS;

    tell_status();
    poll(fds, G_N_ELEMENTS(fds), LOOK_MS);
    /* The far end may be told to end, too. */
    qmig_link_set_critical(qmig_near_link(this.near), qmig_near_is_switching(this.near));
    if (fds[0].revents != 0) {
        fate = take_signal(signals, error);
    }
    if (fate != RUNS) {
        return fate;
    }
    if (fds[1].revents != 0) {
        g_autoptr(GError) broken = qmig_proxy_error(this.proxy);
        if (broken != NULL) {
            g_propagate_error(error, g_steal_pointer(&broken));
            return BROKEN;
        }
        return THROUGH;
    }
    state = qmig_link_state(qmig_near_link(this.near));
    if (state == QMIG_LINK_FAILED && !(this.proxy == NULL && has_arrived())) {
        g_propagate_error(error, qmig_link_error(qmig_near_link(this.near)));
        return BROKEN;
    }
    fate = look_at_connections(error);
    if (fate != RUNS) {
        return fate;
    }
    return this.is_stopping && !must_deliver() ? STOPPED : RUNS;
}

/* Wait until all has arrived, for as long as a session may be dark. */
static Fate
deliver(int signals, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms((int64_t)this.deadline_ms + CLOSE_MS);

    while (!qmig_near_close(this.near, qmig_deadline_in_ms(LOOK_MS))) {
        QmigLinkState state = qmig_link_state(qmig_near_link(this.near));

        tell_status();
        if (state == QMIG_LINK_CLOSED || has_arrived()) {
            return THROUGH;
        }
        if (state == QMIG_LINK_FAILED) {
            g_propagate_error(error, qmig_link_error(qmig_near_link(this.near)));
            return BROKEN;
        }
        if (take_signal(signals, NULL) == STOPPED) {
            return STOPPED;
        }
        if (qmig_now_us() >= deadline) {
            qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                           "the tunnel did not deliver all it had taken: look at the "
                           "destination");
            return BROKEN;
        }
    }
    return THROUGH;
}

static void
report(JsonObject *status)
{
    JsonObject *session = json_object_array_get_idx(
        qmig_json_get(status, "sessions", json_type_array), 0);

    if (cli_proxy_options.json) {
        cli_print_json(status);
        return;
    }
    g_autofree char *plain = qmig_format_size(
        (uint64_t)qmig_json_int(session, "plain_bytes", 0));
    g_autofree char *wire = qmig_format_size(
        (uint64_t)qmig_json_int(session, "wire_bytes", 0));
    printf("carried  %s\nas       %s\nbreaks   %" G_GINT64_FORMAT "\n", plain, wire,
           qmig_json_int(session, "breaks", 0));
}

static void
end(void)
{
    g_clear_pointer(&this.proxy, qmig_proxy_free);
    g_clear_pointer(&this.near, qmig_near_free);
    g_clear_pointer(&this.control, qmig_control_free);
    g_clear_pointer(&this.tls, qmig_tls_creds_free);
    g_clear_pointer(&this.listen, qmig_address_free);
    g_clear_pointer(&this.there, qmig_address_free);
    g_clear_pointer(&this.entry, qmig_address_free);
    for (unsigned i = 0; i < FAR_MAX; i++) {
        g_clear_pointer(&this.far[i], qmig_address_free);
    }
    if (this.private_dir != NULL) {
        g_rmdir(this.private_dir);
        g_clear_pointer(&this.private_dir, g_free);
    }
}

static int
conclude(Fate fate, JsonObject *status, const GError *error)
{
    switch (fate) {
    case RUNS:
    case THROUGH:
        report(status);
        return 0;
    case STOPPED:
        fprintf(stderr, "qmig proxy: stopped by a signal\n");
        return QMIG_OUTCOME_CANCELLED;
    case BROKEN:
        break;
    }
    report(status);
    return cli_fail("proxy", error, QMIG_OUTCOME_FAILED);
}

int
cli_proxy_near(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(QmigFd) signals = cli_proxy_open_signals();
    g_autoptr(JsonObject) status = NULL;
    Fate fate = RUNS;
    int code;

    if (!begin(&error)) {
        end();
        return cli_fail("proxy", error,
                        this.is_unreachable ? QMIG_OUTCOME_FAILED : QMIG_OUTCOME_USAGE);
    }
    qmig_service_notify("READY=1");
    while (fate == RUNS) {
        fate = look(signals, &error);
    }
    /* Before the session is closed: its connections count no more then. */
    status = describe();
    if (fate == THROUGH) {
        fate = deliver(signals, &error);
    }
    code = conclude(fate, status, error);
    end();
    return code;
}
