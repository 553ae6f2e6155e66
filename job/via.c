/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The near end in a job: its session, the ways through it, and what is done while it is dark. */
#include "job/part.h"
#include "job/steer.h"
#include "job/via-priv.h"
#include "util/descriptors.h"
#include "util/error.h"
#include "util/units.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FIRST_CONNECT_MS = 10000,
    /* Of a session that is made anew: it is tried again. */
    AGAIN_CONNECT_MS = 5000,
    MONITOR_CONNECT_MS = 3000,
    REGAIN_US = G_USEC_PER_SEC,
    WAIT_POLL_US = 50000,
    CLOSE_MS = 5000,
    /* What waits in the tunnel is a small share of a small guest: it must not be in there whole
       before anybody has looked. */
    PENDING_SHARE = 32,
    LEAST_PENDING = 2 << 20,
    MOST_PENDING = 32 << 20,
};

/* ---- how it is --------------------------------------------------------------------------- */

const char *
qmig_via_state_name(QmigLinkState state)
{
    static const char *const names[] = {
        [QMIG_LINK_UP] = "up",
        [QMIG_LINK_DARK] = "dark",
        [QMIG_LINK_CLOSED] = "closed",
        [QMIG_LINK_FAILED] = "failed",
    };

    return names[state];
}

QmigLinkState
qmig_via_state(const QmigVia *via)
{
    return via->near != NULL ? qmig_link_state(qmig_near_link(via->near)) : via->ended;
}

void
qmig_via_stats(const QmigVia *via, QmigLinkStats *stats)
{
    *stats = (QmigLinkStats){ 0 };
    if (via->near != NULL && !via->counted) {
        qmig_link_stats(qmig_near_link(via->near), stats);
    }
    stats->wire_bytes += via->before.wire_bytes;
    stats->plain_bytes += via->before.plain_bytes;
    stats->breaks += via->before.breaks;
    stats->dark_ms += via->before.dark_ms;
    if (stats->ratio <= 0 && stats->wire_bytes > 0) {
        stats->ratio = (double)stats->plain_bytes / (double)stats->wire_bytes;
    }
}

bool
qmig_via_has_monitor(const QmigJob *job)
{
    return job->via != NULL && job->options->destination_via;
}

bool
qmig_via_is_dark(const QmigJob *job)
{
    return job->via != NULL &&
           (qmig_via_state(job->via) == QMIG_LINK_DARK || job->via->lost_us > 0);
}

int64_t
qmig_via_dark_us(const QmigJob *job)
{
    const QmigVia *via = job->via;

    if (via == NULL) {
        return 0;
    }
    return via->dark_us +
           (qmig_via_is_dark(job) ? MAX(qmig_now_us() - via->looked_us, 0) : 0);
}

uint64_t
qmig_via_down_ms(const QmigJob *job)
{
    const QmigVia *via = job->via;

    return via != NULL && via->broken_us != 0
               ? (uint64_t)MAX(qmig_now_us() - via->broken_us, 1000) / 1000
               : 0;
}

bool
qmig_via_forgives(const QmigJob *job, const GError *error)
{
    const QmigVia *via = job->via;
    QmigLinkStats stats;

    if (via == NULL || !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT)) {
        return false;
    }
    qmig_via_stats(via, &stats);
    return qmig_via_is_dark(job) || via->broken_us != 0 ||
           stats.dark_ms > via->counted_ms;
}

/* ---- telling ------------------------------------------------------------------------------- */

static char *
far_text(const QmigVia *via)
{
    return qmig_address_to_string(via->settings.far->pdata[0]);
}

/* Has the source itself stopped the guest, for its last state? By its events, as of late. */
static bool
source_has_stopped(const QmigJob *job)
{
    return job->guest_runs && !job->source_held &&
           job->source.stopped_us > job->source.resumed_us;
}

/*
 * Has the source stopped its guest, and nobody been told to run it over there? One that was not to
 * wait before its last state writes that without letting itself be asked: the phase is perform still.
 */
