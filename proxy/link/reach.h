/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the far end may connect to, and does. */
#ifndef QMIG_PROXY_LINK_REACH_H
#define QMIG_PROXY_LINK_REACH_H

#include "util/address.h"
#include "util/cancel.h"

/**
 * qmig_reach_allowed() - the address that a stream goes to
 * @destination: (nullable) what the far end was told; always allowed
 * @patterns:    (nullable) of g_pattern_match_simple(), matched against qmig_address_to_string();
 *               null-terminated
 * @wanted:      what the near end said; "": @destination
 *
 * No pattern allows a path with "." or "..", nor, where it begins with a digit or "[", a host's name.
 * Errors: CONFIG.
 * Return: (transfer full) the address, or NULL.
 */
QmigAddress *qmig_reach_allowed(const QmigAddress *destination,
                                const char *const *patterns, const char *wanted,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_reach() - connect there
 * @may_come: somebody may be about to listen: ten seconds are tried. A migration's QEMU may; a monitor
 *            or a disk's server is there before anybody asks for it: where it is not, its name is
 *            wrong, and whoever waits gives up sooner than that
 *
 * Errors: of qmig_socket_connect(). Return: a descriptor, owned; -1 with @error.
 */
int qmig_reach(const QmigAddress *address, bool may_come, const QmigCancel *cancel,
               GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
