/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the far end may connect to. Pure. */
#ifndef QMIG_PROXY_LINK_ALLOW_H
#define QMIG_PROXY_LINK_ALLOW_H

#include "util/address.h"

/**
 * qmig_allow() - the address that a stream goes to
 * @destination: (nullable) what the far end was told; always allowed
 * @patterns:    (nullable) of g_pattern_match_simple(), matched against qmig_address_to_string();
 *               null-terminated
 * @wanted:      what the near end said; "": @destination
 *
 * No pattern allows a path with "." or "..", nor, where it begins with a digit or "[", a host's name.
 * Errors: CONFIG.
 * Return: (transfer full) the address, or NULL.
 */
QmigAddress *qmig_allow(const QmigAddress *destination, const char *const *patterns,
                        const char *wanted, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
