/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration section: machine type, and what changes the format of the rest. */
#include "stream/bounds.h"
#include "stream/decoder-priv.h"

QmigParse
qmig_config_parse(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev, GError **error)
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
    d->mapped_ram = mapped_ram;
    return QMIG_PARSE_DONE;
}

/* A subsection's fields have no length either; these three are known. */
QmigParse
qmig_config_parse_sub(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev,
                      GError **error)
{
    QmigParse result = QMIG_PARSE_DONE;
    char *name = d->section_name.text;
    uint32_t version;

    if (!(qmig_cursor_cstr(c, name, &d->section_name.length) &&
          qmig_cursor_be32(c, &version))) {
        return QMIG_PARSE_SHORT;
    }
    const uint8_t *data = c->p;
    if (strcmp(name, "configuration/target-page-bits") == 0) {
        result = take_page_bits(d, c, error);
    } else if (strcmp(name, "configuration/capabilities") == 0) {
        result = take_capabilities(d, c, error);
    } else if (strcmp(name, "configuration/uuid") == 0) {
        result = qmig_cursor_skip(c, 16) ? QMIG_PARSE_DONE : QMIG_PARSE_SHORT;
    } else {
        qmig_decoder_go_raw(d, "configuration subsection \"%s\" is not known", name);
    }
    if (result == QMIG_PARSE_DONE) {
        qmig_decoder_event(d, ev, QMIG_EVENT_CONFIG_SUB);
        ev->u.config_sub = (struct qmig_event_config_sub){
            .name = name,
            .name_length = d->section_name.length,
            .version = version,
            .data = data,
            .length = (uint64_t)(c->p - data),
        };
    }
    return result;
}
