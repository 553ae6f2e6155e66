/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See rebuild.h. */
#include "tests/fuzz/rebuild.h"

#include "inspect/check.h"
#include "inspect/devices.h"
#include "inspect/guest-ram.h"
#include "inspect/outline.h"
#include "tests/lib/memory.h"
#include "util/error.h"

/* Input buffer, codecs: constant; bits for pages, JSON made of the stream: by its length. */
enum { MEMORY = 4 << 20, FACTOR = 600 };

typedef struct {
    QmigGuestRam *ram;
    QmigDevices *devices;
} Rebuilding;

static bool
rebuild(void *self, const QmigReaderChannel *channel, const struct qmig_event *ev,
        GError **error)
{
    const Rebuilding *r = self;

    return qmig_guest_ram_apply(r->ram, channel, ev, error) &&
           qmig_devices_take(r->devices, channel, ev, error);
}

static void
check_rebuilding(const char *path)
{
    g_autoptr(QmigGuestRam) ram = qmig_guest_ram_new(NULL);
    g_autoptr(QmigDevices) devices = qmig_devices_new(true);
    Rebuilding r = { ram, devices };
    QmigReaderSink sink = { .self = &r, .event = rebuild };
    g_auto(QmigReaderEnd) end = { 0 };
    g_autoptr(GError) error = NULL;

    bool ok = qmig_reader_run(path, &sink, &end, &error);
    g_assert_cmpint(ok, ==, error == NULL);
    for (unsigned i = 0; i < qmig_guest_ram_n_blocks(ram); i++) {
        QmigGuestBlock block = qmig_guest_ram_block(ram, i);
        g_assert_cmpuint(block.n_received, <=, block.n_pages);
    }
    json_object_put(qmig_devices_finish(devices));
}

static void
count_entry(void *self, JsonObject *entry)
{
    ++*(unsigned *)self;
    g_assert_nonnull(json_object_to_json_string(entry));
}

void
fuzz_read_all_ways(const char *path, size_t size)
{
    g_autoptr(GError) outline_error = NULL, check_error = NULL;
    g_auto(QmigReaderEnd) end = { 0 };
    unsigned n_entries = 0;
    QmigOutlineSink sink = { .self = &n_entries, .entry = count_entry, .every = true };

    memory_start();
    bool ok = qmig_outline_run(path, &sink, &end, &outline_error);
    g_assert_cmpint(ok, ==, outline_error == NULL);
    g_autoptr(JsonObject) check = qmig_check_read(path, NULL, &check_error);
    g_assert_cmpint(check == NULL, ==, check_error != NULL);
    check_rebuilding(path);
    g_assert_cmpuint(memory_peak(), <=, MEMORY + FACTOR * size);
    if (ok && end.complete) {
        g_assert_nonnull(check);
    }
}
