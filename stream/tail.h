/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tail of a precopy stream: device state, EOF byte, description.
 *
 *     FULL sections (no lengths) … 00 06 be32 n, n bytes JSON     and then the connection ends
 *
 * Only the description at the very end tells how long each section is. The tail is therefore
 * handed on at once and copied beside; when what looks like a description is whole, the copy is
 * split with it, each head and footer proving the step before.
 */
#ifndef QMIG_STREAM_TAIL_H
#define QMIG_STREAM_TAIL_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    char *name; /* owned */
    uint32_t instance;
    uint32_t version;
    uint32_t section_id;
    size_t start;  /* of the state inside the tail, bytes */
    size_t length; /* of the state, bytes */
} QmigTailDevice;

typedef struct {
    GArray *devices; /* QmigTailDevice, in wire order */
    size_t json;     /* start of the description inside the tail, bytes */
    size_t json_len; /* bytes; 0 = there is none */
} QmigTail;

/**
 * qmig_tail_parse() - split a complete tail
 * @data:    the tail, from the type byte of its first section
 * @eof_at:  where its EOF byte is; type and length of the description follow
 * @len:     bytes of the tail, that is the end of the description
 * @footers: sections end with footers
 * @tail:    (out) filled only on success; clear it
 *
 * Errors: PROTOCOL: no description, or sections that do not match it. The message names the
 *         section and its offset inside the tail.
 */
bool qmig_tail_parse(const uint8_t *data, size_t eof_at, size_t len, bool footers,
                     QmigTail *tail, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_tail_clear(QmigTail *tail);

#endif
