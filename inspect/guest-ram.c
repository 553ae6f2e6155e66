/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See guest-ram.h. */
#include "inspect/guest-ram.h"

#include "compress/codec.h"
#include "compress/xbzrle.h"
#include "compress/zero.h"
#include "inspect/multifd-pages.h"
#include "inspect/page-set.h"
#include "util/auto.h"
#include "util/cursor.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>

typedef struct {
    char *name;
    uint64_t length;
    uint32_t page_size;
    uint8_t *memory; /* mapping of length bytes, or NULL when length is 0 */
    QmigPageSet received;
    QmigPageSet written; /* the file is not a hole there */
} Block;

struct QmigGuestRam {
    char *directory;   /* owned (nullable) */
    GPtrArray *blocks; /* Block, owned; by index of the stream */
    QmigCodecState *codecs;
    const QmigCodec *zlib;
    GPtrArray *multifd; /* QmigMultifdPages, owned; by number of the connection */
};

static void
block_free(gpointer data)
{
    Block *block = data;

    if (block->memory != NULL) {
        munmap(block->memory, block->length);
    }
    g_free(block->name);
    qmig_page_set_clear(&block->received);
    qmig_page_set_clear(&block->written);
    g_free(block);
}

static void
free_pages(gpointer pages)
{
    qmig_multifd_pages_free(pages);
}

QmigGuestRam *
qmig_guest_ram_new(const char *directory)
{
    QmigGuestRam *ram = g_new0(QmigGuestRam, 1);

    ram->directory = g_strdup(directory);
    ram->blocks = g_ptr_array_new_with_free_func(block_free);
    ram->codecs = qmig_codec_state_new();
    ram->zlib = qmig_codec_find("zlib");
    ram->multifd = g_ptr_array_new_with_free_func(free_pages);
    return ram;
}

void
qmig_guest_ram_free(QmigGuestRam *ram)
{
    if (ram != NULL) {
        g_ptr_array_unref(ram->blocks);
        g_ptr_array_unref(ram->multifd);
        qmig_codec_state_free(ram->codecs);
        g_free(ram->directory);
        g_free(ram);
    }
}

char *
qmig_file_name(const char *name)
{
    GString *out = g_string_new(NULL);

    for (const char *p = name; *p != '\0'; p++) {
        if (g_ascii_isalnum(*p) || strchr("_-@:", *p) != NULL ||
            (*p == '.' && p != name)) {
            g_string_append_c(out, *p);
        } else {
            g_string_append_printf(out, "%%%02X", (unsigned char)*p);
        }
    }
    return g_string_free(out, FALSE);
}

