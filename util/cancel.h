/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A flag that can be waited for: an eventfd polled beside the descriptor of every wait. */
#ifndef QMIG_UTIL_CANCEL_H
#define QMIG_UTIL_CANCEL_H

#include "util/clock.h"

#include <glib.h>
#include <stdbool.h>

typedef struct QmigCancel QmigCancel;

/**
 * qmig_cancel_new() - a flag, not yet raised
 *
 * Return: (transfer full) never NULL; the process aborts when descriptors ran out.
 */
QmigCancel *qmig_cancel_new(void);
void qmig_cancel_free(QmigCancel *cancel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigCancel, qmig_cancel_free)

/* Raise the flag, for good. Threads: any; also from a signal handler. */
void qmig_cancel_raise(QmigCancel *cancel);

/* Threads: any. @cancel may be NULL: never raised. */
bool qmig_cancel_is_raised(const QmigCancel *cancel);

/* The descriptor that is readable once the flag is raised; -1 for NULL. */
int qmig_cancel_fd(const QmigCancel *cancel);

/**
 * qmig_wait_fd() - wait until @fd is ready
 * @fd:       descriptor
 * @events:   POLLIN and/or POLLOUT
 * @deadline: when to give up
 * @cancel:   (nullable) ends the wait at once when raised
 *
 * Errors: TIMEOUT, CANCELLED, IO. A hung-up or broken @fd counts as ready: the
 *         following read or write tells what happened.
 */
bool qmig_wait_fd(int fd, short events, QmigDeadline deadline, const QmigCancel *cancel,
                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
