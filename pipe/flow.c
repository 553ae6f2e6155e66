/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See flow.h. Here is what both ways of working have in common, and encoding. */
#include "pipe/flow.h"

#include "pipe/flow-priv.h"
#include "save/format.h"
#include "save/io.h"
#include "util/error.h"

#include <inttypes.h>
#include <poll.h>
#include <sys/random.h>

enum { COPY = 64 << 10, NS_PER_S = 1000000000 };

bool
qmig_pipe_flow_new_header(QmigPipeHeader *header, QmigPipeCipher cipher, uint8_t flags,
                          uint32_t block_limit, GError **error)
{
    *header = (QmigPipeHeader){ .cipher = (uint8_t)cipher,
                                .flags = flags,
                                .block_limit = block_limit };
    return getrandom(header->salt, sizeof header->salt, 0) == sizeof header->salt ||
           qmig_set_error(error, QMIG_ERROR_IO, "no random numbers from the kernel");
}

bool
qmig_pipe_prefix_place(GError **error, const char *name, uint64_t number,
                       uint64_t position, uint64_t offset)
{
    g_prefix_error(error,
                   "%s: record %" PRIu64 " at byte %" PRIu64 " (byte %" PRIu64
                   " of the stream): ",
                   name, number, position, offset);
    return false;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Wait until some of @len bytes may go. Return: how many; 0 with @error CANCELLED. */
static size_t
take_pace(QmigPipeFlow *f, size_t len, GError **error)
{
    struct pollfd stop = { .fd = qmig_cancel_fd(f->stop), .events = POLLIN };
    uint64_t bytes = len, wait_ns;

    while (f->pace != NULL && (wait_ns = qmig_pace_take(f->pace, &bytes)) > 0) {
        struct timespec timeout = { .tv_sec = (time_t)(wait_ns / NS_PER_S),
                                    .tv_nsec = (long)(wait_ns % NS_PER_S) };

        if (qmig_cancel_is_raised(f->stop)) {
            qmig_set_error(error, QMIG_ERROR_CANCELLED, "stopped while it kept the rate");
            return 0;
        }
        (void)ppoll(&stop, 1, &timeout, NULL); /* however it ends, the loop looks */
    }
    return (size_t)bytes;
}

bool
qmig_pipe_flow_write(QmigPipeFlow *f, const uint8_t *data, size_t len, GError **error)
{
    while (len > 0) {
        size_t n = take_pace(f, len, error);

        if (n == 0 || !qmig_io_write_all(f->out, data, n, f->stop, error)) {
            g_prefix_error(error, "%s: ", f->out_name);
            return false;
        }
        __atomic_add_fetch(&f->bytes_out, n, __ATOMIC_RELAXED);
        data += n;
        len -= n;
    }
    return true;
}

bool
qmig_pipe_flow_begin(QmigPipeFlow *f, GError **error)
{
    if (!f->begun && f->begin != NULL && !f->begin(f, error)) {
        return false;
    }
    f->begun = true;
    return true;
}

static bool
write_record(QmigPipeFlow *f, QmigPipeBlock *block, GError **error)
{
    uint32_t size = qmig_pipe_block_size(block, &f->header);
    int64_t from = qmig_now_us();

    if (!qmig_pipe_flow_begin(f, error) ||
        !qmig_pipe_flow_write(f, block->record, size, error)) {
        return false;
    }
    if (block->head.kind == QMIG_PIPE_END) {
        return f->end == NULL || f->end(f, error);
    }
    if (f->automatic) {
        qmig_adapt_written(&f->adapt, size, (uint64_t)(qmig_now_us() - from));
        qmig_adapt_packed(&f->adapt, block->choice, block->head.length,
                          block->head.stored, block->work_us);
    }
    __atomic_add_fetch(&f->codec_blocks[block->head.codec], 1, __ATOMIC_RELAXED);
    return true;
}

/* Takes out what was worked on, to the end; after a failure only to empty the ring. */
static void *
run_writing(void *data)
{
    QmigPipeFlow *f = data;
    QmigPipeBlock *block;

    while ((block = qmig_pipeline_take(f->pipeline)) != NULL) {
        if (!f->failed && !f->write(f, block, &f->error)) {
            f->failed = true;
            qmig_cancel_raise(f->stop);
        }
        g_clear_error(&block->error);
        qmig_pipeline_release(f->pipeline);
    }
    return NULL;
}

bool
qmig_pipe_flow_run(QmigPipeFlow *f, const QmigPipelineOps *ops,
                   bool (*read_all)(QmigPipeFlow *f, GError **error),
                   bool (*write)(QmigPipeFlow *f, QmigPipeBlock *block, GError **error),
                   GError **error)
{
    g_autoptr(GError) read_error = NULL;
    GThread *writing;
    bool ok;

    f->write = write;
    f->pipeline = qmig_pipeline_new(f->threads, ops, f);
    writing = g_thread_new("qmig-pipe-out", run_writing, f);
    ok = read_all(f, &read_error);
    qmig_pipeline_finish(f->pipeline);
    g_thread_join(writing);
    g_clear_pointer(&f->pipeline, qmig_pipeline_free);
    if (f->failed) {
        /* It came first: reading was then ended by it. */
        g_propagate_error(error, g_steal_pointer(&f->error));
        return false;
    }
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&read_error));
    }
    return ok;
}

