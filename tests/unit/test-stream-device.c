/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Device state by name: every byte in one value, and what hostile descriptions get. */
#include "stream/bounds.h"
#include "stream/device.h"
#include "util/error.h"

#include <string.h>

/* Descriptions and states are written with ' for " here. */
static char *
quoted(const char *json)
{
    return g_strdelimit(g_strdup(json), "'", '"');
}

/* The state of a device that is described so. */
static JsonObject *
decode(const char *description, const char *data, size_t length, uint64_t *budget,
       GError **error)
{
    g_autofree char *json = quoted(description);
    g_autoptr(JsonObject) described = qmig_description_parse(json, strlen(json), error);

    return described != NULL ? qmig_device_decode(described, (const uint8_t *)data,
                                                  length, budget, error)
                             : NULL;
}

static void
expect_n(const char *description, const char *data, size_t length, const char *want)
{
    uint64_t budget = QMIG_LIMIT_DEVICE_COST;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) state = decode(description, data, length, &budget, &error);
    g_autofree char *wanted = quoted(want);

    g_assert_no_error(error);
    g_assert_cmpstr(json_object_to_json_string_ext(
                        state, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
                    ==, wanted);
}
#define expect(description, data, want) \
    expect_n(description, data, sizeof(data) - 1, want)

static void
expect_error_n(const char *description, const char *data, size_t length, const char *text)
{
    uint64_t budget = QMIG_LIMIT_DEVICE_COST;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) state = decode(description, data, length, &budget, &error);

    g_assert_null(state);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    if (strstr(error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, error->message);
    }
}
#define expect_error(description, data, text) \
    expect_error_n(description, data, sizeof(data) - 1, text)

#define FIELD(type, size) "{'fields':[{'name':'f','type':'" type "','size':" size "}]}"
/* One field of that type holds that value. */
#define VALUE(type, size, data, want)                                               \
    expect(FIELD(type, size), data,                                                 \
           "{'fields':[{'name':'f','type':'" type "','size':" size ",'value':" want \
           "}]}")

static void
test_types(void)
{
    VALUE("bool", "1", "\1", "true");
    VALUE("bool", "1", "\0", "false");
    VALUE("uint8", "1", "\xff", "255");
    VALUE("int8", "1", "\xff", "-1");
    VALUE("uint16", "2", "\x80\x01", "32769");
    VALUE("int16", "2", "\x80\x01", "-32767");
    VALUE("int32 equal", "4", "\xff\xff\xff\xfe", "-2");
    /* "le": less than what is there or equal, not the order of bytes. */
    VALUE("int32 le", "4", "\0\0\0\2", "2");
    VALUE("uint64", "8", "\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615");
    VALUE("int64", "8", "\x80\0\0\0\0\0\0\0", "-9223372036854775808");
    VALUE("timer", "8", "\xff\xff\xff\xff\xff\xff\xff\xff", "-1");
    VALUE("nullptr", "1", "0", "null");
}

static void
test_bytes(void)
{
    VALUE("buffer", "3", "\0\x1a\xff", "'001aff'");
    VALUE("unused_buffer", "0", "", "''");
    VALUE("bitmap", "8", "\0\0\0\0\0\0\0\7", "'0000000000000007'");
    VALUE("pci config", "2", "\x12\x34", "'1234'");
    VALUE("qtailq", "1", "\0", "'00'");
    /* A QEMU to come; a byte that is no mark of an unset pointer. */
    VALUE("int128", "16", "0123456789abcdef", "'30313233343536373839616263646566'");
    VALUE("nullptr", "1", "1", "'31'");
    VALUE("bool", "2", "\0\1", "'0001'");
}

