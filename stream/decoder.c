/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Framing: header, sections, commands, and the sequence of it all. What sections hold is in
 * ram.c, blocks.c and iterable.c, what is learnt from a whole piece in notes.c, the grammar in
 * format.h.
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

/* Before a description: EOF byte, type, length. */
enum { DESCRIPTION_HEAD = 6 };

QmigDecoder *
qmig_decoder_new(void)
{
    QmigDecoder *d = g_new0(QmigDecoder, 1);

    qmig_window_init(&d->window, QMIG_LIMIT_RECORD);
    d->page_size = 1u << WIRE_PAGE_BITS;
    d->blocks = g_ptr_array_new_with_free_func(g_free);
    d->sections = g_array_new(FALSE, TRUE, sizeof(QmigSection));
    d->mapped_bits = g_byte_array_new();
    d->candidates = g_array_new(FALSE, FALSE, sizeof(QmigTailCandidate));
    return d;
}

QmigDecoder *
qmig_decoder_continue(const QmigDecoder *main, bool preempt)
{
    QmigDecoder *d = qmig_decoder_new();

    d->page_size = main->page_size;
    d->ignore_shared = main->ignore_shared;
    d->footers = main->footers;
    d->ram_seen = main->ram_seen;
    d->list_seen = main->list_seen;
    d->postcopy_pages = main->postcopy_pages;
    g_array_append_vals(d->sections, main->sections->data, main->sections->len);
    g_ptr_array_unref(d->blocks);
    d->blocks = g_ptr_array_ref(main->blocks);
    d->preempt = preempt;
    d->state = preempt ? STATE_RAM : STATE_ITEM;
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
    g_array_unref(d->sections);
    g_array_unref(d->candidates);
    g_byte_array_unref(d->mapped_bits);
    g_clear_pointer(&d->kept, g_byte_array_unref);
    g_clear_error(&d->tail_error);
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

void
qmig_decoder_bulk(QmigDecoder *d, enum qmig_bytes_kind kind, uint64_t length,
                  QmigDecoderState next)
{
    d->bulk_kind = kind;
    d->bulk_left = length;
    d->bulk_next = next;
    d->state = length > 0 ? STATE_BULK : next;
}

QmigDecoderState
qmig_decoder_after_body(const QmigDecoder *d)
{
    if (d->preempt) {
        return STATE_RAM;
    }
    return d->footers == FOOTERS_OFF ? STATE_ITEM : STATE_FOOTER;
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

static void
section_event(QmigDecoder *d, struct qmig_event *ev, struct qmig_event_section section)
{
    qmig_decoder_event(d, ev, QMIG_EVENT_SECTION);
    section.name = d->section_name.text;
    section.name_length = d->section_name.length;
    ev->u.section = section;
    d->section_id = section.id;
}

static const QmigSection *
find_section(const QmigDecoder *d, uint32_t id)
{
    for (guint i = 0; i < d->sections->len; i++) {
        const QmigSection *section = &g_array_index(d->sections, QmigSection, i);

        if (section->id == id) {
            return section;
        }
    }
    return NULL;
}

static QmigParse
take_section_head(QmigCursor *c, struct qmig_event_section *s, QmigName *name)
{
    return qmig_cursor_be32(c, &s->id) &&
                   qmig_cursor_cstr(c, name->text, &name->length) &&
                   qmig_cursor_be32(c, &s->instance) && qmig_cursor_be32(c, &s->version)
               ? QMIG_PARSE_DONE
               : QMIG_PARSE_SHORT;
}

static QmigParse
parse_start(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
{
    struct qmig_event_section s = { .type = QMIG_SECTION_START };
    QmigSection section = { 0 };

    if (take_section_head(c, &s, &section.name) != QMIG_PARSE_DONE) {
        return QMIG_PARSE_SHORT;
    }
    section.id = s.id;
    section.instance = s.instance;
    section.version = s.version;
    section.body = qmig_iterable_state(section.name.text, s.instance, s.version);
    d->section_name = section.name;
    if (section.body == STATE_RAM && d->ram_seen) {
        return qmig_decoder_fail(d, error, "section \"ram\" starts a second time");
    }
    if (find_section(d, s.id) != NULL || d->sections->len == QMIG_LIMIT_SECTIONS) {
        return qmig_decoder_fail(d, error,
                                 "section \"%s\" starts with the id %u of another, or is "
                                 "one of more than %d",
                                 section.name.text, s.id, QMIG_LIMIT_SECTIONS);
    }
    g_array_append_val(d->sections, section);
    d->ram_seen |= section.body == STATE_RAM;
    d->state = section.body;
    if (section.body == STATE_RAW) {
        qmig_decoder_go_raw(d,
                            "section \"%s\" (instance %u, version %u) has no length and "
                            "is not known",
                            section.name.text, s.instance, s.version);
    }
    section_event(d, ev, s);
    return QMIG_PARSE_DONE;
}

static QmigParse
parse_part(QmigDecoder *d, QmigCursor *c, unsigned type, struct qmig_event *ev,
           GError **error)
{
    struct qmig_event_section s = { .type = type };
    const QmigSection *section;

    if (!qmig_cursor_be32(c, &s.id)) {
        return QMIG_PARSE_SHORT;
    }
    section = find_section(d, s.id);
    if (section == NULL && d->orphan) {
        d->section_name = (QmigName){ 0 };
        qmig_decoder_go_raw(d,
                            "a recovery connection: what section id %u is was said on "
                            "the connection before it",
                            s.id);
    } else if (section == NULL) {
        return qmig_decoder_fail(d, error, "section id %u continues, but never started",
                                 s.id);
    } else {
        d->section_name = section->name;
        s.instance = section->instance;
        s.version = section->version;
        d->state = section->body;
    }
    section_event(d, ev, s);
    return QMIG_PARSE_DONE;
}

/* Keep a copy of what goes by: it can be read once it is whole. */
static void
keep(QmigDecoder *d, const uint8_t *data, size_t len)
{
    if (d->kept == NULL) {
        return;
    }
    if (len > QMIG_LIMIT_TAIL - d->kept->len) {
        g_clear_pointer(&d->kept, g_byte_array_unref);
        return;
    }
    if (d->kept->len == 0) {
        d->kept_at = d->offset;
    }
    g_byte_array_append(d->kept, data, (guint)len);
}

/* Begin to keep a copy of what follows. */
static void
begin_kept(QmigDecoder *d)
{
    if (d->kept != NULL) {
        g_byte_array_set_size(d->kept, 0);
    } else {
        d->kept = g_byte_array_new();
    }
}

/* Device state, EOF, description. The EOF byte may have been an item of its own: the
   description's finder looks for it. */
static void
begin_tail(QmigDecoder *d)
{
    static const uint8_t eof_byte = WIRE_EOF;

    begin_kept(d);
    if (d->eof_seen) {
        keep(d, &eof_byte, 1);
    }
    d->searched = 0;
    d->state = STATE_TAIL;
}

/*
 * A device section. One is known that comes in the setup phase, before RAM's start or behind it;
 * any other behind RAM's start begins the tail, and its head goes with it.
 */
static QmigParse
parse_full(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev)
{
    struct qmig_event_section s = { .type = QMIG_SECTION_FULL };
    const uint8_t *start = c->p - 1;
    uint64_t length = 0;
    QmigName name;

    if (take_section_head(c, &s, &name) != QMIG_PARSE_DONE) {
        return QMIG_PARSE_SHORT;
    }
    QmigParse known = qmig_early_length(name.text, *c, &length);
    if (known == QMIG_PARSE_SHORT) {
        return QMIG_PARSE_SHORT;
    }
    if (known == QMIG_PARSE_FAILED && d->ram_seen && !d->colo) {
        length = (uint64_t)(c->p - start);
        begin_tail(d);
        keep(d, start, length);
        qmig_decoder_event(d, ev, QMIG_EVENT_BYTES);
        ev->u.bytes = (struct qmig_event_bytes){ .kind = QMIG_BYTES_TAIL,
                                                 .data = start,
                                                 .length = length };
        return QMIG_PARSE_DONE;
    }
    d->section_name = name;
    section_event(d, ev, s);
    if (known == QMIG_PARSE_DONE) {
        qmig_decoder_bulk(d, QMIG_BYTES_DEVICE, length, qmig_decoder_after_body(d));
    } else {
        qmig_decoder_go_raw(d, "device section \"%s\" comes before RAM: it has no length",
                            name.text);
    }
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
        begin_kept(d);
        qmig_decoder_bulk(d, QMIG_BYTES_PACKAGED, d->packaged_length, STATE_ITEM);
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
    case QMIG_SECTION_FULL:
        return parse_full(d, c, ev);
    case WIRE_COMMAND:
        return parse_command(d, c, need, ev, error);
    case WIRE_EOF:
        qmig_decoder_event(d, ev, QMIG_EVENT_EOF);
        if (d->colo) {
            d->state = STATE_COLO;
        } else {
            d->eof_seen = true;
            begin_tail(d);
        }
        return QMIG_PARSE_DONE;
    default:
        return qmig_decoder_fail(
            d, error, "type byte 0x%02x where a section or command was due", type);
    }
}

static QmigParse
parse_header(QmigDecoder *d, QmigCursor *c, size_t *need, struct qmig_event *ev,
             GError **error)
{
    uint32_t magic, version;

    if (*c->p == WIRE_COMMAND) {
        d->orphan = true;
        d->state = STATE_ITEM;
        return parse_item(d, c, need, ev, error);
    }
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
            d->section_name.text, type, id, WIRE_FOOTER, d->section_id);
    }
    qmig_decoder_event(d, ev, QMIG_EVENT_FOOTER);
    ev->u.footer.id = id;
    d->footers = FOOTERS_ON;
    d->state = STATE_ITEM;
    return QMIG_PARSE_DONE;
}

