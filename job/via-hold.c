/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU takes what the tunnel has swallowed for sent: it would stop its guest with that still on this
 * side. The tunnel holds little (a tenth of a second's), but where a link becomes slow that is much.
 * One handle keeps QEMU from it, which every version reads ten times a second: downtime-limit.
 *
 *     what is in the tunnel takes longer than the user's downtime       1 ms
 *     less                                                              what is left of it
 *     (the end is far yet)                                              1 ms
 */
#include "job/via-priv.h"

#include "util/error.h"
#include "util/units.h"

enum {
    HELD_MS = 1,
    PACE_US = 95000,
    /* As long as more than that is to be copied nothing can end. */
    FAR_FROM_END_MS = 1500,
    /* A change too small to be worth a command. */
    LEAST_CHANGE_PERCENT = 10,
    DEFAULT_DOWNTIME_MS = 300,
    /* While the source waits to go on with its end: so much may still be in the tunnel, and so
       long is waited for it. */
    DRAIN_MS = 1000,
    DRAIN_US = 30 * G_USEC_PER_SEC,
};

uint64_t
qmig_via_limit(const QmigViaFlow *flow)
{
    if (flow->backlog_ms >= flow->user_ms) {
        return HELD_MS;
    }
    double left = (double)(flow->user_ms - flow->backlog_ms);
    if (flow->link_rate > 0 && flow->qemu_rate > flow->link_rate) {
        left = left * (double)flow->link_rate / (double)flow->qemu_rate;
    }
    return MAX((uint64_t)left, (uint64_t)HELD_MS);
}

uint64_t
qmig_via_backlog(const QmigJob *job)
{
    const QmigVia *via = job->via;

    return (via->near != NULL ? qmig_near_backlog(via->near) : 0) +
           (job->proxy != NULL ? qmig_proxy_backlog(job->proxy) : 0);
}

uint64_t
qmig_via_backlog_ms(const QmigJob *job)
{
    const QmigVia *via = job->via;

    return via->near != NULL ? qmig_near_backlog_ms(via->near) : UINT64_MAX;
}

/* What the user asked for, or the source had. */
static uint64_t
users_downtime_ms(const QmigJob *job)
{
    JsonObject *limit = NULL;

    if (!json_object_object_get_ex(job->source_params, "downtime-limit", &limit)) {
        json_object_object_get_ex(job->source.parameters, "downtime-limit", &limit);
    }
    return limit != NULL ? (uint64_t)MAX(json_object_get_int64(limit), 1)
                         : DEFAULT_DOWNTIME_MS;
}

static QmigViaFlow
measure(QmigJob *job)
{
    QmigVia *via = job->via;
    uint64_t backlog_ms = qmig_via_is_dark(job) ? UINT64_MAX : qmig_via_backlog_ms(job);
    QmigLinkStats stats;

    qmig_link_stats(qmig_near_link(via->near), &stats);
    return (QmigViaFlow){ .user_ms = users_downtime_ms(job),
                          .backlog_ms = backlog_ms,
                          .link_rate = stats.goodput,
                          .qemu_rate = (uint64_t)(job->info.mbps * 1e6 / 8) };
}

/* Say it once, and when it is over. */
static void
tell_hold(QmigJob *job, const QmigViaFlow *flow)
{
    QmigVia *via = job->via;
    bool holding = flow->backlog_ms >= flow->user_ms;

    if (holding && !via->holding) {
        via->held_us = qmig_now_us();
        if (via->holds++ == 0) {
            qmig_job_decide(job, "source: downtime-limit as the tunnel has room",
                            "what is in the tunnel counts as sent for QEMU: it must not "
                            "stop the guest before that fits into the downtime");
        }
    } else if (!holding && via->holding) {
        qmig_via_let_go(via);
    }
    via->holding = holding;
}

/* Does it differ by more than a tenth? */
static bool
differs(int64_t before, uint64_t now)
{
    return before <= 0 || now == 0
               ? before != (int64_t)now
               : ABS((int64_t)now - before) * 100 > before * LEAST_CHANGE_PERCENT;
}

void
qmig_via_let_go(QmigVia *via)
{
    via->held_sum_us += via->held_us != 0 ? qmig_now_us() - via->held_us : 0;
    via->held_us = 0;
    via->holding = false;
}

bool
qmig_via_holds(const QmigJob *job)
{
    return job->via != NULL && job->via->limit_ms >= 0 &&
           job->phase <= QMIG_PHASE_PERFORM;
}

static bool
tell_source(QmigJob *job, uint64_t limit_ms, GError **error)
{
    QmigVia *via = job->via;
    g_autoptr(JsonObject) values = NULL;
    g_autoptr(GError) local = NULL;

    if (!differs(via->limit_ms, limit_ms)) {
        return true;
    }
    values = json_object_new_object();
    json_object_object_add(values, "downtime-limit",
                           json_object_new_int64((int64_t)limit_ms));
    job->source.touched = true;
    if (!qmig_qmp_set_parameters(job->source.qmp, values, &local)) {
        if (qmig_via_forgives(job, local)) {
            return true;
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    via->limit_ms = (int64_t)limit_ms;
    return true;
}

static bool
is_far_from_end(const QmigJob *job, const QmigViaFlow *flow)
{
    return flow->link_rate > 0 && flow->backlog_ms != UINT64_MAX &&
           job->info.remaining > flow->link_rate / 1000 * FAR_FROM_END_MS;
}

bool
qmig_via_hold(QmigJob *job, GError **error)
{
    QmigVia *via = job->via;

    /* Later the source has nothing more to decide; a disk's copy has nothing to do with it. */
    if (via->near == NULL || job->phase > QMIG_PHASE_PERFORM || job->postcopy.asked ||
        job->mute_in_the_dark ||
        (job->phase == QMIG_PHASE_STORAGE && via->limit_ms >= 0)) {
        return true;
    }
    QmigViaFlow flow = measure(job);
    if (job->phase < QMIG_PHASE_PERFORM) {
        return tell_source(job, HELD_MS, error);
    }
    tell_hold(job, &flow);
    /* The source counts anew with each new limit: not more often than it would. */
    if (qmig_now_us() - via->paced_us < PACE_US && flow.backlog_ms < flow.user_ms) {
        return true;
    }
    via->paced_us = qmig_now_us();
    return tell_source(job, is_far_from_end(job, &flow) ? HELD_MS : qmig_via_limit(&flow),
                       error);
}

bool
qmig_via_drains(QmigJob *job)
{
    QmigVia *via = job->via;
    int64_t now = qmig_now_us();

    if (via == NULL) {
        return false;
    }
    via->drain_us = via->drain_us != 0 ? via->drain_us : now;
    return qmig_via_is_dark(job) ||
           (qmig_via_backlog_ms(job) > DRAIN_MS && now - via->drain_us < DRAIN_US);
}

/* ---- for who asks -------------------------------------------------------------------------------- */

static void
add_number(JsonObject *object, const char *key, uint64_t value)
{
    json_object_object_add(
        object, key, json_object_new_int64((int64_t)MIN(value, (uint64_t)INT64_MAX)));
}

static void
add_flow(JsonObject *o, const QmigJob *job)
{
    uint64_t backlog_ms = qmig_via_backlog_ms(job);
    QmigLinkStats stats;

    qmig_via_stats(job->via, &stats);
    add_number(o, "connections", stats.wires);
    add_number(o, "breaks", stats.breaks);
    add_number(o, "wire_bytes", stats.wire_bytes);
    add_number(o, "plain_bytes", stats.plain_bytes);
    json_object_object_add(o, "ratio", json_object_new_double(stats.ratio));
    add_number(o, "rate", stats.rate);
    add_number(o, "rtt_us", stats.rtt_us);
    add_number(o, "backlog", qmig_via_backlog(job));
    json_object_object_add(
        o, "backlog_ms",
        backlog_ms == UINT64_MAX
            ? NULL
            : json_object_new_int64((int64_t)MIN(backlog_ms, (uint64_t)INT64_MAX)));
}

/* How long it is dark; null when it is not, and how long that is waited for. */
static void
add_darkness(JsonObject *o, const QmigJob *job)
{
    const QmigVia *via = job->via;
    uint64_t down_ms = qmig_via_down_ms(job);

    add_number(o, "dark_ms", (uint64_t)qmig_via_dark_us(job) / 1000);
    json_object_object_add(o, "down_ms",
                           down_ms > 0 ? json_object_new_uint64(down_ms) : NULL);
    add_number(o, "deadline_ms", via->settings.deadline_ms);
}

JsonObject *
qmig_via_status(const QmigJob *job)
{
    const QmigVia *via = job->via;
    JsonObject *o;

    if (via == NULL || via->settings.far == NULL || via->settings.far->len < 2) {
        return NULL;
    }
    int64_t held_us = via->held_sum_us +
                      (via->held_us != 0 ? qmig_now_us() - via->held_us : 0);
    g_autofree char *far = qmig_address_to_string(via->settings.far->pdata[0]);
    o = json_object_new_object();
    json_object_object_add(o, "far", json_object_new_string(far));
    json_object_object_add(
        o, "state", json_object_new_string(qmig_via_state_name(qmig_via_state(via))));
    add_darkness(o, job);
    add_flow(o, job);
    json_object_object_add(o, "holds", json_object_new_boolean(via->holding));
    add_number(o, "held_ms", (uint64_t)held_us / 1000);
    add_number(o, "sessions", via->sessions);
    return o;
}

JsonObject *
qmig_via_report(const QmigJob *job)
{
    JsonObject *o = qmig_via_status(job);

    if (o != NULL) {
        json_object_object_add(o, "session",
                               job->via->near != NULL
                                   ? qmig_near_describe(job->via->near)
                                   : json_object_get(job->via->described));
    }
    return o;
}
