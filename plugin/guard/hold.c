/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was sent lies in `sent` until the next sending: payloads must outlive `event`. */
#include "plugin/guard/hold.h"

#include "plugin/guard/copy.h"

struct QmigHold {
    GPtrArray *events, *sent; /* struct qmig_event *, each a block of memory */
    size_t bytes;
};

QmigHold *
qmig_hold_new(void)
{
    QmigHold *h = g_new0(QmigHold, 1);

    h->events = g_ptr_array_new_with_free_func(g_free);
    h->sent = g_ptr_array_new_with_free_func(g_free);
    return h;
}

void
qmig_hold_free(QmigHold *h)
{
    if (h != NULL) {
        g_ptr_array_unref(h->events);
        g_ptr_array_unref(h->sent);
        g_free(h);
    }
}

void
qmig_hold_add(QmigHold *h, const struct qmig_event *ev)
{
    size_t size = qmig_copy_size(ev);

    h->bytes += size;
    g_ptr_array_add(h->events, qmig_copy_into(g_malloc(size), ev));
}

size_t
qmig_hold_bytes(const QmigHold *h)
{
    return h->bytes;
}

const GPtrArray *
qmig_hold_events(const QmigHold *h)
{
    return h->events;
}

void
qmig_hold_drop(QmigHold *h)
{
    GPtrArray *empty = h->sent;

    g_ptr_array_set_size(empty, 0);
    h->sent = h->events;
    h->events = empty;
    h->bytes = 0;
}

int
qmig_hold_send(QmigHold *h, struct qmig_next *next)
{
    int result = 0;

    for (guint i = 0; i < h->events->len && result == 0; i++) {
        result = next->event(next, h->events->pdata[i], 0);
    }
    qmig_hold_drop(h);
    return result;
}
