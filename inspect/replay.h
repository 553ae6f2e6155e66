/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A recorded migration, sent again to a QEMU that waits for one, as its source would: every
 * connection in order, each as fast as the destination takes it or at the recorded times.
 * What the destination says is read and counted, and decides when the source would go on:
 * a later connection is opened, and the end of one is sent, when as many answers (PONG, SHUT)
 * have come as had come then.
 */
#ifndef QMIG_INSPECT_REPLAY_H
#define QMIG_INSPECT_REPLAY_H

#include "util/address.h"
#include "util/auto.h"
#include "util/cancel.h"

typedef struct {
    const QmigAddress *to;
    bool timing;              /* nothing earlier than it was recorded */
    uint32_t timeout_ms;      /* so long nothing moves: the end; 0 = 30 000 */
    const QmigCancel *cancel; /* (nullable) */
    void (*progress)(uint64_t done, uint64_t total); /* (nullable) bytes */
} QmigReplayOptions;

/**
 * qmig_replay_run() - send @input to @options->to
 * @input:  a capture; or the main channel alone: a file, "-", a save file
 * @report: (out) (transfer full) (optional) set as soon as the destination was to be contacted,
 *          also when false is returned
 *
 * { "input", "to", "loaded": true: it said so (SHUT 0), false, or null: it never said (no
 *   return path), "return_path": { "shut", "pongs", "requests" }, "recorded": the same of the
 *   capture, "channels": [ { "kind", "id", "bytes_forward", "bytes_total", "bytes_reverse" } ],
 *   "bytes_forward", "ms": { "sending", "total" }, "notices": [ "…" ] }
 *
 * A damaged timeline is refused before anything is sent.
 * Errors: CONFIG, IO, PROTOCOL: the input. UNSUPPORTED: encrypted, or a recovery. CLOSED: the
 *         destination closed before all was there, or said that it could not load the guest.
 *         TIMEOUT, CANCELLED.
 */
bool qmig_replay_run(const char *input, const QmigReplayOptions *options,
                     JsonObject **report, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
