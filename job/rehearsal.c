/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See rehearsal.h: the stand-in of both QEMUs, and the plan. */
#include "job/rehearsal.h"

#include "util/error.h"

#include <string.h>

/* ---- the plan ----------------------------------------------------------------------------- */

static JsonObject *
new_step(QmigJob *job)
{
    JsonObject *step = json_object_new_object();

    json_object_object_add(step, "phase",
                           json_object_new_string(qmig_phase_name(job->phase)));
    json_object_array_add(job->rehearsal->plan, step);
    return step;
}

static void
note_command(QmigRehearsed *r, const char *command, JsonObject *arguments)
{
    JsonObject *step = new_step(r->rehearsal->job);

    json_object_object_add(step, "side", json_object_new_string(r->side->label));
    json_object_object_add(step, "command", json_object_new_string(command));
    json_object_object_add(step, "arguments",
                           arguments != NULL ? json_object_get(arguments)
                                             : json_object_new_object());
}

bool
qmig_rehearsal_note(QmigJob *job, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    if (job->rehearsal == NULL) {
        return false;
    }
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    json_object_object_add(new_step(job), "note", json_object_new_string(text));
    return true;
}

JsonObject *
qmig_rehearsal_plan(const QmigRehearsal *rehearsal)
{
    return json_object_get(rehearsal->plan);
}

/* ---- the stand-in -------------------------------------------------------------------------- */

/* Does it only ask? What is not known to is taken for a change. */
static bool
is_question(const char *command, JsonObject *arguments)
{
    static const char *const questions[] = {
        "device-list-properties", "qmp_capabilities",    "qom-get",        "qom-list",
        "qom-list-get",           "qom-list-properties", "qom-list-types", NULL
    };
    const char *line = qmig_json_string(arguments, "command-line");

    return g_str_has_prefix(command, "query-") || g_str_has_prefix(command, "x-query-") ||
           g_strv_contains(questions, command) ||
           (strcmp(command, "human-monitor-command") == 0 && line != NULL &&
            g_str_has_prefix(line, "info "));
}

static QmigStandInAnswer
stand_in(void *data, const char *command, JsonObject *arguments, JsonObject **result,
         GError **error)
{
    QmigRehearsed *r = data;

    (void)error;
    if (qmig_rehearsal_ask(r, command, arguments, result)) {
        return QMIG_STAND_IN_DONE;
    }
    if (is_question(command, arguments)) {
        return QMIG_STAND_IN_PASS;
    }
    note_command(r, command, arguments);
    qmig_rehearsal_apply(r, command, arguments);
    return QMIG_STAND_IN_DONE;
}

static void
begin_side(QmigRehearsal *rehearsal, QmigRehearsalSide which, QmigSide *side)
{
    QmigRehearsed *r = &rehearsal->sides[which];

    *r = (QmigRehearsed){ .rehearsal = rehearsal, .which = which, .side = side };
    r->jobs = json_object_new_object();
    r->exports = json_object_new_object();
    r->nodes = json_object_new_object();
    r->objects = json_object_new_object();
    qmig_qmp_set_stand_in(side->qmp, stand_in, r);
}

void
qmig_rehearsal_begin(QmigJob *job)
{
    QmigRehearsal *rehearsal = g_new0(QmigRehearsal, 1);

    rehearsal->job = job;
    rehearsal->plan = json_object_new_array();
    job->rehearsal = rehearsal;
    begin_side(rehearsal, QMIG_REHEARSAL_SOURCE, &job->source);
    begin_side(rehearsal, QMIG_REHEARSAL_DESTINATION, &job->destination);
    job->endpoints.pretend = true;
}

/* The processes go on when the model says that they have ended. */
void
qmig_rehearsal_go(QmigJob *job)
{
    if (job->rehearsal != NULL) {
        qmig_fd_clear(&job->source.pidfd);
        qmig_fd_clear(&job->destination.pidfd);
    }
}

void
qmig_rehearsal_free(QmigRehearsal *rehearsal)
{
    if (rehearsal == NULL) {
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(rehearsal->sides); i++) {
        qmig_rehearsed_clear(&rehearsal->sides[i]);
    }
    json_object_put(rehearsal->plan);
    g_free(rehearsal);
}
