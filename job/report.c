/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The report of a migration as JSON. Its members are documented in qmig-migrate(1). */
#include "job/job-priv.h"
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
report_side(const QmigSide *side, const QmigAddress *address)
{
    JsonObject *object = json_object_new_object();
    g_autofree char *qmp = qmig_address_to_string(address);
    g_autofree char *version = g_strdup_printf("%u.%u.%u", side->version / 10000,
                                               side->version / 100 % 100,
                                               side->version % 100);

    add_text(object, "qmp", qmp);
    if (side->version != 0) {
        add_text(object, "qemu", version);
        add_text(object, "machine", side->machine);
    }
    return object;
}

static JsonObject *
report_ram(const QmigProgress *now)
{
    JsonObject *object = json_object_new_object();

    add_number(object, "total", now->total);
    add_number(object, "transferred", now->transferred);
    add_number(object, "pages_zero", now->pages_zero);
    add_number(object, "pages_normal", now->pages_normal);
    add_number(object, "iterations", now->iteration);
    return object;
}

/* From the source's STOP to the destination's RESUME, both as they reached this process. */
static JsonObject *
blackout(const QmigJob *job)
{
    int64_t stopped = job->source.stopped_us, resumed = job->destination.resumed_us;

    return stopped > 0 && resumed >= stopped
               ? json_object_new_double((double)((resumed - stopped) / 100) / 10)
               : NULL;
}

static const char *
whereabouts(const QmigJob *job)
{
    switch (job->owner) {
    case QMIG_OWNER_SOURCE:
        return "source";
    case QMIG_OWNER_DESTINATION:
        return "destination";
    case QMIG_OWNER_UNCLEAR:
    default:
        return "unclear";
    }
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

JsonObject *
qmig_job_report(QmigJob *job)
{
    JsonObject *report = json_object_new_object();
    JsonObject *messages = json_object_new_array();

    add_text(report, "outcome", qmig_outcome_name(job->outcome));
    add_number(report, "exit_code", job->outcome);
    add_text(report, "guest", whereabouts(job));
    add_text(report, "phase", qmig_phase_name(job->phase));
    if (job->error != NULL) {
        JsonObject *error = json_object_new_object();
        add_text(error, "code", qmig_error_name(job->error));
        add_text(error, "message", job->error->message);
        json_object_object_add(report, "error", error);
    }
    json_object_object_add(report, "source",
                           report_side(&job->source, job->options->source));
    json_object_object_add(report, "destination",
                           report_side(&job->destination, job->options->destination));
    report_times(job, report);
    json_object_object_add(report, "ram", report_ram(&job->model.now));
    json_object_object_add(report, "proxy", json_object_get(job->snapshot));
    for (guint i = 0; i < job->messages->len; i++) {
        json_object_array_add(
            messages, json_object_new_string(g_ptr_array_index(job->messages, i)));
    }
    json_object_object_add(report, "messages", messages);
    return report;
}
