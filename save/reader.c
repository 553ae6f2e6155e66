/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who does what:
 *
 *     a file:  next() submits chunk numbers; workers pread(2), check, decompress
 *     a pipe:  next() reads chunks in order and submits them; workers check, decompress
 *
 * next() first fills the ring, then waits for its oldest slot. That is all the read-ahead there
 * is, and no thread is needed for it.
 */
#include "save/reader.h"

#include "save/chunk.h"
#include "save/io.h"
#include "util/error.h"

#include <inttypes.h>
#include <sys/stat.h>

struct QmigSaveReader {
    int fd;     /* borrowed */
    char *name; /* owned */
    const QmigCancel *cancel;
    bool is_file;
    uint64_t file_length; /* of a file, bytes */

    QmigSaveHeader header;
    bool have_info; /* index and trailer were read and are right */
    QmigSaveInfo info;
    GArray *offsets; /* uint64_t: of chunks; from the index, or as met in a pipe */

    QmigPipeline *pipeline;
    unsigned n_threads;
    uint64_t next_chunk; /* the next to be submitted */
    uint64_t skip;       /* bytes of the next taken chunk that were not asked for */
    uint64_t position;   /* in the stream, of what next() gives */
    bool taken;          /* a slot is held for the user */
    const uint8_t *rest; /* of it: what read() has not given yet */
    size_t rest_len;

    /* Of a pipe. */
    uint64_t file_offset; /* bytes read */
    uint8_t head[QMIG_SAVE_HEADER_LENGTH];
    size_t head_length, head_taken; /* bytes read by somebody else before */
};

/* ---- messages --------------------------------------------------------------------------- */

/* Put the place before what is wrong there. Return: false. */
static bool
prefix_place(const QmigSaveReader *r, GError **error, const char *what,
             uint64_t file_offset)
{
    g_prefix_error(error, "%s: %s at file offset %" PRIu64 ": ", r->name, what,
                   file_offset);
    return false;
}

static bool
prefix_chunk(const QmigSaveReader *r, GError **error, uint64_t number,
             uint64_t file_offset)
{
    g_prefix_error(error,
                   "%s: chunk %" PRIu64 " at file offset %" PRIu64
                   ", stream offset %" PRIu64 ": ",
                   r->name, number, file_offset, number * r->header.chunk_size);
    return false;
}

static bool
ends_early(GError **error, size_t got, size_t wanted)
{
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "the file ends after %zu of its %zu bytes: it was never "
                          "completed, or was cut",
                          got, wanted);
}

/* ---- input ------------------------------------------------------------------------------ */

/* Read exactly @len bytes of the pipe. Errors: PROTOCOL when it ends before. */
static bool
read_pipe(QmigSaveReader *r, void *buf, size_t len, GError **error)
{
    size_t before = MIN(len, r->head_length - r->head_taken);

    memcpy(buf, r->head + r->head_taken, before);
    r->head_taken += before;
    ssize_t n = qmig_io_read_full(r->fd, (char *)buf + before, len - before, r->cancel,
                                  error);
    if (n < 0) {
        return false;
    }
    if (before + (size_t)n < len) {
        return ends_early(error, before + (size_t)n, len);
    }
    r->file_offset += len;
    return true;
}

static bool
read_file(const QmigSaveReader *r, void *buf, size_t len, uint64_t offset, GError **error)
{
    ssize_t n = qmig_io_pread_full(r->fd, buf, len, offset, error);

    if (n < 0) {
        return false;
    }
    return (size_t)n == len || ends_early(error, (size_t)n, len);
}

/* Worker: a chunk of a file is read here, so that reading is parallel too. */
static bool
load_chunk(const QmigSaveReader *r, QmigSaveSlot *slot, GError **error)
{
    QmigSaveChunk *chunk = &slot->chunk;
    uint32_t number = chunk->head.number;
    uint64_t end = number + 1 < r->offsets->len
                       ? g_array_index(r->offsets, uint64_t, number + 1)
                       : r->file_offset;
    uint8_t head[QMIG_SAVE_HEAD_LENGTH];

    if (!read_file(r, head, sizeof head, slot->file_offset, error) ||
        !qmig_save_read_head(head, &r->header, number, &chunk->head, error)) {
        return false;
    }
    uint64_t room = end - slot->file_offset - QMIG_SAVE_HEAD_LENGTH;
    if (chunk->head.stored != room) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%u bytes stored, the index has %" PRIu64,
                              chunk->head.stored, room);
    }
    return read_file(r, chunk->body, chunk->head.stored,
                     slot->file_offset + QMIG_SAVE_HEAD_LENGTH, error);
}

static gpointer
new_slot(gpointer user)
{
    return qmig_save_slot_new(((QmigSaveReader *)user)->header.chunk_size);
}

