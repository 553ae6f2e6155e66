/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a coded stream begins: its header, and with two ways the proof that both have the key. */
#ifndef QMIG_PIPE_START_H
#define QMIG_PIPE_START_H

#include "pipe/flow.h"

/* What both directions are set up with. */
typedef struct {
    GBytes *key; /* (nullable) borrowed; NULL: no cipher */
    QmigPipeCipher cipher;
    uint32_t block_limit;
} QmigPipeSetup;

/* Fill header and key of a stream that goes one way and begins here. */
bool qmig_pipe_start_encode(QmigPipeFlow *flow, const QmigPipeSetup *setup,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_pipe_start_decode() - read the header of a stream that goes one way
 * @plain: (out) it is no coded stream; then @head and @len are what was read of it
 *
 * With a key only a stream that is encrypted is taken: else whoever can write here could give us
 * anything. Errors: PROTOCOL, LIMIT, UNSUPPORTED, CONFIG (a key is needed), IO, CLOSED, CANCELLED.
 */
bool qmig_pipe_start_decode(QmigPipeFlow *flow, const QmigPipeSetup *setup, bool *plain,
                            uint8_t head[static QMIG_PIPE_HEADER_LENGTH], size_t *len,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_pipe_start_two_way() - exchange headers and hellos
 * @encode: out is where the other program reads
 * @decode: in is where it writes
 *
 * Errors: TIMEOUT; PROTOCOL (no such program there, another key); CONFIG (another cipher); IO;
 * CLOSED; CANCELLED.
 */
bool qmig_pipe_start_two_way(QmigPipeFlow *encode, QmigPipeFlow *decode,
                             const QmigPipeSetup *setup, QmigDeadline deadline,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
