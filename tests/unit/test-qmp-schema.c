/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Feature tests, on pieces of a recorded schema and on schemas that lie. */
#include "qmp/schema.h"
#include "util/error.h"

/* From query-qmp-schema of QEMU 10.0, cut down; types keep their made-up names. */
static const char recorded[] =
    "[{\"name\":\"migrate\",\"meta-type\":\"command\",\"arg-type\":\"1\",\"ret-type\":\"0\"},"
    "{\"name\":\"yank\",\"meta-type\":\"command\",\"arg-type\":\"0\",\"ret-type\":\"0\","
    "\"allow-oob\":true},"
    "{\"name\":\"migrate-set-capabilities\",\"meta-type\":\"command\",\"arg-type\":\"2\"},"
    "{\"name\":\"migrate-set-parameters\",\"meta-type\":\"command\",\"arg-type\":\"7\"},"
    "{\"name\":\"MIGRATION\",\"meta-type\":\"event\",\"arg-type\":\"0\"},"
    "{\"name\":\"0\",\"meta-type\":\"object\",\"members\":[]},"
    "{\"name\":\"1\",\"meta-type\":\"object\",\"members\":["
    "{\"name\":\"uri\",\"default\":null,\"type\":\"str\"},"
    "{\"name\":\"channels\",\"default\":null,\"type\":\"[3]\"}]},"
    "{\"name\":\"[3]\",\"meta-type\":\"array\",\"element-type\":\"3\"},"
    "{\"name\":\"3\",\"meta-type\":\"object\",\"members\":[{\"name\":\"addr\",\"type\":\"4\"}]},"
    "{\"name\":\"4\",\"meta-type\":\"object\",\"tag\":\"transport\",\"members\":["
    "{\"name\":\"transport\",\"type\":\"5\"}],\"variants\":["
    "{\"case\":\"exec\",\"type\":\"0\"},{\"case\":\"file\",\"type\":\"6\"}]},"
    "{\"name\":\"5\",\"meta-type\":\"enum\",\"values\":[\"socket\",\"exec\",\"file\"],"
    "\"members\":[{\"name\":\"socket\"},{\"name\":\"exec\"},{\"name\":\"file\"}]},"
    "{\"name\":\"6\",\"meta-type\":\"object\",\"members\":[{\"name\":\"offset\",\"type\":\"int\"}]},"
    "{\"name\":\"2\",\"meta-type\":\"object\",\"members\":["
    "{\"name\":\"capabilities\",\"type\":\"[8]\"}]},"
    "{\"name\":\"[8]\",\"meta-type\":\"array\",\"element-type\":\"8\"},"
    "{\"name\":\"8\",\"meta-type\":\"object\",\"members\":["
    "{\"name\":\"capability\",\"type\":\"9\"},{\"name\":\"state\",\"type\":\"bool\"}]},"
    "{\"name\":\"9\",\"meta-type\":\"enum\",\"values\":[\"xbzrle\",\"multifd\"]},"
    "{\"name\":\"7\",\"meta-type\":\"object\",\"members\":["
    "{\"name\":\"max-bandwidth\",\"type\":\"int\"},{\"name\":\"tls-creds\",\"type\":\"10\"},"
    "{\"name\":\"direct-io\",\"type\":\"bool\"},{\"name\":\"mode\",\"type\":\"9\"}]},"
    "{\"name\":\"10\",\"meta-type\":\"alternate\",\"members\":[{\"type\":\"null\"},"
    "{\"type\":\"str\"}]},"
    "{\"name\":\"str\",\"meta-type\":\"builtin\",\"json-type\":\"string\"},"
    "{\"name\":\"null\",\"meta-type\":\"builtin\",\"json-type\":\"null\"},"
    "{\"name\":\"int\",\"meta-type\":\"builtin\",\"json-type\":\"int\"},"
    "{\"name\":\"bool\",\"meta-type\":\"builtin\",\"json-type\":\"boolean\"}]";

