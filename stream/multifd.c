/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Multifd channels, reader and writer. A packet is taken off the window in two steps, head and
 * payload, so that a payload is read in place even when its head was cut by a push. One check
 * says what a packet may be, for both directions.
 *
 * What must come out again as it came in, and means nothing, is kept as bytes: the block name
 * behind its NUL, the rest of the offset table, the reserved fields. QEMU 8.2 and older reuse
 * one packet structure for a channel's whole life and leave in it what was there before.
 */
#include "stream/multifd.h"

#include "stream/bounds.h"
#include "stream/format.h"
#include "stream/window.h"
#include "util/error.h"

#include <inttypes.h>

enum {
    MAGIC = 0x11223344, /* MULTIFD_MAGIC */
    VERSION = 1,        /* MULTIFD_VERSION */
    UUID = 16,
    INIT_RESERVED = 39,
    RESERVED = 28,
    NAME = 256,
    RAM_HEAD = 320, /* without the table */
    DEVICE_HEAD = 12 + NAME + 8,
    MAX_OFFSETS = (QMIG_MULTIFD_HEAD_MAX - RAM_HEAD) / 8,
    KNOWN_FLAGS = QMIG_MULTIFD_SYNC | QMIG_MULTIFD_COMPRESSION |
                  QMIG_MULTIFD_DEVICE_STATE,
};

typedef enum {
    STATE_INIT,
    STATE_HEAD,
    STATE_PAYLOAD,
    STATE_RAW,
    STATE_DONE, /* the note at the end was given */
} State;

struct QmigMultifdDecoder {
    QmigWindow window;
    State state;
    bool eof;
    bool raw_pending;                  /* the note is still to be given */
    uint64_t offset;                   /* stream position of the next event, bytes */
    int channel;                       /* -1 = not known yet */
    uint64_t n_packets;                /* begun */
    uint32_t page_size;                /* bytes */
    size_t head_length;                /* of the packet whose payload is due, bytes */
    struct qmig_multifd_packet packet; /* points into the storage below */
    uint64_t offsets[MAX_OFFSETS];
    uint8_t name_bytes[NAME];
    char name[NAME + 1];
    uint8_t reserved[RESERVED];
    char text[128]; /* reason of a note */
};

QmigMultifdDecoder *
qmig_multifd_decoder_new(void)
{
    QmigMultifdDecoder *d = g_new0(QmigMultifdDecoder, 1);

    qmig_window_init(&d->window, QMIG_LIMIT_MULTIFD_DEVICE);
    d->page_size = 1u << WIRE_PAGE_BITS;
    d->channel = -1;
    return d;
}

void
qmig_multifd_decoder_free(QmigMultifdDecoder *d)
{
    if (d != NULL) {
        qmig_window_clear(&d->window);
        g_free(d);
    }
}

void
qmig_multifd_decoder_set_page_size(QmigMultifdDecoder *d, uint32_t page_size)
{
    g_return_if_fail((page_size & (page_size - 1)) == 0 &&
                     page_size >= 1u << QMIG_LIMIT_PAGE_BITS_MIN &&
                     page_size <= 1u << QMIG_LIMIT_PAGE_BITS);
    d->page_size = page_size;
}

void
qmig_multifd_decoder_push(QmigMultifdDecoder *d, const void *data, size_t len)
{
    g_return_if_fail(!d->eof);
    qmig_window_push(&d->window, data, len);
}

void
qmig_multifd_decoder_eof(QmigMultifdDecoder *d)
{
    d->eof = true;
}

uint64_t
qmig_multifd_decoder_offset(const QmigMultifdDecoder *d)
{
    return d->offset;
}

int
qmig_multifd_decoder_channel(const QmigMultifdDecoder *d)
{
    return d->channel;
}

static uint32_t
table_size(uint32_t page_size)
{
    return QMIG_LIMIT_MULTIFD_DATA / page_size;
}

/* Add the place to *@error, which is set. */
static QmigParse
placed(const QmigMultifdDecoder *d, GError **error)
{
    if (error != NULL && d->state == STATE_INIT) {
        g_autofree char *what = g_steal_pointer(&(*error)->message);
        (*error)->message = g_strdup_printf(
            "multifd channel: %s (stream offset %" PRIu64 ")", what, d->offset);
    } else if (error != NULL) {
        g_autofree char *what = g_steal_pointer(&(*error)->message);
        (*error)->message = g_strdup_printf("multifd channel %d, packet %" PRIu64
                                            ": %s (stream offset %" PRIu64 ")",
                                            d->channel, d->n_packets, what, d->offset);
    }
    return QMIG_PARSE_FAILED;
}

