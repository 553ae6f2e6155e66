/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The save file: what goes in comes out, and no damage passes. */
#include "compress/hash.h"
#include "save/io.h"
#include "save/reader.h"
#include "save/writer.h"
#include "tests/lib/sample-stream.h"
#include "util/auto.h"
#include "util/error.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

enum { ZERO_RECORDS = 200, PAGE = 4096 };

/* ---- helpers ---------------------------------------------------------------------------- */

/* Put a stream into a writer, in pieces of @piece bytes. */
static bool
feed(QmigSaveWriter *w, const GByteArray *stream, size_t piece, GError **error)
{
    for (size_t done = 0; done < stream->len;) {
        size_t room;
        uint8_t *to = qmig_save_writer_room(w, &room, error);

        if (to == NULL) {
            return false;
        }
        size_t n = MIN(MIN(room, piece), stream->len - done);
        memcpy(to, stream->data + done, n);
        qmig_save_writer_add(w, n);
        done += n;
    }
    return true;
}

static int
new_file(void)
{
    int fd = memfd_create("qmig-test", MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static GByteArray *
file_bytes(int fd)
{
    off_t length = lseek(fd, 0, SEEK_END);
    GByteArray *bytes = g_byte_array_new();

    g_byte_array_set_size(bytes, (guint)length);
    g_assert_cmpint(pread(fd, bytes->data, bytes->len, 0), ==, length);
    return bytes;
}

static void
fill_info(QmigSaveInfo *info)
{
    QmigSaveBlock block = { g_strdup("pc.ram"), 1 << 20 };

    qmig_save_info_init(info);
    g_array_append_val(info->blocks, block);
    g_free(info->machine);
    info->machine = g_strdup("pc-test-1.0");
    info->zero = 7;
    info->qemu = 70222;
    info->flags = QMIG_SAVE_RAN;
}

/* A complete save file of @stream. */
static GByteArray *
save(const GByteArray *stream, const QmigSaveConfig *config, size_t piece)
{
    g_auto(QmigFd) fd = new_file();
    g_autoptr(GError) error = NULL;
    g_auto(QmigSaveInfo) info = { 0 };
    g_autoptr(QmigSaveWriter) w = qmig_save_writer_new(fd, config, NULL);

    fill_info(&info);
    g_assert_true(feed(w, stream, piece, &error));
    g_assert_true(qmig_save_writer_finish(w, &info, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(info.length, ==, stream->len);
    return file_bytes(fd);
}

/* Everything a reader gives until its end or error. */
static GByteArray *
drain(QmigSaveReader *r, GError **error)
{
    GByteArray *out = g_byte_array_new();
    uint8_t buffer[100];
    ssize_t n;

    while ((n = qmig_save_reader_read(r, buffer, sizeof buffer, error)) > 0) {
        g_byte_array_append(out, buffer, (guint)n);
    }
    return out;
}

/* A save file's bytes as a file, or as a pipe when they fit into one. */
static int
open_bytes(const GByteArray *bytes, bool as_pipe)
{
    int fds[2];

    if (!as_pipe) {
        int fd = new_file();
        g_assert_true(qmig_io_write_all(fd, bytes->data, bytes->len, NULL, NULL));
        return fd;
    }
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    g_assert_cmpint(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20), >=, (int)bytes->len);
    g_assert_true(qmig_io_write_all(fds[1], bytes->data, bytes->len, NULL, NULL));
    close(fds[1]);
    return fds[0];
}

/* Read a save file. Return: what it gave, with @error set when it is refused. */
static GByteArray *
restore(const GByteArray *bytes, bool as_pipe, unsigned threads, GError **error)
{
    g_auto(QmigFd) fd = open_bytes(bytes, as_pipe);
    QmigSaveReaderConfig config = { .threads = threads };
    g_autoptr(QmigSaveReader) r = qmig_save_reader_new(fd, "x.qmig", &config, error);

    return r != NULL ? drain(r, error) : g_byte_array_new();
}

static void
assert_restores(const GByteArray *bytes, const GByteArray *stream, bool as_pipe,
                unsigned threads)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) back = restore(bytes, as_pipe, threads, &error);

    g_assert_no_error(error);
    g_assert_cmpmem(back->data, back->len, stream->data, stream->len);
}

/* Refused, with a place; and what was given before is a true beginning, but not all. */
static void
assert_refused(const GByteArray *bytes, const GByteArray *stream, bool as_pipe)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) back = restore(bytes, as_pipe, 1, &error);

    g_assert_nonnull(error);
    g_assert_true(g_str_has_prefix(error->message, "x.qmig: "));
    g_assert_nonnull(strstr(error->message, "file offset "));
    g_assert_cmpuint(back->len, <, stream->len);
    g_assert_cmpmem(back->data, back->len, stream->data, back->len);
}

