/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tunnel's wire format, its first words, and the choice of codecs. */
#include "proxy/link/choose.h"
#include "proxy/link/frame.h"
#include "proxy/link/hello.h"
#include "util/error.h"

#include <string.h>

static const uint8_t payload[] = "what a frame carries";

static void
seal(uint8_t bytes[static QMIG_FRAME_HEAD])
{
    QmigFrameHead head = { .type = QMIG_FRAME_DATA,
                           .stream = 7,
                           .length = sizeof payload,
                           .plain_length = sizeof payload,
                           .seq = 0x1122334455667788 };

    qmig_frame_seal(&head, payload, bytes);
}

static void
test_head(void)
{
    uint8_t bytes[QMIG_FRAME_HEAD];
    QmigFrameHead got;

    seal(bytes);
    g_assert_true(qmig_frame_read_head(bytes, &got, NULL));
    g_assert_cmpuint(got.type, ==, QMIG_FRAME_DATA);
    g_assert_cmpuint(got.stream, ==, 7);
    g_assert_cmpuint(got.length, ==, sizeof payload);
    g_assert_cmpuint(got.seq, ==, 0x1122334455667788);
    g_assert_true(qmig_frame_verify(bytes, &got, payload, NULL));
    /* As documented: anybody must be able to write it. */
    static const uint8_t begin[] = { 17, 0, 0, 7, 0, 0, 0, sizeof payload };
    g_assert_cmpmem(bytes, sizeof begin, begin, sizeof begin);
}

/* Every damaged bit is found, in the head as in the payload. */
static void
test_damage(void)
{
    uint8_t bytes[QMIG_FRAME_HEAD], text[sizeof payload];
    QmigFrameHead got;

    for (unsigned bit = 0; bit < 8 * QMIG_FRAME_HEAD; bit++) {
        seal(bytes);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        g_assert_false(qmig_frame_read_head(bytes, &got, NULL) &&
                       got.length == sizeof payload &&
                       qmig_frame_verify(bytes, &got, payload, NULL));
    }
    seal(bytes);
    g_assert_true(qmig_frame_read_head(bytes, &got, NULL));
    for (unsigned bit = 0; bit < 8 * sizeof payload; bit++) {
        memcpy(text, payload, sizeof text);
        text[bit / 8] ^= (uint8_t)(1 << bit % 8);
        g_assert_false(qmig_frame_verify(bytes, &got, text, NULL));
    }
}

static void
check_refused(QmigFrameHead head, QmigErrorCode code)
{
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *zeros = g_malloc0((size_t)head.length + 1);
    uint8_t bytes[QMIG_FRAME_HEAD];
    QmigFrameHead got;

    qmig_frame_seal(&head, zeros, bytes);
    g_assert_false(qmig_frame_read_head(bytes, &got, &error));
    g_assert_error(error, QMIG_ERROR, (int)code);
}

static void
test_limits(void)
{
    enum { MAX = QMIG_FRAME_PAYLOAD_MAX };

    check_refused((QmigFrameHead){ .type = QMIG_FRAME_DATA,
                                   .stream = 1,
                                   .length = MAX + 1,
                                   .plain_length = MAX + 1 },
                  QMIG_ERROR_LIMIT);
    check_refused((QmigFrameHead){ .type = QMIG_FRAME_DATA,
                                   .codec = QMIG_FRAME_ZSTD,
                                   .stream = 1,
                                   .length = 100,
                                   .plain_length = MAX + 1 },
                  QMIG_ERROR_LIMIT);
    /* Before the peer is known, far less. */
    check_refused((QmigFrameHead){ .type = QMIG_FRAME_HELLO,
                                   .length = QMIG_FRAME_HELLO_MAX + 1,
                                   .plain_length = QMIG_FRAME_HELLO_MAX + 1 },
                  QMIG_ERROR_LIMIT);
    check_refused((QmigFrameHead){ .type = 5 }, QMIG_ERROR_PROTOCOL);
    check_refused((QmigFrameHead){ .type = 21, .stream = 1 }, QMIG_ERROR_PROTOCOL);
    /* A stream's frame without a stream, a session's with one. */
    check_refused((QmigFrameHead){ .type = QMIG_FRAME_END }, QMIG_ERROR_PROTOCOL);
    check_refused((QmigFrameHead){ .type = QMIG_FRAME_BYE, .stream = 1 },
                  QMIG_ERROR_PROTOCOL);
    /* Built on frames before it, and no bytes; and with nothing in it. */
    check_refused((QmigFrameHead){ .type = QMIG_FRAME_RESET,
                                   .codec = QMIG_FRAME_ZSTD_HISTORY,
                                   .stream = 1,
                                   .length = 10,
                                   .plain_length = 20 },
                  QMIG_ERROR_PROTOCOL);
    check_refused((QmigFrameHead){ .type = QMIG_FRAME_DATA,
                                   .codec = QMIG_FRAME_ZSTD_HISTORY,
                                   .stream = 1,
                                   .plain_length = 20 },
                  QMIG_ERROR_PROTOCOL);
    /* Compressed to more than it was. */
    check_refused((QmigFrameHead){ .type = QMIG_FRAME_DATA,
                                   .codec = QMIG_FRAME_LZ4,
                                   .stream = 1,
                                   .length = 10,
                                   .plain_length = 10 },
                  QMIG_ERROR_PROTOCOL);
}