static bool
stands_still(const QmigJob *job)
{
    return job->via->near != NULL && !job->postcopy.asked &&
           (job->phase == QMIG_PHASE_SWITCHOVER ||
            (job->phase == QMIG_PHASE_PERFORM && job->mute_in_the_dark &&
             source_has_stopped(job)));
}

static void
tell_event(QmigJob *job)
{
    qmig_events_tell(job, "tunnel", qmig_via_status(job));
}

/* So long may it be dark now. */
static uint32_t
patience_ms(const QmigJob *job)
{
    const QmigViaSettings *s = &job->via->settings;

    return stands_still(job) && s->standstill_ms > 0 ? s->standstill_ms : s->deadline_ms;
}

static void
tell_dark(QmigJob *job)
{
    g_autofree char *far = far_text(job->via);
    g_autofree char *limit = qmig_format_duration(patience_ms(job));

    qmig_job_message(job, "tunnel: the link to %s is down; waiting up to %s for it", far,
                     limit);
}

static void
tell_up(QmigJob *job, int64_t dark_us)
{
    g_autofree char *time = qmig_format_duration((uint64_t)dark_us / 1000);

    qmig_job_message(job, "tunnel: the link is up again after %s", time);
}

/*
 * The guest has stood still for long enough: the session ends, and with it what is under way. Only
 * the destination has not been told to run it, so it goes on on the source.
 */
static void
judge_standstill(QmigJob *job)
{
    QmigVia *via = job->via;
    GError *error = NULL;

    /* What people know may be old: the source was asked for long, say. */
    if (!stands_still(job) || via->told != QMIG_LINK_DARK ||
        qmig_via_state(via) != QMIG_LINK_DARK || via->settings.standstill_ms == 0) {
        via->still_us = 0;
        return;
    }
    if (via->still_us == 0) {
        via->still_us = source_has_stopped(job)
                            ? MAX(via->broken_us, job->source.stopped_us)
                            : qmig_now_us();
    }
    if (qmig_now_us() - via->still_us < (int64_t)via->settings.standstill_ms * 1000) {
        return;
    }
    g_autofree char *time = qmig_format_duration(via->settings.standstill_ms);
    qmig_set_error(&error, QMIG_ERROR_TIMEOUT,
                   "the guest stood still for %s because the link is down "
                   "(--via-standstill)",
                   time);
    qmig_link_fail(qmig_near_link(via->near), error);
}

/* The guest is about to stand still, or does, or its memory is on both sides. */
static void
tell_far_end(QmigJob *job)
{
    QmigVia *via = job->via;
    bool critical = job->phase >= QMIG_PHASE_SWITCHOVER || job->source_held ||
                    job->postcopy.asked || job->info.status == QMIG_STATUS_DEVICE ||
                    job->info.status == QMIG_STATUS_PRE_SWITCHOVER;

    if (critical != via->critical && via->near != NULL) {
        via->critical = critical;
        qmig_link_set_critical(qmig_near_link(via->near), critical);
    }
}

void
qmig_via_look(QmigJob *job)
{
    QmigVia *via = job->via;
    int64_t now = qmig_now_us();
    QmigLinkStats stats;

    if (via == NULL) {
        return;
    }
    QmigLinkState state = qmig_via_state(via);
    bool was_dark = via->told == QMIG_LINK_DARK || via->lost_us > 0;
    via->dark_us += was_dark ? now - via->looked_us : 0;
    via->looked_us = now;
    qmig_via_stats(via, &stats);
    /* A source that was asked meanwhile may have kept us from looking for long. */
    int64_t unseen_us = stats.dark_ms > via->counted_ms
                            ? (int64_t)(stats.dark_ms - via->counted_ms) * 1000
                            : 0;
    via->counted_ms = stats.dark_ms;
    tell_far_end(job);
    judge_standstill(job);
    if (state == via->told) {
        return;
    }
    QmigLinkState before = via->told;
    int64_t dark_us = via->broken_us != 0 ? now - via->broken_us : 0;
    via->told = state;
    via->broken_us = state != QMIG_LINK_DARK ? 0
                     : via->broken_us != 0   ? via->broken_us
                                             : now - unseen_us;
    if (state == QMIG_LINK_DARK) {
        tell_dark(job);
    } else if (state == QMIG_LINK_UP && before == QMIG_LINK_DARK) {
        tell_up(job, dark_us);
    }
    tell_event(job);
}

