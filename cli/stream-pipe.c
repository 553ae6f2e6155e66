/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream pipe: a program for QEMU's exec: and other pipelines. */
#include "cli/stream.h"
#include "pipe/cipher.h"
#include "pipe/pipe.h"
#include "save/format.h"
#include "util/error.h"
#include "util/pki.h"
#include "util/units.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

enum { MAX_THREADS = 64, MAX_ARGUMENTS = 1000, DEFAULT_TIMEOUT_S = 60, RATE_MIN = 1000 };

static struct {
    gboolean encode, decode, insecure;
    char *codec, *cipher, *key, *key_user, *rate, *report, *connect, *listen;
    int level, threads, timeout_s;
} arg = { .threads = 1, .timeout_s = DEFAULT_TIMEOUT_S };

static const GOptionEntry entries[] = {
    { "encode", 0, 0, G_OPTION_ARG_NONE, &arg.encode, "stdin is plain (default)", NULL },
    { "decode", 0, 0, G_OPTION_ARG_NONE, &arg.decode, "stdin is what another one wrote",
      NULL },
    { "codec", 0, 0, G_OPTION_ARG_STRING, &arg.codec,
      "auto (default: as output and CPU allow), lz4, zstd, none", "NAME" },
    { "level", 0, 0, G_OPTION_ARG_INT, &arg.level,
      "of zstd: -20 (fast) to 19 (small); default 1", "N" },
    { "threads", 0, 0, G_OPTION_ARG_INT, &arg.threads, "that pack and encrypt; default 1",
      "N" },
    { "key", 0, 0, G_OPTION_ARG_FILENAME, &arg.key,
      "encrypt with this key: 32 bytes, or a keys.psk", "FILE" },
    { "key-user", 0, 0, G_OPTION_ARG_STRING, &arg.key_user,
      "whose key in keys.psk (default \"qemu\")", "NAME" },
    { "cipher", 0, 0, G_OPTION_ARG_STRING, &arg.cipher,
      "aes-256-gcm (default), chacha20-poly1305", "NAME" },
    { "rate", 0, 0, G_OPTION_ARG_STRING, &arg.rate,
      "write no faster: 100MiB/s, 800Mbit/s", "RATE" },
    { "report", 0, 0, G_OPTION_ARG_FILENAME, &arg.report,
      "JSON at the end and on SIGUSR1", "FILE|fd:N" },
    { "connect", 0, 0, G_OPTION_ARG_STRING, &arg.connect,
      "two ways: the other side is there", "ADDRESS" },
    { "listen", 0, 0, G_OPTION_ARG_STRING, &arg.listen,
      "two ways: the other side comes here", "ADDRESS" },
    { "timeout", 0, 0, G_OPTION_ARG_INT, &arg.timeout_s,
      "for the other side to be there (default 60)", "SECONDS" },
    { "insecure", 0, 0, G_OPTION_ARG_NONE, &arg.insecure, "TCP without a key", NULL },
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "stdin to stdout: for QEMU's exec: and any pipeline. With --connect, --listen or a\n"
    "COMMAND (whose stdin and stdout are used), stdin and stdout are one side of a\n"
    "connection of two ways, so that QEMU's return path works; with --decode they are\n"
    "the side that is coded.\n\n"
    "Exit: 0 all went through, 1 usage, 3 failed (damage, a cut, no peer, another key),\n"
    "4 stopped by a signal.\n";

/* ---- options -------------------------------------------------------------------------------- */

static bool
take_codec(QmigPipeOptions *o, GError **error)
{
    const char *name = arg.codec != NULL ? arg.codec : "auto";

    o->automatic = strcmp(name, "auto") == 0;
    o->level = arg.level;
    for (uint32_t codec = 0; codec < QMIG_SAVE_N_CODECS; codec++) {
        if (strcmp(name, qmig_save_codec_name(codec)) == 0) {
            o->codec = (uint8_t)codec;
            return arg.level == 0 || codec == QMIG_SAVE_CODEC_ZSTD ||
                   qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "--level is for --codec=zstd");
        }
    }
    return (o->automatic && arg.level == 0) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          o->automatic
                              ? "--level is for --codec=zstd"
                              : "--codec: \"%s\", wanted auto, lz4, zstd or none",
                          name);
}

static bool
take_cipher(QmigPipeOptions *o, GError **error)
{
    const char *name = arg.cipher != NULL ? arg.cipher : "aes-256-gcm";
    const char *user = arg.key_user != NULL ? arg.key_user : QMIG_PKI_DEFAULT_USER;

    if (arg.key == NULL) {
        return (arg.cipher == NULL && arg.key_user == NULL) ||
               qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--cipher and --key-user need --key");
    }
    for (uint32_t i = QMIG_PIPE_CLEAR + 1; i < QMIG_PIPE_N_CIPHERS; i++) {
        if (strcmp(name, qmig_pipe_cipher_name(i)) == 0) {
            o->cipher = (QmigPipeCipher)i;
            o->key = qmig_pipe_key_read(arg.key, user, error);
            return o->key != NULL;
        }
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--cipher: \"%s\", wanted aes-256-gcm or chacha20-poly1305",
                          name);
}

static bool
take_address(const char *option, const char *text, QmigAddress **address, GError **error)
{
    if (text == NULL) {
        return true;
    }
    *address = qmig_address_parse(text, error);
    if (*address == NULL) {
        return false;
    }
    /* With --decode the address is the plain side: a QEMU, which has no keys of ours. */
    return (*address)->kind == QMIG_ADDRESS_UNIX || arg.key != NULL || arg.insecure ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "%s=%s: a guest's memory over TCP wants --key, or --insecure",
                          option, text);
}

