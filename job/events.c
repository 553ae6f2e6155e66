/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job's events and its status as JSON. docs/events.md is their contract. */
#include "job/events.h"

#include "job/control.h"
#include "job/job-priv.h"
#include "job/steer.h"
#include "job/storage.h"
#include "util/error.h"

#include <string.h>

enum {
    PROGRESS_US = 1000000,
    /* At the control socket, for a view that moves. */
    TRANSIENT_US = 200000,
    /* Of messages and decisions in the status. */
    STATUS_TAIL = 10,
};

static void
add_text(JsonObject *object, const char *key, const char *text)
{
    json_object_object_add(object, key,
                           text != NULL ? json_object_new_string(text) : NULL);
}

static void
add_number(JsonObject *object, const char *key, uint64_t value)
{
    json_object_object_add(
        object, key, json_object_new_int64((int64_t)MIN(value, (uint64_t)INT64_MAX)));
}

static void
add_bool(JsonObject *object, const char *key, bool value)
{
    json_object_object_add(object, key, json_object_new_boolean(value));
}

/* -1: cannot be told: null. */
static void
add_estimate(JsonObject *object, const char *key, int64_t value)
{
    json_object_object_add(object, key, value >= 0 ? json_object_new_int64(value) : NULL);
}

static const char *
owner_name(int owner)
{
    static const char *const names[] = {
        [QMIG_OWNER_SOURCE] = "source",
        [QMIG_OWNER_DESTINATION] = "destination",
        [QMIG_OWNER_UNCLEAR] = "unclear",
    };

    return names[owner];
}

/* ---- sending ---------------------------------------------------------------------------- */

static JsonObject *
new_event(QmigJob *job, const char *kind)
{
    JsonObject *event = json_object_new_object();
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *seconds = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
    g_autofree char *time = g_strdup_printf("%s.%03dZ", seconds,
                                            g_date_time_get_microsecond(now) / 1000);

    add_text(event, "event", kind);
    add_text(event, "time", time);
    add_number(event, "ms", (uint64_t)MAX(qmig_now_us() - job->begin_us, 0) / 1000);
    return event;
}

static void
publish_status(QmigJob *job)
{
    if (job->control != NULL) {
        g_autoptr(JsonObject) status = qmig_events_status(job);
        qmig_control_set_status(job->control, status);
    }
}

/* Takes @event. */
static void
send_event(QmigJob *job, JsonObject *event)
{
    const QmigEvents *events = &job->events;

    if (events->user->event != NULL) {
        events->user->event(events->user_data, event);
    }
    if (job->control != NULL) {
        publish_status(job);
        qmig_control_publish(job->control, event, false);
    }
    json_object_put(event);
}

/* The guest has changed hands since the last event. */
static void
tell_owner(QmigJob *job)
{
    JsonObject *event;

    if (job->events.owner == (int)job->owner) {
        return;
    }
    job->events.owner = (int)job->owner;
    event = new_event(job, "owner");
    add_text(event, "guest", owner_name(job->events.owner));
    send_event(job, event);
}

void
qmig_events_tell(QmigJob *job, const char *kind, JsonObject *members)
{
    JsonObject *event;

    tell_owner(job);
    event = new_event(job, kind);
    json_object_object_foreach(members, name, value)
    {
        json_object_object_add(event, name, json_object_get(value));
    }
    json_object_put(members);
    send_event(job, event);
}

/* ---- what the job calls ----------------------------------------------------------------- */

static void
on_phase(void *data, QmigPhase phase)
{
    QmigJob *job = data;
    JsonObject *members = json_object_new_object();

    if (job->events.user->phase != NULL) {
        job->events.user->phase(job->events.user_data, phase);
    }
    add_text(members, "phase", qmig_phase_name(phase));
    qmig_events_tell(job, "phase", members);
}

