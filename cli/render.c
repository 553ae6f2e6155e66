/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Progress: a redrawn line on a terminal, one line for each iteration elsewhere. */
#include "cli/render.h"

#include "qmp/client.h"
#include "util/clock.h"
#include "util/units.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    REDRAW_US = 100000,
    BAR_WIDTH = 20,
    DEFAULT_COLUMNS = 80,
};

bool
cli_render_init(CliRender *render, const char *kind)
{
    static const char *const kinds[] = { "none", "tty", "plain", "json" };

    *render = (CliRender){ 0 };
    if (kind == NULL || strcmp(kind, "auto") == 0) {
        render->kind = isatty(STDERR_FILENO) ? CLI_PROGRESS_TTY : CLI_PROGRESS_PLAIN;
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kind, kinds[i]) == 0) {
            render->kind = (CliProgressKind)i;
            return true;
        }
    }
    return false;
}

void
cli_render_end(CliRender *render)
{
    if (render->line_drawn) {
        fputc('\n', stderr);
        render->line_drawn = false;
    }
}

/* One JSON object a line: {"event": kind, …}. Takes @object. */
static void
print_event(JsonObject *object)
{
    fprintf(stderr, "%s\n",
            json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                       JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
}

static JsonObject *
new_event(const char *kind)
{
    JsonObject *object = json_object_new_object();

    json_object_object_add(object, "event", json_object_new_string(kind));
    return object;
}

static void
on_phase(void *data, QmigPhase phase)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_PLAIN) {
        fprintf(stderr, "phase=%s\n", qmig_phase_name(phase));
    } else if (render->kind == CLI_PROGRESS_JSON) {
        JsonObject *object = new_event("phase");
        json_object_object_add(object, "phase",
                               json_object_new_string(qmig_phase_name(phase)));
        print_event(object);
    }
}

static void
on_message(void *data, const char *text)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_NONE) {
        return;
    }
    if (render->kind == CLI_PROGRESS_JSON) {
        JsonObject *object = new_event("message");
        json_object_object_add(object, "text", json_object_new_string(text));
        print_event(object);
        return;
    }
    /* Over the progress line, which is drawn anew below. */
    fprintf(stderr, "%s%s\n", render->line_drawn ? "\r\033[K" : "", text);
    render->line_drawn = false;
    render->drawn_us = 0;
}

static char *
left_text(const QmigProgress *p)
{
    g_autofree char *duration = NULL;

    if (p->phase > QMIG_PHASE_PERFORM) {
        return g_strdup("");
    }
    if (p->left_max_ms < 0) {
        return g_strdup(p->iteration > 0 ? "  left ?: dirtied faster than sent" : "");
    }
    duration = qmig_format_duration((uint64_t)p->left_max_ms);
    return g_strdup_printf("  left %s", duration);
}

static int
columns(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0
               ? size.ws_col
               : DEFAULT_COLUMNS;
}

static void
draw_line(CliRender *render, const QmigProgress *p)
{
    static const char full[] = "####################", none[] = "....................";
    g_autofree char *rate = qmig_format_rate(p->rate);
    g_autofree char *dirty = qmig_format_rate(p->dirty_rate);
    g_autofree char *left = left_text(p);
    int filled = (int)(p->percent * BAR_WIDTH / 100);
    g_autofree char *line = g_strdup_printf(
        "%-10s [%.*s%.*s] %3u%%  it %" G_GUINT64_FORMAT
        "  %s  dirty %s  pages %" G_GUINT64_FORMAT " normal %" G_GUINT64_FORMAT
        " zero %" G_GUINT64_FORMAT " resent%s",
        qmig_phase_name(p->phase), filled, full, BAR_WIDTH - filled, none, p->percent,
        p->iteration, rate, dirty, p->pages_normal, p->pages_zero, p->pages_resent, left);

    /* A line that wraps could not be redrawn. All of it is ASCII. */
    fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    fflush(stderr);
    render->line_drawn = true;
    render->drawn_us = qmig_now_us();
}

static void
on_progress(void *data, const QmigProgress *p)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_TTY &&
        (p->percent == 100 || qmig_now_us() - render->drawn_us >= REDRAW_US)) {
        draw_line(render, p);
    }
}

static void
iteration_json(const QmigProgress *p)
{
    JsonObject *o = new_event("iteration");

    json_object_object_add(o, "iteration", json_object_new_int64((int64_t)p->iteration));
    json_object_object_add(o, "elapsed_ms",
                           json_object_new_int64((int64_t)p->elapsed_ms));
    json_object_object_add(o, "transferred",
                           json_object_new_int64((int64_t)p->transferred));
    json_object_object_add(o, "remaining", json_object_new_int64((int64_t)p->remaining));
    json_object_object_add(o, "rate", json_object_new_int64((int64_t)p->rate));
    json_object_object_add(o, "dirty_rate",
                           json_object_new_int64((int64_t)p->dirty_rate));
    json_object_object_add(o, "expected_downtime_ms",
                           json_object_new_int64((int64_t)p->expected_downtime_ms));
    print_event(o);
}

