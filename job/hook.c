/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hooks and the fence. Both wait: the guest goes on, or stands still, meanwhile. */
#include "job/hook.h"

#include "job/command.h"
#include "job/part.h"
#include "job/rehearsal.h"
#include "util/error.h"

#include <string.h>

enum { HOOK_TIMEOUT_MS = 30000, FENCE_TIMEOUT_MS = 60000 };

/* Beyond the phases. */
static const char *const ends[] = { "done", "failed", NULL };

/* The command of a hook for @name; NULL = it is another's. */
static const char *
command_for(const char *spec, const char *name)
{
    size_t len = strlen(name);

    return strncmp(spec, name, len) == 0 && spec[len] == '=' ? spec + len + 1 : NULL;
}

bool
qmig_hook_check(const char *spec, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (int phase = 0; phase < QMIG_N_PHASES; phase++) {
        const char *name = qmig_phase_name((QmigPhase)phase);
        if (command_for(spec, name) != NULL) {
            return true;
        }
        g_string_append_printf(names, "%s, ", name);
    }
    for (size_t i = 0; ends[i] != NULL; i++) {
        if (command_for(spec, ends[i]) != NULL) {
            return true;
        }
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--hook: \"%s\", wanted PHASE=COMMAND with a phase of %sdone, "
                          "failed",
                          spec, names->str);
}

static void
add_text(JsonObject *o, const char *name, const char *text)
{
    json_object_object_add(o, name, json_object_new_string(text != NULL ? text : ""));
}

static JsonObject *
make_environment(const QmigJob *job)
{
    static const char *const owners[] = { "source", "destination", "unclear" };
    JsonObject *o = json_object_new_object();
    g_autofree char *source = qmig_address_to_string(job->options->source);
    g_autofree char *destination = qmig_address_to_string(job->options->destination);

    add_text(o, "QMIG_SOURCE", source);
    add_text(o, "QMIG_DESTINATION", destination);
    add_text(o, "QMIG_GUEST_NAME", job->source.name);
    add_text(o, "QMIG_GUEST_UUID", job->source.uuid);
    add_text(o, "QMIG_GUEST", owners[job->owner]);
    add_text(o, "QMIG_PHASE", qmig_phase_name(job->phase));
    return o;
}

static uint32_t
hook_timeout_ms(const QmigJob *job)
{
    uint64_t ms = job->options->hook_timeout_ms;

    return ms > 0 ? (uint32_t)MIN(ms, G_MAXINT32) : HOOK_TIMEOUT_MS;
}

/* All hooks of one name, in their order, until one says no. */
static bool
run_hooks(QmigJob *job, const char *name, JsonObject *environment, bool cancellable,
          GError **error)
{
    g_autofree char *what = g_strdup_printf("hook of %s", name);

    for (guint i = 0; i < job->options->hooks->len; i++) {
        const char *command = command_for(job->options->hooks->pdata[i], name);
        if (command != NULL && !qmig_rehearsal_note(job, "hook: %s", command) &&
            !qmig_command_run(what, command, environment, hook_timeout_ms(job),
                              cancellable ? job->cancel : NULL, error)) {
            return false;
        }
    }
    return true;
}

static bool
run_phase_hooks(QmigJob *job, QmigPhase phase, GError **error)
{
    g_autoptr(JsonObject) environment = make_environment(job);
    g_autoptr(GError) local = NULL;
    bool way_back = phase < QMIG_PHASE_POSTCOPY;

    add_text(environment, "QMIG_HOOK", qmig_phase_name(phase));
    if (run_hooks(job, qmig_phase_name(phase), environment, way_back, &local)) {
        return true;
    }
    if (!way_back) {
        qmig_job_message(job, "%s; it goes on, there being no way back", local->message);
        return true;
    }
    job->cancelled = job->cancelled ||
                     g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CANCELLED);
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool
qmig_hook_enter(QmigJob *job, GError **error)
{
    if (job->phase == QMIG_PHASE_SWITCHOVER ||
        (job->phase == QMIG_PHASE_POSTCOPY && job->info.status != QMIG_STATUS_POSTCOPY)) {
        return true;
    }
    return run_phase_hooks(job, job->phase, error);
}

void
qmig_hook_end(QmigJob *job)
{
    g_autoptr(JsonObject) environment = make_environment(job);
    g_autoptr(GError) error = NULL;
    const char *name = job->outcome == QMIG_OUTCOME_DONE ? "done" : "failed";
    g_autofree char *code = g_strdup_printf("%d", (int)job->outcome);

    add_text(environment, "QMIG_HOOK", name);
    add_text(environment, "QMIG_OUTCOME", qmig_outcome_name(job->outcome));
    add_text(environment, "QMIG_EXIT_CODE", code);
    add_text(environment, "QMIG_ERROR", job->error != NULL ? job->error->message : "");
    if (!run_hooks(job, name, environment, false, &error)) {
        qmig_job_message(job, "%s", error->message);
    }
}

/* ---- as a part -------------------------------------------------------------------------- */

static void
hook_check(QmigJob *job, GString *problems)
{
    (void)problems;
    for (guint i = 0; i < job->options->hooks->len; i++) {
        if (command_for(job->options->hooks->pdata[i], "switchover") != NULL) {
            job->wants_pre_switchover = true;
        }
    }
}

static bool
hook_pre_switchover(QmigJob *job, GError **error)
{
    return run_phase_hooks(job, QMIG_PHASE_SWITCHOVER, error);
}

const QmigPart qmig_hook_part = {
    .name = "hook",
    .check = hook_check,
    .pre_switchover = hook_pre_switchover,
};

/* ---- the fence -------------------------------------------------------------------------- */

bool
qmig_fence(QmigJob *job, QmigSide *side, const char *why)
{
    g_autoptr(JsonObject) environment = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *what = g_strdup_printf("%s: fence", side->label);
    g_autofree char *pid = g_strdup_printf("%d", (int)side->pid);

    if (job->options->fence == NULL) {
        return false;
    }
    environment = make_environment(job);
    add_text(environment, "QMIG_SIDE", side->label);
    add_text(environment, "QMIG_REASON", why);
    add_text(environment, "QMIG_PID", side->pid > 0 ? pid : "");
    g_autofree char *qmp = qmig_address_to_string(
        side == &job->source ? job->options->source : job->options->destination);
    add_text(environment, "QMIG_QMP", qmp);
    qmig_job_decide(job, what, "%s", why);
    if (!qmig_command_run(what, job->options->fence, environment, FENCE_TIMEOUT_MS, NULL,
                          &error)) {
        qmig_job_message(job, "%s; it counts as running", error->message);
        return false;
    }
    side->closed = true;
    /* What can be seen from here has the last word. */
    if (side->pidfd >= 0 && !qmig_side_is_dead(side)) {
        qmig_job_message(job, "%s: it said yes, but process %d of this host goes on",
                         what, (int)side->pid);
        return false;
    }
    side->dead = true;
    qmig_job_message(job, "%s: it certainly runs nothing any more", what);
    return true;
}
