/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people write: sizes, rates, durations, addresses. */
#include "tests/fuzz/fuzz.h"
#include "util/address.h"
#include "util/error.h"
#include "util/units.h"

static void
check_address(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) address = qmig_address_parse(text, &error);

    if (address == NULL) {
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
        return;
    }
    g_autofree char *again = qmig_address_to_string(address);
    g_autoptr(QmigAddress) same = qmig_address_parse(again, NULL);
    g_assert_nonnull(same);
    g_assert_cmpint(same->kind, ==, address->kind);
    g_assert_cmpstr(same->path, ==, address->path);
    g_assert_cmpstr(same->host, ==, address->host);
    g_assert_cmpuint(same->port, ==, address->port);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool (*const parsers[])(const char *, uint64_t *,
                                   GError **) = { qmig_parse_size, qmig_parse_rate,
                                                  qmig_parse_duration };
    static char *(*const formats[])(uint64_t) = { qmig_format_size, qmig_format_rate,
                                                  qmig_format_duration };
    g_autofree char *text = g_strndup((const char *)data, size);

    for (size_t i = 0; i < G_N_ELEMENTS(parsers); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t value = 0;
        if (parsers[i](text, &value, &error)) {
            g_assert_cmpuint(value, <=, INT64_MAX);
            g_free(formats[i](value));
        } else {
            g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
            g_assert_cmpuint(value, ==, 0);
        }
    }
    check_address(text);
    return 0;
}
