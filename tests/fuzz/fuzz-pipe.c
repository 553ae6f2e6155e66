/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What `qmig stream pipe --decode` reads, with a key and without: it gives bytes, or refuses with
 * a reason, and never more than it announced. Checksums would keep nearly every input out, so
 * they are made right before a second try.
 */
#include "compress/hash.h"
#include "pipe/start.h"
#include "save/format.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/fuzz.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <fcntl.h>

enum { SUM = 8, CHECK = 4 };

static void
decode(const uint8_t *data, size_t size, GBytes *key)
{
    g_autoptr(QmigCancel) stop = qmig_cancel_new();
    g_autoptr(GError) error = NULL;
    QmigPipeSetup setup = { key, QMIG_PIPE_CLEAR, QMIG_PIPE_BLOCK_MAX };
    QmigPipeFlow f = { .stop = stop, .threads = 1, .in_name = "in", .out_name = "out" };
    uint8_t head[QMIG_PIPE_HEADER_LENGTH];
    bool plain = false;
    size_t len = 0;

    f.in = open(fuzz_file(data, size), O_RDONLY | O_CLOEXEC);
    f.out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    f.watch = qmig_pipe_watch_new();
    bool ok = qmig_pipe_start_decode(&f, &setup, &plain, head, &len, &error) &&
              (plain ? qmig_pipe_copy(&f, head, len, &error)
                     : qmig_pipe_decode(&f, &error));
    if (!ok) {
        g_assert_true(error != NULL && error->domain == QMIG_ERROR);
    } else if (plain) {
        g_assert_cmpuint(f.bytes_out, ==, size);
    } else {
        g_assert_cmpuint(f.bytes_in, ==, size);
    }
    g_assert_true(plain || f.bytes_out <= f.blocks * QMIG_PIPE_BLOCK_MAX);
    qmig_pipe_watch_free(f.watch);
    close(f.in);
    close(f.out);
}

static void
put_be64(uint8_t *to, uint64_t value)
{
    QmigWriter w = qmig_writer(to, SUM);

    g_assert_true(qmig_writer_be64(&w, value));
}

/* The check of a head, and the mark behind the body. Return: bytes of the record, 0 = none. */
static size_t
fix_record(uint8_t *p, size_t left, uint64_t seed)
{
    size_t checked = QMIG_PIPE_HEAD_LENGTH - CHECK;
    QmigCursor c = qmig_cursor(p + 8, CHECK);
    QmigWriter w = qmig_writer(p + checked, CHECK);
    uint32_t stored;

    if (left < QMIG_PIPE_HEAD_LENGTH + SUM || !qmig_cursor_be32(&c, &stored)) {
        return 0;
    }
    g_assert_true(qmig_writer_be32(&w, (uint32_t)qmig_hash64(p, checked, seed)));
    if (stored > left - QMIG_PIPE_HEAD_LENGTH - SUM) {
        return 0;
    }
    size_t len = QMIG_PIPE_HEAD_LENGTH + stored;
    put_be64(p + len, qmig_hash64(p, len, seed));
    return len + SUM;
}

static void
fix_sums(uint8_t *data, size_t size)
{
    size_t at = QMIG_PIPE_HEADER_LENGTH, n = 1;
    QmigPipeHeader header;

    if (size < QMIG_PIPE_HEADER_LENGTH) {
        return;
    }
    put_be64(data + at - SUM, qmig_hash64(data, at - SUM, 0));
    if (!qmig_pipe_read_header(data, &header, NULL)) {
        return;
    }
    for (uint64_t number = 0; n > 0; number++) {
        n = fix_record(data + at, size - at, qmig_pipe_seed(&header, number));
        at += n;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t bytes[QMIG_PIPE_KEY_LENGTH] = "the key of the seeds";
    g_autoptr(GBytes) key = g_bytes_new_static(bytes, sizeof bytes);
    g_autofree uint8_t *fixed = g_memdup2(data, size);

    decode(data, size, NULL);
    decode(data, size, key);
    fix_sums(fixed, size);
    decode(fixed, size, NULL);
    return 0;
}
