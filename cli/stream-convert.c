/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream convert: a stream of any kind as a plain stream or a mapped-ram file. */
#include "cli/stream.h"
#include "inspect/convert.h"
#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static struct {
    char *to;
    gboolean drop_description;
} arg;

static const GOptionEntry entries[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &arg.to,
      "stream (default): one channel, as QEMU writes it; mapped-ram: a file for QEMU >= 9.0",
      "FORMAT" },
    { "drop-description", 0, 0, G_OPTION_ARG_NONE, &arg.drop_description,
      "Leave out the description of the device state", NULL },
    G_OPTION_ENTRY_NULL
};

static bool
convert(const char *input, const char *output, const QmigConvertOptions *options,
        GError **error)
{
    g_auto(QmigFd) fd = strcmp(output, "-") == 0
                            ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                            : open(output, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0) {
        return qmig_set_error_errno(error, errno, "%s", output);
    }
    if (!qmig_convert_run(input, fd, options, error)) {
        if (strcmp(output, "-") != 0) {
            unlink(output);
        }
        return false;
    }
    return true;
}

int
cli_stream_convert(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    QmigConvertOptions options = { .progress = cli_stream_progress() };

    if (!cli_parse(
            &argc, &argv, entries, "INPUT OUTPUT",
            "Takes every kind of stream: captures with multifd, postcopy or COLO,\n"
            "mapped-ram files, save files. OUTPUT may be \"-\" (not for mapped-ram).\n"
            "For a compressed file: qmig stream convert INPUT - | qmig save - FILE\n",
            2, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    options.mapped_ram = g_strcmp0(arg.to, "mapped-ram") == 0;
    options.drop_description = arg.drop_description;
    if (arg.to != NULL && !options.mapped_ram && strcmp(arg.to, "stream") != 0) {
        fprintf(stderr, "qmig stream convert: --to=%s: want stream or mapped-ram\n",
                arg.to);
        return QMIG_OUTCOME_USAGE;
    }
    if (!convert(argv[1], argv[2], &options, &error)) {
        return cli_fail("stream convert", error, QMIG_OUTCOME_USAGE);
    }
    return 0;
}
