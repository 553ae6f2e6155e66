/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading a stream with a critical eye; see check.h. What a QEMU says to it is in accept.c. */
#include "inspect/check.h"

#include "compress/codec.h"
#include "compress/xbzrle.h"
#include "inspect/devices.h"
#include "inspect/multifd-pages.h"
#include "inspect/page-set.h"
#include "stream/device.h"
#include "util/cursor.h"
#include "util/error.h"

#include <inttypes.h>
#include <string.h>

/* Versions in which the format gained or lost something. */
enum {
    SINCE_FLUSH = 80100,
    SINCE_MAPPED_RAM = 90000,
    SINCE_SWITCHOVER_START = 100000,
    SINCE_DEVICE_PACKETS = 100000,
    UNTIL_ZLIB_PAGES = 90000,
    UNTIL_DISK = 90000,
    UNTIL_ENABLE_COLO = 100200,
};

/* What has come of a block. */
typedef struct {
    char *name;
    uint64_t page_size;
    QmigPageSet received; /* pages whose content is known */
} Block;

typedef struct {
    JsonObject *check;
    GPtrArray *blocks;  /* Block, owned */
    GPtrArray *multifd; /* QmigMultifdPages, owned; by number of the connection */
    QmigDevices *devices;
    JsonObject *description;  /* owned (nullable) */
    GHashTable *capabilities; /* owned names */
    unsigned since, until;
    bool postcopy; /* pages are placed once */
    bool ignore_shared;
    QmigCodecState *codecs;
    const QmigCodec *zlib;
    uint8_t scratch[1 << 16];
} Check;

static void
block_free(gpointer data)
{
    Block *block = data;

    g_free(block->name);
    qmig_page_set_clear(&block->received);
    g_free(block);
}

static void
pages_free(gpointer pages)
{
    qmig_multifd_pages_free(pages);
}

static void
check_free(Check *c)
{
    g_ptr_array_unref(c->blocks);
    g_ptr_array_unref(c->multifd);
    qmig_devices_free(c->devices);
    json_object_put(c->description);
    g_hash_table_unref(c->capabilities);
    qmig_codec_state_free(c->codecs);
    g_free(c);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Check, check_free)

void
qmig_check_add(JsonObject *check, const char *severity, const char *channel,
               uint64_t offset, const char *where, const char *fmt, ...)
{
    JsonObject *findings = json_object_object_get(check, "findings"), *entry;
    size_t n = json_object_array_length(findings);
    g_autofree char *text = NULL;
    va_list ap;

    if (n > QMIG_CHECK_FINDINGS) {
        return;
    }
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    entry = json_object_new_object();
    json_object_object_add(entry, "severity", json_object_new_string(severity));
    json_object_object_add(entry, "channel", json_object_new_string(channel));
    json_object_object_add(entry, "offset", json_object_new_uint64(offset));
    json_object_object_add(entry, "where", json_object_new_string(where));
    json_object_object_add(
        entry, "text",
        json_object_new_string(n < QMIG_CHECK_FINDINGS ? text : "and more of them"));
    json_object_array_add(findings, entry);
}

static void
need_capability(Check *c, const char *name)
{
    g_hash_table_add(c->capabilities, g_strdup(name));
}

static void
need_since(Check *c, unsigned version)
{
    c->since = MAX(c->since, version);
}

static void
need_until(Check *c, unsigned version)
{
    c->until = c->until == 0 ? version : MIN(c->until, version);
}

/* ---- memory ------------------------------------------------------------------------------- */

static void
add_block(Check *c, const struct qmig_event_ram_block *entry)
{
    const struct qmig_block *announced = entry->block;
    Block *block = g_new0(Block, 1);

    block->name = g_strdup(announced->name);
    block->page_size = announced->page_size;
    qmig_page_set_init(&block->received, announced->used_length / announced->page_size);
    if (entry->pages_offset != 0) {
        qmig_page_set_add_all(&block->received);
    }
    g_ptr_array_add(c->blocks, block);
}

static void
receive(Check *c, const char *channel, uint64_t offset, Block *block, uint64_t page)
{
    bool before = qmig_page_set_has(&block->received, page);

    if (before && c->postcopy) {
        qmig_check_add(c->check, "error", channel, offset, block->name,
                       "page 0x%" PRIx64
                       " comes twice in postcopy: the destination dies of "
                       "that",
                       page * block->page_size);
    }
    qmig_page_set_add(&block->received, page);
}