static void
on_iteration(void *data, const QmigProgress *p)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_JSON) {
        iteration_json(p);
    } else if (render->kind == CLI_PROGRESS_PLAIN) {
        fprintf(stderr,
                "iter=%" G_GUINT64_FORMAT " elapsed=%" G_GUINT64_FORMAT
                "ms sent=%" G_GUINT64_FORMAT "MiB left=%" G_GUINT64_FORMAT
                "MiB rate=%" G_GUINT64_FORMAT "MiB/s dirty=%" G_GUINT64_FORMAT
                "MiB/s normal=%" G_GUINT64_FORMAT " zero=%" G_GUINT64_FORMAT
                " resent=%" G_GUINT64_FORMAT " est_downtime=%" G_GUINT64_FORMAT "ms\n",
                p->iteration, p->elapsed_ms, p->transferred >> 20, p->remaining >> 20,
                p->rate >> 20, p->dirty_rate >> 20, p->pages_normal, p->pages_zero,
                p->pages_resent, p->expected_downtime_ms);
    }
}

const QmigJobWatcher cli_render_watcher = {
    .phase = on_phase,
    .progress = on_progress,
    .iteration = on_iteration,
    .message = on_message,
};

/* ---- the report ------------------------------------------------------------------------ */

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
report_iterations(JsonObject *stats)
{
    JsonObject *list = qmig_json_get(stats, "iterations", json_type_array);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *it = json_object_array_get_idx(list, i);
        g_autofree char *size = qmig_format_size((uint64_t)qmig_json_int(it, "bytes", 0));
        g_autofree char *name = g_strdup_printf("pass %" G_GINT64_FORMAT,
                                                qmig_json_int(it, "number", 0));
        row(name,
            "%-10s %8" G_GINT64_FORMAT " normal %8" G_GINT64_FORMAT
            " zero %8" G_GINT64_FORMAT " resent  %6" G_GINT64_FORMAT " ms",
            size, qmig_json_int(it, "normal", 0), qmig_json_int(it, "zero", 0),
            qmig_json_int(it, "resent", 0), qmig_json_int(it, "duration_ms", 0));
    }
}

static void
report_stream(JsonObject *report)
{
    JsonObject *proxy = qmig_json_get(report, "proxy", json_type_object);
    JsonObject *stats = qmig_json_get(qmig_json_get(proxy, "plugins", json_type_object),
                                      "stats", json_type_object);
    JsonObject *devices = qmig_json_get(stats, "devices", json_type_array);
    JsonObject *notices = qmig_json_get(proxy, "notices", json_type_array);
    g_autofree char *bytes = qmig_format_size((uint64_t)qmig_json_int(stats, "bytes", 0));
    g_autofree char *state = qmig_format_size(
        (uint64_t)qmig_json_int(stats, "device_bytes", 0));
    g_autofree char *text = qmig_format_size(
        (uint64_t)qmig_json_int(stats, "description_bytes", 0));

    if (stats == NULL) {
        return;
    }
    row("stream", "%s on the main channel, seen by the proxy", bytes);
    report_iterations(stats);
    row("device state", "%s in %zu sections, and %s describing it", state,
        devices != NULL ? json_object_array_length(devices) : 0, text);
    for (size_t i = 0; notices != NULL && i < json_object_array_length(notices); i++) {
        row("notice", "%s",
            json_object_get_string(json_object_array_get_idx(notices, i)));
    }
}

void
cli_render_report(JsonObject *report)
{
    JsonObject *ms = qmig_json_get(report, "ms", json_type_object);
    JsonObject *ram = qmig_json_get(report, "ram", json_type_object);
    g_autofree char *total = qmig_format_duration(
        (uint64_t)qmig_json_int(ms, "migrate", 0));
    g_autofree char *size = qmig_format_size((uint64_t)qmig_json_int(ram, "total", 0));
    g_autofree char *sent = qmig_format_size(
        (uint64_t)qmig_json_int(ram, "transferred", 0));
    double blackout = qmig_json_double(ms, "blackout", -1);

    printf("migrated: the guest is on the destination\n");
    row("time", "%s", total);
    row("memory", "%s, sent %s in %" G_GINT64_FORMAT " iterations", size, sent,
        qmig_json_int(ram, "iterations", 0));
    row("pages", "%" G_GINT64_FORMAT " normal, %" G_GINT64_FORMAT " zero",
        qmig_json_int(ram, "pages_normal", 0), qmig_json_int(ram, "pages_zero", 0));
    row("downtime", "%" G_GINT64_FORMAT " ms by QEMU's count",
        qmig_json_int(ms, "downtime", 0));
    if (blackout >= 0) {
        row("blackout", "%.1f ms from the guest's stop to its running again", blackout);
    }
    report_stream(report);
    fflush(stdout);
}
