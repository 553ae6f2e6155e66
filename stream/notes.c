/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is learnt once a whole piece has gone by: the device sections of the tail, of a package,
 * of a checkpoint; the description; and after the last byte, whether the stream was complete.
 * One note for each call, so that the decoder's one-event interface holds to the end.
 */
#include "stream/decoder-priv.h"
#include "stream/format.h"
#include "stream/package.h"
#include "stream/tail.h"

#include <inttypes.h>

/* Type byte, be32 id. */
enum { FOOTER_SIZE = 5 };

struct QmigNotes {
    QmigTail tail; /* of what is in decoder.kept */
    guint next_device;
    GArray *items; /* QmigPackageItem, owned (nullable): likewise */
    guint next_item;
    char name[256]; /* of the item given last */
    bool description_due;
    bool end_due;
    bool complete;
    char *reason; /* owned; why it is not complete, or "" */
};

static const char *const state_texts[] = {
    [STATE_HEADER] = "inside the header",
    [STATE_AFTER_HEADER] = "right after the header",
    [STATE_AFTER_CONFIG] = "right after the configuration",
    [STATE_ITEM] = "between sections, without an end",
    [STATE_RAM] = "inside a RAM section",
    [STATE_RAM_LIST] = "inside the list of RAM blocks",
    [STATE_MAPPED_PAGE] = "between the pages of a mapped-ram block",
    [STATE_BITMAP] = "inside a dirty-bitmap section",
    [STATE_DISK] = "inside a disk section",
    [STATE_VFIO] = "inside a VFIO section",
    [STATE_FOOTER] = "before the footer of a section",
    [STATE_COLO] = "inside a message between checkpoints",
};

static const char *const bulk_texts[] = {
    [QMIG_BYTES_PACKAGED] = "packaged device state",
    [QMIG_BYTES_PADDING] = "the padding of a mapped-ram file",
    [QMIG_BYTES_DEVICE] = "a device section",
    [QMIG_BYTES_VMSTATE] = "the device state of a checkpoint",
    [QMIG_BYTES_DISK] = "a block of a disk",
    [QMIG_BYTES_BITMAP] = "the bits of a dirty bitmap",
    [QMIG_BYTES_MAPPED_BITMAP] = "the page bitmap of a mapped-ram block",
    [QMIG_BYTES_VFIO] = "the data of a VFIO device",
};

static QmigNotes *
fresh_notes(QmigDecoder *d)
{
    qmig_notes_free(d->notes);
    d->notes = g_new0(QmigNotes, 1);
    return d->notes;
}

void
qmig_notes_free(QmigNotes *notes)
{
    if (notes != NULL) {
        qmig_tail_clear(&notes->tail);
        g_clear_pointer(&notes->items, g_array_unref);
        g_free(notes->reason);
        g_free(notes);
    }
}

bool
qmig_notes_tail(QmigDecoder *d, size_t eof_at, size_t end)
{
    QmigTail tail;

    g_clear_error(&d->tail_error);
    if (!qmig_tail_parse(d->kept->data, eof_at, end, d->footers != FOOTERS_OFF, &tail,
                         &d->tail_error)) {
        return false;
    }
    QmigNotes *notes = fresh_notes(d);
    notes->tail = tail;
    notes->description_due = true;
    return true;
}

void
qmig_notes_package(QmigDecoder *d, size_t len)
{
    if (d->kept != NULL) {
        fresh_notes(d)->items = qmig_package_split(d->kept->data, len);
    }
}

/* A tail whose machine sends no description (suppress-vmdesc): it ends with its EOF byte. */
static bool
read_undescribed_tail(QmigDecoder *d)
{
    size_t len = d->kept != NULL ? d->kept->len : 0;

    if (len == 0 || d->kept->data[len - 1] != WIRE_EOF) {
        return false;
    }
    if (len > 1) {
        qmig_notes_package(d, len - 1);
    }
    return len == 1 || d->notes->items->len > 0;
}