/* What the source says between the checkpoints of COLO. Nothing else may follow a tail. */
static QmigParse
parse_colo(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev)
{
    struct qmig_event_colo colo = { 0 };

    if (!qmig_cursor_be32(c, &colo.message)) {
        return QMIG_PARSE_SHORT;
    }
    switch (colo.message) {
    case QMIG_COLO_CHECKPOINT_REQUEST:
        break;
    case QMIG_COLO_VMSTATE_SEND:
        d->state = STATE_ITEM;
        break;
    case QMIG_COLO_VMSTATE_SIZE:
        if (!qmig_cursor_be64(c, &colo.length)) {
            return QMIG_PARSE_SHORT;
        }
        begin_kept(d);
        qmig_decoder_bulk(d, QMIG_BYTES_VMSTATE, colo.length, STATE_COLO);
        break;
    default:
        qmig_decoder_go_raw(d,
                            "0x%08x after the end of the stream, where only messages of "
                            "COLO may follow",
                            colo.message);
        qmig_decoder_event(d, ev, QMIG_EVENT_BYTES);
        ev->u.bytes = (struct qmig_event_bytes){ .kind = QMIG_BYTES_RAW,
                                                 .data = c->p - sizeof colo.message,
                                                 .length = sizeof colo.message };
        return QMIG_PARSE_DONE;
    }
    d->colo = true;
    qmig_decoder_event(d, ev, QMIG_EVENT_COLO);
    ev->u.colo = colo;
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
    case STATE_MAPPED_PAGE:
        return qmig_mapped_parse_page(d, c, need, ev);
    case STATE_HEADER:
        return parse_header(d, c, need, ev, error);
    case STATE_AFTER_HEADER:
        if (qmig_cursor_u8(&look, &type) && type == WIRE_CONFIGURATION) {
            *c = look;
            return qmig_config_parse(d, c, ev, error);
        }
        return parse_item(d, c, need, ev, error);
    case STATE_AFTER_CONFIG:
        if (qmig_cursor_u8(&look, &type) && type == WIRE_SUBSECTION) {
            *c = look;
            return qmig_config_parse_sub(d, c, ev, error);
        }
        return parse_item(d, c, need, ev, error);
    case STATE_ITEM:
        return parse_item(d, c, need, ev, error);
    case STATE_RAM_LIST:
        return qmig_blocks_parse_entry(d, c, ev, error);
    case STATE_BITMAP:
    case STATE_DISK:
    case STATE_VFIO:
        return qmig_iterable_parse(d, c, ev, error);
    case STATE_FOOTER:
        if (d->footers == FOOTERS_UNKNOWN && qmig_cursor_u8(&look, &type) &&
            type != WIRE_FOOTER) {
            /* The machine does not send them; no item begins with their byte. */
            d->footers = FOOTERS_OFF;
            d->state = STATE_ITEM;
            return parse_item(d, c, need, ev, error);
        }
        return parse_footer(d, c, ev, error);
    case STATE_COLO:
        return parse_colo(d, c, ev);
    case STATE_BULK:
    case STATE_TAIL:
    case STATE_RAW:
    case STATE_DONE:
    default:
        g_assert_not_reached();
    }
}

