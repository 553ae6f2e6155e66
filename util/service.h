/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What systemd and a service it starts say to each other: sd_listen_fds(3), sd_notify(3). */
#ifndef QMIG_UTIL_SERVICE_H
#define QMIG_UTIL_SERVICE_H

#include <glib.h>
#include <stdbool.h>

/**
 * qmig_service_socket() - the listening socket this process was started with
 *
 * Exactly one is taken; close-on-exec and non-blocking from now on. The environment that tells of it
 * is removed, so that no child thinks it is meant. Threads: before any is started.
 * Errors: CONFIG: none was given, several, or one that does not listen.
 * Return: an owned descriptor, or -1.
 */
int qmig_service_socket(GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_service_notify() - tell who started this process how it stands
 * @state: lines as of sd_notify(3): "READY=1"
 *
 * Nobody who wants to know, and nobody who hears: both are all right. Never waits.
 */
void qmig_service_notify(const char *state);

#endif
