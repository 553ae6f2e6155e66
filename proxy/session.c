/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The session thread. It alone accepts, classifies and opens; relays run in threads of their
 * own and wake it when something changed.
 *
 *     accept -> waiting room -> (first bytes tell the kind) -> open the other leg -> relays
 *
 * A QEMU that waits for a migration is killed by a connection that says nothing and closes,
 * frozen by one that says nothing, and 7.2 takes the first connection for main whatever it is.
 * Hence: no connection to the destination before its first bytes are here; nothing before
 * main's first bytes were written. Only a preempt channel is silent by nature: it is opened
 * when main runs and has announced postcopy.
 */
#include "proxy/session.h"

#include "proxy/classify.h"
#include "proxy/record.h"
#include "util/error.h"
#include "util/socket.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    DEFAULT_TIMEOUT_MS = 10000,
    /* Connections of one migration: QEMU allows 255 multifd channels; main and preempt. */
    CONNECTIONS_MAX = 255 + 2,
    /* QEMU opens its channels all at once. */
    BACKLOG = 128,
    /* A silent connection may be multifd whose first packet is on its way. To mistake one does
       no harm (its bytes pass all the same), to wait long does: a destination holds its
       switchover back until the preempt channel is there. */
    PREEMPT_SETTLE_MS = 50,
    /* After main ended in order the others do so at once, if they do. */
    LAST_ENDS_MS = 5000,
    CONNECT_AGAIN_MS = 100,
};

/* A connection of the source whose kind is not known or whose turn has not come. */
typedef struct {
    QmigFd fd; /* owned */
    uint8_t bytes[QMIG_FIRST_BYTES_MAX];
    size_t len;
    bool has_eof;
    QmigTls *tls;    /* owned (nullable) */
    bool is_shaking; /* its handshake is under way */
    short events;    /* what to poll for */
    QmigFirst first;
    QmigDeadline settles_at; /* if still silent then, it may be preempt */
    QmigDeadline deadline;
} Waiting;

struct QmigSession {
    QmigGroup group;
    QmigAddress *destination; /* owned */
    QmigNear *near;           /* (nullable) a reference; see QmigProxyConfig */
    QmigAddress *address;     /* owned; where it listens */
    QmigMainStream *stream;   /* owned */
    QmigRecord *record;       /* owned (nullable) */
    const QmigTlsCreds *tls_server, *tls_client; /* borrowed (nullable) */
    char *tls_hostname;                          /* owned (nullable) */
    uint32_t first_bytes_timeout_ms, connect_timeout_ms;
    bool connect_again;
    QmigFd listener;
    GPtrArray *waiting;    /* Waiting *; session thread's */
    QmigConnection *main;  /* borrowed from connections; session thread's */
    bool main_has_started; /* as the session thread saw it last */
    bool main_is_tls, main_is_recovery;
    bool has_multifd;
    unsigned n_tls;        /* TLS connections beside main */
    QmigDeadline last_end; /* main has ended: when to stop waiting for the others */
    QmigSessionEnded ended;
    void *ended_data;
    GThread *thread;
    gint state;           /* atomic: QmigProxyState */
    pthread_mutex_t lock; /* guards connections: the session thread appends, any reads */
    GPtrArray *connections; /* QmigConnection * */
};

static void
waiting_free(void *data)
{
    Waiting *w = data;

    qmig_tls_free(w->tls);
    qmig_fd_clear(&w->fd);
    g_free(w);
}