static void
bytes_event(QmigDecoder *d, struct qmig_event *ev, enum qmig_bytes_kind kind,
            const uint8_t *data, size_t n)
{
    qmig_decoder_event(d, ev, QMIG_EVENT_BYTES);
    ev->wire_size = n;
    ev->u.bytes = (struct qmig_event_bytes){ .kind = kind, .data = data, .length = n };
    d->offset += n;
}

/* What is to be done with bytes that are whole now. */
static void
end_bulk(QmigDecoder *d)
{
    size_t len = d->kept != NULL ? d->kept->len : 0;

    switch ((int)d->bulk_kind) {
    case QMIG_BYTES_MAPPED_BITMAP:
        qmig_mapped_begin_pages(d);
        break;
    case QMIG_BYTES_PACKAGED:
        qmig_notes_package(d, len);
        break;
    case QMIG_BYTES_VMSTATE:
        /* Without the EOF byte it ends with. */
        qmig_notes_package(d,
                           len > 0 && d->kept->data[len - 1] == WIRE_EOF ? len - 1 : len);
        break;
    default:
        break;
    }
}

static QmigDecodeResult
next_bulk(QmigDecoder *d, struct qmig_event *ev)
{
    const uint8_t *data;
    size_t n = qmig_window_take(&d->window, d->bulk_left, &data);

    if (n == 0) {
        return QMIG_DECODE_NEED_MORE;
    }
    d->bulk_left -= n;
    switch ((int)d->bulk_kind) {
    case QMIG_BYTES_PACKAGED:
    case QMIG_BYTES_VMSTATE:
        keep(d, data, n);
        break;
    case QMIG_BYTES_MAPPED_BITMAP:
        g_byte_array_append(d->mapped_bits, data, (guint)n);
        break;
    default:
        break;
    }
    bytes_event(d, ev, d->bulk_kind, data, n);
    if (d->bulk_left == 0) {
        d->state = d->bulk_next;
        end_bulk(d);
    }
    return QMIG_DECODE_EVENT;
}

