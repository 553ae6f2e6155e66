/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See status-tunnel.h. */
#include "cli/status-tunnel.h"

#include "qmp/client.h"
#include "util/units.h"

#include <stdio.h>

static uint64_t
number(JsonObject *object, const char *key)
{
    return (uint64_t)MAX(qmig_json_int(object, key, 0), 0);
}

static const char *
text_of(JsonObject *object, const char *key)
{
    const char *text = qmig_json_string(object, key);

    return text != NULL && text[0] != '\0' ? text : "-";
}

static JsonObject *
greeting_of(JsonObject *entry)
{
    return qmig_json_get(entry, "qmig", json_type_object);
}

bool
cli_is_tunnel(JsonObject *entry)
{
    return qmig_json_get(greeting_of(entry), "tunnel", json_type_object) != NULL;
}

static JsonObject *
sessions_of(JsonObject *entry)
{
    JsonObject *status = qmig_json_get(greeting_of(entry), "status", json_type_object);

    return qmig_json_get(status, "sessions", json_type_array);
}

static size_t
count(JsonObject *list)
{
    return list != NULL ? json_object_array_length(list) : 0;
}

static void
print_head(JsonObject *entry)
{
    JsonObject *tunnel = qmig_json_get(greeting_of(entry), "tunnel", json_type_object);
    JsonObject *qmig = qmig_json_get(greeting_of(entry), "qmig", json_type_object);
    JsonObject *status = qmig_json_get(greeting_of(entry), "status", json_type_object);
    const char *role = text_of(tunnel, "role");

    printf("tunnel, %s end  process %" G_GUINT64_FORMAT ", %s, listening on %s, %zu "
           "session%s\n",
           role, number(qmig, "pid"), text_of(status, "state"), text_of(tunnel, "listen"),
           count(sessions_of(entry)), count(sessions_of(entry)) == 1 ? "" : "s");
}

/* Of what comes in: nothing is kept of connections that are no more. */
static uint64_t
sum_in(JsonObject *list)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count(list); i++) {
        sum += number(json_object_array_get_idx(list, i), "bytes_in");
    }
    return sum;
}

static void
print_session(JsonObject *session)
{
    JsonObject *wires = qmig_json_get(session, "wires", json_type_array);
    JsonObject *streams = qmig_json_get(session, "streams", json_type_array);
    JsonObject *first = count(wires) > 0 ? json_object_array_get_idx(wires, 0) : NULL;
    g_autofree char *plain = qmig_format_size(number(session, "plain_bytes"));
    g_autofree char *wire = qmig_format_size(number(session, "wire_bytes"));
    g_autofree char *plain_in = qmig_format_size(sum_in(streams));
    g_autofree char *wire_in = qmig_format_size(sum_in(wires));
    g_autofree char *backlog = qmig_format_size(number(
        session, qmig_json_int(session, "backlog", -1) >= 0 ? "backlog" : "unconsumed"));
    g_autofree char *rate = number(session, "rate") > 0
                                ? qmig_format_rate(number(session, "rate"))
                                : g_strdup("not measured");
    g_autofree char *dark = qmig_format_duration(number(session, "dark_ms"));

    printf("  %s  %s, peer %s, %zu connection%s, %zu stream%s\n",
           text_of(session, "name"), text_of(session, "state"), text_of(first, "peer"),
           count(wires), count(wires) == 1 ? "" : "s", count(streams),
           count(streams) == 1 ? "" : "s");
    printf("    out: %s as %s (ratio %.2f), rate %s, backlog %s\n", plain, wire,
           qmig_json_double(session, "ratio", 1.0), rate, backlog);
    printf("    in: %s as %s; %" G_GUINT64_FORMAT " breaks, dark for %s\n", plain_in,
           wire_in, number(session, "breaks"), dark);
}

static void
print_sessions(JsonObject *entry)
{
    JsonObject *sessions = sessions_of(entry);

    for (size_t i = 0; i < count(sessions); i++) {
        print_session(json_object_array_get_idx(sessions, i));
    }
}

void
cli_print_tunnel(JsonObject *entry)
{
    print_head(entry);
    print_sessions(entry);
}

/* Who is at the door, and who was not let in. */
static void
print_gate(JsonObject *entry)
{
    JsonObject *status = qmig_json_get(greeting_of(entry), "status", json_type_object);
    JsonObject *gate = qmig_json_get(status, "gate", json_type_object);
    JsonObject *by = qmig_json_get(gate, "refused_by", json_type_object);

    if (gate == NULL) {
        return;
    }
    printf("  connections: %" G_GUINT64_FORMAT " admitted, %" G_GUINT64_FORMAT
           " refused, %" G_GUINT64_FORMAT " at the door\n",
           number(gate, "admitted"), number(gate, "refused"),
           number(gate, "at_the_door"));
    if (by != NULL) {
        json_object_object_foreach(by, name, value)
        {
            printf("    refused, %s: %s\n", name, json_object_get_string(value));
        }
    }
}

static void
print_limits(JsonObject *entry)
{
    JsonObject *status = qmig_json_get(greeting_of(entry), "status", json_type_object);
    JsonObject *limits = qmig_json_get(status, "limits", json_type_object);

    if (limits == NULL) {
        return;
    }
    g_autofree char *cache = qmig_format_size(number(limits, "cache"));
    g_autofree char *rate = number(limits, "rate") > 0
                                ? qmig_format_rate(number(limits, "rate"))
                                : g_strdup("any");
    printf("  limits: %" G_GUINT64_FORMAT " sessions; of each: rate %s, cache %s\n",
           number(limits, "sessions"), rate, cache);
}

void
cli_print_tunnel_whole(JsonObject *entry)
{
    cli_print_tunnel(entry);
    print_gate(entry);
    print_limits(entry);
}
