/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two threads of a pack and what is between them.
 *
 *     putter: decoder -> fresh items --(lock)--> pending --(lock)--> taken items -> press :taker
 *
 * Pages are copied into slots before the lock is taken, and out of them after it is given back:
 * the lock is held for moving some 64 items from list to list.
 */
#include "proxy/link/pack-priv.h"

#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    PENDING_DEFAULT = 32 << 20,
    POSTCOPY_PENDING =
        128 << 10,           /* what a break finds here is not the source's any more */
    GROUP_BYTES = 512 << 10, /* or bytes */
    BATCH_BYTES = 256 << 10, /* a batch that has so many is sent */
    POSTCOPY_BATCH_BYTES = 64 << 10, /* a page that is asked for waits behind one */
    CHUNK = 64 << 10,                /* of bytes that are no pages */
    READ_MIN = 64 << 10,             /* read at once, as far as it is there */
};

G_STATIC_ASSERT(BATCH_ITEMS + 2 * GROUP < QMIG_PENDING_SPARE);

static int
new_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        g_error("eventfd: %s", g_strerror(errno));
    }
    return fd;
}

QmigPack *
qmig_pack_new(const QmigPackConfig *config, GError **error)
{
    g_autoptr(QmigPack) p = g_new0(QmigPack, 1);

    p->pending_max = config->pending_max != 0 ? config->pending_max : PENDING_DEFAULT;
    p->pending_max = MAX(p->pending_max, PENDING_MIN);
    p->hold_max = p->pending_max;
    p->effort = QMIG_PACK_SMALL;
    p->chunk = QMIG_PENDING_NONE;
    p->decoder = qmig_decoder_new();
    p->encoder = qmig_encoder_new();
    p->unread = g_byte_array_new();
    p->pending = qmig_pending_new(p->pending_max + GROUP_BYTES + 2 * CHUNK);
    p->blocks = g_ptr_array_new();
    pthread_mutex_init(&p->lock, NULL);
    p->data_fd = new_eventfd();
    p->room_fd = new_eventfd();
    p->press = qmig_press_new(config->cache_size, error);
    return p->press != NULL ? g_steal_pointer(&p) : NULL;
}

void
qmig_pack_free(QmigPack *p)
{
    if (p == NULL) {
        return;
    }
    qmig_pending_release(p->pending, p->fresh, p->n_fresh);
    qmig_pending_release(p->pending, p->taken, p->n_taken);
    qmig_pending_free(p->pending);
    qmig_press_free(p->press);
    g_free(p->copied_from);
    qmig_encoder_free(p->encoder);
    qmig_decoder_free(p->decoder);
    g_byte_array_unref(p->unread);
    g_ptr_array_unref(p->blocks);
    pthread_mutex_destroy(&p->lock);
    close(p->data_fd);
    close(p->room_fd);
    g_free(p);
}

/* ---- waiting -------------------------------------------------------------------------- */

static void
wake(bool *waits, int fd)
{
    uint64_t one = 1;

    if (*waits) {
        *waits = false;
        if (write(fd, &one, sizeof one) < 0) {
            return; /* EAGAIN: readable already */
        }
    }
}

/* Give the lock back until the other side says wake(), or @cancel is raised. */
static bool
wait_for(QmigPack *p, bool *waits, int fd, const QmigCancel *cancel, GError **error)
{
    uint64_t count;
    bool ok;

    *waits = true;
    pthread_mutex_unlock(&p->lock);
    ok = qmig_wait_fd(fd, POLLIN, QMIG_DEADLINE_NEVER, cancel, error);
    if (ok && read(fd, &count, sizeof count) < 0) {
        count = 0; /* somebody was early; the caller looks again */
    }
    pthread_mutex_lock(&p->lock);
    return ok;
}

static bool
is_full(const QmigPack *p)
{
    uint64_t max = p->postcopy ? POSTCOPY_PENDING : p->hold_max;

    return qmig_pending_weight(p->pending) >= max ||
           qmig_pending_count(p->pending) >= QMIG_PENDING_ITEMS;
}

