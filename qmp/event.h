/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One QMP event, and the bounded queue where events wait to be fetched. */
#ifndef QMIG_QMP_EVENT_H
#define QMIG_QMP_EVENT_H

#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *name;           /* "MIGRATION"; owned */
    JsonObject *data;     /* an object, empty when QEMU sent none; owned */
    int64_t timestamp_us; /* QEMU's wall clock, since the epoch; -1 = it had none */
    int64_t arrival_us;   /* CLOCK_MONOTONIC of this process, when its bytes were read */
} QmigQmpEvent;

/* (transfer full) event, or NULL when @object is not a well-formed event. */
QmigQmpEvent *qmig_qmp_event_new(JsonObject *object, int64_t arrival_us);
void qmig_qmp_event_free(QmigQmpEvent *event);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigQmpEvent, qmig_qmp_event_free)

/* Is it an event a migration is decided on? Those are the last to be dropped. */
bool qmig_qmp_event_is_of_interest(const QmigQmpEvent *event);

typedef struct QmigQmpEvents QmigQmpEvents;

/**
 * qmig_qmp_events_new() - an empty queue
 * @max_events: events kept
 * @max_bytes:  bytes of their JSON text kept
 *
 * First in, first out, with two exceptions. Of MIGRATION_PASS, which QEMU may send thousands
 * of times per second, only the latest stays, at the place where it came. When the queue is
 * full, the oldest event of no interest is dropped and counted; if there is none, the oldest.
 * Return: (transfer full)
 */
QmigQmpEvents *qmig_qmp_events_new(size_t max_events, size_t max_bytes);
void qmig_qmp_events_free(QmigQmpEvents *events);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigQmpEvents, qmig_qmp_events_free)

/* @event is consumed; @size are the bytes of its JSON text. */
void qmig_qmp_events_push(QmigQmpEvents *events, QmigQmpEvent *event, size_t size);
/* (transfer full) the first event, or NULL. */
QmigQmpEvent *qmig_qmp_events_pop(QmigQmpEvents *events);
bool qmig_qmp_events_is_empty(const QmigQmpEvents *events);
/* Events dropped since the start; MIGRATION_PASS that gave way to a later one do not count. */
uint64_t qmig_qmp_events_n_dropped(const QmigQmpEvents *events);

#endif