static void
test_arrays(void)
{
    static const char three[] =
        "{'fields':[{'name':'a','type':'uint8','size':1,'values':[1,2,3]}]}";

    expect("{'fields':[{'name':'a','array_len':3,'type':'uint8','size':1}]}", "\1\2\3",
           three);
    /* Piecewise, as QEMU 7.2 and later ones do. */
    expect("{'fields':[{'name':'a','index':0,'type':'uint8','size':1},"
           "{'name':'a','index':1,'type':'uint8','size':1},"
           "{'name':'a','type':'uint8','size':1}]}",
           "\1\2\3", three);
    expect("{'fields':[{'name':'a','type':'uint8','size':1},"
           "{'name':'a','array_len':2,'type':'uint8','size':1}]}",
           "\1\2\3", three);
    expect("{'fields':[{'name':'a','array_len':1,'type':'uint8','size':1}]}", "\1",
           "{'fields':[{'name':'a','type':'uint8','size':1,'values':[1]}]}");
    expect("{'fields':[{'name':'a','type':'uint8','size':1},"
           "{'name':'a','type':'uint16','size':2}]}",
           "\1\2\3",
           "{'fields':[{'name':'a','type':'uint8','size':1,'value':1},"
           "{'name':'a','type':'uint16','size':2,'value':515}]}");
}

static void
test_pointers(void)
{
    expect("{'fields':[{'name':'p','type':'nullptr','array_len':2,'size':1},"
           "{'name':'p','type':'struct','size':1,'struct':{'fields':["
           "{'name':'x','type':'uint8','size':1}]}},"
           "{'name':'p','type':'nullptr','size':1}]}",
           "00\7"
           "0",
           "{'fields':[{'name':'p','type':'struct','size':1,'values':[null,null,"
           "{'fields':[{'name':'x','type':'uint8','size':1,'value':7}]},null]}]}");
}

#define INNER "'fields':[{'name':'x','type':'uint8','size':1}]"

static void
test_nested(void)
{
    expect("{'fields':[{'name':'s','type':'struct','size':1,'struct':{'vmsd_name':'i',"
           "'version':1," INNER "}}]}",
           "\7",
           "{'fields':[{'name':'s','type':'struct','size':1,'value':{'fields':["
           "{'name':'x','type':'uint8','size':1,'value':7}]}}]}");
    /* What QEMU describes right in the field. */
    expect("{'fields':[{'name':'t','type':'tmp','vmsd_name':'i',"
           "'version':1," INNER ",'size':1}]}",
           "\7",
           "{'fields':[{'name':'t','type':'tmp','size':1,'value':{'fields':["
           "{'name':'x','type':'uint8','size':1,'value':7}]}}]}");
    /* Of a list's elements only the last is described. */
    expect("{'fields':[{'name':'q','type':'qtailq','vmsd_name':'i'," INNER "," INNER
           ",'size':5}]}",
           "\1\7\1\x08\0",
           "{'fields':[{'name':'q','type':'qtailq','size':5,'value':'0107010800'}]}");
}

#define SUBSECTION \
    "{'fields':[],'subsections':[{'vmsd_name':'d/s','version':2," INNER "}]}"

static void
test_subsections(void)
{
    expect(SUBSECTION, "\5\3d/s\0\0\0\2\7",
           "{'fields':[],'subsections':[{'fields':[{'name':'x','type':'uint8','size':1,"
           "'value':7}],'name':'d/s','version':2}]}");
    expect_error(SUBSECTION, "\5\3d/t\0\0\0\2\7",
                 "field \"d/s\" at byte 0: no subsection");
    expect_error(SUBSECTION, "\6\3d/s\0\0\0\2\7", "no subsection of this name");
    expect_error(SUBSECTION, "\5\3d/s\0\0", "no subsection of this name");
    expect_error(SUBSECTION, "\5\3d/s\0\0\0\2",
                 "field \"x\" at byte 9: its size is beyond");
    expect_error("{'subsections':[{}]}", "\5", "no subsection of this name");
}

