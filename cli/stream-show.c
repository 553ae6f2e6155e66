/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream show: the outline, as text or as a JSON object for each line. */
#include "cli/stream.h"
#include "inspect/outline.h"
#include "util/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static struct {
    gboolean json, every;
} arg;

static const GOptionEntry entries[] = {
    { "every", 0, 0, G_OPTION_ARG_NONE, &arg.every,
      "A line for each section, also for those of a kind that follow each other", NULL },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "A JSON object for each line", NULL },
    G_OPTION_ENTRY_NULL
};

/* Members that the columns show already. */
static bool
is_column(const char *key)
{
    static const char *const keys[] = { "channel", "t_us", "offset", "size",
                                        "what",    "type", "name",   "blocks" };

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (strcmp(keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static void
print_blocks(JsonObject *blocks)
{
    for (size_t i = 0; blocks != NULL && i < json_object_array_length(blocks); i++) {
        JsonObject *block = json_object_array_get_idx(blocks, i);
        g_autofree char *size = qmig_format_size(
            (uint64_t)qmig_json_int(block, "length", 0));

        printf("%36s%s, %s\n", "", qmig_json_string(block, "name"), size);
    }
}

/* "{ "normal": 3, "zero": 5 }" as "3 normal, 5 zero". */
static void
print_pages(JsonObject *pages)
{
    const char *separator = " ";

    json_object_object_foreach(pages, kind, n)
    {
        printf("%s%" PRIu64 " %s", separator, json_object_get_uint64(n), kind);
        separator = ", ";
    }
}

static void
print_entry(void *self, JsonObject *entry)
{
    const char *type = qmig_json_string(entry, "type");
    const char *name = qmig_json_string(entry, "name");

    (void)self;
    if (arg.json) {
        printf("%s\n",
               json_object_to_json_string_ext(entry, JSON_C_TO_STRING_PLAIN |
                                                         JSON_C_TO_STRING_NOSLASHESCAPE));
        return;
    }
    if (json_object_object_get_ex(entry, "t_us", NULL)) {
        printf("%11.6f  ", (double)qmig_json_int(entry, "t_us", 0) / 1e6);
    }
    printf("%-8s %012" PRIx64 " %10" PRIu64 "  %s%s%s%s%s",
           qmig_json_string(entry, "channel"),
           (uint64_t)qmig_json_int(entry, "offset", 0),
           (uint64_t)qmig_json_int(entry, "size", 0), qmig_json_string(entry, "what"),
           type != NULL ? " " : "", type != NULL ? type : "", name != NULL ? " " : "",
           name != NULL ? name : "");
    json_object_object_foreach(entry, key, value)
    {
        if (strcmp(key, "pages") == 0) {
            print_pages(value);
        } else if (!is_column(key)) {
            printf(" %s %s", key, json_object_get_string(value));
        }
    }
    printf("\n");
    print_blocks(qmig_json_get(entry, "blocks", json_type_array));
}

int
cli_stream_show(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    QmigOutlineSink sink = { .entry = print_entry };
    g_auto(QmigReaderEnd) end = { 0 };

    if (!cli_parse(
            &argc, &argv, entries, "INPUT",
            "Columns: seconds since the first connection (in a capture), channel, offset\n"
            "(hexadecimal), bytes, what it is.\n\n"
            "Exit: 0 complete, 1 error, 3 the stream is not complete.\n",
            1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    sink.every = arg.every;
    if (!qmig_outline_run(argv[1], &sink, &end, &error)) {
        return cli_fail("stream show", error, QMIG_OUTCOME_USAGE);
    }
    return end.complete ? 0 : QMIG_OUTCOME_FAILED;
}
