/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who does what:
 *
 *     main thread    waits for signals, the end, and the deadline of a peer that does not end
 *     working        opens the peer, exchanges the start, decodes; one way: all
 *     encoding       two ways: plain -> coded
 *
 * each of the latter two with the threads of pipe/flow.h. Whatever fails first raises `stop`,
 * which ends all waits. Closing the descriptors then tells both neighbours: no end record goes to
 * the other qmig, so that what it has is cut, and it tells its own.
 */
#include "pipe/pipe.h"

#include "pipe/peer.h"
#include "pipe/start.h"
#include "save/format.h"
#include "util/error.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/stat.h>

enum {
    FAST_PIECES_PER_S = 20, /* with a rate: a block is at most what it gives in so long */
    GREETING_MS = 10000,    /* for who was let in to say who it is */
    TICK_MS = 1000,
    ENDING_MS = 60000, /* all was sent, and nothing moves */
    BACKLOG = 4,
    RETRY_MS = 50,
};

struct QmigPipe {
    const QmigPipeOptions *options; /* borrowed */
    QmigPipeSetup setup;
    QmigCancel *stop, *done;
    QmigPipePeer stdio, peer; /* the working thread's; closed when all have been joined */
    QmigPipePeer *plain;      /* with two ways: which of the two; */
    QmigPipePeer *coded;
    QmigPipeFlow encode, decode;
    QmigPace *pace; /* (nullable) of one of them */
    bool two_way, encodes, decodes;
    GThread *encoding;    /* NULL: not begun */
    GError *encode_error; /* the encoding thread's */
    GError *error;        /* the working thread's */
    char *peer_name;      /* owned */
    int64_t began_us;
    bool timed_out; /* main thread: it has raised stop for that */
};

/* ---- closing what was written to ------------------------------------------------------------ */

static bool
end_encode(QmigPipeFlow *f, GError **error)
{
    QmigPipe *p = f->owner;

    return qmig_pipe_peer_end(p->two_way ? p->coded : &p->stdio, error);
}

static bool
end_decode(QmigPipeFlow *f, GError **error)
{
    QmigPipe *p = f->owner;

    return qmig_pipe_peer_end(p->two_way ? p->plain : &p->stdio, error);
}

static void
init_flow(QmigPipe *p, QmigPipeFlow *f)
{
    const QmigPipeOptions *o = p->options;

    f->in = f->out = -1;
    f->stop = p->stop;
    f->threads = o->threads;
    f->automatic = o->automatic;
    f->codec = o->codec;
    f->level = o->level;
    f->watch = o->watch ? qmig_pipe_watch_new() : NULL;
    f->owner = p;
}

QmigPipe *
qmig_pipe_new(const QmigPipeOptions *options)
{
    QmigPipe *p = g_new0(QmigPipe, 1);
    uint64_t limit = QMIG_PIPE_BLOCK_MAX;

    p->options = options;
    p->two_way = options->connect != NULL || options->listen != NULL ||
                 options->command != NULL;
    p->stop = qmig_cancel_new();
    p->done = qmig_cancel_new();
    init_flow(p, &p->encode);
    init_flow(p, &p->decode);
    p->encode.end = end_encode;
    p->decode.end = end_decode;
    p->encodes = p->two_way || !options->decode;
    p->decodes = p->two_way || options->decode;
    if (options->rate > 0) {
        p->pace = qmig_pace_new(NULL, NULL);
        qmig_pace_set(p->pace, options->rate, 0);
        *(p->encodes ? &p->encode.pace : &p->decode.pace) = p->pace;
        limit = CLAMP(options->rate / FAST_PIECES_PER_S, QMIG_PIPE_BLOCK_MIN, limit);
    }
    p->setup = (QmigPipeSetup){ options->key, options->cipher, (uint32_t)limit };
    p->stdio.in = p->stdio.out = p->peer.in = p->peer.out = -1;
    p->began_us = qmig_now_us();
    return p;
}

void
qmig_pipe_free(QmigPipe *p)
{
    if (p != NULL) {
        g_clear_pointer(&p->encode.watch, qmig_pipe_watch_free);
        g_clear_pointer(&p->decode.watch, qmig_pipe_watch_free);
        g_clear_pointer(&p->pace, qmig_pace_free);
        g_clear_error(&p->encode_error);
        g_clear_error(&p->error);
        qmig_cancel_free(p->stop);
        qmig_cancel_free(p->done);
        g_free(p->peer_name);
        g_free(p);
    }
}

