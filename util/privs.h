/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Giving up the privileges a long-running data path does not need. */
#ifndef QMIG_UTIL_PRIVS_H
#define QMIG_UTIL_PRIVS_H

#include <glib.h>
#include <stdbool.h>

/**
 * qmig_privs_drop() - give up every capability but those for opening other users' sockets
 * @keep_file_access: keep CAP_DAC_OVERRIDE, if held: unix sockets of a QEMU that runs under
 *                    another user are still to be opened
 *
 * Also sets no_new_privs. A process without privileges is left as it is.
 * Threads: before any thread is started: capabilities belong to threads.
 * Errors: IO.
 */
bool qmig_privs_drop(bool keep_file_access, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_privs_become() - be an ordinary user from now on, with its groups and without any capability
 * @user: a name of the user database; root is refused
 *
 * No way leads back: bounding set and no_new_privs see to that. For root only; what only root may
 * open must be open. Threads: before any thread is started. Errors: CONFIG (no such user, not
 * root), IO.
 */
bool qmig_privs_become(const char *user, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
