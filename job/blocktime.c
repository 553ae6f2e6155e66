/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Part: what the destination measured of post-copy (postcopy-blocktime), for the report. */
#include "job/part.h"

#include <string.h>

static void
done(QmigJob *job)
{
    static const char prefix[] = "postcopy-";
    g_autoptr(JsonObject) reply = NULL;
    g_autoptr(GError) error = NULL;

    if (!json_object_object_get_ex(job->destination_caps, "postcopy-blocktime", NULL)) {
        return;
    }
    if (!qmig_qmp_execute(job->destination.qmp, "query-migrate", NULL, &reply, NULL,
                          &error) ||
        !json_object_is_type(reply, json_type_object)) {
        qmig_job_message(job, "no blocktime: %s",
                         error != NULL ? error->message : "an odd answer");
        return;
    }
    job->blocktime = json_object_new_object();
    json_object_object_foreach(reply, name, value)
    {
        if (g_str_has_prefix(name, prefix)) {
            json_object_object_add(job->blocktime, name + strlen(prefix),
                                   json_object_get(value));
        }
    }
}

static void
release(QmigJob *job)
{
    json_object_put(job->blocktime);
}

const QmigPart qmig_blocktime_part = { .name = "blocktime",
                                       .done = done,
                                       .free = release };
