/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cursor and writer: all or nothing at every length, and each reads what the other wrote. */
#include "util/cursor.h"
#include "util/writer.h"

static void
test_big_endian(void)
{
    static const uint8_t bytes[] = { 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                     0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f };
    QmigCursor c = qmig_cursor(bytes, sizeof bytes);
    uint8_t a = 0;
    uint16_t b = 0;
    uint32_t d = 0;
    uint64_t e = 0;

    g_assert_true(qmig_cursor_u8(&c, &a) && qmig_cursor_be16(&c, &b) &&
                  qmig_cursor_be32(&c, &d) && qmig_cursor_be64(&c, &e));
    g_assert_cmphex(a, ==, 0x01);
    g_assert_cmphex(b, ==, 0x0203);
    g_assert_cmphex(d, ==, 0x04050607);
    g_assert_cmphex(e, ==, UINT64_C(0x08090a0b0c0d0e0f));
    g_assert_cmpuint(qmig_cursor_left(&c), ==, 0);
}

/* A getter that lacks one byte moves nothing and writes nothing. */
static void
test_short(void)
{
    static const uint8_t bytes[8] = { 3, 'a', 'b' };
    const uint8_t *p = bytes;
    char text[256] = "old";
    uint8_t n = 99;
    uint16_t b = 99;
    uint32_t d = 99;
    uint64_t e = 99;
    QmigCursor none = qmig_cursor(bytes, 0), c1 = qmig_cursor(bytes, 1);
    QmigCursor c3 = qmig_cursor(bytes, 3), c7 = qmig_cursor(bytes, 7);

    g_assert_false(qmig_cursor_u8(&none, &n));
    g_assert_false(qmig_cursor_be16(&c1, &b));
    g_assert_false(qmig_cursor_be32(&c3, &d));
    g_assert_false(qmig_cursor_be64(&c7, &e));
    g_assert_false(qmig_cursor_bytes(&c7, 8, &p));
    g_assert_false(qmig_cursor_skip(&c7, SIZE_MAX));
    g_assert_false(qmig_cursor_cstr(&c3, text, &n));
    g_assert_true(n == 99 && b == 99 && d == 99 && e == 99 && p == bytes);
    g_assert_cmpstr(text, ==, "old");
    g_assert_true(qmig_cursor_left(&c1) == 1 && qmig_cursor_left(&c3) == 3 &&
                  qmig_cursor_left(&c7) == 7);
}

static void
test_counted_string(void)
{
    uint8_t bytes[256] = { 255 };
    char text[256];
    uint8_t n = 0;

    memset(bytes + 1, 'x', 255);
    QmigCursor c = qmig_cursor(bytes, sizeof bytes);
    g_assert_true(qmig_cursor_cstr(&c, text, &n));
    g_assert_cmpuint(n, ==, 255);
    g_assert_cmpuint(strlen(text), ==, 255);
}

static bool
write_all(QmigWriter *w)
{
    return qmig_writer_u8(w, 1) && qmig_writer_be16(w, 0x0203) &&
           qmig_writer_be32(w, 0x04050607) &&
           qmig_writer_be64(w, UINT64_C(0x08090a0b0c0d0e0f)) &&
           qmig_writer_cstr(w, "ram", 3) && qmig_writer_bytes(w, "", 0);
}

/* In storage of any size less than needed the writer says no, and stays inside it. */
static void
test_writer_full(void)
{
    const size_t needed = 1 + 2 + 4 + 8 + 4;

    for (size_t cap = 0; cap <= needed; cap++) {
        uint8_t buf[32];
        memset(buf, 0xee, sizeof buf);
        QmigWriter w = qmig_writer(buf, cap);

        g_assert_true(write_all(&w) == (cap == needed));
        g_assert_cmpuint(w.len, <=, cap);
        for (size_t i = w.len; i < sizeof buf; i++) {
            g_assert_cmphex(buf[i], ==, 0xee);
        }
    }
}

static void
test_round_trip(void)
{
    uint8_t buf[32];
    QmigWriter w = qmig_writer(buf, sizeof buf);
    uint32_t d = 0;
    char text[256];
    uint8_t n = 0;

    g_assert_true(write_all(&w));
    QmigCursor c = qmig_cursor(buf, w.len);
    g_assert_true(qmig_cursor_skip(&c, 3) && qmig_cursor_be32(&c, &d) &&
                  qmig_cursor_skip(&c, 8) && qmig_cursor_cstr(&c, text, &n));
    g_assert_cmphex(d, ==, 0x04050607);
    g_assert_cmpstr(text, ==, "ram");
    g_assert_cmpuint(qmig_cursor_left(&c), ==, 0);
}

static void
test_long_string(void)
{
    uint8_t buf[512];
    char text[300] = { 0 };
    QmigWriter w = qmig_writer(buf, sizeof buf);

    g_assert_false(qmig_writer_cstr(&w, text, 256));
    g_assert_cmpuint(w.len, ==, 0);
    g_assert_true(qmig_writer_cstr(&w, text, 255));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cursor/integers-are-big-endian", test_big_endian);
    g_test_add_func("/cursor/one-byte-short-moves-nothing", test_short);
    g_test_add_func("/cursor/a-counted-string-of-255-fits", test_counted_string);
    g_test_add_func("/writer/never-leaves-its-storage", test_writer_full);
    g_test_add_func("/writer/the-cursor-reads-it-back", test_round_trip);
    g_test_add_func("/writer/a-string-of-256-is-refused", test_long_string);
    return g_test_run();
}