/* ---- what a packet may be --------------------------------------------------------------- */

static bool
check_payload(const struct qmig_multifd_packet *p, GError **error)
{
    uint64_t pages = (uint64_t)p->normal_pages * p->page_size;

    if (p->normal_pages == 0) {
        return true;
    }
    if ((p->flags & QMIG_MULTIFD_COMPRESSION) == QMIG_MULTIFD_NONE) {
        return p->next_packet_size == pages ||
               qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%u bytes of payload, wanted %" PRIu64 " for %u pages",
                              p->next_packet_size, pages, p->normal_pages);
    }
    if (p->next_packet_size == 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "no payload for %u compressed pages", p->normal_pages);
    }
    return p->next_packet_size <= QMIG_LIMIT_MULTIFD_PAYLOAD ||
           qmig_set_error(error, QMIG_ERROR_LIMIT, "%u bytes of payload, limit %d",
                          p->next_packet_size, QMIG_LIMIT_MULTIFD_PAYLOAD);
}

static bool
check_ram(const struct qmig_multifd_packet *p, GError **error)
{
    uint32_t n = p->normal_pages;

    if (p->pages_alloc > table_size(p->page_size)) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT, "a table of %u pages, limit %u",
                              p->pages_alloc, table_size(p->page_size));
    }
    if (n > p->pages_alloc || p->zero_pages > p->pages_alloc - n ||
        n + p->zero_pages > p->n_offsets) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%u normal and %u zero pages in a table of %u", n,
                              p->zero_pages, p->pages_alloc);
    }
    for (uint32_t i = 0; i < n + p->zero_pages; i++) {
        if ((p->offsets[i] & (p->page_size - 1)) != 0) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  "block \"%s\": page offset 0x%" PRIx64
                                  " is no multiple of %u",
                                  p->block, p->offsets[i], p->page_size);
        }
    }
    return check_payload(p, error);
}

/* @size: of the payload, as on the wire. */
static bool
check_device(const struct qmig_multifd_packet *p, uint64_t size, GError **error)
{
    if (p->flags & QMIG_MULTIFD_SYNC) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "device state with SYNC");
    }
    if (size == 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "device \"%s\": empty device state", p->device);
    }
    return size <= QMIG_LIMIT_MULTIFD_DEVICE ||
           qmig_set_error(error, QMIG_ERROR_LIMIT,
                          "device \"%s\": %" PRIu64 " bytes of state, limit %d",
                          p->device, size, QMIG_LIMIT_MULTIFD_DEVICE);
}

/* ---- reader ----------------------------------------------------------------------------- */

static void
set_event(const QmigMultifdDecoder *d, struct qmig_event *ev, unsigned kind)
{
    ev->size = sizeof *ev;
    ev->kind = (uint16_t)kind;
    ev->flags = kind >= QMIG_EVENT_RAW ? QMIG_EVENT_NOTE : 0;
    ev->offset = d->offset;
    ev->wire_size = 0;
}

static QmigParse
parse_magic(QmigCursor *c, GError **error)
{
    uint32_t magic, version;

    if (!(qmig_cursor_be32(c, &magic) && qmig_cursor_be32(c, &version))) {
        return QMIG_PARSE_SHORT;
    }
    if (magic != MAGIC || version != VERSION) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "magic 0x%08x version %u, wanted 0x%08x and %d", magic, version,
                       MAGIC, VERSION);
        return QMIG_PARSE_FAILED;
    }
    return QMIG_PARSE_DONE;
}

static QmigParse
parse_init(void *self, QmigCursor *c, size_t *need, void *out, GError **error)
{
    QmigMultifdDecoder *d = self;
    struct qmig_event *ev = out;
    QmigParse result = parse_magic(c, error);
    uint8_t channel;

    (void)need;
    if (result != QMIG_PARSE_DONE) {
        return result == QMIG_PARSE_SHORT ? result : placed(d, error);
    }
    set_event(d, ev, QMIG_EVENT_MULTIFD_INIT);
    ev->u.multifd_init.version = VERSION;
    if (!(qmig_cursor_bytes(c, UUID, &ev->u.multifd_init.uuid) &&
          qmig_cursor_u8(c, &channel) &&
          qmig_cursor_bytes(c, INIT_RESERVED, &ev->u.multifd_init.reserved))) {
        return QMIG_PARSE_SHORT;
    }
    ev->u.multifd_init.channel = channel;
    d->channel = channel;
    return QMIG_PARSE_DONE;
}

