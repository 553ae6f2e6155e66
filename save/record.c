/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes are read into the writer's chunk and decoded where they lie. The decoder proves that
 * the stream is whole, counts, and finds the zero pages; it changes nothing.
 */
#include "save/record.h"

#include "save/io.h"
#include "stream/decoder.h"
#include "util/cursor.h"
#include "util/error.h"

enum { SCRATCH = 1 << 20 };

struct QmigSaveWatch {
    QmigDecoder *decoder;
    QmigSaveWriter *writer;  /* (nullable) borrowed */
    QmigSaveInfo *info;      /* borrowed */
    GPtrArray *capabilities; /* owned; of char * */
    bool head_read;          /* a section has come */
    char *doubt;             /* owned; set by the last note */
    bool ended;              /* that note has come */
};

QmigSaveWatch *
qmig_save_watch_new(QmigSaveInfo *info, QmigSaveWriter *w)
{
    QmigSaveWatch *watch = g_new0(QmigSaveWatch, 1);

    watch->decoder = qmig_decoder_new();
    watch->writer = w;
    watch->info = info;
    watch->capabilities = g_ptr_array_new_with_free_func(g_free);
    return watch;
}

void
qmig_save_watch_free(QmigSaveWatch *watch)
{
    if (watch != NULL) {
        qmig_decoder_free(watch->decoder);
        g_ptr_array_unref(watch->capabilities);
        g_free(watch->doubt);
        g_free(watch);
    }
}

/* ---- events ----------------------------------------------------------------------------- */

static void
take_block(QmigSaveWatch *watch, const struct qmig_block *block)
{
    QmigSaveBlock row = { g_strndup(block->name, block->name_length),
                          block->used_length };

    watch->info->page_size = block->page_size;
    g_array_append_val(watch->info->blocks, row);
}

static void
take_page(QmigSaveWatch *watch, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;
    QmigSaveInfo *info = watch->info;

    switch (page->kind) {
    case QMIG_PAGE_ZERO:
        info->zero++;
        if (watch->writer != NULL && ev->wire_size == QMIG_SAVE_ZERO_RECORD) {
            qmig_save_writer_hint_zero(watch->writer, ev->offset, page->offset,
                                       page->block->page_size);
        }
        break;
    case QMIG_PAGE_XBZRLE:
        info->xbzrle++;
        break;
    case QMIG_PAGE_ZLIB:
        info->zlib++;
        break;
    default:
        info->normal++;
        break;
    }
}

/* Capabilities that who loads the stream must have on: be32 count, count × cstr. */
static void
take_capabilities(QmigSaveWatch *watch, const struct qmig_event_config_sub *sub)
{
    QmigCursor c = qmig_cursor(sub->data, sub->length);
    uint32_t n;
    char name[256];
    uint8_t len;

    if (g_strcmp0(sub->name, "configuration/capabilities") != 0 ||
        !qmig_cursor_be32(&c, &n)) {
        return;
    }
    while (n-- > 0 && qmig_cursor_cstr(&c, name, &len)) {
        g_ptr_array_add(watch->capabilities, g_strdup(name));
    }
}

/* "globalstate": be32 length, the run state of the guest as text in 100 bytes. */
static void
take_device(QmigSaveWatch *watch, const struct qmig_event_device *device)
{
    QmigCursor c = qmig_cursor(device->data, device->length);
    static const char running[] = "running";
    const uint8_t *state;
    uint32_t len;

    if (g_strcmp0(device->name, "globalstate") == 0 && qmig_cursor_be32(&c, &len) &&
        qmig_cursor_bytes(&c, sizeof running, &state)) {
        watch->info->flags |= memcmp(state, running, sizeof running) == 0
                                  ? QMIG_SAVE_RAN
                                  : QMIG_SAVE_PAUSED;
    }
}

