/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Framing: header, configuration, sections, commands, and the sequence of it all. RAM records
 * are in ram.c, what is said after the end in notes.c, the grammar in format.h.
 *
 * Each parser takes one whole record off a cursor or changes nothing (QMIG_PARSE_SHORT), so
 * that it can be called again when more bytes are there.
 */
#include "stream/decoder.h"

#include "stream/bounds.h"
#include "stream/decoder-priv.h"
#include "stream/format.h"
#include "util/error.h"

#include <inttypes.h>

QmigDecoder *
qmig_decoder_new(void)
{
    QmigDecoder *d = g_new0(QmigDecoder, 1);

    qmig_window_init(&d->window, QMIG_LIMIT_RECORD);
    d->page_size = 1u << WIRE_PAGE_BITS;
    d->blocks = g_ptr_array_new_with_free_func(g_free);
    d->tail = g_byte_array_new();
    return d;
}

void
qmig_decoder_free(QmigDecoder *d)
{
    if (d == NULL) {
        return;
    }
    qmig_window_clear(&d->window);
    qmig_notes_free(d->notes);
    g_ptr_array_unref(d->blocks);
    g_clear_pointer(&d->tail, g_byte_array_unref);
    g_free(d->raw_reason);
    g_free(d);
}

void
qmig_decoder_event(const QmigDecoder *d, struct qmig_event *ev, unsigned kind)
{
    ev->size = sizeof *ev;
    ev->kind = (uint16_t)kind;
    ev->flags = kind >= QMIG_EVENT_RAW ? QMIG_EVENT_NOTE : 0;
    ev->offset = d->offset;
    ev->wire_size = 0;
}

void
qmig_decoder_go_raw(QmigDecoder *d, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    d->raw_reason = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    d->raw_pending = true;
    d->state = STATE_RAW;
}

QmigParse
qmig_decoder_fail(const QmigDecoder *d, GError **error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%s (stream offset %" PRIu64 ")", text,
                   d->offset);
    return QMIG_PARSE_FAILED;
}

static QmigParse
parse_header(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    uint32_t magic, version;

    if (!(qmig_cursor_be32(c, &magic) && qmig_cursor_be32(c, &version))) {
        return QMIG_PARSE_SHORT;
    }
    if (magic != WIRE_MAGIC || version != WIRE_VERSION) {
        return qmig_decoder_fail(
            d, error, "header: magic 0x%08x version %u, wanted 0x%08x (\"QEVM\") and %u",
            magic, version, WIRE_MAGIC, WIRE_VERSION);
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_HEADER);
    ev->u.header.version = version;
    d->state = STATE_AFTER_HEADER;
    return QMIG_PARSE_DONE;
}

static QmigParse
parse_config(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    const uint8_t *machine;
    uint32_t length;

    if (!qmig_cursor_be32(c, &length)) {
        return QMIG_PARSE_SHORT;
    }
    if (length > QMIG_LIMIT_MACHINE_NAME) {
        return qmig_decoder_fail(d, error,
                                 "configuration: machine name of %u bytes, limit %d",
                                 length, QMIG_LIMIT_MACHINE_NAME);
    }
    if (!qmig_cursor_bytes(c, length, &machine)) {
        return QMIG_PARSE_SHORT;
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_CONFIG);
    ev->u.config.machine = (const char *)machine;
    ev->u.config.length = length;
    d->state = STATE_AFTER_CONFIG;
    return QMIG_PARSE_DONE;
}

/* be32 bits: targets with a variable page size. */
static QmigParse
take_page_bits(QmigDecoder *d, QmigCursor *c, GError **error)
{
    uint32_t bits;

    if (!qmig_cursor_be32(c, &bits)) {
        return QMIG_PARSE_SHORT;
    }
    if (bits < QMIG_LIMIT_PAGE_BITS_MIN || bits > QMIG_LIMIT_PAGE_BITS) {
        return qmig_decoder_fail(d, error,
                                 "configuration: 2^%u byte pages, limits 2^%d and 2^%d",
                                 bits, QMIG_LIMIT_PAGE_BITS_MIN, QMIG_LIMIT_PAGE_BITS);
    }
    d->page_size = 1u << bits;
    return QMIG_PARSE_DONE;
}

