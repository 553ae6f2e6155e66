/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See convert.h: first everything is collected, then it is written. */
#include "inspect/convert.h"

#include "compress/zero.h"
#include "inspect/guest-ram.h"
#include "stream/bounds.h"
#include "stream/encoder.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum {
    EOS_PAGES = 16384,                /* pages of one PART section */
    MAPPED_ROM_MAX = 16 << 20,        /* no ROM or flash is larger */
    MAPPED_ALIGNMENT = 1 << 20,       /* of pages in a mapped-ram file, as QEMU has it */
    MAPPED_HEADER = 4 + 3 * 8,        /* bytes of it in a block's entry */
    SECTION_HEAD = 1 + 4 + 1 + 4 + 4, /* of a FULL section, without its name */
    FOOTER_SIZE = 5,
    DESCRIPTION_HEAD = 5, /* type byte, be32 length */
};

#define MAPPED_CAPABILITY "mapped-ram"
#define CAPABILITIES "configuration/capabilities"

/* What is collected. Buffers hold bytes as they go to the output. */
typedef struct {
    QmigGuestRam *ram;
    QmigEncoder *encoder;
    GString *machine;        /* NULL: no configuration section */
    GByteArray *config;      /* its subsections but the capabilities */
    GPtrArray *capabilities; /* char *, owned */
    GByteArray *before;      /* device sections before RAM */
    GByteArray *others;      /* sections other than RAM */
    GByteArray *tail;        /* device state, EOF, description */
    size_t description;      /* bytes at the end of tail */
    size_t package, proven;  /* bytes of the last package, and of its proven items */
    struct qmig_event_section ram_section;
    GArray *blocks;     /* struct qmig_event_ram_block; block members are ours */
    GByteArray *target; /* where the current section goes, or NULL */
    bool has_footers;
} Guest;

static void
free_block(gpointer data)
{
    const struct qmig_event_ram_block *entry = data;

    g_free((char *)entry->block->name);
    g_free((struct qmig_block *)entry->block);
}

static void
guest_clear(Guest *g)
{
    g_clear_pointer(&g->ram, qmig_guest_ram_free);
    g_clear_pointer(&g->encoder, qmig_encoder_free);
    if (g->machine != NULL) {
        g_string_free(g->machine, TRUE);
    }
    g_ptr_array_unref(g->capabilities);
    g_array_unref(g->blocks);
    g_byte_array_unref(g->config);
    g_byte_array_unref(g->before);
    g_byte_array_unref(g->others);
    g_byte_array_unref(g->tail);
}

static void
guest_init(Guest *g)
{
    *g = (Guest){
        .ram = qmig_guest_ram_new(NULL),
        .encoder = qmig_encoder_new(),
        .config = g_byte_array_new(),
        .capabilities = g_ptr_array_new_with_free_func(g_free),
        .before = g_byte_array_new(),
        .others = g_byte_array_new(),
        .tail = g_byte_array_new(),
        .blocks = g_array_new(FALSE, TRUE, sizeof(struct qmig_event_ram_block)),
    };
    g_array_set_clear_func(g->blocks, free_block);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Guest, guest_clear)

/* ---- collecting --------------------------------------------------------------------------- */

/* Append what @ev is on the wire. */
static bool
keep(Guest *g, GByteArray *to, const struct qmig_event *ev, GError **error)
{
    const struct iovec *iov;
    size_t bytes, n;

    if (!qmig_encoder_put(g->encoder, ev, error)) {
        return false;
    }
    n = qmig_encoder_pending(g->encoder, &iov, &bytes);
    if (bytes > QMIG_LIMIT_TAIL - to->len) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "state other than memory of more than %d bytes",
                              QMIG_LIMIT_TAIL);
    }
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(to, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    qmig_encoder_clear(g->encoder);
    return true;
}

static bool
on_config_sub(Guest *g, const struct qmig_event *ev, GError **error)
{
    const struct qmig_event_config_sub *sub = &ev->u.config_sub;
    QmigCursor c = qmig_cursor(sub->data, sub->length);
    uint32_t count;
    uint8_t len;
    char name[256];

    if (strcmp(sub->name, CAPABILITIES) != 0) {
        return keep(g, g->config, ev, error);
    }
    if (qmig_cursor_be32(&c, &count)) {
        while (qmig_cursor_cstr(&c, name, &len)) {
            if (strcmp(name, MAPPED_CAPABILITY) != 0) {
                g_ptr_array_add(g->capabilities, g_strdup(name));
            }
        }
    }
    return true;
}

