/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See reach.h. */
#include "cli/reach.h"

#include "cli/cli.h"
#include "util/error.h"

#include <string.h>

/* It is told how it goes every second; one step without a word may take its minutes. */
enum { SILENCE_MS = 600000 };

void
cli_reach_clear(CliReach *reach)
{
    g_clear_pointer(&reach->peer, qmig_control_peer_free);
    g_clear_pointer(&reach->qmp, qmig_qmp_free);
}

/* What is there instead of what was looked for. */
static bool
tell_absent(const char *target, GError **error)
{
    g_autoptr(GPtrArray) list = qmig_control_list();
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < list->len; i++) {
        JsonObject *greeting = qmig_control_peer_greeting(g_ptr_array_index(list, i));
        JsonObject *job = qmig_json_get(greeting, "job", json_type_object);
        JsonObject *source = qmig_json_get(job, "source", json_type_object);
        const char *guest = qmig_json_string(job, "guest");

        if (job == NULL) {
            continue; /* a tunnel */
        }
        g_string_append_printf(names, "%s%s%s%s", names->len > 0 ? ", " : "; there are ",
                               guest != NULL ? guest : "",
                               guest != NULL && guest[0] != '\0' ? " at " : "",
                               qmig_json_string(source, "qmp"));
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "\"%s\": no running qmig migrate is of that name, and it is no "
                          "QMP address (unix:PATH, tcp:HOST:PORT)%s",
                          target, names->str);
}

bool
cli_reach(const char *target, bool qmp_only, CliReach *reach, GError **error)
{
    g_autoptr(QmigAddress) address = qmig_address_parse(target, NULL);
    g_autoptr(GError) local = NULL;
    struct ucred peer;

    *reach = (CliReach){ 0 };
    reach->peer = qmp_only ? NULL : qmig_control_find(target, &local);
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (reach->peer != NULL) {
        return true;
    }
    if (address == NULL && strchr(target, ':') == NULL && strchr(target, '/') == NULL &&
        !qmp_only) {
        return tell_absent(target, error);
    }
    reach->qmp = cli_connect(target, &local);
    if (reach->qmp == NULL) {
        /* Where it does not speak QMP, it may be a control socket in a place of its own. */
        reach->peer = !qmp_only && address != NULL &&
                              address->kind == QMIG_ADDRESS_UNIX &&
                              g_error_matches(local, QMIG_ERROR, QMIG_ERROR_PROTOCOL)
                          ? qmig_control_open(address->path, NULL)
                          : NULL;
    } else if (!qmp_only && qmig_qmp_peer(reach->qmp, &peer)) {
        reach->peer = qmig_control_find_qemu(peer.pid);
    }
    if (reach->peer != NULL || reach->qmp != NULL) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool
cli_watch_to_end(QmigControlPeer *peer, QmigDeadline deadline,
                 void (*take)(void *data, JsonObject *event), void *data,
                 JsonObject **end, GError **error)
{
    for (;;) {
        QmigDeadline silence = qmig_deadline_in_ms(SILENCE_MS);
        g_autoptr(JsonObject)
            event = qmig_control_next_event(peer, MIN(deadline, silence), error);

        if (event == NULL) {
            return false;
        }
        if (take != NULL) {
            take(data, event);
        }
        if (g_strcmp0(qmig_json_string(event, "event"), "end") == 0) {
            *end = g_steal_pointer(&event);
            return true;
        }
    }
}
