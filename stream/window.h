/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a decoder gets whole records out of bytes that come in any split.
 *
 * Records are parsed where they lie in the pushed bytes. Only one that is cut by the end of a
 * push is collected in a carry buffer, exactly to its own end, so that the next record is
 * again parsed in place. Two buffers take turns: what an event borrowed from one stays good
 * until the push after the next NEED_MORE.
 */
#ifndef QMIG_STREAM_WINDOW_H
#define QMIG_STREAM_WINDOW_H

#include "stream/decoder.h"
#include "util/cursor.h"

typedef struct {
    const uint8_t *in; /* pushed, not yet parsed; borrowed */
    size_t in_len;     /* bytes */
    uint8_t *carry;    /* owned; the record cut by the last push */
    size_t carry_len;  /* bytes; 0 = parse in place */
    size_t need;       /* bytes the carried record is known to have at least */
    size_t carry_cap;  /* bytes of storage; grows as bytes come in */
    uint8_t *spare;    /* owned; the other carry buffer */
    size_t spare_cap;
    size_t max; /* the longest record, bytes */
} QmigWindow;

typedef enum {
    QMIG_PARSE_DONE,   /* one record taken off the cursor */
    QMIG_PARSE_SHORT,  /* more bytes wanted; nothing may have changed in the decoder */
    QMIG_PARSE_FAILED, /* @error is set */
} QmigParse;

/**
 * typedef QmigParseFn - take one record off @c
 *
 * It may look at bytes beyond the record, but not when the record's event borrows from @c:
 * what was looked at changes buffers.
 *
 * @need: (inout) when SHORT: the record's length in bytes as far as known; comes in as one
 *        more than what was there
 */
typedef QmigParse (*QmigParseFn)(void *self, QmigCursor *c, size_t *need, void *out,
                                 GError **error);

void qmig_window_init(QmigWindow *w, size_t max_record);
void qmig_window_clear(QmigWindow *w);
void qmig_window_push(QmigWindow *w, const void *data, size_t len);

/* Parse one record; *@consumed is its length. Return: EVENT, NEED_MORE or FAILED. */
QmigDecodeResult qmig_window_step(QmigWindow *w, QmigParseFn parse, void *self, void *out,
                                  size_t *consumed, GError **error);

/*
 * The next @n bytes in one piece: where they lie when all were pushed at once, else collected.
 * The length must be the same at each call until it succeeds. Return: as step.
 */
QmigDecodeResult qmig_window_piece(QmigWindow *w, size_t n, const uint8_t **data,
                                   GError **error);

/* Take at most @max bytes that need no parsing, in place; 0 when none are there. */
size_t qmig_window_take(QmigWindow *w, uint64_t max, const uint8_t **data);

#endif
