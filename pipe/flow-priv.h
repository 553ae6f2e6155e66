/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What flow.c and decode.c share. */
#ifndef QMIG_PIPE_FLOW_PRIV_H
#define QMIG_PIPE_FLOW_PRIV_H

#include "pipe/flow.h"

/* Write to the output, at its pace. */
bool qmig_pipe_flow_write(QmigPipeFlow *f, const uint8_t *data, size_t len,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Before the first byte of the stream goes out. */
bool qmig_pipe_flow_begin(QmigPipeFlow *f, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* @read_all puts blocks into the ring in this thread, @write takes them out in another; both to
 * the end. */
bool qmig_pipe_flow_run(QmigPipeFlow *f, const QmigPipelineOps *ops,
                        bool (*read_all)(QmigPipeFlow *f, GError **error),
                        bool (*write)(QmigPipeFlow *f, QmigPipeBlock *block,
                                      GError **error),
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Of a QmigPipelineOps. */
void qmig_pipe_flow_free_block(gpointer block, gpointer user);

#endif