/* Hand the fresh items over. */
static void
publish(QmigPack *p)
{
    for (size_t i = 0; i < p->n_fresh; i++) {
        (void)qmig_pending_append(p->pending, p->fresh[i]);
    }
    if (p->n_fresh > 0) {
        wake(&p->taker_waits, p->data_fd);
    }
    p->n_fresh = 0;
    p->fresh_bytes = 0;
}

static bool
publish_and_wait(QmigPack *p, const QmigCancel *cancel, GError **error)
{
    bool ok = true;

    pthread_mutex_lock(&p->lock);
    publish(p);
    while (ok && is_full(p) && !p->stopped) {
        ok = wait_for(p, &p->putter_waits, p->room_fd, cancel, error);
    }
    if (ok && p->stopped) {
        ok = qmig_set_error(error, QMIG_ERROR_CANCELLED,
                            "nobody takes the pages any more");
    }
    pthread_mutex_unlock(&p->lock);
    return ok;
}

/* ---- putting -------------------------------------------------------------------------- */

static bool
add_fresh(QmigPack *p, uint32_t index, const QmigCancel *cancel, GError **error)
{
    p->fresh[p->n_fresh++] = index;
    p->fresh_bytes += qmig_pending_item(p->pending, index)->length;
    return (p->n_fresh < GROUP && p->fresh_bytes < GROUP_BYTES) ||
           publish_and_wait(p, cancel, error);
}

/* An unused item; with @slot for pages of @page_size. Return: NONE with @error. */
static uint32_t
get_item(QmigPack *p, bool slot, uint32_t page_size, GError **error)
{
    bool ok = true;

    if (p->stock[slot].n == 0) {
        pthread_mutex_lock(&p->lock);
        if (slot && qmig_pending_slot_size(p->pending) == 0) {
            ok = qmig_pending_set_page_size(p->pending, page_size, error);
        }
        while (ok && p->stock[slot].n < GROUP) {
            p->stock[slot].item[p->stock[slot].n++] = qmig_pending_get(p->pending, slot);
        }
        pthread_mutex_unlock(&p->lock);
    }
    return ok ? p->stock[slot].item[--p->stock[slot].n] : QMIG_PENDING_NONE;
}

static uint32_t
get_plain_item(QmigPack *p)
{
    return get_item(p, false, 0, NULL);
}

/* Bytes that are no pages, behind those that wait. */
static bool
put_bytes(QmigPack *p, const uint8_t *data, size_t len, bool barrier,
          const QmigCancel *cancel, GError **error)
{
    while (len > 0) {
        QmigPendingItem *last = p->n_fresh > 0 ? qmig_pending_item(
                                                     p->pending, p->fresh[p->n_fresh - 1])
                                               : NULL;
        bool join = last != NULL && last->type == QMIG_PENDING_IS_BYTES &&
                    last->barrier == barrier && last->length < CHUNK;
        uint32_t index = join ? QMIG_PENDING_NONE : get_plain_item(p);
        QmigPendingItem *item = join ? last : qmig_pending_item(p->pending, index);
        size_t n = MIN(len, CHUNK - item->length);

        item->type = QMIG_PENDING_IS_BYTES;
        item->barrier = barrier;
        item->pages_may_follow = p->in_ram;
        item->data = g_realloc(item->data, item->length + n);
        memcpy(item->data + item->length, data, n);
        item->length += (uint32_t)n;
        item->wire_size = item->length;
        data += n;
        len -= n;
        if (join) {
            p->fresh_bytes += n;
        } else if (!add_fresh(p, index, cancel, error)) {
            return false;
        }
    }
    return true;
}

static bool
put_block(QmigPack *p, const struct qmig_block *block, const QmigCancel *cancel,
          GError **error)
{
    uint32_t index = get_plain_item(p);
    QmigPendingItem *item = qmig_pending_item(p->pending, index);

    item->type = QMIG_PENDING_IS_BLOCK;
    item->block = block;
    pthread_mutex_lock(&p->lock);
    g_ptr_array_add(p->blocks, (gpointer)block);
    pthread_mutex_unlock(&p->lock);
    return add_fresh(p, index, cancel, error);
}

