/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The agent in the guest: its filesystems are frozen for the switchover and thawed where the guest
 * runs then, and its clock is set on the destination.
 *
 * A frozen guest cannot write, so it is frozen late: when the first pass over its memory is done.
 * If the switchover has not come some seconds later it is thawed again: users wait for it.
 */
#include "qmp/agent.h"

#include "job/part.h"
#include "job/steps.h"
#include "util/error.h"
#include "util/units.h"

enum {
    AGENT_TIMEOUT_MS = 5000,
    /* The destination's channel may need a moment until its guest listens. */
    ARRIVAL_TIMEOUT_MS = 10000,
    /* How long filesystems stay frozen without a switchover. */
    MAX_FROZEN_US = 10 * G_USEC_PER_SEC,
};

struct QmigAgentState {
    bool frozen, tried;
    int64_t frozen_us;
};

static QmigAgentState *
get_state(QmigJob *job)
{
    if (job->agent == NULL) {
        job->agent = g_new0(QmigAgentState, 1);
    }
    return job->agent;
}

void
qmig_agent_is_frozen(QmigJob *job)
{
    get_state(job)->frozen = get_state(job)->tried = true;
}

static void
agent_check(QmigJob *job, GString *problems)
{
    const QmigJobOptions *options = job->options;
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAgent) agent = NULL;

    if (options->freeze &&
        (options->agent == NULL || options->agent_destination == NULL)) {
        qmig_job_problem(problems, "--freeze: both --agent and --agent-destination say "
                                   "where the guest's agent is reached");
    }
    if (options->set_time && options->agent_destination == NULL) {
        qmig_job_problem(problems, "--set-time: --agent-destination says where the "
                                   "guest's agent is reached");
    }
    if (options->agent == NULL || !job->guest_runs) {
        return;
    }
    agent = qmig_agent_connect(options->agent, "source",
                               qmig_deadline_in_ms(AGENT_TIMEOUT_MS), &error);
    if (agent == NULL) {
        qmig_job_problem(problems, "%s", error->message);
    }
}

/* Freeze or thaw what runs behind @address. */
static bool
change(const QmigAddress *address, const char *label, bool freeze, uint32_t timeout_ms,
       int64_t *count, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(timeout_ms);
    g_autoptr(QmigAgent) agent = qmig_agent_connect(address, label, deadline, error);

    return agent != NULL && (freeze ? qmig_agent_freeze(agent, count, deadline, error)
                                    : qmig_agent_thaw(agent, count, deadline, error));
}

static bool
thaw(QmigJob *job, const QmigAddress *address, const char *label, uint32_t timeout_ms)
{
    g_autoptr(GError) error = NULL;
    int64_t count = 0;

    if (!change(address, label, false, timeout_ms, &count, &error)) {
        qmig_job_message(job,
                         "%s: its filesystems may still be frozen: thaw them by "
                         "guest-fsfreeze-thaw",
                         error->message);
        return false;
    }
    get_state(job)->frozen = false;
    return true;
}

static bool
freeze(QmigJob *job, GError **error)
{
    QmigAgentState *state = get_state(job);
    int64_t count = 0;

    state->tried = true;
    if (!qmig_steps_write(job, "freeze", NULL, error)) {
        return false;
    }
    state->frozen = true;
    state->frozen_us = qmig_now_us();
    if (!change(job->options->agent, "source", true, AGENT_TIMEOUT_MS, &count, error)) {
        return false;
    }
    qmig_job_decide(job, "filesystems frozen",
                    "%d of them, by --freeze: the switchover is "
                    "near",
                    (int)count);
    return true;
}

static bool
agent_watch(QmigJob *job, GError **error)
{
    QmigAgentState *state = get_state(job);

    if (!job->options->freeze || job->phase != QMIG_PHASE_PERFORM || !job->guest_runs ||
        job->source_held) {
        return true;
    }
    if (state->frozen && qmig_now_us() - state->frozen_us > MAX_FROZEN_US) {
        qmig_job_message(job, "source: guest agent: the switchover does not come: thawed "
                              "again; it goes on without --freeze");
        (void)thaw(job, job->options->agent, "source", AGENT_TIMEOUT_MS);
        return true;
    }
    return state->tried || job->info.iterations < 2 || freeze(job, error);
}

static bool
agent_after_cont(QmigJob *job, GError **error)
{
    const QmigAddress *address = job->options->agent_destination;
    g_autoptr(QmigAgent) agent = NULL;
    g_autoptr(GError) local = NULL;
    bool runs = job->guest_runs && !job->options->suspend;

    (void)error;
    if (job->options->freeze && !get_state(job)->tried && job->guest_runs) {
        qmig_job_message(job, "--freeze: the switchover came before the first pass was "
                              "over: nothing was frozen");
    }
    if (get_state(job)->frozen && runs) {
        (void)thaw(job, address, "destination", ARRIVAL_TIMEOUT_MS);
    } else if (get_state(job)->frozen) {
        qmig_job_message(job,
                         "destination: the guest's filesystems are frozen: thaw them "
                         "by guest-fsfreeze-thaw once it runs");
    }
    if (!job->options->set_time || !runs) {
        return true;
    }
    agent = qmig_agent_connect(address, "destination",
                               qmig_deadline_in_ms(ARRIVAL_TIMEOUT_MS), &local);
    if (agent == NULL ||
        !qmig_agent_set_time(agent, qmig_deadline_in_ms(AGENT_TIMEOUT_MS), &local)) {
        qmig_job_message(job, "%s: its clock was not set", local->message);
    }
    return true;
}

/* The guest stayed, or came back. */
static void
agent_undo(QmigJob *job)
{
    if (job->agent != NULL && job->agent->frozen && job->owner == QMIG_OWNER_SOURCE &&
        job->guest_runs && job->options->agent != NULL) {
        (void)thaw(job, job->options->agent, "source", AGENT_TIMEOUT_MS);
    }
}

static void
agent_free(QmigJob *job)
{
    g_clear_pointer(&job->agent, g_free);
}

static char *
agent_outside(const QmigJob *job)
{
    const QmigJobOptions *options = job->options;

    return options->freeze || options->set_time
               ? g_strdup_printf("the guest's agent will %s%s%s",
                                 options->freeze ? "freeze and thaw its filesystems" : "",
                                 options->freeze && options->set_time ? ", and " : "",
                                 options->set_time ? "set its clock" : "")
               : NULL;
}

const QmigPart qmig_agent_part = {
    .name = "agent",
    .recovers = true,
    .outside = agent_outside,
    .check = agent_check,
    .watch = agent_watch,
    .after_cont = agent_after_cont,
    .undo = agent_undo,
    .free = agent_free,
};
