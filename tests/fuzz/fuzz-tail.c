/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A whole tail: sections, EOF, description. Each device it finds lies inside and is read by
 * name, every byte once.
 */
#include "stream/bounds.h"
#include "stream/device.h"
#include "stream/tail.h"
#include "tests/fuzz/fuzz.h"
#include "util/error.h"

#include <string.h>

/* Where the description's head is: what the length behind it fits. */
static bool
find_eof(const uint8_t *data, size_t size, size_t *at)
{
    for (*at = 0; *at + 6 <= size; ++*at) {
        const uint8_t *p = data + *at;
        size_t n = (size_t)p[2] << 24 | (size_t)p[3] << 16 | (size_t)p[4] << 8 | p[5];

        if (p[0] == 0 && p[1] == 6 && n == size - *at - 6) {
            return true;
        }
    }
    return false;
}

static void
check_devices(const uint8_t *data, const QmigTail *tail)
{
    g_autoptr(JsonObject) description = qmig_description_parse(
        (const char *)data + tail->json, tail->json_len, NULL);
    g_autoptr(GHashTable) index = qmig_description_index(description);
    uint64_t budget = QMIG_LIMIT_DEVICE_COST;

    for (guint i = 0; i < tail->devices->len; i++) {
        const QmigTailDevice *device = &g_array_index(tail->devices, QmigTailDevice, i);
        g_autoptr(GError) error = NULL;

        g_assert_cmpuint(device->start + device->length, <=, tail->json);
        JsonObject *described = qmig_description_device(index, device->name,
                                                        device->instance);
        if (described == NULL) {
            continue;
        }
        g_autofree uint8_t *copy = g_memdup2(data + device->start, device->length);
        g_autoptr(JsonObject)
            state = qmig_device_decode(described, copy, device->length, &budget, &error);
        g_assert_cmpint(state == NULL, ==, error != NULL);
        if (state != NULL) {
            g_assert_nonnull(json_object_to_json_string(state));
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t eof_at;

    if (!find_eof(data, size, &eof_at)) {
        return 0;
    }
    for (int footers = 0; footers < 2; footers++) {
        g_autoptr(GError) error = NULL;
        QmigTail tail;

        if (qmig_tail_parse(data, eof_at, size, footers, &tail, &error)) {
            check_devices(data, &tail);
            qmig_tail_clear(&tail);
        } else {
            g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
        }
    }
    return 0;
}
