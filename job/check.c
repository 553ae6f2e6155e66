/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Do the two sides fit? Nothing is touched here; all problems are found before any is told. */
#include "job/part.h"
#include "plugin/chain.h"
#include "proxy/record.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

void
qmig_job_problem(GString *problems, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_string_append(problems, problems->len > 0 ? "\n  " : "");
    g_string_append_vprintf(problems, fmt, ap);
    va_end(ap);
}

static void
check_source(const QmigSide *source, GString *problems)
{
    static const char *const movable[] = { "running",        "paused",   "suspended",
                                           "prelaunch",      "io-error", "watchdog",
                                           "guest-panicked", NULL };

    if (strcmp(source->run_state, "postmigrate") == 0) {
        qmig_job_problem(
            problems, "source: its guest is \"postmigrate\": it has been migrated away "
                      "already, or stood still while that failed");
    } else if (!g_strv_contains(movable, source->run_state)) {
        qmig_job_problem(problems,
                         "source: its guest is \"%s\", which cannot be migrated",
                         source->run_state);
    }
    if (!qmig_status_is_final(source->migration) &&
        source->migration != QMIG_STATUS_NONE) {
        qmig_job_problem(problems,
                         "source: a migration is running; see qmig status, or end it by "
                         "qmig cancel");
    }
}

static void
check_destination(const QmigSide *destination, GString *problems)
{
    if (strcmp(destination->run_state, "paused") == 0 &&
        destination->migration == QMIG_STATUS_COMPLETED) {
        qmig_job_problem(
            problems, "destination: it has loaded a guest already, and waits for `cont`; "
                      "that is right only when its source is \"postmigrate\" or gone");
    } else if (strcmp(destination->run_state, "inmigrate") != 0) {
        qmig_job_problem(
            problems,
            "destination: its state is \"%s\", wanted \"inmigrate\": start it "
            "with -S -incoming defer",
            destination->run_state);
    } else if (destination->migration != QMIG_STATUS_NONE) {
        qmig_job_problem(problems,
                         "destination: it listens already, or has failed once: start a "
                         "fresh one with -S -incoming defer");
    }
}

static void
check_machines(const QmigJob *job, GString *problems)
{
    const QmigSide *source = &job->source, *destination = &job->destination;

    if (strcmp(source->machine, destination->machine) != 0) {
        qmig_job_problem(problems,
                         "machine type: source \"%s\", destination \"%s\": start the "
                         "destination with -machine %s",
                         source->machine, destination->machine, source->machine);
    }
    if (source->memory != destination->memory) {
        g_autofree char *a = qmig_format_size(source->memory);
        g_autofree char *b = qmig_format_size(destination->memory);
        qmig_job_problem(problems,
                         "memory: source %s, destination %s: start both with the same -m",
                         a, b);
    }
    if (source->vcpus != destination->vcpus) {
        qmig_job_problem(
            problems, "vCPUs: source %u, destination %u: start both with the same -smp",
            source->vcpus, destination->vcpus);
    }
}

/* Every multifd channel begins with the UUID, and QEMU compares it. */
static void
check_identity(QmigJob *job, GString *problems)
{
    const QmigSide *source = &job->source, *destination = &job->destination;

    if (strcmp(source->uuid, destination->uuid) == 0) {
        return;
    }
    if (json_object_object_get_ex(job->source_caps, "multifd", NULL) ||
        json_object_object_get_ex(job->source_caps, "validate-uuid", NULL)) {
        qmig_job_problem(
            problems,
            "UUID: source %s, destination %s: multifd and validate-uuid want "
            "the same -uuid",
            source->uuid, destination->uuid);
        return;
    }
    qmig_job_message(job, "the guest's UUID is not the destination's -uuid: %s, %s",
                     source->uuid, destination->uuid);
}

/* Blockers, as the source itself tells them. */
static void
check_blocked(const QmigJob *job, GString *problems)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    if (qmig_qmp_query_migrate(job->source.qmp, &info, NULL, NULL) &&
        info.blocked != NULL) {
        qmig_job_problem(problems, "source: blocked: %s", info.blocked);
    }
}

/* A plugin's refusal must come before anything is touched. */
static void
check_plugins(const QmigJob *job, GString *problems)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain) chain = NULL;

    if (job->options->direct) {
        return;
    }
    chain = qmig_chain_new((const char *const *)job->options->plugins->pdata, NULL, NULL,
                           &error);
    if (chain == NULL) {
        qmig_job_problem(problems, "%s", error->message);
    }
}

/* Likewise the directory of a capture. */
static void
check_record(const QmigJob *job, GString *problems)
{
    g_autoptr(GError) error = NULL;

    if (job->options->record != NULL &&
        !qmig_record_check(job->options->record, &error)) {
        qmig_job_problem(problems, "%s", error->message);
    }
}

bool
qmig_job_check(QmigJob *job, GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);

    check_source(&job->source, problems);
    check_destination(&job->destination, problems);
    check_machines(job, problems);
    check_blocked(job, problems);
    qmig_parts_check(job, problems);
    qmig_job_choose_settings(job, problems);
    check_identity(job, problems);
    check_plugins(job, problems);
    check_record(job, problems);
    return problems->len == 0 ||
           qmig_set_error(error, QMIG_ERROR_STATE, "%s", problems->str);
}
