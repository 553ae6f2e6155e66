/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading query-migrate: of old and new QEMUs, and of one that tells nonsense. */
#include "qmp/commands.h"

static void
parse(QmigMigrationInfo *info, const char *text)
{
    g_autoptr(JsonObject) reply = json_tokener_parse(text);

    g_assert_nonnull(reply);
    qmig_migration_info_parse(info, reply);
}

static void
test_empty(void)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    parse(&info, "{}");
    g_assert_cmpint(info.status, ==, QMIG_STATUS_NONE);
    g_assert_cmpstr(info.status_text, ==, "none");
    g_assert_null(info.error);
    g_assert_null(info.blocked);
    g_assert_null(info.socket_address);
    g_assert_cmpuint(info.total, ==, 0);
}

static void
test_active(void)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    parse(&info,
          "{\"status\": \"active\", \"expected-downtime\": 301, \"setup-time\": 4,"
          "\"total-time\": 1234, \"cpu-throttle-percentage\": 30, \"ram\": {"
          "\"total\": 1082990592, \"transferred\": 12345678901, \"remaining\": 4096,"
          "\"mbps\": 941.5, \"normal\": 7, \"duplicate\": 9, \"page-size\": 4096,"
          "\"dirty-pages-rate\": 11, \"dirty-sync-count\": 3}}");
    g_assert_cmpint(info.status, ==, QMIG_STATUS_ACTIVE);
    g_assert_cmpuint(info.transferred, ==, UINT64_C(12345678901));
    g_assert_cmpuint(info.remaining, ==, 4096);
    g_assert_cmpuint(info.total, ==, 1082990592);
    g_assert_cmpfloat(info.mbps, ==, 941.5);
    g_assert_cmpuint(info.normal, ==, 7);
    g_assert_cmpuint(info.duplicate, ==, 9);
    g_assert_cmpuint(info.page_size, ==, 4096);
    g_assert_cmpuint(info.dirty_rate, ==, 11);
    g_assert_cmpuint(info.iterations, ==, 3);
    g_assert_cmpuint(info.expected_downtime_ms, ==, 301);
    g_assert_cmpuint(info.setup_ms, ==, 4);
    g_assert_cmpuint(info.total_ms, ==, 1234);
    g_assert_cmpuint(info.throttle_percent, ==, 30);
}

/* Recorded from QEMU 7.2.22. */
static void
test_completed_of_7_2(void)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    parse(
        &info,
        "{\"status\": \"completed\", \"setup-time\": 3, \"downtime\": 4,"
        "\"total-time\": 27, \"ram\": {\"total\": 67641344, \"postcopy-requests\": 0,"
        "\"dirty-sync-count\": 2, \"multifd-bytes\": 0, \"pages-per-second\": 0,"
        "\"downtime-bytes\": 357563, \"page-size\": 4096, \"remaining\": 0,"
        "\"postcopy-bytes\": 0, \"mbps\": 144.59666666666666, \"transferred\": 357563,"
        "\"dirty-sync-missed-zero-copy\": 0, \"precopy-bytes\": 0, \"duplicate\": 16463,"
        "\"dirty-pages-rate\": 0, \"skipped\": 0, \"normal-bytes\": 208896, \"normal\": 51}}");
    g_assert_cmpint(info.status, ==, QMIG_STATUS_COMPLETED);
    g_assert_cmpuint(info.downtime_ms, ==, 4);
    g_assert_cmpuint(info.expected_downtime_ms, ==, 0);
    g_assert_cmpuint(info.transferred, ==, 357563);
    g_assert_cmpuint(info.duplicate + info.normal, ==, 16463 + 51);
    g_assert_cmpfloat(info.mbps, >, 144.5);
}

/* As QEMU 11.1 tells: no "skipped", more statistics, a "remaining" that also counts devices,
 * and a failure on its way that is not yet one. */
static void
test_failing_of_11_1(void)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    parse(&info,
          "{\"status\": \"failing\", \"error-desc\": \"Unable to write to socket\","
          "\"total-time\": 812, \"setup-time\": 2, \"expected-downtime\": 300,"
          "\"remaining\": 9000, \"vfio\": {\"transferred\": 7},"
          "\"ram\": {\"total\": 67641344, \"remaining\": 4096, \"transferred\": 5}}");
    g_assert_cmpint(info.status, ==, QMIG_STATUS_UNKNOWN);
    g_assert_false(qmig_status_is_final(info.status));
    g_assert_cmpstr(info.status_text, ==, "failing");
    g_assert_cmpstr(info.error, ==, "Unable to write to socket");
    g_assert_cmpuint(info.remaining, ==, 4096);
    g_assert_cmpuint(info.transferred, ==, 5);
}

static void
test_failed(void)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    parse(&info, "{\"status\": \"failed\", \"error-desc\": \"no route\","
                 "\"blocked-reasons\": [\"one\", \"two\"]}");
    g_assert_cmpint(info.status, ==, QMIG_STATUS_FAILED);
    g_assert_cmpstr(info.error, ==, "no route");
    g_assert_cmpstr(info.blocked, ==, "one; two");
}