/* ---- copying -------------------------------------------------------------------------------- */

static bool
copy_piece(QmigPipeFlow *f, const uint8_t *data, size_t len, GError **error)
{
    __atomic_add_fetch(&f->bytes_in, len, __ATOMIC_RELAXED);
    qmig_pipe_watch_push(f->watch, data, len);
    return qmig_pipe_flow_begin(f, error) && qmig_pipe_flow_write(f, data, len, error);
}

bool
qmig_pipe_copy(QmigPipeFlow *f, const uint8_t *head, size_t len, GError **error)
{
    g_autofree uint8_t *buf = g_malloc(COPY);
    ssize_t n = (ssize_t)len;

    memcpy(buf, head, len);
    while (n > 0) {
        if (!copy_piece(f, buf, (size_t)n, error)) {
            return false;
        }
        n = qmig_io_read(f->in, buf, COPY, f->stop, error);
    }
    if (n < 0) {
        g_prefix_error(error, "%s: ", f->in_name);
        return false;
    }
    __atomic_store_n(&f->ended, 1, __ATOMIC_RELAXED);
    qmig_pipe_watch_push(f->watch, NULL, 0);
    return f->end == NULL || f->end(f, error);
}

/* ---- encoding ------------------------------------------------------------------------------- */

static gpointer
new_block(gpointer user)
{
    const QmigPipeFlow *f = user;
    g_autoptr(GError) error = NULL;
    QmigPipeBlock *block = qmig_pipe_block_new(&f->header, f->key, true, &error);

    g_assert_no_error(error); /* the owner has tried the cipher */
    return block;
}

void
qmig_pipe_flow_free_block(gpointer block, gpointer user)
{
    (void)user;
    qmig_pipe_block_free(block);
}

static void
seal(gpointer data, QmigCodecState *state, gpointer user)
{
    const QmigPipeFlow *f = user;
    QmigPipeBlock *block = data;
    int64_t from = qmig_now_us();

    qmig_pipe_block_seal(block, &f->header, state);
    block->work_us = (uint64_t)(qmig_now_us() - from);
}

static const QmigPipelineOps sealing = { "qmig-pipe", new_block,
                                         qmig_pipe_flow_free_block, seal };

static bool
has_more(int fd)
{
    struct pollfd more = { .fd = fd, .events = POLLIN };

    return poll(&more, 1, 0) > 0;
}

/* Wait for bytes, then take those that are there. Return: bytes, 0 at the end, -1 on error. */
static ssize_t
fill(QmigPipeFlow *f, QmigPipeBlock *block, GError **error)
{
    size_t len = 0, limit = f->header.block_limit;
    ssize_t n;

    do {
        n = qmig_io_read(f->in, block->plain + len, limit - len, f->stop, error);
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0 && len < limit && has_more(f->in));
    if (n < 0) {
        g_prefix_error(error, "%s: ", f->in_name);
        return -1;
    }
    __atomic_add_fetch(&f->bytes_in, len, __ATOMIC_RELAXED);
    return (ssize_t)len;
}

static void
submit(QmigPipeFlow *f, QmigPipeBlock *block, QmigPipeKind kind, uint32_t len)
{
    block->head =
        (QmigPipeHead){ .kind = (uint8_t)kind, .codec = f->codec, .length = len };
    block->level = f->level;
    block->number = f->next_number++;
    block->offset = f->offset;
    if (f->automatic && kind == QMIG_PIPE_DATA) {
        block->choice = qmig_adapt_next(&f->adapt);
        block->head.codec = qmig_adapt_choices[block->choice].codec;
        block->level = qmig_adapt_choices[block->choice].level;
    }
    f->offset += len;
    __atomic_add_fetch(&f->blocks, 1, __ATOMIC_RELAXED);
    qmig_pipeline_submit(f->pipeline);
}

static bool
read_plain(QmigPipeFlow *f, GError **error)
{
    QmigPipeBlock *block;
    ssize_t n;

    do {
        block = qmig_pipeline_acquire(f->pipeline, true);
        n = fill(f, block, error);
        if (n < 0) {
            return false;
        }
        qmig_pipe_watch_push(f->watch, block->plain, (size_t)n);
        submit(f, block, n > 0 ? QMIG_PIPE_DATA : QMIG_PIPE_END, (uint32_t)n);
    } while (n > 0);
    __atomic_store_n(&f->ended, 1, __ATOMIC_RELAXED);
    return true;
}

bool
qmig_pipe_encode(QmigPipeFlow *f, GError **error)
{
    uint8_t header[QMIG_PIPE_HEADER_LENGTH];

    if ((f->header.flags & QMIG_PIPE_TWO_WAY) == 0) {
        qmig_pipe_write_header(&f->header, header);
        if (!qmig_pipe_flow_begin(f, error) ||
            !qmig_pipe_flow_write(f, header, sizeof header, error)) {
            return false;
        }
    }
    qmig_adapt_init(&f->adapt, f->threads);
    bool ok = qmig_pipe_flow_run(f, &sealing, read_plain, write_record, error);
    qmig_adapt_clear(&f->adapt);
    return ok;
}