/* ---- one way ---------------------------------------------------------------------------------- */

/* A disk takes bytes faster than they can be packed, so not to pack would always be best; but it
 * is the space that counts. */
static void
choose_for_file(QmigPipeFlow *f)
{
    struct stat info;

    if (f->automatic && fstat(f->out, &info) == 0 && S_ISREG(info.st_mode)) {
        f->automatic = false;
        f->codec = QMIG_SAVE_CODEC_ZSTD;
        f->level = 1;
    }
}

static bool
run_one_way(QmigPipe *p, GError **error)
{
    QmigPipeFlow *f = p->encodes ? &p->encode : &p->decode;
    uint8_t head[QMIG_PIPE_HEADER_LENGTH];
    bool plain = false;
    size_t len = 0;

    f->in = p->stdio.in;
    f->out = p->stdio.out;
    f->in_name = "stdin";
    f->out_name = "stdout";
    if (p->encodes) {
        choose_for_file(f);
        return qmig_pipe_start_encode(f, &p->setup, error) && qmig_pipe_encode(f, error);
    }
    if (!qmig_pipe_start_decode(f, &p->setup, &plain, head, &len, error)) {
        return false;
    }
    return plain ? qmig_pipe_copy(f, head, len, error) : qmig_pipe_decode(f, error);
}

/* ---- two ways ------------------------------------------------------------------------------- */

static void *
run_encoding(void *data)
{
    QmigPipe *p = data;

    if (!qmig_pipe_encode(&p->encode, &p->encode_error)) {
        qmig_cancel_raise(p->stop);
    }
    return NULL;
}

static void
start_encoding(QmigPipe *p)
{
    p->encode.in = p->plain->in;
    p->encoding = g_thread_new("qmig-pipe-in", run_encoding, p);
}

/* Who is not there yet is asked again. */
static bool
connect_peer(QmigPipe *p, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(p->options->timeout_ms);
    g_autoptr(GError) last = NULL;
    int fd;

    while ((fd = qmig_socket_connect(p->options->connect, deadline, p->stop, &last)) <
           0) {
        if (!g_error_matches(last, QMIG_ERROR, QMIG_ERROR_IO) ||
            qmig_now_us() >= deadline || qmig_cancel_is_raised(p->stop)) {
            g_propagate_error(error, g_steal_pointer(&last));
            return false;
        }
        g_clear_error(&last);
        g_usleep(RETRY_MS * 1000);
    }
    qmig_pipe_peer_socket(&p->peer, fd);
    p->peer.name = p->peer_name;
    return true;
}

/* A waiting QEMU dies of a connection that says nothing: it is made when there is something to
 * say. */
static bool
begin_plain(QmigPipeFlow *f, GError **error)
{
    QmigPipe *p = f->owner;

    if (!connect_peer(p, error)) {
        return false;
    }
    p->decode.out = p->plain->out;
    start_encoding(p);
    return true;
}

/* Exchange the start over the coded end, which is open. */
static bool
greet(QmigPipe *p, uint32_t timeout_ms, GError **error)
{
    p->encode.out = p->coded->out;
    p->decode.in = p->coded->in;
    return qmig_pipe_start_two_way(&p->encode, &p->decode, &p->setup,
                                   qmig_deadline_in_ms(timeout_ms), error);
}

static void
reset_counters(QmigPipe *p)
{
    p->decode.position = 0;
    __atomic_store_n(&p->decode.bytes_in, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&p->encode.bytes_out, 0, __ATOMIC_RELAXED);
}

/* Take connections until one is from who has the key. */
static bool
accept_peer(QmigPipe *p, int listener, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(p->options->timeout_ms);

    for (;;) {
        g_autoptr(GError) refused = NULL;
        int fd = qmig_socket_accept(listener, deadline, p->stop, error);

        if (fd < 0) {
            g_prefix_error(error, "%s: ", p->peer_name);
            return false;
        }
        qmig_pipe_peer_socket(&p->peer, fd);
        p->peer.name = p->peer_name;
        /* A plain peer cannot tell who it is. */
        if (p->options->decode || greet(p, GREETING_MS, &refused)) {
            return true;
        }
        if (p->options->notice != NULL) {
            p->options->notice(p->options->data, refused->message);
        }
        qmig_pipe_peer_close(&p->peer, false, NULL);
        reset_counters(p);
    }
}

