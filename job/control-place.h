/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making the socket of control.h; its directory is found by qmig_control_directory(). */
#ifndef QMIG_JOB_CONTROL_PLACE_H
#define QMIG_JOB_CONTROL_PLACE_H

#include <glib.h>
#include <stdbool.h>

/* Make the directory if need be, and sweep it. Errors: IO; STATE: it is not this user's alone. */
bool qmig_control_make_directory(const char *path,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Listen there, mode 0600; takes a dead process's place. Return: an owned descriptor, or -1. */
int qmig_control_listen(const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
