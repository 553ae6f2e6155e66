/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts of users become the numbers QEMU wants; what a QEMU lacks is told before it is sent. */
#include "qmp/knobs.h"
#include "util/error.h"

#include <string.h>

/* A QEMU that has a few known knobs and some of its own. */
static QmigSchema *
some_schema(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) entries = json_tokener_parse(
        "[{\"name\":\"migrate-set-capabilities\",\"meta-type\":\"command\",\"arg-type\":\"2\"},"
        "{\"name\":\"migrate-set-parameters\",\"meta-type\":\"command\",\"arg-type\":\"7\"},"
        "{\"name\":\"2\",\"meta-type\":\"object\",\"members\":["
        "{\"name\":\"capabilities\",\"type\":\"[8]\"}]},"
        "{\"name\":\"[8]\",\"meta-type\":\"array\",\"element-type\":\"8\"},"
        "{\"name\":\"8\",\"meta-type\":\"object\",\"members\":["
        "{\"name\":\"capability\",\"type\":\"9\"}]},"
        "{\"name\":\"9\",\"meta-type\":\"enum\",\"values\":[\"multifd\",\"warp\"]},"
        "{\"name\":\"7\",\"meta-type\":\"object\",\"members\":["
        "{\"name\":\"max-bandwidth\",\"type\":\"int\"},"
        "{\"name\":\"multifd-compression\",\"type\":\"5\"},"
        "{\"name\":\"warp-factor\",\"type\":\"int\"},"
        "{\"name\":\"warp-field\",\"type\":\"number\"},"
        "{\"name\":\"warp-core\",\"type\":\"2\"}]},"
        "{\"name\":\"number\",\"meta-type\":\"builtin\",\"json-type\":\"number\"},"
        "{\"name\":\"5\",\"meta-type\":\"enum\",\"values\":[\"none\",\"zstd\"]},"
        "{\"name\":\"int\",\"meta-type\":\"builtin\",\"json-type\":\"int\"}]");
    QmigSchema *s = qmig_schema_new(entries, &error);

    g_assert_no_error(error);
    return s;
}

static void
test_values(void)
{
    static const struct {
        const char *name, *text, *json;
    } rows[] = {
        { "max-bandwidth", "1.5Gbit", "187500000" },
        { "max-bandwidth", "128MiB/s", "134217728" },
        { "max-bandwidth", "0", "0" },
        { "downtime-limit", "300ms", "300" },
        { "downtime-limit", "2s", "2000" },
        { "xbzrle-cache-size", "64MiB", "67108864" },
        { "cpu-throttle-initial", "20%", "20" },
        { "cpu-throttle-initial", "20", "20" },
        { "vcpu-dirty-limit", "100", "100" },
        { "vcpu-dirty-limit", "100MiB/s", "100" },
        { "multifd-channels", "255", "255" },
        { "multifd", "on", "true" },
        { "multifd", "off", "false" },
        { "direct-io", "yes", "true" },
        { "tls-creds", "", "\"\"" },
        { "tls-creds", "tls0", "\"tls0\"" },
        { "mode", "normal", "\"normal\"" },
        { "cpr-exec-command", "[\"qemu\",\"-S\"]", "[\"qemu\",\"-S\"]" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonObject)
            value = qmig_knob_parse_value(rows[i].name, rows[i].text, NULL, &error);

        g_assert_no_error(error);
        g_assert_cmpstr(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN), ==,
                        rows[i].json);
    }
}

