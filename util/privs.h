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

#endif
