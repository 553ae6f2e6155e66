/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses as users write them, and back. */
#include "util/address.h"
#include "util/error.h"

#include <string.h>

static void
test_round_trip(void)
{
    static const struct {
        const char *text, *again;
    } rows[] = {
        { "unix:/run/x", "unix:/run/x" },     { "/run/x", "unix:/run/x" },
        { "unix:relative", "unix:relative" }, { "tcp:host:4444", "tcp:host:4444" },
        { "tcp:[::1]:0", "tcp:[::1]:0" },     { "tcp::4444", "tcp::4444" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(QmigAddress) address = qmig_address_parse(rows[i].text, &error);

        g_assert_no_error(error);
        g_autoptr(QmigAddress) copy = qmig_address_copy(address);
        g_autofree char *text = qmig_address_to_string(copy);
        g_assert_cmpstr(text, ==, rows[i].again);
    }
}

static void
test_v6(void)
{
    g_autoptr(QmigAddress) address = qmig_address_parse("tcp:[fe80::1]:65535", NULL);

    g_assert_cmpstr(address->host, ==, "fe80::1");
    g_assert_cmpuint(address->port, ==, 65535);
}

static void
test_refuse(void)
{
    g_autofree char *name = g_strnfill(200, 'x');
    g_autofree char *path = g_strconcat("unix:/", name, NULL);
    const char *const texts[] = {
        "",           "tcp:[[]]:1",    "tcp:[host]:1", "host",
        "tcp:host",   "tcp:host:",     "tcp:host:-1",  "tcp:host:65536",
        "tcp:::1:44", "tcp:host:http", "unix:",        path
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(qmig_address_parse(texts[i], &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/address/is-written-as-it-was-read", test_round_trip);
    g_test_add_func("/address/brackets-of-ipv6-are-no-part-of-the-host", test_v6);
    g_test_add_func("/address/anything-else-is-refused", test_refuse);
    return g_test_run();
}
