/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A QMP connection: greeting, commands with deadlines, events, out-of-band commands,
 * descriptors.
 *
 * Calls block up to their deadline; events that arrive meanwhile are queued. Every error
 * message begins with the connection's label ("source", "destination").
 * Threads: one thread at a time for each connection.
 */
#ifndef QMIG_QMP_CLIENT_H
#define QMIG_QMP_CLIENT_H

#include "util/address.h"
#include "util/auto.h"
#include "util/cancel.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

typedef struct QmigQmp QmigQmp;

typedef struct {
    char *name;         /* "STOP", "MIGRATION", …; owned */
    JsonObject *data;   /* (nullable) owned */
    int64_t qemu_us;    /* QEMU's wall clock, microseconds; -1 when it could not tell */
    int64_t arrival_us; /* qmig_now_us() when it was read */
} QmigQmpEvent;

void qmig_qmp_event_free(QmigQmpEvent *event);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigQmpEvent, qmig_qmp_event_free)

/* What a call may need beyond its command. All members may be 0. */
typedef struct {
    QmigDeadline deadline;    /* 0 = 10 seconds from now */
    const QmigCancel *cancel; /* (nullable) ends the wait at once */
    bool oob; /* exec-oob: only commands QEMU allows, on an OOB connection */
    int fd;   /* > 0: sent along as SCM_RIGHTS; unix sockets only */
} QmigQmpCall;

/**
 * qmig_qmp_connect() - connect, read the greeting, negotiate
 * @label: whom this is, for messages: "source", "destination"; copied
 *
 * OOB is enabled when QEMU offers it. Errors: IO, TIMEOUT (QEMU serves one client for each QMP
 * socket: another one may hold it), CLOSED, PROTOCOL.
 */
QmigQmp *qmig_qmp_connect(const QmigAddress *address, const char *label,
                          QmigDeadline deadline, const QmigCancel *cancel,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_qmp_free(QmigQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigQmp, qmig_qmp_free)

/**
 * qmig_qmp_execute() - run a command, wait for its reply
 * @arguments: (transfer full) (nullable)
 * @result:    (out) (optional) (transfer full) the "return" value; may be NULL for JSON null
 * @call:      (nullable)
 *
 * Errors: QMP: QEMU said no ("source: migrate: GenericError: …"; see
 *         qmig_qmp_error_class()); TIMEOUT: the command may still take effect; CLOSED; PROTOCOL.
 */
bool qmig_qmp_execute(QmigQmp *qmp, const char *command, JsonObject *arguments,
                      JsonObject **result, const QmigQmpCall *call,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Somebody who answers in QEMU's place. DONE: @result is the answer, (transfer full), NULL for
 * an empty object; FAILED: @error is set; PASS: QEMU shall be asked.
 */
typedef enum {
    QMIG_STAND_IN_PASS,
    QMIG_STAND_IN_DONE,
    QMIG_STAND_IN_FAILED,
} QmigStandInAnswer;

typedef QmigStandInAnswer (*QmigStandIn)(void *data, const char *command,
                                         JsonObject *arguments, JsonObject **result,
                                         GError **error);

/* From now on every command goes to @stand_in first: what it does not pass is never sent. */
void qmig_qmp_set_stand_in(QmigQmp *qmp, QmigStandIn stand_in, void *data);
/* For a stand-in: an event as if QEMU had sent it. @data: (transfer full) (nullable) */
void qmig_qmp_pretend_event(QmigQmp *qmp, const char *name, JsonObject *data);
/* For a stand-in: from now on QEMU counts as gone. */
void qmig_qmp_pretend_closed(QmigQmp *qmp);

/* QEMU's class of the last QMP error ("CommandNotFound", "GenericError", …), "" if none. */
const char *qmig_qmp_error_class(const QmigQmp *qmp);

/* Read what is there without waiting, queueing events; of a flood only the first 128 KiB, the
 * descriptor staying readable. Errors: CLOSED, PROTOCOL, IO. */
bool qmig_qmp_dispatch(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The oldest queued event, or NULL; reads nothing. (transfer full)
 * Repeated MIGRATION_PASS events are folded into the newest. */
QmigQmpEvent *qmig_qmp_take_event(QmigQmp *qmp);
/* Events lost because nobody took them; those a migration hangs on are the last to go. */
uint64_t qmig_qmp_n_dropped_events(const QmigQmp *qmp);

/* For poll(2): readable when qmig_qmp_dispatch() has something to do. */
int qmig_qmp_fd(const QmigQmp *qmp);
const char *qmig_qmp_label(const QmigQmp *qmp);
bool qmig_qmp_has_oob(const QmigQmp *qmp);
/* major * 10000 + minor * 100 + micro, from the greeting. */
unsigned qmig_qmp_version(const QmigQmp *qmp);

/* Who is at the other end; false for tcp. */
bool qmig_qmp_peer(const QmigQmp *qmp, struct ucred *cred);
/* This end's address of a tcp connection, port 0: where QEMU can reach us. (transfer full) */
QmigAddress *qmig_qmp_local_address(const QmigQmp *qmp);

/* Helpers to read replies: absent or of another type = the fallback. */
int64_t qmig_json_int(JsonObject *object, const char *key, int64_t fallback);
double qmig_json_double(JsonObject *object, const char *key, double fallback);
bool qmig_json_bool(JsonObject *object, const char *key, bool fallback);
/* Borrowed from @object. (nullable) */
const char *qmig_json_string(JsonObject *object, const char *key);
/* A member that is an object or a list, borrowed; NULL when absent. */
JsonObject *qmig_json_get(JsonObject *object, const char *key, enum json_type type);

#endif
