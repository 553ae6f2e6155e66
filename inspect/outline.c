/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Events -> outline entries. What belongs together on the wire (a section with its records and
 * footer, bytes in pieces) is gathered in one pending entry.
 */
#include "inspect/outline.h"

#include "inspect/capture.h"
#include "inspect/times.h"
#include "stream/command.h"

#include <string.h>

enum { N_PAGE_KINDS = 5 };
static const struct {
    unsigned kind;
    const char *name;
} page_kinds[N_PAGE_KINDS] = {
    { QMIG_PAGE_NORMAL, "normal" }, { QMIG_PAGE_ZERO, "zero" },
    { QMIG_PAGE_XBZRLE, "xbzrle" }, { QMIG_PAGE_ZLIB, "zlib" },
    { QMIG_PAGE_MAPPED, "mapped" },
};

static const char *const section_types[] = {
    [QMIG_SECTION_START] = "start",
    [QMIG_SECTION_PART] = "part",
    [QMIG_SECTION_END] = "end",
    [QMIG_SECTION_FULL] = "full",
};

static const char *const bytes_names[] = {
    [QMIG_BYTES_TAIL] = "device-state",
    [QMIG_BYTES_PACKAGED] = "package",
    [QMIG_BYTES_RAW] = "raw",
    [QMIG_BYTES_VMSTATE] = "checkpoint",
};

typedef struct {
    const QmigOutlineSink *sink;
    const char *channel;
    unsigned number;    /* of the channel's connection */
    QmigTimes *times;   /* owned; NULL when nobody noted them */
    JsonObject *entry;  /* owned; what is being gathered, or NULL */
    JsonObject *blocks; /* borrowed from entry: its block list, or NULL */
    uint64_t size;      /* of what is gathered, bytes */
    uint64_t count;     /* sections gathered */
    uint64_t pages[N_PAGE_KINDS];
    uint64_t flushes;
    uint64_t records; /* of sections other than RAM */
    uint64_t packets; /* of a multifd channel */
    unsigned type;    /* of the section gathered; 0: none */
    uint32_t id;
    unsigned bytes_kind; /* of the bytes gathered; 0: none */
} Outline;

static void
add_number(JsonObject *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_uint64(value));
}

static void
add_text(JsonObject *object, const char *key, const char *text)
{
    json_object_object_add(object, key, json_object_new_string(text));
}

static JsonObject *
new_entry(const Outline *o, const struct qmig_event *ev, const char *what)
{
    JsonObject *entry = json_object_new_object();
    uint64_t t_us;

    add_text(entry, "channel", o->channel);
    if (o->times != NULL && qmig_times_at(o->times, o->number, ev->offset, &t_us)) {
        add_number(entry, "t_us", t_us);
    }
    add_number(entry, "offset", ev->offset);
    add_number(entry, "size", ev->wire_size);
    add_text(entry, "what", what);
    return entry;
}

/* Give out what was gathered. */
static void
flush(Outline *o)
{
    uint64_t n_pages = 0;

    if (o->entry == NULL) {
        return;
    }
    add_number(o->entry, "size", o->size);
    if (o->count > 1) {
        add_number(o->entry, "count", o->count);
    }
    for (int i = 0; i < N_PAGE_KINDS; i++) {
        n_pages += o->pages[i];
    }
    if (n_pages > 0) {
        JsonObject *pages = json_object_new_object();

        for (int i = 0; i < N_PAGE_KINDS; i++) {
            if (o->pages[i] > 0) {
                add_number(pages, page_kinds[i].name, o->pages[i]);
            }
        }
        json_object_object_add(o->entry, "pages", pages);
    }
    if (o->flushes > 0) {
        add_number(o->entry, "flushes", o->flushes);
    }
    if (o->records > 0) {
        add_number(o->entry, "records", o->records);
    }
    if (o->packets > 0) {
        add_number(o->entry, "packets", o->packets);
    }
    o->sink->entry(o->sink->self, o->entry);
    g_clear_pointer(&o->entry, json_object_put);
}

/* Begin to gather. @entry is taken over. */
static void
gather(Outline *o, JsonObject *entry)
{
    flush(o);
    o->entry = entry;
    o->blocks = NULL;
    o->size = 0;
    o->count = 0;
    memset(o->pages, 0, sizeof o->pages);
    o->flushes = o->records = o->packets = 0;
    o->type = 0;
    o->bytes_kind = 0;
}

