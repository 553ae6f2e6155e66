/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bounded reader over borrowed bytes. Together with util/writer.h the only code that touches
 * wire bytes. Every getter either succeeds and moves on, or returns false and moves nothing,
 * so that a parser reads as a schema:
 *
 *     if (!(qmig_cursor_be32(&c, &h->magic) && qmig_cursor_be32(&c, &h->version))) {
 *         return truncated(…);
 *     }
 *
 * All integers of the migration protocol are big-endian.
 */
#ifndef QMIG_UTIL_CURSOR_H
#define QMIG_UTIL_CURSOR_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *p;   /* next byte; borrowed */
    const uint8_t *end; /* one past the last byte */
} QmigCursor;

static inline QmigCursor
qmig_cursor(const void *data, size_t len)
{
    /* No bytes may come as NULL, to which C allows nothing to be added, not even 0. */
    const uint8_t *p = data != NULL ? data : (const uint8_t *)"";

    return (QmigCursor){ p, p + len };
}

static inline size_t
qmig_cursor_left(const QmigCursor *c)
{
    return (size_t)(c->end - c->p);
}

/* The next @len bytes, borrowed, in *@out. */
G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_cursor_bytes(QmigCursor *c, size_t len, const uint8_t **out)
{
    if (G_UNLIKELY(qmig_cursor_left(c) < len)) {
        return false;
    }
    *out = c->p;
    c->p += len;
    return true;
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_cursor_skip(QmigCursor *c, size_t len)
{
    const uint8_t *unused;

    return qmig_cursor_bytes(c, len, &unused);
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_cursor_u8(QmigCursor *c, uint8_t *v)
{
    const uint8_t *p;

    if (!qmig_cursor_bytes(c, 1, &p)) {
        return false;
    }
    *v = *p;
    return true;
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_cursor_be16(QmigCursor *c, uint16_t *v)
{
    const uint8_t *p;

    if (!qmig_cursor_bytes(c, sizeof *v, &p)) {
        return false;
    }
    memcpy(v, p, sizeof *v);
    *v = GUINT16_FROM_BE(*v);
    return true;
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_cursor_be32(QmigCursor *c, uint32_t *v)
{
    const uint8_t *p;

    if (!qmig_cursor_bytes(c, sizeof *v, &p)) {
        return false;
    }
    memcpy(v, p, sizeof *v);
    *v = GUINT32_FROM_BE(*v);
    return true;
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_cursor_be64(QmigCursor *c, uint64_t *v)
{
    const uint8_t *p;

    if (!qmig_cursor_bytes(c, sizeof *v, &p)) {
        return false;
    }
    memcpy(v, p, sizeof *v);
    *v = GUINT64_FROM_BE(*v);
    return true;
}

/* u8 length + that many bytes: QEMU's counted string. @out gets a NUL; @out holds 256 bytes. */
G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_cursor_cstr(QmigCursor *c, char out[static 256], uint8_t *len)
{
    QmigCursor look = *c;
    const uint8_t *p;
    uint8_t n;

    if (!qmig_cursor_u8(&look, &n) || !qmig_cursor_bytes(&look, n, &p)) {
        return false;
    }
    memcpy(out, p, n);
    out[n] = '\0';
    *len = n;
    *c = look;
    return true;
}

#endif
