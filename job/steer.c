/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What others ask of a running job. Each command is a row of the table at the end; all of them
 * only set a wish that the phases act on, or send a QMP command that QEMU takes at any time.
 */
#include "job/steer.h"

#include "job/control.h"
#include "job/job-priv.h"
#include "job/storage.h"
#include "qmp/knobs.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

enum {
    /* In one go: somebody else has to be looked after too. */
    MAX_REQUESTS = 4,
};

bool
qmig_steer_begin(QmigJob *job, GError **error)
{
    const QmigJobOptions *options = job->options;
    g_autoptr(GError) local = NULL;

    job->control = options->control ? qmig_control_start(options->control_path, &local)
                                    : NULL;
    qmig_events_begin(job);
    if (local == NULL) {
        return true;
    }
    if (options->control_path != NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "--control: %s", local->message);
    }
    qmig_job_message(job,
                     "there is no control socket, `qmig status` will not find this: %s",
                     local->message);
    return true;
}

/* ---- cancel ----------------------------------------------------------------------------- */

bool
qmig_steer_can_cancel(const QmigJob *job)
{
    return qmig_phases[job->phase].cancellable && !job->postcopy.asked &&
           job->info.status != QMIG_STATUS_POSTCOPY && job->events.undoing == NULL;
}

static bool
cancel(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error)
{
    (void)arguments;
    (void)result;
    if (!qmig_steer_can_cancel(job)) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE, "too late to cancel: %s (phase %s)",
            job->postcopy.asked ? "in post-copy the guest's memory is on both sides"
                                : "the guest is going over",
            qmig_phase_name(job->phase));
    }
    job->cancel_asked = true;
    return true;
}

/* ---- set -------------------------------------------------------------------------------- */

bool
qmig_steer_check_parameter(const char *name, GError **error)
{
    static const char *const live[] = {
        "announce-initial",
        "announce-max",
        "announce-rounds",
        "announce-step",
        "avail-switchover-bandwidth",
        "cpu-throttle-increment",
        "cpu-throttle-initial",
        "cpu-throttle-tailslow",
        "downtime-limit",
        "max-bandwidth",
        "max-cpu-throttle",
        "max-postcopy-bandwidth",
        "throttle-trigger-threshold",
        "vcpu-dirty-limit",
        "x-checkpoint-delay",
        "x-vcpu-dirty-limit-period",
        "xbzrle-cache-size",
        NULL,
    };
    const QmigKnob *knob = qmig_knob_find(name);

    if (knob != NULL && knob->kind != QMIG_KNOB_PARAMETER) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "\"%s\" is a capability: it is chosen when a migration "
                              "begins, by qmig migrate --cap",
                              name);
    }
    /* One this qmig does not know is its user's own affair. */
    return knob == NULL || g_strv_contains(live, name) ||
           qmig_set_error(error, QMIG_ERROR_STATE,
                          "\"%s\" is chosen when a migration begins: a change now would "
                          "have no effect, or break it",
                          name);
}

/* The job's own deadline, which QEMU knows nothing of. */
static bool
set_timeout(QmigJob *job, const char *text, JsonObject *result, GError **error)
{
    uint64_t before = job->options->timeout_ms;

    if (!qmig_parse_duration(text, &job->options->timeout_ms, error)) {
        g_prefix_error(error, "timeout: ");
        return false;
    }
    json_object_object_add(result, "timeout", json_object_new_string(text));
    if (before != job->options->timeout_ms) {
        g_autofree char *what = g_strdup_printf("timeout = %s", text);
        qmig_job_decide(job, what, "it was asked for at the control socket");
    }
    return true;
}

/* "PLUGIN.KEY" of a pair that is a plugin's, else NULL. "throttle" is the short form of one. */
static const char *
plugin_key(const char *name)
{
    return strcmp(name, "throttle") == 0 ? "throttle.rate"
           : strchr(name, '.') != NULL   ? name
                                         : NULL;
}

