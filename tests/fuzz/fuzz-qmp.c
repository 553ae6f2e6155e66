/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines of a QMP peer: the same objects at any split. */
#include "qmp/framer.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/memory.h"
#include "tests/lib/split.h"
#include "util/error.h"

/* An object of JSON takes some 800 bytes, for "{}," in the text. */
enum { MEMORY = 64 << 10, FACTOR = 300 };

static char *
read_all(const uint8_t *data, size_t size, bool split)
{
    g_autoptr(QmigQmpFramer) framer = qmig_qmp_framer_new();
    GString *text = g_string_new(NULL);
    Split pieces = split_new(data, size, split);
    size_t at, n;

    while (split_next(&pieces, &at, &n)) {
        g_autoptr(GError) error = NULL;
        g_autofree uint8_t *piece = g_memdup2(data + at, n);
        JsonObject *object = NULL;
        bool ok = qmig_qmp_framer_push(framer, piece, n, &error);

        g_assert_no_error(error);
        g_assert_true(ok);
        while ((ok = qmig_qmp_framer_next(framer, &object, &error)) && object != NULL) {
            g_string_append(text, json_object_to_json_string(object));
            g_string_append_c(text, '\n');
            json_object_put(object);
        }
        if (!ok) {
            g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
            g_string_append(text, error->message);
            break;
        }
    }
    return g_string_free(text, FALSE);
}

static void
check_memory(const uint8_t *data, size_t size)
{
    JsonObject *object = NULL;

    memory_start();
    g_autoptr(QmigQmpFramer) framer = qmig_qmp_framer_new();
    bool ok = qmig_qmp_framer_push(framer, data, size, NULL);
    while (ok && qmig_qmp_framer_next(framer, &object, NULL) && object != NULL) {
        json_object_put(object);
    }
    g_assert_cmpuint(memory_peak(), <=, MEMORY + FACTOR * size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *whole = read_all(data, size, false);
    g_autofree char *pieces = read_all(data, size, true);

    g_assert_cmpstr(whole, ==, pieces);
    check_memory(data, size);
    return 0;
}
