/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Do the two sides fit? Nothing is touched here; all problems are found before any is told. */
#include "job/part.h"
#include "job/preflight.h"
#include "job/rehearsal.h"
#include "plugin/chain.h"
#include "proxy/record.h"
#include "util/error.h"

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

/* The directory of a capture, whoever asks for it. */
static void
check_record(const QmigJob *job, const char *plugin, GString *problems)
{
    g_autoptr(GError) error = NULL;
    const char *directory = NULL;

    if (!qmig_record_choose(job->options->record, plugin, &directory, &error) ||
        (directory != NULL && !qmig_record_check(directory, &error))) {
        qmig_job_problem(problems, "%s", error->message);
    }
}

/* The refusal of a plugin must come before anything is touched. */
static void
check_plugins(QmigJob *job, GString *problems)
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
    } else if (qmig_chain_rewrites(chain) &&
               json_object_object_get_ex(job->source_caps, "multifd", NULL)) {
        qmig_job_message(job,
                         "multifd: plugins see the main channel; pages travel on others "
                         "and pass as they came");
    }
    check_record(job, chain != NULL ? qmig_chain_record(chain) : NULL, problems);
}

bool
qmig_job_check(QmigJob *job, GError **error)
{
    g_autoptr(GString) problems = g_string_new(NULL);

    job->preflight = qmig_preflight_run(job, problems);
    gsize n_told = problems->len;
    qmig_parts_check(job, problems);
    qmig_job_choose_settings(job, problems);
    check_identity(job, problems);
    check_plugins(job, problems);
    qmig_preflight_add_problems(job->preflight, problems->str + n_told);
    qmig_rehearsal_go(job);
    return problems->len == 0 ||
           qmig_set_error(error, QMIG_ERROR_STATE, "%s", problems->str);
}