static bool
take_peer(QmigPipeOptions *o, int argc, char **argv, GError **error)
{
    char **command = argv + 1;
    int n;

    if (argc > 1 && strcmp(command[0], "--") == 0) {
        command++;
    }
    o->command = command[0] != NULL ? command : NULL;
    n = (o->command != NULL) + (arg.connect != NULL) + (arg.listen != NULL);
    if (n > 1) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--connect, --listen and a command exclude each other");
    }
    if (arg.encode && arg.decode) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--encode and --decode exclude each other");
    }
    return take_address("--connect", arg.connect, &o->connect, error) &&
           take_address("--listen", arg.listen, &o->listen, error);
}

static bool
take_options(QmigPipeOptions *o, int argc, char **argv, GError **error)
{
    if (arg.threads < 1 || arg.threads > MAX_THREADS) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "--threads=%d: wanted 1 to %d",
                              arg.threads, MAX_THREADS);
    }
    if (arg.timeout_s < 1 || arg.timeout_s > G_MAXINT / 1000) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "--timeout=%d: out of range",
                              arg.timeout_s);
    }
    if (arg.rate != NULL && !qmig_parse_rate(arg.rate, &o->rate, error)) {
        g_prefix_error(error, "--rate: ");
        return false;
    }
    if (arg.rate != NULL && o->rate < RATE_MIN) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--rate=%s: wanted %d bytes a second or more", arg.rate,
                              RATE_MIN);
    }
    o->threads = (unsigned)arg.threads;
    o->timeout_ms = (uint32_t)arg.timeout_s * 1000;
    o->decode = arg.decode;
    o->watch = arg.report != NULL;
    return take_codec(o, error) && take_peer(o, argc, argv, error) &&
           take_cipher(o, error);
}

/* ---- the report ----------------------------------------------------------------------------- */

typedef struct {
    QmigPipe *pipe;
    int signal_fd;
    int report_fd; /* of fd:N; -1: a file, or none */
} Pipe;

static bool
take_report(Pipe *p, GError **error)
{
    char *end;

    p->report_fd = -1;
    if (arg.report == NULL || !g_str_has_prefix(arg.report, "fd:")) {
        return true;
    }
    guint64 fd = g_ascii_strtoull(arg.report + 3, &end, 10);
    if (end == arg.report + 3 || *end != '\0' || fd > G_MAXINT ||
        fcntl((int)fd, F_GETFD) < 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "--report=%s: no open descriptor",
                              arg.report);
    }
    p->report_fd = (int)fd;
    return true;
}

/* A file always holds one whole report, the newest; a descriptor gets one line after the other. */
static void
write_report(const Pipe *p, const char *outcome, const GError *failure)
{
    g_autoptr(JsonObject) report = qmig_pipe_report(p->pipe);
    g_autoptr(GError) error = NULL;

    cli_add_text(report, "outcome", outcome);
    if (failure != NULL) {
        cli_add_error(report, failure);
    }
    const char *text = json_object_to_json_string_ext(
        report, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    g_autofree char *line = g_strdup_printf("%s\n", text);
    if (p->report_fd < 0 && arg.report != NULL) {
        if (!g_file_set_contents(arg.report, line, -1, &error)) {
            fprintf(stderr, "qmig stream pipe: --report: %s\n", error->message);
        }
        return;
    }
    int fd = p->report_fd >= 0 ? p->report_fd : STDERR_FILENO;
    if (write(fd, line, strlen(line)) < 0) {
        fprintf(stderr, "qmig stream pipe: --report: %s\n", g_strerror(errno));
    }
}

static void
on_wake(void *data)
{
    const Pipe *p = data;
    struct signalfd_siginfo info;

    if (read(p->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        write_report(p, "running", NULL);
    }
}

static void
on_notice(void *data, const char *text)
{
    (void)data;
    fprintf(stderr, "qmig stream pipe: a connection was refused: %s\n", text);
}

/* SIGUSR1 becomes readable, in this thread and all that will be. */
static int
open_signal(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int
run(QmigPipeOptions *o, Pipe *p)
{
    g_autoptr(GError) error = NULL;
    g_auto(QmigFd) signal_fd = open_signal();

    p->signal_fd = signal_fd;
    o->wake_fd = signal_fd;
    o->wake = on_wake;
    o->notice = on_notice;
    o->data = p;
    o->cancel = cli_cancel_on_signals();
    g_autoptr(QmigPipe) pipe = qmig_pipe_new(o);
    p->pipe = pipe;
    bool ok = qmig_pipe_run(pipe, &error);
    bool cancelled = g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
    if (arg.report != NULL) {
        write_report(p, ok ? "done" : cancelled ? "cancelled" : "failed", error);
    }
    if (ok) {
        return 0;
    }
    return cli_fail("stream pipe", error,
                    cancelled ? QMIG_OUTCOME_CANCELLED : QMIG_OUTCOME_FAILED);
}

int
cli_stream_pipe(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    QmigPipeOptions options = { .wake_fd = -1 };
    Pipe pipe = { 0 };

    if (!cli_parse(&argc, &argv, entries, "[-- COMMAND [ARGUMENT…]]", description, 0,
                   MAX_ARGUMENTS)) {
        return QMIG_OUTCOME_USAGE;
    }
    bool ok = take_options(&options, argc, argv, &error) && take_report(&pipe, &error);
    int code = ok ? run(&options, &pipe)
                  : cli_fail("stream pipe", error, QMIG_OUTCOME_USAGE);
    g_clear_pointer(&options.key, g_bytes_unref);
    qmig_address_free(options.connect);
    qmig_address_free(options.listen);
    return code;
}
