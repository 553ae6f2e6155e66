/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A multifd channel, its packets, and the pages inside them. */
#include "inspect/multifd-pages.h"
#include "stream/multifd.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/stream-check.h"
#include "util/error.h"

static void
read_pages(const uint8_t *data, size_t size)
{
    g_autoptr(QmigMultifdDecoder) d = qmig_multifd_decoder_new();
    g_autoptr(QmigMultifdPages) pages = qmig_multifd_pages_new();
    g_autoptr(GError) error = NULL;
    struct qmig_event ev;

    qmig_multifd_decoder_push(d, data, size);
    while (qmig_multifd_decoder_next(d, &ev, NULL) == QMIG_DECODE_EVENT) {
        const uint8_t *out;

        if (ev.kind != QMIG_EVENT_MULTIFD_PACKET) {
            continue;
        }
        const struct qmig_multifd_packet *packet = ev.u.multifd_packet.packet;
        if (!qmig_multifd_pages_take(pages, packet, &out, &error)) {
            g_assert_nonnull(error);
            return;
        }
        fuzz_touch(out, out != NULL ? packet->normal_pages * packet->page_size : 0);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    stream_check(&stream_multifd, data, size);
    read_pages(data, size);
    return 0;
}