/* An entry that is complete at once. */
static void
give(Outline *o, JsonObject *entry)
{
    flush(o);
    o->sink->entry(o->sink->self, entry);
    json_object_put(entry);
}

static void
on_section(Outline *o, const struct qmig_event *ev)
{
    const struct qmig_event_section *s = &ev->u.section;
    bool joins = o->entry != NULL && o->type == QMIG_SECTION_PART && s->type == o->type &&
                 s->id == o->id && !o->sink->every;

    if (!joins) {
        gather(o, new_entry(o, ev, "section"));
        add_text(o->entry, "type", section_types[s->type]);
        add_text(o->entry, "name", s->name);
        add_number(o->entry, "id", s->id);
        if (s->type == QMIG_SECTION_START || s->type == QMIG_SECTION_FULL) {
            add_number(o->entry, "instance", s->instance);
            add_number(o->entry, "version", s->version);
        }
        o->type = s->type;
        o->id = s->id;
    }
    o->count++;
}

static void
on_block(Outline *o, const struct qmig_event_ram_block *entry)
{
    JsonObject *block = json_object_new_object();

    if (o->blocks == NULL) {
        o->blocks = json_object_new_array();
        json_object_object_add(o->entry, "blocks", o->blocks);
    }
    add_text(block, "name", entry->block->name);
    add_number(block, "length", entry->block->used_length);
    if (entry->has_gpa) {
        add_number(block, "gpa", entry->block->gpa);
    }
    if (entry->host_page_size != 0) {
        add_number(block, "page_size", entry->host_page_size);
    }
    if (entry->mapped_version != 0) {
        add_number(block, "bitmap_offset", entry->bitmap_offset);
        add_number(block, "pages_offset", entry->pages_offset);
    }
    json_object_array_add(o->blocks, block);
}

/* Records inside a section. */
static void
on_record(Outline *o, const struct qmig_event *ev)
{
    switch (ev->kind) {
    case QMIG_EVENT_PAGE:
        for (int i = 0; i < N_PAGE_KINDS; i++) {
            o->pages[i] += ev->u.page.kind == page_kinds[i].kind;
        }
        break;
    case QMIG_EVENT_RAM_SIZE:
        add_number(o->entry, "total", ev->u.ram_size.total);
        break;
    case QMIG_EVENT_RAM_BLOCK:
        on_block(o, &ev->u.ram_block);
        break;
    case QMIG_EVENT_RAM_FLUSH:
        o->flushes++;
        break;
    case QMIG_EVENT_DIRTY_BITMAP:
    case QMIG_EVENT_DISK_BLOCK:
    case QMIG_EVENT_VFIO:
        o->records++;
        break;
    default:
        break;
    }
}

static void
on_command(Outline *o, const struct qmig_event *ev)
{
    const struct qmig_event_command *cmd = &ev->u.command;
    const char *name = qmig_command_name(cmd->command);
    JsonObject *entry = new_entry(o, ev, "command");

    add_text(entry, "name", name != NULL ? name : "unknown");
    add_number(entry, "command", cmd->command);
    add_number(entry, "length", cmd->length);
    if (ev->flags & QMIG_EVENT_NOTE) {
        add_text(entry, "inside", "package");
    }
    give(o, entry);
}

static void
on_bytes(Outline *o, const struct qmig_event *ev)
{
    unsigned kind = ev->u.bytes.kind;

    if (kind >= G_N_ELEMENTS(bytes_names) || bytes_names[kind] == NULL) {
        return; /* inside a section */
    }
    if (o->entry == NULL || o->bytes_kind != kind) {
        gather(o, new_entry(o, ev, bytes_names[kind]));
        o->bytes_kind = kind;
    }
}

static void
on_config(Outline *o, const struct qmig_event *ev)
{
    bool is_sub = ev->kind == QMIG_EVENT_CONFIG_SUB;
    JsonObject *entry = new_entry(o, ev, "configuration");

    if (is_sub) {
        add_text(entry, "name", ev->u.config_sub.name);
        add_number(entry, "length", ev->u.config_sub.length);
    } else {
        json_object_object_add(
            entry, "machine",
            json_object_new_string_len(ev->u.config.machine, (int)ev->u.config.length));
    }
    give(o, entry);
}

static void
on_device(Outline *o, const struct qmig_event *ev)
{
    const struct qmig_event_device *device = &ev->u.device;
    JsonObject *entry = new_entry(o, ev, "device");

    if (o->bytes_kind == QMIG_BYTES_TAIL) {
        /* Told by its devices now. */
        g_clear_pointer(&o->entry, json_object_put);
    }
    add_number(entry, "size", device->length);
    add_text(entry, "name", device->name);
    add_number(entry, "id", device->section_id);
    add_number(entry, "instance", device->instance);
    add_number(entry, "version", device->version);
    give(o, entry);
}

