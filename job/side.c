/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading and changing one QEMU, putting it back, and seeing it gone. */
#include "job/side.h"

#include "util/error.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

enum {
    CONNECT_TIMEOUT_MS = 5000,
    /* A killed process closes its monitor a little before it has ended. */
    DEATH_TIMEOUT_MS = 2000,
    QUIT_TIMEOUT_MS = 10000,
    /* From the end of the monitor to that of the process: it has much memory to give back. */
    EXIT_TIMEOUT_MS = 30000,
};

void
qmig_side_init(QmigSide *side, const char *label)
{
    *side = (QmigSide){ .label = label, .pidfd = -1 };
}

void
qmig_side_clear(QmigSide *side)
{
    qmig_qmp_free(side->qmp);
    qmig_fd_clear(&side->pidfd);
    g_free(side->machine);
    g_free(side->name);
    g_free(side->uuid);
    g_free(side->run_state);
    g_free(side->io_error);
    json_object_put(side->capabilities);
    json_object_put(side->parameters);
    qmig_schema_free(side->schema);
    qmig_side_init(side, side->label);
}

/* ---- begin ------------------------------------------------------------------------------ */

/* The name of the program a process runs, also where the dynamic loader was told to run it. */
static bool
is_qemu(pid_t pid)
{
    g_autofree char *name_path = g_strdup_printf("/proc/%d/comm", (int)pid);
    g_autofree char *args_path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    g_autofree char *name = NULL, *args = NULL;
    gsize size = 0;

    if (!g_file_get_contents(name_path, &name, NULL, NULL)) {
        return false;
    }
    if (!g_str_has_prefix(name, "ld-linux")) {
        return g_str_has_prefix(name, "qemu");
    }
    return g_file_get_contents(args_path, &args, &size, NULL) &&
           memmem(args, size, "/qemu-system-", strlen("/qemu-system-")) != NULL;
}

/*
 * The process behind a local monitor. The kernel tells who called listen(2); where a launcher
 * did that and handed the socket over, that is not QEMU, and its end would prove nothing.
 */
static int
open_process(const QmigQmp *qmp, pid_t *pid)
{
    struct ucred peer;

    if (!qmig_qmp_peer(qmp, &peer) || peer.pid <= 0 || !is_qemu(peer.pid)) {
        return -1;
    }
    *pid = peer.pid;
    return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

/* A reply of one text member; "" when this QEMU does not tell. */
static bool
query_text(QmigQmp *qmp, const char *command, const char *member, char **text,
           GError **error)
{
    g_autoptr(JsonObject) reply = NULL;
    const char *value;

    if (!qmig_qmp_execute(qmp, command, NULL, &reply, NULL, error)) {
        return false;
    }
    value = qmig_json_string(reply, member);
    *text = g_strdup(value != NULL ? value : "");
    return true;
}

static bool
read_settings(QmigSide *side, GError **error)
{
    side->capabilities = qmig_qmp_get_capabilities(side->qmp, error);
    if (side->capabilities == NULL) {
        return false;
    }
    side->parameters = qmig_qmp_get_parameters(side->qmp, error);
    if (side->parameters == NULL) {
        return false;
    }
    side->schema = qmig_schema_load(side->qmp, error);
    return side->schema != NULL;
}

bool
qmig_side_begin(QmigSide *side, const QmigAddress *address, const QmigCancel *cancel,
                GError **error)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    side->qmp = qmig_qmp_connect(address, side->label,
                                 qmig_deadline_in_ms(CONNECT_TIMEOUT_MS), cancel, error);
    if (side->qmp == NULL) {
        return false;
    }
    side->is_local = address->kind == QMIG_ADDRESS_UNIX;
    side->version = qmig_qmp_version(side->qmp);
    side->pidfd = open_process(side->qmp, &side->pid);
    side->machine = qmig_qmp_query_machine(side->qmp, error);
    if (side->machine == NULL ||
        !query_text(side->qmp, "query-name", "name", &side->name, error) ||
        !query_text(side->qmp, "query-uuid", "UUID", &side->uuid, error) ||
        !qmig_qmp_query_memory(side->qmp, &side->memory, error) ||
        !qmig_qmp_query_vcpus(side->qmp, &side->vcpus, error) ||
        !qmig_qmp_query_status(side->qmp, &side->running, &side->run_state, NULL,
                               error) ||
        !qmig_qmp_query_migrate(side->qmp, &info, NULL, error)) {
        return false;
    }
    side->migration = info.status;
    return read_settings(side, error);
}

