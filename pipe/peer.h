/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ends of a pipe: descriptors of its own, a socket, a command. */
#ifndef QMIG_PIPE_PEER_H
#define QMIG_PIPE_PEER_H

#include "util/auto.h"
#include "util/socket.h"

typedef struct {
    int in, out;      /* owned; may be the same; -1 = none */
    const char *name; /* for messages; borrowed */
    pid_t pid;        /* of a command; 0 = none */
    bool restore_out; /* a descriptor that is shared: blocking is put back */
} QmigPipePeer;

/* stdin and stdout. */
void qmig_pipe_peer_stdio(QmigPipePeer *peer);

/* A connection; takes @fd. */
void qmig_pipe_peer_socket(QmigPipePeer *peer, int fd);

/* Start @argv, its stdin and stdout being this end. Errors: CONFIG: it cannot be started. */
bool qmig_pipe_peer_spawn(QmigPipePeer *peer, char *const *argv,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_pipe_peer_end() - nothing more will be written: the reader shall see the end
 *
 * A file is on the disk then. Errors: IO: what was written may be lost.
 */
bool qmig_pipe_peer_end(QmigPipePeer *peer, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_pipe_peer_close() - close all, and wait for a command
 * @patient: give it some seconds to end by itself; else it is told to
 *
 * Errors: IO: the command failed.
 */
bool qmig_pipe_peer_close(QmigPipePeer *peer, bool patient, GError **error);

#endif