/* The 256 bytes of a name: kept, and NUL-terminated in d->name. */
static void
keep_name(QmigMultifdDecoder *d, const uint8_t *bytes)
{
    memcpy(d->name_bytes, bytes, NAME);
    memcpy(d->name, bytes, NAME);
}

static QmigParse
parse_ram(QmigMultifdDecoder *d, QmigCursor *c, GError **error)
{
    struct qmig_multifd_packet *p = &d->packet;
    uint32_t n = table_size(d->page_size);
    const uint8_t *reserved, *name;

    if (!(qmig_cursor_be32(c, &p->pages_alloc) && qmig_cursor_be32(c, &p->normal_pages) &&
          qmig_cursor_be32(c, &p->next_packet_size) &&
          qmig_cursor_be64(c, &p->packet_num) && qmig_cursor_be32(c, &p->zero_pages) &&
          qmig_cursor_bytes(c, RESERVED, &reserved) &&
          qmig_cursor_bytes(c, NAME, &name) && qmig_cursor_left(c) >= n * 8)) {
        return QMIG_PARSE_SHORT;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!qmig_cursor_be64(c, &d->offsets[i])) {
            g_assert_not_reached();
        }
    }
    memcpy(d->reserved, reserved, RESERVED);
    keep_name(d, name);
    p->page_size = d->page_size;
    p->offsets = d->offsets;
    p->n_offsets = n;
    p->block = p->normal_pages > 0 || p->zero_pages > 0 ? d->name : "";
    p->block_bytes = d->name_bytes;
    p->reserved = d->reserved;
    p->payload_length = p->normal_pages > 0 ? p->next_packet_size : 0;
    return check_ram(p, error) ? QMIG_PARSE_DONE : placed(d, error);
}

static QmigParse
parse_device(QmigMultifdDecoder *d, QmigCursor *c, GError **error)
{
    struct qmig_multifd_packet *p = &d->packet;
    const uint8_t *name;

    if (!(qmig_cursor_bytes(c, NAME, &name) && qmig_cursor_be32(c, &p->instance) &&
          qmig_cursor_be32(c, &p->next_packet_size))) {
        return QMIG_PARSE_SHORT;
    }
    keep_name(d, name);
    p->block = "";
    p->device = d->name;
    p->device_bytes = d->name_bytes;
    p->payload_length = p->next_packet_size;
    return check_device(p, p->next_packet_size, error) ? QMIG_PARSE_DONE
                                                       : placed(d, error);
}

/* QmigParseFn: a packet's head into d->packet, but for flags that are not known: none of it. */
static QmigParse
parse_head(void *self, QmigCursor *c, size_t *need, void *out, GError **error)
{
    QmigMultifdDecoder *d = self;
    QmigParse result = parse_magic(c, error);
    uint32_t flags;
    bool is_device;

    (void)out;
    if (result != QMIG_PARSE_DONE) {
        return result == QMIG_PARSE_SHORT ? result : placed(d, error);
    }
    if (!qmig_cursor_be32(c, &flags)) {
        return QMIG_PARSE_SHORT;
    }
    d->packet = (struct qmig_multifd_packet){ .size = sizeof d->packet, .flags = flags };
    if (flags & ~(uint32_t)KNOWN_FLAGS) {
        return QMIG_PARSE_DONE;
    }
    is_device = flags & QMIG_MULTIFD_DEVICE_STATE;
    *need = is_device ? DEVICE_HEAD : RAM_HEAD + 8 * (size_t)table_size(d->page_size);
    return is_device ? parse_device(d, c, error) : parse_ram(d, c, error);
}

/* The whole packet, now that its payload is there. */
static QmigDecodeResult
give_packet(QmigMultifdDecoder *d, const uint8_t *payload, struct qmig_event *ev)
{
    set_event(d, ev, QMIG_EVENT_MULTIFD_PACKET);
    d->packet.payload = payload;
    ev->u.multifd_packet.packet = &d->packet;
    ev->wire_size = d->head_length + d->packet.payload_length;
    d->offset += ev->wire_size;
    d->state = STATE_HEAD;
    return QMIG_DECODE_EVENT;
}

