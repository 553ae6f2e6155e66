/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The timeline of a capture: each byte of the channel files once, in order, whatever it says. */
#include "inspect/timeline.h"
#include "tests/fuzz/directory.h"
#include "tests/fuzz/fuzz.h"
#include "util/error.h"

static void
write_channels(void)
{
    static const uint8_t bytes[1000];
    static bool done;

    if (!done) {
        fuzz_directory_write("0-main.forward", bytes, 1000);
        fuzz_directory_write("0-main.reverse", bytes, 24);
        fuzz_directory_write("1-multifd.forward", bytes, 200);
        done = true;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    uint64_t done[2][2] = { { 0 } }, last = 0;
    QmigTimelineEntry entry;

    write_channels();
    fuzz_directory_write("timeline.jsonl", data, size);
    g_autoptr(QmigCapture) capture = qmig_capture_open(fuzz_directory(), NULL);
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
