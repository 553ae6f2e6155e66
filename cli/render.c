/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Progress. On a terminal two lines, redrawn in place; what else there is to say scrolls away
 * above them:
 *
 *     perform     [############........]  61 %  pass 3  left 3.10 s to 9.80 s
 *       940 Mbit/s, dirtied 120 Mbit/s; pages: 39102 normal, 102394 zero, 2211 resent
 *
 * Nothing of the terminal is changed that would have to be put back.
 */
#include "cli/render.h"

#include "util/clock.h"
#include "util/units.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    REDRAW_US = 100000,
    STORAGE_US = 2000000,
    BAR_WIDTH = 20,
    DEFAULT_COLUMNS = 80,
};

static bool
can_redraw(FILE *out)
{
    const char *term = g_getenv("TERM");

    return isatty(fileno(out)) && term != NULL && strcmp(term, "dumb") != 0;
}

/* A terminal that is stopped (Ctrl-S), or a pipe nobody reads, must not hold up the guest. */
static void
start_lines(CliRender *render)
{
    if (render->kind != CLI_PROGRESS_NONE) {
        render->lines = cli_lines_new(
            fileno(render->out), render->kind == CLI_PROGRESS_JSON ? CLI_LINES_LOST_JSON
                                                                   : CLI_LINES_LOST_TEXT);
    }
}

bool
cli_render_init(CliRender *render, FILE *out, const char *kind)
{
    static const char *const kinds[] = { "none", "tty", "plain", "json" };

    *render = (CliRender){ .out = out };
    if (kind == NULL || strcmp(kind, "auto") == 0) {
        render->kind = can_redraw(out) ? CLI_PROGRESS_TTY : CLI_PROGRESS_PLAIN;
        start_lines(render);
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strcmp(kind, kinds[i]) == 0) {
            render->kind = (CliProgressKind)i;
            start_lines(render);
            return true;
        }
    }
    return false;
}

void
cli_put_json_line(CliLines *lines, JsonObject *object)
{
    cli_lines_printf(
        lines, "%s\n",
        json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                   JSON_C_TO_STRING_NOSLASHESCAPE));
}

void
cli_render_end(CliRender *render)
{
    if (render->is_drawn) {
        cli_lines_put(render->lines, "\n");
        render->is_drawn = false;
    }
    g_clear_pointer(&render->lines, cli_lines_free);
    g_clear_pointer(&render->events, cli_lines_free);
}

/* A line of text above the drawing, which is drawn anew below it. */
static void
say(CliRender *render, const char *text)
{
    cli_lines_printf(render->lines, "%s%s\n",
                     render->is_drawn ? "\r\033[K\033[1A\033[K" : "", text);
    render->is_drawn = false;
    render->drawn_us = 0;
}

/* Each event as a line, as docs/events.md tells. */
static void
on_event(void *data, JsonObject *event)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_JSON) {
        cli_put_json_line(render->lines, event);
    }
    if (render->events != NULL) {
        cli_put_json_line(render->events, event);
    }
}

static void
on_phase(void *data, QmigPhase phase)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_PLAIN) {
        cli_lines_printf(render->lines, "phase=%s\n", qmig_phase_name(phase));
    }
}

static bool
is_for_people(const CliRender *render)
{
    return render->kind == CLI_PROGRESS_TTY || render->kind == CLI_PROGRESS_PLAIN;
}

static void
on_decision(void *data, const char *what, const char *why)
{
    CliRender *render = data;
    g_autofree char *text = g_strdup_printf("%s: %s", what, why);

    if (is_for_people(render)) {
        say(render, text);
    }
}

static void
on_message(void *data, const char *text)
{
    CliRender *render = data;

    if (is_for_people(render)) {
        say(render, text);
    }
}

/* ---- the terminal ----------------------------------------------------------------------- */

