/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The last sections that went by, and which of them failed.
 *
 * A destination that cannot load a section says so on its own stderr at best. What was written
 * tells little: all of the device state lies in socket buffers when the first of it is read. So
 * the last section begun is a guess, and called one; with PINGs between the sections the last
 * answer is a proof.
 */
#include "plugin/guard/report.h"

#include "plugin/guard/flight.h"
#include "util/auto.h"
#include "util/cursor.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

enum {
    SECTIONS_MAX = 64, /* the last ones */
    LATE_MAX = 64,
    PROBES_MAX = 4096,
    /* Type, be32 id, length of the name, be32 instance, be32 version. */
    SECTION_HEAD = 1 + 4 + 1 + 4 + 4,
    /* EOF, type, be32 length in front of the description. */
    DESCRIPTION_HEAD = 1 + 1 + 4,
    /* Values of PINGs: QEMU's own are small numbers. */
    PROBE_BASE = 0x716d0000,
};

typedef struct {
    char *name; /* owned */
    const char *type;
    uint32_t id, instance, version;
    uint64_t offset; /* of its head; of its state where in_tail */
    bool in_tail;
} Section;

typedef struct {
    char *where, *text; /* owned */
} Remark;

struct GuardLog {
    QmigFlight *flight;  /* NULL: none */
    GPtrArray *sections; /* Section *, the last SECTIONS_MAX */
    GPtrArray *probed;   /* Section *, in the order of their PINGs */
    uint64_t n_sections, n_late;
    bool has_begun;
    char *unchecked; /* owned (nullable) */
    Remark refused;
    GPtrArray *late;         /* Remark * */
    char *failure;           /* owned (nullable) */
    const Section *failing;  /* borrowed (nullable) */
    const char *how;         /* why that one */
    char *path, *path_error; /* owned (nullable) */
    QmigFlightFile file;
    GByteArray *tail; /* owned; of guard_log_send_probed() */
};

static void
section_free(void *data)
{
    Section *s = data;

    g_free(s->name);
    g_free(s);
}

static void
remark_free(void *data)
{
    Remark *r = data;

    g_free(r->where);
    g_free(r->text);
    g_free(r);
}

GuardLog *
guard_log_new(size_t keep)
{
    GuardLog *log = g_new0(GuardLog, 1);

    log->flight = keep > 0 ? qmig_flight_new(keep) : NULL;
    log->sections = g_ptr_array_new_with_free_func(section_free);
    log->probed = g_ptr_array_new_with_free_func(section_free);
    log->late = g_ptr_array_new_with_free_func(remark_free);
    log->tail = g_byte_array_new();
    return log;
}

void
guard_log_free(GuardLog *log)
{
    qmig_flight_free(log->flight);
    g_ptr_array_unref(log->sections);
    g_ptr_array_unref(log->probed);
    g_ptr_array_unref(log->late);
    g_byte_array_unref(log->tail);
    g_free(log->unchecked);
    g_free(log->refused.where);
    g_free(log->refused.text);
    g_free(log->failure);
    g_free(log->path);
    g_free(log->path_error);
    g_free(log);
}

/* ---- sections --------------------------------------------------------------------------- */

static void
add_section(GuardLog *log, const Section *section)
{
    if (log->sections->len == SECTIONS_MAX) {
        g_ptr_array_remove_index(log->sections, 0);
    }
    g_ptr_array_add(log->sections, g_memdup2(section, sizeof *section));
    log->n_sections++;
}

static Section
device_section(const struct qmig_event *ev)
{
    const struct qmig_event_device *d = &ev->u.device;

    return (Section){ g_strdup(d->name), "FULL",     d->section_id, d->instance,
                      d->version,        ev->offset, true };
}

