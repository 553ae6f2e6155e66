/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A save file, from a file and from a pipe: both give the same bytes, or both refuse. Checksums
 * would keep nearly every input out, so they are made right before a second try.
 */
#include "compress/hash.h"
#include "save/chunk.h"
#include "save/reader.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <fcntl.h>
#include <string.h>

enum { SUM = 8, STORED_AT = 28, PIPE = 1 << 20 };

static void
put_sum(uint8_t *record, size_t len, uint64_t id)
{
    QmigWriter w = qmig_writer(record + len - SUM, SUM);

    g_assert_true(qmig_writer_be64(&w, qmig_hash64(record, len - SUM, id)));
}

static uint32_t
get_be32(const uint8_t *p)
{
    QmigCursor c = qmig_cursor(p, 4);
    uint32_t v = 0;

    return qmig_cursor_be32(&c, &v) ? v : 0;
}

/* The sum over a chunk's head, and in it the hash of what the body unpacks to. */
static void
fix_chunk(uint8_t *p, const QmigSaveHeader *header, uint32_t number, size_t body)
{
    QmigCodecState *state = qmig_codec_state_new();
    QmigSaveChunk chunk;

    qmig_save_chunk_init(&chunk, header->chunk_size);
    put_sum(p, QMIG_SAVE_HEAD_LENGTH, header->id);
    if (qmig_save_read_head(p, header, number, &chunk.head, NULL) &&
        chunk.head.stored <= body) {
        g_autoptr(GError) error = NULL;
        memset(chunk.raw, 0, header->chunk_size);
        memcpy(chunk.body, p + QMIG_SAVE_HEAD_LENGTH, chunk.head.stored);
        if (!qmig_save_chunk_unseal(&chunk, header->id, state, &error)) {
            chunk.head.hash = qmig_hash64(chunk.raw, chunk.head.length, header->id);
            qmig_save_write_head(&chunk.head, header->id, p);
        }
    }
    qmig_save_chunk_clear(&chunk);
    qmig_codec_state_free(state);
}

static void
fix_sums(uint8_t *file, size_t size)
{
    size_t at = QMIG_SAVE_HEADER_LENGTH, end = size - QMIG_SAVE_TRAILER_LENGTH;
    QmigSaveHeader header;

    if (size < QMIG_SAVE_HEADER_LENGTH + QMIG_SAVE_TRAILER_LENGTH) {
        return;
    }
    put_sum(file, QMIG_SAVE_HEADER_LENGTH, 0);
    if (!qmig_save_read_header(file, &header, NULL)) {
        return;
    }
    for (uint32_t i = 0; at + QMIG_SAVE_HEAD_LENGTH <= end; i++) {
        if (qmig_save_is_index(file + at)) {
            uint64_t len = (uint64_t)get_be32(file + at + 4) + 8 + SUM;
            if (len <= end - at) {
                put_sum(file + at, len, header.id);
            }
            break;
        }
        uint32_t stored = get_be32(file + at + STORED_AT);
        fix_chunk(file + at, &header, i, end - at - QMIG_SAVE_HEAD_LENGTH);
        if (stored > end - at - QMIG_SAVE_HEAD_LENGTH) {
            break;
        }
        at += QMIG_SAVE_HEAD_LENGTH + stored;
    }
    put_sum(file + end, QMIG_SAVE_TRAILER_LENGTH, header.id);
}

/* Return: what the file unpacks to, up to an error. */
static GByteArray *
read_from(int fd, GError **error)
{
    static const QmigSaveReaderConfig config = { .threads = 1 };
    g_autoptr(QmigSaveReader) r = qmig_save_reader_new(fd, "input", &config, error);
    GByteArray *out = g_byte_array_new();
    const uint8_t *data;
    size_t len = 1;

    while (r != NULL && len > 0 && qmig_save_reader_next(r, &data, &len, error)) {
        g_byte_array_append(out, data, (guint)len);
        if (out->len > 64 << 20) { /* zero pages in runs: short on disk */
            break;
        }
    }
    return out;
}

static void
check(const uint8_t *data, size_t size)
{
    g_autoptr(GError) file_error = NULL, pipe_error = NULL;
    int fd = open(fuzz_file(data, size), O_RDONLY | O_CLOEXEC), ends[2];

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    g_assert_cmpint(fcntl(ends[1], F_SETPIPE_SZ, PIPE), >=, (int)size);
    g_assert_cmpint(write(ends[1], data, size), ==, (ssize_t)size);
    close(ends[1]);
    g_autoptr(GByteArray) file = read_from(fd, &file_error);
    g_autoptr(GByteArray) pipe = read_from(ends[0], &pipe_error);
    close(fd);
    close(ends[0]);
    if (file_error == NULL) {
        g_assert_no_error(pipe_error);
        g_assert_cmpmem(file->data, file->len, pipe->data, pipe->len);
    } else {
        g_assert_true(file_error->domain == QMIG_ERROR);
        g_assert_nonnull(pipe_error);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *fixed = g_memdup2(data, size);

    check(data, size);
    fix_sums(fixed, size);
    check(fixed, size);
    return 0;
}
