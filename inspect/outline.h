/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The outline of a stream: one entry for each section, command, device, in wire order. */
#ifndef QMIG_INSPECT_OUTLINE_H
#define QMIG_INSPECT_OUTLINE_H

#include "inspect/reader.h"
#include "util/auto.h"

/**
 * struct QmigOutlineSink - takes the entries
 *
 * An entry is { "channel": "main", "offset": bytes, "size": bytes, "what": …, … }, in a capture
 * with "t_us", when its first byte was read, since the first connection; the members
 * by kind are listed in qmig-stream(1). PART sections of one section that follow each other are
 * one entry with their "count", unless @every.
 */
typedef struct {
    void *self;
    void (*entry)(void *self, JsonObject *entry); /* borrowed */
    bool every;
} QmigOutlineSink;

/* Errors: as qmig_reader_run(). Entries come as the reading goes on. */
bool qmig_outline_run(const char *path, const QmigOutlineSink *sink, QmigReaderEnd *end,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
