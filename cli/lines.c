/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A queue and a thread that may block in write(2) as long as it likes. */
#include "cli/lines.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { END_TIMEOUT_US = 5 * G_USEC_PER_SEC };

struct CliLines {
    int fd;
    const char *lost;
    GThread *thread;
    gint refs; /* atomic: the owner's and the thread's */

    GMutex lock; /* guards what follows */
    GCond changed;
    GQueue queue; /* char * */
    guint64 n_lost;
    bool is_ending, has_ended;
};

static void
lines_unref(CliLines *lines)
{
    if (g_atomic_int_dec_and_test(&lines->refs)) {
        g_queue_clear_full(&lines->queue, g_free);
        g_mutex_clear(&lines->lock);
        g_cond_clear(&lines->changed);
        g_free(lines);
    }
}

/* The next line, or NULL at the end. (transfer full) */
static char *
take(CliLines *lines)
{
    char *line = NULL;

    g_mutex_lock(&lines->lock);
    while (lines->n_lost == 0 && g_queue_is_empty(&lines->queue) && !lines->is_ending) {
        g_cond_wait(&lines->changed, &lines->lock);
    }
    line = g_queue_pop_head(&lines->queue);
    /* What was lost came after all that waits. */
    if (line == NULL && lines->n_lost > 0) {
        g_autofree char *count = g_strdup_printf("%" G_GUINT64_FORMAT, lines->n_lost);
        g_auto(GStrv) parts = g_strsplit(lines->lost, "%s", 2);
        line = g_strjoinv(count, parts);
        lines->n_lost = 0;
    }
    g_mutex_unlock(&lines->lock);
    return line;
}

static void *
write_lines(void *data)
{
    CliLines *lines = data;
    bool is_open = true;

    for (;;) {
        g_autofree char *line = take(lines);
        size_t at = 0, length = line != NULL ? strlen(line) : 0;

        if (line == NULL) {
            break;
        }
        /* A reader that has gone is no reason to end a migration. */
        while (is_open && at < length) {
            ssize_t n = write(lines->fd, line + at, length - at);
            at += n > 0 ? (size_t)n : 0;
            is_open = n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
        }
    }
    g_mutex_lock(&lines->lock);
    lines->has_ended = true;
    g_cond_broadcast(&lines->changed);
    g_mutex_unlock(&lines->lock);
    lines_unref(lines);
    return NULL;
}

CliLines *
cli_lines_new(int fd, const char *lost)
{
    CliLines *lines = g_new0(CliLines, 1);

    lines->fd = fd;
    lines->lost = lost;
    lines->refs = 2;
    g_mutex_init(&lines->lock);
    g_cond_init(&lines->changed);
    g_queue_init(&lines->queue);
    lines->thread = g_thread_new("lines", write_lines, lines);
    return lines;
}

void
cli_lines_put(CliLines *lines, const char *text)
{
    g_mutex_lock(&lines->lock);
    /* Once some are lost, none overtakes the word that tells so. */
    if (lines->n_lost > 0 || g_queue_get_length(&lines->queue) >= CLI_LINES_MAX) {
        lines->n_lost++;
    } else {
        g_queue_push_tail(&lines->queue, g_strdup(text));
    }
    g_cond_broadcast(&lines->changed);
    g_mutex_unlock(&lines->lock);
}

void
cli_lines_printf(CliLines *lines, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    cli_lines_put(lines, text);
}

void
cli_lines_free(CliLines *lines)
{
    gint64 end = g_get_monotonic_time() + END_TIMEOUT_US;
    bool has_ended;

    if (lines == NULL) {
        return;
    }
    g_mutex_lock(&lines->lock);
    lines->is_ending = true;
    g_cond_broadcast(&lines->changed);
    while (!lines->has_ended && g_cond_wait_until(&lines->changed, &lines->lock, end)) {
    }
    has_ended = lines->has_ended;
    g_mutex_unlock(&lines->lock);
    /* One that is stuck goes with the process, which is about to end. */
    if (has_ended) {
        g_thread_join(lines->thread);
    } else {
        g_thread_unref(lines->thread);
    }
    lines_unref(lines);
}
