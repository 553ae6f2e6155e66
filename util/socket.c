/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* connect, listen, accept, read and write, each bounded by a deadline and a cancel flag. */
#include "util/socket.h"

#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SOCKET_FLAGS (SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)

static bool
fill_unix(const QmigAddress *address, struct sockaddr_un *sun, GError **error)
{
    memset(sun, 0, sizeof *sun);
    sun->sun_family = AF_UNIX;
    if (strlen(address->path) >= sizeof sun->sun_path) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG, "socket path \"%s\" has %zu bytes, limit %zu",
            address->path, strlen(address->path), sizeof sun->sun_path - 1);
    }
    strcpy(sun->sun_path, address->path);
    return true;
}

static struct addrinfo *
resolve(const QmigAddress *address, int flags, GError **error)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = flags | AI_NUMERICSERV };
    struct addrinfo *list = NULL;
    g_autofree char *port = g_strdup_printf("%u", address->port);
    int rc = getaddrinfo(address->host[0] != '\0' ? address->host : NULL, port, &hints,
                         &list);

    if (rc != 0) {
        qmig_set_error(error, QMIG_ERROR_IO, "host \"%s\": %s", address->host,
                       gai_strerror(rc));
        return NULL;
    }
    return list;
}

static void
set_tcp_options(int fd)
{
    int one = 1;

    /* Return-path messages are tiny and latency critical. Fails harmlessly on unix sockets. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

static void
note_refused(int reason, bool *refused)
{
    if (refused != NULL && reason == ECONNREFUSED) {
        *refused = true;
    }
}

/* Connect one socket address, waiting for the outcome. @refused: (out) (nullable) somebody there
 * said no. */
static int
connect_one(const struct sockaddr *sa, socklen_t salen, QmigDeadline deadline,
            const QmigCancel *cancel, bool *refused, GError **error)
{
    g_auto(QmigFd) fd = socket(sa->sa_family, SOCKET_FLAGS, 0);
    int so_error = 0;
    socklen_t len = sizeof so_error;

    if (fd < 0) {
        qmig_set_error_errno(error, errno, "socket");
        return -1;
    }
    while (connect(fd, sa, salen) < 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno == EAGAIN && sa->sa_family == AF_UNIX) {
            /* The peer's backlog is full, and poll cannot wait for that: try again soon. */
            if (qmig_now_us() >= deadline || qmig_cancel_is_raised(cancel)) {
                qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                               "the listener's backlog stays full");
                return -1;
            }
            g_usleep(2000);
            continue;
        }
        if (errno != EINPROGRESS) {
            note_refused(errno, refused);
            qmig_set_error_errno(error, errno, "connect");
            return -1;
        }
        if (!qmig_wait_fd(fd, POLLOUT, deadline, cancel, error)) {
            return -1;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &so_error, &len) < 0 || so_error != 0) {
            note_refused(so_error, refused);
            qmig_set_error_errno(error, so_error, "connect");
            return -1;
        }
        break;
    }
    set_tcp_options(fd);
    return qmig_fd_steal(&fd);
}

static int
connect_tcp(const QmigAddress *address, QmigDeadline deadline, const QmigCancel *cancel,
            bool *refused, GError **error)
{
    struct addrinfo *list = resolve(address, 0, error);
    int fd = -1;

    for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        /* Only the last failure is told: it is the one of the least preferred address. */
        g_clear_error(error);
        fd = connect_one(ai->ai_addr, ai->ai_addrlen, deadline, cancel, refused, error);
    }
    if (list != NULL) {
        freeaddrinfo(list);
    }
    return fd;
}

int
qmig_socket_connect(const QmigAddress *address, QmigDeadline deadline,
                    const QmigCancel *cancel, GError **error)
{
    g_autoptr(GError) local = NULL;
    struct sockaddr_un sun;
    int fd = -1;

    if (address->kind == QMIG_ADDRESS_TCP) {
        fd = connect_tcp(address, deadline, cancel, NULL, &local);
    } else if (fill_unix(address, &sun, &local)) {
        fd = connect_one((struct sockaddr *)&sun, sizeof sun, deadline, cancel, NULL,
                         &local);
    }
    if (fd < 0) {
        g_autofree char *text = qmig_address_to_string(address);
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ", text);
    }
    return fd;
}