static void
on_block(Guest *g, const struct qmig_event_ram_block *entry)
{
    struct qmig_block *block = g_memdup2(entry->block, sizeof *block);
    struct qmig_event_ram_block mine = { .block = block, .has_gpa = entry->has_gpa };

    block->name = g_memdup2(entry->block->name, block->name_length + 1);
    g_array_append_val(g->blocks, mine);
}

/* A package or checkpoint replaces the device state so far. */
static void
begin_package(Guest *g, size_t length)
{
    g->package = length;
    g->proven = 0;
    g->description = 0;
    g_byte_array_set_size(g->tail, 0);
}

/* A proven section of a package: write it as it was. */
static bool
on_device(Guest *g, const struct qmig_event_device *device, GError **error)
{
    struct qmig_event section = { .kind = QMIG_EVENT_SECTION };
    struct qmig_event state = { .kind = QMIG_EVENT_BYTES };
    struct qmig_event footer = { .kind = QMIG_EVENT_FOOTER };

    section.u.section = (struct qmig_event_section){
        .type = QMIG_SECTION_FULL,
        .id = device->section_id,
        .name = device->name,
        .name_length = (uint32_t)strlen(device->name),
        .instance = device->instance,
        .version = device->version,
    };
    state.u.bytes.data = device->data;
    state.u.bytes.length = device->length;
    footer.u.footer.id = device->section_id;
    g->proven += SECTION_HEAD + strlen(device->name) + device->length + FOOTER_SIZE;
    return keep(g, g->tail, &section, error) && keep(g, g->tail, &state, error) &&
           keep(g, g->tail, &footer, error);
}

static bool
on_command(Guest *g, const struct qmig_event *ev)
{
    const struct qmig_event_command *cmd = &ev->u.command;

    if (ev->flags & QMIG_EVENT_NOTE) {
        g->proven += 5 + cmd->length;
    }
    return true;
}

static bool
on_section(Guest *g, const struct qmig_event *ev, GError **error)
{
    const struct qmig_event_section *s = &ev->u.section;

    g->target = s->type == QMIG_SECTION_FULL ? g->before : g->others;
    if (strcmp(s->name, "ram") == 0) {
        g->target = NULL;
        g->ram_section.id = s->id;
    } else if (strcmp(s->name, "block") == 0) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "disk contents in the stream (section \"block\")");
    }
    return g->target == NULL || keep(g, g->target, ev, error);
}

static bool
on_bytes(Guest *g, const struct qmig_event *ev, GError **error)
{
    switch (ev->u.bytes.kind) {
    case QMIG_BYTES_TAIL:
        return keep(g, g->tail, ev, error);
    case QMIG_BYTES_PACKAGED:
        if (g->package == 0) {
            begin_package(g, 0);
        }
        g->package += ev->u.bytes.length;
        return true;
    case QMIG_BYTES_VMSTATE:
        if (g->package == 0) {
            begin_package(g, 0);
        }
        /* Its EOF byte is in no item. */
        g->package += ev->u.bytes.length;
        return true;
    default:
        return g->target == NULL || keep(g, g->target, ev, error);
    }
}

static bool
on_event(void *self, const QmigReaderChannel *channel, const struct qmig_event *ev,
         GError **error)
{
    Guest *g = self;

    switch (ev->kind) {
    case QMIG_EVENT_CONFIG:
        g->machine = g_string_new_len(ev->u.config.machine, ev->u.config.length);
        return true;
    case QMIG_EVENT_CONFIG_SUB:
        return on_config_sub(g, ev, error);
    case QMIG_EVENT_SECTION:
        return on_section(g, ev, error);
    case QMIG_EVENT_FOOTER:
        g->has_footers = true;
        return g->target == NULL || keep(g, g->target, ev, error);
    case QMIG_EVENT_DIRTY_BITMAP:
    case QMIG_EVENT_VFIO:
        return keep(g, g->others, ev, error);
    case QMIG_EVENT_BYTES:
        return on_bytes(g, ev, error);
    case QMIG_EVENT_COLO:
        g->package = ev->u.colo.message == QMIG_COLO_VMSTATE_SIZE ? 0 : g->package;
        return true;
    case QMIG_EVENT_DEVICE:
        return g->package == 0 || on_device(g, &ev->u.device, error);
    case QMIG_EVENT_DESCRIPTION:
        g->description = DESCRIPTION_HEAD + ev->u.description.length;
        return true;
    case QMIG_EVENT_RAM_BLOCK:
        on_block(g, &ev->u.ram_block);
        return qmig_guest_ram_apply(g->ram, channel, ev, error);
    case QMIG_EVENT_COMMAND:
        return on_command(g, ev) && qmig_guest_ram_apply(g->ram, channel, ev, error);
    default:
        return qmig_guest_ram_apply(g->ram, channel, ev, error);
    }
}

