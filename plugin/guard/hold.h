/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events that wait, in order. */
#ifndef QMIG_PLUGIN_GUARD_HOLD_H
#define QMIG_PLUGIN_GUARD_HOLD_H

#include "qmig-plugin.h"

#include <glib.h>

typedef struct QmigHold QmigHold;

QmigHold *qmig_hold_new(void);
void qmig_hold_free(QmigHold *h);

/* Add a copy. */
void qmig_hold_add(QmigHold *h, const struct qmig_event *ev);
/* What the copies take, bytes. */
size_t qmig_hold_bytes(const QmigHold *h);
/* The copies, const struct qmig_event *; borrowed. */
const GPtrArray *qmig_hold_events(const QmigHold *h);

void qmig_hold_drop(QmigHold *h);
/* Hand all of them on, and forget them when the caller's `event` returns. Return: 0 or -1. */
int qmig_hold_send(QmigHold *h, struct qmig_next *next);

#endif
