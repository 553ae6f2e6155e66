/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream: the table of its subcommands. */
#include "cli/stream.h"
#include "util/units.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const CliCommand commands[] = {
    { "show", "what is in it: sections, sizes, channels, in order", cli_stream_show },
    { "stat", "bytes and pages by kind, block and pass; hot pages", cli_stream_stat },
    { "device", "device state by name", cli_stream_device },
    { "desc", "the description of the device state", cli_stream_desc },
    { "diff", "what differs between two streams", cli_stream_diff },
    { "check", "is it whole, and would this QEMU take it?", cli_stream_check },
    { "accepts", "what a QEMU takes, for the plugin guard", cli_stream_accepts },
    { "extract", "memory and device state as files", cli_stream_extract },
    { "convert", "as a plain stream or a mapped-ram file", cli_stream_convert },
    { "replay", "send it to a waiting QEMU, as its source would", cli_stream_replay },
    { "pipe", "for QEMU's exec: compress, encrypt, at a rate, both ways",
      cli_stream_pipe },
};

static void
print_progress(uint64_t done, uint64_t total)
{
    static gint64 began, printed;
    gint64 now = g_get_monotonic_time();

    began = began == 0 ? now : began;
    if (now - began < G_USEC_PER_SEC || now - printed < G_USEC_PER_SEC / 5) {
        return;
    }
    printed = now;
    g_autofree char *size = qmig_format_size(done);
    if (total > 0) {
        fprintf(stderr, "\r%3.0f %% %10s", 100.0 * (double)done / (double)total, size);
    } else {
        fprintf(stderr, "\r%10s", size);
    }
    if (done == total) {
        fprintf(stderr, "\r%16s\r", "");
    }
}

CliStreamProgress
cli_stream_progress(void)
{
    return isatty(STDERR_FILENO) ? print_progress : NULL;
}

static int
usage(FILE *out, int code)
{
    fprintf(out,
            "usage: qmig stream SUBCOMMAND [OPTION…] INPUT…\n\n"
            "Reads migration streams: files, pipes (\"-\"), save files, captures.\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(out, "\n`qmig stream SUBCOMMAND --help` tells more.\n");
    return code;
}

int
cli_stream(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return usage(stdout, 0);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            g_autofree char *title = g_strdup_printf("stream %s", name);

            argv[1] = title;
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (name[0] == '-') {
        fprintf(stderr, "qmig stream: Unknown option %s before the subcommand\n", name);
    } else if (name[0] != '\0') {
        fprintf(stderr, "qmig stream: \"%s\" is no subcommand\n", name);
    }
    return usage(stderr, QMIG_OUTCOME_USAGE);
}
