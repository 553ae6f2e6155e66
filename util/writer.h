/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bounded writer of wire bytes: appends to a fixed buffer, never grows, never overruns. */
#ifndef QMIG_UTIL_WRITER_H
#define QMIG_UTIL_WRITER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *buf; /* borrowed storage */
    size_t len;   /* bytes written */
    size_t cap;   /* bytes of storage */
} QmigWriter;

static inline QmigWriter
qmig_writer(void *buf, size_t cap)
{
    return (QmigWriter){ buf, 0, cap };
}

/* Each returns false, with nothing written, when the storage is full. */
G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_writer_bytes(QmigWriter *w, const void *data, size_t len)
{
    if (G_UNLIKELY(w->cap - w->len < len)) {
        return false;
    }
    if (len > 0) {
        memcpy(w->buf + w->len, data, len);
    }
    w->len += len;
    return true;
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_writer_u8(QmigWriter *w, uint8_t v)
{
    return qmig_writer_bytes(w, &v, sizeof v);
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_writer_be16(QmigWriter *w, uint16_t v)
{
    v = GUINT16_TO_BE(v);
    return qmig_writer_bytes(w, &v, sizeof v);
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_writer_be32(QmigWriter *w, uint32_t v)
{
    v = GUINT32_TO_BE(v);
    return qmig_writer_bytes(w, &v, sizeof v);
}

G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_writer_be64(QmigWriter *w, uint64_t v)
{
    v = GUINT64_TO_BE(v);
    return qmig_writer_bytes(w, &v, sizeof v);
}

/* u8 length + bytes. @len is at most 255. */
G_GNUC_WARN_UNUSED_RESULT static inline bool
qmig_writer_cstr(QmigWriter *w, const char *s, size_t len)
{
    if (len > UINT8_MAX || w->cap - w->len < len + 1) {
        return false;
    }
    return qmig_writer_u8(w, (uint8_t)len) && qmig_writer_bytes(w, s, len);
}

#endif
