/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events as lines of text, for golden files and for people. */
#ifndef QMIG_STREAM_DUMP_H
#define QMIG_STREAM_DUMP_H

#include "stream/qmig-event.h"

#include <glib.h>

/**
 * qmig_dump_event() - append one line (with its newline) describing @ev
 * @out: text
 *
 * A payload is given as its length and Adler-32 sum. Pieces of BYTES depend on how the input
 * was split: a caller who wants comparable text joins them first.
 */
void qmig_dump_event(GString *out, const struct qmig_event *ev);

#endif
