/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qemu-ga, the agent inside a guest, behind the socket of its channel.
 *
 * There may be nobody at the other end: every call has a deadline, and the first word is a
 * synchronisation that an agent which still answers somebody else survives.
 */
#ifndef QMIG_QMP_AGENT_H
#define QMIG_QMP_AGENT_H

#include "util/address.h"
#include "util/auto.h"
#include "util/cancel.h"

#include <stdbool.h>

typedef struct QmigAgent QmigAgent;

/**
 * qmig_agent_connect() - connect to the channel and hear the agent
 *
 * Errors: TIMEOUT: nobody answers in the guest; IO, CLOSED, PROTOCOL.
 */
QmigAgent *qmig_agent_connect(const QmigAddress *address, const char *label,
                              QmigDeadline deadline,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_agent_free(QmigAgent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigAgent, qmig_agent_free)

/**
 * qmig_agent_execute() - run a command
 * @arguments: (transfer full) (nullable)
 * @result:    (out) (optional) (transfer full) the "return" value
 *
 * Errors: QMP: the agent said no; TIMEOUT, CLOSED, PROTOCOL, LIMIT, IO.
 */
bool qmig_agent_execute(QmigAgent *agent, const char *command, JsonObject *arguments,
                        JsonObject **result, QmigDeadline deadline,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Filesystems frozen or thawed; @count: (out) how many. */
bool qmig_agent_freeze(QmigAgent *agent, int64_t *count, QmigDeadline deadline,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_agent_thaw(QmigAgent *agent, int64_t *count, QmigDeadline deadline,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Set the guest's clock to this host's. */
bool qmig_agent_set_time(QmigAgent *agent, QmigDeadline deadline,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