static bool
set_plugin(QmigJob *job, const char *key, const char *text, bool try, GError **error)
{
    if (job->proxy == NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE,
            "%s: there are no plugins: the migration goes without proxy "
            "(--direct)",
            key);
    }
    return qmig_proxy_set(job->proxy, key, text, try, error);
}

/* What plugins are told, after all was found good. */
static bool
set_plugins(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error)
{
    json_object_object_foreach(arguments, name, value)
    {
        const char *key = plugin_key(name), *text = json_object_get_string(value);

        if (key == NULL) {
            continue;
        }
        if (!set_plugin(job, key, text, false, error)) {
            return false;
        }
        g_autofree char *what = g_strdup_printf("%s = %s", key, text);
        qmig_job_decide(job, what, "it was asked for at the control socket");
        json_object_object_add(result, key, json_object_get(value));
    }
    return true;
}

/* The tunnel's own limit. */
static bool
read_via_bandwidth(const QmigJob *job, const char *text, uint64_t *rate, GError **error)
{
    if (job->via == NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE,
            "via-bandwidth: this migration does not go through a tunnel");
    }
    if (!qmig_parse_rate(text, rate, error)) {
        g_prefix_error(error, "via-bandwidth: ");
        return false;
    }
    return true;
}

static bool
set_via_bandwidth(QmigJob *job, const char *text, JsonObject *result, GError **error)
{
    g_autofree char *what = g_strdup_printf("via-bandwidth = %s", text);
    uint64_t rate = 0;

    if (!read_via_bandwidth(job, text, &rate, error)) {
        return false;
    }
    qmig_via_set_rate(job, rate);
    json_object_object_add(result, "via-bandwidth", json_object_new_string(text));
    qmig_job_decide(job, what, "it was asked for at the control socket");
    return true;
}

/* What of @arguments is qmig's own. */
static bool
set_own(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error)
{
    JsonObject *timeout = NULL, *rate = NULL;

    json_object_object_get_ex(arguments, "timeout", &timeout);
    json_object_object_get_ex(arguments, "via-bandwidth", &rate);
    return set_plugins(job, arguments, result, error) &&
           (timeout == NULL ||
            set_timeout(job, json_object_get_string(timeout), result, error)) &&
           (rate == NULL ||
            set_via_bandwidth(job, json_object_get_string(rate), result, error));
}

/* All pairs that are QEMU's, understood: {name: value}. */
static JsonObject *
understand(QmigJob *job, JsonObject *arguments, GError **error)
{
    g_autoptr(JsonObject) values = json_object_new_object();

    json_object_object_foreach(arguments, name, text)
    {
        JsonObject *value;

        if (strcmp(name, "timeout") == 0) {
            uint64_t ms;
            if (!qmig_parse_duration(json_object_get_string(text), &ms, error)) {
                g_prefix_error(error, "timeout: ");
                return NULL;
            }
            continue;
        }
        if (plugin_key(name) != NULL) {
            if (!set_plugin(job, plugin_key(name), json_object_get_string(text), true,
                            error)) {
                return NULL;
            }
            continue;
        }
        if (strcmp(name, "via-bandwidth") == 0) {
            uint64_t rate;
            if (!read_via_bandwidth(job, json_object_get_string(text), &rate, error)) {
                return NULL;
            }
            continue;
        }
        if (!qmig_steer_check_parameter(name, error)) {
            return NULL;
        }
        value = qmig_knob_parse_value(name, json_object_get_string(text),
                                      job->source.schema, error);
        if (value == NULL) {
            return NULL;
        }
        json_object_object_add(values, name, value);
    }
    return g_steal_pointer(&values);
}

