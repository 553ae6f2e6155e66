/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cancellation and the one bounded wait that uses it. */
#include "util/cancel.h"

#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct QmigCancel {
    int fd;      /* eventfd; counts up once, is never read */
    gint raised; /* atomic */
};

QmigCancel *
qmig_cancel_new(void)
{
    QmigCancel *cancel = g_new0(QmigCancel, 1);

    cancel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (cancel->fd < 0) {
        g_error("eventfd: %s", g_strerror(errno));
    }
    return cancel;
}

void
qmig_cancel_free(QmigCancel *cancel)
{
    if (cancel != NULL) {
        close(cancel->fd);
        g_free(cancel);
    }
}

void
qmig_cancel_raise(QmigCancel *cancel)
{
    uint64_t one = 1;

    g_atomic_int_set(&cancel->raised, 1);
    /* Cannot fail in a way that matters: EAGAIN means it is readable already. */
    if (write(cancel->fd, &one, sizeof one) < 0) {
        return;
    }
}

bool
qmig_cancel_is_raised(const QmigCancel *cancel)
{
    return cancel != NULL && g_atomic_int_get(&cancel->raised) != 0;
}

int
qmig_cancel_fd(const QmigCancel *cancel)
{
    return cancel != NULL ? cancel->fd : -1;
}

bool
qmig_wait_fd(int fd, short events, QmigDeadline deadline, const QmigCancel *cancel,
             GError **error)
{
    for (;;) {
        /* poll(2) ignores a negative descriptor, so NULL needs no case of its own. */
        struct pollfd fds[2] = {
            { .fd = fd, .events = events },
            { .fd = qmig_cancel_fd(cancel), .events = POLLIN },
        };
        int n = poll(fds, 2, qmig_deadline_poll_ms(deadline));

        if (n < 0 && errno != EINTR) {
            return qmig_set_error_errno(error, errno, "poll");
        }
        if (n > 0 && fds[1].revents != 0) {
            return qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
        }
        if (n > 0) {
            return true;
        }
        if (n == 0 && qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT, "the deadline has passed");
        }
    }
}