static void
on_state(void *data, const char *status)
{
    QmigJob *job = data;
    JsonObject *members = json_object_new_object();

    if (job->events.user->state != NULL) {
        job->events.user->state(job->events.user_data, status);
    }
    add_text(members, "status", status);
    qmig_events_tell(job, "state", members);
}

/* The figures of "iteration", "progress" and of the status. */
static void
add_figures(JsonObject *object, const QmigProgress *p)
{
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        { "iteration", p->iteration },
        { "elapsed_ms", p->elapsed_ms },
        { "transferred", p->transferred },
        { "remaining", p->remaining },
        { "total", p->total },
        { "rate", p->rate },
        { "dirty_rate", p->dirty_rate },
        { "pages_normal", p->pages_normal },
        { "pages_zero", p->pages_zero },
        { "pages_resent", p->pages_resent },
        { "expected_downtime_ms", p->expected_downtime_ms },
        { "percent", p->percent },
        { "storage_done", p->storage_done },
        { "storage_total", p->storage_total },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        add_number(object, members[i].name, members[i].value);
    }
    add_estimate(object, "left_min_ms", p->left_min_ms);
    add_estimate(object, "left_max_ms", p->left_max_ms);
}

static JsonObject *
new_progress(QmigJob *job, const QmigProgress *p)
{
    JsonObject *event = new_event(job, "progress");

    add_text(event, "phase", qmig_phase_name(p->phase));
    add_text(event, "status", p->status);
    add_figures(event, p);
    add_number(event, "throttle_percent", job->info.throttle_percent);
    json_object_object_add(event, "tunnel", qmig_via_status(job));
    return event;
}

static void
on_progress(void *data, const QmigProgress *p)
{
    QmigJob *job = data;
    QmigEvents *events = &job->events;
    int64_t now = qmig_now_us();
    bool is_last = p->percent == 100;

    if (events->user->progress != NULL) {
        events->user->progress(events->user_data, p);
    }
    tell_owner(job);
    bool for_user = events->user->event != NULL &&
                    (is_last || now - events->progress_us >= PROGRESS_US);
    bool for_control = job->control != NULL &&
                       (is_last || now - events->transient_us >= TRANSIENT_US);
    if (!for_user && !for_control) {
        return;
    }
    g_autoptr(JsonObject) event = new_progress(job, p);
    if (for_user) {
        events->progress_us = now;
        events->user->event(events->user_data, event);
    }
    if (for_control) {
        events->transient_us = now;
        publish_status(job);
        qmig_control_publish(job->control, event, true);
    }
}

static void
on_iteration(void *data, const QmigProgress *p)
{
    QmigJob *job = data;
    JsonObject *members = json_object_new_object();

    if (job->events.user->iteration != NULL) {
        job->events.user->iteration(job->events.user_data, p);
    }
    add_figures(members, p);
    add_number(members, "throttle_percent", job->info.throttle_percent);
    qmig_events_tell(job, "iteration", members);
}

static void
on_decision(void *data, const char *what, const char *why)
{
    QmigJob *job = data;
    JsonObject *members = json_object_new_object();

    if (job->events.user->decision != NULL) {
        job->events.user->decision(job->events.user_data, what, why);
    }
    add_text(members, "what", what);
    add_text(members, "why", why);
    qmig_events_tell(job, "decision", members);
}

static void
on_message(void *data, const char *text)
{
    QmigJob *job = data;
    JsonObject *members = json_object_new_object();

    if (job->events.user->message != NULL) {
        job->events.user->message(job->events.user_data, text);
    }
    add_text(members, "text", text);
    qmig_events_tell(job, "message", members);
}

void
qmig_events_init(QmigJob *job, const QmigJobWatcher *watcher, void *data)
{
    static const QmigJobWatcher between = {
        .phase = on_phase,
        .state = on_state,
        .progress = on_progress,
        .iteration = on_iteration,
        .decision = on_decision,
        .message = on_message,
    };
    static const QmigJobWatcher nobody = { 0 };

    job->events.user = watcher != NULL ? watcher : &nobody;
    job->events.user_data = data;
    job->events.owner = QMIG_OWNER_SOURCE;
    /* What is told before the job runs has a time too. */
    job->begin_us = qmig_now_us();
    job->watcher = &between;
    job->data = job;
}

