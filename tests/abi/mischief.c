/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A plugin that does what the key `do=` says: change the order of events, or break rules. */
#include "qmig-plugin.h"

#include <stdlib.h>
#include <string.h>

struct mischief {
    struct qmig_host *host;
    char what[32];
    struct qmig_event held; /* reorder: goes out behind the next one */
    int has_held;
    struct qmig_next *kept; /* keep: for use at the wrong time */
};

static int
does(const struct mischief *m, const char *what)
{
    return strcmp(m->what, what) == 0;
}

static void *
mischief_open(struct qmig_host *host)
{
    struct mischief *m = calloc(1, sizeof *m);

    m->host = host;
    return m;
}

static int
mischief_config(void *handle, const char *key, const char *value)
{
    struct mischief *m = handle;

    (void)key;
    strncpy(m->what, value, sizeof m->what - 1);
    if (does(m, "fail-config")) {
        m->host->error(m->host, "no %s today\n\xff", "config");
        return -1;
    }
    return does(m, "fail-config-silently") ? -1 : 0;
}

static int
mischief_get_ready(void *handle)
{
    struct mischief *m = handle;

    if (does(m, "record")) {
        return m->host->record(m->host, "/nowhere");
    }
    if (does(m, "record-nothing")) {
        return m->host->record(m->host, "");
    }
    return does(m, "fail-get-ready-silently") ? -1 : 0;
}

#ifdef REWRITES
static int
reorder(struct mischief *m, struct qmig_next *next, const struct qmig_event *ev)
{
    if (!m->has_held) {
        m->held = *ev; /* the test's events have no payload */
        m->has_held = 1;
        return 0;
    }
    m->has_held = 0;
    return next->event(next, ev, 0) != 0 || next->event(next, &m->held, 0) != 0 ? -1 : 0;
}

static int
mischief_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
               uint32_t flags)
{
    struct mischief *m = handle;
    struct qmig_event sizeless = { 0 };

    if (does(m, "drop")) {
        return ev->kind == QMIG_EVENT_RAM_FLUSH ? 0 : next->event(next, ev, flags);
    }
    if (does(m, "double")) {
        return next->event(next, ev, flags) != 0 || next->event(next, ev, flags) != 0 ? -1
                                                                                      : 0;
    }
    if (does(m, "reorder")) {
        return reorder(m, next, ev);
    }
    if (does(m, "fail")) {
        m->host->error(m->host, "event %d is %s", ev->kind, "not for me");
        return -1;
    }
    if (does(m, "fail-silently")) {
        return -1;
    }
    if (does(m, "swallow-failure")) {
        next->event(next, ev, flags);
        return 0;
    }
    if (does(m, "send-nothing")) {
        return next->event(next, NULL, flags);
    }
    if (does(m, "send-sizeless")) {
        return next->event(next, &sizeless, flags);
    }
    m->kept = next;
    return next->event(next, ev, flags);
}

static int
mischief_idle(void *handle, struct qmig_next *next, uint64_t silent_ns)
{
    struct mischief *m = handle;

    if (does(m, "fail-idle")) {
        m->host->error(m->host, "silent for %u ms", (unsigned)(silent_ns / 1000000));
        return -1;
    }
    if (!does(m, "reorder") || !m->has_held) {
        return 0;
    }
    m->has_held = 0;
    return next->event(next, &m->held, 0);
}
#else
static void
mischief_observe(void *handle, const struct qmig_event *ev, uint32_t flags)
{
    (void)handle, (void)ev, (void)flags;
}
#endif

static int
mischief_finish(void *handle, struct qmig_next *next)
{
    struct mischief *m = handle;
    struct qmig_event ev = { 0 };

    if (m->has_held) {
        return next->event(next, &m->held, 0);
    }
    if (does(m, "fail-finish-silently")) {
        return -1;
    }
    if (does(m, "record-late")) {
        return m->host->record(m->host, "/nowhere");
    }
    if (does(m, "send-in-finish")) {
        ev.size = sizeof ev;
        ev.kind = QMIG_EVENT_EOF;
        return next->event(next, &ev, 0);
    }
    return 0;
}

static void
mischief_report(void *handle, struct qmig_report *r)
{
    struct mischief *m = handle;
    struct qmig_event ev = { 0 };

    if (does(m, "end-too-often")) {
        r->end(r);
    }
    if (does(m, "never-end")) {
        r->begin_group(r, "open");
    }
    for (int i = 0; does(m, "go-deep") && i < 1000; i++) {
        r->begin_list(r, "deep");
    }
    if (does(m, "no-key")) {
        r->number(r, NULL, 1);
    }
    if (does(m, "same-key")) {
        r->number(r, "key", 1);
        r->number(r, "key", 2);
    }
    if (does(m, "bad-text")) {
        r->text(r, "text", "a\xff");
        r->text(r, "null", NULL);
    }
    if (does(m, "outcome")) {
        const struct qmig_outcome *outcome = m->host->outcome(m->host);

        r->text(r, "failure", outcome->failure);
        r->number(r, "has_pong", outcome->has_pong);
        r->number(r, "last_pong", outcome->last_pong);
    }
    if (does(m, "send-in-report") && m->kept != NULL) {
        ev.size = sizeof ev;
        r->number(r, "result", m->kept->event(m->kept, &ev, 0) == 0);
    }
}

static struct qmig_plugin plugin = {
    .name = "mischief",
    .open = mischief_open,
    .config = mischief_config,
    .get_ready = mischief_get_ready,
#ifdef REWRITES
    .event = mischief_event,
    .idle = mischief_idle,
#else
    .observe = mischief_observe,
#endif
    .finish = mischief_finish,
    .report = mischief_report,
    .close = free,
};

QMIG_REGISTER_PLUGIN(plugin)
