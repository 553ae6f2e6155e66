/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading and changing one QEMU, and putting it back. */
#include "job/side.h"

#include "util/error.h"

#include <poll.h>
#include <string.h>

enum {
    CONNECT_TIMEOUT_MS = 5000,
    QUIT_TIMEOUT_MS = 10000,
};

void
qmig_side_init(QmigSide *side, const char *label)
{
    *side = (QmigSide){ .label = label };
}

void
qmig_side_clear(QmigSide *side)
{
    qmig_qmp_free(side->qmp);
    g_free(side->machine);
    g_free(side->run_state);
    json_object_put(side->capabilities);
    json_object_put(side->parameters);
    json_object_put(side->old_capabilities);
    json_object_put(side->old_parameters);
    qmig_schema_free(side->schema);
    *side = (QmigSide){ .label = side->label };
}

/*
 * The process behind a local monitor. The kernel tells who called listen(2); where a launcher
 * did that and handed the socket over, that is not QEMU, and its end would prove nothing.
 */
static pid_t
find_pid(const QmigQmp *qmp)
{
    g_autofree char *path = NULL, *command = NULL;
    struct ucred peer;
    gsize length = 0;

    if (!qmig_qmp_peer(qmp, &peer) || peer.pid <= 0) {
        return 0;
    }
    path = g_strdup_printf("/proc/%d/cmdline", (int)peer.pid);
    if (!g_file_get_contents(path, &command, &length, NULL)) {
        return 0;
    }
    return memmem(command, length, "qemu", strlen("qemu")) != NULL ? peer.pid : 0;
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
    side->version = qmig_qmp_version(side->qmp);
    side->pid = find_pid(side->qmp);
    side->machine = qmig_qmp_query_machine(side->qmp, error);
    if (side->machine == NULL ||
        !qmig_qmp_query_memory(side->qmp, &side->memory, error) ||
        !qmig_qmp_query_vcpus(side->qmp, &side->vcpus, error) ||
        !qmig_qmp_query_status(side->qmp, &side->running, &side->run_state, NULL,
                               error) ||
        !qmig_qmp_query_migrate(side->qmp, &info, NULL, error)) {
        return false;
    }
    side->migration = info.status;
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
qmig_side_dispatch(QmigSide *side, GError **error)
{
    bool ok = qmig_qmp_dispatch(side->qmp, error);

    for (;;) {
        g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(side->qmp);
        if (event == NULL) {
            return ok;
        }
        if (strcmp(event->name, "STOP") == 0) {
            side->stopped_us = event->arrival_us;
        } else if (strcmp(event->name, "RESUME") == 0) {
            side->resumed_us = event->arrival_us;
        }
    }
}

static bool
apply_capabilities(QmigSide *side, JsonObject *want, GError **error)
{
    g_autoptr(JsonObject) change = json_object_new_object();
    g_autoptr(JsonObject) old = json_object_new_object();

    json_object_object_foreach(side->capabilities, name, state)
    {
        bool is = json_object_get_boolean(state);
        bool shall = json_object_object_get_ex(want, name, NULL);
        if (is != shall) {
            json_object_object_add(change, name, json_object_new_boolean(shall));
            json_object_object_add(old, name, json_object_new_boolean(is));
        }
    }
    if (!qmig_qmp_set_capabilities(side->qmp, change, error)) {
        return false;
    }
    side->old_capabilities = g_steal_pointer(&old);
    return true;
}

static bool
apply_parameters(QmigSide *side, JsonObject *want, GError **error)
{
    g_autoptr(JsonObject) old = json_object_new_object();

    json_object_object_foreach(want, name, value)
    {
        JsonObject *before;
        (void)value;
        if (json_object_object_get_ex(side->parameters, name, &before)) {
            json_object_object_add(old, name, json_object_get(before));
        }
    }
    if (!qmig_qmp_set_parameters(side->qmp, want, error)) {
        return false;
    }
    side->old_parameters = g_steal_pointer(&old);
    return true;
}

bool
qmig_side_apply(QmigSide *side, JsonObject *capabilities, JsonObject *parameters,
                GError **error)
{
    return apply_capabilities(side, capabilities, error) &&
           apply_parameters(side, parameters, error);
}

bool
qmig_side_restore(QmigSide *side, GError **error)
{
    g_autoptr(JsonObject) capabilities = g_steal_pointer(&side->old_capabilities);
    g_autoptr(JsonObject) parameters = g_steal_pointer(&side->old_parameters);

    if (side->qmp == NULL) {
        return true;
    }
    return (parameters == NULL ||
            qmig_qmp_set_parameters(side->qmp, parameters, error)) &&
           (capabilities == NULL ||
            qmig_qmp_set_capabilities(side->qmp, capabilities, error));
}

bool
qmig_side_end(QmigSide *side, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(QUIT_TIMEOUT_MS) };

    if (side->qmp == NULL) {
        return true;
    }
    if (!qmig_qmp_quit(side->qmp, &call, error)) {
        return false;
    }
    /* QEMU answers first and quits then; its closing the socket is the proof. */
    for (;;) {
        g_autoptr(GError) local = NULL;
        struct pollfd pollfd = { .fd = qmig_qmp_fd(side->qmp), .events = POLLIN };

        if (!qmig_qmp_dispatch(side->qmp, &local)) {
            g_clear_pointer(&side->qmp, qmig_qmp_free);
            return true;
        }
        if (qmig_now_us() >= call.deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "%s: QEMU was told to quit and does not", side->label);
        }
        poll(&pollfd, 1, 50);
    }
}
