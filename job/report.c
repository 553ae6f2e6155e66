/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The report of a migration as JSON. Its members are documented in qmig-migrate(1). */
#include "job/preflight.h"
#include "job/rehearsal.h"
#include "util/error.h"

#include <string.h>

static void
add_text(JsonObject *object, const char *key, const char *text)
{
    json_object_object_add(object, key,
                           text != NULL ? json_object_new_string(text) : NULL);
}

static void
add_number(JsonObject *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_int64((int64_t)value));
}

static JsonObject *
report_side(const QmigSide *side, const char *qmp, const char *end)
{
    JsonObject *object = json_object_new_object();
    g_autofree char *version = g_strdup_printf("%u.%u.%u", side->version / 10000,
                                               side->version / 100 % 100,
                                               side->version % 100);

    add_text(object, "qmp", qmp);
    if (side->version != 0) {
        add_text(object, "qemu", version);
        add_text(object, "machine", side->machine);
    }
    if (end != NULL) {
        add_text(object, "end", end);
    }
    return object;
}

static void
report_guest(const QmigJob *job, JsonObject *report)
{
    static const char *const owners[] = {
        [QMIG_OWNER_SOURCE] = "source",
        [QMIG_OWNER_DESTINATION] = "destination",
        [QMIG_OWNER_UNCLEAR] = "unclear",
    };
    bool arrived = job->owner == QMIG_OWNER_DESTINATION;
    QmigOwner owner = qmig_job_source_is_spent(job) ? QMIG_OWNER_UNCLEAR : job->owner;

    /* It has not moved in a rehearsal. */
    if (job->rehearsal != NULL && owner == QMIG_OWNER_DESTINATION) {
        owner = QMIG_OWNER_SOURCE;
        arrived = false;
    }
    add_text(report, "guest", owners[owner]);
    add_text(report, "guest_name", job->source.name);
    if (owner != QMIG_OWNER_UNCLEAR) {
        bool asked = job->source.run_state != NULL || job->destination.run_state != NULL;
        bool runs = job->guest_runs && !(arrived && job->options->suspend);
        json_object_object_add(report, "guest_runs",
                               asked ? json_object_new_boolean(runs) : NULL);
    }
}

/* "source", "destination", "proxy": messages begin with whom they are about. */
static JsonObject *
report_error(const QmigJob *job)
{
    static const char *const sides[] = { "source", "destination", "proxy" };
    JsonObject *error = json_object_new_object();
    const char *text = job->error->message + strlen(qmig_phase_name(job->phase)) + 2;
    const char *side = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(sides); i++) {
        if (g_str_has_prefix(text, sides[i]) && text[strlen(sides[i])] == ':') {
            side = sides[i];
        }
    }
    add_text(error, "code", qmig_error_name(job->error));
    add_text(error, "phase", qmig_phase_name(job->phase));
    add_text(error, "side", side);
    add_text(error, "message", text);
    add_text(error, "where", job->where);
    add_text(error, "next", job->next);
    return error;
}

static void
report_path(const QmigJob *job, JsonObject *report)
{
    add_text(report, "path", job->options->direct ? "direct" : "proxy");
}

static JsonObject *
report_ram(const QmigJob *job)
{
    const QmigProgress *now = &job->model.now;
    JsonObject *object = json_object_new_object();

    add_number(object, "total", now->total);
    add_number(object, "transferred", now->transferred);
    add_number(object, "pages_zero", now->pages_zero);
    add_number(object, "pages_normal", now->pages_normal);
    /* Only the proxy can tell. */
    json_object_object_add(
        object, "pages_resent",
        job->options->direct ? NULL : json_object_new_int64((int64_t)now->pages_resent));
    add_number(object, "iterations", now->iteration);
    return object;
}

/* What the stats plugin counted, or QEMU's own figures where there is no proxy, or where the
 * pages travel on channels the plugin does not see. */
