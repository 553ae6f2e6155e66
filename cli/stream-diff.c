/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream diff: what differs between the guests in two streams. Exit as diff(1). */
#include "cli/stream.h"
#include "inspect/diff.h"

#include <inttypes.h>
#include <stdio.h>

/* As diff(1). */
enum { SAME = 0, DIFFERENT = 1, TROUBLE = 2 };

enum { RANGES_SHOWN = 16 };

static struct {
    gboolean json;
} arg;

static const GOptionEntry entries[] = { { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json,
                                          "As JSON, whole", NULL },
                                        G_OPTION_ENTRY_NULL };

static void
print_side(char sign, JsonObject *object, const char *key)
{
    JsonObject *member;

    if (json_object_object_get_ex(object, key, &member)) {
        printf("    %c %s\n", sign, json_object_get_string(member));
    }
}

static void
print_device(JsonObject *device)
{
    const char *only = qmig_json_string(device, "only");
    JsonObject *fields = qmig_json_get(device, "fields", json_type_array);

    printf("device %s instance %" PRId64 "%s%s\n", qmig_json_string(device, "name"),
           qmig_json_int(device, "instance", 0), only ? ": only in " : "",
           only ? only : "");
    for (size_t i = 0; fields != NULL && i < json_object_array_length(fields); i++) {
        JsonObject *field = json_object_array_get_idx(fields, i);

        printf("  %s\n", qmig_json_string(field, "field"));
        print_side('-', field, "a");
        print_side('+', field, "b");
    }
}

static void
print_block(JsonObject *block)
{
    const char *only = qmig_json_string(block, "only");
    JsonObject *length = qmig_json_get(block, "length", json_type_object);
    JsonObject *ranges = qmig_json_get(block, "ranges", json_type_array);
    size_t n = ranges != NULL ? json_object_array_length(ranges) : 0;

    printf("memory %s: ", qmig_json_string(block, "name"));
    if (only != NULL) {
        printf("only in %s\n", only);
        return;
    }
    if (length != NULL) {
        printf("%" PRId64 " and %" PRId64 " bytes\n", qmig_json_int(length, "a", 0),
               qmig_json_int(length, "b", 0));
        return;
    }
    printf("%" PRId64 " pages differ\n", qmig_json_int(block, "pages", 0));
    for (size_t i = 0; i < n && i < RANGES_SHOWN; i++) {
        JsonObject *range = json_object_array_get_idx(ranges, i);

        printf("  0x%09" PRIx64 " %" PRId64 " bytes\n",
               (uint64_t)qmig_json_int(range, "offset", 0),
               qmig_json_int(range, "length", 0));
    }
    if (n > RANGES_SHOWN) {
        printf("  … %zu ranges more\n", n - RANGES_SHOWN);
    }
}

static void
print_difference(JsonObject *diff)
{
    JsonObject *machine = qmig_json_get(diff, "machine", json_type_object);
    JsonObject *devices = qmig_json_get(diff, "devices", json_type_array);
    JsonObject *blocks = qmig_json_get(diff, "blocks", json_type_array);

    if (machine != NULL) {
        printf("machine\n");
        print_side('-', machine, "a");
        print_side('+', machine, "b");
    }
    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        print_device(json_object_array_get_idx(devices, i));
    }
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        print_block(json_object_array_get_idx(blocks, i));
    }
}

int
cli_stream_diff(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) diff = NULL;

    if (!cli_parse(
            &argc, &argv, entries, "A B",
            "Compares the guests, not the bytes on the wire: memory by page, device\n"
            "state by field. Exit: 0 the same, 1 different, 2 trouble.\n",
            2, 2)) {
        return TROUBLE;
    }
    diff = qmig_diff_run(argv[1], argv[2], &error);
    if (diff == NULL) {
        return cli_fail("stream diff", error, TROUBLE);
    }
    if (arg.json) {
        cli_print_json(diff);
    } else {
        print_difference(diff);
    }
    return qmig_json_bool(diff, "same", false) ? SAME : DIFFERENT;
}
