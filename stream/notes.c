/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is said after the last byte: the device sections of the tail, the description, and
 * whether the stream was complete. One note for each call, so that the decoder's one-event
 * interface holds to the end.
 */
#include "stream/decoder-priv.h"
#include "stream/format.h"
#include "stream/tail.h"

#include <inttypes.h>

struct QmigNotes {
    QmigTail tail;
    guint next_device;
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
    [STATE_FOOTER] = "before the footer of a section",
    [STATE_PACKAGED] = "inside packaged device state",
    [STATE_TAIL] = "inside device state",
};

/* The tail has ended: is its description there, and does it fit? */
static void
read_tail(QmigNotes *notes, const QmigDecoder *d)
{
    g_autoptr(GError) error = NULL;

    if (d->eof_seen && (d->tail != NULL && d->tail->len == 0)) {
        /* Postcopy, or machine property suppress-vmdesc: EOF is the last byte. */
        notes->complete = true;
        notes->reason = g_strdup("");
        return;
    }
    if (d->tail == NULL) {
        notes->reason = g_strdup("the device state is too long to be kept and read");
        return;
    }
    if (d->eof_seen) {
        /* The EOF byte was an event of its own; the description's finder looks for it. */
        static const uint8_t eof_byte = WIRE_EOF;
        g_byte_array_prepend(d->tail, &eof_byte, 1);
    }
    notes->complete = qmig_tail_parse(d->tail->data, d->tail->len, &notes->tail, &error);
    notes->description_due = notes->tail.json_len > 0;
    notes->reason = g_strdup(error != NULL ? error->message : "");
}

QmigNotes *
qmig_notes_new(QmigDecoder *d)
{
    QmigNotes *notes = g_new0(QmigNotes, 1);

    notes->end_due = true;
    if (d->state == STATE_TAIL) {
        read_tail(notes, d);
    } else if (d->state == STATE_RAW) {
        notes->reason = g_strdup_printf("not read: %s", d->raw_reason);
    } else {
        notes->reason = g_strdup_printf("the stream ends %s, after %" PRIu64 " bytes",
                                        state_texts[d->state],
                                        d->offset + d->window.carry_len);
    }
    return notes;
}

void
qmig_notes_free(QmigNotes *notes)
{
    if (notes != NULL) {
        qmig_tail_clear(&notes->tail);
        g_free(notes->reason);
        g_free(notes);
    }
}

static void
fill_device(const QmigNotes *notes, const QmigDecoder *d, struct qmig_event *ev)
{
    const QmigTailDevice *device = &g_array_index(notes->tail.devices, QmigTailDevice,
                                                  notes->next_device);

    qmig_decoder_event(d, ev, QMIG_EVENT_DEVICE);
    ev->offset = d->offset - d->tail->len + device->start;
    ev->u.device = (struct qmig_event_device){
        .name = device->name,
        .instance = device->instance,
        .version = device->version,
        .section_id = device->section_id,
        .length = device->length,
        .data = d->tail->data + device->start,
    };
}

bool
qmig_notes_next(QmigNotes *notes, QmigDecoder *d, struct qmig_event *ev)
{
    if (notes->tail.devices != NULL && notes->next_device < notes->tail.devices->len) {
        fill_device(notes, d, ev);
        notes->next_device++;
        return true;
    }
    if (notes->description_due) {
        notes->description_due = false;
        qmig_decoder_event(d, ev, QMIG_EVENT_DESCRIPTION);
        ev->offset = d->offset - notes->tail.json_len;
        ev->u.description.json = (const char *)d->tail->data + notes->tail.json;
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
