/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stream sockets with deadlines. Descriptors are close-on-exec and non-blocking. */
#ifndef QMIG_UTIL_SOCKET_H
#define QMIG_UTIL_SOCKET_H

#include "util/address.h"
#include "util/cancel.h"
#include "util/clock.h"

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/**
 * qmig_socket_connect() - connect to @address
 *
 * A name is resolved by the system's resolver, whose own time-outs apply.
 * Errors: TIMEOUT, CANCELLED, IO; the message names the address.
 * Return: an owned descriptor, or -1.
 */
int qmig_socket_connect(const QmigAddress *address, QmigDeadline deadline,
                        const QmigCancel *cancel,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_socket_probe_host() - does anybody answer at @address's host?
 *
 * For a TCP port where nobody listens: a refusal is an answer, too. Of a unix address it is not
 * asked. Errors: as qmig_socket_connect().
 */
bool qmig_socket_probe_host(const QmigAddress *address, QmigDeadline deadline,
                            const QmigCancel *cancel,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_socket_listen() - listen on @address
 * @backlog: connections the kernel may hold
 * @actual:  (out) (optional) (transfer full) where it listens, with the port chosen
 *
 * An existing unix socket file is an error, never replaced: finding out whether somebody still
 * listens would take a connection, and a connection that says nothing kills a waiting QEMU.
 * Return: an owned descriptor, or -1.
 */
int qmig_socket_listen(const QmigAddress *address, int backlog, QmigAddress **actual,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Accept one connection; errors TIMEOUT, CANCELLED, IO. Return: an owned descriptor or -1. */
int qmig_socket_accept(int listener, QmigDeadline deadline, const QmigCancel *cancel,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_socket_read() - read what is there, waiting for at least one byte
 *
 * Errors: TIMEOUT, CANCELLED, CLOSED (reset), IO.
 * Return: bytes read, 0 at end of file, -1 on error.
 */
ssize_t qmig_socket_read(int fd, void *buf, size_t len, QmigDeadline deadline,
                         const QmigCancel *cancel,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Write all of @buf; never raises SIGPIPE. Errors: TIMEOUT, CANCELLED, CLOSED, IO. */
bool qmig_socket_write_all(int fd, const void *buf, size_t len, QmigDeadline deadline,
                           const QmigCancel *cancel,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same of several pieces. */
bool qmig_socket_writev_all(int fd, const struct iovec *iov, size_t n,
                            QmigDeadline deadline, const QmigCancel *cancel,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