/* The first section of a tail whose description has not come yet. */
static void
take_tail(GuardLog *log, const struct qmig_event *ev)
{
    QmigCursor c = qmig_cursor(ev->u.bytes.data, ev->u.bytes.length);
    Section s = { .type = "FULL", .in_tail = true };
    char name[256];
    uint8_t type, length;

    if (log->sections->len > 0 &&
        ((const Section *)log->sections->pdata[log->sections->len - 1])->in_tail) {
        return;
    }
    if (qmig_cursor_u8(&c, &type) && type == QMIG_SECTION_FULL &&
        qmig_cursor_be32(&c, &s.id) && qmig_cursor_cstr(&c, name, &length) &&
        qmig_cursor_be32(&c, &s.instance) && qmig_cursor_be32(&c, &s.version)) {
        s.name = g_strdup(name);
        s.offset = ev->offset + SECTION_HEAD + length;
        add_section(log, &s);
    }
}

static void
take_device(GuardLog *log, const struct qmig_event *ev)
{
    Section s = device_section(ev);
    const Section *last = log->sections->len > 0
                              ? log->sections->pdata[log->sections->len - 1]
                              : NULL;

    if (last != NULL && last->in_tail && last->offset == s.offset) {
        g_free(s.name); /* by take_tail() */
        return;
    }
    add_section(log, &s);
}

void
guard_log_take(GuardLog *log, const struct qmig_event *ev)
{
    static const char *const types[] = { "?", "START", "PART", "END", "FULL" };
    const struct qmig_event_section *s = &ev->u.section;

    log->has_begun = true;
    if (log->flight != NULL) {
        qmig_flight_take(log->flight, ev);
    }
    switch (ev->kind) {
    case QMIG_EVENT_SECTION: {
        Section section = { g_strdup(s->name),
                            types[s->type <= 4 ? s->type : 0],
                            s->id,
                            s->instance,
                            s->version,
                            ev->offset,
                            false };
        add_section(log, &section);
        break;
    }
    case QMIG_EVENT_DEVICE:
        take_device(log, ev);
        break;
    case QMIG_EVENT_BYTES:
        if (ev->u.bytes.kind == QMIG_BYTES_TAIL) {
            take_tail(log, ev);
        }
        break;
    default:
        break;
    }
}

bool
guard_log_has_begun(const GuardLog *log)
{
    return log->has_begun;
}

/* ---- remarks ---------------------------------------------------------------------------- */

void
guard_log_refusal(GuardLog *log, const char *where, const char *text)
{
    if (log->refused.text == NULL) {
        log->refused.where = g_strdup(where);
        log->refused.text = g_strdup(text);
    }
}

void
guard_log_late(GuardLog *log, const char *where, const char *text)
{
    log->n_late++;
    if (log->late->len < LATE_MAX) {
        Remark *r = g_new0(Remark, 1);

        r->where = g_strdup(where);
        r->text = g_strdup(text);
        g_ptr_array_add(log->late, r);
    }
}

void
guard_log_unchecked(GuardLog *log, const char *why)
{
    g_free(log->unchecked);
    log->unchecked = g_strdup(why);
}

/* ---- probes ----------------------------------------------------------------------------- */

static int
send_ping(struct qmig_next *next, uint32_t value, uint64_t offset)
{
    uint8_t data[4] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 8), (uint8_t)value };
    struct qmig_event ev = { .size = sizeof ev,
                             .kind = QMIG_EVENT_COMMAND,
                             .offset = offset,
                             .wire_size = 5 + sizeof data };

    ev.u.command = (struct qmig_event_command){ QMIG_COMMAND_PING, sizeof data, data };
    return next->event(next, &ev, 0);
}

static int
send_piece(struct qmig_next *next, const struct qmig_event *first, const GByteArray *tail,
           size_t from, size_t to)
{
    struct qmig_event ev = *first;

    if (from == to) {
        return 0;
    }
    ev.offset = first->offset + from;
    ev.wire_size = to - from;
    ev.u.bytes.data = tail->data + from;
    ev.u.bytes.length = to - from;
    return next->event(next, &ev, 0);
}

/* Where in the tail each section begins, and behind the last one the end. False: they do not add
   up to a tail. */
