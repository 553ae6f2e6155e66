/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes that more than one may hold: a payload on its way. */
#ifndef QMIG_PROXY_LINK_BUF_H
#define QMIG_PROXY_LINK_BUF_H

#include <glib.h>
#include <stdint.h>

typedef struct {
    gint refs;
    uint32_t len;  /* bytes used */
    uint32_t size; /* bytes of storage */
    uint8_t data[];
} QmigBuf;

/* @size: at most QMIG_FRAME_PAYLOAD_MAX. Content: anything. Threads: any. */
QmigBuf *qmig_buf_new(uint32_t size);
void qmig_buf_unref(QmigBuf *buf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigBuf, qmig_buf_unref)

#endif
