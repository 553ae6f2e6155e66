/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events -> bytes: the other half of the law encode(decode(x)) == x. Without I/O. */
#ifndef QMIG_STREAM_ENCODER_H
#define QMIG_STREAM_ENCODER_H

#include "stream/qmig-event.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/uio.h>

typedef struct QmigEncoder QmigEncoder;

QmigEncoder *qmig_encoder_new(void);
void qmig_encoder_free(QmigEncoder *e);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigEncoder, qmig_encoder_free)

/**
 * qmig_encoder_put() - append one event to the pending output
 * @e:  encoder; must not be full
 * @ev: event; its payload (page, bytes, command data …) is *referenced*, so it must stay where
 *      it is until qmig_encoder_clear(). Heads are copied.
 *
 * Notes add nothing. A page's block name is written whenever this encoder did not name the
 * same block last, so events may be dropped, added and reordered freely.
 * Errors: PROTOCOL for an event that cannot be written (offset beyond the block, length beyond
 *         the format, kind unknown); nothing is appended then.
 */
bool qmig_encoder_put(QmigEncoder *e, const struct qmig_event *ev,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* No room for another event: write the pending output and call qmig_encoder_clear(). */
bool qmig_encoder_is_full(const QmigEncoder *e);

/* The pending output, borrowed, for writev(2). Return: number of pieces, at most IOV_MAX. */
size_t qmig_encoder_pending(const QmigEncoder *e, const struct iovec **iov,
                            size_t *bytes);

/* Forget the pending output (it was written); the block-name state stays. */
void qmig_encoder_clear(QmigEncoder *e);

#endif
