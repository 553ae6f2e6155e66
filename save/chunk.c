/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sealing and unsealing. The hash is of the stream's bytes, so it proves codec and runs too.
 *
 *     raw --runs--> work (packed) --codec--> body          and back
 *
 * Where there are no runs, raw is the packed form and nothing is copied; where the codec does
 * not help, the packed form is the body.
 */
#include "save/chunk.h"

#include "compress/hash.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <inttypes.h>

enum { RECORD = QMIG_SAVE_ZERO_RECORD };

void
qmig_save_chunk_init(QmigSaveChunk *chunk, uint32_t chunk_size)
{
    *chunk = (QmigSaveChunk){ 0 };
    chunk->raw = g_malloc(chunk_size);
    chunk->work = g_malloc(chunk_size);
    chunk->body = g_malloc(chunk_size);
    chunk->runs = g_array_new(FALSE, FALSE, sizeof(QmigSaveRun));
}

void
qmig_save_chunk_clear(QmigSaveChunk *chunk)
{
    g_free(chunk->raw);
    g_free(chunk->work);
    g_free(chunk->body);
    g_array_unref(chunk->runs);
}

/* ---- runs ------------------------------------------------------------------------------- */

/* The record that comes after @before in a run. */
static void
next_record(const uint8_t *before, uint32_t step, uint8_t out[static RECORD])
{
    QmigCursor c = qmig_cursor(before, RECORD);
    QmigWriter w = qmig_writer(out, RECORD);
    uint64_t word;
    uint8_t fill;
    bool ok = qmig_cursor_be64(&c, &word) && qmig_cursor_u8(&c, &fill) &&
              qmig_writer_be64(&w, word + step) && qmig_writer_u8(&w, fill);

    g_assert(ok);
}

/* Is @run true of @raw? @from: where the run before it ends. */
static bool
run_holds(const QmigSaveRun *run, const uint8_t *raw, uint32_t length, uint32_t from)
{
    uint8_t wanted[RECORD];

    if (run->position > length || run->position < RECORD ||
        run->position - RECORD < from || run->count == 0 ||
        run->count > (length - run->position) / RECORD) {
        return false;
    }
    const uint8_t *record = raw + run->position;
    for (uint32_t i = 0; i < run->count; i++, record += RECORD) {
        next_record(record - RECORD, run->step, wanted);
        if (memcmp(record, wanted, RECORD) != 0) {
            return false;
        }
    }
    return true;
}

/* Runs that hold and save something stay in the list. Return: bytes they save. */
static uint32_t
select_runs(QmigSaveChunk *chunk)
{
    uint32_t from = 0, saved = 0;
    guint kept = 0;

    for (guint i = 0; i < chunk->runs->len; i++) {
        QmigSaveRun run = g_array_index(chunk->runs, QmigSaveRun, i);

        if (run.count < 2 || !run_holds(&run, chunk->raw, chunk->head.length, from)) {
            continue;
        }
        from = run.position + run.count * RECORD;
        saved += run.count * RECORD - QMIG_SAVE_RUN_LENGTH;
        g_array_index(chunk->runs, QmigSaveRun, kept++) = run;
    }
    g_array_set_size(chunk->runs, kept);
    return saved;
}

/* raw -> work. Return: the packed form, and its length in the head. */
static const uint8_t *
pack(QmigSaveChunk *chunk)
{
    uint32_t packed = chunk->head.length - select_runs(chunk), from = 0;
    QmigWriter w = qmig_writer(chunk->work, packed);
    bool ok = true;

    chunk->head.n_runs = chunk->runs->len;
    chunk->head.packed = packed;
    if (chunk->runs->len == 0) {
        return chunk->raw;
    }
    for (guint i = 0; i < chunk->runs->len; i++) {
        const QmigSaveRun *run = &g_array_index(chunk->runs, QmigSaveRun, i);
        ok = ok && qmig_writer_be32(&w, run->position) &&
             qmig_writer_be32(&w, run->count) && qmig_writer_be32(&w, run->step);
    }
    for (guint i = 0; i < chunk->runs->len; i++) {
        const QmigSaveRun *run = &g_array_index(chunk->runs, QmigSaveRun, i);
        ok = ok && qmig_writer_bytes(&w, chunk->raw + from, run->position - from);
        from = run->position + run->count * RECORD;
    }
    ok = ok && qmig_writer_bytes(&w, chunk->raw + from, chunk->head.length - from);
    g_assert(ok && w.len == w.cap);
    return chunk->work;
}

