/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What holds for every input of a decoder of events, be it a stream or not:
 *
 *   - it ends in an error that names the place, or in a reading;
 *   - what was read encodes to just the bytes it was read from, and nothing is left out;
 *   - any split of the input gives the same events and the same error;
 *   - it takes a bounded amount of memory and time.
 */
#ifndef QMIG_TESTS_STREAM_CHECK_H
#define QMIG_TESTS_STREAM_CHECK_H

#include "stream/decoder.h"

/* A decoder of whichever channel. */
typedef struct {
    void *(*make)(void);
    void (*free)(void *d);
    void (*push)(void *d, const void *data, size_t len);
    void (*eof)(void *d);
    QmigDecodeResult (*next)(void *d, struct qmig_event *ev, GError **error);
    uint64_t (*offset)(const void *d);
    /* Memory is at most `memory` bytes and `factor` times the input. */
    size_t memory, factor;
} StreamKind;

extern const StreamKind stream_main;
/* What continues sample_postcopy(). */
extern const StreamKind stream_recovery;
extern const StreamKind stream_preempt;
extern const StreamKind stream_multifd;

typedef struct {
    GString *text;     /* the events but BYTES, one a line */
    GByteArray *again; /* the events, encoded */
    GError *error;     /* (nullable) */
    bool complete;     /* as the END note says */
} StreamReading;

void stream_reading_clear(StreamReading *r);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StreamReading, stream_reading_clear)

/* Read in one push, or (@split) in pushes that the bytes themselves choose. Asserts the first
 * two of the laws above. */
StreamReading stream_read(const StreamKind *kind, const uint8_t *data, size_t len,
                          bool split);

/* Asserts that two readings are the same. */
void stream_same(const StreamReading *a, const StreamReading *b);

/* Read in one push with nothing beside; asserts the bounds. Return: bytes held at most. */
size_t stream_memory(const StreamKind *kind, const uint8_t *data, size_t len);

/* All of them. */
void stream_check(const StreamKind *kind, const uint8_t *data, size_t len);

#endif
