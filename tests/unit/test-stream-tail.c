/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Splitting device state: only what description, heads and footers agree on. */
#include "stream/tail.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"

#include <string.h>

static void
tail_clear(QmigTail *tail)
{
    qmig_tail_clear(tail);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigTail, tail_clear)

static GByteArray *
make_tail(size_t state_length, const char *json, uint32_t json_length)
{
    GByteArray *s = g_byte_array_new();

    put_u8(s, 0x04);
    put_be32(s, 3);
    put_cstr(s, "dev");
    put_be32(s, 1);
    put_be32(s, 5);
    /* State that looks like the end of a stream must not mislead. */
    put_u8(s, 0x00);
    put_u8(s, 0x06);
    put_be32(s, 2);
    put_text(s, "{}");
    put_pattern(s, state_length - 8, 0);
    put_footer(s, 3);
    put_u8(s, 0x00);
    put_u8(s, 0x06);
    put_be32(s, json_length);
    put_text(s, json);
    return s;
}

/* Where a tail of make_tail() has its EOF byte. */
static size_t
eof_at(const GByteArray *s, size_t json_len)
{
    return s->len - json_len - 6;
}

#define DESCRIBED(size)                                                                  \
    "{\"devices\":[{\"name\":\"early\",\"instance_id\":0,\"size\":5},{\"name\":\"dev\"," \
    "\"instance_id\":1,\"fields\":[{\"name\":\"x\",\"size\":" size "}]}]}"

static void
test_split(void)
{
    static const char json[] = DESCRIBED("100");
    g_autoptr(GByteArray) s = make_tail(100, json, sizeof json - 1);
    g_autoptr(GError) error = NULL;
    g_auto(QmigTail) tail = { 0 };

    g_assert_true(qmig_tail_parse(s->data, eof_at(s, sizeof json - 1), s->len, true,
                                  &tail, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(tail.devices->len, ==, 1);
    QmigTailDevice *device = &g_array_index(tail.devices, QmigTailDevice, 0);
    g_assert_cmpstr(device->name, ==, "dev");
    g_assert_cmpuint(device->instance, ==, 1);
    g_assert_cmpuint(device->version, ==, 5);
    g_assert_cmpuint(device->section_id, ==, 3);
    g_assert_cmpuint(device->length, ==, 100);
    g_assert_cmpmem(s->data + tail.json, tail.json_len, json, sizeof json - 1);
}

static void
expect_error(const char *json, const char *text)
{
    uint32_t json_len = (uint32_t)strlen(json);
    g_autoptr(GByteArray) s = make_tail(100, json, json_len);
    g_autoptr(GError) error = NULL;
    g_auto(QmigTail) tail = { 0 };

    g_assert_false(
        qmig_tail_parse(s->data, eof_at(s, json_len), s->len, true, &tail, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    if (strstr(error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, error->message);
    }
}

static void
test_bad(void)
{
    expect_error(DESCRIBED("99"), "section \"dev\" at byte 0");
    expect_error(DESCRIBED("9223372036854775807"), "section \"dev\" at byte 0");
    expect_error(DESCRIBED("-1"), "section \"dev\" at byte 0");
    expect_error("{\"devices\":[]}", "in no described section");
    expect_error("{\"devices\":[}", "description:");
}

/* A description nested without end must not exhaust the stack. */
static void
test_deep(void)
{
    g_autoptr(GString) json = g_string_new("{\"devices\":[");

    for (int i = 0; i < 100000; i++) {
        g_string_append(json, "{\"subsections\":[");
    }
    expect_error(json->str, "description: nesting");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tail/sections-are-split-as-described", test_split);
    g_test_add_func("/tail/what-does-not-match-is-rejected-with-its-place", test_bad);
    g_test_add_func("/tail/deep-descriptions-are-refused", test_deep);
    return g_test_run();
}
