/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Part: memory that does not travel because both QEMUs have mapped it (x-ignore-shared). QEMU
 * takes the user's word for that; two different files would be a guest with the wrong memory.
 * Each shared backend of the source must be the same file on the destination, as this host's
 * kernel sees it.
 */
#include "job/part.h"

#include <string.h>
#include <sys/stat.h>

/* The file of a backend: its path, and what that is for the QEMU's process. */
static bool
find_file(const QmigSide *side, const char *id, char **path, struct stat *st)
{
    g_autofree char *object = g_strdup_printf("/objects/%s", id), *seen = NULL;
    g_autoptr(JsonObject) result = NULL;
    JsonObject *arguments = json_object_new_object();
    struct ucred peer;

    json_object_object_add(arguments, "path", json_object_new_string(object));
    json_object_object_add(arguments, "property", json_object_new_string("mem-path"));
    if (!qmig_qmp_execute(side->qmp, "qom-get", arguments, &result, NULL, NULL) ||
        !json_object_is_type(result, json_type_string)) {
        return false;
    }
    *path = g_strdup(json_object_get_string(result));
    if (!side->is_local || !qmig_qmp_peer(side->qmp, &peer) || **path != '/') {
        return false;
    }
    /* It may live in another mount namespace. */
    seen = g_strdup_printf("/proc/%d/root%s", (int)peer.pid, *path);
    return stat(seen, st) == 0 && S_ISREG(st->st_mode);
}

/* Is its file the one of the destination's backend of the same id? */
static void
check_backend(QmigJob *job, const char *id, GString *problems)
{
    g_autofree char *ours = NULL, *theirs = NULL;
    struct stat source, destination;
    bool found = find_file(&job->source, id, &ours, &source) &&
                 find_file(&job->destination, id, &theirs, &destination);

    if (found && source.st_dev == destination.st_dev &&
        source.st_ino == destination.st_ino) {
        return;
    }
    if (job->options->unsafe) {
        qmig_job_message(
            job,
            "memory \"%s\" does not travel; that both sides have the same is "
            "not proven (--unsafe)",
            id);
        return;
    }
    qmig_job_problem(
        problems,
        "x-ignore-shared (--ignore-shared): memory \"%s\": source %s, destination %s: %s; "
        "give both the same -object memory-backend-file,id=%s,mem-path=…,share=on, or add "
        "--unsafe",
        id, ours != NULL ? ours : "no file", theirs != NULL ? theirs : "not known",
        found ? "two files" : "not proven to be the same file", id);
}

static void
check(QmigJob *job, GString *problems)
{
    g_autoptr(JsonObject) list = NULL;
    g_autoptr(GError) error = NULL;
    bool any = false;

    if (!json_object_object_get_ex(job->options->capabilities, "x-ignore-shared", NULL)) {
        return;
    }
    if (!qmig_qmp_execute(job->source.qmp, "query-memdev", NULL, &list, NULL, &error) ||
        !json_object_is_type(list, json_type_array)) {
        qmig_job_problem(problems, "%s",
                         error != NULL ? error->message
                                       : "source: query-memdev: no list");
        return;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *backend = json_object_array_get_idx(list, i);
        const char *id = qmig_json_string(backend, "id");

        if (qmig_json_bool(backend, "share", false) && id != NULL && id[0] != '\0') {
            any = true;
            check_backend(job, id, problems);
        }
    }
    if (!any) {
        qmig_job_problem(problems,
                         "source: x-ignore-shared (--ignore-shared): it has no shared "
                         "memory: leave the option out");
    }
}

const QmigPart qmig_shared_part = { .name = "shared", .check = check };
