/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which pages are sent again, how often, and when: a summary in the report, and at the end all of
 * it as JSON and as pictures.
 *
 * Files are written when the input has ended, or, of a migration that was broken off, when the
 * plugin is closed. A file that cannot be written harms no migration: the report says so.
 */
#include "json.h"
#include "map.h"
#include "picture.h"
#include "qmig-plugin.h"
#include "report.h"
#include "util/auto.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_JSON, FILE_IMAGE, FILE_TIMELINE, N_FILES };
static const char *const keys[N_FILES] = { "file", "image", "timeline" };

struct heatmap {
    struct qmig_host *host;
    struct map map;
    char *paths[N_FILES]; /* owned; NULL: not wanted */
    int seen, written;    /* an event came; the files were written, or could not be */
    int complete;         /* the input ended */
    char *file_error;     /* owned; why a file could not be written */
};

/* ---- files --------------------------------------------------------------------------------- */

static int
write_json(const struct heatmap *h, FILE *file)
{
    struct json_file json;
    struct qmig_report *r = &json.report;

    json_begin(&json, file);
    r->text(r, "format", "qmig-heatmap");
    r->number(r, "version", 1);
    r->number(r, "complete", (uint64_t)h->complete);
    report_summary(&h->map, r);
    report_whole(&h->map, r);
    json_end(&json);
    return 0;
}

static int
write_content(const struct heatmap *h, int which, FILE *file)
{
    switch (which) {
    case FILE_JSON:
        return write_json(h, file);
    case FILE_IMAGE:
        return picture_memory(&h->map, file);
    default:
        return picture_timeline(&h->map, file);
    }
}

/* Under its name only when it is whole. Return: 0, or errno. */
static int
write_file(const struct heatmap *h, int which)
{
    g_autofree char *part = g_strconcat(h->paths[which], ".part", NULL);
    FILE *file = fopen(part, "we");
    int reason = file == NULL ? errno : 0;

    if (file == NULL) {
        return reason;
    }
    if (write_content(h, which, file) != 0) {
        reason = ENOMEM;
    }
    if (reason == 0 && (fflush(file) != 0 || ferror(file))) {
        reason = errno != 0 ? errno : EIO;
    }
    fclose(file);
    if (reason == 0 && rename(part, h->paths[which]) != 0) {
        reason = errno;
    }
    if (reason != 0) {
        unlink(part);
    }
    return reason;
}

static void
write_files(struct heatmap *h)
{
    if (h->written || !h->seen) {
        return; /* a chain that is only tried sees no event */
    }
    h->written = 1;
    for (int i = 0; i < N_FILES; i++) {
        int reason = h->paths[i] != NULL ? write_file(h, i) : 0;

        if (reason != 0) {
            h->host->debug(h->host, "%s=%s: %s", keys[i], h->paths[i], strerror(reason));
            g_free(h->file_error);
            h->file_error = g_strdup_printf("%s=%s: %s", keys[i], h->paths[i],
                                            strerror(reason));
        }
    }
}

/* ---- the plugin ---------------------------------------------------------------------------- */

static void *
heatmap_open(struct qmig_host *host)
{
    struct heatmap *h = g_new0(struct heatmap, 1);

    h->host = host;
    return h;
}

static int
heatmap_config(void *handle, const char *key, const char *value)
{
    struct heatmap *h = handle;

    for (int i = 0; i < N_FILES; i++) {
        if (strcmp(key, keys[i]) != 0) {
            continue;
        }
        if (*value == '\0') {
            h->host->error(h->host, "%s=: wanted the path of a file", key);
            return -1;
        }
        g_free(h->paths[i]);
        h->paths[i] = g_strdup(value);
        return 0;
    }
    h->host->error(
        h->host, "no parameter \"%s\": there are \"file\", \"image\", \"timeline\"", key);
    return -1;
}

/* What cannot be written is better told before the migration than after it. */
static int
heatmap_get_ready(void *handle)
{
    struct heatmap *h = handle;

    for (int i = 0; i < N_FILES; i++) {
        if (h->paths[i] == NULL) {
            continue;
        }
        g_autofree char *folder = g_path_get_dirname(h->paths[i]);
        if (g_file_test(h->paths[i], G_FILE_TEST_IS_DIR)) {
            h->host->error(h->host, "%s=%s: is a directory", keys[i], h->paths[i]);
            return -1;
        }
        if (access(folder, W_OK | X_OK) != 0) {
            h->host->error(h->host, "%s=%s: %s", keys[i], h->paths[i], strerror(errno));
            return -1;
        }
        for (int k = 0; k < i; k++) {
            if (g_strcmp0(h->paths[i], h->paths[k]) == 0) {
                h->host->error(h->host, "%s and %s are the same file: %s", keys[k],
                               keys[i], h->paths[i]);
                return -1;
            }
        }
    }
    return 0;
}

static uint64_t
host_now_ns(void *host)
{
    return ((struct qmig_host *)host)->now_ns(host);
}

static void
heatmap_observe(void *handle, const struct qmig_event *ev, uint32_t flags)
{
    struct heatmap *h = handle;

    (void)flags;
    h->seen = 1;
    map_see(&h->map, ev, host_now_ns, h->host);
}

static int
heatmap_finish(void *handle, struct qmig_next *next)
{
    struct heatmap *h = handle;

    (void)next;
    h->complete = 1;
    write_files(h);
    return 0; /* an error would end a migration that is whole */
}

static void
heatmap_report(void *handle, struct qmig_report *r)
{
    const struct heatmap *h = handle;

    report_summary(&h->map, r);
    if (h->file_error != NULL) {
        r->text(r, "file_error", h->file_error);
    }
}

static void
heatmap_close(void *handle)
{
    struct heatmap *h = handle;

    write_files(h);
    map_clear(&h->map);
    for (int i = 0; i < N_FILES; i++) {
        g_free(h->paths[i]);
    }
    g_free(h->file_error);
    g_free(h);
}

static struct qmig_plugin plugin = {
    .name = "heatmap",
    .description = "which pages are sent again, how often, and when",
    .config_help = "file=PATH      all of it as JSON, at the end\n"
                   "image=PATH     memory as a picture, PNG: a pixel for each page\n"
                   "timeline=PATH  memory by time, PNG: a row for each slice of time\n",
    .open = heatmap_open,
    .config = heatmap_config,
    .get_ready = heatmap_get_ready,
    .observe = heatmap_observe,
    .finish = heatmap_finish,
    .report = heatmap_report,
    .close = heatmap_close,
};

QMIG_REGISTER_PLUGIN(plugin)
