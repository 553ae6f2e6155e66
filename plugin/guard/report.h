/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `guard` has seen, and what it says of it: in its report, in an error, in a file. */
#ifndef QMIG_PLUGIN_GUARD_REPORT_H
#define QMIG_PLUGIN_GUARD_REPORT_H

#include "plugin/guard/hold.h"
#include "qmig-plugin.h"

#include <glib.h>
#include <stdbool.h>

typedef struct GuardLog GuardLog;

/* @keep: bytes of the flight recorder; 0: none. */
GuardLog *guard_log_new(size_t keep);
void guard_log_free(GuardLog *log);

/* Each event, before anything is made of it. */
void guard_log_take(GuardLog *log, const struct qmig_event *ev);
bool guard_log_has_begun(const GuardLog *log);

/* Something was refused; or would have been, but is on its way; or device state was not looked at. */
void guard_log_refusal(GuardLog *log, const char *where, const char *text);
void guard_log_late(GuardLog *log, const char *where, const char *text);
void guard_log_unchecked(GuardLog *log, const char *why);

/* Send @hold, a tail with its notes, with a PING in front of each device's section and behind the
   last: the destination answers each when it comes to it. Return: 0 or -1. */
int guard_log_send_probed(GuardLog *log, QmigHold *hold, struct qmig_next *next);

/**
 * guard_log_failed() - it failed: which section was it?
 * @tail_left: device state was sent, or some of it
 * @pong:      value of the destination's last PONG; -1 = none
 */
void guard_log_failed(GuardLog *log, const char *failure, bool tail_left, int64_t pong);

/* The flight recorder into @path, what is known into @path.json. After guard_log_failed(). */
void guard_log_write(GuardLog *log, const char *path);

/* One sentence. After guard_log_failed(). (transfer full) */
char *guard_log_describe(const GuardLog *log);
void guard_log_report(const GuardLog *log, struct qmig_report *report);

#endif