static void
free_slot(gpointer slot, gpointer user)
{
    (void)user;
    qmig_save_slot_free(slot);
}

/* Worker. The length of all chunks but the last is the chunk size. */
static void
unseal(gpointer data, QmigCodecState *state, gpointer user)
{
    const QmigSaveReader *r = user;
    QmigSaveSlot *slot = data;
    uint64_t number = slot->chunk.head.number;

    if ((r->is_file && !load_chunk(r, slot, &slot->error)) ||
        !qmig_save_chunk_unseal(&slot->chunk, r->header.id, state, &slot->error)) {
        prefix_chunk(r, &slot->error, number, slot->file_offset);
    }
}

static const QmigPipelineOps unsealing = { "qmig-save", new_slot, free_slot, unseal };

/* ---- the end of the file ---------------------------------------------------------------- */

/* Length of the chunk in the stream, as the whole length demands it. */
static uint64_t
chunk_length(const QmigSaveReader *r, uint64_t number)
{
    return MIN(r->header.chunk_size, r->info.length - number * r->header.chunk_size);
}

static bool
check_trailer(const QmigSaveTrailer *trailer, uint64_t offset, size_t length,
              GError **error)
{
    return (trailer->index_offset == offset && trailer->index_length == length) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "it points at an index of %u bytes at %" PRIu64
                          ", which has %zu bytes and is at %" PRIu64,
                          trailer->index_length, trailer->index_offset, length, offset);
}

static bool
same_offsets(const GArray *a, const GArray *b)
{
    return a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, a->len * sizeof(uint64_t)) == 0);
}

/* From a pipe: the mark of the index was read; the rest of it, the trailer, and nothing more. */
static bool
read_end_of_pipe(QmigSaveReader *r, const uint8_t *mark, GError **error)
{
    uint64_t offset = r->file_offset - QMIG_SAVE_MARK_LENGTH;
    g_autoptr(GArray) offsets = NULL;
    uint8_t start[8], trailer_bytes[QMIG_SAVE_TRAILER_LENGTH], more;
    QmigSaveTrailer trailer;

    memcpy(start, mark, QMIG_SAVE_MARK_LENGTH);
    if (!read_pipe(r, start + QMIG_SAVE_MARK_LENGTH, 4, error)) {
        return prefix_place(r, error, "index", offset);
    }
    uint32_t length = qmig_save_index_length(start, r->offsets->len);
    if (length == 0) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "its length does not fit its %u chunks", r->offsets->len);
        return prefix_place(r, error, "index", offset);
    }
    g_autofree uint8_t *index = g_malloc(length);
    memcpy(index, start, sizeof start);
    if (!read_pipe(r, index + sizeof start, length - sizeof start, error) ||
        !qmig_save_read_index(index, length, &r->header, offset, &r->info, &offsets,
                              error)) {
        return prefix_place(r, error, "index", offset);
    }
    r->have_info = true;
    uint64_t at = r->file_offset;
    if (!read_pipe(r, trailer_bytes, sizeof trailer_bytes, error) ||
        !qmig_save_read_trailer(trailer_bytes, &r->header, &trailer, error) ||
        !check_trailer(&trailer, offset, length, error)) {
        return prefix_place(r, error, "trailer", at);
    }
    if (!same_offsets(offsets, r->offsets)) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "its offsets are not those of the chunks that came");
        return prefix_place(r, error, "index", offset);
    }
    ssize_t n = qmig_io_read(r->fd, &more, 1, r->cancel, error);
    if (n > 0) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL, "bytes follow the trailer");
    }
    return n == 0 || prefix_place(r, error, "end", r->file_offset);
}

/* From a file: the trailer tells where the index is. */
static bool
read_end_of_file(QmigSaveReader *r, GError **error)
{
    uint8_t bytes[QMIG_SAVE_TRAILER_LENGTH], start[8];
    QmigSaveTrailer t;
    uint64_t least = QMIG_SAVE_HEADER_LENGTH + QMIG_SAVE_TRAILER_LENGTH + sizeof start;

    if (r->file_length < least) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "%" PRIu64 " bytes, wanted at least %" PRIu64
                       ": it was never completed, or was cut",
                       r->file_length, least);
        return prefix_place(r, error, "file", 0);
    }
    uint64_t at = r->file_length - sizeof bytes;
    if (!read_file(r, bytes, sizeof bytes, at, error) ||
        !qmig_save_read_trailer(bytes, &r->header, &t, error)) {
        g_prefix_error(error, "it was never completed, or was cut or damaged: ");
        return prefix_place(r, error, "trailer", at);
    }
    if (t.index_length < sizeof start || t.index_length > at - QMIG_SAVE_HEADER_LENGTH ||
        t.index_offset != at - t.index_length) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "it points at an index of %u bytes at %" PRIu64
                       ", which does not end where it begins",
                       t.index_length, t.index_offset);
        return prefix_place(r, error, "trailer", at);
    }
    g_autofree uint8_t *index = NULL;
    if (!read_file(r, start, sizeof start, t.index_offset, error)) {
        return prefix_place(r, error, "index", t.index_offset);
    }
    /* Each chunk takes a head at least, which bounds how many a file can have. */
    if (qmig_save_index_length(start, t.index_offset / QMIG_SAVE_HEAD_LENGTH) !=
        t.index_length) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "its length is not that of the trailer");
        return prefix_place(r, error, "index", t.index_offset);
    }
    index = g_malloc(t.index_length);
    g_clear_pointer(&r->offsets, g_array_unref);
    if (!read_file(r, index, t.index_length, t.index_offset, error) ||
        !qmig_save_read_index(index, t.index_length, &r->header, t.index_offset, &r->info,
                              &r->offsets, error)) {
        return prefix_place(r, error, "index", t.index_offset);
    }
    r->have_info = true;
    r->file_offset = t.index_offset;
    return true;
}

