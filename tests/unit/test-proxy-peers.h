/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A proxy in a private directory, and scripted peers for both sides of it. */
#ifndef QMIG_TESTS_PROXY_PEERS_H
#define QMIG_TESTS_PROXY_PEERS_H

#include "proxy/proxy.h"
#include "tests/lib/sample-stream.h"
#include "util/error.h"
#include "util/socket.h"

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Longer than anything here takes; shorter than the harness's own patience. */
#define PATIENCE_MS 10000

typedef struct {
    char *dir, *listen_path, *destination_path;
    QmigAddress *listen, *destination;
    int listener; /* the destination's */
    QmigProxy *proxy;
} Fixture;

static inline void
set_up(Fixture *f, const void *unused)
{
    g_autoptr(GError) error = NULL;

    (void)unused;
    f->dir = g_dir_make_tmp("qmig-proxy-XXXXXX", &error);
    g_assert_no_error(error);
    f->listen_path = g_build_filename(f->dir, "proxy.sock", NULL);
    f->destination_path = g_build_filename(f->dir, "destination.sock", NULL);
    f->listen = qmig_address_new_unix(f->listen_path);
    f->destination = qmig_address_new_unix(f->destination_path);
    f->listener = qmig_socket_listen(f->destination, 16, NULL, &error);
    g_assert_no_error(error);
}

static inline void
tear_down(Fixture *f, const void *unused)
{
    (void)unused;
    g_clear_pointer(&f->proxy, qmig_proxy_free);
    g_assert_false(g_file_test(f->listen_path, G_FILE_TEST_EXISTS));
    qmig_fd_clear(&f->listener);
    g_unlink(f->destination_path);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    qmig_address_free(f->listen);
    qmig_address_free(f->destination);
    g_free(f->listen_path);
    g_free(f->destination_path);
    g_free(f->dir);
}

/* @plugin: NULL or one name. */
static inline void
start_proxy(Fixture *f, const char *plugin, uint32_t first_bytes_timeout_ms)
{
    g_autoptr(GError) error = NULL;
    const char *plugins[] = { plugin, NULL };
    QmigProxyConfig config = {
        .listen = f->listen,
        .destination = f->destination,
        .plugins = plugins,
        .first_bytes_timeout_ms = first_bytes_timeout_ms,
    };

    f->proxy = qmig_proxy_start(&config, &error);
    g_assert_no_error(error);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_WAITING);
}

/* ---- peers: descriptors with patience ------------------------------------------------- */

static inline int
source_connect(const Fixture *f)
{
    g_autoptr(GError) error = NULL;
    int fd = qmig_socket_connect(f->listen, qmig_deadline_in_ms(PATIENCE_MS), NULL,
                                 &error);

    g_assert_no_error(error);
    return fd;
}

static inline int
destination_accept(const Fixture *f)
{
    g_autoptr(GError) error = NULL;
    int fd = qmig_socket_accept(f->listener, qmig_deadline_in_ms(PATIENCE_MS), NULL,
                                &error);

    g_assert_no_error(error);
    return fd;
}

/* Nobody connects to the destination for a while. */
static inline void
assert_destination_untouched(const Fixture *f)
{
    struct pollfd p = { .fd = f->listener, .events = POLLIN };

    g_assert_cmpint(poll(&p, 1, 100), ==, 0);
}

static inline void
send_all(int fd, const void *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    bool ok = qmig_socket_write_all(fd, data, len, qmig_deadline_in_ms(PATIENCE_MS), NULL,
                                    &error);

    g_assert_no_error(error);
    g_assert_true(ok);
}

/* Send in random pieces, so that the proxy reads it at random borders. */
static inline void
send_split(int fd, const GByteArray *bytes)
{
    for (guint done = 0; done < bytes->len;) {
        guint piece = (guint)g_test_rand_int_range(1, 3000);
        piece = MIN(piece, bytes->len - done);
        send_all(fd, bytes->data + done, piece);
        done += piece;
        if (g_test_rand_int_range(0, 8) == 0) {
            g_usleep(500);
        }
    }
}