/* be32 count, count * cstr: capabilities that change the format. */
static QmigParse
take_capabilities(QmigDecoder *d, QmigCursor *c, GError **error)
{
    bool ignore_shared = false, mapped_ram = false;
    char name[256];
    uint32_t count;
    uint8_t len;

    if (!qmig_cursor_be32(c, &count)) {
        return QMIG_PARSE_SHORT;
    }
    if (count > QMIG_LIMIT_CONFIG_CAPABILITIES) {
        return qmig_decoder_fail(d, error, "configuration: %u capabilities, limit %d",
                                 count, QMIG_LIMIT_CONFIG_CAPABILITIES);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!qmig_cursor_cstr(c, name, &len)) {
            return QMIG_PARSE_SHORT;
        }
        ignore_shared |= strcmp(name, "x-ignore-shared") == 0;
        mapped_ram |= strcmp(name, "mapped-ram") == 0;
    }
    d->ignore_shared = ignore_shared;
    if (mapped_ram) {
        qmig_decoder_go_raw(d, "capability mapped-ram: a file to seek in, not a stream");
    }
    return QMIG_PARSE_DONE;
}

/* A subsection's fields have no length either; these three are known. */
static QmigParse
parse_config_sub(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    QmigParse result = QMIG_PARSE_DONE;
    uint32_t version;
    uint8_t len;

    if (!(qmig_cursor_cstr(c, d->section_name, &len) && qmig_cursor_be32(c, &version))) {
        return QMIG_PARSE_SHORT;
    }
    const uint8_t *data = c->p;
    if (strcmp(d->section_name, "configuration/target-page-bits") == 0) {
        result = take_page_bits(d, c, error);
    } else if (strcmp(d->section_name, "configuration/capabilities") == 0) {
        result = take_capabilities(d, c, error);
    } else if (strcmp(d->section_name, "configuration/uuid") == 0) {
        result = qmig_cursor_skip(c, 16) ? QMIG_PARSE_DONE : QMIG_PARSE_SHORT;
    } else {
        qmig_decoder_go_raw(d, "configuration subsection \"%s\" is not known",
                            d->section_name);
    }
    if (result == QMIG_PARSE_DONE) {
        qmig_decoder_event(d, ev, QMIG_EVENT_CONFIG_SUB);
        ev->u.config_sub = (struct qmig_event_config_sub){
            .name = d->section_name,
            .name_length = len,
            .version = version,
            .data = data,
            .length = (uint64_t)(c->p - data),
        };
    }
    return result;
}

static void
section_event(QmigDecoder *d, struct qmig_event *ev, struct qmig_event_section section)
{
    qmig_decoder_event(d, ev, QMIG_EVENT_SECTION);
    section.name = d->section_name;
    ev->u.section = section;
    d->section_id = section.id;
}

static QmigParse
parse_start(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    struct qmig_event_section s = { .type = QMIG_SECTION_START };
    char name[256];
    uint8_t len;

    if (!(qmig_cursor_be32(c, &s.id) && qmig_cursor_cstr(c, name, &len) &&
          qmig_cursor_be32(c, &s.instance) && qmig_cursor_be32(c, &s.version))) {
        return QMIG_PARSE_SHORT;
    }
    s.name_length = len;
    strcpy(d->section_name, name);
    if (strcmp(name, "ram") != 0 || s.instance != 0 || s.version != WIRE_RAM_VERSION) {
        qmig_decoder_go_raw(
            d,
            "section \"%s\" (instance %u, version %u) has no length and is "
            "not known",
            name, s.instance, s.version);
    } else if (d->ram_seen) {
        return qmig_decoder_fail(d, error, "section \"ram\" starts a second time");
    } else {
        d->ram_seen = true;
        d->ram_id = s.id;
        d->state = STATE_RAM;
    }
    section_event(d, ev, s);
    return QMIG_PARSE_DONE;
}

static QmigParse
parse_part(QmigDecoder *d, QmigCursor *c, unsigned type, struct qmig_event *ev,
           GError **error)
{
    struct qmig_event_section s = { .type = type, .version = WIRE_RAM_VERSION };

    if (!qmig_cursor_be32(c, &s.id)) {
        return QMIG_PARSE_SHORT;
    }
    if (!d->ram_seen || s.id != d->ram_id) {
        return qmig_decoder_fail(d, error, "section id %u continues, but never started",
                                 s.id);
    }
    strcpy(d->section_name, "ram");
    s.name_length = (uint32_t)strlen(d->section_name);
    section_event(d, ev, s);
    d->state = STATE_RAM;
    return QMIG_PARSE_DONE;
}