static bool
listen_peer(QmigPipe *p, GError **error)
{
    const QmigAddress *address = p->options->listen;
    g_auto(QmigFd) listener = qmig_socket_listen(address, BACKLOG, NULL, error);

    if (listener < 0) {
        return false;
    }
    bool ok = accept_peer(p, listener, error);
    if (address->kind == QMIG_ADDRESS_UNIX) {
        (void)unlink(address->path);
    }
    return ok;
}

static bool
open_peer(QmigPipe *p, GError **error)
{
    const QmigPipeOptions *o = p->options;

    if (o->listen != NULL) {
        return listen_peer(p, error);
    }
    if (o->command != NULL) {
        bool ok = qmig_pipe_peer_spawn(&p->peer, o->command, error);
        p->peer.name = p->peer_name;
        return ok;
    }
    if (o->decode) {
        p->decode.begin = begin_plain;
        return true;
    }
    return connect_peer(p, error);
}

static bool
run_flows(QmigPipe *p, GError **error)
{
    p->decode.out = p->plain->out;
    if (p->decode.begin == NULL) {
        start_encoding(p);
    }
    bool ok = qmig_pipe_decode(&p->decode, error);
    if (ok && p->encoding == NULL) {
        /* Nothing came, so nobody was asked: the way back is as empty. */
        g_auto(QmigFd) null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        p->plain->in = null;
        start_encoding(p);
        g_thread_join(g_steal_pointer(&p->encoding));
        p->plain->in = -1;
    }
    if (!ok) {
        qmig_cancel_raise(p->stop);
    }
    if (p->encoding != NULL) {
        g_thread_join(g_steal_pointer(&p->encoding));
    }
    return ok;
}