static void
test_hostile(void)
{
    expect_error(FIELD("uint8", "2"), "\1", "beyond the section's end");
    expect_error(FIELD("uint8", "1"), "\1\2",
                 "1 of the section's 2 bytes are in no field");
    expect_error(FIELD("buffer", "-1"), "\1", "beyond the section's end");
    expect_error(FIELD("buffer", "9223372036854775807"), "\1",
                 "beyond the section's end");
    expect_error(FIELD("buffer", "18446744073709551617"), "\1",
                 "beyond the section's end");
    expect_error(FIELD("buffer", "'1'"), "\1", "beyond the section's end");
    expect_error("{'fields':[{'type':'uint8','size':1}]}", "\1", "it has no name");
    expect_error("{'fields':[{'name':1,'type':'uint8','size':1}]}", "\1",
                 "it has no name");
    expect_error("{'fields':[1,[],null]}", "\1", "it has no name");
    expect_error("{'fields':[{'name':'a','array_len':-1,'type':'uint8','size':2}]}", "\1",
                 "beyond the section's end");
    expect_error("{'fields':[{'name':'s','type':'struct','size':2,'struct':{" INNER
                 "}}]}",
                 "\1\2", "does not have the size that is told");
    expect_error("{'fields':[{'name':'s','type':'struct','size':0,'struct':{" INNER
                 "}}]}",
                 "\1\2", "does not have the size that is told");
    expect_error("[]", "", "description");
    expect_error("{'fields':[", "", "description");
    expect_error("", "", "description");
}

/* What is described costs memory even where it has no bytes: that is bounded, for all devices. */
static void
test_budget(void)
{
    static const char endless[] =
        "{'fields':[{'name':'a','array_len':4611686018427387904,'type':'buffer','size':0}]}";
    uint64_t budget = 100;
    g_autoptr(GError) error = NULL;

    g_assert_null(decode(endless, "", 0, &budget, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
    g_clear_error(&error);
    g_assert_null(decode(FIELD("uint8", "1"), "\1", 1, &budget, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
}

static void
test_deep(void)
{
    g_autoptr(GString) json = g_string_new("");

    for (int i = 0; i < 100000; i++) {
        g_string_append(json, "{'fields':[{'name':'s','type':'struct','struct':");
    }
    expect_error(json->str, "", "description: nesting");
}

/* Three bytes of text that take 800 of memory, and five that take 100. */
static void
test_dense(void)
{
    static const char *const units[] = { "{},", "1e10," };

    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        g_autoptr(GString) json = g_string_new("{\"devices\":[");
        g_autoptr(GError) error = NULL;

        while (json->len < QMIG_LIMIT_TAIL - 100) {
            g_string_append(json, units[i]);
        }
        g_string_append(json, "0]}");
        g_assert_null(qmig_description_parse(json->str, json->len, &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
    }
}

static void
test_index(void)
{
    g_autofree char *json = quoted(
        "{'devices':[{'name':'dma','instance_id':0,'version':1},1,{},"
        "{'name':'dma','instance_id':1,'version':2},{'name':'1 dma','version':3}]}");
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject)
        description = qmig_description_parse(json, strlen(json), &error);
    g_assert_no_error(error);
    g_autoptr(GHashTable) index = qmig_description_index(description);
    g_autoptr(GHashTable) empty = qmig_description_index(NULL);
    JsonObject *device = qmig_description_device(index, "dma", 1);

    g_assert_cmpint(json_object_get_int(json_object_object_get(device, "version")), ==,
                    2);
    device = qmig_description_device(index, "1 dma", 0);
    g_assert_cmpint(json_object_get_int(json_object_object_get(device, "version")), ==,
                    3);
    g_assert_null(qmig_description_device(index, "dma", 2));
    g_assert_null(qmig_description_device(empty, "dma", 0));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/device/each-type-has-its-value", test_types);
    g_test_add_func("/device/what-has-no-type-of-ours-is-bytes", test_bytes);
    g_test_add_func("/device/pieces-of-an-array-are-one", test_arrays);
    g_test_add_func("/device/pointers-that-are-not-set-are-null", test_pointers);
    g_test_add_func("/device/structures-are-read-by-name", test_nested);
    g_test_add_func("/device/subsections-are-read-and-checked", test_subsections);
    g_test_add_func("/device/what-does-not-fit-is-rejected-with-its-place", test_hostile);
    g_test_add_func("/device/values-without-bytes-are-bounded", test_budget);
    g_test_add_func("/device/deep-descriptions-are-refused", test_deep);
    g_test_add_func("/device/descriptions-that-take-much-memory-are-refused", test_dense);
    g_test_add_func("/device/devices-are-found-by-name-and-instance", test_index);
    return g_test_run();
}
