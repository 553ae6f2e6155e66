/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* First bytes -> kind of connection. */
#include "proxy/classify.h"

#include <glib.h>
#include <string.h>

static void
assert_kind(const char *bytes, size_t len, QmigFirstBytes wanted)
{
    g_assert_cmpint(qmig_classify((const uint8_t *)bytes, len).kind, ==, wanted);
}

static void
test_kinds(void)
{
    assert_kind("QEVM\0\0\0\3", 8, QMIG_FIRST_MAIN);
    assert_kind("\x16\x03\x01\x02\x00\x01", 6, QMIG_FIRST_TLS);
    assert_kind("\x08\x00\x0a\x00\x07", 5, QMIG_FIRST_RECOVERY);
    assert_kind("\x08\x00\x01\x00\x00", 5, QMIG_FIRST_RECOVERY);
}

static void
test_fewer_than_four_bytes_tell_nothing(void)
{
    for (size_t len = 0; len < 4; len++) {
        assert_kind("QEVM", len, QMIG_FIRST_NEED_MORE);
        assert_kind("GET ", len, QMIG_FIRST_NEED_MORE);
        assert_kind("\x16\x03\x01\x02", len, QMIG_FIRST_NEED_MORE);
        assert_kind("\x08\x00\x0a\x00", len, QMIG_FIRST_NEED_MORE);
    }
    assert_kind("QEVM", 4, QMIG_FIRST_MAIN);
}

static void
test_multifd_wants_all_its_bytes(void)
{
    char packet[QMIG_FIRST_BYTES_MAX] = "\x11\x22\x33\x44\x00\x00\x00\x01";

    packet[24] = 7;
    for (size_t len = 4; len < sizeof packet; len++) {
        assert_kind(packet, len, QMIG_FIRST_NEED_MORE);
    }
    QmigFirst first = qmig_classify((const uint8_t *)packet, sizeof packet);
    g_assert_cmpint(first.kind, ==, QMIG_FIRST_MULTIFD);
    g_assert_cmpuint(first.multifd_id, ==, 7);
}

static void
test_strangers(void)
{
    static const char *const strangers[] = { "GET / HTTP/1.1\r\n", "SSH-2.0-x", "QEVN",
                                             "\x16\x02zz", "\x08zzzz" };

    for (size_t i = 0; i < G_N_ELEMENTS(strangers); i++) {
        assert_kind(strangers[i], strlen(strangers[i]), QMIG_FIRST_UNKNOWN);
    }
    /* Commands no QEMU has. */
    assert_kind("\x08\x00\x00\x00", 4, QMIG_FIRST_UNKNOWN);
    assert_kind("\x08\x00\x0c\x00", 4, QMIG_FIRST_UNKNOWN);
    /* A preempt channel begins with a page: be64 offset and flags. */
    assert_kind("\x00\x00\x00\x00\x12\x34\x50\x08", 8, QMIG_FIRST_UNKNOWN);
}

static void
test_longer_starts_never_contradict(void)
{
    static const uint8_t heads[] = { 'Q', 0x11, 0x16, 0x08, 0x00, 0xff };
    uint8_t bytes[QMIG_FIRST_BYTES_MAX];

    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (uint8_t)g_test_rand_int();
        }
        bytes[0] = heads[round % (int)G_N_ELEMENTS(heads)];
        bytes[1] = (uint8_t)g_test_rand_int_range(0, 5);
        QmigFirstBytes before = QMIG_FIRST_NEED_MORE;
        for (size_t len = 0; len <= sizeof bytes; len++) {
            QmigFirstBytes now = qmig_classify(bytes, len).kind;
            g_assert_true(before == QMIG_FIRST_NEED_MORE || now == before);
            before = now;
        }
        g_assert_cmpint(before, !=, QMIG_FIRST_NEED_MORE);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/proxy/classify/kinds", test_kinds);
    g_test_add_func("/proxy/classify/fewer-than-four-bytes-tell-nothing",
                    test_fewer_than_four_bytes_tell_nothing);
    g_test_add_func("/proxy/classify/multifd-wants-all-its-bytes",
                    test_multifd_wants_all_its_bytes);
    g_test_add_func("/proxy/classify/strangers", test_strangers);
    g_test_add_func("/proxy/classify/longer-starts-never-contradict",
                    test_longer_starts_never_contradict);
    return g_test_run();
}
