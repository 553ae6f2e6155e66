/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A QMP connection: greeting, commands with deadlines, events, OOB, descriptors. */
#ifndef QMIG_QMP_CLIENT_H
#define QMIG_QMP_CLIENT_H

#include "qmp/event.h"
#include "util/address.h"
#include "util/auto.h"
#include "util/cancel.h"
#include "util/clock.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/socket.h>

/*
 * Threads: a connection belongs to one thread at a time; nothing here starts a thread.
 *
 * Errors, of every function: the message begins with the label of the connection.
 *   CLOSED     QEMU closed the connection, or died; all later calls say so again
 *   PROTOCOL, LIMIT, IO  the peer is no sane QMP server; all later calls say so again
 *   TIMEOUT    the deadline passed: the command may still be executed, its reply will be
 *              recognised and dropped. The connection stays usable, unless the command could
 *              be sent in part only
 *   CANCELLED  @cancel was raised; else as TIMEOUT
 *   QMP        QEMU answered with an error; see qmig_qmp_last_error_class()
 */
typedef struct QmigQmp QmigQmp;

typedef enum {
    QMIG_QMP_PLAIN = 0,
    /*
     * Enable out-of-band execution if QEMU offers it; see qmig_qmp_has_oob(). Meant for a
     * second connection that is kept for rescue: a QEMU busy in the device phase answers
     * nothing else.
     */
    QMIG_QMP_OOB = 1 << 0,
} QmigQmpFlags;

typedef struct {
    int major, minor, micro;
    char *package; /* "Debian 1:7.2+dfsg-7", may be ""; owned by the connection */
} QmigQmpVersion;

/**
 * qmig_qmp_connect() - connect, take the greeting, negotiate
 * @address:  of QEMU's QMP socket
 * @label:    "source" or "destination": begins every message; copied
 * @deadline: for all of it
 * @cancel:   (nullable)
 *
 * QEMU serves one client per QMP socket; the greeting of the next one waits.
 * Errors: see above; TIMEOUT without greeting hints at another client.
 * Return: (transfer full) connection in command mode, or NULL.
 */
QmigQmp *qmig_qmp_connect(const QmigAddress *address, const char *label,
                          QmigQmpFlags flags, QmigDeadline deadline,
                          const QmigCancel *cancel,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Close the connection. QEMU goes on as if nothing had happened. */
void qmig_qmp_free(QmigQmp *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigQmp, qmig_qmp_free)

const char *qmig_qmp_label(const QmigQmp *q);
const QmigAddress *qmig_qmp_address(const QmigQmp *q);
/* From the greeting. For reports: what QEMU can do is told by its schema. */
const QmigQmpVersion *qmig_qmp_version(const QmigQmp *q);
/* True when out-of-band execution was asked for, offered and enabled. */
bool qmig_qmp_has_oob(const QmigQmp *q);

/**
 * qmig_qmp_execute() - execute a command and wait for its reply
 * @command: "migrate"
 * @args:    (nullable) (transfer full) JSON object of arguments; consumed in any case
 * @ret:     (out) (optional) (transfer full) the value of "return", of any JSON type; NULL is
 *           JSON's null. Untouched on failure
 * @cancel:  (nullable)
 *
 * Events that arrive meanwhile are queued for qmig_qmp_next_event().
 * Errors: see above; QMP reads `source: migrate: GenericError: TEXT OF QEMU`.
 */
bool qmig_qmp_execute(QmigQmp *q, const char *command, JsonObject *args, JsonObject **ret,
                      QmigDeadline deadline, const QmigCancel *cancel,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* As qmig_qmp_execute(), out of band. Errors: also UNSUPPORTED without qmig_qmp_has_oob(). */
bool qmig_qmp_execute_oob(QmigQmp *q, const char *command, JsonObject *args,
                          JsonObject **ret, QmigDeadline deadline,
                          const QmigCancel *cancel,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_qmp_execute_with_fd() - as qmig_qmp_execute(), and hand over a descriptor
 * @fd: borrowed; QEMU gets its own copy (SCM_RIGHTS)
 *
 * For getfd and add-fd. Errors: also UNSUPPORTED unless the socket is a unix one.
 */
bool qmig_qmp_execute_with_fd(QmigQmp *q, const char *command, JsonObject *args, int fd,
                              JsonObject **ret, QmigDeadline deadline,
                              const QmigCancel *cancel,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Class and text of the error QEMU answered to the last execute; NULL when it did not end in
 * a QMP error. Borrowed until the next execute. Classes are stable (CommandNotFound, …), texts
 * are not. The text is valid UTF-8 without control characters.
 */
const char *qmig_qmp_last_error_class(const QmigQmp *q);
const char *qmig_qmp_last_error_text(const QmigQmp *q);

typedef enum {
    QMIG_QMP_EVENT,  /* *event is set */
    QMIG_QMP_NONE,   /* the deadline passed without one */
    QMIG_QMP_FAILED, /* *error is set */
} QmigQmpNext;

/**
 * qmig_qmp_next_event() - fetch the next event, waiting for one if need be
 * @deadline: 0 = only what is there already
 * @event:    (out) (transfer full) set only with QMIG_QMP_EVENT
 *
 * What came before the connection broke is handed out before the failure is told.
 * Errors: see above but TIMEOUT and QMP.
 */
QmigQmpNext qmig_qmp_next_event(QmigQmp *q, QmigDeadline deadline,
                                const QmigCancel *cancel, QmigQmpEvent **event,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * To wait for several connections at once: qmig_qmp_next_event(q, 0, …) on each until NONE,
 * then poll their descriptors for POLLIN, then again. (An execute queues events without
 * leaving the descriptor readable, so never poll before the queues are empty.) The descriptor
 * is borrowed: never read it.
 */
int qmig_qmp_fd(const QmigQmp *q);

/* Read and sort what is there, without blocking. Errors: see above but TIMEOUT, QMP. */
bool qmig_qmp_dispatch(QmigQmp *q, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Events the queue had no room for (see qmp/event.h). */
uint64_t qmig_qmp_n_dropped_events(const QmigQmp *q);

/* Process, user and group of a QEMU behind a unix socket. Errors: UNSUPPORTED (tcp), IO. */
bool qmig_qmp_peer_ucred(const QmigQmp *q, struct ucred *ucred,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * This end of a tcp connection: the address by which QEMU's host reaches us. For a unix
 * socket, the socket's own path. Errors: IO. Return: (transfer full) or NULL.
 */
QmigAddress *qmig_qmp_local_address(const QmigQmp *q,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
