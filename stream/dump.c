/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One line per event: offset, kind, what it says. */
#include "stream/dump.h"

#include <inttypes.h>
#include <zlib.h>

static uint32_t
sum(const void *data, uint64_t len)
{
    return (uint32_t)adler32_z(1, data, len);
}

static const char *
page_name(unsigned kind)
{
    switch ((enum qmig_page_kind)kind) {
    case QMIG_PAGE_ZERO:
        return "zero";
    case QMIG_PAGE_NORMAL:
        return "normal";
    case QMIG_PAGE_XBZRLE:
        return "xbzrle";
    case QMIG_PAGE_ZLIB:
        return "zlib";
    case QMIG_PAGE_MAPPED:
        return "mapped";
    default:
        return "?";
    }
}

static const char *
section_name(unsigned type)
{
    static const char *const names[] = { "?", "start", "part", "end", "full" };

    return names[type < G_N_ELEMENTS(names) ? type : 0];
}

static const char *
bytes_name(unsigned kind)
{
    static const char *const names[] = { "?",       "tail",          "packaged", "raw",
                                         "padding", "device",        "vmstate",  "disk",
                                         "bitmap",  "mapped-bitmap", "vfio" };

    return names[kind < G_N_ELEMENTS(names) ? kind : 0];
}

static void
dump_other(GString *out, const struct qmig_event *ev)
{
    const struct qmig_event_dirty_bitmap *chunk = &ev->u.dirty_bitmap;
    const struct qmig_event_disk_block *disk = &ev->u.disk_block;

    switch (ev->kind) {
    case QMIG_EVENT_DIRTY_BITMAP:
        g_string_append_printf(
            out,
            "dirty-bitmap flags 0x%02x \"%s\" \"%s\" granularity %u "
            "flags %u first %" PRIu64 " sectors %u length %" PRIu64 "\n",
            chunk->flags, chunk->node, chunk->bitmap, chunk->granularity,
            chunk->bitmap_flags, chunk->first_sector, chunk->n_sectors, chunk->length);
        break;
    case QMIG_EVENT_DISK_BLOCK:
        g_string_append_printf(
            out, "disk flags 0x%x \"%s\" sector %" PRIu64 " length %" PRIu64 "\n",
            disk->flags, disk->device, disk->sector, disk->length);
        break;
    case QMIG_EVENT_VFIO:
        g_string_append_printf(out, "vfio tag %u length %" PRIu64 "\n", ev->u.vfio.tag,
                               ev->u.vfio.length);
        break;
    default:
        g_string_append_printf(out, "colo message %u length %" PRIu64 "\n",
                               ev->u.colo.message, ev->u.colo.length);
        break;
    }
}

static void
dump_note(GString *out, const struct qmig_event *ev)
{
    switch (ev->kind) {
    case QMIG_EVENT_RAW:
        g_string_append_printf(out, "raw-from-here \"%s\"\n", ev->u.raw.reason);
        break;
    case QMIG_EVENT_DEVICE:
        g_string_append_printf(
            out,
            "device \"%s\" instance %u version %u id %u length %" PRIu64 " sum %08x\n",
            ev->u.device.name, ev->u.device.instance, ev->u.device.version,
            ev->u.device.section_id, ev->u.device.length,
            sum(ev->u.device.data, ev->u.device.length));
        break;
    case QMIG_EVENT_DESCRIPTION:
        g_string_append_printf(out, "description length %" PRIu64 " sum %08x\n",
                               ev->u.description.length,
                               sum(ev->u.description.json, ev->u.description.length));
        break;
    case QMIG_EVENT_END:
        g_string_append_printf(out, "end %s \"%s\"\n",
                               ev->u.end.complete ? "complete" : "incomplete",
                               ev->u.end.reason);
        break;
    default:
        g_string_append_printf(out, "event %u\n", ev->kind);
        break;
    }
}

static void
dump_ram(GString *out, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;
    const struct qmig_block *block = ev->u.ram_block.block;

    switch (ev->kind) {
    case QMIG_EVENT_PAGE:
        g_string_append_printf(out, "page %s \"%s\" 0x%" PRIx64 "%s length %u sum %08x\n",
                               page_name(page->kind), page->block->name, page->offset,
                               page->continued ? " continued" : "", page->length,
                               sum(page->data, page->length));
        break;
    case QMIG_EVENT_RAM_BLOCK:
        g_string_append_printf(out, "block %u \"%s\" length 0x%" PRIx64, block->index,
                               block->name, block->used_length);
        if (ev->u.ram_block.has_gpa) {
            g_string_append_printf(out, " gpa 0x%" PRIx64, block->gpa);
        }
        if (ev->u.ram_block.host_page_size != 0) {
            g_string_append_printf(out, " page-size 0x%" PRIx64,
                                   ev->u.ram_block.host_page_size);
        }
        if (ev->u.ram_block.mapped_version != 0) {
            g_string_append_printf(out, " bitmap-at 0x%" PRIx64 " pages-at 0x%" PRIx64,
                                   ev->u.ram_block.bitmap_offset,
                                   ev->u.ram_block.pages_offset);
        }
        g_string_append_c(out, '\n');
        break;
    case QMIG_EVENT_RAM_SIZE:
        g_string_append_printf(out, "ram-size 0x%" PRIx64 "\n", ev->u.ram_size.total);
        break;
    default:
        g_string_append(out, ev->kind == QMIG_EVENT_RAM_EOS     ? "eos\n"
                             : ev->kind == QMIG_EVENT_RAM_FLUSH ? "flush\n"
                                                                : "hook\n");
        break;
    }
}