static void fail(QmigSession *s, QmigErrorCode code, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

static void
fail(QmigSession *s, QmigErrorCode code, const char *fmt, ...)
{
    GError *error = NULL;
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qmig_set_error(&error, code, "%s", text);
    qmig_group_fail(&s->group, error);
}

/* ---- opening ---------------------------------------------------------------------------- */

static int
connect_once(QmigSession *s, QmigConnectionConfig *config, QmigDeadline deadline,
             GError **error)
{
    /* TLS is written to a descriptor. */
    if (s->near != NULL && s->tls_client == NULL && config->kind == QMIG_CHANNEL_MAIN) {
        return qmig_near_connect(s->near, s->destination, &config->sink, error);
    }
    return qmig_socket_connect(s->destination, deadline, s->group.cancel, error);
}

static int
connect_destination(QmigSession *s, QmigConnectionConfig *config, QmigDeadline deadline,
                    GError **error)
{
    for (;;) {
        g_autoptr(GError) local = NULL;
        int fd = connect_once(s, config, deadline, &local);

        if (fd >= 0) {
            return fd;
        }
        if (!s->connect_again || qmig_cancel_is_raised(s->group.cancel) ||
            qmig_now_us() >= deadline) {
            g_propagate_error(error, g_steal_pointer(&local));
            return -1;
        }
        g_usleep(CONNECT_AGAIN_MS * 1000);
    }
}

/*
 * Connect to the destination. With TLS it takes connections in the order of their handshakes:
 * one is finished before the next begins.
 */
static bool
reach_destination(QmigSession *s, QmigConnectionConfig *config, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(s->connect_timeout_ms);
    g_auto(QmigFd) fd = connect_destination(s, config, deadline, error);
    g_autoptr(QmigTls) tls = NULL;

    if (fd < 0) {
        return false;
    }
    if (s->tls_client != NULL) {
        tls = qmig_tls_new(s->tls_client, fd, s->tls_hostname, "the destination");
        if (!qmig_tls_handshake(tls, deadline, s->group.cancel, error)) {
            return false;
        }
    }
    config->destination = qmig_fd_steal(&fd);
    config->destination_tls = g_steal_pointer(&tls);
    return true;
}

/* As reach_destination(); a failure ends the session. */
static bool
try_to_reach(void *self, QmigConnectionConfig *config, GError **error)
{
    QmigSession *s = self;
    g_autoptr(GError) local = NULL;

    if (reach_destination(s, config, &local)) {
        return true;
    }
    qmig_record_end(config->recorded[0], true);
    qmig_record_end(config->recorded[1], true);
    if (!qmig_cancel_is_raised(s->group.cancel)) {
        g_autofree char *name = qmig_channel_name(config->kind, config->id);
        /* A preempt channel is opened when the guest may have begun to move over. */
        const char *advice = config->kind != QMIG_CHANNEL_PREEMPT && !config->is_recovery
                                 ? "; the source will report a failed migration and its "
                                   "guest keeps running"
                                 : "";
        fail(s, (QmigErrorCode)local->code, "destination: %s channel: %s%s", name,
             local->message, advice);
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* Let the relays run. Takes @w's descriptor. */
static void
open_connection(QmigSession *s, Waiting *w, QmigConnectionConfig *config)
{
    /* A destination may answer on main because this connection came: that stands behind it. */
    if (s->record != NULL) {
        qmig_connection_record(config, s->record);
    }
    if (config->kind == QMIG_CHANNEL_MAIN && qmig_main_stream_rewrites(s->stream)) {
        /* What plugins hold back, or refuse, the destination is not touched for. */
        config->destination = -1;
        config->reach = try_to_reach;
        config->reach_self = s;
    } else if (!try_to_reach(s, config, NULL)) {
        return;
    }
    config->group = &s->group;
    config->plugins = s->stream;
    config->source = qmig_fd_steal(&w->fd);
    config->source_tls = g_steal_pointer(&w->tls);
    config->first = w->bytes;
    config->first_len = w->len;
    QmigConnection *c = qmig_connection_start(config);
    pthread_mutex_lock(&s->lock);
    g_ptr_array_add(s->connections, c);
    pthread_mutex_unlock(&s->lock);
    if (config->kind == QMIG_CHANNEL_MAIN) {
        s->main = c;
    }
}

static void
open_main(QmigSession *s, Waiting *w)
{
    QmigConnectionConfig config = { .kind = QMIG_CHANNEL_MAIN, .stream = s->stream };

    g_atomic_int_set(&s->state, QMIG_PROXY_ACTIVE);
    if (w->first.kind == QMIG_FIRST_TLS) {
        s->main_is_tls = true;
        config.encrypted = true;
        config.raw_reason = "it is encrypted (TLS)";
    } else if (w->first.kind == QMIG_FIRST_RECOVERY) {
        s->main_is_recovery = true;
        config.is_recovery = true;
        config.raw_reason = "postcopy recovery: the stream goes on without its head";
    }
    if (config.raw_reason != NULL && qmig_main_stream_rewrites(s->stream)) {
        fail(s, QMIG_ERROR_UNSUPPORTED,
             "source: main channel: plugins cannot change it: %s", config.raw_reason);
        return;
    }
    open_connection(s, w, &config);
}

static bool
may_have_preempt(const QmigSession *s)
{
    /* Recovery re-opens the preempt channel without announcing postcopy again. */
    return s->main_has_started &&
           (s->main_is_recovery || qmig_main_stream_has_postcopy(s->stream));
}

/* ---- the waiting room --------------------------------------------------------------------- */

/* Not one of QEMU's, or one too many: on a wire, QEMU would ignore it. */
static void
turn_away(QmigSession *s, Waiting *w, const char *why)
{
    g_autoptr(GString) hex = g_string_new(NULL);

    for (size_t i = 0; i < w->len && i < 8; i++) {
        g_string_append_printf(hex, " %02x", w->bytes[i]);
    }
    qmig_group_notice(&s->group,
                      "source: a connection was turned away: %s; first bytes:%s", why,
                      hex->len > 0 ? hex->str : " none");
    qmig_fd_clear(&w->fd);
}

static void
admit_unknown(QmigSession *s, Waiting *w)
{
    QmigConnectionConfig config = { .kind = QMIG_CHANNEL_PREEMPT };

    if (may_have_preempt(s)) {
        open_connection(s, w, &config);
    } else if (s->main != NULL) {
        turn_away(s, w, "no migration channel");
    } else {
        fail(s, QMIG_ERROR_PROTOCOL,
             "source: first connection: it begins with %02x %02x %02x %02x, wanted a "
             "migration (51 45 56 4d) or TLS (16 03)",
             w->bytes[0], w->bytes[1], w->bytes[2], w->bytes[3]);
    }
}

static void
admit_tls(QmigSession *s, Waiting *w)
{
    QmigConnectionConfig config = { .kind = QMIG_CHANNEL_TLS };

    if (s->main == NULL) {
        open_main(s, w);
    } else if (!s->main_is_tls) {
        turn_away(s, w, "TLS beside a plain main channel");
    } else if (s->main_has_started) {
        config.id = ++s->n_tls;
        open_connection(s, w, &config);
    }
}

/* Nothing, or too little to tell: the end of patience, or a preempt channel. */
static void
admit_silent(QmigSession *s, Waiting *w)
{
    QmigConnectionConfig config = { .kind = QMIG_CHANNEL_PREEMPT };

    if (w->has_eof) {
        turn_away(s, w, "it closed at once");
    } else if (may_have_preempt(s) && w->len == 0 && !w->is_shaking &&
               qmig_now_us() >= w->settles_at) {
        open_connection(s, w, &config);
    }
}

/* What a plugin is asked to change may all travel where plugins do not see it. */
static void
note_multifd(QmigSession *s)
{
    if (!s->has_multifd && qmig_main_stream_rewrites(s->stream)) {
        qmig_group_notice(
            &s->group, "multifd: plugins see the main channel; what travels on multifd "
                       "channels passes as it came");
    }
    s->has_multifd = true;
}

/* Open @w's other leg if its time has come. Whoever is dealt with has no descriptor left. */
static void
admit(QmigSession *s, Waiting *w)
{
    QmigConnectionConfig config = { .kind = QMIG_CHANNEL_MULTIFD,
                                    .id = w->first.multifd_id };

    switch (w->first.kind) {
    case QMIG_FIRST_NEED_MORE:
        admit_silent(s, w);
        break;
    case QMIG_FIRST_MAIN:
    case QMIG_FIRST_RECOVERY:
        if (s->main == NULL) {
            open_main(s, w);
        } else {
            turn_away(s, w, "the migration has its main channel");
        }
        break;
    case QMIG_FIRST_TLS:
        admit_tls(s, w);
        break;
    case QMIG_FIRST_MULTIFD:
        if (w->has_eof) {
            turn_away(s, w, "it closed at once");
        } else if (s->main_has_started) {
            note_multifd(s);
            open_connection(s, w, &config);
        }
        break;
    case QMIG_FIRST_UNKNOWN:
        admit_unknown(s, w);
        break;
    }
    if (w->fd >= 0 && qmig_now_us() >= w->deadline) {
        fail(s, QMIG_ERROR_TIMEOUT, "source: %s after %u ms",
             w->first.kind == QMIG_FIRST_NEED_MORE
                 ? "a connection has sent no more than the beginning of nothing known"
                 : "a channel still waits for the main channel",
             s->first_bytes_timeout_ms);
    }
}

/* Go on with the handshake of a source that must speak TLS. */
static void
shake_hands(QmigSession *s, Waiting *w)
{
    g_autoptr(GError) error = NULL;

    switch (qmig_tls_handshake_step(w->tls, &w->events, &error)) {
    case QMIG_TLS_WAIT:
        return;
    case QMIG_TLS_DONE:
        w->is_shaking = false;
        w->events = POLLIN;
        w->settles_at = qmig_deadline_in_ms(PREEMPT_SETTLE_MS);
        return;
    case QMIG_TLS_FAILED:
    default:
        break;
    }
    if (s->main == NULL && g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TLS)) {
        fail(s, QMIG_ERROR_TLS, "source: first connection: %s", error->message);
        qmig_fd_clear(&w->fd);
        return;
    }
    turn_away(s, w, error->message);
}

/* Return: bytes; 0 at the end; QMIG_TLS_AGAIN; -1. */
static ssize_t
read_some(Waiting *w)
{
    uint8_t *end = w->bytes + w->len;
    size_t room = sizeof w->bytes - w->len;

    if (w->tls != NULL) {
        return qmig_tls_read(w->tls, end, room, &w->events, NULL);
    }
    ssize_t n = read(w->fd, end, room);
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? QMIG_TLS_AGAIN : n;
}

static void
read_first_bytes(QmigSession *s, Waiting *w)
{
    if (w->is_shaking) {
        shake_hands(s, w);
    }
    while (!w->is_shaking && w->first.kind == QMIG_FIRST_NEED_MORE && !w->has_eof) {
        ssize_t n = read_some(w);

        if (n > 0) {
            w->len += (size_t)n;
            w->first = qmig_classify(w->bytes, w->len);
        } else if (n == QMIG_TLS_AGAIN) {
            return;
        } else {
            w->has_eof = true;
        }
    }
}

static void
accept_all(QmigSession *s)
{
    for (;;) {
        g_autoptr(GError) error = NULL;
        int fd = qmig_socket_accept(s->listener, 0, s->group.cancel, &error);

        if (fd < 0) {
            if (!g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT) &&
                !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
                fail(s, QMIG_ERROR_IO, "source: %s", error->message);
            }
            return;
        }
        Waiting *w = g_new0(Waiting, 1);
        w->fd = fd;
        w->events = POLLIN;
        if (s->tls_server != NULL) {
            w->tls = qmig_tls_new(s->tls_server, fd, NULL, "the source");
            w->is_shaking = true;
        }
        w->settles_at = qmig_deadline_in_ms(PREEMPT_SETTLE_MS);
        w->deadline = qmig_deadline_in_ms(s->first_bytes_timeout_ms);
        if (s->waiting->len + s->connections->len >= CONNECTIONS_MAX) {
            turn_away(s, w, "too many connections");
            waiting_free(w);
            continue;
        }
        g_ptr_array_add(s->waiting, w);
    }
}

/* ---- the thread --------------------------------------------------------------------------- */

static QmigDeadline
next_look(QmigSession *s)
{
    QmigDeadline at = s->last_end;

    if (at == QMIG_DEADLINE_NEVER) {
        at = qmig_group_judge_suspect(&s->group);
    }
    for (guint i = 0; i < s->waiting->len; i++) {
        const Waiting *w = s->waiting->pdata[i];
        bool settling = w->len == 0 && !w->is_shaking && may_have_preempt(s);
        at = MIN(at, settling ? MIN(w->settles_at, w->deadline) : w->deadline);
    }
    return at;
}

/* Sleep until something may have changed. */
static void
session_wait(QmigSession *s)
{
    g_autofree struct pollfd *fds = g_new0(struct pollfd, 3 + s->waiting->len);
    eventfd_t ignored;

    fds[0] = (struct pollfd){ .fd = qmig_cancel_fd(s->group.cancel), .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = s->group.wake_fd, .events = POLLIN };
    fds[2] = (struct pollfd){ .fd = s->listener, .events = POLLIN };
    for (guint i = 0; i < s->waiting->len; i++) {
        const Waiting *w = s->waiting->pdata[i];
        bool reading = w->first.kind == QMIG_FIRST_NEED_MORE && !w->has_eof;
        fds[3 + i] = (struct pollfd){ .fd = reading ? w->fd : -1, .events = w->events };
    }
    (void)poll(fds, 3 + s->waiting->len, qmig_deadline_poll_ms(next_look(s)));
    (void)!eventfd_read(s->group.wake_fd, &ignored);
}

static void
serve_waiting(QmigSession *s)
{
    for (guint i = 0; i < s->waiting->len && !qmig_cancel_is_raised(s->group.cancel);) {
        Waiting *w = s->waiting->pdata[i];

        /* As of the first of them, so that they go in the order they came in. */
        if (i == 0) {
            s->main_has_started = s->main != NULL && qmig_connection_has_started(s->main);
        }
        read_first_bytes(s, w);
        if (w->fd >= 0) {
            admit(s, w);
        }
        if (w->fd < 0) {
            g_ptr_array_remove_index(s->waiting, i);
            /* Whoever came before may have waited for this one. */
            i = 0;
        } else {
            i++;
        }
    }
}

/* Main has ended in order: have the others? */
static bool
all_ended(QmigSession *s)
{
    if (s->main == NULL || !qmig_connection_has_ended(s->main)) {
        return false;
    }
    if (s->last_end == QMIG_DEADLINE_NEVER) {
        s->last_end = qmig_deadline_in_ms(LAST_ENDS_MS);
    }
    for (guint i = 0; i < s->connections->len; i++) {
        if (!qmig_connection_has_ended(s->connections->pdata[i])) {
            if (qmig_now_us() < s->last_end) {
                return false;
            }
            qmig_group_notice(&s->group,
                              "a channel stayed open after the main channel's end");
            return true;
        }
    }
    return true;
}

static void
stop_listening(QmigSession *s)
{
    if (s->listener >= 0 && s->address->kind == QMIG_ADDRESS_UNIX) {
        (void)unlink(s->address->path);
    }
    qmig_fd_clear(&s->listener);
    g_ptr_array_set_size(s->waiting, 0);
}

static void *
session_thread(void *data)
{
    QmigSession *s = data;

    while (!qmig_cancel_is_raised(s->group.cancel) && !all_ended(s)) {
        session_wait(s);
        accept_all(s);
        serve_waiting(s);
    }
    qmig_cancel_raise(s->group.cancel);
    stop_listening(s);
    for (guint i = 0; i < s->connections->len; i++) {
        qmig_connection_join(s->connections->pdata[i]);
    }
    g_clear_pointer(&s->record, qmig_record_free);
    g_autoptr(GError) error = qmig_group_error(&s->group);
    bool done = error == NULL && s->main != NULL && qmig_connection_has_ended(s->main);
    g_atomic_int_set(&s->state, done ? QMIG_PROXY_DONE : QMIG_PROXY_FAILED);
    s->ended(s->ended_data);
    return NULL;
}

/* A capture, where one is asked for. */
static bool
start_record(QmigSession *s, const QmigProxyConfig *config, GError **error)
{
    const char *directory = NULL;

    if (!qmig_record_choose(config->record, qmig_main_stream_record(s->stream),
                            &directory, error)) {
        return false;
    }
    if (directory != NULL) {
        s->record = qmig_record_new(directory, &s->group, error);
    }
    return directory == NULL || s->record != NULL;
}

QmigSession *
qmig_session_start(const QmigProxyConfig *config, QmigSessionEnded ended, void *data,
                   GError **error)
{
    g_autoptr(QmigSession) s = g_new0(QmigSession, 1);

    qmig_group_init(&s->group);
    pthread_mutex_init(&s->lock, NULL);
    s->listener = -1;
    s->last_end = QMIG_DEADLINE_NEVER;
    s->ended = ended;
    s->ended_data = data;
    s->first_bytes_timeout_ms = config->first_bytes_timeout_ms;
    s->connect_timeout_ms = config->connect_timeout_ms;
    s->connect_again = config->connect_again;
    if (s->first_bytes_timeout_ms == 0) {
        s->first_bytes_timeout_ms = DEFAULT_TIMEOUT_MS;
    }
    if (s->connect_timeout_ms == 0) {
        s->connect_timeout_ms = DEFAULT_TIMEOUT_MS;
    }
    s->destination = qmig_address_copy(config->destination);
    s->near = config->near != NULL ? qmig_near_ref(config->near) : NULL;
    s->tls_server = config->tls_server;
    s->tls_client = config->tls_client;
    s->tls_hostname = g_strdup(config->tls_hostname);
    s->waiting = g_ptr_array_new_with_free_func(waiting_free);
    s->connections = g_ptr_array_new_with_free_func((GDestroyNotify)qmig_connection_free);
    s->stream = qmig_main_stream_new(&s->group, config->plugins, error);
    if (s->stream == NULL) {
        return NULL;
    }
    if (!start_record(s, config, error)) {
        return NULL;
    }
    s->listener = qmig_socket_listen(config->listen, BACKLOG, &s->address, error);
    if (s->listener < 0) {
        return NULL;
    }
    s->thread = g_thread_new("qmig-session", session_thread, s);
    return g_steal_pointer(&s);
}

void
qmig_session_free(QmigSession *s)
{
    if (s == NULL) {
        return;
    }
    qmig_cancel_raise(s->group.cancel);
    if (s->thread != NULL) {
        g_thread_join(s->thread);
    }
    g_ptr_array_unref(s->connections);
    g_ptr_array_unref(s->waiting);
    g_clear_pointer(&s->record, qmig_record_free);
    g_clear_pointer(&s->stream, qmig_main_stream_free);
    g_clear_pointer(&s->address, qmig_address_free);
    qmig_address_free(s->destination);
    g_clear_pointer(&s->near, qmig_near_unref);
    g_free(s->tls_hostname);
    pthread_mutex_destroy(&s->lock);
    qmig_group_clear(&s->group);
    g_free(s);
}

bool
qmig_session_set(QmigSession *s, const char *name, const char *value, bool try,
                 GError **error)
{
    return qmig_main_stream_set(s->stream, name, value, try, error);
}

/* ---- for others ----------------------------------------------------------------------- */

const QmigAddress *
qmig_session_address(const QmigSession *s)
{
    return s->address;
}

QmigProxyState
qmig_session_state(const QmigSession *s)
{
    return (QmigProxyState)g_atomic_int_get(&s->state);
}

GError *
qmig_session_error(QmigSession *s)
{
    return qmig_group_error(&s->group);
}

uint64_t
qmig_session_backlog(QmigSession *s)
{
    uint64_t sum = 0;

    pthread_mutex_lock(&s->lock);
    for (guint i = 0; i < s->connections->len; i++) {
        sum += qmig_connection_backlog(s->connections->pdata[i]);
    }
    pthread_mutex_unlock(&s->lock);
    return sum;
}

void
qmig_session_describe(QmigSession *s, JsonObject *snapshot)
{
    JsonObject *channels = json_object_new_array();
    JsonObject *return_path = NULL;

    pthread_mutex_lock(&s->lock);
    for (guint i = 0; i < s->connections->len; i++) {
        QmigConnection *c = s->connections->pdata[i];
        json_object_array_add(channels, qmig_connection_describe(c));
        if (i == 0) {
            /* Main is always the first to be opened. */
            return_path = qmig_connection_describe_return_path(c);
        }
    }
    pthread_mutex_unlock(&s->lock);
    json_object_object_add(snapshot, "channels", channels);
    json_object_object_add(snapshot, "return_path",
                           return_path != NULL ? return_path : json_object_new_object());
    json_object_object_add(snapshot, "plugins", qmig_main_stream_report(s->stream));
    json_object_object_add(snapshot, "notices", qmig_group_notices(&s->group));
}
