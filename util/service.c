/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two protocols are a few variables of the environment: no library is wanted for them. */
#include "util/service.h"

#include "util/auto.h"
#include "util/error.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { FIRST_FD = 3 };

/* How many descriptors were given to this process; 0 when those were for another. */
static uint64_t
n_given(void)
{
    const char *pid = g_getenv("LISTEN_PID"), *fds = g_getenv("LISTEN_FDS");
    uint64_t whom = 0, n = 0;

    if (pid == NULL || fds == NULL ||
        !g_ascii_string_to_unsigned(pid, 10, 1, INT32_MAX, &whom, NULL) ||
        !g_ascii_string_to_unsigned(fds, 10, 0, INT32_MAX, &n, NULL)) {
        return 0;
    }
    return whom == (uint64_t)getpid() ? n : 0;
}

static bool
is_listening_stream(int fd)
{
    int type = 0, listening = 0;
    socklen_t size = sizeof type, listening_size = sizeof listening;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
           type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_size) == 0 &&
           listening != 0;
}

int
qmig_service_socket(GError **error)
{
    uint64_t n = n_given();

    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    if (n != 1) {
        qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "systemd gave this process %" G_GUINT64_FORMAT
            " sockets, wanted 1: is it started by a unit with a .socket of one "
            "ListenStream=?",
            n);
        return -1;
    }
    if (!is_listening_stream(FIRST_FD)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "the socket that systemd gave does not listen for streams: wanted "
                       "ListenStream= and Accept=no");
        return -1;
    }
    if (fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(FIRST_FD, F_SETFL, fcntl(FIRST_FD, F_GETFL) | O_NONBLOCK) < 0) {
        qmig_set_error_errno(error, errno, "the socket that systemd gave");
        return -1;
    }
    return FIRST_FD;
}

void
qmig_service_notify(const char *state)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    size_t len = path != NULL ? strlen(path) : 0;

    if (len < 2 || len >= sizeof name.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(name.sun_path, path, len);
    if (path[0] == '@') {
        name.sun_path[0] = '\0';
    }
    g_auto(QmigFd) fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                  (struct sockaddr *)&name,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}
