/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The normal pages of one multifd channel as plain memory, however they travelled. */
#ifndef QMIG_INSPECT_MULTIFD_PAGES_H
#define QMIG_INSPECT_MULTIFD_PAGES_H

#include "stream/qmig-event.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct QmigMultifdPages QmigMultifdPages;

QmigMultifdPages *qmig_multifd_pages_new(void);
void qmig_multifd_pages_free(QmigMultifdPages *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigMultifdPages, qmig_multifd_pages_free)

/**
 * qmig_multifd_pages_take() - the pages in a packet's payload
 * @p:      one for each channel; it must see every packet of the channel, in order
 * @packet: its first `normal_pages` offsets say where the pages go
 * @pages:  (out) normal_pages * page_size bytes, in the order of the offsets; NULL when there
 *          are none. Borrowed: from the packet, or from @p until the next call.
 *
 * Device state has no pages: NULL, and no error.
 * Memory: 512 KiB and a decompression state, once a compressed payload came.
 * Errors: UNSUPPORTED: compressed by hardware (qpl, uadk, qatzip); PROTOCOL: the payload does
 *         not unpack to these pages, or the compression changed. The channel is dead then.
 */
bool qmig_multifd_pages_take(QmigMultifdPages *p,
                             const struct qmig_multifd_packet *packet,
                             const uint8_t **pages,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
