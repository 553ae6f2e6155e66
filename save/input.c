/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first piece of the plain stream is read at once, for the machine and the capabilities in
 * its head, and kept for the first next().
 */
#include "save/input.h"

#include "save/io.h"
#include "save/record.h"
#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE = 1 << 20 };

struct QmigSaveInput {
    QmigFd fd;
    char *name; /* owned; for messages */
    const QmigCancel *cancel;
    QmigSaveInputKind kind;
    QmigSaveReader *reader; /* of a save file */
    uint8_t *buffer;        /* of another: PIECE bytes */
    const uint8_t *first;   /* the first piece, until it is given */
    size_t first_len;
    QmigSaveInfo head; /* what the head of the stream tells */
    QmigSaveWatch *watch;
};

static bool
open_fd(QmigSaveInput *input, const char *path, GError **error)
{
    bool is_stdin = strcmp(path, "-") == 0;

    input->name = g_strdup(is_stdin ? "stdin" : path);
    input->fd = is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                         : open(path, O_RDONLY | O_CLOEXEC);
    return input->fd >= 0 || qmig_set_error_errno(error, errno, "%s: open", input->name);
}

/* Which of the formats? Its magic goes to @magic; a file stands at its beginning again. */
static bool
open_format(QmigSaveInput *input, unsigned threads, GError **error)
{
    uint8_t magic[QMIG_SAVE_MAGIC_LENGTH];
    ssize_t n = qmig_io_read_full(input->fd, magic, sizeof magic, input->cancel, error);

    if (n < 0) {
        g_prefix_error(error, "%s: ", input->name);
        return false;
    }
    if (qmig_save_is_magic(magic, (size_t)n)) {
        QmigSaveReaderConfig config = { .threads = threads,
                                        .cancel = input->cancel,
                                        .head = magic,
                                        .head_length = (size_t)n };
        input->kind = QMIG_SAVE_INPUT_QMIG;
        input->reader = qmig_save_reader_new(input->fd, input->name, &config, error);
        return input->reader != NULL;
    }
    if (n < 4 || memcmp(magic, "QEVM", 4) != 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%s: it begins neither with \"" QMIG_SAVE_MAGIC
                              "\" (a save file) nor with \"QEVM\" (a migration stream)",
                              input->name);
    }
    input->kind = QMIG_SAVE_INPUT_PLAIN;
    input->buffer = g_malloc(PIECE);
    memcpy(input->buffer, magic, (size_t)n);
    input->first = input->buffer;
    input->first_len = (size_t)n;
    return true;
}

static bool
read_piece(QmigSaveInput *input, size_t have, const uint8_t **data, size_t *len,
           GError **error)
{
    ssize_t n = qmig_io_read(input->fd, input->buffer + have, PIECE - have, input->cancel,
                             error);

    if (n < 0) {
        g_prefix_error(error, "%s: ", input->name);
        return false;
    }
    *data = input->buffer;
    *len = have + (size_t)n;
    return true;
}

/* Decode until a section begins, or no more can be learnt from the first piece. */
static bool
read_head(QmigSaveInput *input, GError **error)
{
    GPtrArray *capabilities;
    size_t seen = 0;

    if (input->reader != NULL &&
        !qmig_save_reader_next(input->reader, &input->first, &input->first_len, error)) {
        return false;
    }
    while (seen < input->first_len) {
        size_t before = input->first_len;
        if (!qmig_save_watch_push(input->watch, input->first + seen, before - seen,
                                  error)) {
            g_prefix_error(error, "%s: ", input->name);
            return false;
        }
        seen = before;
        if (!qmig_save_watch_has_head(input->watch, &capabilities) &&
            input->reader == NULL && before < PIECE &&
            !read_piece(input, before, &input->first, &input->first_len, error)) {
            return false;
        }
    }
    if (g_ptr_array_find_with_equal_func(qmig_save_input_capabilities(input),
                                         "mapped-ram", g_str_equal, NULL)) {
        if (input->reader != NULL) {
            return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                                  "%s: it holds a mapped-ram file, which only QEMU can "
                                  "load, from a file of its own",
                                  input->name);
        }
        input->kind = QMIG_SAVE_INPUT_MAPPED;
    }
    return true;
}

QmigSaveInput *
qmig_save_input_open(const char *path, unsigned threads, const QmigCancel *cancel,
                     GError **error)
{
    g_autoptr(QmigSaveInput) input = g_new0(QmigSaveInput, 1);

    input->fd = -1;
    input->cancel = cancel;
    qmig_save_info_init(&input->head);
    input->watch = qmig_save_watch_new(&input->head, NULL);
    return open_fd(input, path, error) && open_format(input, threads, error) &&
                   read_head(input, error)
               ? g_steal_pointer(&input)
               : NULL;
}

void
qmig_save_input_free(QmigSaveInput *input)
{
    if (input != NULL) {
        qmig_save_watch_free(input->watch);
        qmig_save_info_clear(&input->head);
        qmig_save_reader_free(input->reader);
        qmig_fd_clear(&input->fd);
        g_free(input->buffer);
        g_free(input->name);
        g_free(input);
    }
}

void
qmig_save_input_set_cancel(QmigSaveInput *input, const QmigCancel *cancel)
{
    input->cancel = cancel;
    if (input->reader != NULL) {
        qmig_save_reader_set_cancel(input->reader, cancel);
    }
}

QmigSaveInputKind
qmig_save_input_kind(const QmigSaveInput *input)
{
    return input->kind;
}

const QmigSaveInfo *
qmig_save_input_info(const QmigSaveInput *input)
{
    const QmigSaveInfo *info = input->reader != NULL
                                   ? qmig_save_reader_info(input->reader)
                                   : NULL;

    return info != NULL ? info : &input->head;
}

GPtrArray *
qmig_save_input_capabilities(const QmigSaveInput *input)
{
    GPtrArray *capabilities;

    (void)qmig_save_watch_has_head(input->watch, &capabilities);
    return capabilities;
}

bool
qmig_save_input_seek(QmigSaveInput *input, uint64_t offset, GError **error)
{
    struct stat info;
    bool is_file = fstat(input->fd, &info) == 0 && S_ISREG(info.st_mode);

    if (is_file && input->reader != NULL) {
        input->first_len = 0;
        return qmig_save_reader_seek(input->reader, offset, error);
    }
    if (is_file && offset <= (uint64_t)info.st_size) {
        input->first_len = 0;
        return lseek(input->fd, (off_t)offset, SEEK_SET) >= 0 ||
               qmig_set_error_errno(error, errno, "%s: seek", input->name);
    }
    while (offset > 0) {
        const uint8_t *data;
        size_t len;

        if (!qmig_save_input_next(input, &data, &len, error)) {
            return false;
        }
        if (len == 0) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "%s: the offset is %" PRIu64
                                  " bytes beyond the stream's end",
                                  input->name, offset);
        }
        size_t skipped = MIN(len, offset);
        offset -= skipped;
        input->first = data + skipped;
        input->first_len = len - skipped;
    }
    return true;
}

bool
qmig_save_input_next(QmigSaveInput *input, const uint8_t **data, size_t *len,
                     GError **error)
{
    if (input->first_len > 0) {
        *data = input->first;
        *len = input->first_len;
        input->first_len = 0;
        return true;
    }
    return input->reader != NULL ? qmig_save_reader_next(input->reader, data, len, error)
                                 : read_piece(input, 0, data, len, error);
}
