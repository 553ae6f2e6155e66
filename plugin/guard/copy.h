/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events that outlive the call that brought them: with all they point to but blocks. */
#ifndef QMIG_PLUGIN_GUARD_COPY_H
#define QMIG_PLUGIN_GUARD_COPY_H

#include "stream/qmig-event.h"

#include <stddef.h>

/* Bytes that a copy of @ev takes, a multiple of 16. For events of the main channel. */
size_t qmig_copy_size(const struct qmig_event *ev);

/* The copy, in @memory: qmig_copy_size() bytes, aligned to 16. */
struct qmig_event *qmig_copy_into(void *memory, const struct qmig_event *ev);

#endif