static QmigDecodeResult
next_raw(QmigDecoder *d, struct qmig_event *ev)
{
    const uint8_t *data;
    size_t n = qmig_window_take(&d->window, UINT64_MAX, &data);

    if (n == 0) {
        return QMIG_DECODE_NEED_MORE;
    }
    bytes_event(d, ev, QMIG_BYTES_RAW, data, n);
    return QMIG_DECODE_EVENT;
}

/* 00 06 be32 n '{' at @at: the end of the n bytes; 0 when that is not there. */
static size_t
description_end(const GByteArray *tail, size_t at)
{
    QmigCursor c = qmig_cursor(tail->data + at, tail->len - at);
    uint8_t eof, type, brace;
    uint32_t n;

    if (qmig_cursor_u8(&c, &eof) && eof == WIRE_EOF && qmig_cursor_u8(&c, &type) &&
        type == WIRE_DESCRIPTION && qmig_cursor_be32(&c, &n) && n <= QMIG_LIMIT_TAIL &&
        qmig_cursor_u8(&c, &brace) && brace == '{') {
        return at + DESCRIPTION_HEAD + n;
    }
    return 0;
}

/* List where descriptions may begin, as far as the tail has come. */
static void
find_candidates(QmigDecoder *d)
{
    const GByteArray *tail = d->kept;

    while (tail->len - d->searched > DESCRIPTION_HEAD) {
        const uint8_t *from = tail->data + d->searched;
        size_t left = tail->len - d->searched - DESCRIPTION_HEAD;
        const uint8_t *found = memchr(from, WIRE_EOF, left);

        d->searched += found != NULL ? (size_t)(found - from) + 1 : left;
        if (found == NULL) {
            continue;
        }
        QmigTailCandidate candidate = { .at = d->searched - 1 };
        candidate.end = description_end(tail, candidate.at);
        if (candidate.end != 0 && d->n_candidates < QMIG_LIMIT_DESCRIPTIONS) {
            d->n_candidates++;
            g_array_append_val(d->candidates, candidate);
        }
    }
}