static void
dump_multifd_packet(GString *out, const struct qmig_multifd_packet *p)
{
    if (p->flags & QMIG_MULTIFD_DEVICE_STATE) {
        g_string_append_printf(out, "multifd-device \"%s\" instance %u", p->device,
                               p->instance);
    } else {
        uint32_t pages = p->normal_pages + p->zero_pages;
        g_string_append_printf(out,
                               "multifd-packet %" PRIu64
                               " flags 0x%x \"%s\" alloc %u normal %u zero %u",
                               p->packet_num, p->flags, p->block, p->pages_alloc,
                               p->normal_pages, p->zero_pages);
        if (pages > 0) {
            g_string_append_printf(out, " offsets 0x%" PRIx64 "… sum %08x", p->offsets[0],
                                   sum(p->offsets, pages * sizeof *p->offsets));
        }
    }
    g_string_append_printf(out, " length %" PRIu64 " sum %08x\n", p->payload_length,
                           sum(p->payload, p->payload_length));
}

static void
dump_multifd(GString *out, const struct qmig_event *ev)
{
    const struct qmig_event_multifd_init *init = &ev->u.multifd_init;

    if (ev->kind == QMIG_EVENT_MULTIFD_PACKET) {
        dump_multifd_packet(out, ev->u.multifd_packet.packet);
        return;
    }
    g_string_append_printf(out, "multifd-init channel %u version %u uuid ", init->channel,
                           init->version);
    for (int i = 0; i < 16; i++) {
        g_string_append_printf(out, "%02x", init->uuid[i]);
    }
    g_string_append_c(out, '\n');
}

void
qmig_dump_event(GString *out, const struct qmig_event *ev)
{
    g_string_append_printf(out, "%" PRIu64 " ", ev->offset);
    switch (ev->kind) {
    case QMIG_EVENT_HEADER:
        g_string_append_printf(out, "header version %u\n", ev->u.header.version);
        break;
    case QMIG_EVENT_CONFIG:
        g_string_append_printf(out, "config \"%.*s\"\n", (int)ev->u.config.length,
                               ev->u.config.machine);
        break;
    case QMIG_EVENT_CONFIG_SUB:
        g_string_append_printf(out, "config-sub \"%s\" version %u length %" PRIu64 "\n",
                               ev->u.config_sub.name, ev->u.config_sub.version,
                               ev->u.config_sub.length);
        break;
    case QMIG_EVENT_SECTION:
        g_string_append_printf(out, "section %s id %u \"%s\" instance %u version %u\n",
                               section_name(ev->u.section.type), ev->u.section.id,
                               ev->u.section.name, ev->u.section.instance,
                               ev->u.section.version);
        break;
    case QMIG_EVENT_FOOTER:
        g_string_append_printf(out, "footer id %u\n", ev->u.footer.id);
        break;
    case QMIG_EVENT_COMMAND:
        g_string_append_printf(out, "command %u length %u sum %08x\n",
                               ev->u.command.command, ev->u.command.length,
                               sum(ev->u.command.data, ev->u.command.length));
        break;
    case QMIG_EVENT_BYTES:
        g_string_append_printf(out, "bytes %s length %" PRIu64 " sum %08x\n",
                               bytes_name(ev->u.bytes.kind), ev->u.bytes.length,
                               sum(ev->u.bytes.data, ev->u.bytes.length));
        break;
    case QMIG_EVENT_EOF:
        g_string_append(out, "eof\n");
        break;
    case QMIG_EVENT_DIRTY_BITMAP:
    case QMIG_EVENT_DISK_BLOCK:
    case QMIG_EVENT_VFIO:
    case QMIG_EVENT_COLO:
        dump_other(out, ev);
        break;
    case QMIG_EVENT_MULTIFD_INIT:
    case QMIG_EVENT_MULTIFD_PACKET:
        dump_multifd(out, ev);
        break;
    default:
        if (ev->flags & QMIG_EVENT_NOTE) {
            dump_note(out, ev);
        } else {
            dump_ram(out, ev);
        }
        break;
    }
}