/* The same, but that a bit of a codec's own that changes nothing is no damage. */
static void
assert_refused_or_right(const GByteArray *bytes, const GByteArray *stream, bool as_pipe)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) back = restore(bytes, as_pipe, 1, &error);

    if (error != NULL) {
        assert_refused(bytes, stream, as_pipe);
    } else {
        g_assert_cmpmem(back->data, back->len, stream->data, stream->len);
    }
}

/* ---- round trips ------------------------------------------------------------------------ */

static void
test_every_length(void)
{
    static const guint lengths[] = { 0, 1, 63, 64, 65, 128, 1000, 5001 };

    for (unsigned codec = 0; codec < QMIG_SAVE_N_CODECS; codec++) {
        for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
            g_autoptr(GByteArray) stream = g_byte_array_new();
            put_pattern(stream, lengths[i], codec);
            QmigSaveConfig config = { .codec = codec,
                                      .threads = 1 + i % 3,
                                      .chunk_size = i % 2 == 0 ? 64 : 300 };
            g_autoptr(GByteArray) bytes = save(stream, &config, 37);
            assert_restores(bytes, stream, false, 1 + i % 2);
            assert_restores(bytes, stream, true, 2);
        }
    }
}

static void
test_large(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new(), bytes = NULL, back = NULL;
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_ZSTD, .threads = 3 };

    put_pattern(stream, 9 * QMIG_SAVE_CHUNK_MAX + 12345, 3);
    bytes = save(stream, &config, 1 << 20);
    g_assert_cmpuint(bytes->len, <, stream->len / 10);
    assert_restores(bytes, stream, false, 2);
}

static void
test_info_comes_back(void)
{
    g_autoptr(GByteArray) stream = sample_precopy(), bytes = NULL;
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_LZ4, .chunk_size = 512 };
    g_autoptr(GError) error = NULL;

    bytes = save(stream, &config, 1000);
    g_auto(QmigFd) fd = open_bytes(bytes, false);
    g_autoptr(QmigSaveReader) r = qmig_save_reader_new(fd, "x.qmig", NULL, &error);
    g_assert_no_error(error);
    const QmigSaveInfo *info = qmig_save_reader_info(r);
    g_assert_cmpuint(info->length, ==, stream->len);
    g_assert_cmpuint(info->zero, ==, 7);
    g_assert_cmpuint(info->qemu, ==, 70222);
    g_assert_cmpuint(info->flags, ==, QMIG_SAVE_RAN);
    g_assert_cmpstr(info->machine, ==, "pc-test-1.0");
    g_assert_cmpuint(info->blocks->len, ==, 1);
    const QmigSaveBlock *block = &g_array_index(info->blocks, QmigSaveBlock, 0);
    g_assert_cmpstr(block->name, ==, "pc.ram");
    g_assert_cmpuint(block->length, ==, 1 << 20);
    g_assert_cmpuint(qmig_save_reader_header(r)->codec, ==, QMIG_SAVE_CODEC_LZ4);
    g_assert_cmpuint(qmig_save_reader_header(r)->chunk_size, ==, 512);
}

/* A pipe that is written while it is read, and longer than it holds. */
static void *
run_feeder(void *data)
{
    int *fds = data;
    g_autoptr(GByteArray) stream = g_byte_array_new();
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_NONE, .threads = 2 };
    g_autoptr(QmigSaveWriter) w = qmig_save_writer_new(fds[1], &config, NULL);
    g_auto(QmigSaveInfo) info = { 0 };

    qmig_save_info_init(&info);
    put_pattern(stream, 20 << 20, 5);
    g_assert_true(feed(w, stream, 70000, NULL));
    g_assert_true(qmig_save_writer_finish(w, &info, NULL));
    close(fds[1]);
    return NULL;
}

