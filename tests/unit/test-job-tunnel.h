/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In place of proxy/link: a near end that says what the test wants, when it wants. */
#ifndef QMIG_TESTS_JOB_TUNNEL_H
#define QMIG_TESTS_JOB_TUNNEL_H

#include "proxy/link/near.h"
#include "util/error.h"
#include "util/socket.h"

/* One session at most. */
static struct {
    gint backlog_ms; /* -1: dark */
    gint failed;     /* it has given up */
    gint n_new, n_forwards, n_closed, critical;
    bool refuses;
    uint64_t rate;
    const char *reason; /* (nullable) why a connection broke off */
    int64_t reason_us;
    uint64_t standstill_ms;
    char why[200];                /* it has given up; "": no word of it */
    void (*given_up)(void *data); /* (nullable) called then */
    void *data;
} play;

QmigNear *
qmig_near_new(const QmigNearConfig *config, const QmigCancel *cancel, GError **error)
{
    (void)cancel;
    g_assert_cmpuint(config->n_wires, ==, 2);
    if (play.refuses) {
        qmig_set_error(error, QMIG_ERROR_IO, "Connection refused");
        return NULL;
    }
    play.n_new++;
    play.rate = config->rate;
    g_atomic_int_set(&play.failed, 0);
    return (QmigNear *)(void *)&play;
}

void
qmig_near_free(QmigNear *near)
{
    (void)near;
}

QmigNear *
qmig_near_ref(QmigNear *near)
{
    return near;
}

void
qmig_near_unref(QmigNear *near)
{
    (void)near;
}

int
qmig_near_connect(QmigNear *near, const QmigAddress *to, QmigRelaySink *sink,
                  GError **error)
{
    (void)near;
    *sink = (QmigRelaySink){ 0 };
    return qmig_socket_connect(to, qmig_deadline_in_ms(5000), NULL, error);
}

bool
qmig_near_forward(QmigNear *near, QmigStreamKind kind, const QmigAddress *listen,
                  const QmigAddress *there, QmigAddress **actual, GError **error)
{
    (void)near;
    (void)kind;
    (void)error;
    g_assert_nonnull(listen);
    play.n_forwards++;
    *actual = qmig_address_copy(there);
    return true;
}

uint64_t
qmig_near_backlog(QmigNear *near)
{
    (void)near;
    return (uint64_t)MAX(g_atomic_int_get(&play.backlog_ms), 0) * 1000;
}

uint64_t
qmig_near_backlog_ms(QmigNear *near)
{
    int ms = g_atomic_int_get(&play.backlog_ms);

    (void)near;
    return ms >= 0 ? (uint64_t)ms : UINT64_MAX;
}

QmigLink *
qmig_near_link(QmigNear *near)
{
    return (QmigLink *)(void *)near;
}

JsonObject *
qmig_near_describe(QmigNear *near)
{
    (void)near;
    return json_object_new_object();
}

char *
qmig_near_last_reason(QmigNear *near, int64_t since_us)
{
    (void)near;
    return play.reason_us >= since_us ? g_strdup(play.reason) : NULL;
}

bool
qmig_near_close(QmigNear *near, QmigDeadline deadline)
{
    (void)near;
    (void)deadline;
    play.n_closed++;
    return true;
}

QmigLinkState
qmig_link_state(QmigLink *link)
{
    (void)link;
    return g_atomic_int_get(&play.failed)           ? QMIG_LINK_FAILED
           : g_atomic_int_get(&play.backlog_ms) < 0 ? QMIG_LINK_DARK
                                                    : QMIG_LINK_UP;
}

GError *
qmig_link_error(QmigLink *link)
{
    (void)link;
    return g_atomic_int_get(&play.failed)
               ? g_error_new(QMIG_ERROR, QMIG_ERROR_TIMEOUT, "%s",
                             play.why[0] != '\0' ? play.why : "no connection for 120 s")
               : NULL;
}

void
qmig_link_fail(QmigLink *link, GError *error)
{
    (void)link;
    g_strlcpy(play.why, error->message, sizeof play.why);
    g_error_free(error);
    g_atomic_int_set(&play.failed, 1);
    if (play.given_up != NULL) {
        play.given_up(play.data);
    }
}

void
qmig_link_set_critical(QmigLink *link, bool critical)
{
    (void)link;
    play.critical += critical;
}

void
qmig_link_set_rate(QmigLink *link, uint64_t rate)
{
    (void)link;
    play.rate = rate;
}

void
qmig_link_stats(QmigLink *link, QmigLinkStats *stats)
{
    (void)link;
    *stats = (QmigLinkStats){ .wires = 1 };
}

#endif
