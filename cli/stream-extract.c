/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream extract: memory and device state as files. */
#include "cli/stream.h"
#include "inspect/extract.h"
#include "util/units.h"

#include <inttypes.h>
#include <stdio.h>

static struct {
    gboolean json;
} arg;

static const GOptionEntry entries[] = { { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json,
                                          "The summary as JSON", NULL },
                                        G_OPTION_ENTRY_NULL };

static void
print_summary(JsonObject *summary)
{
    JsonObject *blocks = qmig_json_get(summary, "blocks", json_type_array);
    JsonObject *devices = qmig_json_get(summary, "devices", json_type_array);

    for (size_t i = 0; blocks != NULL && i < json_object_array_length(blocks); i++) {
        JsonObject *block = json_object_array_get_idx(blocks, i);
        g_autofree char *size = qmig_format_size(
            (uint64_t)qmig_json_int(block, "length", 0));

        printf("%-40s %10s  %" PRId64 " of %" PRId64 " pages\n",
               qmig_json_string(block, "file"), size, qmig_json_int(block, "received", 0),
               qmig_json_int(block, "pages", 0));
    }
    printf("%zu device sections\n",
           devices != NULL ? json_object_array_length(devices) : 0);
    if (!qmig_json_bool(summary, "complete", false)) {
        const char *reason = qmig_json_string(summary, "reason");
        printf("the stream is not complete: %s\n",
               reason != NULL ? reason : "no end seen");
    }
}

int
cli_stream_extract(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) summary = NULL;

    if (!cli_parse(
            &argc, &argv, entries, "INPUT DIRECTORY",
            "Makes DIRECTORY with ram/BLOCK (sparse files), device/NAME.INSTANCE and\n"
            "description.json. Works on every kind of stream, also on an incomplete one.\n\n"
            "Exit: 0 done, 1 error, 3 done, but the stream is not complete.\n",
            2, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    summary = qmig_extract_run(argv[1], argv[2], cli_stream_progress(), &error);
    if (summary == NULL) {
        return cli_fail("stream extract", error, QMIG_OUTCOME_USAGE);
    }
    if (arg.json) {
        cli_print_json(summary);
    } else {
        print_summary(summary);
    }
    return qmig_json_bool(summary, "complete", false) ? 0 : QMIG_OUTCOME_FAILED;
}
