/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * trip.so:file=PATH: from the moment PATH exists the plugin gives up, and with it the proxy. Until
 * then it looks on.
 */
#include "qmig-plugin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Looking costs a system call: once in so many events. */
#define LOOK_EVERY 16

struct trip {
    struct qmig_host *host;
    char *path;
    unsigned events;
};

static void *
trip_open(struct qmig_host *host)
{
    struct trip *t = calloc(1, sizeof *t);

    if (t != NULL) {
        t->host = host;
    }
    return t;
}

static int
trip_config(void *handle, const char *key, const char *value)
{
    struct trip *t = handle;

    if (strcmp(key, "file") != 0) {
        t->host->error(t->host, "trip: key \"%s\", wanted file", key);
        return -1;
    }
    free(t->path);
    t->path = strdup(value);
    return 0;
}

static int
trip_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
           uint32_t flags)
{
    struct trip *t = handle;

    if (t->path != NULL && t->events++ % LOOK_EVERY == 0 && access(t->path, F_OK) == 0) {
        t->host->error(t->host, "trip: %s is there", t->path);
        return -1;
    }
    return next->event(next, ev, flags);
}

static void
trip_close(void *handle)
{
    struct trip *t = handle;

    free(t->path);
    free(t);
}

static struct qmig_plugin plugin = {
    .name = "trip",
    .open = trip_open,
    .config = trip_config,
    .event = trip_event,
    .close = trip_close,
};
QMIG_REGISTER_PLUGIN(plugin)