static QmigSchema *
schema_of(const char *text, GError **error)
{
    g_autoptr(JsonObject) entries = json_tokener_parse(text);

    g_assert_nonnull(entries);
    return qmig_schema_new(entries, error);
}

static QmigSchema *
recorded_schema(void)
{
    g_autoptr(GError) error = NULL;
    QmigSchema *s = schema_of(recorded, &error);

    g_assert_no_error(error);
    return s;
}

static void
test_names(void)
{
    g_autoptr(QmigSchema) s = recorded_schema();

    g_assert_true(qmig_schema_has_command(s, "migrate"));
    g_assert_false(qmig_schema_has_command(s, "migrate-recover"));
    g_assert_false(qmig_schema_has_command(s, "MIGRATION"));
    g_assert_true(qmig_schema_has_event(s, "MIGRATION"));
    g_assert_false(qmig_schema_has_event(s, "migrate"));
    g_assert_true(qmig_schema_command_has_oob(s, "yank"));
    g_assert_false(qmig_schema_command_has_oob(s, "migrate"));
    g_assert_false(qmig_schema_command_has_oob(s, "no-such"));
}

static void
test_paths(void)
{
    g_autoptr(QmigSchema) s = recorded_schema();

    g_assert_true(qmig_schema_command_has_arg(s, "migrate", "uri"));
    g_assert_true(qmig_schema_command_has_arg(s, "migrate", "channels"));
    g_assert_true(qmig_schema_command_has_arg(s, "migrate", "channels.addr.transport"));
    g_assert_true(qmig_schema_command_has_arg(s, "migrate", "channels.addr.offset"));
    g_assert_false(qmig_schema_command_has_arg(s, "migrate", "detach"));
    g_assert_false(qmig_schema_command_has_arg(s, "migrate", "channels.uri"));
    g_assert_false(qmig_schema_command_has_arg(s, "migrate", "uri.x"));
    g_assert_false(qmig_schema_command_has_arg(s, "migrate", ""));
    g_assert_false(qmig_schema_command_has_arg(s, "migrate", "chan"));
}

static void
test_enums(void)
{
    g_autoptr(QmigSchema) s = recorded_schema();
    const char *path = "channels.addr.transport";

    g_assert_true(qmig_schema_command_arg_enum_has(s, "migrate", path, "file"));
    g_assert_false(qmig_schema_command_arg_enum_has(s, "migrate", path, "rdma"));
    g_assert_false(qmig_schema_command_arg_enum_has(s, "migrate", "uri", "file"));
}

static void
test_knob_lists(void)
{
    g_autoptr(QmigSchema) s = recorded_schema();
    g_auto(GStrv) parameters = qmig_schema_parameters(s);
    g_auto(GStrv) capabilities = qmig_schema_capabilities(s);

    g_assert_cmpuint(g_strv_length(parameters), ==, 4);
    g_assert_cmpstr(parameters[1], ==, "tls-creds");
    g_assert_cmpuint(g_strv_length(capabilities), ==, 2);
    g_assert_true(qmig_schema_has_capability(s, "multifd"));
    g_assert_false(qmig_schema_has_capability(s, "compress"));
    g_assert_true(qmig_schema_has_parameter(s, "direct-io"));
    g_assert_false(qmig_schema_has_parameter(s, "xbzrle"));
}

static void
test_types(void)
{
    g_autoptr(QmigSchema) s = recorded_schema();
    static const struct {
        const char *name;
        QmigSchemaType type;
    } rows[] = {
        { "max-bandwidth", QMIG_SCHEMA_INT }, { "tls-creds", QMIG_SCHEMA_STRING },
        { "direct-io", QMIG_SCHEMA_BOOL },    { "mode", QMIG_SCHEMA_ENUM },
        { "no-such", QMIG_SCHEMA_NONE },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpint(
            qmig_schema_command_arg_type(s, "migrate-set-parameters", rows[i].name), ==,
            rows[i].type);
    }
    g_assert_cmpint(qmig_schema_command_arg_type(s, "migrate", "channels"), ==,
                    QMIG_SCHEMA_ARRAY);
}

