/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many files and sockets this process may have open. */
#ifndef QMIG_UTIL_DESCRIPTORS_H
#define QMIG_UTIL_DESCRIPTORS_H

/**
 * qmig_descriptors_raise_limit() - as many as the hard limit lets us
 *
 * The soft one, 1024 as a rule, is for programs that use select(). An end of a tunnel has some for each
 * channel of each migration; where they run out, migrations end that were well. What cannot be raised
 * stays.
 */
void qmig_descriptors_raise_limit(void);

#endif
