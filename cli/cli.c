/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See cli.h. */
#include "cli/cli.h"

#include "util/error.h"
#include "util/units.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { CONNECT_TIMEOUT_MS = 5000, REDRAW_US = 200000 };

bool
cli_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *usage,
          const char *description, int n_min, int n_max)
{
    g_autoptr(GOptionContext) context = g_option_context_new(usage);
    g_autofree char *name = g_strdup((*argv)[0]);
    g_autofree char *program = g_strdup_printf("qmig %s", name);
    g_autoptr(GError) error = NULL;

    g_set_prgname(program);
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_description(context, description);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "%s: %s\nTry `%s --help`.\n", program, error->message, program);
        return false;
    }
    if (*argc - 1 < n_min || *argc - 1 > n_max) {
        fprintf(stderr, "%s: %d arguments given\nusage: %s [OPTION…] %s\n", program,
                *argc - 1, program, usage);
        return false;
    }
    return true;
}

int
cli_fail(const char *command, const GError *error, int code)
{
    fprintf(stderr, "qmig %s: %s\n", command, error->message);
    return code;
}

QmigQmp *
cli_connect(const char *text, GError **error)
{
    g_autoptr(QmigAddress) address = qmig_address_parse(text, error);

    return address != NULL
               ? qmig_qmp_connect(address, "QEMU",
                                  qmig_deadline_in_ms(CONNECT_TIMEOUT_MS), NULL, error)
               : NULL;
}

void
cli_print_json(JsonObject *object)
{
    cli_print_json_to(stdout, object);
}

void
cli_print_json_to(FILE *out, JsonObject *object)
{
    fprintf(out, "%s\n",
            json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
                                                       JSON_C_TO_STRING_SPACED |
                                                       JSON_C_TO_STRING_NOSLASHESCAPE));
    fflush(out);
}

void
cli_add_text(JsonObject *object, const char *name, const char *text)
{
    json_object_object_add(object, name,
                           text != NULL ? json_object_new_string(text) : NULL);
}

void
cli_add_error(JsonObject *object, const GError *error)
{
    JsonObject *what = json_object_new_object();

    cli_add_text(what, "code", qmig_error_name(error));
    cli_add_text(what, "message", error->message);
    json_object_object_add(object, "error", what);
}

static QmigCancel *signal_cancel;

static void
on_signal(int number)
{
    (void)number;
    qmig_cancel_raise(signal_cancel);
}

const QmigCancel *
cli_cancel_on_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

    signal_cancel = qmig_cancel_new();
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    return signal_cancel;
}

void
cli_bytes_draw(void *data, uint64_t stream, uint64_t file)
{
    CliBytes *bytes = data;
    int64_t now = qmig_now_us();

    if (!isatty(STDERR_FILENO) || now - bytes->drawn_us < REDRAW_US) {
        return;
    }
    g_autofree char *stream_text = qmig_format_size(stream);
    g_autofree char *file_text = qmig_format_size(file);
    fprintf(stderr, "\r\033[K%s%s%s", stream_text, file > 0 ? " in " : "",
            file > 0 ? file_text : "");
    fflush(stderr);
    bytes->drawn_us = now;
}

void
cli_bytes_end(CliBytes *bytes)
{
    if (bytes->drawn_us > 0) {
        fputs("\r\033[K", stderr);
    }
}
