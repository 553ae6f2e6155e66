/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets: every wait ends, by data, deadline or cancel. */
#include "util/auto.h"
#include "util/error.h"
#include "util/socket.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define SOON_MS 100

/* Two connected sockets, non-blocking as those of util/socket.h. */
static void
make_pair(int fds[2])
{
    g_assert_cmpint(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
}

static void
check_connection(const QmigAddress *address)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) actual = NULL;
    g_auto(QmigFd) listener = qmig_socket_listen(address, 1, &actual, &error);
    char got[8] = "";

    g_assert_no_error(error);
    g_auto(QmigFd)
        client = qmig_socket_connect(actual, qmig_deadline_in_ms(5000), NULL, &error);
    g_assert_no_error(error);
    g_auto(QmigFd)
        server = qmig_socket_accept(listener, qmig_deadline_in_ms(5000), NULL, &error);
    g_assert_no_error(error);
    QmigDeadline deadline = qmig_deadline_in_ms(5000);
    g_assert_true(qmig_socket_write_all(client, "hello", 5, deadline, NULL, &error));
    g_assert_cmpint(qmig_socket_read(server, got, sizeof got, deadline, NULL, &error), ==,
                    5);
    g_assert_cmpmem(got, 5, "hello", 5);
    qmig_fd_clear(&client);
    g_assert_cmpint(qmig_socket_read(server, got, sizeof got, deadline, NULL, &error), ==,
                    0);
    g_assert_no_error(error);
}

static void
test_tcp(void)
{
    g_autoptr(QmigAddress) address = qmig_address_new_tcp("127.0.0.1", 0);

    check_connection(address);
}

static void
test_unix(void)
{
    g_autofree char *directory = g_dir_make_tmp("qmig-socket-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "s", NULL);
    g_autoptr(QmigAddress) address = qmig_address_new_unix(path);
    g_autoptr(GError) error = NULL;

    check_connection(address);
    /* The file is left behind: never replaced by another listener. */
    g_assert_cmpint(qmig_socket_listen(address, 1, NULL, &error), ==, -1);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_IO);
    g_assert_nonnull(strstr(error->message, path));
    g_unlink(path);
    g_rmdir(directory);
}

static void
test_nobody(void)
{
    g_autoptr(QmigAddress) address = qmig_address_new_unix("/nonexistent/socket");
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(
        qmig_socket_connect(address, qmig_deadline_in_ms(SOON_MS), NULL, &error), ==, -1);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_IO);
    g_assert_nonnull(strstr(error->message, "/nonexistent/socket"));
}

/* A refusal is an answer; silence is none. */
static void
test_probe_host(void)
{
    g_autoptr(QmigAddress) any = qmig_address_new_tcp("127.0.0.1", 0);
    g_autoptr(QmigAddress) actual = NULL;
    g_autoptr(GError) error = NULL;
    int listener = qmig_socket_listen(any, 1, &actual, &error);

    g_assert_no_error(error);
    g_assert_true(
        qmig_socket_probe_host(actual, qmig_deadline_in_ms(5000), NULL, &error));
    qmig_fd_clear(&listener);
    g_assert_true(
        qmig_socket_probe_host(actual, qmig_deadline_in_ms(5000), NULL, &error));
    g_assert_no_error(error);
    /* Nothing is ever sent to a multicast address by TCP. */
    g_autoptr(QmigAddress) nowhere = qmig_address_new_tcp("224.0.0.1", 9);
    g_assert_false(
        qmig_socket_probe_host(nowhere, qmig_deadline_in_ms(SOON_MS), NULL, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, "224.0.0.1"));
}

static void
test_deadline(void)
{
    g_autoptr(GError) error = NULL;
    int64_t start_us = qmig_now_us();
    int fds[2];
    char byte;

    make_pair(fds);
    g_assert_cmpint(
        qmig_socket_read(fds[0], &byte, 1, qmig_deadline_in_ms(SOON_MS), NULL, &error),
        ==, -1);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_assert_cmpint(qmig_now_us() - start_us, >=, SOON_MS * 1000);
    close(fds[0]);
    close(fds[1]);
}

static void
test_write_deadline(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *big = g_malloc0(16 << 20);
    int fds[2];

    make_pair(fds);
    g_assert_false(qmig_socket_write_all(fds[0], big, 16 << 20,
                                         qmig_deadline_in_ms(SOON_MS), NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    close(fds[0]);
    close(fds[1]);
}

static void
test_closed(void)
{
    g_autoptr(GError) error = NULL;
    int fds[2];

    make_pair(fds);
    close(fds[1]);
    g_assert_false(
        qmig_socket_write_all(fds[0], "x", 1, QMIG_DEADLINE_NEVER, NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CLOSED);
    close(fds[0]);
}

static gpointer
raise_soon(gpointer cancel)
{
    g_usleep(SOON_MS * 1000);
    qmig_cancel_raise(cancel);
    return NULL;
}

static void
test_cancel(void)
{
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    g_autoptr(GError) error = NULL;
    int fds[2];
    char byte;

    make_pair(fds);
    g_assert_false(qmig_cancel_is_raised(cancel));
    GThread *thread = g_thread_new("raise", raise_soon, cancel);
    g_assert_cmpint(
        qmig_socket_read(fds[0], &byte, 1, QMIG_DEADLINE_NEVER, cancel, &error), ==, -1);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
    g_thread_join(thread);
    g_assert_true(qmig_cancel_is_raised(cancel));
    close(fds[0]);
    close(fds[1]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/socket/tcp-carries-bytes-and-the-end", test_tcp);
    g_test_add_func("/socket/unix-carries-bytes-and-keeps-its-file", test_unix);
    g_test_add_func("/socket/nobody-listening-names-the-address", test_nobody);
    g_test_add_func("/socket/a-refusal-proves-a-host", test_probe_host);
    g_test_add_func("/socket/a-read-ends-at-its-deadline", test_deadline);
    g_test_add_func("/socket/a-write-ends-at-its-deadline", test_write_deadline);
    g_test_add_func("/socket/a-write-to-nobody-is-closed", test_closed);
    g_test_add_func("/socket/a-cancel-ends-a-read", test_cancel);
    return g_test_run();
}