/* ---- a session ------------------------------------------------------------------------------ */

/* What a person can do about it. */
static const char *
advice(const GError *error)
{
    if (g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TLS)) {
        return "; the credentials are those of --via-tls-dir, see `qmig pki show`";
    }
    if (g_error_matches(error, QMIG_ERROR, QMIG_ERROR_UNSUPPORTED) ||
        g_error_matches(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL)) {
        return "; is a `qmig proxy --tunnel` of a fitting version at work there?";
    }
    return "; start `qmig proxy --tunnel` on the destination's host, and let its port "
           "through";
}

/* The name the far end's certificate must have: as asked, or that of its first address. */
static const char *
tls_hostname(const QmigJob *job)
{
    const QmigAddress *first = job->via->settings.far->pdata[0];

    if (job->options->via_tls_destination != NULL) {
        return job->options->via_tls_destination;
    }
    return first->kind == QMIG_ADDRESS_TCP ? first->host : NULL;
}

static bool
open_session(QmigJob *job, uint32_t timeout_ms, GError **error)
{
    QmigVia *via = job->via;
    g_autoptr(GError) local = NULL;
    char name[QMIG_LINK_NAME_MAX + 1];
    QmigNearConfig config = {
        .far = (const QmigAddress *const *)via->settings.far->pdata,
        .tls = via->creds,
        .tls_hostname = via->creds != NULL ? tls_hostname(job) : NULL,
        .name = name,
        .n_wires = via->settings.n_wires,
        .cache_size = via->settings.cache_size,
        .pending_max = CLAMP(job->source.memory / PENDING_SHARE, (uint64_t)LEAST_PENDING,
                             (uint64_t)MOST_PENDING),
        .codec = via->settings.codec,
        .level = via->settings.level,
        .rate = via->settings.rate,
        .deadline_ms = via->settings.deadline_ms,
        .connect_timeout_ms = timeout_ms,
    };

    qmig_via_name_session(job, name);
    via->near = qmig_near_new(&config, qmig_job_cancel(job), &local);
    if (via->near == NULL) {
        g_autofree char *far = far_text(via);
        return qmig_set_error(error, (QmigErrorCode)local->code,
                              "tunnel: the far end at %s: %s%s", far, local->message,
                              advice(local));
    }
    via->sessions++;
    via->counted = false;
    via->critical = false;
    via->looked_us = qmig_now_us();
    via->told = QMIG_LINK_UP;
    return true;
}

/* What there is to say of the session, before its end blurs it. */
static void
take_figures(QmigVia *via)
{
    QmigLinkStats sums;

    if (via->near != NULL && !via->counted) {
        qmig_via_stats(via, &sums);
        via->ended = qmig_via_state(via);
        via->before = sums;
        via->counted = true;
        json_object_put(via->described);
        via->described = qmig_near_describe(via->near);
    }
}

static void
close_session(QmigVia *via)
{
    take_figures(via);
    g_clear_pointer(&via->near, qmig_near_free);
    g_clear_pointer(&via->monitor, qmig_address_free);
    g_clear_pointer(&via->target, qmig_address_free);
}

static bool
read_credentials(QmigJob *job, GError **error)
{
    const QmigJobOptions *o = job->options;
    const char *dir = o->via_tls_dir != NULL     ? o->via_tls_dir
                      : o->tls_proxy_dir != NULL ? o->tls_proxy_dir
                      : o->tls_dir != NULL       ? o->tls_dir
                                                 : QMIG_PKI_DEFAULT_DIR;
    const char *user = o->via_tls_user != NULL ? o->via_tls_user : QMIG_PKI_DEFAULT_USER;
    g_autoptr(GError) local = NULL;

    if (o->via_insecure) {
        return true;
    }
    job->via->creds = qmig_tls_creds_new(dir, QMIG_PKI_CLIENT,
                                         o->via_tls_psk ? user : NULL, &local);
    if (job->via->creds != NULL) {
        qmig_tls_creds_for_tunnel(job->via->creds);
        return true;
    }
    return qmig_set_error(
        error, QMIG_ERROR_TLS,
        "tunnel: TLS: %s; `qmig pki` makes what it takes, --via-tls-dir "
        "says where it is; --via-insecure goes without",
        local->message);
}