/* ---- events ----------------------------------------------------------------------------- */

static const char *
text_or(JsonObject *object, const char *key, const char *fallback)
{
    const char *text = qmig_json_string(object, key);

    return text != NULL ? text : fallback;
}

static void
take_io_error(QmigSide *side, JsonObject *data)
{
    g_free(side->io_error);
    side->io_error = g_strdup_printf(
        "%s: %s: %s (%s)", text_or(data, "device", text_or(data, "node-name", "?")),
        text_or(data, "operation", "?"), text_or(data, "reason", "?"),
        text_or(data, "action", "?"));
}

static void
take_event(QmigSide *side, const QmigQmpEvent *event)
{
    if (strcmp(event->name, "STOP") == 0) {
        side->stopped_us = event->arrival_us;
    } else if (strcmp(event->name, "RESUME") == 0) {
        side->resumed_us = event->arrival_us;
    } else if (strcmp(event->name, "SHUTDOWN") == 0) {
        side->guest_shut_down = qmig_json_bool(event->data, "guest", false);
    } else if (strcmp(event->name, "DEVICE_DELETED") == 0) {
        side->device_gone = true;
    } else if (strcmp(event->name, "BLOCK_IO_ERROR") == 0) {
        take_io_error(side, event->data);
    } else if (strcmp(event->name, "MIGRATION") != 0) {
        return;
    }
    side->has_news = true;
}

bool
qmig_side_dispatch(QmigSide *side, GError **error)
{
    if (side->qmp == NULL) {
        side->closed = true;
        return qmig_set_error(error, QMIG_ERROR_CLOSED, "%s: there is no connection",
                              side->label);
    }
    bool ok = qmig_qmp_dispatch(side->qmp, error);

    for (;;) {
        g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(side->qmp);
        if (event == NULL) {
            side->closed = side->closed || !ok;
            return ok;
        }
        take_event(side, event);
    }
}

/* ---- settings --------------------------------------------------------------------------- */

static bool
apply_capabilities(QmigSide *side, JsonObject *want, GError **error)
{
    g_autoptr(JsonObject) change = json_object_new_object();

    json_object_object_foreach(side->capabilities, name, state)
    {
        bool shall = json_object_object_get_ex(want, name, NULL);
        if (json_object_get_boolean(state) != shall) {
            json_object_object_add(change, name, json_object_new_boolean(shall));
        }
    }
    return qmig_qmp_set_capabilities(side->qmp, change, error);
}

/* QEMU 7.2 takes multifd-zlib-level and multifd-zstd-level, and keeps what they were. */
static bool
check_taken(QmigSide *side, JsonObject *wanted, GError **error)
{
    g_autoptr(JsonObject) now = NULL;

    if (json_object_object_length(wanted) == 0) {
        return true;
    }
    now = qmig_qmp_get_parameters(side->qmp, error);
    if (now == NULL) {
        return false;
    }
    json_object_object_foreach(wanted, name, value)
    {
        JsonObject *present = NULL;
        if (json_object_is_type(value, json_type_int) &&
            json_object_object_get_ex(now, name, &present) &&
            !json_object_equal(value, present)) {
            return qmig_set_error(
                error, QMIG_ERROR_UNSUPPORTED,
                "%s: %s: this QEMU took %s, and keeps %s: start it with -global "
                "migration.%s=%s, or leave that out",
                side->label, name, json_object_get_string(value),
                json_object_get_string(present), name, json_object_get_string(value));
        }
    }
    return true;
}

bool
qmig_side_apply(QmigSide *side, JsonObject *capabilities, JsonObject *parameters,
                GError **error)
{
    side->touched = true;
    return apply_capabilities(side, capabilities, error) &&
           qmig_qmp_set_parameters(side->qmp, parameters, error) &&
           check_taken(side, parameters, error);
}

char *
qmig_side_leftover_capabilities(const QmigSide *side, JsonObject *wanted)
{
    g_autoptr(GString) names = g_string_new(NULL);

    json_object_object_foreach(side->capabilities, name, state)
    {
        if (json_object_get_boolean(state) &&
            !json_object_object_get_ex(wanted, name, NULL)) {
            g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", name);
        }
    }
    return names->len > 0 ? g_strdup(names->str) : NULL;
}