void
qmig_events_clear(QmigJob *job)
{
    g_clear_pointer(&job->events.undoing, g_free);
}

/* ---- who this is ------------------------------------------------------------------------ */

static JsonObject *
introduce_side(const QmigSide *side, const char *qmp)
{
    JsonObject *object = json_object_new_object();
    struct ucred peer;

    add_text(object, "qmp", qmp);
    /* Only of what is a QEMU: a launcher's process would stand for many guests. */
    json_object_object_add(object, "pid",
                           side->pidfd >= 0 && side->qmp != NULL &&
                                   qmig_qmp_peer(side->qmp, &peer)
                               ? json_object_new_int(peer.pid)
                               : NULL);
    return object;
}

static JsonObject *
new_job_identity(const QmigJob *job)
{
    JsonObject *identity = json_object_new_object();
    g_autofree char *source = qmig_address_to_string(job->options->source);
    g_autofree char *destination = qmig_via_destination_text(job->options);

    add_text(identity, "guest", job->source.name);
    add_text(identity, "uuid", job->source.uuid);
    json_object_object_add(identity, "source", introduce_side(&job->source, source));
    json_object_object_add(identity, "destination",
                           introduce_side(&job->destination, destination));
    return identity;
}

static JsonObject *
new_qmig_identity(const QmigJob *job)
{
    JsonObject *qmig = json_object_new_object();

    add_text(qmig, "command", job->events.resumes ? "recover" : "migrate");
    add_number(qmig, "protocol", QMIG_CONTROL_PROTOCOL);
    json_object_object_add(qmig, "pid", json_object_new_int((int)getpid()));
    return qmig;
}

void
qmig_events_introduce(QmigJob *job)
{
    g_autoptr(JsonObject) greeting = NULL;

    if (job->control == NULL) {
        return;
    }
    greeting = json_object_new_object();
    json_object_object_add(greeting, "qmig", new_qmig_identity(job));
    json_object_object_add(greeting, "job", new_job_identity(job));
    qmig_control_set_identity(job->control, greeting);
    publish_status(job);
}

void
qmig_events_begin(QmigJob *job)
{
    g_autoptr(JsonObject) identity = new_job_identity(job);
    JsonObject *members;

    job->events.resumes = job->phase != QMIG_PHASE_BEGIN;
    job->events.owner = (int)job->owner;
    members = new_qmig_identity(job);
    qmig_events_introduce(job);
    add_text(
        members, "source",
        qmig_json_string(qmig_json_get(identity, "source", json_type_object), "qmp"));
    add_text(members, "destination",
             qmig_json_string(qmig_json_get(identity, "destination", json_type_object),
                              "qmp"));
    add_text(members, "control",
             job->control != NULL ? qmig_control_path(job->control) : NULL);
    qmig_events_tell(job, "begin", members);
}

void
qmig_events_undo(QmigJob *job, const char *why)
{
    JsonObject *members = json_object_new_object();

    g_free(job->events.undoing);
    job->events.undoing = g_strdup(why);
    add_text(members, "phase", qmig_phase_name(job->phase));
    add_text(members, "why", why);
    qmig_events_tell(job, "undo", members);
}

void
qmig_events_redo(QmigJob *job)
{
    g_clear_pointer(&job->events.undoing, g_free);
}

void
qmig_events_end(QmigJob *job)
{
    g_autoptr(JsonObject) report = qmig_job_report(job);
    JsonObject *members = json_object_new_object();
    static const char *const kept[] = { "outcome",    "exit_code",  "phase", "guest",
                                        "guest_name", "guest_runs", "error", "ms" };

    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        JsonObject *value = NULL;
        if (json_object_object_get_ex(report, kept[i], &value)) {
            /* "ms" of an event is when it was told. */
            json_object_object_add(members,
                                   strcmp(kept[i], "ms") == 0 ? "times" : kept[i],
                                   json_object_get(value));
        }
    }
    qmig_events_tell(job, "end", members);
}

