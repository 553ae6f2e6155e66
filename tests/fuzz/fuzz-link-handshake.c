/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What strangers say: u8 which of HELLO, WELCOME, RESUME, REFUSED, and its payload; 4: everything a
 * connection in the clear brings to the gate's visitor, in pieces.
 */
#include "proxy/link/gate.h"
#include "proxy/link/hello.h"
#include "proxy/link/visitor.h"
#include "tests/fuzz/fuzz.h"
#include "util/error.h"

#include <string.h>
#include <sys/socket.h>

static void
expect_refusal(const GError *error)
{
    g_assert_true(g_error_matches(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL) ||
                  g_error_matches(error, QMIG_ERROR, QMIG_ERROR_LIMIT));
}

static void
expect_printable(const char *text, size_t max)
{
    g_assert_cmpuint(strlen(text), <=, max);
    for (; *text != '\0'; text++) {
        g_assert_true(g_ascii_isprint(*text));
    }
}

static void
read_hello(const void *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    uint8_t out[512];
    QmigHello hello, same;

    if (!qmig_hello_read(data, size, &hello, &error)) {
        expect_refusal(error);
        return;
    }
    expect_printable(hello.name, QMIG_LINK_NAME_MAX);
    size_t len = qmig_hello_write(&hello, out);
    g_assert_true(qmig_hello_read(out, len, &same, NULL));
    g_assert_cmpuint(same.version_min, ==, hello.version_min);
    g_assert_cmpuint(same.version_max, ==, hello.version_max);
    g_assert_cmpuint(same.n_wires, ==, hello.n_wires);
    g_assert_cmpuint(same.window, ==, hello.window);
    g_assert_cmpuint(same.cache_size, ==, hello.cache_size);
    g_assert_cmpuint(same.deadline_ms, ==, hello.deadline_ms);
    g_assert_cmpstr(same.name, ==, hello.name);
}

static void
read_welcome(const void *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    uint8_t out[512];
    QmigWelcome welcome;

    if (!qmig_welcome_read(data, size, &welcome, &error)) {
        expect_refusal(error);
        return;
    }
    g_assert_cmpuint(welcome.n_wires, <=, QMIG_LINK_WIRES_MAX);
    g_assert_cmpuint(welcome.window, <=, QMIG_LINK_WINDOW_MAX);
    size_t len = qmig_welcome_write(&welcome, out);
    g_assert_cmpuint(len, <=, size);
    g_assert_cmpint(memcmp(out, data, len), ==, 0);
}

static void
read_resume(const void *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    uint8_t out[512];
    QmigResume resume;

    if (!qmig_resume_read(data, size, &resume, &error)) {
        expect_refusal(error);
        return;
    }
    size_t len = qmig_resume_write(&resume, out);
    g_assert_cmpuint(len, <=, size);
    g_assert_cmpint(memcmp(out, data, len), ==, 0);
}

static void
read_refused(const void *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    char reason[QMIG_LINK_REASON_MAX + 1];
    QmigRefusal code;

    if (!qmig_refused_read(data, size, &code, reason, &error)) {
        expect_refusal(error);
        return;
    }
    expect_printable(reason, QMIG_LINK_REASON_MAX);
}

/* At most what the door reads of one, in pieces of the first byte's size; then the end. */
static void
visit(const uint8_t *data, size_t size)
{
    size_t piece = size > 0 ? data[0] + 1u : 1;
    QmigVisitorStep step = QMIG_VISITOR_WAITS;
    g_autoptr(GError) error = NULL;
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), ==, 0);
    g_autoptr(QmigVisitor) visitor = qmig_visitor_new(fds[0], NULL, 60000);
    size = MIN(size, 4096);
    for (size_t at = size > 0; at < size && step == QMIG_VISITOR_WAITS; at += piece) {
        size_t len = MIN(piece, size - at);
        g_assert_cmpint(send(fds[1], data + at, len, MSG_NOSIGNAL), ==, len);
        step = qmig_visitor_step(visitor, NULL, &error);
    }
    close(fds[1]);
    if (step == QMIG_VISITOR_WAITS) {
        step = qmig_visitor_step(visitor, NULL, &error);
        g_assert_cmpint(step, ==, QMIG_VISITOR_REFUSED);
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CLOSED);
    } else if (step == QMIG_VISITOR_KNOCKS) {
        g_assert_no_error(error);
        g_assert_true(visitor->head.type == QMIG_FRAME_HELLO ||
                      visitor->head.type == QMIG_FRAME_RESUME);
        g_assert_cmpuint(visitor->have, ==, QMIG_FRAME_HEAD + visitor->head.length);
        g_assert_cmpuint(visitor->have, <=, sizeof visitor->bytes);
    } else {
        g_assert_nonnull(error);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(const void *, size_t) = { read_hello, read_welcome,
                                                             read_resume, read_refused };

    if (size == 0) {
        return 0;
    }
    g_autofree uint8_t *copy = g_memdup2(data + 1, size - 1);
    if (data[0] < G_N_ELEMENTS(readers)) {
        readers[data[0]](copy, size - 1);
    } else {
        visit(data + 1, size - 1);
    }
    return 0;
}