/* What a command means for the bytes that follow it. */
static QmigParse
note_command(QmigDecoder *d, const struct qmig_event_command *cmd, GError **error)
{
    QmigCursor c = qmig_cursor(cmd->data, cmd->length);

    if (cmd->command == QMIG_COMMAND_POSTCOPY_ADVISE && cmd->length == 16) {
        if (!qmig_cursor_be64(&c, &d->postcopy_pages)) {
            g_assert_not_reached();
        }
    } else if (cmd->command == QMIG_COMMAND_PACKAGED) {
        if (cmd->length != 4 || !qmig_cursor_be32(&c, &d->packaged_length)) {
            return qmig_decoder_fail(d, error,
                                     "command PACKAGED with %u bytes of data, wanted 4",
                                     cmd->length);
        }
        d->bulk_left = d->packaged_length;
        d->state = d->bulk_left > 0 ? STATE_PACKAGED : STATE_ITEM;
    }
    return QMIG_PARSE_DONE;
}

static QmigParse
parse_command(QmigDecoder *d, QmigCursor *c, size_t *need, struct qmig_event *ev,
              GError **error)
{
    const uint8_t *start = c->p - 1, *data;
    uint16_t command, length;

    if (!(qmig_cursor_be16(c, &command) && qmig_cursor_be16(c, &length))) {
        return QMIG_PARSE_SHORT;
    }
    if (!qmig_cursor_bytes(c, length, &data)) {
        *need = (size_t)(c->p - start) + length;
        return QMIG_PARSE_SHORT;
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_COMMAND);
    ev->u.command =
        (struct qmig_event_command){ .command = command, .length = length, .data = data };
    d->state = STATE_ITEM;
    return note_command(d, &ev->u.command, error);
}

/*
 * A FULL section, type byte already seen but not taken. After RAM's start it is the first of
 * the tail: in a precopy stream no RAM record follows it. Before, its length is unknown.
 */
static void
enter_full(QmigDecoder *d)
{
    if (d->ram_seen) {
        d->state = STATE_TAIL;
    } else {
        qmig_decoder_go_raw(d, "a device section comes before RAM: it has no length");
    }
}

static QmigParse
parse_item(QmigDecoder *d, QmigCursor *c, size_t *need, struct qmig_event *ev,
           GError **error)
{
    uint8_t type;

    if (!qmig_cursor_u8(c, &type)) {
        return QMIG_PARSE_SHORT;
    }
    switch (type) {
    case QMIG_SECTION_START:
        return parse_start(d, c, ev, error);
    case QMIG_SECTION_PART:
    case QMIG_SECTION_END:
        return parse_part(d, c, type, ev, error);
    case WIRE_COMMAND:
        return parse_command(d, c, need, ev, error);
    case WIRE_EOF:
        qmig_decoder_event(d, ev, QMIG_EVENT_EOF);
        d->eof_seen = true;
        d->state = STATE_TAIL;
        return QMIG_PARSE_DONE;
    default:
        return qmig_decoder_fail(
            d, error, "type byte 0x%02x where a section or command was due", type);
    }
}

static QmigParse
parse_footer(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    uint8_t type;
    uint32_t id;

    if (!(qmig_cursor_u8(c, &type) && qmig_cursor_be32(c, &id))) {
        return QMIG_PARSE_SHORT;
    }
    if (type != WIRE_FOOTER || id != d->section_id) {
        return qmig_decoder_fail(
            d, error, "section \"%s\": footer 0x%02x with id %u, wanted 0x%02x and id %u",
            d->section_name, type, id, WIRE_FOOTER, d->section_id);
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_FOOTER);
    ev->u.footer.id = id;
    d->state = STATE_ITEM;
    return QMIG_PARSE_DONE;
}

/* QmigParseFn: one record, whatever is due. */
static QmigParse
parse_record(void *self, QmigCursor *c, size_t *need, void *out, GError **error)
{
    QmigDecoder *d = self;
    struct qmig_event *ev = out;
    QmigCursor look = *c;
    uint8_t type;

    switch (d->state) {
    case STATE_RAM:
        return qmig_ram_parse(d, c, need, ev, error);
    case STATE_HEADER:
        return parse_header(d, c, ev, error);
    case STATE_AFTER_HEADER:
        if (qmig_cursor_u8(&look, &type) && type == WIRE_CONFIGURATION) {
            *c = look;
            return parse_config(d, c, ev, error);
        }
        return parse_item(d, c, need, ev, error);
    case STATE_AFTER_CONFIG:
        if (qmig_cursor_u8(&look, &type) && type == WIRE_SUBSECTION) {
            *c = look;
            return parse_config_sub(d, c, ev, error);
        }
        return parse_item(d, c, need, ev, error);
    case STATE_ITEM:
        return parse_item(d, c, need, ev, error);
    case STATE_RAM_LIST:
        return qmig_ram_parse_list(d, c, ev, error);
    case STATE_FOOTER:
        return parse_footer(d, c, ev, error);
    case STATE_PACKAGED:
    case STATE_TAIL:
    case STATE_RAW:
    case STATE_DONE:
    default:
        g_assert_not_reached();
    }
}

