/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Splitting device state without a description: what has two readings is not given out. */
#include "stream/package.h"
#include "tests/lib/sample-stream.h"

static void
put_section(GByteArray *s, uint32_t id, const char *name, const void *state, size_t len)
{
    put_u8(s, 0x04);
    put_be32(s, id);
    put_cstr(s, name);
    put_be32(s, 0);
    put_be32(s, 1);
    g_byte_array_append(s, state, (guint)len);
    put_footer(s, id);
}

static void
put_ping(GByteArray *s)
{
    put_u8(s, 0x08);
    put_be16(s, 2);
    put_be16(s, 4);
    put_be32(s, 3);
}

static void
expect_item(GArray *items, guint i, size_t start, size_t end)
{
    const QmigPackageItem *item = &g_array_index(items, QmigPackageItem, i);

    g_assert_cmpuint(item->start, ==, start);
    g_assert_cmpuint(item->end, ==, end);
}

static void
test_plain(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new();
    size_t cuts[5] = { 0 };

    put_section(s, 1, "timer", "\x04\x7e\x08 state", 9);
    cuts[1] = s->len;
    put_ping(s);
    cuts[2] = s->len;
    put_section(s, 7, "empty", "", 0);
    cuts[3] = s->len;
    put_section(s, 2, "cpu", "\x7e\x00\x00\x00\x02", 5); /* its own footer inside */
    cuts[4] = s->len;
    g_autoptr(GArray) items = qmig_package_split(s->data, s->len);
    g_assert_cmpuint(items->len, ==, 4);
    for (guint i = 0; i < 4; i++) {
        expect_item(items, i, cuts[i], cuts[i + 1]);
    }
}

/* A section that contains a whole other one after its own footer: two readings. */
static void
test_ambiguous(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new(), inner = g_byte_array_new();

    put_text(inner, "abc");
    put_footer(inner, 5);
    put_section(inner, 6, "inner", "xyz", 3);
    put_u8(inner, 0x04);
    put_be32(inner, 8);
    put_cstr(inner, "tail");
    put_be32(inner, 0);
    put_be32(inner, 1);
    /* …whose footer is 5's: so 8 has none, and the only reading is the long one. */
    put_ping(s);
    size_t first = s->len;
    put_section(s, 5, "outer", inner->data, inner->len);
    size_t second = s->len;
    put_ping(s);
    g_autoptr(GArray) items = qmig_package_split(s->data, s->len);
    g_assert_cmpuint(items->len, ==, 3);
    expect_item(items, 1, first, second);

    /* The same with "tail" ending by itself: 5 may end early or late. */
    put_footer(inner, 8);
    g_byte_array_set_size(s, (guint)first);
    put_section(s, 5, "outer", inner->data, inner->len);
    g_byte_array_set_size(s, s->len - 5);
    put_u8(s, 0x04);
    put_be32(s, 5);
    put_cstr(s, "last");
    put_be32(s, 0);
    put_be32(s, 1);
    put_footer(s, 5);
    second = s->len;
    put_ping(s);
    g_autoptr(GArray) again = qmig_package_split(s->data, s->len);
    g_assert_cmpuint(again->len, ==, 2);
    expect_item(again, 0, 0, first);
    expect_item(again, 1, second, second + 9);
}

static void
test_no_reading(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    put_section(s, 1, "timer", "state", 5);
    put_text(s, "more");
    g_autoptr(GArray) items = qmig_package_split(s->data, s->len);
    g_assert_cmpuint(items->len, ==, 0);
    g_autoptr(GArray) none = qmig_package_split(s->data, 0);
    g_assert_cmpuint(none->len, ==, 0);
}

/* Work stays linear where every byte could begin a section or end one. */
static void
test_hostile(void)
{
    g_autoptr(GByteArray) s = g_byte_array_new();

    for (int i = 0; i < 200000; i++) {
        put_section(s, 0x04040404, "\x20", "\x04\x04", 2);
    }
    g_autoptr(GArray) items = qmig_package_split(s->data, s->len);
    /* Each section of the one id may end at any later footer: only the whole is certain. */
    g_assert_cmpuint(items->len, ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/package/sections-and-commands-are-split", test_plain);
    g_test_add_func("/package/what-has-two-readings-is-not-proven", test_ambiguous);
    g_test_add_func("/package/without-a-reading-nothing-is-given", test_no_reading);
    g_test_add_func("/package/hostile-bytes-cost-linear-time", test_hostile);
    return g_test_run();
}
