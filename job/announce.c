/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Part: the guest's new place is announced to the network's switches when it runs there. QEMU
 * does so by itself when it has loaded the guest, which here is before it may run it: what comes
 * back for the guest until `cont` is lost, and a switch may have learned the old place again.
 */
#include "job/part.h"

static bool
after_cont(QmigJob *job, GError **error)
{
    static const struct {
        const char *parameter, *argument;
    } rows[] = {
        { "announce-initial", "initial" },
        { "announce-max", "max" },
        { "announce-rounds", "rounds" },
        { "announce-step", "step" },
    };
    g_autoptr(GError) local = NULL;
    JsonObject *arguments = NULL;

    (void)error;
    if (!job->cont_sent || job->destination.schema == NULL ||
        !qmig_schema_has_command(job->destination.schema, "announce-self")) {
        return true;
    }
    arguments = json_object_new_object();
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        JsonObject *value = NULL;

        if (json_object_object_get_ex(job->destination_params, rows[i].parameter,
                                      &value) ||
            json_object_object_get_ex(job->destination.parameters, rows[i].parameter,
                                      &value)) {
            json_object_object_add(arguments, rows[i].argument, json_object_get(value));
        }
    }
    if (!qmig_qmp_execute(job->destination.qmp, "announce-self", arguments, NULL, NULL,
                          &local)) {
        qmig_job_message(job, "the network was not told again where the guest is: %s",
                         local->message);
    }
    return true;
}

const QmigPart qmig_announce_part = { .name = "announce",
                                      .recovers = true,
                                      .after_cont = after_cont };