/* Keep a copy of the tail for when its description has come. */
static void
copy_tail(QmigDecoder *d, const uint8_t *data, size_t len)
{
    if (d->tail == NULL) {
        return;
    }
    if (len > QMIG_LIMIT_TAIL - d->tail->len) {
        g_clear_pointer(&d->tail, g_byte_array_unref);
        return;
    }
    g_byte_array_append(d->tail, data, (guint)len);
}

static QmigDecodeResult
next_bulk(QmigDecoder *d, enum qmig_bytes_kind kind, uint64_t max, struct qmig_event *ev)
{
    const uint8_t *data;
    size_t n = qmig_window_take(&d->window, max, &data);

    if (n == 0) {
        return QMIG_DECODE_NEED_MORE;
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_BYTES);
    ev->wire_size = n;
    ev->u.bytes = (struct qmig_event_bytes){ .kind = kind, .data = data, .length = n };
    d->offset += n;
    if (kind == QMIG_BYTES_TAIL) {
        copy_tail(d, data, n);
    } else if (kind == QMIG_BYTES_PACKAGED) {
        d->bulk_left -= n;
        d->state = d->bulk_left > 0 ? STATE_PACKAGED : STATE_ITEM;
    }
    return QMIG_DECODE_EVENT;
}

/* Is the next item a FULL section? Then leave its bytes to the bulk states. */
static void
look_for_full(QmigDecoder *d)
{
    bool item_due = d->state == STATE_ITEM || d->state == STATE_AFTER_HEADER ||
                    d->state == STATE_AFTER_CONFIG;

    if (item_due && d->window.carry_len == 0 && d->window.in_len > 0 &&
        d->window.in[0] == QMIG_SECTION_FULL) {
        enter_full(d);
    }
}

static QmigDecodeResult
next_record(QmigDecoder *d, struct qmig_event *ev, GError **error)
{
    size_t consumed = 0;
    QmigDecodeResult result = qmig_window_step(&d->window, parse_record, d, ev, &consumed,
                                               error);

    if (result == QMIG_DECODE_EVENT) {
        ev->wire_size = consumed;
        d->offset += consumed;
    }
    return result;
}

static QmigDecodeResult
next_note(QmigDecoder *d, struct qmig_event *ev)
{
    if (d->notes == NULL) {
        d->notes = qmig_notes_new(d);
    }
    if (qmig_notes_next(d->notes, d, ev)) {
        return QMIG_DECODE_EVENT;
    }
    d->state = STATE_DONE;
    return QMIG_DECODE_END;
}

static QmigDecodeResult
next_input(QmigDecoder *d, struct qmig_event *ev, GError **error)
{
    if (G_UNLIKELY(d->state != STATE_RAM)) {
        look_for_full(d);
    }
    if (G_UNLIKELY(d->raw_pending)) {
        qmig_decoder_event(d, ev, QMIG_EVENT_RAW);
        ev->u.raw.reason = d->raw_reason;
        d->raw_pending = false;
        return QMIG_DECODE_EVENT;
    }
    switch (d->state) {
    case STATE_PACKAGED:
        return next_bulk(d, QMIG_BYTES_PACKAGED, d->bulk_left, ev);
    case STATE_TAIL:
        return next_bulk(d, QMIG_BYTES_TAIL, UINT64_MAX, ev);
    case STATE_RAW:
        return next_bulk(d, QMIG_BYTES_RAW, UINT64_MAX, ev);
    case STATE_DONE:
        return QMIG_DECODE_END;
    case STATE_HEADER:
    case STATE_AFTER_HEADER:
    case STATE_AFTER_CONFIG:
    case STATE_ITEM:
    case STATE_RAM:
    case STATE_RAM_LIST:
    case STATE_FOOTER:
    default:
        return next_record(d, ev, error);
    }
}

QmigDecodeResult
qmig_decoder_next(QmigDecoder *d, struct qmig_event *ev, GError **error)
{
    QmigDecodeResult result = next_input(d, ev, error);

    if (result == QMIG_DECODE_NEED_MORE && d->eof) {
        return next_note(d, ev);
    }
    return result;
}

void
qmig_decoder_push(QmigDecoder *d, const void *data, size_t len)
{
    g_return_if_fail(!d->eof);
    qmig_window_push(&d->window, data, len);
}

void
qmig_decoder_eof(QmigDecoder *d)
{
    d->eof = true;
}

uint64_t
qmig_decoder_offset(const QmigDecoder *d)
{
    return d->offset;
}
