/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The head of a frame, and its payload: taken or refused as PROTOCOL or LIMIT. What is taken has
 * lengths within the limits, and is what its own writer writes.
 */
#include "proxy/link/frame.h"
#include "tests/fuzz/fuzz.h"
#include "util/error.h"

#include <string.h>

static void
expect_refusal(const GError *error)
{
    g_assert_true(g_error_matches(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL) ||
                  g_error_matches(error, QMIG_ERROR, QMIG_ERROR_LIMIT));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    uint8_t bytes[QMIG_FRAME_HEAD], again[QMIG_FRAME_HEAD];
    QmigFrameHead head;

    if (size < QMIG_FRAME_HEAD) {
        return 0;
    }
    memcpy(bytes, data, sizeof bytes);
    if (!qmig_frame_read_head(bytes, &head, &error)) {
        expect_refusal(error);
        return 0;
    }
    g_assert_cmpuint(head.length, <=, QMIG_FRAME_PAYLOAD_MAX);
    g_assert_cmpuint(head.plain_length, <=, QMIG_FRAME_PAYLOAD_MAX);
    g_assert_cmpuint(head.length, <=, head.plain_length);
    if (head.type <= QMIG_FRAME_REFUSED) {
        g_assert_cmpuint(head.length, <=, QMIG_FRAME_HELLO_MAX);
    }
    if (size - QMIG_FRAME_HEAD < head.length) {
        return 0;
    }
    g_autofree uint8_t *payload = g_memdup2(data + QMIG_FRAME_HEAD, head.length);
    bool whole = qmig_frame_verify(bytes, &head, payload, &error);
    uint64_t sum = head.sum;

    if (!whole) {
        expect_refusal(error);
    }
    qmig_frame_seal(&head, payload, again);
    g_assert_cmpmem(again, QMIG_FRAME_HEAD - sizeof sum, bytes,
                    QMIG_FRAME_HEAD - sizeof sum);
    g_assert_true((head.sum == sum) == whole);
    g_assert_true(qmig_frame_verify(again, &head, payload, NULL));
    return 0;
}