/* Why a stream that ends here is not complete. (transfer full); "" when it is */
static char *
reason_of_end(const QmigDecoder *d)
{
    bool is_between = d->window.carry_len == 0;

    switch ((int)d->state) {
    case STATE_RAW:
        return g_strdup_printf("not read: %s", d->raw_reason);
    case STATE_TAIL:
        if (d->kept == NULL) {
            return g_strdup("the device state is too long to be kept and read");
        }
        return g_strdup(
            d->tail_error != NULL
                ? d->tail_error->message
                : "the stream ends inside device state: no description of it");
    case STATE_BULK:
        return g_strdup_printf("the stream ends inside %s, %" PRIu64 " bytes short",
                               bulk_texts[d->bulk_kind], d->bulk_left);
    case STATE_COLO:
    case STATE_RAM:
        if (is_between && (d->state == STATE_COLO || d->preempt)) {
            return g_strdup("");
        }
        break;
    default:
        break;
    }
    return g_strdup_printf("the stream ends %s, after %" PRIu64 " bytes",
                           state_texts[d->state], d->offset + d->window.carry_len);
}

void
qmig_notes_end(QmigDecoder *d)
{
    QmigNotes *notes = fresh_notes(d);
    bool is_whole = d->state == STATE_TAIL && read_undescribed_tail(d);

    notes = d->notes;
    notes->end_due = true;
    notes->reason = is_whole ? g_strdup("") : reason_of_end(d);
    notes->complete = notes->reason[0] == '\0';
    d->state = STATE_DONE;
}

static void
fill_device(const QmigNotes *notes, const QmigDecoder *d, struct qmig_event *ev)
{
    const QmigTailDevice *device = &g_array_index(notes->tail.devices, QmigTailDevice,
                                                  notes->next_device);

    qmig_decoder_event(d, ev, QMIG_EVENT_DEVICE);
    ev->offset = d->kept_at + device->start;
    ev->u.device = (struct qmig_event_device){
        .name = device->name,
        .instance = device->instance,
        .version = device->version,
        .section_id = device->section_id,
        .length = device->length,
        .data = d->kept->data + device->start,
    };
}

/* An item was read as one when it was proven, so nothing can be missing in it. */
static void
fill_item(QmigNotes *notes, const QmigDecoder *d, struct qmig_event *ev)
{
    const QmigPackageItem *item = &g_array_index(notes->items, QmigPackageItem,
                                                 notes->next_item);
    QmigCursor c = qmig_cursor(d->kept->data + item->start, item->end - item->start);
    struct qmig_event_device device = { .name = notes->name };
    uint16_t command = 0, length = 0;
    uint8_t type = 0, name_len;
    bool ok = qmig_cursor_u8(&c, &type);

    if (type == WIRE_COMMAND) {
        ok = ok && qmig_cursor_be16(&c, &command) && qmig_cursor_be16(&c, &length);
        g_assert(ok);
        qmig_decoder_event(d, ev, QMIG_EVENT_COMMAND);
        ev->flags |= QMIG_EVENT_NOTE;
        ev->offset = d->kept_at + item->start;
        ev->u.command = (struct qmig_event_command){ command, length, c.p };
        return;
    }
    ok = ok && qmig_cursor_be32(&c, &device.section_id) &&
         qmig_cursor_cstr(&c, notes->name, &name_len) &&
         qmig_cursor_be32(&c, &device.instance) && qmig_cursor_be32(&c, &device.version);
    g_assert(ok);
    device.data = c.p;
    device.length = qmig_cursor_left(&c) - FOOTER_SIZE;
    qmig_decoder_event(d, ev, QMIG_EVENT_DEVICE);
    ev->offset = d->kept_at + (uint64_t)(c.p - d->kept->data);
    ev->u.device = device;
}

bool
qmig_notes_next(QmigDecoder *d, struct qmig_event *ev)
{
    QmigNotes *notes = d->notes;

    if (notes->items != NULL && notes->next_item < notes->items->len) {
        fill_item(notes, d, ev);
        notes->next_item++;
        return true;
    }

    if (notes->tail.devices != NULL && notes->next_device < notes->tail.devices->len) {
        fill_device(notes, d, ev);
        notes->next_device++;
        return true;
    }
    if (notes->description_due) {
        notes->description_due = false;
        qmig_decoder_event(d, ev, QMIG_EVENT_DESCRIPTION);
        ev->offset = d->kept_at + notes->tail.json;
        ev->u.description.json = (const char *)d->kept->data + notes->tail.json;
        ev->u.description.length = notes->tail.json_len;
        return true;
    }
    if (notes->end_due) {
        notes->end_due = false;
        qmig_decoder_event(d, ev, QMIG_EVENT_END);
        ev->u.end.complete = notes->complete;
        ev->u.end.reason = notes->reason;
        return true;
    }
    return false;
}
