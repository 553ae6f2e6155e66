/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers with units, read and written. */
#include "util/error.h"
#include "util/units.h"

typedef bool (*Parse)(const char *text, uint64_t *value, GError **error);

static void
test_read(void)
{
    static const struct {
        Parse parse;
        const char *text;
        uint64_t value;
    } rows[] = {
        { qmig_parse_size, "0", 0 },
        { qmig_parse_size, "4096", 4096 },
        { qmig_parse_size, "64K", 64 << 10 },
        { qmig_parse_size, "500MiB", 500 << 20 },
        { qmig_parse_size, "1.5GiB", UINT64_C(3) << 29 },
        { qmig_parse_size, "10G", UINT64_C(10) << 30 },
        { qmig_parse_size, "10 GB", UINT64_C(10000000000) },
        { qmig_parse_size, "3kB", 3000 },
        { qmig_parse_rate, "1.5Gbit", 187500000 },
        { qmig_parse_rate, "800Mbit/s", 100000000 },
        { qmig_parse_rate, "100MiB/s", 100 << 20 },
        { qmig_parse_rate, "100M", 100 << 20 },
        { qmig_parse_duration, "300", 300 },
        { qmig_parse_duration, "300ms", 300 },
        { qmig_parse_duration, "1.5s", 1500 },
        { qmig_parse_duration, "10m", 600000 },
        { qmig_parse_duration, "1h", 3600000 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t value = 1;

        g_assert_true(rows[i].parse(rows[i].text, &value, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(value, ==, rows[i].value);
    }
}

static void
test_refuse(void)
{
    static const struct {
        Parse parse;
        const char *text;
    } rows[] = {
        { qmig_parse_size, "" },         { qmig_parse_size, "M" },
        { qmig_parse_size, "-1" },       { qmig_parse_size, "+1" },
        { qmig_parse_size, "1X" },       { qmig_parse_size, "1M/s" },
        { qmig_parse_size, "inf" },      { qmig_parse_size, "nan" },
        { qmig_parse_size, "9000000T" }, { qmig_parse_size, " 1" },
        { qmig_parse_rate, "/s" },       { qmig_parse_rate, "1Mbit/h" },
        { qmig_parse_duration, "5d" },   { qmig_parse_duration, "1,5s" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t value = 4711;

        g_assert_false(rows[i].parse(rows[i].text, &value, &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
        g_assert_cmpuint(value, ==, 4711);
    }
}

typedef char *(*Format)(uint64_t value);

static void
test_write(void)
{
    static const struct {
        Format format;
        uint64_t value;
        const char *text;
    } rows[] = {
        { qmig_format_size, 0, "0 B" },
        { qmig_format_size, 1023, "1023 B" },
        { qmig_format_size, 4096, "4.00 KiB" },
        { qmig_format_size, UINT64_C(3) << 29, "1.50 GiB" },
        { qmig_format_rate, 117500000, "940 Mbit/s" },
        { qmig_format_rate, 1176250000, "9.41 Gbit/s" },
        { qmig_format_duration, 3, "3 ms" },
        { qmig_format_duration, 1420, "1.42 s" },
        { qmig_format_duration, 125000, "2 min 05 s" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = rows[i].format(rows[i].value);
        g_assert_cmpstr(text, ==, rows[i].text);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/units/what-people-write-is-read", test_read);
    g_test_add_func("/units/anything-else-is-refused", test_refuse);
    g_test_add_func("/units/numbers-are-written-for-people", test_write);
    return g_test_run();
}