/* ---- chunks ----------------------------------------------------------------------------- */

/* Read the next chunk of a pipe into @slot. *@end: it was the index instead. */
static bool
read_pipe_chunk(QmigSaveReader *r, QmigSaveSlot *slot, bool *end, GError **error)
{
    uint64_t number = r->next_chunk;
    uint8_t head[QMIG_SAVE_HEAD_LENGTH];

    slot->file_offset = r->file_offset;
    if (!read_pipe(r, head, QMIG_SAVE_MARK_LENGTH, error)) {
        return prefix_chunk(r, error, number, slot->file_offset);
    }
    *end = qmig_save_is_index(head);
    if (*end) {
        return read_end_of_pipe(r, head, error);
    }
    if (number == QMIG_SAVE_LIMIT_CHUNKS) {
        qmig_set_error(error, QMIG_ERROR_LIMIT, "more than %u chunks",
                       QMIG_SAVE_LIMIT_CHUNKS);
        return prefix_chunk(r, error, number, slot->file_offset);
    }
    if (!read_pipe(r, head + QMIG_SAVE_MARK_LENGTH, sizeof head - QMIG_SAVE_MARK_LENGTH,
                   error) ||
        !qmig_save_read_head(head, &r->header, (uint32_t)number, &slot->chunk.head,
                             error) ||
        !read_pipe(r, slot->chunk.body, slot->chunk.head.stored, error)) {
        return prefix_chunk(r, error, number, slot->file_offset);
    }
    g_array_append_val(r->offsets, slot->file_offset);
    return true;
}

/* Give the workers all that fits into the ring. */
static bool
fill_ring(QmigSaveReader *r, GError **error)
{
    QmigSaveSlot *slot;

    while (!(r->have_info && r->next_chunk == r->offsets->len) &&
           (slot = qmig_pipeline_acquire(r->pipeline, false)) != NULL) {
        if (r->is_file) {
            slot->chunk.head.number = (uint32_t)r->next_chunk;
            slot->file_offset = g_array_index(r->offsets, uint64_t, r->next_chunk);
        } else {
            bool end = false;
            if (!read_pipe_chunk(r, slot, &end, error)) {
                return false;
            }
            if (end) {
                return true;
            }
        }
        qmig_pipeline_submit(r->pipeline);
        r->next_chunk++;
    }
    return true;
}

static void
release(QmigSaveReader *r)
{
    if (r->taken) {
        qmig_pipeline_release(r->pipeline);
        r->taken = false;
    }
}

/* Take the oldest chunk out of the ring, which is not empty. */
static bool
take_chunk(QmigSaveReader *r, const uint8_t **data, size_t *len, GError **error)
{
    QmigSaveSlot *slot = qmig_pipeline_take(r->pipeline);
    const QmigSaveHead *head = &slot->chunk.head;

    r->taken = true;
    if (slot->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&slot->error));
        return false;
    }
    /* In a pipe, a chunk that another followed cannot be the last, and so must be whole. */
    uint64_t wanted = r->have_info ? chunk_length(r, head->number) : r->header.chunk_size;
    if (head->length != wanted) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "%u bytes of the stream, wanted %" PRIu64, head->length, wanted);
        return prefix_chunk(r, error, head->number, slot->file_offset);
    }
    *data = slot->chunk.raw + r->skip;
    *len = head->length - r->skip;
    r->skip = 0;
    return true;
}

bool
qmig_save_reader_next(QmigSaveReader *r, const uint8_t **data, size_t *len,
                      GError **error)
{
    if (r->rest_len > 0) {
        *data = r->rest;
        *len = r->rest_len;
        r->rest_len = 0;
        r->position += *len;
        return true;
    }
    release(r);
    if (!fill_ring(r, error)) {
        return false;
    }
    if (qmig_pipeline_pending(r->pipeline) == 0) {
        *len = 0;
        return true;
    }
    if (!take_chunk(r, data, len, error)) {
        return false;
    }
    r->position += *len;
    return true;
}