/* The members of @before whose value in @now is another. */
static JsonObject *
find_changes(JsonObject *before, JsonObject *now)
{
    JsonObject *changes = json_object_new_object();

    json_object_object_foreach(before, name, value)
    {
        JsonObject *present;
        if (json_object_object_get_ex(now, name, &present) &&
            !json_object_equal(value, present)) {
            json_object_object_add(changes, name, json_object_get(value));
        }
    }
    return changes;
}

bool
qmig_side_restore(QmigSide *side, GError **error)
{
    g_autoptr(JsonObject) capabilities = NULL, parameters = NULL;
    g_autoptr(JsonObject) old_capabilities = NULL, old_parameters = NULL;

    if (side->qmp == NULL || !side->touched) {
        return true;
    }
    capabilities = qmig_qmp_get_capabilities(side->qmp, error);
    if (capabilities == NULL) {
        return false;
    }
    parameters = qmig_qmp_get_parameters(side->qmp, error);
    if (parameters == NULL) {
        return false;
    }
    old_capabilities = find_changes(side->capabilities, capabilities);
    old_parameters = find_changes(side->parameters, parameters);
    if (!qmig_qmp_set_parameters(side->qmp, old_parameters, error) ||
        !qmig_qmp_set_capabilities(side->qmp, old_capabilities, error)) {
        return false;
    }
    side->touched = false;
    return true;
}

/* ---- the end ---------------------------------------------------------------------------- */

static bool
process_ended(const QmigSide *side, int timeout_ms)
{
    /* A pidfd becomes readable when the process has ended, reaped or not. */
    struct pollfd pollfd = { .fd = side->pidfd, .events = POLLIN };

    return side->pidfd >= 0 && poll(&pollfd, 1, timeout_ms) == 1;
}

bool
qmig_side_is_dead(const QmigSide *side)
{
    return side->dead || process_ended(side, side->closed ? DEATH_TIMEOUT_MS : 0);
}

/* Wait until QEMU, told to quit, closes its monitor. */
static bool
await_close(QmigSide *side, QmigDeadline deadline, GError **error)
{
    struct pollfd pollfd = { .fd = qmig_qmp_fd(side->qmp), .events = POLLIN };

    while (qmig_side_dispatch(side, NULL)) {
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "%s: QEMU was told to quit and does not", side->label);
        }
        poll(&pollfd, 1, 50);
    }
    return true;
}

bool
qmig_side_end(QmigSide *side, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(QUIT_TIMEOUT_MS) };
    g_autoptr(GError) local = NULL;
    bool acknowledged;

    if (side->dead || (side->qmp == NULL && !side->unreachable)) {
        return true;
    }
    if (side->qmp == NULL) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED, "%s: it cannot be reached",
                              side->label);
    }
    acknowledged = qmig_qmp_execute(side->qmp, "quit", NULL, NULL, &call, &local);
    if (!acknowledged && !g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        if (qmig_side_is_dead(side)) {
            g_clear_pointer(&side->qmp, qmig_qmp_free);
            return true;
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (acknowledged && !await_close(side, call.deadline, error)) {
        return false;
    }
    side->closed = true;
    if (side->pidfd >= 0 && !process_ended(side, EXIT_TIMEOUT_MS)) {
        return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                              "%s: QEMU closed its monitor, but its process goes on",
                              side->label);
    }
    /* Who closes a connection over the network may be the network. */
    if (!acknowledged && !side->is_local) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED,
                              "%s: its monitor is closed, which does not prove that QEMU "
                              "has ended",
                              side->label);
    }
    g_clear_pointer(&side->qmp, qmig_qmp_free);
    return true;
}

bool
qmig_side_kill(QmigSide *side)
{
    if (side->pidfd < 0 ||
        syscall(SYS_pidfd_send_signal, side->pidfd, SIGKILL, NULL, 0) < 0 ||
        !process_ended(side, EXIT_TIMEOUT_MS)) {
        return false;
    }
    side->closed = true;
    g_clear_pointer(&side->qmp, qmig_qmp_free);
    return true;
}