static bool
make_dir(QmigVia *via, GError **error)
{
    via->dir = g_dir_make_tmp("qmig-via-XXXXXX", error);
    return via->dir != NULL &&
           (chmod(via->dir, 0711) == 0 ||
            qmig_set_error_errno(error, errno, "%s: chmod", via->dir));
}

/* ---- ways through it ------------------------------------------------------------------------- */

/* A new socket of the near end; @source: the source's QEMU itself shall connect to it. */
static QmigAddress *
new_place(QmigJob *job, bool source, GError **error)
{
    g_autofree char *name = g_strdup_printf("%u.sock", job->via->n_sockets++);
    g_autofree char *path = g_build_filename(job->via->dir, name, NULL);
    QmigAddress *address = source && job->options->source->kind == QMIG_ADDRESS_TCP
                               ? qmig_qmp_local_address(job->source.qmp)
                               : qmig_address_new_unix(path);

    if (address == NULL) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "tunnel: no address of this host that the source could reach is "
                       "known: run qmig on the source's host");
    }
    return address;
}

/* Nobody but the source's user, and we, may connect. */
static bool
admit_source(const QmigJob *job, const QmigAddress *address, GError **error)
{
    struct ucred peer;

    if (address->kind != QMIG_ADDRESS_UNIX || geteuid() != 0 ||
        !qmig_qmp_peer(job->source.qmp, &peer) || peer.uid == 0) {
        return true;
    }
    return chown(address->path, peer.uid, (gid_t)-1) == 0 ||
           qmig_set_error_errno(error, errno, "%s: chown", address->path);
}

static bool
forward(QmigJob *job, QmigStreamKind kind, bool source, const QmigAddress *there,
        QmigAddress **here, GError **error)
{
    g_autoptr(QmigAddress) listen = new_place(job, source, error);
    QmigAddress *actual = NULL;

    if (listen == NULL ||
        !qmig_near_forward(job->via->near, kind, listen, there, &actual, error)) {
        g_prefix_error(error, listen != NULL ? "tunnel: " : "");
        return false;
    }
    qmig_address_free(*here);
    *here = actual;
    return !source || admit_source(job, actual, error);
}

static bool
forward_monitor(QmigJob *job, GError **error)
{
    return !job->options->destination_via ||
           forward(job, QMIG_STREAM_CONTROL, false, job->options->destination,
                   &job->via->monitor, error);
}

/* One that has failed is made anew: the far end, or what is between, was away for too long. */
static bool
ensure_session(QmigJob *job, GError **error)
{
    QmigVia *via = job->via;
    QmigLinkState state = qmig_via_state(via);

    if (state == QMIG_LINK_DARK) {
        return qmig_set_error(error, QMIG_ERROR_TIMEOUT, "tunnel: the link is down");
    }
    if (state == QMIG_LINK_UP) {
        return true;
    }
    close_session(via);
    if (!open_session(job, AGAIN_CONNECT_MS, error) || !forward_monitor(job, error)) {
        return false;
    }
    via->broken_us = 0;
    qmig_job_message(job, "tunnel: a new session");
    tell_event(job);
    return true;
}

/* A moment of the dark, for those who watch it and may want it to end: then the session does too. */
static bool
linger(QmigJob *job, GError **error)
{
    GError *wish = NULL;

    qmig_via_look(job);
    qmig_steer(job);
    if (qmig_job_check_wishes(job, &wish)) {
        g_usleep(WAIT_POLL_US);
        return true;
    }
    /* The source may hang in a connection through it, and has to answer what undoes this. The
       proxy's connections only exist once it migrates, and end by themselves. */
    if (job->via->near != NULL) {
        qmig_link_fail(qmig_near_link(job->via->near), g_error_copy(wish));
        if (qmig_via_has_monitor(job)) {
            qmig_job_message(job, "destination: it cannot be reached while the tunnel is "
                                  "dark: it is left as it is");
        }
        if (!job->migrate_sent) {
            close_session(job->via);
        }
    }
    g_propagate_error(error, wish);
    return false;
}