static void
on_end(Outline *o, const struct qmig_event *ev)
{
    JsonObject *entry = new_entry(o, ev, "end");

    json_object_object_add(entry, "complete",
                           json_object_new_boolean((json_bool)ev->u.end.complete));
    if (ev->u.end.reason[0] != '\0') {
        add_text(entry, "reason", ev->u.end.reason);
    }
    give(o, entry);
}

/* All packets of a round together. */
static void
on_packet(Outline *o, const struct qmig_event *ev)
{
    const struct qmig_multifd_packet *p = ev->u.multifd_packet.packet;

    if (o->entry == NULL || o->packets == 0 || o->sink->every) {
        gather(o, new_entry(o, ev, "packets"));
    }
    o->packets++;
    o->pages[0] += p->normal_pages;
    o->pages[1] += p->zero_pages;
    o->size += ev->wire_size;
    if (p->flags & QMIG_MULTIFD_SYNC) {
        json_object_object_add(o->entry, "sync", json_object_new_boolean(true));
        flush(o);
    }
}

/* Whatever is no record of a section. Return: false for those. */
static bool
on_other(Outline *o, const struct qmig_event *ev)
{
    JsonObject *entry;

    switch (ev->kind) {
    case QMIG_EVENT_HEADER:
        entry = new_entry(o, ev, "header");
        add_number(entry, "version", ev->u.header.version);
        give(o, entry);
        return true;
    case QMIG_EVENT_CONFIG:
    case QMIG_EVENT_CONFIG_SUB:
        on_config(o, ev);
        return true;
    case QMIG_EVENT_COMMAND:
        on_command(o, ev);
        return true;
    case QMIG_EVENT_MULTIFD_INIT:
        entry = new_entry(o, ev, "multifd-init");
        add_number(entry, "id", ev->u.multifd_init.channel);
        give(o, entry);
        return true;
    case QMIG_EVENT_MULTIFD_PACKET:
        on_packet(o, ev);
        return true;
    case QMIG_EVENT_COLO:
        entry = new_entry(o, ev, "colo");
        add_number(entry, "message", ev->u.colo.message);
        give(o, entry);
        return true;
    case QMIG_EVENT_EOF:
        give(o, new_entry(o, ev, "eof"));
        return true;
    case QMIG_EVENT_RAW:
        entry = new_entry(o, ev, "not-read");
        add_text(entry, "reason", ev->u.raw.reason);
        give(o, entry);
        return true;
    case QMIG_EVENT_DEVICE:
        on_device(o, ev);
        return true;
    case QMIG_EVENT_DESCRIPTION:
        entry = new_entry(o, ev, "description");
        add_number(entry, "size", ev->u.description.length);
        give(o, entry);
        return true;
    case QMIG_EVENT_END:
        on_end(o, ev);
        return true;
    default:
        return false;
    }
}

static bool
on_event(void *self, const QmigReaderChannel *channel, const struct qmig_event *ev,
         GError **error)
{
    Outline *o = self;

    (void)error;
    if (o->channel != channel->name) {
        flush(o);
        o->channel = channel->name;
        o->number = channel->number;
    }
    if (ev->kind == QMIG_EVENT_SECTION) {
        on_section(o, ev);
    } else if (ev->kind == QMIG_EVENT_BYTES) {
        on_bytes(o, ev);
    } else if (on_other(o, ev)) {
        return true;
    } else if (o->entry != NULL) {
        on_record(o, ev);
    }
    o->size += ev->wire_size;
    if (ev->kind == QMIG_EVENT_FOOTER && o->type != QMIG_SECTION_PART) {
        flush(o);
    }
    return true;
}

bool
qmig_outline_run(const char *path, const QmigOutlineSink *sink, QmigReaderEnd *end,
                 GError **error)
{
    Outline o = { .sink = sink };
    QmigReaderSink reader = { .self = &o, .event = on_event };
    bool ok;

    if (qmig_capture_is_at(path)) {
        o.times = qmig_times_load(path, error);
        if (o.times == NULL) {
            return false;
        }
    }
    ok = qmig_reader_run(path, &reader, end, error);
    flush(&o);
    qmig_times_free(o.times);
    return ok;
}
