/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kind of a connection: more bytes of the same never contradict an answer. */
#include "proxy/classify.h"
#include "tests/fuzz/fuzz.h"

#include <glib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    QmigFirst answer = { .kind = QMIG_FIRST_NEED_MORE };

    for (size_t len = 0; len <= MIN(size, 2 * QMIG_FIRST_BYTES_MAX); len++) {
        g_autofree uint8_t *copy = g_memdup2(data, len);
        QmigFirst now = qmig_classify(copy, len);

        if (answer.kind != QMIG_FIRST_NEED_MORE) {
            g_assert_cmpint(now.kind, ==, answer.kind);
            g_assert_cmpuint(now.multifd_id, ==, answer.multifd_id);
        }
        if (len >= QMIG_FIRST_BYTES_MAX) {
            g_assert_cmpint(now.kind, !=, QMIG_FIRST_NEED_MORE);
        }
        answer = now;
    }
    return 0;
}
