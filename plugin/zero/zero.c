/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages that are all zero and travel as data become zero records. QEMU looks for zeroes itself,
 * unless it was told not to (zero-page-detection=none), or the guest cleared the page between its
 * look and the sending.
 */
#include "compress/zero.h"
#include "qmig-plugin.h"

#include <stdlib.h>

struct zero {
    struct qmig_host *host;
    uint64_t pages, found; /* pages sent as data; those of them that were zero */
    uint64_t bytes_saved;
};

static void *
zero_open(struct qmig_host *host)
{
    struct zero *z = calloc(1, sizeof *z);

    if (z == NULL) {
        host->error(host, "no memory");
        return NULL;
    }
    z->host = host;
    return z;
}

static int
zero_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
           uint32_t flags)
{
    static const uint8_t fill = 0;
    struct zero *z = handle;

    if (ev->kind != QMIG_EVENT_PAGE || ev->u.page.kind != QMIG_PAGE_NORMAL) {
        return next->event(next, ev, flags);
    }
    z->pages++;
    if (!qmig_is_zero(ev->u.page.data, ev->u.page.length)) {
        return next->event(next, ev, flags);
    }
    struct qmig_event zero = *ev;
    zero.u.page.kind = QMIG_PAGE_ZERO;
    zero.u.page.data = &fill;
    zero.u.page.length = 1;
    if (zero.wire_size > ev->u.page.length) { /* another plugin may not have told it */
        zero.wire_size -= ev->u.page.length - 1;
    }
    z->found++;
    z->bytes_saved += ev->u.page.length - 1;
    return next->event(next, &zero, flags);
}

static void
zero_report(void *handle, struct qmig_report *report)
{
    const struct zero *z = handle;

    report->number(report, "pages", z->pages);
    report->number(report, "zero", z->found);
    report->number(report, "bytes_saved", z->bytes_saved);
}

/* Behind it a cleared page would be what changed in it, which may be all of its bytes. */
static const char *const not_after[] = { "xbzrle", NULL };

static struct qmig_plugin plugin = {
    .name = "zero",
    .description = "send pages of zeroes as one byte, where the source sent them whole",
    .open = zero_open,
    .event = zero_event,
    .report = zero_report,
    .close = free,
    .not_after = not_after,
};

QMIG_REGISTER_PLUGIN(plugin)
