/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A plugin built against the frozen copy of the headers: must work with every later qmig. */
#include "plugin-v1.h"

#include <stdlib.h>

struct frozen {
    struct qmig_host *host;
    uint64_t events, page_offsets, wire_bytes;
};

static void *
frozen_open(struct qmig_host *host)
{
    struct frozen *f = calloc(1, sizeof *f);

    f->host = host;
    return f;
}

static int
frozen_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
             uint32_t flags)
{
    struct frozen *f = handle;

    f->events++;
    f->wire_bytes += ev->wire_size;
    if (ev->kind == QMIG_EVENT_PAGE) {
        f->page_offsets += ev->u.page.offset;
    }
    return next->event(next, ev, flags);
}

static int
frozen_finish(void *handle, struct qmig_next *next)
{
    struct qmig_event ev = { 0 };

    (void)handle;
    ev.size = sizeof ev; /* that of version 1 */
    ev.kind = QMIG_EVENT_EOF;
    return next->event(next, &ev, 0);
}

static void
frozen_report(void *handle, struct qmig_report *r)
{
    const struct frozen *f = handle;

    r->number(r, "events", f->events);
    r->number(r, "wire_bytes", f->wire_bytes);
    r->number(r, "page_offsets", f->page_offsets);
    r->begin_group(r, "group");
    r->begin_list(r, "list");
    r->text(r, NULL, "text");
    r->end(r);
    r->number(r, "clock", f->host->now_ns(f->host) > 0);
    r->end(r);
}

static struct qmig_plugin plugin = {
    .name = "frozen",
    .open = frozen_open,
    .event = frozen_event,
    .finish = frozen_finish,
    .report = frozen_report,
    .close = free,
};

QMIG_REGISTER_PLUGIN(plugin)
