/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See io.h. */
#include "save/io.h"

#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t
qmig_io_read(int fd, void *buf, size_t len, const QmigCancel *cancel, GError **error)
{
    for (;;) {
        /* poll() says of a file that it is ready, so this is right for all of them. */
        if (cancel != NULL &&
            !qmig_wait_fd(fd, POLLIN, QMIG_DEADLINE_NEVER, cancel, error)) {
            return -1;
        }
        ssize_t n = read(fd, buf, len);
        if (n >= 0) {
            return n;
        }
        if (errno == EAGAIN && cancel == NULL) {
            if (!qmig_wait_fd(fd, POLLIN, QMIG_DEADLINE_NEVER, NULL, error)) {
                return -1;
            }
        } else if (errno != EINTR && errno != EAGAIN) {
            qmig_set_error_errno(error, errno, "read");
            return -1;
        }
    }
}

ssize_t
qmig_io_read_full(int fd, void *buf, size_t len, const QmigCancel *cancel, GError **error)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = qmig_io_read(fd, (char *)buf + done, len - done, cancel, error);
        if (n <= 0) {
            return n < 0 ? -1 : (ssize_t)done;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

ssize_t
qmig_io_pread_full(int fd, void *buf, size_t len, uint64_t offset, GError **error)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
        if (n == 0) {
            return (ssize_t)done;
        }
        if (n > 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            qmig_set_error_errno(error, errno, "read");
            return -1;
        }
    }
    return (ssize_t)done;
}

bool
qmig_io_write_all(int fd, const void *buf, size_t len, const QmigCancel *cancel,
                  GError **error)
{
    const char *p = buf;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n >= 0) {
            p += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            if (!qmig_wait_fd(fd, POLLOUT, QMIG_DEADLINE_NEVER, cancel, error)) {
                return false;
            }
        } else if (errno != EINTR) {
            return qmig_set_error_errno(error, errno, "write");
        }
    }
    return true;
}

bool
qmig_io_set_nonblocking(int fd, bool nonblocking)
{
    struct stat info;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &info) < 0 ||
        !(S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)) ||
        !!(flags & O_NONBLOCK) == nonblocking) {
        return false;
    }
    return fcntl(fd, F_SETFL, nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) ==
           0;
}