bool
qmig_socket_probe_host(const QmigAddress *address, QmigDeadline deadline,
                       const QmigCancel *cancel, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool refused = false;

    if (address->kind != QMIG_ADDRESS_TCP) {
        return true;
    }
    g_auto(QmigFd) fd = connect_tcp(address, deadline, cancel, &refused, &local);
    if (fd < 0 && !refused) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "host \"%s\": ", address->host);
        return false;
    }
    return true;
}

static int
listen_on(const struct sockaddr *sa, socklen_t salen, int backlog, GError **error)
{
    g_auto(QmigFd) fd = socket(sa->sa_family, SOCKET_FLAGS, 0);
    int one = 1;

    if (fd < 0) {
        qmig_set_error_errno(error, errno, "socket");
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, sa, salen) < 0) {
        qmig_set_error_errno(error, errno, "bind");
        return -1;
    }
    if (listen(fd, backlog) < 0) {
        qmig_set_error_errno(error, errno, "listen");
        return -1;
    }
    return qmig_fd_steal(&fd);
}

static uint16_t
bound_port(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;

    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0) {
        return 0;
    }
    if (ss.ss_family == AF_INET6) {
        return g_ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
    }
    return g_ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

int
qmig_socket_listen(const QmigAddress *address, int backlog, QmigAddress **actual,
                   GError **error)
{
    g_autoptr(GError) local = NULL;
    struct sockaddr_un sun;
    int fd = -1;

    if (address->kind == QMIG_ADDRESS_TCP) {
        struct addrinfo *list = resolve(address, AI_PASSIVE, &local);
        if (list != NULL) {
            fd = listen_on(list->ai_addr, list->ai_addrlen, backlog, &local);
            freeaddrinfo(list);
        }
    } else if (fill_unix(address, &sun, &local)) {
        fd = listen_on((struct sockaddr *)&sun, sizeof sun, backlog, &local);
    }
    if (fd < 0) {
        g_autofree char *text = qmig_address_to_string(address);
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ", text);
        return -1;
    }
    if (actual != NULL) {
        *actual = qmig_address_copy(address);
        if (address->kind == QMIG_ADDRESS_TCP) {
            (*actual)->port = bound_port(fd);
        }
    }
    return fd;
}

int
qmig_socket_accept(int listener, QmigDeadline deadline, const QmigCancel *cancel,
                   GError **error)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            set_tcp_options(fd);
            return fd;
        }
        if (errno == EAGAIN) {
            if (!qmig_wait_fd(listener, POLLIN, deadline, cancel, error)) {
                return -1;
            }
        } else if (errno != EINTR && errno != ECONNABORTED) {
            qmig_set_error_errno(error, errno, "accept");
            return -1;
        }
    }
}

ssize_t
qmig_socket_read(int fd, void *buf, size_t len, QmigDeadline deadline,
                 const QmigCancel *cancel, GError **error)
{
    for (;;) {
        ssize_t n = read(fd, buf, len);

        if (n >= 0) {
            return n;
        }
        if (errno == EAGAIN) {
            if (!qmig_wait_fd(fd, POLLIN, deadline, cancel, error)) {
                return -1;
            }
        } else if (errno != EINTR) {
            qmig_set_error_errno(error, errno, "read");
            return -1;
        }
    }
}

bool
qmig_socket_writev_all(int fd, const struct iovec *iov, size_t n, QmigDeadline deadline,
                       const QmigCancel *cancel, GError **error)
{
    size_t done = 0; /* bytes of iov[0] */

    while (n > 0) {
        struct iovec rest = { (uint8_t *)iov->iov_base + done, iov->iov_len - done };
        /* A piece that was cut goes alone, so that the caller's array need not be copied. */
        struct msghdr msg = { .msg_iov = done > 0 ? &rest : (struct iovec *)iov,
                              .msg_iovlen = done > 0 ? 1 : n };
        ssize_t sent = sendmsg(fd, &msg, MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            if (!qmig_wait_fd(fd, POLLOUT, deadline, cancel, error)) {
                return false;
            }
        } else if (sent < 0 && errno != EINTR) {
            return qmig_set_error_errno(error, errno, "write");
        }
        for (done += sent > 0 ? (size_t)sent : 0; n > 0 && done >= iov->iov_len; n--) {
            done -= iov->iov_len;
            iov++;
        }
    }
    return true;
}

bool
qmig_socket_write_all(int fd, const void *buf, size_t len, QmigDeadline deadline,
                      const QmigCancel *cancel, GError **error)
{
    struct iovec iov = { (void *)buf, len };

    return qmig_socket_writev_all(fd, &iov, 1, deadline, cancel, error);
}