static void
on_page(Check *c, const char *channel, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;
    Block *block = g_ptr_array_index(c->blocks, page->block->index);
    uint64_t number = page->offset / block->page_size;

    switch (page->kind) {
    case QMIG_PAGE_XBZRLE:
        if (qmig_xbzrle_check(page->data, page->length, block->page_size) < 0) {
            qmig_check_add(c->check, "error", channel, ev->offset, block->name,
                           "page 0x%" PRIx64 ": malformed XBZRLE code", page->offset);
        } else if (!qmig_page_set_has(&block->received, number)) {
            qmig_check_add(c->check, "error", channel, ev->offset, block->name,
                           "page 0x%" PRIx64 ": XBZRLE over a page that never came",
                           page->offset);
        }
        return;
    case QMIG_PAGE_ZLIB:
        need_capability(c, "compress");
        need_until(c, UNTIL_ZLIB_PAGES);
        if (!c->zlib->decompress(c->codecs, c->scratch, block->page_size, page->data,
                                 page->length)) {
            qmig_check_add(c->check, "error", channel, ev->offset, block->name,
                           "page 0x%" PRIx64 ": malformed zlib code", page->offset);
        }
        break;
    case QMIG_PAGE_ZERO:
        if (page->data[0] != 0) {
            qmig_check_add(c->check, "error", channel, ev->offset, block->name,
                           "page 0x%" PRIx64
                           " filled with 0x%02x: newer QEMUs refuse that",
                           page->offset, page->data[0]);
        }
        break;
    case QMIG_PAGE_MAPPED:
        return;
    default:
        break;
    }
    receive(c, channel, ev->offset, block, number);
}

static Block *
find_block(const Check *c, const char *name)
{
    for (guint i = 0; i < c->blocks->len; i++) {
        Block *block = g_ptr_array_index(c->blocks, i);

        if (strcmp(block->name, name) == 0) {
            return block;
        }
    }
    return NULL;
}

static void
on_packet(Check *c, const QmigReaderChannel *channel, const struct qmig_event *ev)
{
    const struct qmig_multifd_packet *p = ev->u.multifd_packet.packet;
    g_autoptr(GError) error = NULL;
    const uint8_t *pages;
    Block *block = find_block(c, p->block);

    if (p->device != NULL) {
        need_since(c, SINCE_DEVICE_PACKETS);
        return;
    }
    if (channel->number >= c->multifd->len) {
        g_ptr_array_set_size(c->multifd, (gint)channel->number + 1);
    }
    if (c->multifd->pdata[channel->number] == NULL) {
        c->multifd->pdata[channel->number] = qmig_multifd_pages_new();
    }
    if (!qmig_multifd_pages_take(c->multifd->pdata[channel->number], p, &pages, &error)) {
        qmig_check_add(c->check, "error", channel->name, ev->offset, p->block, "%s",
                       error->message);
        return;
    }
    for (uint32_t i = 0; i < p->normal_pages + p->zero_pages; i++) {
        if (block == NULL ||
            p->offsets[i] / block->page_size >= block->received.n_pages ||
            p->offsets[i] % block->page_size != 0) {
            qmig_check_add(c->check, "error", channel->name, ev->offset, p->block,
                           "page 0x%" PRIx64 " is none of this block", p->offsets[i]);
            return;
        }
        receive(c, channel->name, ev->offset, block, p->offsets[i] / block->page_size);
    }
}

/* u8 0, cstr block, u8 0, (be64 start, be64 length)* */
static void
on_discard(Check *c, const char *channel, const struct qmig_event *ev)
{
    QmigCursor cur = qmig_cursor(ev->u.command.data, ev->u.command.length);
    uint64_t start, length;
    uint8_t version, name_len, zero;
    char name[256] = "";
    Block *block = NULL;

    if (qmig_cursor_u8(&cur, &version) && qmig_cursor_cstr(&cur, name, &name_len) &&
        qmig_cursor_u8(&cur, &zero)) {
        block = find_block(c, name);
    }
    while (block != NULL && qmig_cursor_be64(&cur, &start) &&
           qmig_cursor_be64(&cur, &length)) {
        uint64_t first = start / block->page_size, n = length / block->page_size;

        if (first > block->received.n_pages || n > block->received.n_pages - first) {
            block = NULL;
            break;
        }
        qmig_page_set_remove(&block->received, first, n);
    }
    if (block == NULL) {
        qmig_check_add(c->check, "error", channel, ev->offset, name,
                       "discards memory that the block does not have");
    }
}