/* Is the device state whole, and does it end as the stream is to end? */
static bool
finish_tail(Guest *g, bool drop_description, GError **error)
{
    static const uint8_t eof_byte = 0;

    if (g->package == 0) {
        if (drop_description) {
            g_byte_array_set_size(g->tail, (guint)(g->tail->len - g->description));
        }
        return true;
    }
    /* A checkpoint's EOF byte is beside its items. */
    if (g->package - g->proven > 1) {
        return qmig_set_error(
            error, QMIG_ERROR_UNSUPPORTED,
            "device state: %zu of %zu bytes without a description can be "
            "read in several ways",
            g->package - g->proven, g->package);
    }
    g_byte_array_append(g->tail, &eof_byte, 1);
    return true;
}

static bool
collect(Guest *g, const char *path, const QmigConvertOptions *options, GError **error)
{
    QmigReaderSink sink = { .self = g, .event = on_event, .progress = options->progress };
    g_auto(QmigReaderEnd) end = { 0 };

    if (!qmig_reader_run(path, &sink, &end, error)) {
        return false;
    }
    if (!end.complete) {
        return qmig_set_error(error, QMIG_ERROR_STATE, "%s: not complete: %s", path,
                              end.reason);
    }
    return finish_tail(g, options->drop_description, error);
}

/* ---- writing ------------------------------------------------------------------------------ */

typedef struct {
    const Guest *g;
    int fd;
    QmigEncoder *encoder;
    uint64_t offset; /* bytes written, or sought over */
} Output;

static bool
write_bytes(Output *out, const void *data, size_t len, GError **error)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = write(out->fd, p, len);

        if (n < 0 && errno != EINTR) {
            return qmig_set_error_errno(error, errno, "writing at byte %" PRIu64,
                                        out->offset);
        }
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            out->offset += (uint64_t)n;
        }
    }
    return true;
}

static bool
flush(Output *out, GError **error)
{
    const struct iovec *iov;
    size_t bytes, n = qmig_encoder_pending(out->encoder, &iov, &bytes);

    for (size_t i = 0; i < n; i++) {
        if (!write_bytes(out, iov[i].iov_base, iov[i].iov_len, error)) {
            return false;
        }
    }
    qmig_encoder_clear(out->encoder);
    return true;
}

static bool
put(Output *out, const struct qmig_event *ev, GError **error)
{
    return (!qmig_encoder_is_full(out->encoder) || flush(out, error)) &&
           qmig_encoder_put(out->encoder, ev, error);
}

static bool
put_buffer(Output *out, const GByteArray *buffer, GError **error)
{
    return flush(out, error) && write_bytes(out, buffer->data, buffer->len, error);
}

static bool
put_kind(Output *out, uint16_t kind, GError **error)
{
    const struct qmig_event ev = { .kind = kind };

    return put(out, &ev, error);
}

static bool
put_section(Output *out, uint32_t type, GError **error)
{
    struct qmig_event ev = { .kind = QMIG_EVENT_SECTION };

    ev.u.section = (struct qmig_event_section){
        .type = type,
        .id = out->g->ram_section.id,
        .name = "ram",
        .name_length = 3,
        .version = 4,
    };
    return put(out, &ev, error);
}

/* End of the body, and the footer where the machine sends one. */
static bool
put_section_end(Output *out, GError **error)
{
    struct qmig_event ev = { .kind = QMIG_EVENT_FOOTER };

    ev.u.footer.id = out->g->ram_section.id;
    return put_kind(out, QMIG_EVENT_RAM_EOS, error) &&
           (!out->g->has_footers || put(out, &ev, error));
}