static inline void
expect(int fd, const void *data, size_t len)
{
    g_autofree char *got = g_malloc(len + 1);

    for (size_t done = 0; done < len;) {
        g_autoptr(GError) error = NULL;
        ssize_t n = qmig_socket_read(fd, got + done, len - done,
                                     qmig_deadline_in_ms(PATIENCE_MS), NULL, &error);
        g_assert_no_error(error);
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
    g_assert_cmpmem(got, len, data, len);
}

static inline void
expect_eof(int fd)
{
    g_autoptr(GError) error = NULL;
    char c;

    g_assert_cmpint(
        qmig_socket_read(fd, &c, 1, qmig_deadline_in_ms(PATIENCE_MS), NULL, &error), ==,
        0);
    g_assert_no_error(error);
}

/* End of file or reset: the connection is no more. */
static inline void
expect_closed(int fd, int within_ms)
{
    g_autoptr(GError) error = NULL;
    char buf[4096];
    QmigDeadline deadline = qmig_deadline_in_ms(within_ms);

    while (qmig_socket_read(fd, buf, sizeof buf, deadline, NULL, &error) > 0) {
    }
    g_assert_true(error == NULL || g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED));
}

/* Return-path messages. */
static inline void
send_pong(int fd, uint8_t value)
{
    const uint8_t msg[] = { 0, 2, 0, 4, 0, 0, 0, value };

    send_all(fd, msg, sizeof msg);
}

static inline void
send_shut(int fd, uint8_t status)
{
    const uint8_t msg[] = { 0, 1, 0, 4, 0, 0, 0, status };

    send_all(fd, msg, sizeof msg);
}

static inline void
put_multifd_packet(uint8_t packet[static 64], uint8_t id)
{
    memset(packet, 0, 64);
    memcpy(packet, "\x11\x22\x33\x44\x00\x00\x00\x01", 8);
    packet[24] = id;
}

/* ---- what the proxy says -------------------------------------------------------------- */

static inline void
expect_done(const Fixture *f)
{
    g_assert_true(qmig_proxy_wait(f->proxy, PATIENCE_MS));
    g_autoptr(GError) error = qmig_proxy_error(f->proxy);
    g_assert_no_error(error);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_DONE);
    g_assert_false(g_file_test(f->listen_path, G_FILE_TEST_EXISTS));
}

/* @text: a part of the message. */
static inline void
expect_failed(const Fixture *f, QmigErrorCode code, const char *text)
{
    g_assert_true(qmig_proxy_wait(f->proxy, PATIENCE_MS));
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_FAILED);
    g_autoptr(GError) error = qmig_proxy_error(f->proxy);
    g_assert_error(error, QMIG_ERROR, (gint)code);
    if (strstr(error->message, text) == NULL) {
        g_error("got \"%s\", wanted \"…%s…\"", error->message, text);
    }
    g_assert_false(g_file_test(f->listen_path, G_FILE_TEST_EXISTS));
}

/* The snapshot as text, without white space. (transfer full) */
static inline char *
snapshot(const Fixture *f)
{
    g_autoptr(JsonObject) o = qmig_proxy_snapshot(f->proxy);

    return g_strdup(json_object_to_json_string_ext(
        o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static inline void
assert_snapshot_has(const Fixture *f, const char *part)
{
    g_autofree char *text = snapshot(f);

    if (strstr(text, part) == NULL) {
        g_error("snapshot %s has no %s", text, part);
    }
}

/* What happens in other threads shows up soon. */
static inline void
await_snapshot(const Fixture *f, const char *part)
{
    for (int i = 0; i < PATIENCE_MS / 10; i++) {
        g_autofree char *text = snapshot(f);
        if (strstr(text, part) != NULL) {
            return;
        }
        g_usleep(10000);
    }
    assert_snapshot_has(f, part);
}

#endif