/* While things are prepared nobody waits for us, and nothing is lost: wait for the link. */
static bool
await_session(QmigJob *job, GError **error)
{
    while (job->phase <= QMIG_PHASE_STORAGE &&
           qmig_via_state(job->via) == QMIG_LINK_DARK) {
        if (!linger(job, error)) {
            return false;
        }
    }
    return ensure_session(job, error);
}

bool
qmig_via_begin(QmigJob *job, GError **error)
{
    if (job->options->via->len == 0) {
        return true;
    }
    qmig_descriptors_raise_limit();
    job->via = g_new0(QmigVia, 1);
    job->via->limit_ms = -1;
    job->via->ended = QMIG_LINK_FAILED;
    return qmig_via_settings_read(job->options, &job->via->settings, error) &&
           read_credentials(job, error) && make_dir(job->via, error) &&
           open_session(job, FIRST_CONNECT_MS, error) && forward_monitor(job, error);
}

const QmigAddress *
qmig_via_monitor(const QmigJob *job)
{
    return qmig_via_has_monitor(job) ? job->via->monitor : job->options->destination;
}

const QmigAddress *
qmig_via_target(const QmigJob *job)
{
    return job->via != NULL ? job->via->target : NULL;
}

QmigNear *
qmig_via_near(const QmigJob *job)
{
    return job->via != NULL ? job->via->near : NULL;
}

bool
qmig_via_forward(QmigJob *job, GError **error)
{
    QmigVia *via = job->via;

    if (via == NULL) {
        return true;
    }
    return await_session(job, error) &&
           (via->target != NULL ||
            forward(job, QMIG_STREAM_MIGRATION, job->options->direct,
                    job->endpoints.connect, &via->target, error));
}

void
qmig_via_drop_way(QmigJob *job)
{
    if (job->via != NULL) {
        g_clear_pointer(&job->via->target, qmig_address_free);
    }
}

bool
qmig_via_forward_disks(QmigJob *job, const QmigAddress *there, QmigAddress **here,
                       GError **error)
{
    *here = NULL;
    return await_session(job, error) &&
           forward(job, QMIG_STREAM_DISK, true, there, here, error);
}

/* ---- dark ------------------------------------------------------------------------------------- */

bool
qmig_via_wait(QmigJob *job, GError **wish)
{
    if (job->via == NULL) {
        return false;
    }
    while (qmig_via_state(job->via) == QMIG_LINK_DARK) {
        if (!linger(job, wish)) {
            return false;
        }
    }
    qmig_via_look(job);
    return qmig_via_state(job->via) == QMIG_LINK_UP;
}

bool
qmig_via_despite_darkness(QmigJob *job, bool (*step)(QmigJob *job, GError **error),
                          GError **error)
{
    for (;;) {
        g_autoptr(GError) local = NULL;
        GError *wish = NULL;

        if (step(job, &local)) {
            return true;
        }
        if (!qmig_via_forgives(job, local) || !qmig_via_wait(job, &wish)) {
            g_propagate_error(error, wish != NULL ? wish : g_steal_pointer(&local));
            return false;
        }
    }
}

/* The QEMU that answers there is the one that was lost, and not a fresh one in its place. */
static bool
is_the_same(const QmigSide *before, const QmigSide *now)
{
    return now->migration != QMIG_STATUS_NONE &&
           g_strcmp0(before->name, now->name) == 0 &&
           g_strcmp0(before->uuid, now->uuid) == 0 &&
           g_strcmp0(before->machine, now->machine) == 0;
}