static void
test_live_pipe(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    int fds[2];

    put_pattern(stream, 20 << 20, 5);
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    GThread *thread = g_thread_new("feeder", run_feeder, fds);
    g_auto(QmigFd) fd = fds[0];
    g_autoptr(QmigSaveReader) r = qmig_save_reader_new(fd, "pipe", NULL, &error);
    g_assert_no_error(error);
    g_assert_null(qmig_save_reader_info(r));
    g_autoptr(GByteArray) back = drain(r, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(back->data, back->len, stream->data, stream->len);
    g_assert_cmpuint(qmig_save_reader_info(r)->length, ==, stream->len);
    g_thread_join(thread);
}

/* Somebody has looked at the first bytes of a pipe. */
static void
test_taken_head(void)
{
    g_autoptr(GByteArray) stream = sample_precopy(), bytes = NULL;
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_LZ4, .chunk_size = 512 };
    g_autoptr(GError) error = NULL;
    char head[QMIG_SAVE_MAGIC_LENGTH];

    bytes = save(stream, &config, 1000);
    g_auto(QmigFd) fd = open_bytes(bytes, true);
    g_assert_cmpint(read(fd, head, sizeof head), ==, sizeof head);
    g_assert_true(qmig_save_is_magic(head, sizeof head));
    QmigSaveReaderConfig reading = { .head = head, .head_length = sizeof head };
    g_autoptr(QmigSaveReader) r = qmig_save_reader_new(fd, "pipe", &reading, &error);
    g_assert_no_error(error);
    g_autoptr(GByteArray) back = drain(r, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(back->data, back->len, stream->data, stream->len);
}

/* ---- zero pages ------------------------------------------------------------------------- */

/* A row of zero records, with one that jumps and one of another fill in it. */
static GByteArray *
zero_rows(void)
{
    GByteArray *stream = g_byte_array_new();

    put_pattern(stream, 50, 1);
    for (unsigned i = 0; i < ZERO_RECORDS; i++) {
        put_be64(stream, (i < 100 ? i : i + 3) * (uint64_t)PAGE | 0x22);
        put_u8(stream, 0);
    }
    put_pattern(stream, 50, 2);
    return stream;
}

/* Save with hints; @lie shifts the pages that are told of. */
static GByteArray *
save_zero_rows(const GByteArray *stream, uint32_t chunk_size, unsigned lie)
{
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_NONE, .chunk_size = chunk_size };
    g_auto(QmigFd) fd = new_file();
    g_autoptr(QmigSaveWriter) w = qmig_save_writer_new(fd, &config, NULL);
    g_auto(QmigSaveInfo) info = { 0 };
    unsigned told = 0;

    qmig_save_info_init(&info);
    for (size_t done = 0; done < stream->len;) {
        size_t room;
        uint8_t *to = qmig_save_writer_room(w, &room, NULL);
        size_t n = MIN(room, stream->len - done);

        memcpy(to, stream->data + done, n);
        qmig_save_writer_add(w, n);
        done += n;
        while (told < ZERO_RECORDS && 50 + 9 * (told + 1) <= done) {
            uint64_t page = (told < 100 ? told : told + 3) * (uint64_t)PAGE;
            qmig_save_writer_hint_zero(w, 50 + 9 * told + lie, page, PAGE + lie);
            told++;
        }
    }
    g_assert_true(qmig_save_writer_finish(w, &info, NULL));
    return file_bytes(fd);
}

static void
test_zero_pages_cost_nothing(void)
{
    g_autoptr(GByteArray) stream = zero_rows();

    for (uint32_t chunk_size = 64; chunk_size <= 4096; chunk_size += 53) {
        g_autoptr(GByteArray) bytes = save_zero_rows(stream, chunk_size, 0);
        assert_restores(bytes, stream, false, 1);
    }
    g_autoptr(GByteArray) bytes = save_zero_rows(stream, 4096, 0);
    /* 100 bytes of pattern, two records, two runs; and head, header, index, trailer. */
    g_assert_cmpuint(bytes->len, <, 100 + 2 * 9 + 2 * 12 + 52 + 40 + 110 + 28);
}

static void
test_wrong_hints_do_no_harm(void)
{
    g_autoptr(GByteArray) stream = zero_rows();

    for (unsigned lie = 1; lie < 12; lie++) {
        g_autoptr(GByteArray) bytes = save_zero_rows(stream, 4096, lie);
        assert_restores(bytes, stream, false, 1);
    }
}

/* ---- going to an offset ----------------------------------------------------------------- */