static bool
is_in_chunk(const QmigPack *p, const uint8_t *data)
{
    return p->chunk != QMIG_PENDING_NONE &&
           (uintptr_t)data - (uintptr_t)qmig_pending_chunk(p->pending, p->chunk) <
               QMIG_PENDING_CHUNK;
}

/* An item with the page's payload: where it was read, in a slot, or a large one by itself. */
static uint32_t
get_page_item(QmigPack *p, const struct qmig_event_page *page, GError **error)
{
    bool stays = is_in_chunk(p, page->data);
    bool slot = !stays && page->kind != QMIG_PAGE_ZERO &&
                page->length <= page->block->page_size;
    uint32_t index = get_item(p, slot, page->block->page_size, error);
    QmigPendingItem *item = qmig_pending_item(p->pending, index);

    if (index == QMIG_PENDING_NONE || page->kind == QMIG_PAGE_ZERO) {
        return index;
    }
    if (stays) {
        item->chunk = p->chunk;
        item->data = (uint8_t *)page->data;
    } else if (slot) {
        memcpy(item->data, page->data, page->length);
    } else {
        item->data = g_memdup2(page->data, page->length);
    }
    return index;
}

static bool
put_page(QmigPack *p, const struct qmig_event *ev, const QmigCancel *cancel,
         GError **error)
{
    const struct qmig_event_page *page = &ev->u.page;
    bool is_zero = page->kind == QMIG_PAGE_ZERO;
    uint32_t index = get_page_item(p, page, error);
    QmigPendingItem *item;

    if (index == QMIG_PENDING_NONE) {
        return false;
    }
    item = qmig_pending_item(p->pending, index);
    item->type = QMIG_PENDING_IS_PAGE;
    item->named = !page->continued;
    item->fill = is_zero ? page->data[0] : 0;
    item->kind = page->kind;
    item->length = is_zero ? 0 : page->length;
    item->wire_size = (uint32_t)ev->wire_size;
    item->block = page->block;
    item->offset = page->offset;
    p->last_block = page->block;
    return add_fresh(p, index, cancel, error);
}

/* From now on the order of pages is a matter of life and death. */
static void
begin_postcopy(QmigPack *p)
{
    g_atomic_int_set(&p->switching, 1);
    pthread_mutex_lock(&p->lock);
    p->postcopy = true;
    publish(p);
    qmig_pending_set_postcopy(p->pending, p->may_overtake);
    pthread_mutex_unlock(&p->lock);
}

static void
learn_command(QmigPack *p, const struct qmig_event_command *cmd)
{
    QmigCursor c = qmig_cursor(cmd->data, cmd->length);
    uint64_t sizes;

    switch (cmd->command) {
    case QMIG_COMMAND_POSTCOPY_ADVISE:
        /* The sizes of all blocks' pages, or-ed: nothing overtakes the halves of a huge page. */
        p->may_overtake = qmig_cursor_be64(&c, &sizes) &&
                          sizes == qmig_decoder_page_size(p->decoder);
        break;
    case QMIG_COMMAND_POSTCOPY_RAM_DISCARD:
    case QMIG_COMMAND_POSTCOPY_LISTEN:
    case QMIG_COMMAND_POSTCOPY_RUN:
    case QMIG_COMMAND_PACKAGED:
    /* What was paused goes on: it begins with these. */
    case QMIG_COMMAND_RECV_BITMAP:
    case QMIG_COMMAND_POSTCOPY_RESUME:
        if (!p->postcopy) {
            begin_postcopy(p);
        }
        break;
    default:
        break;
    }
}

/*
 * What follows is passed on without being read. If it has pages, they may leave out the name of
 * the block that the page before them had: it must have been that block at the far end, too.
 */