static void
report_stream(const QmigJob *job, JsonObject *report)
{
    JsonObject *plugins = qmig_json_get(job->snapshot, "plugins", json_type_object);
    JsonObject *stats = qmig_json_get(plugins, "stats", json_type_object);
    JsonObject *list = qmig_json_get(stats, "iterations", json_type_array);
    bool multifd = json_object_object_get_ex(job->source_caps, "multifd", NULL);
    bool by_proxy = list != NULL && json_object_array_length(list) > 0 && !multifd;

    add_text(report, "iterations_by", by_proxy ? "proxy" : "qemu");
    json_object_object_add(report, "iterations",
                           json_object_get(by_proxy ? list : job->iterations));
    json_object_object_add(
        report, "device_bytes",
        stats != NULL ? json_object_new_int64(qmig_json_int(stats, "device_bytes", 0))
                      : NULL);
}

/* From the source's STOP to the destination's RESUME, both as they reached this process. */
static JsonObject *
blackout(const QmigJob *job)
{
    int64_t stopped = job->source.stopped_us, resumed = job->destination.resumed_us;

    if (stopped == 0 || resumed < stopped) {
        return NULL;
    }
    double ms = (double)((resumed - stopped) / 100) / 10;
    g_autofree char *text = g_strdup_printf("%.1f", ms);
    return json_object_new_double_s(ms, text);
}

static void
report_times(const QmigJob *job, JsonObject *report)
{
    int64_t end = job->running_us > 0 ? job->running_us : qmig_now_us();
    JsonObject *times = json_object_new_object();

    add_number(times, "total", (uint64_t)(end - job->begin_us) / 1000);
    add_number(times, "migrate",
               job->perform_us > 0 ? (uint64_t)(end - job->perform_us) / 1000 : 0);
    add_number(times, "setup", job->info.setup_ms);
    add_number(times, "downtime", job->info.downtime_ms);
    json_object_object_add(times, "blackout", blackout(job));
    json_object_object_add(report, "ms", times);
}

static JsonObject *
report_messages(const QmigJob *job)
{
    JsonObject *messages = json_object_new_array();

    for (guint i = 0; i < job->messages->len; i++) {
        json_object_array_add(
            messages, json_object_new_string(g_ptr_array_index(job->messages, i)));
    }
    return messages;
}

/* What preflight found, and what a rehearsal would have done. */
static void
report_checks(const QmigJob *job, JsonObject *report)
{
    json_object_object_add(report, "preflight",
                           job->preflight != NULL ? qmig_preflight_report(job->preflight)
                                                  : NULL);
    json_object_object_add(report, "plan",
                           job->rehearsal != NULL ? qmig_rehearsal_plan(job->rehearsal)
                                                  : NULL);
}

JsonObject *
qmig_job_report(QmigJob *job)
{
    JsonObject *report = json_object_new_object();
    g_autofree char *source = qmig_address_to_string(job->options->source);
    g_autofree char *destination = qmig_via_destination_text(job->options);

    add_text(report, "outcome", qmig_outcome_name(job->outcome));
    add_number(report, "exit_code", job->outcome);
    add_text(report, "phase", qmig_phase_name(job->phase));
    report_guest(job, report);
    if (job->error != NULL) {
        json_object_object_add(report, "error", report_error(job));
    }
    json_object_object_add(report, "source",
                           report_side(&job->source, source, job->source_end));
    json_object_object_add(report, "destination",
                           report_side(&job->destination, destination, NULL));
    report_path(job, report);
    report_times(job, report);
    json_object_object_add(report, "ram", report_ram(job));
    json_object_object_add(report, "storage", qmig_storage_report(job));
    report_stream(job, report);
    json_object_object_add(report, "blocktime", json_object_get(job->blocktime));
    report_checks(job, report);
    json_object_object_add(report, "decisions", json_object_get(job->decisions));
    json_object_object_add(report, "messages", report_messages(job));
    json_object_object_add(report, "proxy", json_object_get(job->snapshot));
    json_object_object_add(report, "tunnel", qmig_via_report(job));
    return report;
}
