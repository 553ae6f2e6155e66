/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See steps.h. */
#include "job/steps.h"

#include "util/error.h"

#include <string.h>

static JsonObject *
text_or_null(const char *text)
{
    return text != NULL ? json_object_new_string(text) : NULL;
}

/* ---- processes -------------------------------------------------------------------------- */

static char *
read_boot_id(void)
{
    char *text = NULL;

    return g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL)
               ? g_strchomp(text)
               : NULL;
}

/* Of /proc/PID/stat: clock ticks from the boot to the start of that process; 0 = no process, or one
 * that has ended and is not reaped. */
static uint64_t
read_start(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid), *text = NULL;
    g_auto(GStrv) words = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return 0;
    }
    /* The second word is the name, in parentheses, and may hold anything. */
    const char *rest = strrchr(text, ')');
    words = g_strsplit(rest != NULL ? rest + 1 : "", " ", 0);
    if (g_strv_length(words) < 21 || strcmp(words[1], "Z") == 0) {
        return 0;
    }
    return g_ascii_strtoull(words[20], NULL, 10);
}

JsonObject *
qmig_steps_process(pid_t pid)
{
    g_autofree char *boot = read_boot_id();
    uint64_t start = pid > 0 ? read_start(pid) : 0;
    JsonObject *o = json_object_new_object();

    if (start != 0 && boot != NULL) {
        json_object_object_add(o, "pid", json_object_new_int(pid));
        json_object_object_add(o, "start", json_object_new_uint64(start));
        json_object_object_add(o, "boot", json_object_new_string(boot));
    }
    return o;
}

bool
qmig_steps_process_has_ended(JsonObject *process)
{
    g_autofree char *boot = read_boot_id();
    int64_t pid = qmig_json_int(process, "pid", 0);

    if (pid <= 0 || boot == NULL) {
        return false;
    }
    return g_strcmp0(boot, qmig_json_string(process, "boot")) != 0 ||
           (int64_t)read_start((pid_t)pid) != qmig_json_int(process, "start", -1);
}

/* ---- begin ------------------------------------------------------------------------------ */

static JsonObject *
describe_side(const QmigSide *side, const char *qmp)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "qmp", json_object_new_string(qmp));
    json_object_object_add(o, "process", qmig_steps_process(side->pid));
    json_object_object_add(o, "name", text_or_null(side->name));
    json_object_object_add(o, "uuid", text_or_null(side->uuid));
    json_object_object_add(o, "machine", text_or_null(side->machine));
    json_object_object_add(o, "version", json_object_new_int64(side->version));
    json_object_object_add(o, "capabilities", json_object_get(side->capabilities));
    json_object_object_add(o, "parameters", json_object_get(side->parameters));
    return o;
}

static JsonObject *
describe_address(const QmigAddress *address)
{
    g_autofree char *text = address != NULL ? qmig_address_to_string(address) : NULL;

    return text_or_null(text);
}

static JsonObject *
describe_options(const QmigJob *job)
{
    const QmigJobOptions *options = job->options;
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "suspend", json_object_new_boolean(options->suspend));
    json_object_object_add(o, "keep_source",
                           json_object_new_boolean(options->keep_source));
    json_object_object_add(o, "direct", json_object_new_boolean(options->direct));
    json_object_object_add(o, "postcopy", json_object_new_boolean(options->postcopy));
    json_object_object_add(o, "migrateuri", describe_address(options->migrate_uri));
    json_object_object_add(o, "listen", describe_address(options->listen));
    json_object_object_add(o, "agent", describe_address(options->agent));
    json_object_object_add(o, "agent_destination",
                           describe_address(options->agent_destination));
    json_object_object_add(o, "fence", text_or_null(options->fence));
    json_object_object_add(o, "via", qmig_via_options_to_journal(job->options));
    json_object_object_add(o, "destination_via",
                           json_object_new_boolean(options->destination_via));
    json_object_object_add(o, "via_dir", text_or_null(qmig_via_dir(job)));
    return o;
}

static bool
make_journal(QmigJob *job, GError **error)
{
    g_autofree char *path = g_strdup(job->options->journal);
    const char *name = job->source.name[0] != '\0' ? job->source.name : job->source.uuid;

    if (path == NULL) {
        path = qmig_journal_default_path(name, error);
    }
    job->journal = path != NULL ? qmig_journal_create(path, error) : NULL;
    if (job->journal == NULL) {
        g_prefix_error(error, "%s",
                       job->options->journal != NULL
                           ? ""
                           : "nothing can be written down (--journal FILE elsewhere, or "
                             "--no-journal): ");
        return false;
    }
    return true;
}

bool
qmig_steps_begin(QmigJob *job, GError **error)
{
    g_autofree char *source = qmig_address_to_string(job->options->source);
    g_autofree char *destination = qmig_via_destination_text(job->options);
    JsonObject *o;

    if (job->journal != NULL || job->rehearsal != NULL ||
        (job->options->journal == NULL && !job->options->journal_by_default)) {
        return true;
    }
    if (!make_journal(job, error)) {
        return false;
    }
    o = json_object_new_object();
    json_object_object_add(o, "format", json_object_new_int(1));
    json_object_object_add(o, "qmig", qmig_steps_process(getpid()));
    json_object_object_add(o, "runs", json_object_new_boolean(job->guest_runs));
    json_object_object_add(o, "options", describe_options(job));
    json_object_object_add(o, "source", describe_side(&job->source, source));
    json_object_object_add(o, "destination",
                           describe_side(&job->destination, destination));
    return qmig_steps_write(job, "begin", o, error);
}

/* ---- steps ------------------------------------------------------------------------------ */

bool
qmig_steps_write(QmigJob *job, const char *step, JsonObject *members, GError **error)
{
    if (job->journal == NULL) {
        json_object_put(members);
        return true;
    }
    return qmig_journal_append(job->journal, step, members, error);
}

bool
qmig_steps_put(QmigJob *job, const char *step, GError **error)
{
    return job->journal == NULL || qmig_journal_put(job->journal, step, NULL, error);
}

void
qmig_steps_note(QmigJob *job, const char *step, JsonObject *members)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_steps_write(job, step, members, &error)) {
        qmig_job_message(job, "%s; it goes on, for the guest's sake", error->message);
    }
}

bool
qmig_steps_will_undo(QmigJob *job, const QmigSide *side, const char *command,
                     JsonObject *arguments, GError **error)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "side", json_object_new_string(side->label));
    json_object_object_add(o, "command", json_object_new_string(command));
    json_object_object_add(o, "arguments", arguments);
    return qmig_steps_write(job, "undo", o, error);
}

void
qmig_steps_end(QmigJob *job)
{
    static const char *const owners[] = { "source", "destination", "unclear" };
    bool clear = job->outcome != QMIG_OUTCOME_UNCLEAR &&
                 job->outcome != QMIG_OUTCOME_PAUSED;
    JsonObject *o;

    if (job->journal == NULL) {
        return;
    }
    o = json_object_new_object();
    json_object_object_add(o, "outcome",
                           json_object_new_string(qmig_outcome_name(job->outcome)));
    json_object_object_add(o, "guest", json_object_new_string(owners[job->owner]));
    json_object_object_add(o, "clear", json_object_new_boolean(clear));
    qmig_steps_note(job, "end", o);
    if (clear && job->options->journal == NULL) {
        qmig_journal_remove(job->journal);
    } else if (!clear) {
        qmig_job_message(job, "the journal is kept: qmig recover %s",
                         qmig_journal_path(job->journal));
    }
    g_clear_pointer(&job->journal, qmig_journal_free);
}