static void
take_rare_event(QmigSaveWatch *watch, const struct qmig_event *ev)
{
    QmigSaveInfo *info = watch->info;

    if (ev->kind == QMIG_EVENT_CONFIG) {
        g_free(info->machine);
        /* What does not fit a cstr is no machine's name. */
        info->machine = g_strndup(ev->u.config.machine, MIN(ev->u.config.length, 255));
    } else if (ev->kind == QMIG_EVENT_CONFIG_SUB) {
        take_capabilities(watch, &ev->u.config_sub);
    } else if (ev->kind == QMIG_EVENT_RAM_BLOCK) {
        take_block(watch, ev->u.ram_block.block);
    } else if (ev->kind == QMIG_EVENT_DEVICE) {
        take_device(watch, &ev->u.device);
    } else if (ev->kind == QMIG_EVENT_END) {
        watch->ended = true;
        info->flags |= ev->u.end.complete ? QMIG_SAVE_DECODED : 0;
        watch->doubt = ev->u.end.complete ? NULL : g_strdup(ev->u.end.reason);
    } else if (ev->kind != QMIG_EVENT_HEADER) {
        watch->head_read = true;
    }
}

/* Such a file is sparse and has its own index: packing it as a stream would help nobody. */
static bool
check_capabilities(const QmigSaveWatch *watch, GError **error)
{
    return watch->writer == NULL ||
           !g_ptr_array_find_with_equal_func(watch->capabilities, "mapped-ram",
                                             g_str_equal, NULL) ||
           qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                          "it is a mapped-ram file, no plain stream: `qmig stream "
                          "convert` makes one of it");
}

static bool
drain(QmigSaveWatch *watch, GError **error)
{
    struct qmig_event ev;
    QmigDecodeResult result;

    while ((result = qmig_decoder_next(watch->decoder, &ev, error)) ==
           QMIG_DECODE_EVENT) {
        if (G_LIKELY(ev.kind == QMIG_EVENT_PAGE)) {
            take_page(watch, &ev);
        } else {
            take_rare_event(watch, &ev);
        }
    }
    return result != QMIG_DECODE_FAILED;
}

bool
qmig_save_watch_push(QmigSaveWatch *watch, const void *data, size_t len, GError **error)
{
    qmig_decoder_push(watch->decoder, data, len);
    return drain(watch, error) && check_capabilities(watch, error);
}

bool
qmig_save_watch_end(QmigSaveWatch *watch, char **doubt, GError **error)
{
    qmig_decoder_eof(watch->decoder);
    if (!drain(watch, error)) {
        return false;
    }
    g_assert(watch->ended);
    *doubt = g_steal_pointer(&watch->doubt);
    return true;
}

bool
qmig_save_watch_has_head(const QmigSaveWatch *watch, GPtrArray **capabilities)
{
    *capabilities = watch->capabilities;
    return watch->head_read;
}

/* ---- to the end of a descriptor --------------------------------------------------------- */

static bool
record(QmigSaveWatch *watch, uint8_t *scratch, int in, const QmigCancel *cancel,
       GError **error)
{
    for (;;) {
        size_t room = SCRATCH;
        uint8_t *to = watch->writer != NULL
                          ? qmig_save_writer_room(watch->writer, &room, error)
                          : scratch;
        ssize_t n = to != NULL ? qmig_io_read(in, to, room, cancel, error) : -1;

        if (n <= 0) {
            return n == 0;
        }
        if (watch->writer != NULL) {
            qmig_save_writer_add(watch->writer, (size_t)n);
        }
        if (!qmig_save_watch_push(watch, to, (size_t)n, error)) {
            return false;
        }
    }
}

bool
qmig_save_record(int in, QmigSaveWriter *w, QmigSaveInfo *info, char **doubt,
                 const QmigCancel *cancel, GError **error)
{
    g_autofree uint8_t *scratch = w == NULL ? g_malloc(SCRATCH) : NULL;
    g_autoptr(QmigSaveWatch) watch = qmig_save_watch_new(info, w);

    return record(watch, scratch, in, cancel, error) &&
           qmig_save_watch_end(watch, doubt, error);
}