/*
 * Has the tail come to its end? A description may begin wherever the bytes of one are; it is one
 * when, once it is whole, it fits all that came before. So the end is found at the same byte
 * however the input is cut. Return: the tail's length, or 0.
 */
static size_t
find_tail_end(QmigDecoder *d)
{
    for (;;) {
        const QmigTailCandidate *first = NULL;
        guint index = 0;

        for (guint i = 0; i < d->candidates->len; i++) {
            const QmigTailCandidate *it = &g_array_index(d->candidates, QmigTailCandidate,
                                                         i);
            if (it->end <= d->kept->len && (first == NULL || it->end < first->end)) {
                first = it;
                index = i;
            }
        }
        if (first == NULL) {
            return 0;
        }
        size_t end = first->end;
        if (qmig_notes_tail(d, first->at, end)) {
            return end;
        }
        g_array_remove_index(d->candidates, index);
    }
}

static QmigDecodeResult
next_tail(QmigDecoder *d, struct qmig_event *ev)
{
    size_t before = d->kept != NULL ? d->kept->len : 0, end = 0;
    const uint8_t *data = d->window.in;
    size_t n = d->window.in_len;

    if (n == 0) {
        return QMIG_DECODE_NEED_MORE;
    }
    keep(d, data, n);
    if (d->kept != NULL) {
        find_candidates(d);
        end = find_tail_end(d);
    }
    if (end != 0) {
        n = end - before;
        g_byte_array_set_size(d->kept, (guint)end);
        d->state = STATE_COLO;
    }
    n = qmig_window_take(&d->window, n, &data);
    bytes_event(d, ev, QMIG_BYTES_TAIL, data, n);
    return QMIG_DECODE_EVENT;
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
next_input(QmigDecoder *d, struct qmig_event *ev, GError **error)
{
    if (G_UNLIKELY(d->state == STATE_MAPPED_PAGE) && d->window.carry_len == 0) {
        qmig_mapped_skip(d);
    }
    if (G_UNLIKELY(d->raw_pending)) {
        qmig_decoder_event(d, ev, QMIG_EVENT_RAW);
        ev->u.raw.reason = d->raw_reason;
        d->raw_pending = false;
        return QMIG_DECODE_EVENT;
    }
    switch ((int)d->state) {
    case STATE_BULK:
        return next_bulk(d, ev);
    case STATE_TAIL:
        return next_tail(d, ev);
    case STATE_RAW:
        return next_raw(d, ev);
    case STATE_DONE:
        return QMIG_DECODE_END;
    default:
        return next_record(d, ev, error);
    }
}

QmigDecodeResult
qmig_decoder_next(QmigDecoder *d, struct qmig_event *ev, GError **error)
{
    if (G_UNLIKELY(d->notes != NULL)) {
        if (qmig_notes_next(d, ev)) {
            return QMIG_DECODE_EVENT;
        }
        g_clear_pointer(&d->notes, qmig_notes_free);
    }
    QmigDecodeResult result = next_input(d, ev, error);

    if (result == QMIG_DECODE_NEED_MORE && d->eof) {
        qmig_notes_end(d);
        return qmig_decoder_next(d, ev, error);
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

uint32_t
qmig_decoder_page_size(const QmigDecoder *d)
{
    return d->page_size;
}