static void
test_bad_values(void)
{
    static const struct {
        const char *name, *text;
    } rows[] = {
        { "max-bandwidth", "fast" },       { "max-bandwidth", "-1" },
        { "downtime-limit", "2000001ms" }, { "multifd-channels", "0" },
        { "multifd-channels", "256" },     { "multifd-channels", "2.5" },
        { "multifd-channels", "" },        { "cpu-throttle-initial", "100%" },
        { "cpu-throttle-initial", "%" },   { "multifd", "maybe" },
        { "cpr-exec-command", "{}" },      { "cpr-exec-command", "[" },
        { "no-such-knob", "1" },           { "vcpu-dirty-limit", "0" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(qmig_knob_parse_value(rows[i].name, rows[i].text, NULL, &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
        g_assert_true(g_str_has_prefix(error->message, rows[i].name));
    }
}

static void
check_with_schema(const char *name, const char *text, const char *json, int code)
{
    g_autoptr(QmigSchema) s = some_schema();
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) value = qmig_knob_parse_value(name, text, s, &error);

    if (json == NULL) {
        g_assert_error(error, QMIG_ERROR, code);
        g_assert_null(value);
        return;
    }
    g_assert_no_error(error);
    g_assert_cmpstr(json_object_to_json_string(value), ==, json);
}

static void
test_schema(void)
{
    check_with_schema("max-bandwidth", "1M", "1048576", 0);
    check_with_schema("multifd-compression", "zstd", "\"zstd\"", 0);
    check_with_schema("multifd-compression", "qpl", NULL, QMIG_ERROR_CONFIG);
    check_with_schema("downtime-limit", "300ms", NULL, QMIG_ERROR_UNSUPPORTED);
    check_with_schema("compress", "on", NULL, QMIG_ERROR_UNSUPPORTED);
}

static void
test_newer_qemu(void)
{
    check_with_schema("warp", "on", "true", 0);
    check_with_schema("warp-factor", "9", "9", 0);
    check_with_schema("warp-factor", "-9", "-9", 0);
    check_with_schema("warp-factor", "1.5", NULL, QMIG_ERROR_CONFIG);
    check_with_schema("warp-field", "1.5", "1.5", 0);
    check_with_schema("warp-field", "1.5x", NULL, QMIG_ERROR_CONFIG);
    check_with_schema("warp-field", "inf", NULL, QMIG_ERROR_CONFIG);
    check_with_schema("warp-field", "", NULL, QMIG_ERROR_CONFIG);
    check_with_schema("warp-factor", "fast", NULL, QMIG_ERROR_CONFIG);
    check_with_schema("warp-core", "x", NULL, QMIG_ERROR_UNSUPPORTED);
    check_with_schema("warp-speed", "9", NULL, QMIG_ERROR_CONFIG);
}

static void
test_check(void)
{
    static const struct {
        QmigKnobKind kind;
        const char *name, *message; /* NULL: this QEMU has it */
    } rows[] = {
        { QMIG_KNOB_CAPABILITY, "multifd", NULL },
        { QMIG_KNOB_CAPABILITY, "warp", NULL },
        { QMIG_KNOB_PARAMETER, "block-bitmap-mapping", NULL },
        { QMIG_KNOB_CAPABILITY, "compress",
          "destination: capability compress: this QEMU lacks it (removed in 9.1): "
          "use multifd with multifd-compression (--comp-methods zstd or zlib)" },
        { QMIG_KNOB_CAPABILITY, "switchover-ack",
          "destination: capability switchover-ack: this QEMU lacks it (new in 8.1)" },
        { QMIG_KNOB_PARAMETER, "compress",
          "destination: parameter compress: this QEMU lacks it" },
        { QMIG_KNOB_PARAMETER, "warp-speed",
          "destination: parameter warp-speed: this QEMU lacks it" },
    };
    g_autoptr(JsonObject)
        have = json_tokener_parse("{\"multifd\": false, \"warp\": true}");

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        bool ok = qmig_knob_check(rows[i].kind, rows[i].name, have, "destination",
                                  &error);

        g_assert_true(ok == (rows[i].message == NULL));
        g_assert_cmpstr(error != NULL ? error->message : NULL, ==, rows[i].message);
        g_assert_true(ok || error->code == QMIG_ERROR_UNSUPPORTED);
    }
    g_assert_false(
        qmig_knob_check(QMIG_KNOB_CAPABILITY, "multifd", NULL, "source", NULL));
}

/* What a side lacks is told the same way by the schema. */
static void
test_lack(void)
{
    g_autoptr(QmigSchema) s = some_schema();
    g_autoptr(GError) error = NULL;

    g_assert_null(qmig_knob_parse_value("dirty-limit", "on", s, &error));
    g_assert_cmpstr(error->message, ==,
                    "dirty-limit: this QEMU lacks it (new in 8.1): use auto-converge");
}

static const QmigKnobEntry *
entry_of(GPtrArray *entries, const char *name)
{
    for (guint i = 0; i < entries->len; i++) {
        const QmigKnobEntry *entry = g_ptr_array_index(entries, i);
        if (strcmp(entry->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

static void
test_entries(void)
{
    g_autoptr(QmigSchema) s = some_schema();
    g_autoptr(GPtrArray) entries = qmig_knob_entries(s);
    size_t n;

    (void)qmig_knobs(&n);
    g_assert_cmpuint(entries->len, ==, n + 4);
    g_assert_true(entry_of(entries, "multifd")->is_offered);
    g_assert_false(entry_of(entries, "xbzrle")->is_offered);
    g_assert_null(entry_of(entries, "warp")->knob);
    g_assert_cmpint(entry_of(entries, "warp")->kind, ==, QMIG_KNOB_CAPABILITY);
    g_assert_null(entry_of(entries, "warp-factor")->knob);
    g_assert_true(entry_of(entries, "warp-factor")->is_offered);
}

/* Every row has its texts, no name comes twice, and every default is one its own parser takes. */
static void
test_table(void)
{
    size_t n;
    const QmigKnob *knobs = qmig_knobs(&n);

    for (size_t i = 0; i < n; i++) {
        g_autoptr(GError) error = NULL;

        g_assert_true(qmig_knob_find(knobs[i].name) == &knobs[i]);
        g_assert_cmpuint(strlen(knobs[i].help), >, 0);
        if (knobs[i].type != QMIG_KNOB_JSON) {
            g_autoptr(JsonObject) value = qmig_knob_parse_value(
                knobs[i].name, knobs[i].default_value, NULL, &error);
            g_assert_no_error(error);
            g_assert_nonnull(value);
        }
    }
}

static void
test_format(void)
{
    static const struct {
        const char *name, *json, *text;
    } rows[] = {
        { "max-bandwidth", "125000000", "1.00 Gbit/s" },
        { "downtime-limit", "300", "300 ms" },
        { "cpu-throttle-initial", "20", "20%" },
        { "multifd", "true", "on" },
        { "multifd-compression", "\"none\"", "none" },
        { "multifd-channels", "2", "2" },
        { "warp-factor", "-9", "-9" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(JsonObject) value = json_tokener_parse(rows[i].json);
        g_autofree char *text = qmig_knob_format_value(rows[i].name, value);

        g_assert_cmpstr(text, ==, rows[i].text);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/knobs/texts-become-numbers-of-qemus-unit", test_values);
    g_test_add_func("/knobs/bad-texts-name-the-knob", test_bad_values);
    g_test_add_func("/knobs/what-this-qemu-lacks-is-unsupported", test_schema);
    g_test_add_func("/knobs/a-check-names-side-versions-and-substitute", test_check);
    g_test_add_func("/knobs/a-schema-names-versions-and-substitute", test_lack);
    g_test_add_func("/knobs/a-newer-qemus-knob-is-read-by-its-type", test_newer_qemu);
    g_test_add_func("/knobs/a-newer-qemus-knob-is-listed", test_entries);
    g_test_add_func("/knobs/the-table-is-consistent", test_table);
    g_test_add_func("/knobs/values-are-shown-with-units", test_format);
    return g_test_run();
}