static int
open_file(const QmigGuestRam *ram, const char *name, char **path)
{
    if (ram->directory == NULL) {
        *path = g_strdup(g_get_tmp_dir());
        return open(*path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    }
    g_autofree char *file = qmig_file_name(name);
    *path = g_build_filename(ram->directory, file, NULL);
    return open(*path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
}

static bool
add_block(QmigGuestRam *ram, const struct qmig_block *announced, GError **error)
{
    Block *block = g_new0(Block, 1);
    g_autofree char *path = NULL;
    g_auto(QmigFd) fd = open_file(ram, announced->name, &path);
    uint64_t n_pages = announced->used_length / announced->page_size + 1;

    block->name = g_strdup(announced->name);
    block->page_size = announced->page_size;
    qmig_page_set_init(&block->received, n_pages);
    qmig_page_set_init(&block->written, n_pages);
    g_ptr_array_add(ram->blocks, block);
    if (fd < 0 || ftruncate(fd, (off_t)announced->used_length) < 0) {
        return qmig_set_error_errno(error, errno,
                                    "%s: %" PRIu64 " bytes for block \"%s\"", path,
                                    announced->used_length, announced->name);
    }
    if (announced->used_length > 0) {
        void *memory = mmap(NULL, announced->used_length, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (memory == MAP_FAILED) {
            return qmig_set_error(error, QMIG_ERROR_LIMIT,
                                  "block \"%s\": no room for its %" PRIu64 " bytes",
                                  announced->name, announced->used_length);
        }
        block->memory = memory;
        block->length = announced->used_length;
    }
    return true;
}

static void
fill_page(Block *block, uint64_t offset, uint8_t fill)
{
    uint64_t page = offset / block->page_size;

    /* A hole is zero already. */
    if (fill != 0 || qmig_page_set_has(&block->written, page)) {
        memset(block->memory + offset, fill, block->page_size);
        qmig_page_set_add(&block->written, page);
    }
    qmig_page_set_add(&block->received, page);
}

static void
copy_page(Block *block, uint64_t offset, const uint8_t *data)
{
    uint64_t page = offset / block->page_size;

    if (!qmig_page_set_has(&block->written, page) &&
        qmig_is_zero(data, block->page_size)) {
        qmig_page_set_add(&block->received, page);
        return;
    }
    memcpy(block->memory + offset, data, block->page_size);
    qmig_page_set_add(&block->written, page);
    qmig_page_set_add(&block->received, page);
}

/* A page was written in place. */
static void
receive_written(Block *block, uint64_t offset)
{
    qmig_page_set_add(&block->written, offset / block->page_size);
    qmig_page_set_add(&block->received, offset / block->page_size);
}

static bool
patch_page(Block *block, const struct qmig_event_page *page, GError **error)
{
    if (!qmig_xbzrle_decode(block->memory + page->offset, block->page_size, page->data,
                            page->length)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "block \"%s\": XBZRLE code of %u bytes for page 0x%" PRIx64
                              " is malformed",
                              block->name, page->length, page->offset);
    }
    receive_written(block, page->offset);
    return true;
}

static bool
inflate_page(QmigGuestRam *ram, Block *block, const struct qmig_event_page *page,
             GError **error)
{
    if (!ram->zlib->decompress(ram->codecs, block->memory + page->offset,
                               block->page_size, page->data, page->length)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "block \"%s\": zlib code of %u bytes for page 0x%" PRIx64
                              " is malformed",
                              block->name, page->length, page->offset);
    }
    receive_written(block, page->offset);
    return true;
}

static Block *
find_block(const QmigGuestRam *ram, const char *name)
{
    for (guint i = 0; i < ram->blocks->len; i++) {
        Block *block = g_ptr_array_index(ram->blocks, i);

        if (strcmp(block->name, name) == 0) {
            return block;
        }
    }
    return NULL;
}

static bool
apply_page(QmigGuestRam *ram, const struct qmig_event_page *page, GError **error)
{
    Block *block = g_ptr_array_index(ram->blocks, page->block->index);

    if (page->offset + block->page_size > block->length) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "block \"%s\": page 0x%" PRIx64 " reaches beyond its end",
                              block->name, page->offset);
    }
    switch (page->kind) {
    case QMIG_PAGE_ZERO:
        fill_page(block, page->offset, page->data[0]);
        return true;
    case QMIG_PAGE_XBZRLE:
        return patch_page(block, page, error);
    case QMIG_PAGE_ZLIB:
        return inflate_page(ram, block, page, error);
    default:
        copy_page(block, page->offset, page->data);
        return true;
    }
}

/* A mapped-ram file leaves zero pages out: all pages of a block that has any there are known. */
static void
receive_all(Block *block)
{
    for (uint64_t page = 0; page < block->length / block->page_size; page++) {
        qmig_page_set_add(&block->received, page);
    }
}

