/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* systemd's side is played by a child that this process becomes: descriptor 3 is the socket. */
#include "util/address.h"
#include "util/auto.h"
#include "util/error.h"
#include "util/service.h"
#include "util/socket.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static void
set_environment(int pid, const char *fds)
{
    g_autofree char *text = g_strdup_printf("%d", pid);

    g_setenv("LISTEN_PID", text, TRUE);
    g_setenv("LISTEN_FDS", fds, TRUE);
    g_setenv("LISTEN_FDNAMES", "tunnel", TRUE);
}

static void
expect_no_socket(const char *words)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(qmig_service_socket(&error), ==, -1);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    g_assert_nonnull(strstr(error->message, words));
    g_assert_null(g_getenv("LISTEN_FDS"));
}

static void
put_at_3(int fd)
{
    if (fd != 3) {
        g_assert_cmpint(dup2(fd, 3), ==, 3);
        close(fd);
    }
}

/* In a process of its own: whatever has number 3 here must stay. */
static void
test_takes_the_socket(void)
{
    g_autoptr(QmigAddress) any = qmig_address_new_tcp("127.0.0.1", 0);
    g_autoptr(GError) error = NULL;
    int fds[2];

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 10000000, G_TEST_SUBPROCESS_INHERIT_STDERR);
        g_test_trap_assert_passed();
        return;
    }
    expect_no_socket("gave this process 0 sockets");
    set_environment((int)getpid() + 1, "1");
    expect_no_socket("gave this process 0 sockets");
    set_environment((int)getpid(), "2");
    expect_no_socket("gave this process 2 sockets, wanted 1");
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    put_at_3(fds[0]);
    set_environment((int)getpid(), "1");
    expect_no_socket("does not listen");
    int listener = qmig_socket_listen(any, 1, NULL, &error);
    g_assert_no_error(error);
    put_at_3(listener);
    set_environment((int)getpid(), "1");
    g_assert_cmpint(qmig_service_socket(&error), ==, 3);
    g_assert_no_error(error);
    g_assert_null(g_getenv("LISTEN_PID"));
    g_assert_null(g_getenv("LISTEN_FDS"));
    g_assert_null(g_getenv("LISTEN_FDNAMES"));
    g_assert_true((fcntl(3, F_GETFD) & FD_CLOEXEC) != 0);
    g_assert_true((fcntl(3, F_GETFL) & O_NONBLOCK) != 0);
}

static void
hear(int fd, const char *wanted)
{
    char text[64] = "";

    g_assert_cmpint(recv(fd, text, sizeof text - 1, MSG_DONTWAIT), ==, strlen(wanted));
    g_assert_cmpstr(text, ==, wanted);
}

static void
test_notifies(void)
{
    g_autofree char *dir = g_dir_make_tmp("service-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "notify", NULL);
    g_autofree char *hidden = g_strdup_printf("@qmig-test-%d", (int)getpid());
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    g_auto(QmigFd) fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    g_auto(QmigFd) other = socket(AF_UNIX, SOCK_DGRAM, 0);

    g_unsetenv("NOTIFY_SOCKET");
    qmig_service_notify("READY=1");
    g_setenv("NOTIFY_SOCKET", "relative", TRUE);
    qmig_service_notify("READY=1");
    g_strlcpy(name.sun_path, path, sizeof name.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&name, sizeof name), ==, 0);
    g_setenv("NOTIFY_SOCKET", path, TRUE);
    qmig_service_notify("READY=1");
    hear(fd, "READY=1");
    memset(name.sun_path, 0, sizeof name.sun_path);
    memcpy(name.sun_path + 1, hidden + 1, strlen(hidden) - 1);
    g_assert_cmpint(
        bind(other, (struct sockaddr *)&name,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(hidden))),
        ==, 0);
    g_setenv("NOTIFY_SOCKET", hidden, TRUE);
    qmig_service_notify("STOPPING=1");
    hear(other, "STOPPING=1");
    g_unlink(path);
    g_rmdir(dir);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/service/takes-the-socket", test_takes_the_socket);
    g_test_add_func("/service/notifies", test_notifies);
    return g_test_run();
}