static bool
settle(QmigPack *p, const char *reason, GError **error)
{
    const struct qmig_block *last;

    if (!p->postcopy) {
        return true;
    }
    pthread_mutex_lock(&p->lock);
    publish(p);
    last = qmig_pending_settle(p->pending);
    pthread_mutex_unlock(&p->lock);
    return last == NULL || last == p->last_block ||
           qmig_set_error(
               error, QMIG_ERROR_UNSUPPORTED,
               "tunnel: pages of a post-copy stream have changed places, and its "
               "rest is not understood: %s",
               reason);
}

/* Frames of RAM sections; pages may be dropped on one side of them for the other. */
static bool
is_barrier(QmigPack *p, const struct qmig_event *ev)
{
    switch (ev->kind) {
    case QMIG_EVENT_SECTION:
        p->ram_section = strcmp(ev->u.section.name, "ram") == 0;
        if (p->ram_section && ev->u.section.type == QMIG_SECTION_END) {
            g_atomic_int_set(&p->switching, 1);
        }
        p->in_ram = p->ram_section && (ev->u.section.type == QMIG_SECTION_PART ||
                                       ev->u.section.type == QMIG_SECTION_END);
        return !p->ram_section;
    case QMIG_EVENT_RAM_EOS:
        p->in_ram = false;
        return false;
    case QMIG_EVENT_FOOTER:
        return !p->ram_section;
    case QMIG_EVENT_RAM_FLUSH:
    case QMIG_EVENT_RAM_HOOK:
        return true;
    default:
        p->in_ram = false;
        return true;
    }
}

static bool
put_other(QmigPack *p, const struct qmig_event *ev, const QmigCancel *cancel,
          GError **error)
{
    const struct iovec *iov;
    size_t bytes, n;
    bool ok = true;

    if (ev->kind == QMIG_EVENT_COMMAND) {
        learn_command(p, &ev->u.command);
    }
    if (ev->kind == QMIG_EVENT_RAW && !settle(p, ev->u.raw.reason, error)) {
        return false;
    }
    if (ev->flags & QMIG_EVENT_NOTE) {
        return true;
    }
    if (!qmig_encoder_put(p->encoder, ev, error)) {
        return false;
    }
    bool barrier = is_barrier(p, ev);
    n = qmig_encoder_pending(p->encoder, &iov, &bytes);
    for (size_t i = 0; ok && i < n; i++) {
        ok = put_bytes(p, iov[i].iov_base, iov[i].iov_len, barrier, cancel, error);
    }
    qmig_encoder_clear(p->encoder);
    if (ok && ev->kind == QMIG_EVENT_RAM_BLOCK) {
        ok = put_block(p, ev->u.ram_block.block, cancel, error);
    }
    return ok;
}

static bool
put_event(QmigPack *p, const struct qmig_event *ev, const QmigCancel *cancel,
          GError **error)
{
    if (G_LIKELY(ev->kind == QMIG_EVENT_PAGE) && ev->u.page.kind != QMIG_PAGE_MAPPED) {
        return put_page(p, ev, cancel, error);
    }
    return put_other(p, ev, cancel, error);
}

/* @data was put: keep what no event has accounted for. */
static void
keep_unread(QmigPack *p, const uint8_t *data, size_t len)
{
    uint64_t left = p->total - qmig_decoder_offset(p->decoder);

    if (left <= len) {
        g_byte_array_set_size(p->unread, 0);
        g_byte_array_append(p->unread, data + len - left, (guint)left);
        return;
    }
    g_byte_array_append(p->unread, data, (guint)len);
    g_byte_array_remove_range(p->unread, 0, p->unread->len - (guint)left);
}

/* The bytes that were put and not read: as they are. */
static bool
put_unread(QmigPack *p, const QmigCancel *cancel, GError **error)
{
    bool ok;

    p->in_ram = false;
    ok = put_bytes(p, p->unread->data, p->unread->len, true, cancel, error);
    g_byte_array_set_size(p->unread, 0);
    return ok;
}