static void
try_regain(QmigJob *job)
{
    QmigVia *via = job->via;
    QmigSide now;

    qmig_side_init(&now, job->destination.label);
    if (ensure_session(job, NULL) &&
        qmig_side_begin(&now, via->monitor, qmig_job_cancel(job), NULL)) {
        if (is_the_same(&job->destination, &now)) {
            qmig_qmp_free(job->destination.qmp);
            job->destination.qmp = g_steal_pointer(&now.qmp);
            job->destination.closed = false;
            via->dark_us += qmig_now_us() - via->looked_us;
            via->looked_us = qmig_now_us();
            via->lost_us = 0;
            qmig_job_message(job, "destination: its monitor answers again");
        } else {
            qmig_job_message(job,
                             "destination: another QEMU answers at its address: it is "
                             "not touched");
            via->lost_us = INT64_MIN;
        }
    }
    qmig_side_clear(&now);
}

bool
qmig_via_regain(QmigJob *job)
{
    QmigVia *via = job->via;
    int64_t now = qmig_now_us();

    if (!qmig_via_has_monitor(job) || via->lost_us < 0) {
        return false;
    }
    if (via->lost_us == 0) {
        via->lost_us = now;
        via->looked_us = now;
        qmig_job_message(job, "destination: its monitor, reached through the tunnel, has "
                              "closed: that proves nothing, it is tried again");
    }
    if (now - via->lost_us > (int64_t)qmig_postcopy_recover_ms(job) * 1000) {
        via->lost_us = INT64_MIN;
        return false;
    }
    if (now >= via->try_us) {
        try_regain(job);
        via->try_us = qmig_now_us() + REGAIN_US;
    }
    return via->lost_us >= 0;
}

void
qmig_via_set_rate(QmigJob *job, uint64_t rate)
{
    job->via->settings.rate = rate;
    if (job->via->near != NULL) {
        qmig_link_set_rate(qmig_near_link(job->via->near), rate);
    }
}

/* ---- the end ------------------------------------------------------------------------------------ */

void
qmig_via_end(QmigJob *job)
{
    QmigVia *via = job->via;

    if (via == NULL || via->near == NULL) {
        return;
    }
    qmig_via_look(job);
    /* Its connection is a stream of the session. */
    if (qmig_via_has_monitor(job)) {
        g_clear_pointer(&job->destination.qmp, qmig_qmp_free);
    }
    qmig_via_let_go(via);
    take_figures(via);
    qmig_link_set_critical(qmig_near_link(via->near), false);
    if (!qmig_near_close(via->near, qmig_deadline_in_ms(CLOSE_MS))) {
        qmig_job_message(job,
                         "tunnel: the session did not end in order; the far end ends "
                         "it by itself");
    }
    close_session(via);
    via->ended = QMIG_LINK_CLOSED;
}

const char *
qmig_via_dir(const QmigJob *job)
{
    return job->via != NULL ? job->via->dir : NULL;
}

static void
via_free(QmigJob *job)
{
    QmigVia *via = g_steal_pointer(&job->via);

    if (via == NULL) {
        return;
    }
    /* It is connected to the near end. */
    g_clear_pointer(&job->proxy, qmig_proxy_free);
    close_session(via);
    qmig_tls_creds_free(via->creds);
    if (via->dir != NULL) {
        g_rmdir(via->dir);
    }
    g_free(via->dir);
    json_object_put(via->described);
    qmig_via_settings_clear(&via->settings);
    g_free(via);
}

/* ---- as a part ------------------------------------------------------------------------------------ */

static bool
via_listening(QmigJob *job, GError **error)
{
    return job->via == NULL || qmig_via_hold(job, error);
}

static bool
via_watch(QmigJob *job, GError **error)
{
    return job->via == NULL || qmig_via_hold(job, error);
}

static char *
via_outside(const QmigJob *job)
{
    g_autofree char *far = job->via != NULL ? far_text(job->via) : NULL;

    return far != NULL
               ? g_strdup_printf("all connections will go through the tunnel to %s", far)
               : NULL;
}

const QmigPart qmig_via_part = {
    .name = "via",
    .recovers = true,
    .outside = via_outside,
    .check = qmig_via_check,
    .listening = via_listening,
    .watch = via_watch,
    .free = via_free,
};