static void
judge_blocks(Check *c)
{
    for (guint i = 0; i < c->blocks->len; i++) {
        const Block *block = g_ptr_array_index(c->blocks, i);

        if (block->received.count < block->received.n_pages && !c->ignore_shared) {
            qmig_check_add(c->check, c->postcopy ? "error" : "warning", "main", 0,
                           block->name, "%" PRIu64 " of %" PRIu64 " pages never came",
                           block->received.n_pages - block->received.count,
                           block->received.n_pages);
        }
    }
}

/* ---- the rest ------------------------------------------------------------------------------ */

static void
on_command(Check *c, const char *channel, const struct qmig_event *ev)
{
    switch (ev->u.command.command) {
    case QMIG_COMMAND_POSTCOPY_ADVISE:
        if (ev->u.command.length == 16) {
            need_capability(c, "postcopy-ram");
        }
        break;
    case QMIG_COMMAND_POSTCOPY_LISTEN:
        c->postcopy = true;
        break;
    case QMIG_COMMAND_PACKAGED:
        c->postcopy = true;
        break;
    case QMIG_COMMAND_POSTCOPY_RAM_DISCARD:
        on_discard(c, channel, ev);
        break;
    case QMIG_COMMAND_ENABLE_COLO:
        need_capability(c, "x-colo");
        need_until(c, UNTIL_ENABLE_COLO);
        break;
    case QMIG_COMMAND_SWITCHOVER_START:
        need_since(c, SINCE_SWITCHOVER_START);
        break;
    default:
        if (ev->u.command.command > QMIG_COMMAND_SWITCHOVER_START ||
            ev->u.command.command == 0) {
            qmig_check_add(c->check, "error", channel, ev->offset, "command",
                           "command %u is not known", ev->u.command.command);
        }
        break;
    }
}

static void
on_config_sub(Check *c, const struct qmig_event_config_sub *sub)
{
    QmigCursor cur = qmig_cursor(sub->data, sub->length);
    uint32_t count;
    uint8_t len;
    char name[256];

    if (strcmp(sub->name, "configuration/capabilities") == 0 &&
        qmig_cursor_be32(&cur, &count)) {
        while (qmig_cursor_cstr(&cur, name, &len)) {
            need_capability(c, name);
            c->ignore_shared |= strcmp(name, "x-ignore-shared") == 0;
            need_since(c, strcmp(name, "mapped-ram") == 0 ? SINCE_MAPPED_RAM : 0);
        }
    }
}

static void
on_other(Check *c, const char *channel, const struct qmig_event *ev)
{
    JsonObject *needs = json_object_object_get(c->check, "needs");

    switch (ev->kind) {
    case QMIG_EVENT_CONFIG:
        json_object_object_add(
            needs, "machine",
            json_object_new_string_len(ev->u.config.machine, (int)ev->u.config.length));
        break;
    case QMIG_EVENT_CONFIG_SUB:
        on_config_sub(c, &ev->u.config_sub);
        break;
    case QMIG_EVENT_SECTION:
        if (strcmp(ev->u.section.name, "block") == 0) {
            need_capability(c, "block");
            need_until(c, UNTIL_DISK);
        } else if (strcmp(ev->u.section.name, "dirty-bitmap") == 0) {
            need_capability(c, "dirty-bitmaps");
        }
        break;
    case QMIG_EVENT_RAM_FLUSH:
        need_since(c, SINCE_FLUSH);
        break;
    case QMIG_EVENT_RAW:
        qmig_check_add(c->check, "error", channel, ev->offset, "stream", "not read: %s",
                       ev->u.raw.reason);
        break;
    case QMIG_EVENT_MULTIFD_INIT:
        need_capability(c, "multifd");
        break;
    default:
        break;
    }
}

static bool
on_event(void *self, const QmigReaderChannel *channel, const struct qmig_event *ev,
         GError **error)
{
    Check *c = self;

    if (channel->kind == QMIG_READER_RECOVERY) {
        /* What was lost when the link broke is sent again. */
        c->postcopy = false;
    }
    switch (ev->kind) {
    case QMIG_EVENT_PAGE:
        on_page(c, channel->name, ev);
        return true;
    case QMIG_EVENT_RAM_BLOCK:
        add_block(c, &ev->u.ram_block);
        return true;
    case QMIG_EVENT_MULTIFD_PACKET:
        on_packet(c, channel, ev);
        return true;
    case QMIG_EVENT_COMMAND:
        on_command(c, channel->name, ev);
        return true;
    case QMIG_EVENT_DESCRIPTION:
        c->description = qmig_description_parse(ev->u.description.json,
                                                ev->u.description.length, NULL);
        break;
    default:
        on_other(c, channel->name, ev);
        break;
    }
    return qmig_devices_take(c->devices, channel, ev, error);
}

