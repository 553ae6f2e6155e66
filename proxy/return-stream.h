/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Main's reverse bytes: what the destination tells the source. Only looked at. */
#ifndef QMIG_PROXY_RETURN_STREAM_H
#define QMIG_PROXY_RETURN_STREAM_H

#include "proxy/group.h"
#include "stream/return-path.h"

typedef struct {
    QmigGroup *group;       /* borrowed; told of SHUT 0 */
    QmigRpDecoder *decoder; /* owned; NULL: not, or no longer, understood */
    gint64 shut;            /* atomic: status of SHUT; -1 = none yet */
    guint pongs;            /* atomic */
    gint64 last_pong;       /* atomic: value of the last one; -1 = none yet */
    gint is_read;           /* atomic: everything so far was understood */
} QmigReturnStream;

/* @readable: false when the bytes are not plain return-path messages (TLS). */
void qmig_return_stream_init(QmigReturnStream *s, QmigGroup *group, bool readable);
void qmig_return_stream_clear(QmigReturnStream *s);

/* The next bytes. Threads: the relay's. */
void qmig_return_stream_take(QmigReturnStream *s, const uint8_t *data, size_t len);

/* Status of SHUT, or -1. Threads: any. */
int64_t qmig_return_stream_shut(const QmigReturnStream *s);
/* Value of the last PONG, or -1. Threads: any. */
int64_t qmig_return_stream_last_pong(const QmigReturnStream *s);
/* {"shut": n, "pongs": n}. Threads: any. (transfer full) */
JsonObject *qmig_return_stream_describe(const QmigReturnStream *s);

#endif
