/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who does what:
 *
 *     caller: room(), add()  ->  ring of chunks  ->  n workers: hash, pack, compress
 *                                     |
 *                                     +---------->  one thread: write(2), in order
 *
 * The caller reads QEMU's bytes right into a chunk, so they are copied by the kernel alone.
 * When writing has failed, the writing thread goes on emptying the ring, and the caller is told
 * at its next room().
 */
#include "save/writer.h"

#include "save/chunk.h"
#include "save/io.h"
#include "util/error.h"

#include <pthread.h>
#include <sys/random.h>

struct QmigSaveWriter {
    int fd; /* borrowed */
    QmigSaveConfig config;
    QmigSaveHeader header;
    const QmigCancel *cancel; /* (nullable) borrowed */
    QmigPipeline *pipeline;
    GThread *thread; /* writes; NULL once joined */

    /* The caller's. */
    QmigSaveSlot *slot; /* being filled, or NULL */
    uint32_t number;    /* of the chunk that is filled */
    QmigSaveRun run;    /* being told of; position 0 = none */
    uint64_t run_end;   /* stream offset behind its last record */
    uint64_t run_page;  /* the page that would continue it */

    /* Shared. */
    uint64_t added, written; /* atomic; bytes */
    pthread_mutex_t lock;    /* GLib's is invisible to the thread sanitizer */
    GError *error;           /* the first one of writing; guarded by lock */

    /* The writing thread's, until it is joined. */
    GArray *offsets; /* uint64_t, file offsets of chunks */
};

static gpointer
new_slot(gpointer user)
{
    return qmig_save_slot_new(((QmigSaveWriter *)user)->header.chunk_size);
}

static void
free_slot(gpointer slot, gpointer user)
{
    (void)user;
    qmig_save_slot_free(slot);
}

static void
seal(gpointer data, QmigCodecState *state, gpointer user)
{
    const QmigSaveWriter *w = user;
    QmigSaveSlot *slot = data;

    qmig_save_chunk_seal(&slot->chunk, w->config.codec, w->config.level, w->header.id,
                         state);
}

static const QmigPipelineOps sealing = { "qmig-save", new_slot, free_slot, seal };

static bool
write_bytes(QmigSaveWriter *w, const void *data, size_t len, GError **error)
{
    if (!qmig_io_write_all(w->fd, data, len, w->cancel, error)) {
        return false;
    }
    __atomic_add_fetch(&w->written, len, __ATOMIC_RELAXED);
    return true;
}

static bool
write_chunk(QmigSaveWriter *w, const QmigSaveChunk *chunk, GError **error)
{
    uint64_t offset = qmig_save_writer_written(w);
    uint8_t head[QMIG_SAVE_HEAD_LENGTH];

    g_array_append_val(w->offsets, offset);
    qmig_save_write_head(&chunk->head, w->header.id, head);
    return write_bytes(w, head, sizeof head, error) &&
           write_bytes(w, chunk->body, chunk->head.stored, error);
}

static void *
run_writing(void *data)
{
    QmigSaveWriter *w = data;
    g_autoptr(GError) error = NULL;
    uint8_t header[QMIG_SAVE_HEADER_LENGTH];
    QmigSaveSlot *slot;
    bool ok;

    qmig_save_write_header(&w->header, header);
    ok = write_bytes(w, header, sizeof header, &error);
    while ((slot = qmig_pipeline_take(w->pipeline)) != NULL) {
        ok = ok && write_chunk(w, &slot->chunk, &error);
        if (!ok && error != NULL) {
            pthread_mutex_lock(&w->lock);
            w->error = g_steal_pointer(&error);
            pthread_mutex_unlock(&w->lock);
        }
        qmig_pipeline_release(w->pipeline);
    }
    if (error != NULL) {
        w->error = g_steal_pointer(&error); /* nobody else looks before the join */
    }
    return NULL;
}

QmigSaveWriter *
qmig_save_writer_new(int fd, const QmigSaveConfig *config, const QmigCancel *cancel)
{
    QmigSaveWriter *w = g_new0(QmigSaveWriter, 1);

    w->fd = fd;
    w->config = *config;
    w->config.threads = config->threads > 0 ? config->threads
                                            : qmig_pipeline_default_threads();
    w->cancel = cancel;
    w->header = (QmigSaveHeader){
        .codec = config->codec,
        .chunk_size = config->chunk_size > 0 ? config->chunk_size : QMIG_SAVE_CHUNK_MAX,
    };
    ssize_t n = getrandom(&w->header.id, sizeof w->header.id, 0);
    g_assert(n == sizeof w->header.id); /* eight bytes always come whole */
    pthread_mutex_init(&w->lock, NULL);
    w->offsets = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    w->pipeline = qmig_pipeline_new(w->config.threads, &sealing, w);
    w->thread = g_thread_new("qmig-save-file", run_writing, w);
    return w;
}