static bool
find_borders(GuardLog *log, const GPtrArray *events, uint64_t base, size_t length,
             GArray *borders)
{
    bool described = false;

    for (guint i = 0; i < events->len && !described; i++) {
        const struct qmig_event *ev = events->pdata[i];
        uint64_t behind = 0;

        if (ev->kind == QMIG_EVENT_DEVICE) {
            behind = ev->offset - SECTION_HEAD - strlen(ev->u.device.name);
            Section s = device_section(ev);
            g_ptr_array_add(log->probed, g_memdup2(&s, sizeof s));
        } else if (ev->kind == QMIG_EVENT_DESCRIPTION) {
            behind = ev->offset - DESCRIPTION_HEAD;
            described = true;
        } else {
            continue;
        }
        size_t at = (size_t)(behind - base);
        size_t last = borders->len > 0 ? g_array_index(borders, size_t, borders->len - 1)
                                       : 0;
        if (behind < base || at > length || at < last || log->probed->len > PROBES_MAX) {
            return false;
        }
        g_array_append_val(borders, at);
    }
    return described && log->probed->len > 0;
}

int
guard_log_send_probed(GuardLog *log, QmigHold *hold, struct qmig_next *next)
{
    const GPtrArray *events = qmig_hold_events(hold);
    const struct qmig_event *first = events->pdata[0];
    GByteArray *tail = log->tail;
    g_autoptr(GArray) borders = g_array_new(FALSE, FALSE, sizeof(size_t));
    size_t from = 0;
    int result = 0;

    for (guint i = 0; i < events->len; i++) {
        const struct qmig_event *ev = events->pdata[i];
        if (ev->kind == QMIG_EVENT_BYTES) {
            g_byte_array_append(tail, ev->u.bytes.data, (guint)ev->u.bytes.length);
        }
    }
    if (!find_borders(log, events, first->offset, tail->len, borders)) {
        g_ptr_array_set_size(log->probed, 0);
        return qmig_hold_send(hold, next);
    }
    for (guint i = 0; i < borders->len && result == 0; i++) {
        size_t at = g_array_index(borders, size_t, i);

        result = send_piece(next, first, tail, from, at);
        if (result == 0) {
            result = send_ping(next, PROBE_BASE + i, first->offset + at);
        }
        from = at;
    }
    if (result == 0) {
        result = send_piece(next, first, tail, from, tail->len);
    }
    for (guint i = 0; i < events->len && result == 0; i++) {
        const struct qmig_event *ev = events->pdata[i];
        result = ev->kind == QMIG_EVENT_BYTES ? 0 : next->event(next, ev, 0);
    }
    qmig_hold_drop(hold);
    return result;
}

/* ---- the end ---------------------------------------------------------------------------- */

static const Section *
last_sent(const GuardLog *log, bool tail_left)
{
    for (guint i = log->sections->len; i > 0; i--) {
        const Section *s = log->sections->pdata[i - 1];
        if (!s->in_tail || tail_left) {
            return s;
        }
    }
    return NULL;
}

void
guard_log_failed(GuardLog *log, const char *failure, bool tail_left, int64_t pong)
{
    int64_t loaded = pong - PROBE_BASE;

    g_free(log->failure);
    log->failure = g_strdup(failure);
    if (log->refused.text != NULL) {
        log->failing = last_sent(log, true);
        log->how = "refused here";
    } else if (log->probed->len == 0) {
        log->failing = last_sent(log, tail_left);
        log->how = "the last one begun in what was written";
    } else if (loaded < 0 || loaded > (int64_t)log->probed->len) {
        log->failing = last_sent(log, false);
        log->how = "proven: the destination did not come to device state";
    } else if (loaded == (int64_t)log->probed->len) {
        log->failing = NULL;
        log->how = "proven: all device state was loaded";
    } else {
        log->failing = log->probed->pdata[loaded];
        log->how = "proven: the destination has answered before it, and not behind it";
    }
}

static void
add_text(JsonObject *o, const char *key, const char *text)
{
    if (text != NULL) {
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        json_object_object_add(o, key, json_object_new_string(valid));
    }
}

static JsonObject *
section_json(const Section *s)
{
    JsonObject *o = json_object_new_object();

    add_text(o, "type", s->type);
    add_text(o, "name", s->name);
    json_object_object_add(o, "id", json_object_new_int64(s->id));
    json_object_object_add(o, "instance", json_object_new_int64(s->instance));
    json_object_object_add(o, "version", json_object_new_int64(s->version));
    json_object_object_add(o, "offset", json_object_new_uint64(s->offset));
    return o;
}

