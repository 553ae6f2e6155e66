/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Its protocol is QMP's without greeting and events. 0xff makes the agent drop what it has read
 * so far, and `guest-sync-delimited` makes it begin its answer with 0xff: what an earlier client
 * has asked for, and nobody read, ends there.
 */
#include "qmp/agent.h"

#include "qmp/client.h"
#include "qmp/framer.h"
#include "util/error.h"
#include "util/socket.h"

#include <string.h>

/* Of what an earlier client left behind; the answers used here have some hundred bytes. */
enum { MAX_NOISE = 1 << 20, DELIMITER = 0xff };

struct QmigAgent {
    char *label;
    QmigFd fd;
    QmigQmpFramer *framer;
};

void
qmig_agent_free(QmigAgent *agent)
{
    if (agent != NULL) {
        qmig_fd_clear(&agent->fd);
        qmig_qmp_framer_free(agent->framer);
        g_free(agent->label);
        g_free(agent);
    }
}

static bool
send_command(QmigAgent *agent, const char *command, JsonObject *arguments,
             QmigDeadline deadline, GError **error)
{
    g_autoptr(JsonObject) request = json_object_new_object();
    g_autofree char *line = NULL;

    json_object_object_add(request, "execute", json_object_new_string(command));
    if (arguments != NULL) {
        json_object_object_add(request, "arguments", arguments);
    }
    line = g_strdup_printf(
        "%s\n", json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN));
    return qmig_socket_write_all(agent->fd, line, strlen(line), deadline, NULL, error);
}

/* Some bytes. */
static ssize_t
read_some(QmigAgent *agent, void *buf, size_t len, QmigDeadline deadline, GError **error)
{
    ssize_t n = qmig_socket_read(agent->fd, buf, len, deadline, NULL, error);

    if (n == 0) {
        qmig_set_error(error, QMIG_ERROR_CLOSED, "the channel was closed");
        return -1;
    }
    return n;
}

/* The next whole object. */
static JsonObject *
read_object(QmigAgent *agent, QmigDeadline deadline, GError **error)
{
    JsonObject *object = NULL;
    char buf[4096];

    for (;;) {
        if (!qmig_qmp_framer_next(agent->framer, &object, error) || object != NULL) {
            return object;
        }
        ssize_t n = read_some(agent, buf, sizeof buf, deadline, error);
        if (n < 0 || !qmig_qmp_framer_push(agent->framer, buf, (size_t)n, error)) {
            return NULL;
        }
    }
}

/* Read until the last 0xff that is there, and keep what follows. */
static bool
pass_noise(QmigAgent *agent, QmigDeadline deadline, GError **error)
{
    size_t noise = 0;

    while (noise < MAX_NOISE) {
        char buf[4096];
        ssize_t n = read_some(agent, buf, sizeof buf, deadline, error);
        if (n < 0) {
            return false;
        }
        char *last = memrchr(buf, DELIMITER, (size_t)n);
        if (last != NULL) {
            return qmig_qmp_framer_push(agent->framer, last + 1,
                                        (size_t)(buf + n - last - 1), error);
        }
        noise += (size_t)n;
    }
    return qmig_set_error(error, QMIG_ERROR_LIMIT,
                          "%d bytes, and no answer to a synchronisation among them",
                          MAX_NOISE);
}

static bool
synchronise(QmigAgent *agent, QmigDeadline deadline, GError **error)
{
    static const char delimiter[] = { (char)DELIMITER };
    /* Any number that nobody else has sent. */
    int64_t id = g_random_int();
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "id", json_object_new_int64(id));
    if (!qmig_socket_write_all(agent->fd, delimiter, 1, deadline, NULL, error) ||
        !send_command(agent, "guest-sync-delimited", arguments, deadline, error) ||
        !pass_noise(agent, deadline, error)) {
        return false;
    }
    for (;;) {
        g_autoptr(JsonObject) answer = read_object(agent, deadline, error);
        if (answer == NULL) {
            return false;
        }
        if (qmig_json_int(answer, "return", -1) == id) {
            return true;
        }
    }
}

static bool
say_who(QmigAgent *agent, bool ok, GError **error)
{
    if (!ok && error != NULL && *error != NULL) {
        g_prefix_error(error, "%s: guest agent: ", agent->label);
    }
    return ok;
}

QmigAgent *
qmig_agent_connect(const QmigAddress *address, const char *label, QmigDeadline deadline,
                   GError **error)
{
    g_autoptr(QmigAgent) agent = g_new0(QmigAgent, 1);

    agent->label = g_strdup(label);
    agent->framer = qmig_qmp_framer_new();
    agent->fd = qmig_socket_connect(address, deadline, NULL, error);
    if (!say_who(agent, agent->fd >= 0 && synchronise(agent, deadline, error), error)) {
        return NULL;
    }
    return g_steal_pointer(&agent);
}

static bool
take_answer(const char *command, JsonObject *answer, JsonObject **result, GError **error)
{
    JsonObject *value = NULL;
    JsonObject *no = qmig_json_get(answer, "error", json_type_object);

    if (no != NULL) {
        const char *text = qmig_json_string(no, "desc");
        return qmig_set_error(error, QMIG_ERROR_QMP, "%s: %s", command,
                              text != NULL ? text : "it said no");
    }
    if (!json_object_object_get_ex(answer, "return", &value)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%s: the answer has neither \"return\" nor \"error\"",
                              command);
    }
    if (result != NULL) {
        *result = json_object_get(value);
    }
    return true;
}

bool
qmig_agent_execute(QmigAgent *agent, const char *command, JsonObject *arguments,
                   JsonObject **result, QmigDeadline deadline, GError **error)
{
    g_autoptr(JsonObject) answer = NULL;

    if (send_command(agent, command, arguments, deadline, error)) {
        answer = read_object(agent, deadline, error);
    }
    return say_who(agent, answer != NULL && take_answer(command, answer, result, error),
                   error);
}

static bool
execute_count(QmigAgent *agent, const char *command, int64_t *count,
              QmigDeadline deadline, GError **error)
{
    g_autoptr(JsonObject) result = NULL;

    if (!qmig_agent_execute(agent, command, NULL, &result, deadline, error)) {
        return false;
    }
    *count = json_object_get_int64(result);
    return true;
}

bool
qmig_agent_freeze(QmigAgent *agent, int64_t *count, QmigDeadline deadline, GError **error)
{
    return execute_count(agent, "guest-fsfreeze-freeze", count, deadline, error);
}

bool
qmig_agent_thaw(QmigAgent *agent, int64_t *count, QmigDeadline deadline, GError **error)
{
    return execute_count(agent, "guest-fsfreeze-thaw", count, deadline, error);
}

bool
qmig_agent_set_time(QmigAgent *agent, QmigDeadline deadline, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    /* Nanoseconds since 1970. */
    json_object_object_add(arguments, "time",
                           json_object_new_int64(g_get_real_time() * 1000));
    return qmig_agent_execute(agent, "guest-set-time", arguments, NULL, deadline, error);
}
