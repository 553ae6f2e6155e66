/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A capture of the whole migration, by key. The host writes it: a plugin sees one channel, a
 * capture has all of them, both ways, encrypted ones too.
 */
#include "qmig-plugin.h"

#include <stdlib.h>
#include <string.h>

struct record {
    struct qmig_host *host;
    char *directory; /* owned; NULL: not said yet */
};

static void *
record_open(struct qmig_host *host)
{
    struct record *r = calloc(1, sizeof *r);

    if (r == NULL) {
        host->error(host, "no memory");
        return NULL;
    }
    r->host = host;
    return r;
}

static int
record_config(void *handle, const char *key, const char *value)
{
    struct record *r = handle;

    if (strcmp(key, "directory") != 0) {
        r->host->error(r->host, "%s=%s: want directory=DIR", key, value);
        return -1;
    }
    free(r->directory);
    r->directory = malloc(strlen(value) + 1);
    if (r->directory == NULL) {
        r->host->error(r->host, "no memory");
        return -1;
    }
    strcpy(r->directory, value);
    return 0;
}

static int
record_get_ready(void *handle)
{
    struct record *r = handle;

    if (r->directory == NULL) {
        r->host->error(r->host,
                       "directory=DIR is missing: where the capture goes, new or "
                       "empty");
        return -1;
    }
    return r->host->record(r->host, r->directory);
}

static void
record_report(void *handle, struct qmig_report *report)
{
    struct record *r = handle;

    report->text(report, "directory", r->directory);
}

static void
record_close(void *handle)
{
    struct record *r = handle;

    free(r->directory);
    free(r);
}

static struct qmig_plugin plugin = {
    .name = "record",
    .description = "write all connections of the migration into a directory",
    .config_help = "directory=DIR  where; new or empty\n",
    .open = record_open,
    .config = record_config,
    .get_ready = record_get_ready,
    .report = record_report,
    .close = record_close,
};

QMIG_REGISTER_PLUGIN(plugin)