static void
test_hello(void)
{
    QmigHello hello = { .version_min = 1,
                        .version_max = 3,
                        .n_wires = 4,
                        .window = 1 << 20,
                        .cache_size = 5ull << 30,
                        .deadline_ms = 60000,
                        .name = "guest\n1" };
    QmigHello got;
    uint8_t bytes[512];
    size_t len = qmig_hello_write(&hello, bytes);

    g_assert_true(qmig_hello_read(bytes, len, &got, NULL));
    g_assert_cmpuint(got.version_max, ==, 3);
    g_assert_cmpuint(got.cache_size, ==, 5ull << 30);
    g_assert_cmpuint(got.deadline_ms, ==, 60000);
    g_assert_cmpstr(got.name, ==, "guest?1");
    /* Later versions may say more. */
    g_assert_true(qmig_hello_read(bytes, len + 9, &got, NULL));
    for (size_t cut = 0; cut < len; cut++) {
        g_assert_false(qmig_hello_read(bytes, cut, &got, NULL));
    }
    bytes[0]++;
    g_assert_false(qmig_hello_read(bytes, len, &got, NULL));
}

/* What is cut, or not printed, differs still. */
static void
test_name(void)
{
    char a[QMIG_LINK_NAME_MAX + 1], b[QMIG_LINK_NAME_MAX + 1];
    g_autofree char *path = g_strnfill(107, 'p');
    g_autofree char *longer = g_strconcat(path, "p", NULL);
    g_autofree char *host = g_strnfill(64, 'h');

    qmig_link_name("vm1", "host.example", a);
    g_assert_cmpstr(a, ==, "vm1@host.example");
    qmig_link_name(path, host, a);
    qmig_link_name(path, host, b);
    g_assert_cmpstr(a, ==, b);
    g_assert_cmpuint(strlen(a), ==, QMIG_LINK_NAME_MAX);
    qmig_link_name(longer, host, b);
    g_assert_cmpstr(a, !=, b);
    host[63] = 'i';
    qmig_link_name(path, host, b);
    g_assert_cmpstr(a, !=, b);
    qmig_link_name("\303\244", "h", a);
    qmig_link_name("\303\266", "h", b);
    g_assert_true(g_str_has_prefix(a, "??@h#"));
    g_assert_true(g_str_has_prefix(b, "??@h#"));
    g_assert_cmpstr(a, !=, b);
}

static void
test_welcome(void)
{
    QmigWelcome welcome = { .version = 1, .n_wires = 2, .window = 4096, .id = "me" };
    QmigWelcome got;
    uint8_t bytes[512];
    size_t len = qmig_welcome_write(&welcome, bytes);

    g_assert_true(qmig_welcome_read(bytes, len, &got, NULL));
    g_assert_cmpstr((const char *)got.id, ==, "me");
    for (size_t cut = 0; cut < len; cut++) {
        g_assert_false(qmig_welcome_read(bytes, cut, &got, NULL));
    }
    welcome.n_wires = QMIG_LINK_WIRES_MAX + 1;
    len = qmig_welcome_write(&welcome, bytes);
    g_assert_false(qmig_welcome_read(bytes, len, &got, NULL));
    char reason[QMIG_LINK_REASON_MAX + 1];
    QmigRefusal code;
    len = qmig_refused_write(QMIG_REFUSED_FULL, "full\033", bytes);
    g_assert_true(qmig_refused_read(bytes, len, &code, reason, NULL));
    g_assert_cmpint(code, ==, QMIG_REFUSED_FULL);
    g_assert_cmpstr(reason, ==, "full?");
}

/* ---- which codec -------------------------------------------------------------------------- */

/* What a codec does with some memory: bytes/s of a thread, ratio. */
typedef struct {
    double speed, ratio;
} Truth;

