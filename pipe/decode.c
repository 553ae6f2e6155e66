/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Decoding, see flow.h. */
#include "pipe/flow-priv.h"
#include "save/io.h"
#include "util/error.h"

#include <inttypes.h>
#include <poll.h>

enum { AFTER_END_MS = 5000 }; /* the input's writer closes it at once, or is a socket */

static gpointer
new_block(gpointer user)
{
    const QmigPipeFlow *f = user;
    g_autoptr(GError) error = NULL;
    QmigPipeBlock *block = qmig_pipe_block_new(&f->header, f->key, false, &error);

    g_assert_no_error(error); /* the owner has tried the cipher */
    return block;
}

static void
unseal(gpointer data, QmigCodecState *state, gpointer user)
{
    const QmigPipeFlow *f = user;
    QmigPipeBlock *block = data;

    if (!qmig_pipe_block_unseal(block, &f->header, state, &block->error)) {
        qmig_pipe_prefix_place(&block->error, f->in_name, block->number, block->position,
                               block->offset);
    }
}

static const QmigPipelineOps unsealing = { "qmig-pipe", new_block,
                                           qmig_pipe_flow_free_block, unseal };

static bool
write_plain(QmigPipeFlow *f, QmigPipeBlock *block, GError **error)
{
    const QmigPipeHead *head = &block->head;

    if (block->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&block->error));
        return false;
    }
    if (head->kind == QMIG_PIPE_END) {
        qmig_pipe_watch_push(f->watch, NULL, 0);
        return f->end == NULL || f->end(f, error);
    }
    qmig_pipe_watch_push(f->watch, block->plain, head->length);
    __atomic_add_fetch(&f->codec_blocks[head->codec], 1, __ATOMIC_RELAXED);
    return qmig_pipe_flow_begin(f, error) &&
           qmig_pipe_flow_write(f, block->plain, head->length, error);
}

/* @len bytes that must be there. */
static bool
read_exactly(QmigPipeFlow *f, uint8_t *to, size_t len, GError **error)
{
    ssize_t n = qmig_io_read_full(f->in, to, len, f->stop, error);

    if (n < 0) {
        g_prefix_error(error, "%s: ", f->in_name);
        return false;
    }
    f->position += (uint64_t)n;
    __atomic_add_fetch(&f->bytes_in, (uint64_t)n, __ATOMIC_RELAXED);
    return (size_t)n == len ||
           qmig_set_error(error, QMIG_ERROR_CLOSED,
                          "%s: cut at byte %" PRIu64 ", in record %" PRIu64
                          " (byte %" PRIu64 " of the stream)",
                          f->in_name, f->position, f->next_number, f->offset);
}

static bool
read_record(QmigPipeFlow *f, QmigPipeBlock *block, GError **error)
{
    uint64_t seed = qmig_pipe_seed(&f->header, f->next_number);
    GError *local = NULL;

    block->number = f->next_number;
    block->offset = f->offset;
    block->position = f->position;
    if (!read_exactly(f, block->record, QMIG_PIPE_HEAD_LENGTH, error)) {
        return false;
    }
    if (!qmig_pipe_read_head(block->record, &f->header, seed, &block->head, &local) ||
        (block->head.kind == QMIG_PIPE_HELLO &&
         !qmig_set_error(&local, QMIG_ERROR_PROTOCOL, "a hello has no place here"))) {
        qmig_pipe_prefix_place(&local, f->in_name, block->number, block->position,
                               block->offset);
        g_propagate_error(error, local);
        return false;
    }
    return read_exactly(f, block->record + QMIG_PIPE_HEAD_LENGTH,
                        block->head.stored + qmig_pipe_mark_length(&f->header), error);
}

/* Two streams one behind the other are no stream, and the second must not be lost in silence. */
static bool
check_nothing_follows(QmigPipeFlow *f, GError **error)
{
    uint8_t byte;
    ssize_t n;

    if (!qmig_wait_fd(f->in, POLLIN, qmig_deadline_in_ms(AFTER_END_MS), f->stop, NULL)) {
        return true;
    }
    n = qmig_io_read(f->in, &byte, sizeof byte, f->stop, NULL);
    return n <= 0 || qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                    "%s: bytes after the end, at byte %" PRIu64,
                                    f->in_name, f->position);
}

static bool
read_coded(QmigPipeFlow *f, GError **error)
{
    QmigPipeKind kind;

    do {
        QmigPipeBlock *block = qmig_pipeline_acquire(f->pipeline, true);

        if (!read_record(f, block, error)) {
            return false;
        }
        kind = (QmigPipeKind)block->head.kind;
        f->next_number++;
        f->offset += block->head.length;
        __atomic_add_fetch(&f->blocks, 1, __ATOMIC_RELAXED);
        qmig_pipeline_submit(f->pipeline);
    } while (kind != QMIG_PIPE_END);
    __atomic_store_n(&f->ended, 1, __ATOMIC_RELAXED);
    return check_nothing_follows(f, error);
}

bool
qmig_pipe_decode(QmigPipeFlow *f, GError **error)
{
    return qmig_pipe_flow_run(f, &unsealing, read_coded, write_plain, error);
}
