/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes down every call it gets: `log=FILE` (appended to), `as=NAME`, then any key. */
#include "qmig-plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trace {
    FILE *log;
    char as[32];
};

static void *
trace_open(struct qmig_host *host)
{
    struct trace *t = calloc(1, sizeof *t);

    (void)host;
    t->log = tmpfile(); /* what comes before the log's name is known */
    strcpy(t->as, "?");
    return t;
}

static int
trace_config(void *handle, const char *key, const char *value)
{
    struct trace *t = handle;

    if (strcmp(key, "log") == 0) {
        fclose(t->log);
        t->log = fopen(value, "a");
        setvbuf(t->log, NULL, _IONBF, 0); /* two instances write to one file */
        fprintf(t->log, "?: open\n");
        return 0;
    }
    if (strcmp(key, "as") == 0) {
        snprintf(t->as, sizeof t->as, "%s", value);
    }
    fprintf(t->log, "%s: config %s=%s\n", t->as, key, value);
    return 0;
}

static int
trace_get_ready(void *handle)
{
    struct trace *t = handle;

    fprintf(t->log, "%s: get_ready\n", t->as);
    return 0;
}

#ifdef REWRITES
static int
trace_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
            uint32_t flags)
{
    struct trace *t = handle;

    fprintf(t->log, "%s: event %u flags %u\n", t->as, ev->kind, (unsigned)flags);
    int result = next->event(next, ev, 0);
    fprintf(t->log, "%s: event done\n", t->as);
    return result;
}
#endif

static void
trace_observe(void *handle, const struct qmig_event *ev, uint32_t flags)
{
    struct trace *t = handle;

    fprintf(t->log, "%s: observe %u flags %u\n", t->as, ev->kind, (unsigned)flags);
}

static int
trace_finish(void *handle, struct qmig_next *next)
{
    struct trace *t = handle;

    (void)next;
    fprintf(t->log, "%s: finish\n", t->as);
    return 0;
}

static void
trace_report(void *handle, struct qmig_report *report)
{
    struct trace *t = handle;

    (void)report;
    fprintf(t->log, "%s: report\n", t->as);
}

static void
trace_close(void *handle)
{
    struct trace *t = handle;

    fprintf(t->log, "%s: close\n", t->as);
    fclose(t->log);
    free(t);
}

static struct qmig_plugin plugin = {
    .name = "trace",
    .open = trace_open,
    .config = trace_config,
    .get_ready = trace_get_ready,
    .observe = trace_observe,
#ifdef REWRITES
    .event = trace_event,
#endif
    .finish = trace_finish,
    .report = trace_report,
    .close = trace_close,
};

QMIG_REGISTER_PLUGIN(plugin)