static QmigDecodeResult
next_payload(QmigMultifdDecoder *d, struct qmig_event *ev, GError **error)
{
    const uint8_t *payload = NULL;

    if (d->packet.payload_length > 0) {
        QmigDecodeResult result = qmig_window_piece(&d->window, d->packet.payload_length,
                                                    &payload, error);
        if (result != QMIG_DECODE_EVENT) {
            return result;
        }
    }
    return give_packet(d, payload, ev);
}

/* Flags that are not known may change what follows them: nothing is read from here on. */
static QmigDecodeResult
go_raw(QmigMultifdDecoder *d, struct qmig_event *ev)
{
    g_snprintf(d->text, sizeof d->text,
               "multifd channel %d, packet %" PRIu64 ": flags 0x%x are not known",
               d->channel, d->n_packets, d->packet.flags);
    set_event(d, ev, QMIG_EVENT_RAW);
    ev->u.raw.reason = d->text;
    d->raw_pending = true;
    d->state = STATE_RAW;
    return QMIG_DECODE_EVENT;
}

static QmigDecodeResult
next_head(QmigMultifdDecoder *d, struct qmig_event *ev, GError **error)
{
    bool begun = d->window.carry_len > 0;
    QmigDecodeResult result;

    if (!begun && d->window.in_len == 0) {
        return QMIG_DECODE_NEED_MORE;
    }
    d->n_packets += begun ? 0 : 1;
    result = qmig_window_step(&d->window, parse_head, d, NULL, &d->head_length, error);
    if (result != QMIG_DECODE_EVENT) {
        return result;
    }
    if (d->packet.flags & ~(uint32_t)KNOWN_FLAGS) {
        return go_raw(d, ev);
    }
    d->state = STATE_PAYLOAD;
    return next_payload(d, ev, error);
}

static QmigDecodeResult
next_init(QmigMultifdDecoder *d, struct qmig_event *ev, GError **error)
{
    size_t consumed;
    QmigDecodeResult result = qmig_window_step(&d->window, parse_init, d, ev, &consumed,
                                               error);

    if (result == QMIG_DECODE_EVENT) {
        ev->wire_size = consumed;
        d->offset += consumed;
        d->state = STATE_HEAD;
    }
    return result;
}

static QmigDecodeResult
next_bytes(QmigMultifdDecoder *d, struct qmig_event *ev)
{
    const uint8_t *data;
    size_t n;

    if (d->raw_pending) {
        /* The part of the head that was taken to see the flags. */
        QmigWriter w = qmig_writer(d->name_bytes, sizeof d->name_bytes);
        bool ok = qmig_writer_be32(&w, MAGIC) && qmig_writer_be32(&w, VERSION) &&
                  qmig_writer_be32(&w, d->packet.flags);

        g_assert(ok);
        d->raw_pending = false;
        data = d->name_bytes;
        n = w.len;
    } else {
        n = qmig_window_take(&d->window, UINT64_MAX, &data);
    }
    if (n == 0) {
        return QMIG_DECODE_NEED_MORE;
    }
    set_event(d, ev, QMIG_EVENT_BYTES);
    ev->wire_size = n;
    ev->u.bytes =
        (struct qmig_event_bytes){ .kind = QMIG_BYTES_RAW, .data = data, .length = n };
    d->offset += n;
    return QMIG_DECODE_EVENT;
}

/* The input has ended: say how. */
static QmigDecodeResult
next_end(QmigMultifdDecoder *d, struct qmig_event *ev)
{
    bool cut = d->state == STATE_PAYLOAD || d->window.carry_len > 0;

    if (d->state == STATE_INIT) {
        g_snprintf(d->text, sizeof d->text, "the channel has no first packet");
    } else if (d->state == STATE_RAW) {
        g_snprintf(d->text, sizeof d->text, "not read: flags 0x%x", d->packet.flags);
    } else if (cut) {
        g_snprintf(d->text, sizeof d->text,
                   "multifd channel %d: ends inside packet %" PRIu64, d->channel,
                   d->n_packets);
    } else {
        d->text[0] = '\0';
    }
    set_event(d, ev, QMIG_EVENT_END);
    ev->u.end.complete = d->text[0] == '\0';
    ev->u.end.reason = d->text;
    d->state = STATE_DONE;
    return QMIG_DECODE_EVENT;
}