/* What of @values belongs to that side. What is not in the table belongs to the source. */
static JsonObject *
pick(JsonObject *values, QmigKnobSide side)
{
    JsonObject *picked = json_object_new_object();

    json_object_object_foreach(values, name, value)
    {
        const QmigKnob *knob = qmig_knob_find(name);
        if (((knob != NULL ? knob->side : QMIG_KNOB_SOURCE) & side) != 0) {
            json_object_object_add(picked, name, json_object_get(value));
        }
    }
    return picked;
}

/* The limit is the copy of the disks' too. */
static bool
set_speed_of_storage(QmigJob *job, JsonObject *values, GError **error)
{
    JsonObject *limit = NULL;

    return !json_object_object_get_ex(values, "max-bandwidth", &limit) ||
           qmig_storage_set_speed(job, (uint64_t)json_object_get_int64(limit), error);
}

static bool
set_on(QmigSide *side, JsonObject *values, GError **error)
{
    return json_object_object_length(values) == 0 ||
           (side->qmp != NULL && !side->closed &&
            qmig_qmp_set_parameters(side->qmp, values, error)) ||
           (*error == NULL &&
            qmig_set_error(error, QMIG_ERROR_STATE, "%s: is gone", side->label));
}

/* The downtime limit is the measure of the job's own patience too. */
static void
tell_set(QmigJob *job, JsonObject *values, JsonObject *result)
{
    /* Of a migration that qmig recover goes on with. */
    if (job->source_params == NULL) {
        job->source_params = json_object_new_object();
    }
    json_object_object_foreach(values, name, value)
    {
        JsonObject *before = NULL;
        g_autofree char *now_text = qmig_knob_format_value(name, value);

        if (!json_object_object_get_ex(job->source_params, name, &before)) {
            json_object_object_get_ex(job->source.parameters, name, &before);
        }
        g_autofree char *before_text = before != NULL
                                           ? qmig_knob_format_value(name, before)
                                           : g_strdup("not set");
        g_autofree char *what = g_strdup_printf("%s = %s", name, now_text);
        qmig_job_decide(job, what, "it was asked for at the control socket; it was %s",
                        before_text);
        json_object_object_add(result, name, json_object_get(value));
        json_object_object_add(job->source_params, name, json_object_get(value));
    }
}

static bool
set(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error)
{
    g_autoptr(JsonObject) values = NULL, here = NULL, there = NULL;
    g_autoptr(GError) local = NULL;

    if (job->phase < QMIG_PHASE_STORAGE || job->phase > QMIG_PHASE_POSTCOPY ||
        job->events.undoing != NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE, "nothing can be set in phase %s: %s",
            qmig_phase_name(job->phase),
            job->phase < QMIG_PHASE_STORAGE ? "the migration is just beginning; try again"
                                            : "the migration is over");
    }
    values = understand(job, arguments, error);
    if (values == NULL) {
        return false;
    }
    here = pick(values, QMIG_KNOB_SOURCE);
    if (qmig_via_holds(job)) {
        /* It goes by what the user wants, and sets what is right at the moment. */
        json_object_object_del(here, "downtime-limit");
    }
    there = pick(values, QMIG_KNOB_DESTINATION);
    if (!set_on(&job->source, here, &local)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!set_on(&job->destination, there, &local)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "set on the source, but not on the destination: ");
        return false;
    }
    tell_set(job, values, result);
    if (!set_speed_of_storage(job, values, &local)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "set for memory, but not for the disks: ");
        return false;
    }
    return set_own(job, arguments, result, error);
}

/* ---- post-copy -------------------------------------------------------------------------- */

static bool
postcopy(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error)
{
    const char *objection = qmig_postcopy_objection(job);

    (void)arguments;
    if (!job->options->postcopy) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "post-copy was not prepared: both sides have to be told "
                              "before a migration begins, by qmig migrate --postcopy");
    }
    if (job->phase > QMIG_PHASE_PERFORM || job->events.undoing != NULL) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "too late for post-copy: the migration is in phase %s",
                              qmig_phase_name(job->phase));
    }
    job->postcopy.wanted = true;
    json_object_object_add(result, "waits",
                           objection != NULL ? json_object_new_string(objection) : NULL);
    return true;
}