static bool
put_capabilities(Output *out, bool mapped_ram, GError **error)
{
    const GPtrArray *names = out->g->capabilities;
    uint8_t data[4096];
    QmigWriter w = qmig_writer(data, sizeof data);
    struct qmig_event ev = { .kind = QMIG_EVENT_CONFIG_SUB };
    bool ok = qmig_writer_be32(&w, names->len + mapped_ram);

    if (names->len + mapped_ram == 0) {
        return true;
    }
    for (guint i = 0; i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        ok = ok && qmig_writer_cstr(&w, name, strlen(name));
    }
    if (mapped_ram) {
        ok = ok && qmig_writer_cstr(&w, MAPPED_CAPABILITY, strlen(MAPPED_CAPABILITY));
    }
    if (!ok) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT, "%u capabilities", names->len);
    }
    ev.u.config_sub = (struct qmig_event_config_sub){
        .name = CAPABILITIES,
        .name_length = sizeof CAPABILITIES - 1,
        .version = 1,
        .data = data,
        .length = w.len,
    };
    /* The encoder refers to the data, which goes away with this function. */
    return put(out, &ev, error) && flush(out, error);
}

static bool
put_head(Output *out, bool mapped_ram, GError **error)
{
    const Guest *g = out->g;
    struct qmig_event header = { .kind = QMIG_EVENT_HEADER };
    struct qmig_event config = { .kind = QMIG_EVENT_CONFIG };

    header.u.header.version = 3;
    if (!put(out, &header, error)) {
        return false;
    }
    if (g->machine == NULL) {
        return !mapped_ram ||
               qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "the stream has no configuration section to say that it is "
                              "mapped-ram");
    }
    config.u.config.machine = g->machine->str;
    config.u.config.length = (uint32_t)g->machine->len;
    return put(out, &config, error) && put_buffer(out, g->config, error) &&
           put_capabilities(out, mapped_ram, error) && put_buffer(out, g->before, error);
}

static bool
put_list_head(Output *out, GError **error)
{
    struct qmig_event size = { .kind = QMIG_EVENT_RAM_SIZE };

    for (guint i = 0; i < out->g->blocks->len; i++) {
        size.u.ram_size.total += g_array_index(out->g->blocks,
                                               struct qmig_event_ram_block, i)
                                     .block->used_length;
    }
    return put_section(out, QMIG_SECTION_START, error) && put(out, &size, error);
}

/* ---- a plain stream ------------------------------------------------------------------------ */

static bool
put_pages(Output *out, unsigned i, uint64_t *n_in_part, GError **error)
{
    static const uint8_t zero;
    const struct qmig_event_ram_block *entry = &g_array_index(
        out->g->blocks, struct qmig_event_ram_block, i);
    QmigGuestBlock block = qmig_guest_ram_block(out->g->ram, i);
    struct qmig_event ev = { .kind = QMIG_EVENT_PAGE };

    for (uint64_t page = 0; page < block.n_pages; page++) {
        const uint8_t *data = block.memory + page * block.page_size;
        bool is_zero = qmig_is_zero(data, block.page_size);

        if (!qmig_guest_ram_has(out->g->ram, i, page)) {
            continue;
        }
        ev.u.page = (struct qmig_event_page){
            .block = entry->block,
            .offset = page * block.page_size,
            .data = is_zero ? &zero : data,
            .length = is_zero ? 1 : block.page_size,
            .kind = is_zero ? QMIG_PAGE_ZERO : QMIG_PAGE_NORMAL,
            .continued = 1,
        };
        if (!put(out, &ev, error)) {
            return false;
        }
        if (++*n_in_part == EOS_PAGES) {
            *n_in_part = 0;
            if (!put_section_end(out, error) ||
                !put_section(out, QMIG_SECTION_PART, error)) {
                return false;
            }
        }
    }
    return true;
}

static bool
write_plain(Output *out, GError **error)
{
    struct qmig_event ev = { .kind = QMIG_EVENT_RAM_BLOCK };
    uint64_t n_in_part = 0;

    if (!put_head(out, false, error) || !put_list_head(out, error)) {
        return false;
    }
    for (guint i = 0; i < out->g->blocks->len; i++) {
        ev.u.ram_block = g_array_index(out->g->blocks, struct qmig_event_ram_block, i);
        if (!put(out, &ev, error)) {
            return false;
        }
    }
    if (!put_section_end(out, error) || !put_buffer(out, out->g->others, error) ||
        !put_section(out, QMIG_SECTION_PART, error)) {
        return false;
    }
    for (guint i = 0; i < out->g->blocks->len; i++) {
        if (!put_pages(out, i, &n_in_part, error)) {
            return false;
        }
    }
    return put_section_end(out, error) && put_section(out, QMIG_SECTION_END, error) &&
           put_section_end(out, error) && put_buffer(out, out->g->tail, error);
}

