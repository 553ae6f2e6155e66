/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the gate refused, for its log: a line for each, and no flood of lines. What goes beyond the
 * ceiling of a second is counted, by reason, and told in one line when that second is over: lines and
 * counts together are all that was refused.
 *
 *     refused 192.0.2.7:40123: tls: TLS handshake with 192.0.2.7:40123: it does not speak TLS
 *     refused 873 more in 1 s: 512 tls, 300 closed, 61 timeout; the last from 192.0.2.7
 *
 * Without I/O and without a clock of its own. Threads: one at a time.
 */
#ifndef QMIG_PROXY_LINK_REFUSALS_H
#define QMIG_PROXY_LINK_REFUSALS_H

#include <glib.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

enum { QMIG_REFUSALS_LINES = 20 /* a second */ };

typedef struct QmigRefusals QmigRefusals;

/**
 * qmig_refusals_new() - nothing was refused yet
 * @emit: writes one line, without its end; false: it could not, and the line counts as left out
 */
QmigRefusals *qmig_refusals_new(bool (*emit)(void *data, const char *line), void *data);
void qmig_refusals_free(QmigRefusals *refusals);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigRefusals, qmig_refusals_free)

/* @peer was refused because of @why, whose code is the reason's name. @now_us: qmig_now_us() */
void qmig_refusals_add(QmigRefusals *refusals, const char *peer, const GError *why,
                       int64_t now_us);
/* Tell what was left out, once its second is over; with @at_once: now. */
void qmig_refusals_flush(QmigRefusals *refusals, bool at_once, int64_t now_us);
/* When the next flush has something to tell; INT64_MAX: never. */
int64_t qmig_refusals_due_us(const QmigRefusals *refusals);

uint64_t qmig_refusals_total(const QmigRefusals *refusals);
/* { "tls": 17, … }: all since the beginning. (transfer full) */
struct json_object *qmig_refusals_describe(const QmigRefusals *refusals);

#endif
