/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream stat: what a stream is made of. */
#include "cli/stream.h"
#include "inspect/stat.h"
#include "util/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    SAMPLE_EVERY = 256,
    LISTED_MAX = 20, /* lines of one list for people; JSON has them all */
};

static struct {
    gboolean json;
    gint sample;
} arg = { .sample = SAMPLE_EVERY };

static const GOptionEntry entries[] = {
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "The numbers as JSON", NULL },
    { "sample", 0, 0, G_OPTION_ARG_INT, &arg.sample,
      "Compress every N-th full page (default: 256; 0: none)", "N" },
    G_OPTION_ENTRY_NULL
};

static const char *const kinds[] = { "normal", "zero", "xbzrle", "zlib" };

static char *
size_of(JsonObject *object, const char *key)
{
    return qmig_format_size((uint64_t)qmig_json_int(object, key, 0));
}

static void
print_channels(JsonObject *stat)
{
    JsonObject *list = qmig_json_get(stat, "channels", json_type_array);
    size_t n = json_object_array_length(list);

    for (size_t i = 0; n > 1 && i < n; i++) {
        JsonObject *channel = json_object_array_get_idx(list, i);
        g_autofree char *bytes = size_of(channel, "bytes");

        printf("  %-12s %10s  %" PRId64 " pages\n", qmig_json_string(channel, "channel"),
               bytes, qmig_json_int(channel, "pages", 0));
    }
}

/* "1024 normal, 3 zero, 17 of them again" */
static void
print_counts(JsonObject *counts)
{
    const char *separator = "";

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        int64_t n = qmig_json_int(counts, kinds[i], 0);

        if (n > 0) {
            printf("%s%" PRId64 " %s", separator, n, kinds[i]);
            separator = ", ";
        }
    }
    if (qmig_json_int(counts, "resent", 0) > 0) {
        printf(" (%" PRId64 " sent before)", qmig_json_int(counts, "resent", 0));
    }
    printf("%s\n", separator[0] == '\0' ? "none" : "");
}

static void
print_list(JsonObject *stat, const char *key, const char *title)
{
    JsonObject *list = qmig_json_get(stat, key, json_type_array);
    size_t n = list != NULL ? json_object_array_length(list) : 0;

    if (n > 0) {
        printf("%s\n", title);
    }
    for (size_t i = 0; i < n; i++) {
        if (n > LISTED_MAX && i == LISTED_MAX / 2) {
            printf("  … %zu more\n", n - LISTED_MAX);
            i += n - LISTED_MAX;
        }
        JsonObject *entry = json_object_array_get_idx(list, i);
        const char *name = qmig_json_string(entry, "name");

        if (name != NULL) {
            g_autofree char *size = size_of(entry, "length");
            printf("  %-28s %10s  ", name, size);
        } else {
            printf("  %-28" PRId64 " %10s  ", qmig_json_int(entry, "number", 0), "");
        }
        print_counts(entry);
    }
}

static void
print_hottest(JsonObject *stat)
{
    JsonObject *list = qmig_json_get(stat, "hottest", json_type_array);
    size_t n = json_object_array_length(list);

    if (n > 0) {
        printf("sent most often\n");
    }
    for (size_t i = 0; i < n; i++) {
        JsonObject *entry = json_object_array_get_idx(list, i);

        printf("  %-28s 0x%09" PRIx64 "  %" PRId64 " times\n",
               qmig_json_string(entry, "block"),
               (uint64_t)qmig_json_int(entry, "offset", 0),
               qmig_json_int(entry, "sent", 0));
    }
}

static void
print_sample(JsonObject *stat)
{
    JsonObject *sampled = qmig_json_get(stat, "sampled", json_type_object);
    double raw = (double)qmig_json_int(sampled, "raw_bytes", 0);

    if (raw > 0) {
        printf("full pages, %" PRId64 " tried: lz4 leaves %.0f %%, zstd %.0f %%\n",
               qmig_json_int(sampled, "pages", 0),
               100 * (double)qmig_json_int(sampled, "lz4_bytes", 0) / raw,
               100 * (double)qmig_json_int(sampled, "zstd_bytes", 0) / raw);
    }
}

static void
print_stat(JsonObject *stat)
{
    g_autofree char *bytes = size_of(stat, "bytes");
    g_autofree char *devices = size_of(stat, "device_bytes");
    g_autofree char *description = size_of(stat, "description_bytes");
    const char *reason = qmig_json_string(stat, "reason");

    printf("%s, machine %s, %s%s\n", bytes, qmig_json_string(stat, "machine"),
           reason[0] == '\0' ? "complete" : "not complete: ", reason);
    print_channels(stat);
    printf("pages: ");
    print_counts(qmig_json_get(stat, "pages", json_type_object));
    print_list(stat, "blocks", "blocks");
    print_list(stat, "iterations", "passes");
    print_hottest(stat);
    print_sample(stat);
    printf("devices: %zu, %s; description %s\n",
           json_object_array_length(qmig_json_get(stat, "devices", json_type_array)),
           devices, description);
}

int
cli_stream_stat(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) stat = NULL;

    if (!cli_parse(&argc, &argv, entries, "INPUT", NULL, 1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (arg.sample < 0) {
        fprintf(stderr, "qmig stream stat: --sample=%d: want 0 or more\n", arg.sample);
        return QMIG_OUTCOME_USAGE;
    }
    stat = qmig_stat_run(argv[1], (unsigned)arg.sample, cli_stream_progress(), &error);
    if (stat == NULL) {
        return cli_fail("stream stat", error, QMIG_OUTCOME_USAGE);
    }
    if (arg.json) {
        cli_print_json(stat);
    } else {
        print_stat(stat);
    }
    return 0;
}
