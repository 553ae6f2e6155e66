/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See capture.h. */
#include "inspect/capture.h"

#include "util/error.h"

#include <string.h>

/* A migration has main, at most 255 multifd channels, preempt, and recoveries. */
enum { CHANNELS_MAX = 4096 };

static const char *const kinds[] = { "main",    "recovery", "multifd",
                                     "preempt", "tls",      "unknown" };

struct QmigCapture {
    GPtrArray *channels; /* QmigCaptureChannel, owned */
};

static void
channel_free(gpointer data)
{
    QmigCaptureChannel *channel = data;

    g_free((char *)channel->forward);
    g_free((char *)channel->reverse);
    g_free(channel);
}

static gint
by_number(gconstpointer a, gconstpointer b)
{
    const QmigCaptureChannel *const *x = a, *const *y = b;

    return ((*x)->number > (*y)->number) - ((*x)->number < (*y)->number);
}

/* "N-KIND.forward"; other names are no channels. */
static bool
parse_name(const char *name, unsigned *number, const char **kind)
{
    char *rest;
    guint64 n = g_ascii_strtoull(name, &rest, 10);

    if (!g_ascii_isdigit(name[0]) || n > CHANNELS_MAX || *rest != '-') {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        size_t len = strlen(kinds[i]);

        if (strncmp(rest + 1, kinds[i], len) == 0 &&
            strcmp(rest + 1 + len, ".forward") == 0) {
            *number = (unsigned)n;
            *kind = kinds[i];
            return true;
        }
    }
    return false;
}

bool
qmig_capture_is_at(const char *path)
{
    return g_file_test(path, G_FILE_TEST_IS_DIR);
}

static QmigCaptureChannel *
new_channel(const char *directory, const char *name, unsigned number, const char *kind)
{
    QmigCaptureChannel *channel = g_new0(QmigCaptureChannel, 1);
    g_autofree char *reverse_name = g_strdup_printf("%u-%s.reverse", number, kind);
    g_autofree char *reverse = g_build_filename(directory, reverse_name, NULL);

    channel->number = number;
    channel->kind = kind;
    channel->forward = g_build_filename(directory, name, NULL);
    channel->reverse = g_file_test(reverse, G_FILE_TEST_IS_REGULAR)
                           ? g_steal_pointer(&reverse)
                           : NULL;
    return channel;
}

QmigCapture *
qmig_capture_open(const char *path, GError **error)
{
    g_autoptr(QmigCapture) c = g_new0(QmigCapture, 1);
    g_autoptr(GError) local = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &local);
    const char *name, *kind;
    unsigned number;

    c->channels = g_ptr_array_new_with_free_func(channel_free);
    if (dir == NULL) {
        qmig_set_error(error, QMIG_ERROR_IO, "%s", local->message);
        return NULL;
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        if (parse_name(name, &number, &kind) && c->channels->len < CHANNELS_MAX) {
            g_ptr_array_add(c->channels, new_channel(path, name, number, kind));
        }
    }
    g_ptr_array_sort(c->channels, by_number);
    if (c->channels->len == 0) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: no capture: it has no file \"0-main.forward\"", path);
        return NULL;
    }
    for (guint i = 1; i < c->channels->len; i++) {
        const QmigCaptureChannel *channel = g_ptr_array_index(c->channels, i);
        const QmigCaptureChannel *before = g_ptr_array_index(c->channels, i - 1);

        if (channel->number == before->number) {
            qmig_set_error(error, QMIG_ERROR_CONFIG,
                           "%s and %s: two channels of one number", before->forward,
                           channel->forward);
            return NULL;
        }
    }
    return g_steal_pointer(&c);
}

void
qmig_capture_free(QmigCapture *c)
{
    if (c != NULL) {
        g_ptr_array_unref(c->channels);
        g_free(c);
    }
}

unsigned
qmig_capture_n_channels(const QmigCapture *c)
{
    return c->channels->len;
}

const QmigCaptureChannel *
qmig_capture_channel(const QmigCapture *c, unsigned i)
{
    return g_ptr_array_index(c->channels, i);
}