ssize_t
qmig_save_reader_read(QmigSaveReader *r, void *buf, size_t len, GError **error)
{
    const uint8_t *data = NULL;
    size_t n;

    if (!qmig_save_reader_next(r, &data, &n, error)) {
        return -1;
    }
    if (n == 0) {
        return 0;
    }
    size_t given = MIN(n, len);
    memcpy(buf, data, given);
    r->rest = data + given;
    r->rest_len = n - given;
    r->position -= r->rest_len;
    return (ssize_t)given;
}

/* Read on in a pipe until @offset. */
static bool
skip_forward(QmigSaveReader *r, uint64_t offset, GError **error)
{
    while (r->position < offset) {
        const uint8_t *data = NULL;
        size_t n;

        if (!qmig_save_reader_next(r, &data, &n, error)) {
            return false;
        }
        if (n == 0) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "%s: offset %" PRIu64
                                  " is beyond the stream's end at %" PRIu64,
                                  r->name, offset, r->position);
        }
        uint64_t beyond = r->position > offset ? r->position - offset : 0;
        r->rest = data + (n - beyond);
        r->rest_len = beyond;
        r->position -= beyond;
    }
    return true;
}

bool
qmig_save_reader_seek(QmigSaveReader *r, uint64_t offset, GError **error)
{
    if (!r->is_file) {
        return r->position <= offset
                   ? skip_forward(r, offset, error)
                   : qmig_set_error(error, QMIG_ERROR_CONFIG,
                                    "%s: it is no file: cannot go back from %" PRIu64
                                    " to %" PRIu64,
                                    r->name, r->position, offset);
    }
    if (offset > r->info.length) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: offset %" PRIu64
                              " is beyond the stream's end at %" PRIu64,
                              r->name, offset, r->info.length);
    }
    release(r);
    while (qmig_pipeline_pending(r->pipeline) > 0) {
        QmigSaveSlot *slot = qmig_pipeline_take(r->pipeline);
        g_clear_error(&slot->error);
        qmig_pipeline_release(r->pipeline);
    }
    r->rest_len = 0;
    r->next_chunk = offset / r->header.chunk_size;
    r->skip = offset % r->header.chunk_size;
    r->position = offset;
    return true;
}

/* ---- open and close --------------------------------------------------------------------- */

static bool
read_header(QmigSaveReader *r, GError **error)
{
    uint8_t bytes[QMIG_SAVE_HEADER_LENGTH];
    bool ok = r->is_file ? read_file(r, bytes, sizeof bytes, 0, error)
                         : read_pipe(r, bytes, sizeof bytes, error);

    return (ok && qmig_save_read_header(bytes, &r->header, error)) ||
           prefix_place(r, error, "header", 0);
}

QmigSaveReader *
qmig_save_reader_new(int fd, const char *name, const QmigSaveReaderConfig *config,
                     GError **error)
{
    static const QmigSaveReaderConfig defaults = { 0 };
    g_autoptr(QmigSaveReader) r = g_new0(QmigSaveReader, 1);
    struct stat info;

    config = config != NULL ? config : &defaults;
    r->fd = fd;
    r->name = g_strdup(name);
    r->cancel = config->cancel;
    r->n_threads = config->threads > 0 ? config->threads
                                       : qmig_pipeline_default_threads();
    r->offsets = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    r->is_file = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    r->file_length = r->is_file ? (uint64_t)info.st_size : 0;
    g_assert(config->head_length <= sizeof r->head);
    if (config->head_length > 0) {
        memcpy(r->head, config->head, config->head_length);
        r->head_length = config->head_length;
    }
    if (!read_header(r, error) || (r->is_file && !read_end_of_file(r, error))) {
        return NULL;
    }
    r->pipeline = qmig_pipeline_new(r->n_threads, &unsealing, r);
    return g_steal_pointer(&r);
}

void
qmig_save_reader_free(QmigSaveReader *r)
{
    if (r == NULL) {
        return;
    }
    qmig_pipeline_free(r->pipeline);
    qmig_save_info_clear(&r->info);
    if (r->offsets != NULL) {
        g_array_unref(r->offsets);
    }
    g_free(r->name);
    g_free(r);
}

void
qmig_save_reader_set_cancel(QmigSaveReader *r, const QmigCancel *cancel)
{
    r->cancel = cancel;
}

const QmigSaveInfo *
qmig_save_reader_info(const QmigSaveReader *r)
{
    return r->have_info ? &r->info : NULL;
}

const QmigSaveHeader *
qmig_save_reader_header(const QmigSaveReader *r)
{
    return &r->header;
}
