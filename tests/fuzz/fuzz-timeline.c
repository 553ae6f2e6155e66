/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The timeline of a capture: each byte of the channel files once, in order, whatever it says. */
#include "inspect/timeline.h"
#include "tests/fuzz/fuzz.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <unistd.h>

static char *directory;

static void
remove_directory(void)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_unlink(path);
    }
    g_rmdir(directory);
    g_free(directory);
}

static void
write_file(const char *name, const void *data, size_t size)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);
    FILE *file = fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(data, 1, size, file), ==, size);
    g_assert_cmpint(fclose(file), ==, 0);
}

static void
make_directory(void)
{
    static const uint8_t bytes[1000];

    directory = g_dir_make_tmp("qmig-fuzz-XXXXXX", NULL);
    g_assert_nonnull(directory);
    atexit(remove_directory);
    write_file("0-main.forward", bytes, 1000);
    write_file("0-main.reverse", bytes, 24);
    write_file("1-multifd.forward", bytes, 200);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    uint64_t done[2][2] = { { 0 } }, last = 0;
    QmigTimelineEntry entry;

    if (directory == NULL) {
        make_directory();
    }
    write_file("timeline.jsonl", data, size);
    g_autoptr(QmigCapture) capture = qmig_capture_open(directory, NULL);
    g_assert_nonnull(capture);
    g_autoptr(QmigTimeline) t = qmig_timeline_open(capture, &error);
    bool ok = t != NULL;
    while (ok && (ok = qmig_timeline_next(t, &entry, &error)) &&
           entry.kind != QMIG_TIMELINE_END) {
        g_assert_cmpuint(entry.t_us, >=, last);
        last = entry.t_us;
        if (entry.kind == QMIG_TIMELINE_DATA) {
            uint64_t *at = &done[entry.channel][entry.is_reverse];
            g_assert_cmpuint(entry.offset, ==, *at);
            g_assert_cmpuint(entry.length, >=, 1);
            *at += entry.length;
            g_assert_cmpuint(*at, <=,
                             qmig_timeline_bytes(t, entry.channel, entry.is_reverse));
        }
    }
    g_assert_cmpint(ok, ==, error == NULL);
    if (ok) {
        g_assert_cmpuint(done[0][0], ==, 1000);
        g_assert_cmpuint(done[0][1], ==, 24);
        g_assert_cmpuint(done[1][0], ==, 200);
        (void)qmig_timeline_missing(t);
    } else {
        g_assert_true(error->domain == QMIG_ERROR);
    }
    return 0;
}
