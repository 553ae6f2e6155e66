/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plain read(2) into two buffers that take turns: measured, it is as fast as a mapping (the page
 * cache is copied at memory speed), works on pipes, and a file cut under us is an end, no signal.
 */
#include "inspect/input.h"

#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Fits the second-level cache, so that a decoder that does look at the bytes finds them there. */
enum { BUFFER = 256 << 10 };

struct QmigInput {
    QmigFd fd;
    char *name; /* owned; for messages */
    uint64_t done;
    uint64_t total;
    size_t peeked; /* bytes of buffer[turn] read by peek and not yet handed out */
    unsigned turn;
    uint8_t *buffer[2]; /* owned */
};

QmigInput *
qmig_input_open(const char *path, GError **error)
{
    bool is_stdin = strcmp(path, "-") == 0;
    g_autoptr(QmigInput) in = g_new0(QmigInput, 1);
    struct stat st;

    in->fd = is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                      : open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0 || fstat(in->fd, &st) < 0) {
        qmig_set_error_errno(error, errno, "%s", path);
        return NULL;
    }
    if (S_ISDIR(st.st_mode)) {
        qmig_set_error(error, QMIG_ERROR_IO, "%s: is a directory, and no capture", path);
        return NULL;
    }
    in->name = g_strdup(is_stdin ? "standard input" : path);
    in->total = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    in->buffer[0] = g_malloc(BUFFER);
    in->buffer[1] = g_malloc(BUFFER);
    return g_steal_pointer(&in);
}

void
qmig_input_free(QmigInput *in)
{
    if (in != NULL) {
        qmig_fd_clear(&in->fd);
        g_free(in->name);
        g_free(in->buffer[0]);
        g_free(in->buffer[1]);
        g_free(in);
    }
}

/* Return: bytes read, 0 at the end, -1 with @error set. */
static ssize_t
read_some(QmigInput *in, uint8_t *to, size_t max, GError **error)
{
    ssize_t n;

    do {
        n = read(in->fd, to, max);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        qmig_set_error_errno(error, errno, "%s: reading at byte %" PRIu64, in->name,
                             in->done);
    }
    return n;
}

bool
qmig_input_peek(QmigInput *in, uint8_t *first, size_t max, size_t *len, GError **error)
{
    ssize_t n = 1;

    g_return_val_if_fail(in->done == 0 && max <= BUFFER, false);
    while (in->peeked < max && n > 0) {
        n = read_some(in, in->buffer[in->turn] + in->peeked, max - in->peeked, error);
        in->peeked += n > 0 ? (size_t)n : 0;
    }
    *len = MIN(in->peeked, max);
    memcpy(first, in->buffer[in->turn], *len);
    return n >= 0;
}

bool
qmig_input_next(QmigInput *in, const uint8_t **data, size_t *len, GError **error)
{
    ssize_t n = (ssize_t)in->peeked;

    if (n == 0) {
        in->turn ^= 1;
        n = read_some(in, in->buffer[in->turn], BUFFER, error);
        if (n < 0) {
            return false;
        }
    }
    in->peeked = 0;
    in->done += (uint64_t)n;
    *data = in->buffer[in->turn];
    *len = (size_t)n;
    return true;
}

uint64_t
qmig_input_done(const QmigInput *in)
{
    return in->done;
}

uint64_t
qmig_input_total(const QmigInput *in)
{
    return in->total;
}