static bool
go_raw(QmigPack *p, const char *reason, const QmigCancel *cancel, GError **error)
{
    p->raw = true;
    return settle(p, reason, error) && put_unread(p, cancel, error);
}

/* Events until the decoder wants more. */
static bool
pump(QmigPack *p, const uint8_t *data, size_t len, const QmigCancel *cancel,
     GError **error)
{
    g_autoptr(GError) local = NULL;
    struct qmig_event ev;

    for (;;) {
        switch (qmig_decoder_next(p->decoder, &ev, &local)) {
        case QMIG_DECODE_EVENT:
            if (!put_event(p, &ev, cancel, error)) {
                return false;
            }
            break;
        case QMIG_DECODE_NEED_MORE:
        case QMIG_DECODE_END:
            keep_unread(p, data, len);
            return true;
        case QMIG_DECODE_FAILED:
            keep_unread(p, data, len);
            return go_raw(p, local->message, cancel, error);
        }
    }
}

/* Does a migration stream begin so? With the header, or after a break with a command. */
static bool
may_begin(uint8_t byte)
{
    return byte == 'Q' || byte == 0x08;
}

uint8_t *
qmig_pack_buffer(QmigPack *p, size_t *size)
{
    if (p->chunk == QMIG_PENDING_NONE || QMIG_PENDING_CHUNK - p->chunk_used < READ_MIN) {
        pthread_mutex_lock(&p->lock);
        if (p->chunk != QMIG_PENDING_NONE) {
            qmig_pending_drop_chunk(p->pending, p->chunk);
        }
        p->chunk = qmig_pending_get_chunk(p->pending);
        pthread_mutex_unlock(&p->lock);
        p->chunk_used = 0;
    }
    if (p->chunk == QMIG_PENDING_NONE) {
        p->copied_from = p->copied_from != NULL ? p->copied_from
                                                : g_malloc(QMIG_PENDING_CHUNK);
        *size = p->postcopy ? READ_MIN : QMIG_PENDING_CHUNK;
        return p->copied_from;
    }
    *size = p->postcopy ? READ_MIN : QMIG_PENDING_CHUNK - p->chunk_used;
    return qmig_pending_chunk(p->pending, p->chunk) + p->chunk_used;
}

bool
qmig_pack_put(QmigPack *p, const uint8_t *data, size_t len, const QmigCancel *cancel,
              GError **error)
{
    bool ok;

    if (len == 0) {
        return true;
    }
    p->raw = p->raw || (p->total == 0 && !may_begin(data[0]));
    p->total += len;
    p->chunk_used += is_in_chunk(p, data) ? len : 0;
    pthread_mutex_lock(&p->lock);
    p->bytes_in = p->total;
    pthread_mutex_unlock(&p->lock);
    if (p->raw) {
        ok = put_bytes(p, data, len, true, cancel, error);
    } else {
        qmig_decoder_push(p->decoder, data, len);
        ok = pump(p, data, len, cancel, error);
    }
    return ok && publish_and_wait(p, cancel, error);
}

void
qmig_pack_stop(QmigPack *p)
{
    pthread_mutex_lock(&p->lock);
    p->stopped = true;
    wake(&p->putter_waits, p->room_fd);
    pthread_mutex_unlock(&p->lock);
}

void
qmig_pack_finish(QmigPack *p)
{
    uint32_t index = QMIG_PENDING_NONE;
    QmigPendingItem *item;

    if (p->unread->len > 0) {
        index = get_plain_item(p);
        item = qmig_pending_item(p->pending, index);
        item->type = QMIG_PENDING_IS_BYTES;
        item->barrier = true;
        item->data = g_memdup2(p->unread->data, p->unread->len);
        item->length = item->wire_size = p->unread->len;
        p->fresh[p->n_fresh++] = index;
    }
    pthread_mutex_lock(&p->lock);
    publish(p);
    p->finished = true;
    wake(&p->taker_waits, p->data_fd);
    pthread_mutex_unlock(&p->lock);
}

/* ---- taking --------------------------------------------------------------------------- */

