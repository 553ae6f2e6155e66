/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device state by name: a description of one section, a NUL, the section's bytes. */
#include "stream/bounds.h"
#include "stream/device.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/memory.h"
#include "util/error.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t json_len = end != NULL ? (size_t)(end - data) : size;
    size_t len = end != NULL ? size - json_len - 1 : 0;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject)
        described = qmig_description_parse((const char *)data, json_len, &error);

    if (described == NULL) {
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
        return 0;
    }
    g_autofree uint8_t *state = g_memdup2(data + size - len, len);
    uint64_t budget = QMIG_LIMIT_DEVICE_COST;
    g_autoptr(JsonObject)
        decoded = qmig_device_decode(described, state, len, &budget, &error);
    g_assert_cmpint(decoded == NULL, ==, error != NULL);
    if (decoded != NULL) {
        g_assert_nonnull(json_object_to_json_string(decoded));
    }
    return 0;
}