static bool
is_in_postcopy(const QmigJob *job)
{
    return job->phase == QMIG_PHASE_POSTCOPY && job->postcopy.entered;
}

static bool
pause_postcopy(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error)
{
    (void)arguments;
    (void)result;
    if (!is_in_postcopy(job)) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "only post-copy can be paused, and the migration is in "
                              "phase %s; `qmig set … bandwidth=` makes it slow, `qmig "
                              "cancel` ends it",
                              qmig_phase_name(job->phase));
    }
    job->postcopy.pause_asked = true;
    if (job->postcopy.broken_us != 0 || qmig_qmp_migrate_pause(job->source.qmp, error)) {
        return true;
    }
    job->postcopy.pause_asked = false;
    return false;
}

/* Broken already, it is tried by itself: now, and for as long again. */
static bool
recover(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error)
{
    QmigPostcopy *pc = &job->postcopy;

    (void)arguments;
    (void)result;
    if (!is_in_postcopy(job) || pc->broken_us == 0) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE,
            "there is nothing to recover: the migration is in phase %s%s",
            qmig_phase_name(job->phase),
            is_in_postcopy(job) ? ", and its link is whole" : "");
    }
    pc->broken_us = qmig_now_us();
    pc->next_try_us = 0;
    return true;
}

/* ---- the table -------------------------------------------------------------------------- */

static const struct {
    const char *name;
    /* @result: to be added to. */
    bool (*run)(QmigJob *job, JsonObject *arguments, JsonObject *result, GError **error);
} commands[] = {
    { "cancel", cancel },     { "pause", pause_postcopy },
    { "postcopy", postcopy }, { "recover", recover },
    { "set", set },
};

static bool
run_command(QmigJob *job, const char *name, JsonObject *arguments, JsonObject *result,
            GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return commands[i].run(job, arguments, result, error);
        }
    }
    return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                          "\"%s\": no such command; there are status, watch, cancel, "
                          "pause, postcopy, recover and set",
                          name);
}

/* Told before it is done, so that what follows from it comes after it. */
static void
tell_request(QmigJob *job, const QmigControlRequest *request, JsonObject *arguments)
{
    JsonObject *members = json_object_new_object();

    json_object_object_add(members, "command",
                           json_object_new_string(qmig_control_request_command(request)));
    json_object_object_add(members, "arguments", json_object_get(arguments));
    json_object_object_add(members, "pid",
                           json_object_new_int(qmig_control_request_pid(request)));
    qmig_events_tell(job, "request", members);
}

static void
tell_refusal(QmigJob *job, const QmigControlRequest *request, const GError *error)
{
    JsonObject *members = json_object_new_object();

    json_object_object_add(members, "command",
                           json_object_new_string(qmig_control_request_command(request)));
    json_object_object_add(members, "pid",
                           json_object_new_int(qmig_control_request_pid(request)));
    json_object_object_add(members, "why", json_object_new_string(error->message));
    qmig_events_tell(job, "refused", members);
}

void
qmig_steer(QmigJob *job)
{
    for (int i = 0; i < MAX_REQUESTS && job->control != NULL; i++) {
        QmigControlRequest *request = qmig_control_take(job->control);
        g_autoptr(JsonObject) arguments = NULL;
        g_autoptr(JsonObject) result = json_object_new_object();
        g_autoptr(GError) error = NULL;

        if (request == NULL) {
            return;
        }
        arguments = qmig_control_request_arguments(request);
        tell_request(job, request, arguments);
        if (run_command(job, qmig_control_request_command(request), arguments, result,
                        &error)) {
            qmig_control_answer(job->control, request, result);
        } else {
            tell_refusal(job, request, error);
            qmig_control_refuse(job->control, request, error);
        }
    }
}
