/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies of events: one block of memory, the event first, then what its pointers point to. */
#include "plugin/guard/copy.h"

#include <string.h>

enum { ALIGN = 16, POINTERS_MAX = 2 };

/* A member that points to something, and how much of it there is. */
typedef struct {
    const void **member;
    size_t bytes;
} Pointer;

static void
add(Pointer *list, unsigned *n, const void **member, uint64_t bytes)
{
    list[(*n)++] = (Pointer){ member, *member != NULL ? (size_t)bytes : 0 };
}

#define TEXT(pointer, length) \
    add(list, &n, (const void **)&(pointer), (uint64_t)(length) + 1)
#define DATA(pointer, length) add(list, &n, (const void **)&(pointer), (length))

/* Return: how many. */
static unsigned
pointers(struct qmig_event *ev, Pointer *list)
{
    unsigned n = 0;

    switch (ev->kind) {
    case QMIG_EVENT_CONFIG:
        DATA(ev->u.config.machine, ev->u.config.length);
        break;
    case QMIG_EVENT_CONFIG_SUB:
        TEXT(ev->u.config_sub.name, ev->u.config_sub.name_length);
        DATA(ev->u.config_sub.data, ev->u.config_sub.length);
        break;
    case QMIG_EVENT_SECTION:
        TEXT(ev->u.section.name, ev->u.section.name_length);
        break;
    case QMIG_EVENT_PAGE:
        DATA(ev->u.page.data, ev->u.page.length);
        break;
    case QMIG_EVENT_COMMAND:
        DATA(ev->u.command.data, ev->u.command.length);
        break;
    case QMIG_EVENT_BYTES:
        DATA(ev->u.bytes.data, ev->u.bytes.length);
        break;
    case QMIG_EVENT_DIRTY_BITMAP:
        TEXT(ev->u.dirty_bitmap.node, ev->u.dirty_bitmap.node_length);
        TEXT(ev->u.dirty_bitmap.bitmap, ev->u.dirty_bitmap.bitmap_length);
        break;
    case QMIG_EVENT_DISK_BLOCK:
        TEXT(ev->u.disk_block.device, ev->u.disk_block.device_length);
        break;
    case QMIG_EVENT_DEVICE:
        TEXT(ev->u.device.name, strlen(ev->u.device.name));
        DATA(ev->u.device.data, ev->u.device.length);
        break;
    case QMIG_EVENT_DESCRIPTION:
        DATA(ev->u.description.json, ev->u.description.length);
        break;
    case QMIG_EVENT_RAW:
        TEXT(ev->u.raw.reason, strlen(ev->u.raw.reason));
        break;
    case QMIG_EVENT_END:
        TEXT(ev->u.end.reason, strlen(ev->u.end.reason));
        break;
    default:
        break;
    }
    return n;
}

static size_t
rounded(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

size_t
qmig_copy_size(const struct qmig_event *ev)
{
    struct qmig_event copy = *ev;
    Pointer list[POINTERS_MAX];
    unsigned n = pointers(&copy, list);
    size_t size = sizeof copy;

    for (unsigned i = 0; i < n; i++) {
        size += list[i].bytes;
    }
    return rounded(size);
}

struct qmig_event *
qmig_copy_into(void *memory, const struct qmig_event *ev)
{
    struct qmig_event *copy = memory;
    uint8_t *end = (uint8_t *)memory + sizeof *copy;
    Pointer list[POINTERS_MAX];

    *copy = *ev;
    unsigned n = pointers(copy, list);
    for (unsigned i = 0; i < n; i++) {
        if (list[i].bytes > 0) {
            memcpy(end, *list[i].member, list[i].bytes);
            *list[i].member = end;
            end += list[i].bytes;
        }
    }
    return copy;
}