static char *
left_text(const QmigProgress *p)
{
    g_autofree char *min = NULL, *max = NULL, *down = NULL;

    if (p->link_down_ms > 0) {
        down = qmig_format_duration(p->link_down_ms / 1000 * 1000);
        return g_strdup_printf("  link down for %s", down);
    }
    if (p->phase > QMIG_PHASE_PERFORM || p->left_min_ms < 0) {
        return g_strdup("");
    }
    if (p->left_max_ms < 0) {
        return g_strdup("  dirtied faster than sent");
    }
    min = qmig_format_duration((uint64_t)p->left_min_ms);
    max = qmig_format_duration((uint64_t)p->left_max_ms);
    return strcmp(min, max) == 0 ? g_strdup_printf("  left %s", min)
                                 : g_strdup_printf("  left %s to %s", min, max);
}

static int
columns(FILE *out)
{
    struct winsize size;

    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0
               ? size.ws_col
               : DEFAULT_COLUMNS;
}

/* "; disks 1.2 GiB of 4.0 GiB"; "" when none are copied. */
static char *
disks_text(const QmigProgress *p)
{
    g_autofree char *done = qmig_format_size(p->storage_done);
    g_autofree char *total = qmig_format_size(p->storage_total);

    return p->storage_total > 0 ? g_strdup_printf("; disks %s of %s", done, total)
                                : g_strdup("");
}

static void
draw(CliRender *render, const QmigProgress *p)
{
    static const char full[] = "####################", none[] = "....................";
    g_autofree char *rate = qmig_format_rate(p->rate);
    g_autofree char *dirty = qmig_format_rate(p->dirty_rate);
    g_autofree char *left = left_text(p);
    int filled = (int)(p->percent * BAR_WIDTH / 100);
    int width = columns(render->out) - 1;
    g_autofree char *first = g_strdup_printf(
        "%-11s [%.*s%.*s] %3u %%  pass %" G_GUINT64_FORMAT "%s",
        qmig_phase_name(p->phase), filled, full, BAR_WIDTH - filled, none, p->percent,
        p->iteration, left);
    g_autofree char *disks = disks_text(p);
    g_autofree char *second = g_strdup_printf(
        "  %s, dirtied %s; pages: %" G_GUINT64_FORMAT " normal, %" G_GUINT64_FORMAT
        " zero, %" G_GUINT64_FORMAT " resent%s",
        rate, dirty, p->pages_normal, p->pages_zero, p->pages_resent, disks);

    if (p->phase == QMIG_PHASE_STORAGE) {
        g_free(second);
        second = g_strdup_printf("  %s%s", rate, disks);
    }
    /* Lines that wrap could not be redrawn. All of it is ASCII. */
    cli_lines_printf(render->lines, "%s\r\033[K%.*s\n\033[K%.*s",
                     render->is_drawn ? "\033[1A" : "", width, first, width, second);
    render->is_drawn = true;
    render->drawn_us = qmig_now_us();
}

static void
on_progress(void *data, const QmigProgress *p)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_TTY &&
        (p->percent == 100 || qmig_now_us() - render->drawn_us >= REDRAW_US)) {
        draw(render, p);
    }
    /* Disks have no passes to tell of. */
    if (render->kind == CLI_PROGRESS_PLAIN && p->phase == QMIG_PHASE_STORAGE &&
        qmig_now_us() - render->drawn_us >= STORAGE_US) {
        render->drawn_us = qmig_now_us();
        cli_lines_printf(render->lines,
                         "disks=%" G_GUINT64_FORMAT "MiB of=%" G_GUINT64_FORMAT
                         "MiB rate=%" G_GUINT64_FORMAT "MiB/s\n",
                         p->storage_done >> 20, p->storage_total >> 20, p->rate >> 20);
    }
}

/* ---- iterations ------------------------------------------------------------------------- */

static void
on_iteration(void *data, const QmigProgress *p)
{
    CliRender *render = data;

    if (render->kind == CLI_PROGRESS_PLAIN) {
        cli_lines_printf(
            render->lines,
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
    .decision = on_decision,
    .message = on_message,
    .event = on_event,
};
