/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The report of a migration that is done, for people. */
#include "cli/render.h"
#include "qmp/client.h"
#include "util/units.h"

#include <stdio.h>

/* Of a migration with many passes the first and the last ones tell the story. */
enum { FIRST_PASSES = 4, LAST_PASSES = 8 };

static void row(const char *name, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

static void
row(const char *name, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    printf("  %-16s", name);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

static void
print_iteration(JsonObject *it)
{
    g_autofree char *size = qmig_format_size((uint64_t)qmig_json_int(it, "bytes", 0));
    g_autofree char *time = qmig_format_duration(
        (uint64_t)qmig_json_int(it, "duration_ms", 0));
    g_autofree char *name = g_strdup_printf("pass %" G_GINT64_FORMAT,
                                            qmig_json_int(it, "number", 0));
    g_autofree char *resent = g_strdup_printf("%9" G_GINT64_FORMAT " resent",
                                              qmig_json_int(it, "resent", 0));

    row(name, "%-10s %9" G_GINT64_FORMAT " normal %9" G_GINT64_FORMAT " zero %s  %s",
        size, qmig_json_int(it, "normal", 0), qmig_json_int(it, "zero", 0),
        json_object_object_get_ex(it, "resent", NULL) ? resent : "", time);
}

static void
print_iterations(JsonObject *report)
{
    JsonObject *list = qmig_json_get(report, "iterations", json_type_array);
    size_t n = list != NULL ? json_object_array_length(list) : 0;

    for (size_t i = 0; i < n; i++) {
        if (n > FIRST_PASSES + LAST_PASSES && i == FIRST_PASSES) {
            row("…", "%zu more", n - FIRST_PASSES - LAST_PASSES);
            i = n - LAST_PASSES;
        }
        print_iteration(json_object_array_get_idx(list, i));
    }
}

static void
print_stream(JsonObject *report)
{
    JsonObject *proxy = qmig_json_get(report, "proxy", json_type_object);
    JsonObject *stats = qmig_json_get(qmig_json_get(proxy, "plugins", json_type_object),
                                      "stats", json_type_object);
    JsonObject *devices = qmig_json_get(stats, "devices", json_type_array);
    g_autofree char *bytes = qmig_format_size((uint64_t)qmig_json_int(stats, "bytes", 0));
    g_autofree char *state = qmig_format_size(
        (uint64_t)qmig_json_int(stats, "device_bytes", 0));
    g_autofree char *text = qmig_format_size(
        (uint64_t)qmig_json_int(stats, "description_bytes", 0));

    if (stats == NULL) {
        return;
    }
    row("device state", "%s in %zu sections, and %s describing it", state,
        devices != NULL ? json_object_array_length(devices) : 0, text);
    row("stream", "%s on the main channel, seen by the proxy", bytes);
}

static void
print_notices(JsonObject *list)
{
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        row("notice", "%s", json_object_get_string(json_object_array_get_idx(list, i)));
    }
}

/* Where the guest is, and what became of the source. */
static void
print_headline(JsonObject *report)
{
    static const struct {
        const char *end, *text;
    } ends[] = {
        { "quit", "; the source has quit" },
        { "gone", "; the source was gone already" },
        { "kept", "; the source is kept, and must not be continued" },
        { "not proven gone",
          "; the source may be there still, and must not be continued" },
    };
    const char *end = qmig_json_string(qmig_json_get(report, "source", json_type_object),
                                       "end");
    const char *name = qmig_json_string(report, "guest_name");
    bool has_name = name != NULL && name[0] != '\0';

    printf("migrated: the guest %s%s%s on the destination", has_name ? name : "",
           has_name ? " " : "",
           qmig_json_bool(report, "guest_runs", false) ? "runs" : "is, not running,");
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        printf("%s", g_strcmp0(end, ends[i].end) == 0 ? ends[i].text : "");
    }
    putchar('\n');
}

void
cli_print_report(JsonObject *report)
{
    JsonObject *ms = qmig_json_get(report, "ms", json_type_object);
    JsonObject *ram = qmig_json_get(report, "ram", json_type_object);
    g_autofree char *total = qmig_format_duration(
        (uint64_t)qmig_json_int(ms, "migrate", 0));
    g_autofree char *size = qmig_format_size((uint64_t)qmig_json_int(ram, "total", 0));
    g_autofree char *sent = qmig_format_size(
        (uint64_t)qmig_json_int(ram, "transferred", 0));
    double blackout = qmig_json_double(ms, "blackout", -1);

    print_headline(report);
    row("time", "%s", total);
    row("downtime", "%" G_GINT64_FORMAT " ms by QEMU's count",
        qmig_json_int(ms, "downtime", 0));
    if (blackout >= 0) {
        row("blackout", "%.1f ms from the guest's stop to its running again", blackout);
    }
    row("memory", "%s, sent %s in %" G_GINT64_FORMAT " iterations", size, sent,
        qmig_json_int(ram, "iterations", 0));
    row("pages", "%" G_GINT64_FORMAT " normal, %" G_GINT64_FORMAT " zero",
        qmig_json_int(ram, "pages_normal", 0), qmig_json_int(ram, "pages_zero", 0));
    print_iterations(report);
    print_stream(report);
    print_notices(qmig_json_get(qmig_json_get(report, "proxy", json_type_object),
                                "notices", json_type_array));
    fflush(stdout);
}