static void
test_address(void)
{
    g_auto(QmigMigrationInfo) inet = { 0 };
    g_auto(QmigMigrationInfo) local = { 0 };
    g_auto(QmigMigrationInfo) odd = { 0 };

    parse(&inet, "{\"socket-address\": [{\"type\": \"inet\", \"host\": \"::1\","
                 "\"port\": \"49152\"}]}");
    g_assert_cmpstr(inet.socket_address->host, ==, "::1");
    g_assert_cmpuint(inet.socket_address->port, ==, 49152);
    parse(&local, "{\"socket-address\": [{\"type\": \"unix\", \"path\": \"/x\"}]}");
    g_assert_cmpstr(local.socket_address->path, ==, "/x");
    parse(&odd, "{\"socket-address\": [{\"type\": \"inet\", \"host\": \"h\","
                "\"port\": \"70000\"}]}");
    g_assert_null(odd.socket_address);
}

static void
test_statuses(void)
{
    static const struct {
        const char *text;
        QmigMigrationStatus status;
        bool is_final;
    } rows[] = {
        { "setup", QMIG_STATUS_SETUP, false },
        { "wait-unplug", QMIG_STATUS_SETUP, false },
        { "pre-switchover", QMIG_STATUS_PRE_SWITCHOVER, false },
        { "device", QMIG_STATUS_DEVICE, false },
        { "postcopy-active", QMIG_STATUS_POSTCOPY, false },
        { "postcopy-device", QMIG_STATUS_POSTCOPY, false },
        { "postcopy-recover-setup", QMIG_STATUS_POSTCOPY, false },
        { "cancelling", QMIG_STATUS_CANCELLING, false },
        { "cancelled", QMIG_STATUS_CANCELLED, true },
        { "failed", QMIG_STATUS_FAILED, true },
        { "completed", QMIG_STATUS_COMPLETED, true },
        { "failing", QMIG_STATUS_UNKNOWN, false },
        { "teleporting", QMIG_STATUS_UNKNOWN, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpint(qmig_status_parse(rows[i].text), ==, rows[i].status);
        g_assert_true(qmig_status_is_final(rows[i].status) == rows[i].is_final);
    }
}

static void
test_nonsense(void)
{
    static const char *const texts[] = {
        "{\"status\": 7, \"ram\": [], \"total-time\": \"long\"}",
        "{\"ram\": {\"total\": -1, \"mbps\": \"fast\"}, \"error-desc\": {}}",
        "{\"socket-address\": {}, \"blocked-reasons\": \"x\"}",
        "{\"socket-address\": [1], \"blocked-reasons\": [1, null, {}]}",
        "{\"socket-address\": [], \"blocked-reasons\": []}",
        "[]",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_auto(QmigMigrationInfo) info = { 0 };

        parse(&info, texts[i]);
        g_assert_cmpint(info.status, ==, QMIG_STATUS_NONE);
        g_assert_cmpuint(info.total, ==, 0);
        g_assert_null(info.socket_address);
        g_assert_null(info.blocked);
    }
}

static void
test_doubles(void)
{
    g_autoptr(JsonObject) object = json_tokener_parse(
        "{\"real\": 1.5, \"whole\": 3, \"nan\": NaN, \"huge\": Infinity, \"text\": \"2\"}");

    g_assert_cmpfloat(qmig_json_double(object, "real", 0.5), ==, 1.5);
    g_assert_cmpfloat(qmig_json_double(object, "whole", 0.5), ==, 3);
    g_assert_cmpfloat(qmig_json_double(object, "nan", 0.5), ==, 0.5);
    g_assert_cmpfloat(qmig_json_double(object, "huge", 0.5), ==, 0.5);
    g_assert_cmpfloat(qmig_json_double(object, "text", 0.5), ==, 0.5);
    g_assert_cmpfloat(qmig_json_double(object, "absent", 0.5), ==, 0.5);
    g_assert_cmpfloat(qmig_json_double(NULL, "absent", -1e300), ==, -1e300);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/migration-info/nothing-yet-is-none", test_empty);
    g_test_add_func("/migration-info/numbers-arrive-in-their-members", test_active);
    g_test_add_func("/migration-info/a-recorded-end-of-7.2-is-read",
                    test_completed_of_7_2);
    g_test_add_func("/migration-info/a-failing-11.1-is-in-progress",
                    test_failing_of_11_1);
    g_test_add_func("/migration-info/a-failure-has-its-reasons", test_failed);
    g_test_add_func("/migration-info/a-destination-tells-where-it-listens", test_address);
    g_test_add_func("/migration-info/an-unknown-status-is-in-progress", test_statuses);
    g_test_add_func("/migration-info/nonsense-counts-as-absent", test_nonsense);
    g_test_add_func("/json/what-is-no-finite-number-is-the-fallback", test_doubles);
    return g_test_run();
}
