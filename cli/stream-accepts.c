/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream accepts: what a QEMU takes, as the plugin `guard` reads it. */
#include "cli/stream.h"
#include "inspect/check.h"
#include "util/error.h"

#include <string.h>
#include <sys/wait.h>

static struct {
    char *qmp, *machine, *binary, *like;
} arg;

static const GOptionEntry entries[] = {
    { "qmp", 0, 0, G_OPTION_ARG_STRING, &arg.qmp,
      "Ask the QEMU at this monitor: machine, vCPUs, memory blocks, PCI devices", "QMP" },
    { "qemu", 0, 0, G_OPTION_ARG_FILENAME, &arg.binary,
      "Add the versions of its devices (runs it with -dump-vmstate)", "BINARY" },
    { "machine", 0, 0, G_OPTION_ARG_STRING, &arg.machine, "Machine type for --qemu",
      "TYPE" },
    { "like", 0, 0, G_OPTION_ARG_FILENAME, &arg.like,
      "Add the exact list of devices, from a stream of a QEMU that has the same",
      "INPUT" },
    G_OPTION_ENTRY_NULL
};

char *
cli_dump_vmstate(const char *binary, const char *machine, char **refusal, GError **error)
{
    char *argv[] = {
        (char *)binary,          (char *)"-machine",    (char *)(machine ?: "none"),
        (char *)"-dump-vmstate", (char *)"/dev/stdout", NULL
    };
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) local = NULL;
    int status;

    if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err,
                      &status, &local)) {
        qmig_set_error(error, QMIG_ERROR_IO, "%s", local->message);
        return NULL;
    }
    if (WIFSIGNALED(status)) {
        qmig_set_error(error, QMIG_ERROR_IO, "%s -dump-vmstate: ended by signal %d: %s",
                       binary, WTERMSIG(status), g_strstrip(err));
        return NULL;
    }
    if (!g_spawn_check_wait_status(status, NULL)) {
        *refusal = g_strdup(g_strstrip(err));
        return NULL;
    }
    return g_steal_pointer(&out);
}

static bool
ask_monitor(JsonObject *accepts, GError **error)
{
    g_autoptr(QmigQmp) qmp = arg.qmp != NULL ? cli_connect(arg.qmp, error) : NULL;

    return arg.qmp == NULL || (qmp != NULL && qmig_accepts_of_qmp(accepts, qmp, error));
}

static bool
ask_binary(JsonObject *accepts, GError **error)
{
    const char *machine = arg.machine != NULL ? arg.machine
                                              : qmig_json_string(accepts, "machine");
    g_autofree char *refusal = NULL;

    if (arg.binary == NULL) {
        return true;
    }
    g_autofree char *dump = cli_dump_vmstate(arg.binary, machine, &refusal, error);
    if (refusal != NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: %s", arg.binary, refusal);
    }
    if (dump == NULL || !qmig_accepts_of_vmstate(accepts, dump, strlen(dump), error)) {
        return false;
    }
    if (machine != NULL) {
        json_object_object_add(accepts, "machine", json_object_new_string(machine));
    }
    return true;
}

/* The devices of a stream; and what else is in it, unless a QEMU has been asked for that. */
static bool
read_like(JsonObject *accepts, GError **error)
{
    static const char *const members[] = { "machine", "blocks", "sections" };
    g_autoptr(JsonObject) check = NULL;

    if (arg.like == NULL) {
        return true;
    }
    check = qmig_check_read(arg.like, cli_stream_progress(), error);
    if (check == NULL) {
        return false;
    }
    JsonObject *needs = qmig_json_get(check, "needs", json_type_object);
    JsonObject *sections = qmig_json_get(needs, "sections", json_type_array);
    if (sections == NULL || json_object_array_length(sections) == 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%s: its devices could not be read", arg.like);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(members); i++) {
        JsonObject *value = NULL;
        if (!json_object_object_get_ex(accepts, members[i], NULL) &&
            json_object_object_get_ex(needs, members[i], &value)) {
            json_object_object_add(accepts, members[i], json_object_get(value));
        }
    }
    return true;
}

int
cli_stream_accepts(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) accepts = qmig_accepts_new_description();

    if (!cli_parse(
            &argc, &argv, entries, "",
            "For `--plugin guard:accepts=FILE`. What is not asked for is not checked.\n"
            "Exit: 0 described, 1 usage, or it could not be asked.\n",
            0, 0)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (arg.qmp == NULL && arg.binary == NULL && arg.like == NULL) {
        qmig_set_error(&error, QMIG_ERROR_CONFIG, "--qmp, --qemu or --like is needed");
    } else if (ask_monitor(accepts, &error) && ask_binary(accepts, &error) &&
               read_like(accepts, &error)) {
        cli_print_json(accepts);
        return 0;
    }
    return cli_fail("stream accepts", error, QMIG_OUTCOME_USAGE);
}