/* Wait until all that was submitted is written, or writing has failed. */
static void
join(QmigSaveWriter *w)
{
    if (w->thread != NULL) {
        qmig_pipeline_finish(w->pipeline);
        g_thread_join(g_steal_pointer(&w->thread));
    }
}

void
qmig_save_writer_free(QmigSaveWriter *w)
{
    if (w == NULL) {
        return;
    }
    join(w);
    qmig_pipeline_free(w->pipeline);
    g_clear_error(&w->error);
    g_array_unref(w->offsets);
    pthread_mutex_destroy(&w->lock);
    g_free(w);
}

/* The error of writing, if there is one. Return: false then. */
static bool
check_writing(QmigSaveWriter *w, GError **error)
{
    GError *copy;

    pthread_mutex_lock(&w->lock);
    copy = w->error != NULL ? g_error_copy(w->error) : NULL;
    pthread_mutex_unlock(&w->lock);
    if (copy != NULL) {
        g_propagate_error(error, copy);
    }
    return copy == NULL;
}

static void
end_run(QmigSaveWriter *w)
{
    if (w->run.position > 0 && w->run.count > 0) {
        g_array_append_val(w->slot->chunk.runs, w->run);
    }
    w->run = (QmigSaveRun){ 0 };
}

static void
submit(QmigSaveWriter *w)
{
    end_run(w);
    qmig_pipeline_submit(w->pipeline);
    w->slot = NULL;
    w->number++;
}

uint8_t *
qmig_save_writer_room(QmigSaveWriter *w, size_t *len, GError **error)
{
    if (w->slot != NULL && w->slot->chunk.head.length == w->header.chunk_size) {
        submit(w);
    }
    if (w->number == QMIG_SAVE_LIMIT_CHUNKS) {
        qmig_set_error(error, QMIG_ERROR_LIMIT,
                       "the stream has more than %u chunks of %u bytes",
                       QMIG_SAVE_LIMIT_CHUNKS, w->header.chunk_size);
        return NULL;
    }
    if (w->slot == NULL) {
        w->slot = qmig_pipeline_acquire(w->pipeline, true);
        w->slot->chunk.head = (QmigSaveHead){
            .number = w->number,
            .offset = (uint64_t)w->number * w->header.chunk_size,
        };
        g_array_set_size(w->slot->chunk.runs, 0);
    }
    if (!check_writing(w, error)) {
        return NULL;
    }
    *len = w->header.chunk_size - w->slot->chunk.head.length;
    return w->slot->chunk.raw + w->slot->chunk.head.length;
}

void
qmig_save_writer_add(QmigSaveWriter *w, size_t len)
{
    w->slot->chunk.head.length += (uint32_t)len;
    __atomic_add_fetch(&w->added, len, __ATOMIC_RELAXED);
}

void
qmig_save_writer_hint_zero(QmigSaveWriter *w, uint64_t offset, uint64_t page,
                           uint32_t page_size)
{
    const QmigSaveHead *head = &w->slot->chunk.head;

    if (offset < head->offset ||
        offset + QMIG_SAVE_ZERO_RECORD > head->offset + head->length) {
        return; /* not wholly in this chunk */
    }
    if (w->run.position > 0 && offset == w->run_end && page == w->run_page) {
        w->run.count++;
    } else {
        end_run(w);
        w->run.position = (uint32_t)(offset - head->offset) + QMIG_SAVE_ZERO_RECORD;
        w->run.step = page_size;
    }
    w->run_end = offset + QMIG_SAVE_ZERO_RECORD;
    w->run_page = page + page_size;
}

/* Index and trailer. */
static bool
write_end(QmigSaveWriter *w, const QmigSaveInfo *info, GError **error)
{
    g_autoptr(GByteArray) index = qmig_save_write_index(info, w->offsets, w->header.id);
    QmigSaveTrailer trailer = { .index_offset = qmig_save_writer_written(w),
                                .index_length = index->len };
    uint8_t bytes[QMIG_SAVE_TRAILER_LENGTH];

    qmig_save_write_trailer(&trailer, w->header.id, bytes);
    return write_bytes(w, index->data, index->len, error) &&
           write_bytes(w, bytes, sizeof bytes, error);
}

bool
qmig_save_writer_finish(QmigSaveWriter *w, QmigSaveInfo *info, GError **error)
{
    if (w->slot != NULL && w->slot->chunk.head.length > 0) {
        submit(w);
    }
    join(w);
    info->length = qmig_save_writer_added(w);
    return check_writing(w, error) && write_end(w, info, error);
}

uint64_t
qmig_save_writer_added(const QmigSaveWriter *w)
{
    return __atomic_load_n(&w->added, __ATOMIC_RELAXED);
}

uint64_t
qmig_save_writer_written(const QmigSaveWriter *w)
{
    return __atomic_load_n(&w->written, __ATOMIC_RELAXED);
}
