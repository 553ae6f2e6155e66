/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the plugins of a chain say on the writes of one channel: when, how much, and what. */
#ifndef QMIG_PLUGIN_PACER_H
#define QMIG_PLUGIN_PACER_H

#include "plugin/chain.h"

typedef struct QmigPacer QmigPacer;

/**
 * qmig_pacer_new() - what the plugins say on the writes of one channel
 * @chain:   borrowed; outlives it
 * @channel: enum qmig_piece_channel
 *
 * Threads: each by one at a time.
 * Return: (transfer full) (nullable) NULL: no plugin wants to be asked.
 */
QmigPacer *qmig_pacer_new(QmigChain *chain, uint32_t channel, uint32_t id);
void qmig_pacer_free(QmigPacer *pacer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPacer, qmig_pacer_free)

/**
 * qmig_pacer_ask() - may bytes be written?
 * @bytes:   (inout) that are ready, not 0; lowered to what may go. Untouched where none may.
 * @wait_ns: (out) 0, or how long to wait before asking again
 *
 * Asking again without having written is free. Errors: PLUGIN.
 */
bool qmig_pacer_ask(QmigPacer *pacer, uint64_t *bytes, uint64_t *wait_ns,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A plugin may want to change what is written. */
bool qmig_pacer_alters(const QmigPacer *pacer);

/* Let it: @bytes of @data, all of which were granted and will be written. Errors: PLUGIN. */
bool qmig_pacer_alter(QmigPacer *pacer, uint8_t *data, uint64_t bytes,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* So many bytes, all granted, were written. */
void qmig_pacer_wrote(QmigPacer *pacer, uint64_t bytes);

#endif