/* Types that are missing, or refer to themselves, are "no", and an end. */
static void
test_liars(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigSchema) s = schema_of(
        "[{\"name\":\"x\",\"meta-type\":\"command\",\"arg-type\":\"loop\"},"
        "{\"name\":\"y\",\"meta-type\":\"command\",\"arg-type\":\"gone\"},"
        "{\"name\":\"z\",\"meta-type\":\"command\",\"arg-type\":7},"
        "{\"name\":\"loop\",\"meta-type\":\"array\",\"element-type\":\"loop\"}]",
        &error);

    g_assert_no_error(error);
    g_assert_false(qmig_schema_command_has_arg(s, "x", "a"));
    g_assert_false(qmig_schema_command_has_arg(s, "y", "a"));
    g_assert_false(qmig_schema_command_has_arg(s, "z", "a"));
}

/* Every type has all types as branches: 30 types must not take 30^30 steps. */
static void
test_breadth(void)
{
    const int n = 30;
    g_autoptr(GString) text = g_string_new(
        "[{\"name\":\"x\",\"meta-type\":\"command\",\"arg-type\":\"0\"}");
    g_autoptr(GError) error = NULL;

    for (int type = 0; type < n; type++) {
        g_string_append_printf(text,
                               ",{\"name\":\"%d\",\"meta-type\":\"object\","
                               "\"members\":[],\"variants\":[",
                               type);
        for (int branch = 0; branch < n; branch++) {
            g_string_append_printf(text, "%s{\"type\":\"%d\"}", branch > 0 ? "," : "",
                                   branch);
        }
        g_string_append(text, "]}");
    }
    g_string_append(text, "]");
    g_autoptr(QmigSchema) s = schema_of(text->str, &error);
    g_assert_no_error(error);
    g_assert_false(qmig_schema_command_has_arg(s, "x", "a"));
    g_assert_false(qmig_schema_command_has_arg(s, "x", "a.b.c"));
}

/* A chain of types must not take a stack as deep as it is long. */
static void
test_chain(void)
{
    const int n = 300000;
    g_autoptr(GString) text = g_string_new(
        "[{\"name\":\"x\",\"meta-type\":\"command\",\"arg-type\":\"0\"}");
    g_autoptr(GError) error = NULL;

    for (int type = 0; type < n; type++) {
        g_string_append_printf(text,
                               ",{\"name\":\"%d\",\"meta-type\":\"object\","
                               "\"members\":[],\"variants\":[{\"type\":\"%d\"}]}",
                               type, type + 1);
    }
    g_string_append(text, "]");
    g_autoptr(QmigSchema) s = schema_of(text->str, &error);
    g_assert_no_error(error);
    g_assert_false(qmig_schema_command_has_arg(s, "x", "a"));
}

static void
test_malformed(void)
{
    static const char *const texts[] = { "{}", "[1]", "[{\"name\":\"x\"}]",
                                         "[{\"name\":1,\"meta-type\":\"enum\"}]" };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(schema_of(texts[i], &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/schema/commands-and-events-are-told-apart", test_names);
    g_test_add_func("/schema/paths-go-through-arrays-and-unions", test_paths);
    g_test_add_func("/schema/enums-have-their-values-only", test_enums);
    g_test_add_func("/schema/capabilities-and-parameters-are-listed", test_knob_lists);
    g_test_add_func("/schema/arguments-have-types", test_types);
    g_test_add_func("/schema/loops-and-missing-types-are-no", test_liars);
    g_test_add_func("/schema/types-that-all-refer-to-all-end", test_breadth);
    g_test_add_func("/schema/a-long-chain-of-types-is-no", test_chain);
    g_test_add_func("/schema/malformed-entries-are-a-protocol-error", test_malformed);
    return g_test_run();
}
