/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Built twice, as corrupt.so and truncate.so: a stream that goes bad after 1000 pages. CORRUPT
 * puts bytes between two records that no destination understands; else the plugin gives up.
 */
#include "qmig-plugin.h"

#include <stdlib.h>

struct fault {
    struct qmig_host *host;
    unsigned pages;
};

static void *
fault_open(struct qmig_host *host)
{
    struct fault *f = calloc(1, sizeof *f);

    if (f != NULL) {
        f->host = host;
    }
    return f;
}

static int
fault_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
            uint32_t flags)
{
    struct fault *f = handle;

    if (ev->kind == QMIG_EVENT_PAGE && ++f->pages == 1000) {
#ifdef CORRUPT
        static const uint8_t junk[] = "\xff\xff\xff\xff\xff\xff\xff\xff garbage";
        struct qmig_event bad = { .size = sizeof bad, .kind = QMIG_EVENT_BYTES };

        bad.u.bytes.kind = QMIG_BYTES_RAW;
        bad.u.bytes.data = junk;
        bad.u.bytes.length = sizeof junk;
        if (next->event(next, &bad, 0) < 0) {
            return -1;
        }
#else
        f->host->error(f->host, "truncate: %u pages are enough", f->pages);
        return -1;
#endif
    }
    return next->event(next, ev, flags);
}

static struct qmig_plugin plugin = {
    .name = "fault",
    .open = fault_open,
    .event = fault_event,
    .close = free,
};
QMIG_REGISTER_PLUGIN(plugin)
