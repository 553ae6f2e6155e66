/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Plain read(2): measured, it is as fast as a mapping (the page cache is copied at memory speed),
 * works on pipes, and a file cut under us is an end, no signal. A save file is unpacked.
 */
#include "inspect/input.h"

#include "save/reader.h"
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
    size_t peeked;        /* bytes of buffer read by peek and not yet handed out */
    QmigSaveReader *save; /* owned; NULL: plain bytes */
    uint8_t *buffer;      /* owned */
};

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

/* Read @max bytes ahead, fewer at the end. */
static bool
look_ahead(QmigInput *in, size_t max, GError **error)
{
    ssize_t n = 1;

    while (in->peeked < max && n > 0) {
        n = read_some(in, in->buffer + in->peeked, max - in->peeked, error);
        in->peeked += n > 0 ? (size_t)n : 0;
    }
    return n >= 0;
}

/* Is it a save file? Then read what is packed in it. */
static bool
unpack(QmigInput *in, GError **error)
{
    const QmigSaveInfo *info;

    if (!look_ahead(in, QMIG_SAVE_MAGIC_LENGTH, error)) {
        return false;
    }
    if (in->peeked < QMIG_SAVE_MAGIC_LENGTH ||
        memcmp(in->buffer, QMIG_SAVE_MAGIC, QMIG_SAVE_MAGIC_LENGTH) != 0) {
        return true;
    }
    QmigSaveReaderConfig config = { .head = in->buffer, .head_length = in->peeked };
    in->save = qmig_save_reader_new(in->fd, in->name, &config, error);
    in->peeked = 0;
    in->total = 0;
    info = in->save != NULL ? qmig_save_reader_info(in->save) : NULL;
    if (info != NULL) {
        in->total = info->length;
    }
    return in->save != NULL;
}

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
    in->buffer = g_malloc(BUFFER);
    return unpack(in, error) ? g_steal_pointer(&in) : NULL;
}

void
qmig_input_free(QmigInput *in)
{
    if (in != NULL) {
        g_clear_pointer(&in->save, qmig_save_reader_free);
        qmig_fd_clear(&in->fd);
        g_free(in->name);
        g_free(in->buffer);
        g_free(in);
    }
}

bool
qmig_input_peek(QmigInput *in, uint8_t *first, size_t max, size_t *len, GError **error)
{
    g_return_val_if_fail(in->done == 0 && max <= BUFFER, false);
    if (in->save != NULL) {
        /* Only main is ever saved. */
        *len = 0;
        return true;
    }
    if (!look_ahead(in, max, error)) {
        return false;
    }
    *len = MIN(in->peeked, max);
    memcpy(first, in->buffer, *len);
    return true;
}

bool
qmig_input_next(QmigInput *in, const uint8_t **data, size_t *len, GError **error)
{
    if (in->save != NULL) {
        if (!qmig_save_reader_next(in->save, data, len, error)) {
            return false;
        }
    } else if (in->peeked > 0) {
        *data = in->buffer;
        *len = in->peeked;
        in->peeked = 0;
    } else {
        ssize_t n = read_some(in, in->buffer, BUFFER, error);

        if (n < 0) {
            return false;
        }
        *data = in->buffer;
        *len = (size_t)n;
    }
    in->done += *len;
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