static void
test_every_offset(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new(), bytes = NULL;
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_LZ4, .chunk_size = 100 };
    g_autoptr(GError) error = NULL;

    put_pattern(stream, 1050, 9);
    bytes = save(stream, &config, 1000);
    g_auto(QmigFd) file = open_bytes(bytes, false);
    g_autoptr(QmigSaveReader) r = qmig_save_reader_new(file, "x", NULL, &error);
    for (guint offset = 0; offset <= stream->len; offset++) {
        g_assert_true(qmig_save_reader_seek(r, offset, &error));
        g_autoptr(GByteArray) rest = drain(r, &error);
        g_assert_no_error(error);
        g_assert_cmpmem(rest->data, rest->len, stream->data + offset,
                        stream->len - offset);
        g_auto(QmigFd) pipe_fd = open_bytes(bytes, true);
        g_autoptr(QmigSaveReader) p = qmig_save_reader_new(pipe_fd, "x", NULL, &error);
        g_assert_true(qmig_save_reader_seek(p, offset, &error));
        g_autoptr(GByteArray) same = drain(p, &error);
        g_assert_no_error(error);
        g_assert_cmpmem(same->data, same->len, rest->data, rest->len);
    }
    g_assert_false(qmig_save_reader_seek(r, stream->len + 1, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
}

/* ---- damage ----------------------------------------------------------------------------- */

/* A small file with all there is: several chunks, with and without runs, compressed or not. */
static GByteArray *
small_file(GByteArray **stream)
{
    *stream = zero_rows();
    return save_zero_rows(*stream, 512, 0);
}

static void
test_every_truncation(void)
{
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(GByteArray) bytes = small_file(&stream);
    guint whole = bytes->len;

    for (guint length = 0; length < whole; length++) {
        bytes->len = length;
        assert_refused(bytes, stream, false);
        assert_refused(bytes, stream, true);
    }
    bytes->len = whole;
    assert_restores(bytes, stream, true, 1);
}

static void
test_every_corruption(void)
{
    static const uint8_t flips[] = { 0x01, 0x80, 0xff };
    g_autoptr(GByteArray) zeroes = NULL;
    g_autoptr(GByteArray) stream = sample_precopy();
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_ZSTD, .chunk_size = 1 << 14 };
    GByteArray *files[2] = { small_file(&zeroes), save(stream, &config, 999) };
    const GByteArray *streams[2] = { zeroes, stream };

    for (int k = 0; k < 2; k++) {
        for (guint i = 0; i < files[k]->len * G_N_ELEMENTS(flips); i++) {
            uint8_t *byte = &files[k]->data[i / G_N_ELEMENTS(flips)];
            *byte ^= flips[i % G_N_ELEMENTS(flips)];
            if (k == 0) {
                assert_refused(files[k], streams[k], i % 2 == 0);
            } else {
                assert_refused_or_right(files[k], streams[k], i % 2 == 0);
            }
            *byte ^= flips[i % G_N_ELEMENTS(flips)];
        }
        g_byte_array_unref(files[k]);
    }
}

/* Who damages with right checksums is stopped by the checks behind them, or by the next one. */
static void
test_forged_records(void)
{
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(GByteArray) bytes = small_file(&stream);
    GByteArray *copy = g_byte_array_new();
    guint trailer = bytes->len - QMIG_SAVE_TRAILER_LENGTH;
    guint index = bytes->data[trailer + 14] * 256u + bytes->data[trailer + 15];
    guint starts[] = { QMIG_SAVE_HEADER_LENGTH, index, trailer };
    guint lengths[] = { QMIG_SAVE_HEAD_LENGTH, trailer - index,
                        QMIG_SAVE_TRAILER_LENGTH };
    uint64_t id;

    memcpy(&id, bytes->data + 24, sizeof id);
    id = GUINT64_FROM_BE(id);
    for (size_t k = 0; k < G_N_ELEMENTS(starts); k++) {
        for (guint i = 0; i < (lengths[k] - 8) * 9; i++) {
            g_autoptr(GError) error = NULL;
            g_byte_array_set_size(copy, 0);
            g_byte_array_append(copy, bytes->data, bytes->len);
            copy->data[starts[k] + i / 9] ^= i % 9 < 8 ? (uint8_t)(1 << i % 9) : 0xff;
            uint64_t sum = GUINT64_TO_BE(
                qmig_hash64(copy->data + starts[k], lengths[k] - 8, id));
            memcpy(copy->data + starts[k] + lengths[k] - 8, &sum, sizeof sum);
            g_autoptr(GByteArray) back = restore(copy, i % 2 == 0, 1, &error);
            g_assert_cmpuint(back->len, <=, stream->len);
            g_assert_cmpmem(back->data, back->len, stream->data, back->len);
            g_assert_true(error != NULL || back->len == stream->len);
        }
    }
    g_byte_array_unref(copy);
}

static void
test_bytes_behind(void)
{
    g_autoptr(GByteArray) stream = NULL;
    g_autoptr(GByteArray) bytes = small_file(&stream);

    put_u8(bytes, 0);
    assert_refused(bytes, stream, false);
    assert_refused(bytes, stream, true);
}

