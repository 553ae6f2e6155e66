/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stream-check.h. */
#include "tests/lib/stream-check.h"

#include "stream/dump.h"
#include "stream/encoder.h"
#include "stream/multifd.h"
#include "tests/lib/memory.h"
#include "tests/lib/sample-stream.h"
#include "tests/lib/split.h"
#include "util/error.h"

#include <string.h>
#include <time.h>

/* For one reading, under any sanitizer. */
enum { MAX_CPU_SECONDS = 10 };

/* ---- the kinds ---------------------------------------------------------------------------- */

static void *
main_new(void)
{
    return qmig_decoder_new();
}

static void
main_free(void *d)
{
    qmig_decoder_free(d);
}

static void
main_push(void *d, const void *data, size_t len)
{
    qmig_decoder_push(d, data, len);
}

static void
main_eof(void *d)
{
    qmig_decoder_eof(d);
}

static QmigDecodeResult
main_next(void *d, struct qmig_event *ev, GError **error)
{
    return qmig_decoder_next(d, ev, error);
}

static uint64_t
main_offset(const void *d)
{
    return qmig_decoder_offset(d);
}

/* @preempt: as of qmig_decoder_continue() */
static QmigDecoder *
continue_postcopy(bool preempt)
{
    static QmigDecoder *main; /* kept for all readings of this process */
    struct qmig_event ev;

    if (main == NULL) {
        g_autoptr(GByteArray) stream = sample_postcopy();

        main = qmig_decoder_new();
        qmig_decoder_push(main, stream->data, stream->len);
        while (qmig_decoder_next(main, &ev, NULL) == QMIG_DECODE_EVENT) {
        }
    }
    return qmig_decoder_continue(main, preempt);
}

static void *
recovery_new(void)
{
    return continue_postcopy(false);
}

static void *
preempt_new(void)
{
    return continue_postcopy(true);
}

static void *
multifd_new(void)
{
    return qmig_multifd_decoder_new();
}

static void
multifd_free(void *d)
{
    qmig_multifd_decoder_free(d);
}

static void
multifd_push(void *d, const void *data, size_t len)
{
    qmig_multifd_decoder_push(d, data, len);
}

static void
multifd_eof(void *d)
{
    qmig_multifd_decoder_eof(d);
}

static QmigDecodeResult
multifd_next(void *d, struct qmig_event *ev, GError **error)
{
    return qmig_multifd_decoder_next(d, ev, error);
}

static uint64_t
multifd_offset(const void *d)
{
    return qmig_multifd_decoder_offset(d);
}

#define OF_MAIN                                                               \
    .free = main_free, .push = main_push, .eof = main_eof, .next = main_next, \
    .offset = main_offset, .memory = 1 << 20, .factor = 64

const StreamKind stream_main = { .make = main_new, OF_MAIN };
const StreamKind stream_recovery = { .make = recovery_new, OF_MAIN };
const StreamKind stream_preempt = { .make = preempt_new, OF_MAIN };
const StreamKind stream_multifd = {
    .make = multifd_new,
    .free = multifd_free,
    .push = multifd_push,
    .eof = multifd_eof,
    .next = multifd_next,
    .offset = multifd_offset,
    .memory = 2 << 20,
    .factor = 2,
};

/* ---- reading ------------------------------------------------------------------------------ */

void
stream_reading_clear(StreamReading *r)
{
    g_string_free(r->text, TRUE);
    g_byte_array_unref(r->again);
    g_clear_error(&r->error);
}

