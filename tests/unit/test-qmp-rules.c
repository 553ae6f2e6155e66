/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What goes together in QEMU, and in which. */
#include "qmp/rules.h"

#include <string.h>

enum { ANY = 0, V7_2 = 70222, V9_0 = 90000, V10_0 = 100000, V11_1 = 110103 };

typedef struct {
    GString *fatal, *idle;
} Told;

static void
on_rule(void *data, bool is_fatal, const char *text)
{
    Told *told = data;

    g_string_append_printf(is_fatal ? told->fatal : told->idle, "%s\n", text);
}

static JsonObject *
object(const char *json)
{
    JsonObject *parsed = json_tokener_parse(json);

    g_assert_nonnull(parsed);
    return parsed;
}

/* What is told of these settings. */
static Told
check_present(const char *caps, const char *params, const char *present, unsigned version)
{
    g_autoptr(JsonObject) capabilities = object(caps), parameters = object(params);
    g_autoptr(JsonObject) there = object(present);
    g_autoptr(JsonObject) asked = object("{\"xbzrle\":\"--compressed\"}");
    Told told = { g_string_new(NULL), g_string_new(NULL) };

    qmig_rules_check(capabilities, parameters, there, asked, version, on_rule, &told);
    return told;
}

static void
told_free(Told *told)
{
    g_string_free(told->fatal, TRUE);
    g_string_free(told->idle, TRUE);
}

static void
assert_told(const char *caps, const char *params, unsigned version, const char *fatal,
            const char *idle)
{
    Told told = check_present(caps, params, "{}", version);

    g_assert_cmpstr(told.fatal->str, ==, fatal);
    g_assert_cmpstr(told.idle->str, ==, idle);
    told_free(&told);
}

static void
test_excludes(void)
{
    assert_told("{\"xbzrle\":true,\"multifd\":true}", "{}", ANY,
                "xbzrle (--compressed) does not go with multifd: QEMU sends no deltas "
                "over several connections\n",
                "");
    assert_told("{\"xbzrle\":true,\"multifd\":false}", "{}", ANY, "", "");
    assert_told("{\"zero-copy-send\":true,\"multifd\":true}",
                "{\"multifd-compression\":\"zstd\"}", V11_1,
                "zero-copy-send does not go with multifd-compression: what is compressed "
                "is a copy\n",
                "");
    assert_told("{\"zero-copy-send\":true,\"multifd\":true}",
                "{\"multifd-compression\":\"none\",\"tls-creds\":\"\"}", V11_1, "", "");
}

/* A row may hold for some QEMUs only; not knowing which, only what all of them refuse counts. */
static void
test_versions(void)
{
    static const char both[] = "{\"multifd\":true,\"postcopy-ram\":true}";
    static const char text[] =
        "multifd does not go with postcopy-ram: QEMU can do both at "
        "once since 10.1\n";

    assert_told(both, "{}", V7_2, text, "");
    assert_told(both, "{}", V10_0, text, "");
    assert_told(both, "{}", V11_1, "", "");
    assert_told(both, "{}", ANY, "", "");
}

static void
test_needs(void)
{
    assert_told("{\"release-ram\":true}", "{}", V7_2,
                "release-ram needs postcopy-ram: QEMU frees sent pages in post-copy "
                "only\n",
                "");
    assert_told("{\"release-ram\":true,\"postcopy-ram\":true}", "{}", V7_2, "", "");
    assert_told("{}", "{\"multifd-compression\":\"zstd\"}", V9_0,
                "multifd-compression needs multifd: it compresses what travels on "
                "several connections\n",
                "");
}

/* What does nothing is told, and no reason to refuse. */
static void
test_idle(void)
{
    assert_told("{\"multifd\":true}",
                "{\"multifd-compression\":\"zlib\",\"multifd-zstd-level\":5}", V11_1, "",
                "multifd-zstd-level does nothing without multifd-compression=zstd\n");
    assert_told("{\"multifd\":true}",
                "{\"multifd-compression\":\"zstd\",\"multifd-zstd-level\":5}", V11_1, "",
                "");
}

/* What a parameter is, where it is not asked for. */
static void
test_present(void)
{
    Told told = check_present("{\"zero-copy-send\":true,\"multifd\":true}", "{}",
                              "{\"multifd-compression\":\"zlib\"}", V11_1);

    g_assert_nonnull(strstr(told.fatal->str, "does not go with multifd-compression"));
    told_free(&told);
    told = check_present("{}", "{\"max-cpu-throttle\":10}",
                         "{\"cpu-throttle-initial\":20,\"multifd-channels\":2}", V7_2);
    g_assert_cmpstr(told.fatal->str, ==,
                    "max-cpu-throttle=10% is less than cpu-throttle-initial=20%\n");
    g_assert_null(strstr(told.idle->str, "multifd-channels"));
    told_free(&told);
}

static void
test_values(void)
{
    assert_told("{\"xbzrle\":true}", "{\"xbzrle-cache-size\":65536}", V7_2, "", "");
    assert_told("{\"xbzrle\":true}", "{\"xbzrle-cache-size\":65537}", V7_2,
                "xbzrle-cache-size: 65537 bytes are not a power of two\n", "");
}

/* Every name is one of the table of knobs, and each refusal has its reason. */
static void
test_table(void)
{
    size_t n;
    const QmigRule *rules = qmig_rules(&n);

    g_assert_cmpuint(n, >, 20);
    for (size_t i = 0; i < n; i++) {
        g_autofree char *second = g_strndup(rules[i].second,
                                            strcspn(rules[i].second, "="));

        g_assert_nonnull(qmig_knob_find(rules[i].first));
        g_assert_nonnull(qmig_knob_find(second));
        g_assert_true((rules[i].why == NULL) == (rules[i].kind == QMIG_RULE_IDLE));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rules/what-excludes-each-other-is-fatal", test_excludes);
    g_test_add_func("/rules/hold-for-their-versions", test_versions);
    g_test_add_func("/rules/what-is-needed-and-absent-is-fatal", test_needs);
    g_test_add_func("/rules/what-does-nothing-is-told", test_idle);
    g_test_add_func("/rules/present-parameters-count", test_present);
    g_test_add_func("/rules/values-qemu-refuses", test_values);
    g_test_add_func("/rules/names-are-known-and-have-reasons", test_table);
    return g_test_run();
}