/* The same bytes saved twice: a chunk of one is no chunk of the other. */
static void
test_chunk_of_another_file(void)
{
    g_autoptr(GByteArray) stream = NULL, again = NULL;
    g_autoptr(GByteArray) bytes = small_file(&stream);
    g_autoptr(GByteArray) other = small_file(&again);

    memcpy(bytes->data + QMIG_SAVE_HEADER_LENGTH, other->data + QMIG_SAVE_HEADER_LENGTH,
           QMIG_SAVE_HEAD_LENGTH + 100);
    assert_refused(bytes, stream, false);
    assert_refused(bytes, stream, true);
}

static void
test_unfinished_is_refused(void)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_LZ4, .chunk_size = 512 };
    g_auto(QmigFd) fd = new_file();
    QmigSaveWriter *w = qmig_save_writer_new(fd, &config, NULL);

    g_assert_true(feed(w, stream, 512, NULL));
    qmig_save_writer_free(w);
    g_autoptr(GByteArray) bytes = file_bytes(fd);
    assert_refused(bytes, stream, false);
    assert_refused(bytes, stream, true);
}

static void
test_place_is_told(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new(), bytes = NULL, back = NULL;
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_NONE, .chunk_size = 1000 };
    g_autoptr(GError) error = NULL;

    put_pattern(stream, 3500, 9);
    bytes = save(stream, &config, 1000);
    bytes->data[40 + 2 * 1052 + 52 + 17] ^= 1;
    back = restore(bytes, false, 1, &error);
    g_assert_cmpuint(back->len, ==, 2000);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_assert_true(g_str_has_prefix(
        error->message,
        "x.qmig: chunk 2 at file offset 2144, stream offset 2000: checksum "));
}

static void
test_full_disk(void)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_LZ4, .chunk_size = 512 };
    g_auto(QmigFd) fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    g_auto(QmigSaveInfo) info = { 0 };
    g_autoptr(QmigSaveWriter) w = qmig_save_writer_new(fd, &config, NULL);

    qmig_save_info_init(&info);
    g_assert_false(feed(w, stream, 512, &error) &&
                   qmig_save_writer_finish(w, &info, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_IO);
    g_assert_nonnull(strstr(error->message, "No space left"));
}

/* Nobody reads the pipe: a cancel ends room(). */
static void *
run_canceller(void *cancel)
{
    g_usleep(50000);
    qmig_cancel_raise(cancel);
    return NULL;
}

static void
test_cancel(void)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    QmigSaveConfig config = { .codec = QMIG_SAVE_CODEC_NONE, .threads = 1 };
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    g_autoptr(GError) error = NULL;
    int fds[2];

    put_pattern(stream, 20 << 20, 5);
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    g_assert_true(qmig_io_set_nonblocking(fds[1], true));
    QmigSaveWriter *w = qmig_save_writer_new(fds[1], &config, cancel);
    GThread *thread = g_thread_new("canceller", run_canceller, cancel);
    g_assert_false(feed(w, stream, 1 << 20, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
    qmig_save_writer_free(w);
    g_thread_join(thread);
    close(fds[0]);
    close(fds[1]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/save/every-length-comes-back", test_every_length);
    g_test_add_func("/save/many-chunks-come-back-in-order", test_large);
    g_test_add_func("/save/index-comes-back", test_info_comes_back);
    g_test_add_func("/save/pipe-is-read-while-it-is-written", test_live_pipe);
    g_test_add_func("/save/pipe-may-have-been-looked-at", test_taken_head);
    g_test_add_func("/save/zero-pages-cost-nothing", test_zero_pages_cost_nothing);
    g_test_add_func("/save/wrong-hints-do-no-harm", test_wrong_hints_do_no_harm);
    g_test_add_func("/save/reading-begins-at-every-offset", test_every_offset);
    g_test_add_func("/save/every-truncation-is-refused", test_every_truncation);
    g_test_add_func("/save/every-corruption-is-refused", test_every_corruption);
    g_test_add_func("/save/forged-records-do-no-harm", test_forged_records);
    g_test_add_func("/save/bytes-behind-the-end-are-refused", test_bytes_behind);
    g_test_add_func("/save/chunk-of-another-file-is-refused", test_chunk_of_another_file);
    g_test_add_func("/save/unfinished-file-is-refused", test_unfinished_is_refused);
    g_test_add_func("/save/place-of-damage-is-told", test_place_is_told);
    g_test_add_func("/save/full-disk-is-an-error", test_full_disk);
    g_test_add_func("/save/cancel-ends-a-stuck-pipe", test_cancel);
    return g_test_run();
}