static bool
run_two_way(QmigPipe *p, GError **error)
{
    p->plain = p->options->decode ? &p->peer : &p->stdio;
    p->coded = p->options->decode ? &p->stdio : &p->peer;
    p->encode.in_name = p->options->decode ? p->peer_name : "stdin";
    p->decode.out_name = p->options->decode ? p->peer_name : "stdout";
    p->encode.out_name = p->options->decode ? "stdout" : p->peer_name;
    p->decode.in_name = p->options->decode ? "stdin" : p->peer_name;
    if (!open_peer(p, error)) {
        return false;
    }
    bool greeted = p->options->listen != NULL && !p->options->decode;
    return (greeted || greet(p, p->options->timeout_ms, error)) && run_flows(p, error);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void
name_peer(QmigPipe *p)
{
    const QmigPipeOptions *o = p->options;
    const QmigAddress *address = o->connect != NULL ? o->connect : o->listen;

    if (o->command != NULL) {
        p->peer_name = g_path_get_basename(o->command[0]);
    } else if (address != NULL) {
        p->peer_name = qmig_address_to_string(address);
    }
}

static void *
run_working(void *data)
{
    QmigPipe *p = data;

    if (!(p->two_way ? run_two_way(p, &p->error) : run_one_way(p, &p->error))) {
        qmig_cancel_raise(p->stop);
    }
    qmig_cancel_raise(p->done);
    return NULL;
}

static uint64_t
moved(const QmigPipe *p)
{
    return __atomic_load_n(&p->encode.bytes_out, __ATOMIC_RELAXED) +
           __atomic_load_n(&p->decode.bytes_out, __ATOMIC_RELAXED);
}

/* All that our own side had to say is told, and the other qmig does not come to its end: QEMU waits
 * for ours with its monitor blocked. A side that never had anything to say may listen as long as it
 * likes. */
static bool
is_stuck(QmigPipe *p, uint64_t *before, QmigDeadline *deadline)
{
    bool ending = p->two_way &&
                  __atomic_load_n(&p->encode.ended, __ATOMIC_RELAXED) != 0 &&
                  __atomic_load_n(&p->encode.bytes_in, __ATOMIC_RELAXED) > 0;
    uint64_t now = moved(p);

    if (!ending || now != *before) {
        *before = now;
        *deadline = qmig_deadline_in_ms(ENDING_MS);
    }
    return qmig_now_us() >= *deadline;
}

static void
supervise(QmigPipe *p)
{
    const QmigPipeOptions *o = p->options;
    QmigDeadline deadline = qmig_deadline_in_ms(ENDING_MS);
    uint64_t before = 0;

    while (!qmig_cancel_is_raised(p->done)) {
        bool stopping = qmig_cancel_is_raised(p->stop);
        struct pollfd fds[] = {
            { .fd = qmig_cancel_fd(p->done), .events = POLLIN },
            { .fd = stopping ? -1 : qmig_cancel_fd(o->cancel), .events = POLLIN },
            { .fd = o->wake_fd, .events = POLLIN },
        };

        if (poll(fds, G_N_ELEMENTS(fds), TICK_MS) > 0 && fds[2].revents != 0) {
            o->wake(o->data);
        }
        if (!stopping && is_stuck(p, &before, &deadline)) {
            p->timed_out = true;
            qmig_cancel_raise(p->stop);
        }
        if (!stopping && qmig_cancel_is_raised(o->cancel)) {
            qmig_cancel_raise(p->stop);
        }
    }
}

/* Which of the errors is the cause? Not the one that only says that it was stopped. */
static bool
settle(QmigPipe *p, GError **error)
{
    GError *first = p->error;

    if (p->timed_out) {
        return qmig_set_error(
            error, QMIG_ERROR_TIMEOUT,
            "all was sent, and nothing came back for %d s: look at the other side",
            ENDING_MS / 1000);
    }
    if (first == NULL || (p->encode_error != NULL &&
                          g_error_matches(first, QMIG_ERROR, QMIG_ERROR_CANCELLED))) {
        first = p->encode_error;
    }
    if (first != NULL) {
        g_propagate_error(error, g_error_copy(first));
    }
    return first == NULL;
}

static bool
close_all(QmigPipe *p, bool ok, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool closed = qmig_pipe_peer_close(&p->peer, ok, &local);

    qmig_pipe_peer_close(&p->stdio, ok, NULL);
    if (!ok && !closed) {
        g_autofree char *before = g_strdup((*error)->message);

        g_free((*error)->message);
        (*error)->message = g_strdup_printf("%s; %s", before, local->message);
    }
    if (ok && !closed) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return ok && closed;
}

bool
qmig_pipe_run(QmigPipe *p, GError **error)
{
    g_autoptr(GError) local = NULL;
    GThread *working;

    name_peer(p);
    qmig_pipe_peer_stdio(&p->stdio);
    p->stdio.name = "stdout";
    working = g_thread_new("qmig-pipe", run_working, p);
    supervise(p);
    g_thread_join(working);
    bool ok = close_all(p, settle(p, &local), &local);
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return ok;
}

/* ---- the report ----------------------------------------------------------------------------- */

static JsonObject *
new_number(double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_ascii_formatd(text, sizeof text, "%.3f", value);
    return json_object_new_double_s(value, text);
}

static JsonObject *
report_flow(QmigPipeFlow *f, bool encode)
{
    JsonObject *flow = json_object_new_object(), *codecs = json_object_new_object();
    uint64_t in = __atomic_load_n(&f->bytes_in, __ATOMIC_RELAXED);
    uint64_t out = __atomic_load_n(&f->bytes_out, __ATOMIC_RELAXED);
    uint64_t plain = encode ? in : out, coded = encode ? out : in;
    double ratio = coded > 0 ? (double)plain / (double)coded : 0;

    json_object_object_add(flow, "bytes_in", json_object_new_uint64(in));
    json_object_object_add(flow, "bytes_out", json_object_new_uint64(out));
    json_object_object_add(flow, "ratio", new_number(ratio));
    json_object_object_add(
        flow, "records",
        json_object_new_uint64(__atomic_load_n(&f->blocks, __ATOMIC_RELAXED)));
    for (uint32_t i = 0; i < QMIG_SAVE_N_CODECS; i++) {
        uint64_t n = __atomic_load_n(&f->codec_blocks[i], __ATOMIC_RELAXED);

        json_object_object_add(codecs, qmig_save_codec_name(i),
                               json_object_new_uint64(n));
    }
    json_object_object_add(flow, "codecs", codecs);
    json_object_object_add(
        flow, "ended",
        json_object_new_boolean(__atomic_load_n(&f->ended, __ATOMIC_RELAXED)));
    if (f->watch != NULL) {
        qmig_pipe_watch_report(f->watch, flow);
    }
    return flow;
}

JsonObject *
qmig_pipe_report(QmigPipe *p)
{
    JsonObject *report = json_object_new_object();
    double seconds = (double)(qmig_now_us() - p->began_us) / G_USEC_PER_SEC;

    json_object_object_add(report, "seconds", new_number(seconds));
    json_object_object_add(
        report, "cipher", json_object_new_string(qmig_pipe_cipher_name(p->setup.cipher)));
    json_object_object_add(report, "encoded",
                           p->encodes ? report_flow(&p->encode, true) : NULL);
    json_object_object_add(report, "decoded",
                           p->decodes ? report_flow(&p->decode, false) : NULL);
    return report;
}