/* ---- the result ---------------------------------------------------------------------------- */

static const char *
text_of(JsonObject *object, const char *key)
{
    JsonObject *member;

    return object != NULL && json_object_object_get_ex(object, key, &member)
               ? json_object_get_string(member)
               : NULL;
}

static void
list_sections(Check *c)
{
    g_autoptr(JsonObject) list = qmig_devices_finish(c->devices);
    g_autoptr(GHashTable) described_devices = qmig_description_index(c->description);
    JsonObject *sections = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *device = json_object_array_get_idx(list, i);
        JsonObject *entry = json_object_new_object();
        const char *name = qmig_json_string(device, "name");
        const char *reason = qmig_json_string(device, "reason");
        uint32_t instance = (uint32_t)qmig_json_int(device, "instance", 0);
        JsonObject *described = qmig_description_device(described_devices, name,
                                                        instance);
        const char *vmsd = text_of(described, "vmsd_name");

        if (reason != NULL && c->description != NULL &&
            qmig_json_int(device, "checkpoint", 0) == 0) {
            qmig_check_add(c->check, "error", qmig_json_string(device, "channel"),
                           (uint64_t)qmig_json_int(device, "offset", 0), name, "%s",
                           reason);
        }
        json_object_object_add(entry, "name", json_object_new_string(name));
        json_object_object_add(entry, "instance", json_object_new_uint64(instance));
        json_object_object_add(
            entry, "version", json_object_new_int64(qmig_json_int(device, "version", 0)));
        json_object_object_add(entry, "vmsd",
                               vmsd != NULL ? json_object_new_string(vmsd) : NULL);
        json_object_array_add(sections, entry);
    }
    json_object_object_add(json_object_object_get(c->check, "needs"), "sections",
                           sections);
}

static void
list_needs(Check *c)
{
    JsonObject *needs = json_object_object_get(c->check, "needs");
    JsonObject *blocks = json_object_new_array(), *names = json_object_new_array();
    g_autoptr(GList) sorted = g_list_sort(g_hash_table_get_keys(c->capabilities),
                                          (GCompareFunc)strcmp);

    for (guint i = 0; i < c->blocks->len; i++) {
        const Block *block = g_ptr_array_index(c->blocks, i);
        JsonObject *entry = json_object_new_object();

        json_object_object_add(entry, "name", json_object_new_string(block->name));
        json_object_object_add(
            entry, "length",
            json_object_new_uint64(block->received.n_pages * block->page_size));
        json_object_array_add(blocks, entry);
        json_object_object_add(needs, "page_size",
                               json_object_new_uint64(block->page_size));
    }
    for (GList *it = sorted; it != NULL; it = it->next) {
        json_object_array_add(names, json_object_new_string(it->data));
    }
    json_object_object_add(needs, "blocks", blocks);
    json_object_object_add(needs, "capabilities", names);
    json_object_object_add(needs, "since", json_object_new_uint64(c->since));
    json_object_object_add(needs, "until", json_object_new_uint64(c->until));
}

JsonObject *
qmig_check_read(const char *path, void (*progress)(uint64_t done, uint64_t total),
                GError **error)
{
    g_autoptr(Check) c = g_new0(Check, 1);
    g_autoptr(JsonObject) check = json_object_new_object();
    QmigReaderSink sink = { .self = c, .event = on_event, .progress = progress };
    g_auto(QmigReaderEnd) end = { 0 };
    g_autoptr(GError) local = NULL;

    json_object_object_add(check, "findings", json_object_new_array());
    json_object_object_add(check, "needs", json_object_new_object());
    c->check = check;
    c->blocks = g_ptr_array_new_with_free_func(block_free);
    c->multifd = g_ptr_array_new_with_free_func(pages_free);
    c->devices = qmig_devices_new(false);
    c->capabilities = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    c->codecs = qmig_codec_state_new();
    c->zlib = qmig_codec_find("zlib");
    if (!qmig_reader_run(path, &sink, &end, &local)) {
        if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_IO) ||
            g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CONFIG)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
        qmig_check_add(check, "error", "", 0, "stream", "%s", local->message);
    } else if (!end.complete) {
        qmig_check_add(check, "error", "", 0, "stream", "%s", end.reason);
    }
    json_object_object_add(check, "complete", json_object_new_boolean(end.complete));
    if (end.complete) {
        judge_blocks(c);
    }
    list_sections(c);
    list_needs(c);
    return g_steal_pointer(&check);
}