/* ---- a mapped-ram file --------------------------------------------------------------------- */

static bool
seek_to(Output *out, uint64_t offset, GError **error)
{
    if (lseek(out->fd, (off_t)offset, SEEK_SET) < 0) {
        return qmig_set_error_errno(error, errno,
                                    "mapped-ram: the output must be a file, to seek in");
    }
    out->offset = offset;
    return true;
}

/*
 * Pages that are not zero, at their places; then the bitmap that says which are in the file. QEMU
 * leaves the others as it has them, so zero pages of what may be a ROM are in the file, too.
 */
static bool
write_mapped_pages(Output *out, unsigned i, const struct qmig_event_ram_block *entry,
                   GError **error)
{
    QmigGuestBlock block = qmig_guest_ram_block(out->g->ram, i);
    if (block.n_received < block.n_pages) {
        /* With x-ignore-shared the destination has them; it would lose them to zeros. */
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "block \"%s\": %" PRIu64
                              " of its pages are not in the stream; "
                              "in a mapped-ram file they would be zero",
                              block.name, block.n_pages - block.n_received);
    }
    uint64_t bitmap_length = (block.n_pages + 63) / 64 * 8;
    g_autofree uint8_t *bits = g_malloc0(bitmap_length + 1);

    for (uint64_t page = 0; page < block.n_pages; page++) {
        const uint8_t *data = block.memory + page * block.page_size;
        uint64_t at = entry->pages_offset + page * block.page_size;
        bool is_zero = qmig_is_zero(data, block.page_size);

        if (is_zero && block.length > MAPPED_ROM_MAX) {
            continue;
        }
        bits[page / 8] |= (uint8_t)(1 << page % 8);
        if (is_zero) {
            continue; /* a hole in the file */
        }
        if ((out->offset != at && !seek_to(out, at, error)) ||
            !write_bytes(out, data, block.page_size, error)) {
            return false;
        }
    }
    return seek_to(out, entry->bitmap_offset, error) &&
           write_bytes(out, bits, bitmap_length, error);
}

static bool
write_mapped_block(Output *out, unsigned i, GError **error)
{
    struct qmig_event ev = { .kind = QMIG_EVENT_RAM_BLOCK };
    struct qmig_event_ram_block *entry = &ev.u.ram_block;
    uint64_t n_pages;

    *entry = g_array_index(out->g->blocks, struct qmig_event_ram_block, i);
    n_pages = entry->block->used_length / entry->block->page_size;
    if (!flush(out, error)) {
        return false;
    }
    entry->mapped_version = 1;
    entry->mapped_page_size = entry->block->page_size;
    entry->bitmap_offset = out->offset + 1 + entry->block->name_length + 8 +
                           (entry->has_gpa ? 8 : 0) + MAPPED_HEADER;
    entry->pages_offset = entry->bitmap_offset + (n_pages + 63) / 64 * 8;
    entry->pages_offset += MAPPED_ALIGNMENT - 1;
    entry->pages_offset -= entry->pages_offset % MAPPED_ALIGNMENT;
    return put(out, &ev, error) && flush(out, error) &&
           write_mapped_pages(out, i, entry, error) &&
           seek_to(out, entry->pages_offset + entry->block->used_length, error);
}

static bool
write_mapped(Output *out, GError **error)
{
    if (!put_head(out, true, error) || !put_list_head(out, error)) {
        return false;
    }
    for (guint i = 0; i < out->g->blocks->len; i++) {
        if (!write_mapped_block(out, i, error)) {
            return false;
        }
    }
    return put_section_end(out, error) && put_buffer(out, out->g->others, error) &&
           put_section(out, QMIG_SECTION_END, error) && put_section_end(out, error) &&
           put_buffer(out, out->g->tail, error);
}

bool
qmig_convert_run(const char *path, int fd, const QmigConvertOptions *options,
                 GError **error)
{
    g_auto(Guest) g;
    g_autoptr(QmigEncoder) encoder = qmig_encoder_new();
    Output out = { .g = &g, .fd = fd, .encoder = encoder };

    guest_init(&g);
    return collect(&g, path, options, error) &&
           (options->mapped_ram ? write_mapped(&out, error) : write_plain(&out, error)) &&
           flush(&out, error);
}
