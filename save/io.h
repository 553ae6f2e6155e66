/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files and pipes alike: whole reads and writes that a cancel ends. */
#ifndef QMIG_SAVE_IO_H
#define QMIG_SAVE_IO_H

#include "util/cancel.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * qmig_io_read() - read what is there, at least a byte
 *
 * Waits also on a blocking pipe or socket without being stuck in it when @cancel is raised.
 * Errors: IO, CLOSED, CANCELLED. Return: bytes, 0 at the end, -1 on error.
 */
ssize_t qmig_io_read(int fd, void *buf, size_t len, const QmigCancel *cancel,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Read until @len bytes are there or the end comes. Return: bytes, -1 on error. */
ssize_t qmig_io_read_full(int fd, void *buf, size_t len, const QmigCancel *cancel,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same at an offset of a file, without moving. */
ssize_t qmig_io_pread_full(int fd, void *buf, size_t len, uint64_t offset,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Write all. A pipe or socket must be non-blocking (qmig_io_set_nonblocking()) for @cancel to
 * work. */
bool qmig_io_write_all(int fd, const void *buf, size_t len, const QmigCancel *cancel,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_io_set_nonblocking() - for pipes and sockets; files are left alone
 *
 * Return: whether it was changed: whoever shares the descriptor (a shell's pipe) wants it back.
 */
bool qmig_io_set_nonblocking(int fd, bool nonblocking);

#endif