/* One run of a packed chunk: the bytes before it, then its records. */
static bool
expand_run(QmigCursor *runs, QmigCursor *bytes, QmigWriter *out)
{
    QmigSaveRun run;
    const uint8_t *plain;

    if (!(qmig_cursor_be32(runs, &run.position) && qmig_cursor_be32(runs, &run.count) &&
          qmig_cursor_be32(runs, &run.step)) ||
        run.position < out->len || run.position < RECORD ||
        !qmig_cursor_bytes(bytes, run.position - out->len, &plain) ||
        !qmig_writer_bytes(out, plain, run.position - out->len) ||
        run.count > (out->cap - out->len) / RECORD) {
        return false;
    }
    for (uint32_t i = 0; i < run.count; i++) {
        uint8_t *record = out->buf + out->len;
        next_record(record - RECORD, run.step, record);
        out->len += RECORD;
    }
    return true;
}

/* packed -> raw. */
static bool
unpack(QmigSaveChunk *chunk, const uint8_t *packed)
{
    size_t table = (size_t)chunk->head.n_runs * QMIG_SAVE_RUN_LENGTH;
    QmigCursor runs = qmig_cursor(packed, table);
    QmigCursor bytes = qmig_cursor(packed + table, chunk->head.packed - table);
    QmigWriter out = qmig_writer(chunk->raw, chunk->head.length);
    const uint8_t *rest = bytes.p;

    for (uint32_t i = 0; i < chunk->head.n_runs; i++) {
        if (!expand_run(&runs, &bytes, &out)) {
            return false;
        }
    }
    size_t left = qmig_cursor_left(&bytes);
    return qmig_cursor_bytes(&bytes, left, &rest) &&
           qmig_writer_bytes(&out, rest, left) && out.len == out.cap;
}

/* ---- the whole -------------------------------------------------------------------------- */

void
qmig_save_chunk_seal(QmigSaveChunk *chunk, QmigSaveCodec codec, int level, uint64_t seed,
                     QmigCodecState *state)
{
    const QmigCodec *row = qmig_codec_find(qmig_save_codec_name(codec));
    QmigSaveHead *head = &chunk->head;
    const uint8_t *packed;
    size_t stored = 0;

    head->hash = qmig_hash64(chunk->raw, head->length, seed);
    packed = pack(chunk);
    if (row != NULL && head->packed > 1) {
        stored = row->compress(state, level, chunk->body, head->packed - 1, packed,
                               head->packed);
    }
    head->codec = stored > 0 ? codec : QMIG_SAVE_CODEC_NONE;
    head->stored = stored > 0 ? (uint32_t)stored : head->packed;
    if (stored == 0) {
        memcpy(chunk->body, packed, head->packed);
    }
}

bool
qmig_save_chunk_unseal(QmigSaveChunk *chunk, uint64_t seed, QmigCodecState *state,
                       GError **error)
{
    const QmigCodec *row = qmig_codec_find(qmig_save_codec_name(chunk->head.codec));
    const QmigSaveHead *head = &chunk->head;
    uint8_t *packed = head->n_runs > 0 ? chunk->work : chunk->raw;

    if (row == NULL) {
        memcpy(packed, chunk->body, head->packed);
    } else if (!row->decompress(state, packed, head->packed, chunk->body, head->stored)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "its %u bytes are no %s code of %u bytes", head->stored,
                              row->name, head->packed);
    }
    if (head->n_runs > 0 && !unpack(chunk, packed)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "its %u runs do not make %u bytes of %u", head->n_runs,
                              head->length, head->packed);
    }
    if (head->n_runs == 0 && head->packed != head->length) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%u bytes, wanted %u",
                              head->packed, head->length);
    }
    uint64_t hash = qmig_hash64(chunk->raw, head->length, seed);
    return hash == head->hash ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "checksum %016" PRIx64 ", its bytes give %016" PRIx64,
                          head->hash, hash);
}

QmigSaveSlot *
qmig_save_slot_new(uint32_t chunk_size)
{
    QmigSaveSlot *slot = g_new0(QmigSaveSlot, 1);

    qmig_save_chunk_init(&slot->chunk, chunk_size);
    return slot;
}

void
qmig_save_slot_free(QmigSaveSlot *slot)
{
    qmig_save_chunk_clear(&slot->chunk);
    g_clear_error(&slot->error);
    g_free(slot);
}
