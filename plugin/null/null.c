/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A rewriter that changes nothing: sends the stream through the encoder. */
#include "qmig-plugin.h"

static int
null_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
           uint32_t flags)
{
    (void)handle;
    return next->event(next, ev, flags);
}

static struct qmig_plugin plugin = {
    .name = "null",
    .description = "decode and encode the stream, changing nothing",
    .event = null_event,
};

QMIG_REGISTER_PLUGIN(plugin)
