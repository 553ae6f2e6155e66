/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Batches -> a migration stream: the far half (proxy/link/pack.h is the near one). */
#ifndef QMIG_PROXY_LINK_UNPACK_H
#define QMIG_PROXY_LINK_UNPACK_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct QmigUnpack QmigUnpack;

/* The next bytes of the stream, at most IOV_MAX pieces, good until it returns. */
typedef bool (*QmigUnpackSink)(void *self, const struct iovec *iov, size_t n,
                               GError **error);

/* @cache_size: bytes, exactly what the near side was given. Errors: IO: no address space. */
QmigUnpack *qmig_unpack_new(uint64_t cache_size,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_unpack_free(QmigUnpack *u);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigUnpack, qmig_unpack_free)

/**
 * qmig_unpack_take() - the next batch
 *
 * All of it has gone to @sink when it returns. Batches are to come each once, in order. It is
 * dead after an error; what @sink got before is a good beginning.
 * Threads: any one at a time.
 * Errors: PROTOCOL, LIMIT: not what a near side writes; what @sink says.
 */
bool qmig_unpack_take(QmigUnpack *u, const uint8_t *batch, size_t len,
                      QmigUnpackSink sink, void *self,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
