/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control socket of a running migration: others ask how it stands, watch it, and steer it.
 *
 * A line is a JSON object, both ways. Who connects is greeted with who this is; then
 *
 *     -> {"command":"status"}                            <- {"return":{…}}
 *     -> {"command":"watch","arguments":{"history":true}} <- {"return":{}}  <- {"event":…} …
 *     -> {"command":"set","arguments":{…}}               <- {"error":{"code":…,"message":…}}
 *
 * "status" and "watch" are answered by a thread of the socket's own, also while the job waits
 * for a QEMU that hangs. All else is handed to the job, which takes it between two steps.
 * Documented for users in docs/events.md.
 */
#ifndef QMIG_JOB_CONTROL_H
#define QMIG_JOB_CONTROL_H

#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    QMIG_CONTROL_PROTOCOL = 1,
    QMIG_CONTROL_MAX_CLIENTS = 16,
    /* A request, and an event: a longer one is told as lost. */
    QMIG_CONTROL_LINE_LIMIT = 64 << 10,
    /* Events kept for who comes late or reads slowly. */
    QMIG_CONTROL_MAX_EVENTS = 256,
    /* Bytes that may wait for a client that does not read; events wait in the ring. */
    QMIG_CONTROL_QUEUE_LIMIT = 256 << 10,
    QMIG_CONTROL_DEPTH_LIMIT = 8,
};

typedef struct QmigControl QmigControl;

/* Somebody's wish, in the job's hands. */
typedef struct QmigControlRequest QmigControlRequest;

/**
 * qmig_control_directory() - where control sockets stand
 *
 * QMIG_RUNTIME_DIR; else of root /run/qmig; else XDG_RUNTIME_DIR/qmig; else /tmp/qmig-UID.
 * Return: (transfer full)
 */
char *qmig_control_directory(void);

/* Remove the sockets in @directory that nobody listens on, and locks of guests that nobody has:
 * their processes were killed. */
void qmig_control_sweep(const char *directory);

/**
 * qmig_control_start() - make the socket and its thread
 * @path: (nullable) the socket, which must not exist; NULL: PID.sock in the directory above,
 *        which is made if need be
 *
 * Only this user and root can connect. Errors: IO; STATE: the directory is not this user's alone.
 */
QmigControl *qmig_control_start(const char *path,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same in two steps, for who gives up privileges between them: the socket is there, and nobody is
 * served; then its thread is. Clients are this process's user as it is then, and root. */
QmigControl *qmig_control_open_socket(const char *path,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_control_serve(QmigControl *control);
/* Remove the socket; who watches is given a second to take what was published. */
void qmig_control_free(QmigControl *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigControl, qmig_control_free)

const char *qmig_control_path(const QmigControl *control);

/* ---- of the job's thread ---------------------------------------------------------------- */

/* Who this is, for the greeting; borrowed. */
void qmig_control_set_identity(QmigControl *control, JsonObject *identity);
/* What "status" returns from now on; borrowed. */
void qmig_control_set_status(QmigControl *control, JsonObject *status);
/* An event for all who watch; borrowed. @is_transient: only the newest of these is of use, and
 * none is kept for who comes later. */
void qmig_control_publish(QmigControl *control, JsonObject *event, bool is_transient);

/* For poll(2): readable when qmig_control_take() has something; -1 for NULL. */
int qmig_control_fd(const QmigControl *control);

/**
 * qmig_control_take() - the oldest request that waits
 *
 * Return: to be answered by exactly one of the two below; NULL when there is none.
 */
QmigControlRequest *qmig_control_take(QmigControl *control);
const char *qmig_control_request_command(const QmigControlRequest *request);
/* Its arguments, an object; parsed anew for each caller. (transfer full) */
JsonObject *qmig_control_request_arguments(const QmigControlRequest *request);
/* Process that asks; 0 = not known. */
int qmig_control_request_pid(const QmigControlRequest *request);
/* @result: borrowed; NULL = {}. @request is gone afterwards. */
void qmig_control_answer(QmigControl *control, QmigControlRequest *request,
                         JsonObject *result);
void qmig_control_refuse(QmigControl *control, QmigControlRequest *request,
                         const GError *error);

#endif