static void
flush(StreamReading *r, QmigEncoder *e)
{
    const struct iovec *iov;
    size_t bytes, n = qmig_encoder_pending(e, &iov, &bytes);

    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(r->again, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    qmig_encoder_clear(e);
}

static void
take_event(StreamReading *r, QmigEncoder *e, const struct qmig_event *ev)
{
    size_t bytes, before;
    const struct iovec *iov;

    g_assert_cmpuint(ev->size, ==, sizeof *ev);
    if (ev->kind != QMIG_EVENT_BYTES) {
        qmig_dump_event(r->text, ev);
    }
    if (qmig_encoder_is_full(e)) {
        flush(r, e);
    }
    qmig_encoder_pending(e, &iov, &before);
    if (!(ev->flags & QMIG_EVENT_NOTE)) {
        g_assert_cmpuint(ev->offset, ==, r->again->len + before);
    }
    g_assert_true(qmig_encoder_put(e, ev, NULL));
    qmig_encoder_pending(e, &iov, &bytes);
    g_assert_cmpuint(ev->wire_size, ==, bytes - before);
    if (ev->kind == QMIG_EVENT_END) {
        r->complete = ev->u.end.complete;
    }
}

static QmigDecodeResult
drain(StreamReading *r, const StreamKind *kind, void *d, QmigEncoder *e)
{
    struct qmig_event ev;
    QmigDecodeResult result;

    while ((result = kind->next(d, &ev, &r->error)) == QMIG_DECODE_EVENT) {
        g_assert_no_error(r->error);
        take_event(r, e, &ev);
    }
    flush(r, e);
    g_assert_cmpuint(kind->offset(d), ==, r->again->len);
    g_assert_cmpint(r->error != NULL, ==, result == QMIG_DECODE_FAILED);
    return result;
}

static void
check_reading(const StreamReading *r, const uint8_t *data, size_t len)
{
    g_assert_cmpuint(r->again->len, <=, len);
    g_assert_cmpmem(r->again->data, r->again->len, data, r->again->len);
    if (r->error != NULL) {
        g_assert_true(r->error->domain == QMIG_ERROR);
        g_assert_true(r->error->code == QMIG_ERROR_PROTOCOL ||
                      r->error->code == QMIG_ERROR_LIMIT);
        g_assert_nonnull(strstr(r->error->message, "stream offset"));
    } else if (r->complete) {
        g_assert_cmpuint(r->again->len, ==, len);
    }
}

StreamReading
stream_read(const StreamKind *kind, const uint8_t *data, size_t len, bool split)
{
    StreamReading r = { .text = g_string_new(NULL), .again = g_byte_array_new() };
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    void *d = kind->make();
    QmigDecodeResult result = QMIG_DECODE_NEED_MORE;
    Split pieces = split_new(data, len, split);
    size_t at, n;
    /* A copy of its own for each push, so that a stale reference is seen by ASan. */
    g_autofree uint8_t *piece = NULL;

    while (result == QMIG_DECODE_NEED_MORE && split_next(&pieces, &at, &n)) {
        uint8_t *next = g_memdup2(data + at, n);
        kind->push(d, next, n);
        g_free(piece);
        piece = next;
        result = drain(&r, kind, d, e);
    }
    if (result == QMIG_DECODE_NEED_MORE) {
        kind->eof(d);
        result = drain(&r, kind, d, e);
        g_assert_cmpint(result, !=, QMIG_DECODE_NEED_MORE);
    }
    kind->free(d);
    check_reading(&r, data, len);
    return r;
}

void
stream_same(const StreamReading *a, const StreamReading *b)
{
    g_assert_cmpstr(a->text->str, ==, b->text->str);
    g_assert_cmpmem(a->again->data, a->again->len, b->again->data, b->again->len);
    g_assert_cmpstr(a->error != NULL ? a->error->message : "", ==,
                    b->error != NULL ? b->error->message : "");
}

size_t
stream_memory(const StreamKind *kind, const uint8_t *data, size_t len)
{
    struct qmig_event ev;
    QmigDecodeResult result;
    size_t peak;

    clock_t begin = clock();
    memory_start();
    void *d = kind->make();
    kind->push(d, data, len);
    do {
        result = kind->next(d, &ev, NULL);
        if (result == QMIG_DECODE_NEED_MORE) {
            kind->eof(d);
        }
    } while (result == QMIG_DECODE_EVENT || result == QMIG_DECODE_NEED_MORE);
    peak = memory_peak();
    kind->free(d);
    g_assert_cmpuint(peak, <=, kind->memory + kind->factor * len);
    g_assert_cmpint(clock() - begin, <=, MAX_CPU_SECONDS * CLOCKS_PER_SEC);
    return peak;
}

void
stream_check(const StreamKind *kind, const uint8_t *data, size_t len)
{
    g_auto(StreamReading) whole = stream_read(kind, data, len, false);
    g_auto(StreamReading) pieces = stream_read(kind, data, len, true);

    stream_same(&whole, &pieces);
    stream_memory(kind, data, len);
}