/* ---- status ----------------------------------------------------------------------------- */

/* The last few of a list of texts or objects. */
static JsonObject *
last_messages(const QmigJob *job)
{
    JsonObject *list = json_object_new_array();
    guint n = job->messages->len;

    for (guint i = n > STATUS_TAIL ? n - STATUS_TAIL : 0; i < n; i++) {
        json_object_array_add(
            list, json_object_new_string(g_ptr_array_index(job->messages, i)));
    }
    return list;
}

static JsonObject *
last_decisions(const QmigJob *job)
{
    JsonObject *list = json_object_new_array();
    size_t n = json_object_array_length(job->decisions);

    for (size_t i = n > STATUS_TAIL ? n - STATUS_TAIL : 0; i < n; i++) {
        json_object_array_add(
            list, json_object_get(json_object_array_get_idx(job->decisions, i)));
    }
    return list;
}

/* What was set on the source for this migration. */
static JsonObject *
new_settings(const QmigJob *job)
{
    JsonObject *settings = json_object_new_object();
    JsonObject *names = json_object_new_array();

    if (job->source_caps != NULL) {
        json_object_object_foreach(job->source_caps, name, on)
        {
            (void)on;
            json_object_array_add(names, json_object_new_string(name));
        }
    }
    json_object_object_add(settings, "capabilities", names);
    json_object_object_add(settings, "parameters",
                           job->source_params != NULL
                               ? json_object_get(job->source_params)
                               : json_object_new_object());
    add_number(settings, "timeout_ms", job->options->timeout_ms);
    return settings;
}

static JsonObject *
new_postcopy(const QmigJob *job)
{
    const QmigPostcopy *pc = &job->postcopy;
    JsonObject *object = json_object_new_object();

    add_bool(object, "allowed", job->options->postcopy);
    add_bool(object, "wanted", pc->wanted);
    add_bool(object, "entered", pc->entered);
    add_number(object, "breaks", pc->breaks);
    add_estimate(object, "broken_ms",
                 pc->broken_us != 0 ? (qmig_now_us() - pc->broken_us) / 1000 : -1);
    add_number(object, "tries", pc->tries);
    return object;
}

JsonObject *
qmig_events_status(const QmigJob *job)
{
    JsonObject *status = json_object_new_object();
    JsonObject *memory = json_object_new_object();

    add_text(status, "guest", job->source.name);
    add_text(status, "uuid", job->source.uuid);
    add_text(status, "owner", owner_name((int)job->owner));
    add_bool(status, "guest_runs", job->guest_runs);
    add_text(status, "phase", qmig_phase_name(job->phase));
    add_text(status, "status",
             job->info.status_text != NULL ? job->info.status_text : "none");
    add_text(status, "undoing", job->events.undoing);
    add_bool(status, "can_cancel", qmig_steer_can_cancel(job));
    add_number(status, "ms", (uint64_t)MAX(qmig_now_us() - job->begin_us, 0) / 1000);
    add_figures(memory, &job->model.now);
    add_number(memory, "throttle_percent", job->info.throttle_percent);
    json_object_object_add(status, "memory", memory);
    json_object_object_add(status, "storage",
                           qmig_storage_is_asked(job) ? qmig_storage_report(job) : NULL);
    json_object_object_add(status, "settings", new_settings(job));
    json_object_object_add(status, "postcopy", new_postcopy(job));
    json_object_object_add(status, "tunnel", qmig_via_status(job));
    json_object_object_add(status, "decisions", last_decisions(job));
    json_object_object_add(status, "messages", last_messages(job));
    return status;
}