QmigDecodeResult
qmig_multifd_decoder_next(QmigMultifdDecoder *d, struct qmig_event *ev, GError **error)
{
    QmigDecodeResult result = QMIG_DECODE_END;

    switch (d->state) {
    case STATE_INIT:
        result = next_init(d, ev, error);
        break;
    case STATE_HEAD:
        result = next_head(d, ev, error);
        break;
    case STATE_PAYLOAD:
        result = next_payload(d, ev, error);
        break;
    case STATE_RAW:
        result = next_bytes(d, ev);
        break;
    case STATE_DONE:
    default:
        return QMIG_DECODE_END;
    }
    return result == QMIG_DECODE_NEED_MORE && d->eof ? next_end(d, ev) : result;
}

/* ---- writer ----------------------------------------------------------------------------- */

static bool
write_zeros(QmigWriter *w, size_t n)
{
    static const uint8_t zeros[NAME];

    return qmig_writer_bytes(w, zeros, n);
}

static bool
write_or_zeros(QmigWriter *w, const uint8_t *bytes, size_t n)
{
    return bytes != NULL ? qmig_writer_bytes(w, bytes, n) : write_zeros(w, n);
}

/* 256 bytes of a name whose length has been checked. */
static bool
write_name(QmigWriter *w, const char *name, const uint8_t *bytes)
{
    return bytes != NULL ? qmig_writer_bytes(w, bytes, NAME)
                         : qmig_writer_bytes(w, name, strlen(name)) &&
                               write_zeros(w, NAME - strlen(name));
}

bool
qmig_multifd_write_init(QmigWriter *w, const struct qmig_event_multifd_init *init,
                        GError **error)
{
    if (init->channel > UINT8_MAX) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "multifd channel %u, limit 255",
                              init->channel);
    }
    bool ok = qmig_writer_be32(w, MAGIC) && qmig_writer_be32(w, init->version) &&
              qmig_writer_bytes(w, init->uuid, UUID) &&
              qmig_writer_u8(w, (uint8_t)init->channel) &&
              write_or_zeros(w, init->reserved, INIT_RESERVED);
    g_assert(ok);
    return true;
}

static bool
check_written(const struct qmig_multifd_packet *p, GError **error)
{
    bool is_device = p->flags & QMIG_MULTIFD_DEVICE_STATE;
    const char *name = is_device ? p->device : p->block;
    bool has_bytes = (is_device ? p->device_bytes : p->block_bytes) != NULL;

    if (p->flags & ~(uint32_t)KNOWN_FLAGS) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "flags 0x%x are not known",
                              p->flags);
    }
    if (!has_bytes && (name == NULL || strlen(name) >= NAME)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "a name of more than %d bytes",
                              NAME - 1);
    }
    if (is_device) {
        return check_device(p, p->payload_length, error);
    }
    if (p->page_size == 0 || p->n_offsets > MIN(table_size(p->page_size), MAX_OFFSETS)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%u offsets of %u byte pages",
                              p->n_offsets, p->page_size);
    }
    if (p->payload_length != (p->normal_pages > 0 ? p->next_packet_size : 0)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%" PRIu64 " bytes of payload, announced %u",
                              p->payload_length, p->next_packet_size);
    }
    return check_ram(p, error);
}

static bool
write_ram(QmigWriter *w, const struct qmig_multifd_packet *p)
{
    bool ok = qmig_writer_be32(w, p->pages_alloc) &&
              qmig_writer_be32(w, p->normal_pages) &&
              qmig_writer_be32(w, p->next_packet_size) &&
              qmig_writer_be64(w, p->packet_num) && qmig_writer_be32(w, p->zero_pages) &&
              write_or_zeros(w, p->reserved, RESERVED) &&
              write_name(w, p->block, p->block_bytes);

    for (uint32_t i = 0; i < table_size(p->page_size); i++) {
        ok = ok && qmig_writer_be64(w, i < p->n_offsets ? p->offsets[i] : 0);
    }
    return ok;
}

bool
qmig_multifd_write_packet(QmigWriter *w, const struct qmig_multifd_packet *p,
                          GError **error)
{
    if (!check_written(p, error)) {
        g_prefix_error(error, "multifd packet %" PRIu64 ": ", p->packet_num);
        return false;
    }
    bool ok = qmig_writer_be32(w, MAGIC) && qmig_writer_be32(w, VERSION) &&
              qmig_writer_be32(w, p->flags);
    if (p->flags & QMIG_MULTIFD_DEVICE_STATE) {
        ok = ok && write_name(w, p->device, p->device_bytes) &&
             qmig_writer_be32(w, p->instance) &&
             qmig_writer_be32(w, (uint32_t)p->payload_length);
    } else {
        ok = ok && write_ram(w, p);
    }
    g_assert(ok);
    return true;
}