/* POSTCOPY_RAM_DISCARD: u8 0, cstr block, u8 0, (be64 start, be64 length)*. */
static bool
discard(QmigGuestRam *ram, const struct qmig_event_command *cmd, GError **error)
{
    QmigCursor c = qmig_cursor(cmd->data, cmd->length);
    uint64_t start, length;
    uint8_t version, name_len, zero;
    char name[256];
    Block *block;

    if (!(qmig_cursor_u8(&c, &version) && qmig_cursor_cstr(&c, name, &name_len) &&
          qmig_cursor_u8(&c, &zero) && (block = find_block(ram, name)) != NULL)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "discard command of %u bytes is malformed", cmd->length);
    }
    while (qmig_cursor_be64(&c, &start) && qmig_cursor_be64(&c, &length)) {
        if (start > block->length || length > block->length - start) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  "discard of 0x%" PRIx64 " bytes at 0x%" PRIx64
                                  " in block \"%s\" of 0x%" PRIx64,
                                  length, start, name, block->length);
        }
        qmig_page_set_remove(&block->received, start / block->page_size,
                             length / block->page_size +
                                 (length % block->page_size != 0));
    }
    return true;
}

/* The state of a channel's decompression. */
static QmigMultifdPages *
pages_of(QmigGuestRam *ram, const QmigReaderChannel *channel)
{
    if (channel->number >= ram->multifd->len) {
        g_ptr_array_set_size(ram->multifd, (gint)channel->number + 1);
    }
    if (ram->multifd->pdata[channel->number] == NULL) {
        ram->multifd->pdata[channel->number] = qmig_multifd_pages_new();
    }
    return ram->multifd->pdata[channel->number];
}

static bool
apply_packet(QmigGuestRam *ram, const QmigReaderChannel *channel,
             const struct qmig_multifd_packet *packet, GError **error)
{
    uint32_t n = packet->normal_pages + packet->zero_pages;
    const uint8_t *pages;
    Block *block;

    if (!qmig_multifd_pages_take(pages_of(ram, channel), packet, &pages, error)) {
        g_prefix_error(error, "%s: ", channel->name);
        return false;
    }
    if (packet->device != NULL || n == 0) {
        return true;
    }
    block = find_block(ram, packet->block);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t at = packet->offsets[i];

        if (block == NULL || packet->page_size != block->page_size ||
            at % block->page_size != 0 || at >= block->length ||
            block->length - at < block->page_size) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  "%s: packet %" PRIu64 ": page 0x%" PRIx64
                                  " is none of block \"%s\"",
                                  channel->name, packet->packet_num, at, packet->block);
        }
        if (i < packet->normal_pages) {
            copy_page(block, at, pages + (size_t)i * block->page_size);
        } else {
            fill_page(block, at, 0);
        }
    }
    return true;
}

bool
qmig_guest_ram_apply(QmigGuestRam *ram, const QmigReaderChannel *channel,
                     const struct qmig_event *ev, GError **error)
{
    switch (ev->kind) {
    case QMIG_EVENT_MULTIFD_PACKET:
        return apply_packet(ram, channel, ev->u.multifd_packet.packet, error);
    case QMIG_EVENT_PAGE:
        return apply_page(ram, &ev->u.page, error);
    case QMIG_EVENT_RAM_BLOCK:
        if (!add_block(ram, ev->u.ram_block.block, error)) {
            return false;
        }
        if (ev->u.ram_block.pages_offset != 0) {
            receive_all(g_ptr_array_index(ram->blocks, ram->blocks->len - 1));
        }
        return true;
    case QMIG_EVENT_COMMAND:
        return ev->u.command.command != QMIG_COMMAND_POSTCOPY_RAM_DISCARD ||
               discard(ram, &ev->u.command, error);
    default:
        return true;
    }
}

unsigned
qmig_guest_ram_n_blocks(const QmigGuestRam *ram)
{
    return ram->blocks->len;
}

bool
qmig_guest_ram_has(const QmigGuestRam *ram, unsigned i, uint64_t page)
{
    const Block *block = g_ptr_array_index(ram->blocks, i);

    return qmig_page_set_has(&block->received, page);
}

QmigGuestBlock
qmig_guest_ram_block(const QmigGuestRam *ram, unsigned i)
{
    const Block *block = g_ptr_array_index(ram->blocks, i);

    return (QmigGuestBlock){
        .name = block->name,
        .length = block->length,
        .page_size = block->page_size,
        .memory = block->memory,
        .n_pages = block->length / block->page_size,
        .n_received = block->received.count,
    };
}