/* Move items to the taker, as long as they surely fit. Return: how many. */
static size_t
take_items(QmigPack *p, size_t room)
{
    size_t first = p->n_taken, bound;

    while (p->n_taken < BATCH_ITEMS) {
        uint32_t index = qmig_pending_peek(p->pending);
        const QmigPendingItem *item;

        if (index == QMIG_PENDING_NONE) {
            break;
        }
        item = qmig_pending_item(p->pending, index);
        bound = qmig_press_bound(item);
        if (bound > room ||
            p->ops_bound + bound - item->length > QMIG_BATCH_OPS_BYTES_MAX) {
            break;
        }
        room -= bound;
        p->ops_bound += bound - item->length;
        qmig_pending_pop(p->pending, index);
        p->taken[p->n_taken++] = index;
    }
    return p->n_taken - first;
}

/* What is taken is in the batch: its memory can be used again. */
static void
release(QmigPack *p)
{
    QmigPendingCounts counts;

    for (size_t i = 0; i < p->n_taken; i++) {
        p->bytes_done += qmig_pending_item(p->pending, p->taken[i])->wire_size;
    }
    qmig_pending_release(p->pending, p->taken, p->n_taken);
    p->n_taken = 0;
    p->ops_bound = 0;
    p->counts = *qmig_press_counts(p->press);
    qmig_pending_count_up(p->pending, &counts);
    p->counts.replaced = counts.replaced;
    p->counts.replaced_bytes = counts.replaced_bytes;
    p->counts.overtook = counts.overtook;
    if (!is_full(p)) {
        wake(&p->putter_waits, p->room_fd);
    }
}

/* Wait for the first items. Return: their number; 0 at the end; -1. */
static ssize_t
take_first(QmigPack *p, size_t room, size_t *target, const QmigCancel *cancel,
           GError **error)
{
    size_t n = 0;
    bool ok = true;

    pthread_mutex_lock(&p->lock);
    while (ok && qmig_pending_peek(p->pending) == QMIG_PENDING_NONE && !p->finished) {
        ok = wait_for(p, &p->taker_waits, p->data_fd, cancel, error);
    }
    *target = MIN(room, p->postcopy ? POSTCOPY_BATCH_BYTES : BATCH_BYTES);
    if (ok) {
        n = take_items(p, *target);
        /* One thing may be larger than what is aimed at, never than what there is. */
        n = n > 0 ? n : take_items(p, MIN(room, QMIG_PACK_BATCH_MIN - QMIG_BATCH_HEAD));
    }
    pthread_mutex_unlock(&p->lock);
    return ok ? (ssize_t)n : -1;
}

static size_t
take_more(QmigPack *p, size_t room)
{
    size_t n;

    pthread_mutex_lock(&p->lock);
    n = take_items(p, room);
    pthread_mutex_unlock(&p->lock);
    return n;
}

ssize_t
qmig_pack_take(QmigPack *p, uint8_t *buf, size_t size, const QmigCancel *cancel,
               GError **error)
{
    QmigPackEffort effort = (QmigPackEffort)g_atomic_int_get(&p->effort);
    size_t done = 0, target, used;
    ssize_t n;

    g_return_val_if_fail(size >= QMIG_PACK_BATCH_MIN, -1);
    size = MIN(size, QMIG_BATCH_MAX);
    n = take_first(p, size - QMIG_BATCH_HEAD, &target, cancel, error);
    if (n <= 0) {
        return n;
    }
    while (n > 0) {
        for (; done < p->n_taken; done++) {
            if (!qmig_press_add(p->press, qmig_pending_item(p->pending, p->taken[done]),
                                effort, error)) {
                return -1;
            }
        }
        used = qmig_press_size(p->press);
        n = used < target ? (ssize_t)take_more(p, target - used) : 0;
    }
    used = qmig_press_size(p->press);
    qmig_press_end(p->press, buf);
    pthread_mutex_lock(&p->lock);
    release(p);
    pthread_mutex_unlock(&p->lock);
    return (ssize_t)used;
}