/* Frames are sent over a wire of @rate until the choice is settled. Return: the codec of most. */
static uint8_t
settle(const Truth truth[static QMIG_CHOICES], double rate)
{
    QmigChooser c;
    unsigned n[3] = { 0 };

    qmig_chooser_init(&c, NULL);
    c.threads = 2;
    for (unsigned i = 0; i < 2000; i++) {
        unsigned which = qmig_chooser_pick(&c);
        double cpu_s = which == 0 ? 0 : 262144 / truth[which].speed;
        double wire_s = 262144 * truth[which].ratio / rate;
        if (which != 0) {
            qmig_chooser_learn(&c, which, 262144, (uint32_t)(262144 * truth[which].ratio),
                               (int64_t)(cpu_s * 1e6));
        }
        /* Two threads: the wire is what holds them up, or they are. */
        double blocked = wire_s > cpu_s / 2 ? 0.9 : 0.0;
        double took = wire_s > cpu_s / 2 ? wire_s : cpu_s / 2;
        qmig_chooser_watch(&c, (uint64_t)(262144 * truth[which].ratio * 10),
                           (int64_t)(took * 1e7) + 1, rate > 1e11 ? 0.0 : blocked);
        n[qmig_chooser_choice(&c, which).codec] += i >= 1000;
    }
    return n[0] > n[1] && n[0] > n[2] ? 0 : n[1] > n[2] ? 1 : 2;
}

static void
test_choice(void)
{
    static const Truth text[QMIG_CHOICES] = { { 1e12, 1 },    { 600e6, 0.4 },
                                              { 350e6, 0.3 }, { 200e6, 0.27 },
                                              { 80e6, 0.25 }, { 40e6, 0.24 } };
    static const Truth noise[QMIG_CHOICES] = { { 1e12, 1 },  { 2e9, 1 },   { 900e6, 1 },
                                               { 800e6, 1 }, { 300e6, 1 }, { 200e6, 1 } };

    g_assert_cmpuint(settle(text, 1e12), ==, QMIG_FRAME_PLAIN);
    g_assert_cmpuint(settle(text, 2e9), ==, QMIG_FRAME_PLAIN);
    g_assert_cmpuint(settle(text, 400e6), ==, QMIG_FRAME_LZ4);
    g_assert_cmpuint(settle(text, 118e6), ==, QMIG_FRAME_ZSTD);
    g_assert_cmpuint(settle(text, 12e6), ==, QMIG_FRAME_ZSTD);
    g_assert_cmpuint(settle(noise, 12e6), ==, QMIG_FRAME_PLAIN);
    g_assert_cmpuint(settle(noise, 1e9), ==, QMIG_FRAME_PLAIN);
}

/* A wire that was dark, or became faster, is soon used as it is. */
static void
test_recovery(void)
{
    QmigChooser c;

    qmig_chooser_init(&c, NULL);
    qmig_chooser_watch(&c, 11800000, 100000, 0.9);
    for (unsigned i = 0; i < 600; i++) {
        qmig_chooser_watch(&c, 0, 100000, 1.0);
    }
    g_assert_cmpfloat_with_epsilon(c.rate, 118e6, 1e6);
    for (unsigned i = 0; i < 10; i++) {
        qmig_chooser_watch(&c, (uint64_t)(c.rate / 10), 100000, 0.0);
    }
    g_assert_cmpfloat(c.rate, >, 1e9);
}

/* Whoever fixes a codec gets it. */
static void
test_fixed(void)
{
    QmigChooser c;
    QmigChoice zstd = { QMIG_FRAME_ZSTD, 0 }, three = { QMIG_FRAME_ZSTD, 3 };

    qmig_chooser_init(&c, &zstd);
    for (unsigned i = 0; i < 200; i++) {
        g_assert_cmpuint(qmig_chooser_choice(&c, qmig_chooser_pick(&c)).codec, ==,
                         QMIG_FRAME_ZSTD);
        qmig_chooser_watch(&c, 1000000, 100000, 0.9);
    }
    qmig_chooser_init(&c, &three);
    for (unsigned i = 0; i < 200; i++) {
        g_assert_cmpint(qmig_chooser_choice(&c, qmig_chooser_pick(&c)).level, ==, 3);
        qmig_chooser_watch(&c, 1000000, 100000, 0.9);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link/frame/head", test_head);
    g_test_add_func("/link/frame/damage", test_damage);
    g_test_add_func("/link/frame/limits", test_limits);
    g_test_add_func("/link/hello", test_hello);
    g_test_add_func("/link/name", test_name);
    g_test_add_func("/link/welcome", test_welcome);
    g_test_add_func("/link/choose/choice", test_choice);
    g_test_add_func("/link/choose/recovery", test_recovery);
    g_test_add_func("/link/choose/fixed", test_fixed);
    return g_test_run();
}
