/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The carry buffer; see stream/window.h. */
#include "stream/window.h"

#include "util/error.h"

/* Storage taken at once; enough for all records but the payload of multifd. */
enum { INITIAL = 80 << 10 };

void
qmig_window_init(QmigWindow *w, size_t max_record)
{
    size_t cap = MIN(max_record, INITIAL);

    *w = (QmigWindow){
        .carry = g_malloc(cap),
        .carry_cap = cap,
        .spare = g_malloc(cap),
        .spare_cap = cap,
        .max = max_record,
    };
}

void
qmig_window_clear(QmigWindow *w)
{
    g_free(w->carry);
    g_free(w->spare);
    *w = (QmigWindow){ 0 };
}

void
qmig_window_push(QmigWindow *w, const void *data, size_t len)
{
    g_assert(w->in_len == 0);
    w->in = data;
    w->in_len = len;
}

/* Move @n pushed bytes behind the carried ones. */
static bool
collect(QmigWindow *w, size_t n, GError **error)
{
    if (w->max - w->carry_len < n) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT, "a record has more than %zu bytes",
                              w->max);
    }
    if (w->carry_cap - w->carry_len < n) {
        w->carry_cap = MIN(w->max, MAX(2 * w->carry_cap, w->carry_len + n));
        w->carry = g_realloc(w->carry, w->carry_cap);
    }
    memcpy(w->carry + w->carry_len, w->in, n);
    w->carry_len += n;
    w->in += n;
    w->in_len -= n;
    return true;
}

/* The first @n carried bytes are done with; what was looked at beyond them changes buffers. */
static void
drop_carried(QmigWindow *w, size_t n)
{
    uint8_t *used = w->carry;
    size_t used_cap = w->carry_cap;

    w->carry_len -= n;
    if (w->spare_cap < w->carry_len) {
        w->spare = g_realloc(w->spare, w->carry_len);
        w->spare_cap = w->carry_len;
    }
    memcpy(w->spare, used + n, w->carry_len);
    w->carry = w->spare;
    w->carry_cap = w->spare_cap;
    w->spare = used;
    w->spare_cap = used_cap;
    w->need = w->carry_len;
}

/* The record begun in the carry buffer: feed it until it is whole, and no further. */
static QmigDecodeResult
step_carried(QmigWindow *w, QmigParseFn parse, void *self, void *out, size_t *consumed,
             GError **error)
{
    for (;;) {
        size_t want = w->need - w->carry_len;

        if (!collect(w, MIN(want, w->in_len), error)) {
            return QMIG_DECODE_FAILED;
        }
        if (w->carry_len < w->need) {
            return QMIG_DECODE_NEED_MORE;
        }
        QmigCursor c = qmig_cursor(w->carry, w->carry_len);
        w->need = w->carry_len + 1;
        switch (parse(self, &c, &w->need, out, error)) {
        case QMIG_PARSE_DONE:
            *consumed = w->carry_len - qmig_cursor_left(&c);
            drop_carried(w, *consumed);
            return QMIG_DECODE_EVENT;
        case QMIG_PARSE_SHORT:
            break;
        case QMIG_PARSE_FAILED:
        default:
            return QMIG_DECODE_FAILED;
        }
    }
}

QmigDecodeResult
qmig_window_step(QmigWindow *w, QmigParseFn parse, void *self, void *out,
                 size_t *consumed, GError **error)
{
    if (G_UNLIKELY(w->carry_len > 0)) {
        return step_carried(w, parse, self, out, consumed, error);
    }
    if (w->in_len == 0) {
        return QMIG_DECODE_NEED_MORE;
    }

    QmigCursor c = qmig_cursor(w->in, w->in_len);
    size_t need = w->in_len + 1;
    switch (parse(self, &c, &need, out, error)) {
    case QMIG_PARSE_DONE:
        *consumed = (size_t)(c.p - w->in);
        w->in += *consumed;
        w->in_len -= *consumed;
        return QMIG_DECODE_EVENT;
    case QMIG_PARSE_SHORT:
        w->need = need;
        return collect(w, w->in_len, error) ? QMIG_DECODE_NEED_MORE : QMIG_DECODE_FAILED;
    case QMIG_PARSE_FAILED:
    default:
        return QMIG_DECODE_FAILED;
    }
}

/* QmigParseFn: *@self bytes as they are. */
static QmigParse
parse_piece(void *self, QmigCursor *c, size_t *need, void *out, GError **error)
{
    const size_t *n = self;

    (void)error;
    if (!qmig_cursor_bytes(c, *n, out)) {
        *need = *n;
        return QMIG_PARSE_SHORT;
    }
    return QMIG_PARSE_DONE;
}

QmigDecodeResult
qmig_window_piece(QmigWindow *w, size_t n, const uint8_t **data, GError **error)
{
    size_t consumed;

    return qmig_window_step(w, parse_piece, &n, data, &consumed, error);
}

size_t
qmig_window_take(QmigWindow *w, uint64_t max, const uint8_t **data)
{
    size_t left = w->carry_len > 0 ? w->carry_len : w->in_len;
    size_t n = left < max ? left : (size_t)max;

    if (G_UNLIKELY(w->carry_len > 0)) {
        *data = w->carry;
        drop_carried(w, n);
        return n;
    }
    *data = w->in;
    w->in += n;
    w->in_len -= n;
    return n;
}