static JsonObject *
summary(const GuardLog *log)
{
    JsonObject *o = json_object_new_object(), *file = json_object_new_object();
    JsonObject *list = json_object_new_array();

    add_text(o, "format", "qmig-flight");
    json_object_object_add(o, "version", json_object_new_int(1));
    add_text(o, "failure", log->failure);
    add_text(o, "refused", log->refused.text);
    if (log->failing != NULL) {
        json_object_object_add(o, "section", section_json(log->failing));
    }
    add_text(o, "how", log->how);
    json_object_object_add(file, "bytes", json_object_new_uint64(log->file.bytes));
    json_object_object_add(file, "from", json_object_new_uint64(log->file.from));
    json_object_object_add(file, "whole", json_object_new_boolean(log->file.is_whole));
    json_object_object_add(file, "readable", json_object_new_boolean(log->file.readable));
    json_object_object_add(o, "file", file);
    json_object_object_add(o, "sections", list);
    for (guint i = 0; i < log->sections->len; i++) {
        json_object_array_add(list, section_json(log->sections->pdata[i]));
    }
    return o;
}

void
guard_log_write(GuardLog *log, const char *path)
{
    g_autofree char *json_path = g_strconcat(path, ".json", NULL);
    g_autoptr(GError) error = NULL;

    log->path = g_strdup(path);
    if (qmig_flight_write(log->flight, path, &log->file, &error)) {
        g_autoptr(JsonObject) o = summary(log);
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY);
        if (g_file_set_contents_full(json_path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT,
                                     0600, &error)) {
            return;
        }
    }
    log->path_error = g_strdup(error->message);
}

char *
guard_log_describe(const GuardLog *log)
{
    GString *text = g_string_new(log->failure);
    const Section *s = log->failing;

    if (s != NULL) {
        g_string_append_printf(
            text, "; section \"%s\" (instance %u, version %u, offset %" PRIu64 "): %s",
            s->name, s->instance, s->version, s->offset, log->how);
    } else if (log->how != NULL) {
        g_string_append_printf(text, "; %s", log->how);
    }
    if (log->path_error != NULL) {
        g_string_append_printf(text, "; the last of the stream could not be kept: %s",
                               log->path_error);
    } else if (log->path != NULL) {
        g_string_append_printf(text, "; the last of the stream is in %s", log->path);
    }
    return g_string_free(text, FALSE);
}

static void
report_remarks(const GuardLog *log, struct qmig_report *r)
{
    if (log->refused.text != NULL) {
        r->begin_group(r, "refused");
        r->text(r, "where", log->refused.where);
        r->text(r, "text", log->refused.text);
        r->end(r);
    }
    if (log->unchecked != NULL) {
        r->text(r, "unchecked", log->unchecked);
    }
    r->number(r, "late", log->n_late);
    if (log->late->len > 0) {
        r->begin_list(r, "late_list");
        for (guint i = 0; i < log->late->len; i++) {
            const Remark *remark = log->late->pdata[i];
            r->begin_group(r, NULL);
            r->text(r, "where", remark->where);
            r->text(r, "text", remark->text);
            r->end(r);
        }
        r->end(r);
    }
}

void
guard_log_report(const GuardLog *log, struct qmig_report *r)
{
    const Section *s = log->failing;

    r->number(r, "sections", log->n_sections);
    r->number(r, "probes", log->probed->len);
    report_remarks(log, r);
    if (log->failure == NULL) {
        return;
    }
    r->text(r, "failure", log->failure);
    r->text(r, "how", log->how);
    if (s != NULL) {
        r->begin_group(r, "section");
        r->text(r, "name", s->name);
        r->number(r, "instance", s->instance);
        r->number(r, "version", s->version);
        r->number(r, "offset", s->offset);
        r->end(r);
    }
    if (log->path != NULL) {
        r->text(r, "flight", log->path);
    }
    if (log->path_error != NULL) {
        r->text(r, "flight_error", log->path_error);
    }
}
