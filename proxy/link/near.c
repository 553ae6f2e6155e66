/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One thread listens for all forwarded sockets; the dialer has another; every connection has the two
 * of its pump.
 */
#include "proxy/link/near.h"

#include "proxy/classify.h"
#include "proxy/link/dial.h"
#include "proxy/link/pump.h"
#include "util/error.h"
#include "util/socket.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FORWARDS_MAX = 64,
    BACKLOG = 128,
    /* A connection beside main that says nothing for so long is a preempt channel. */
    SILENT_MS = 300,
    /* For telling that the session is given up. */
    FAREWELL_MS = 500,
    /* Bytes/s before anything was measured: rather little. */
    GUESSED_RATE = 10000000,
    /* When accepting does not work. */
    ACCEPT_PAUSE_MS = 100,
    /* Of several addresses. */
    ADDRESSES_MAX = 16,
    /* Connections that wait for main: multifd has 255 at most. */
    WAITING_MAX = 300,
    /* Whether one that has spoken says more is looked at so often. */
    SPOKE_MS = 50,
};

/* A listening socket and the group of connections that come to it. */
typedef struct {
    QmigFd fd;
    QmigAddress *address;
    QmigStreamKind kind;
    char there[256];            /* "": what the far end was told */
    uint16_t group, next_index; /* guarded by near->lock */
    /* A migration's main is the first of them. Until it is known they wait, in the order in which
       they came; those that are silent then wait on. The thread alone touches them. */
    GArray *waiting; /* Waiting */
} Forward;

typedef struct {
    int fd;
    bool spoke; /* not as main does */
} Waiting;

/* A connection that was carried, and perhaps still is. */
typedef struct {
    QmigNear *near;
    QmigPump *pump;
    gint ended; /* atomic */
} Carried;

struct QmigNear {
    gint refs;                  /* atomic: the owner's, and of who may connect */
    pthread_mutex_t connecting; /* guards closed; held by a connect from within */
    bool closed;                /* it ends */
    QmigNearConfig config;      /* with copies of what it points to */
    QmigAddress *far[ADDRESSES_MAX + 1];
    QmigWelcome agreed;
    QmigLink *link;
    QmigDialer *dialer;
    QmigCancel *cancel;
    QmigFd wake_fd;
    GThread *thread;
    pthread_mutex_t lock; /* guards what follows; never held across a wait */
    GPtrArray *forwards;  /* Forward *; only added to */
    GPtrArray *carried;   /* Carried * */
    unsigned n_taken;     /* connections that came */
    unsigned n_live;      /* and have not ended */
    char *first_reason;   /* why a connection broke off, first (nullable) */
    char *last_reason;    /* and last (nullable) */
    int64_t reason_us;    /* when that was */
    JsonObject
        *last_pack; /* what the pages of the last one that ended became (nullable) */
};

static void
forward_free(void *data)
{
    Forward *f = data;

    if (f->address != NULL && f->address->kind == QMIG_ADDRESS_UNIX) {
        (void)unlink(f->address->path);
    }
    for (guint i = 0; i < f->waiting->len; i++) {
        close(g_array_index(f->waiting, Waiting, i).fd);
    }
    g_array_unref(f->waiting);
    qmig_fd_clear(&f->fd);
    g_clear_pointer(&f->address, qmig_address_free);
    g_free(f);
}

static void
carried_free(void *data)
{
    Carried *c = data;

    qmig_pump_stop(c->pump);
    qmig_pump_free(c->pump);
    g_free(c);
}

/* ---- connections -------------------------------------------------------------------------- */

/* @broke: a connection does; else it goes on, with less. */
static void
note_reason(QmigNear *near, const char *reason, bool broke)
{
    char *text = g_strndup(reason, QMIG_LINK_REASON_MAX);

    /* It may be the far end's word. */
    (void)qmig_link_keep_printable(text);
    pthread_mutex_lock(&near->lock);
    g_free(near->last_reason);
    near->last_reason = text;
    near->reason_us = qmig_now_us();
    if (broke && near->first_reason == NULL) {
        near->first_reason = g_strdup(text);
    }
    pthread_mutex_unlock(&near->lock);
}

static void
pump_broke(void *data, const char *reason)
{
    Carried *c = data;

    note_reason(c->near, reason, true);
}

static void
count_ended(QmigNear *near)
{
    pthread_mutex_lock(&near->lock);
    near->n_live--;
    pthread_mutex_unlock(&near->lock);
}

static void
pump_ended(void *data)
{
    Carried *c = data;

    count_ended(c->near);
    /* Now it may be freed. */
    g_atomic_int_set(&c->ended, 1);
}

/* Does it say something soon? A preempt channel does not. */
static bool
is_silent(QmigNear *near, int fd)
{
    return !qmig_wait_fd(fd, POLLIN, qmig_deadline_in_ms(SILENT_MS), near->cancel, NULL);
}

/* For main's pages. (nullable) */
static QmigPack *
new_pack(Carried *c, const QmigLinkOpen *open)
{
    QmigPackConfig config = { c->near->agreed.cache_size, c->near->config.pending_max };
    g_autoptr(GError) error = NULL;

    if (open->kind != QMIG_STREAM_MIGRATION || open->index > 0) {
        return NULL;
    }
    QmigPack *pack = qmig_pack_new(&config, &error);
    if (pack == NULL) {
        /* They go as they are, then. */
        note_reason(c->near, error->message, false);
    }
    return pack;
}

/*
 * Tie @fd, which is taken over, to a new stream.
 * @sink: (nullable) (out) where there are pages, they come by it
 */
static bool
carry(QmigNear *near, Forward *f, int fd, QmigRelaySink *sink, GError **error)
{
    QmigLinkOpen open = { .kind = f->kind, .group = f->group };

    pthread_mutex_lock(&near->lock);
    open.index = f->next_index++;
    near->n_taken++;
    near->n_live++;
    pthread_mutex_unlock(&near->lock);

    open.urgent = f->kind == QMIG_STREAM_CONTROL ||
                  (f->kind == QMIG_STREAM_MIGRATION && open.index > 0 &&
                   is_silent(near, fd));
    g_strlcpy(open.address, f->there, sizeof open.address);
    QmigLinkStream *stream = qmig_link_open(near->link, &open, error);
    if (stream == NULL) {
        close(fd);
        count_ended(near);
        return false;
    }
    Carried *c = g_new0(Carried, 1);
    c->near = near;
    QmigPumpConfig config = { .fd = fd,
                              .stream = stream,
                              .pack = new_pack(c, &open),
                              .broke = pump_broke,
                              .ended = pump_ended,
                              .data = c };
    config.fed = sink != NULL && config.pack != NULL;
    pthread_mutex_lock(&near->lock);
    c->pump = qmig_pump_start(&config);
    if (config.fed) {
        qmig_pump_sink(c->pump, sink);
    }
    g_ptr_array_add(near->carried, c);
    pthread_mutex_unlock(&near->lock);
    return true;
}

static Forward *
find_forward(QmigNear *near, const QmigAddress *address)
{
    g_autofree char *wanted = qmig_address_to_string(address);
    Forward *found = NULL;

    pthread_mutex_lock(&near->lock);
    for (guint i = 0; i < near->forwards->len && found == NULL; i++) {
        Forward *f = near->forwards->pdata[i];
        g_autofree char *here = qmig_address_to_string(f->address);
        found = strcmp(here, wanted) == 0 ? f : NULL;
    }
    pthread_mutex_unlock(&near->lock);
    return found;
}

int
qmig_near_connect(QmigNear *near, const QmigAddress *to, QmigRelaySink *sink,
                  GError **error)
{
    Forward *f;
    int fds[2] = { -1, -1 };

    *sink = (QmigRelaySink){ 0 };
    pthread_mutex_lock(&near->connecting);
    if (near->closed) {
        qmig_set_error(error, QMIG_ERROR_CLOSED, "the tunnel's session is at its end");
    } else if ((f = find_forward(near, to)) == NULL) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "the tunnel forwards no such socket");
    } else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) <
               0) {
        qmig_set_error_errno(error, errno, "socketpair");
    } else if (!carry(near, f, fds[1], sink, error)) {
        close(fds[0]);
        fds[0] = -1;
    }
    /* Others may have waited for it. */
    (void)!eventfd_write(near->wake_fd, 1);
    pthread_mutex_unlock(&near->connecting);
    return fds[0];
}

static const char *const op_names[QMIG_BATCH_CODES] = {
    [QMIG_BATCH_BYTES] = "bytes",     [QMIG_BATCH_PAGE] = "page",
    [QMIG_BATCH_LITERAL] = "literal", [QMIG_BATCH_DELTA] = "delta",
    [QMIG_BATCH_REF] = "reference",   [QMIG_BATCH_EMPTY] = "empty",
    [QMIG_BATCH_ZERO] = "zero",       [QMIG_BATCH_XBZRLE] = "xbzrle",
    [QMIG_BATCH_ZLIB] = "zlib",
};

static void
add_number(JsonObject *o, const char *key, uint64_t value)
{
    json_object_object_add(o, key, json_object_new_uint64(value));
}

/* What became of main's pages: { "bytes_in", "bytes_out", "replaced", "overtook", "evicted",
 * "cache_pages", "ops": { "delta": { "n", "in", "out" }, … } } */
static JsonObject *
describe_pack(QmigPack *pack)
{
    JsonObject *o = json_object_new_object(), *ops = json_object_new_object();
    QmigPackCounts counts;

    qmig_pack_count(pack, &counts);
    add_number(o, "bytes_in", counts.bytes_in);
    add_number(o, "bytes_out", counts.bytes_out);
    add_number(o, "replaced", counts.replaced);
    add_number(o, "overtook", counts.overtook);
    add_number(o, "evicted", counts.evicted);
    add_number(o, "cache_pages", counts.cache_pages);
    for (unsigned i = 0; i < QMIG_BATCH_CODES; i++) {
        if (op_names[i] != NULL && counts.op[i].n > 0) {
            JsonObject *op = json_object_new_object();
            add_number(op, "n", counts.op[i].n);
            add_number(op, "in", counts.op[i].in);
            add_number(op, "out", counts.op[i].out);
            json_object_object_add(ops, op_names[i], op);
        }
    }
    json_object_object_add(o, "ops", ops);
    return o;
}

/* Free what has ended. */
static void
sweep(QmigNear *near)
{
    g_autoptr(GPtrArray) ended = g_ptr_array_new_with_free_func(carried_free);

    pthread_mutex_lock(&near->lock);
    for (guint i = near->carried->len; i-- > 0;) {
        Carried *c = near->carried->pdata[i];
        if (g_atomic_int_get(&c->ended)) {
            if (qmig_pump_pack(c->pump) != NULL) {
                qmig_json_put(near->last_pack);
                near->last_pack = describe_pack(qmig_pump_pack(c->pump));
            }
            g_ptr_array_add(ended, g_ptr_array_steal_index_fast(near->carried, i));
        }
    }
    pthread_mutex_unlock(&near->lock);
}

/* ---- who comes ---------------------------------------------------------------------------- */

static void
carry_one(QmigNear *near, Forward *f, int fd)
{
    g_autoptr(GError) error = NULL;

    if (!carry(near, f, fd, NULL, &error)) {
        note_reason(near, error->message, true);
    }
}

/* Need nobody wait for main any more? */
static bool
has_begun(QmigNear *near, const Forward *f)
{
    pthread_mutex_lock(&near->lock);
    bool begun = f->kind != QMIG_STREAM_MIGRATION || f->next_index > 0;
    pthread_mutex_unlock(&near->lock);
    return begun;
}

typedef enum { GONE, SILENT, CHANNEL, UNKNOWN, MAIN } Speech;

/* What one who waits has said, without taking it. */
static Speech
listen_to(Waiting *w)
{
    uint8_t first[QMIG_FIRST_BYTES_MAX];
    ssize_t n = recv(w->fd, first, sizeof first, MSG_PEEK | MSG_DONTWAIT);

    if (n <= 0) {
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? SILENT : GONE;
    }
    w->spoke = true;
    switch (qmig_classify(first, (size_t)n).kind) {
    case QMIG_FIRST_MAIN:
    case QMIG_FIRST_RECOVERY:
        return MAIN;
    case QMIG_FIRST_TLS:
    case QMIG_FIRST_UNKNOWN:
        return UNKNOWN;
    case QMIG_FIRST_NEED_MORE:
    case QMIG_FIRST_MULTIFD:
        break;
    }
    return CHANNEL;
}

/*
 * Carry main, once it is known as such or came first, and then the others that have spoken: some of a
 * migration's come before main's first bytes. Who closes without a word was nobody: QEMU ends when it
 * meets one.
 */
static void
let_in(QmigNear *near, Forward *f)
{
    bool begun = has_begun(near, f);

    for (guint i = 0; i < f->waiting->len;) {
        Waiting *w = &g_array_index(f->waiting, Waiting, i);
        Speech speech = listen_to(w);
        bool is_main = !begun && (speech == MAIN || (speech == UNKNOWN && i == 0));
        if (speech == GONE) {
            close(w->fd);
        } else if (is_main || (begun && speech != SILENT)) {
            carry_one(near, f, w->fd);
        } else {
            i++;
            continue;
        }
        g_array_remove_index(f->waiting, i);
        if (is_main) {
            begun = true;
            i = 0;
        }
    }
}

/* Return: false when accepting itself does not work. */
static bool
come_in(QmigNear *near, Forward *f)
{
    g_autoptr(GError) error = NULL;
    Waiting w = { .fd = qmig_socket_accept(f->fd, 0, near->cancel, &error) };

    if (w.fd < 0) {
        /* It had left again, or we are to end. */
        if (g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT) ||
            g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
            return true;
        }
        note_reason(near, error->message, false);
        return false;
    }
    if (has_begun(near, f)) {
        carry_one(near, f, w.fd);
        return true;
    }
    if (f->waiting->len == WAITING_MAX) {
        g_debug("%s: connection turned away: %d wait for main", near->config.name,
                WAITING_MAX);
        close(w.fd);
        return true;
    }
    g_array_append_val(f->waiting, w);
    return true;
}

static void
poll_for(GArray *fds, int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    g_array_append_val(fds, p);
}

/* Wait until somebody comes to one of @forwards, or one who waits there speaks. Return: what
 * happened at each of @forwards; in @fds. */
static const struct pollfd *
wait_for_somebody(QmigNear *near, GPtrArray *forwards, GArray *fds)
{
    eventfd_t ignored;
    bool looks_again = false;

    g_array_set_size(fds, 0);
    poll_for(fds, qmig_cancel_fd(near->cancel));
    poll_for(fds, near->wake_fd);
    for (guint i = 0; i < forwards->len; i++) {
        poll_for(fds, ((Forward *)forwards->pdata[i])->fd);
    }
    for (guint i = 0; i < forwards->len; i++) {
        const Forward *f = forwards->pdata[i];
        for (guint k = 0; k < f->waiting->len; k++) {
            const Waiting *w = &g_array_index(f->waiting, Waiting, k);
            /* One that has spoken would wake us all the time. */
            poll_for(fds, w->spoke ? -1 : w->fd);
            looks_again = looks_again || w->spoke;
        }
    }
    (void)poll(&g_array_index(fds, struct pollfd, 0), fds->len,
               looks_again ? SPOKE_MS : -1);
    (void)!eventfd_read(near->wake_fd, &ignored);
    return &g_array_index(fds, struct pollfd, 2);
}

static void *
near_thread(void *data)
{
    QmigNear *near = data;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd));

    while (!qmig_cancel_is_raised(near->cancel)) {
        g_autoptr(GPtrArray) forwards = g_ptr_array_new();
        bool works = true;
        pthread_mutex_lock(&near->lock);
        for (guint i = 0; i < near->forwards->len; i++) {
            g_ptr_array_add(forwards, near->forwards->pdata[i]);
        }
        pthread_mutex_unlock(&near->lock);
        const struct pollfd *events = wait_for_somebody(near, forwards, fds);
        sweep(near);
        for (guint i = 0; i < forwards->len; i++) {
            if (events[i].revents != 0 && !come_in(near, forwards->pdata[i])) {
                works = false;
            }
            let_in(near, forwards->pdata[i]);
        }
        if (!works) {
            /* No descriptor is free, say; and who waits is still there. */
            (void)!qmig_wait_fd(qmig_cancel_fd(near->cancel), POLLIN,
                                qmig_deadline_in_ms(ACCEPT_PAUSE_MS), NULL, NULL);
        }
    }
    return NULL;
}

bool
qmig_near_forward(QmigNear *near, QmigStreamKind kind, const QmigAddress *listen,
                  const QmigAddress *there, QmigAddress **actual, GError **error)
{
    g_autofree char *text = there != NULL ? qmig_address_to_string(there) : g_strdup("");
    Forward *f = g_new0(Forward, 1);

    f->waiting = g_array_new(FALSE, FALSE, sizeof(Waiting));
    f->fd = -1;
    if (strlen(text) >= sizeof f->there) {
        forward_free(f);
        return qmig_set_error(error, QMIG_ERROR_LIMIT, "%s: longer than %zu bytes", text,
                              sizeof f->there - 1);
    }
    g_strlcpy(f->there, text, sizeof f->there);
    f->kind = kind;
    f->fd = qmig_socket_listen(listen, BACKLOG, &f->address, error);
    if (f->fd < 0) {
        forward_free(f);
        return false;
    }
    pthread_mutex_lock(&near->lock);
    bool ok = near->forwards->len < FORWARDS_MAX;
    if (ok) {
        f->group = (uint16_t)near->forwards->len;
        g_ptr_array_add(near->forwards, f);
        if (actual != NULL) {
            *actual = qmig_address_copy(f->address);
        }
    }
    pthread_mutex_unlock(&near->lock);
    if (!ok) {
        forward_free(f);
        return qmig_set_error(error, QMIG_ERROR_LIMIT, "more than %d forwarded sockets",
                              FORWARDS_MAX);
    }
    (void)!eventfd_write(near->wake_fd, 1);
    return true;
}

/* ---- the session -------------------------------------------------------------------------- */

static void
link_changed(void *data)
{
    QmigNear *near = data;

    qmig_dialer_wake(near->dialer);
}

static bool
copy_config(QmigNear *near, const QmigNearConfig *config, GError **error)
{
    near->config = *config;
    near->config.name = g_strdup(config->name != NULL ? config->name : "");
    near->config.tls_hostname = g_strdup(config->tls_hostname);
    for (guint i = 0; config->far[i] != NULL; i++) {
        if (i == ADDRESSES_MAX) {
            return qmig_set_error(error, QMIG_ERROR_LIMIT,
                                  "more than %d addresses of the far end", ADDRESSES_MAX);
        }
        near->far[i] = qmig_address_copy(config->far[i]);
    }
    near->config.far = (const QmigAddress *const *)near->far;
    return true;
}

QmigNear *
qmig_near_new(const QmigNearConfig *config, const QmigCancel *cancel, GError **error)
{
    g_autoptr(QmigNear) near = g_new0(QmigNear, 1);

    near->refs = 1;
    pthread_mutex_init(&near->lock, NULL);
    pthread_mutex_init(&near->connecting, NULL);
    near->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    near->cancel = qmig_cancel_new();
    near->forwards = g_ptr_array_new_with_free_func(forward_free);
    near->carried = g_ptr_array_new_with_free_func(carried_free);
    if (!copy_config(near, config, error)) {
        return NULL;
    }
    QmigWire *wire = qmig_dial_first(&near->config, cancel, &near->agreed, error);
    if (wire == NULL) {
        return NULL;
    }
    QmigLinkConfig link = {
        .near = true,
        .agreed = near->agreed,
        .codec = config->codec,
        .level = config->level,
        .changed = link_changed,
        .data = near,
    };
    g_strlcpy(link.name, near->config.name, sizeof link.name);
    near->dialer = qmig_dialer_new(&near->config, &near->agreed);
    near->link = qmig_link_new(&link);
    qmig_link_set_rate(near->link, config->rate);
    qmig_link_attach(near->link, wire, 0);
    qmig_dialer_start(near->dialer, near->link);
    near->thread = g_thread_new("qmig-near", near_thread, near);
    return g_steal_pointer(&near);
}

void
qmig_near_free(QmigNear *near)
{
    if (near == NULL) {
        return;
    }
    pthread_mutex_lock(&near->connecting);
    near->closed = true;
    pthread_mutex_unlock(&near->connecting);
    qmig_cancel_raise(near->cancel);
    if (near->thread != NULL) {
        g_thread_join(near->thread);
    }
    g_ptr_array_unref(near->carried);
    g_ptr_array_unref(near->forwards);
    /* The session wakes the dialer, the dialer uses the session: first stop, then free. */
    if (near->link != NULL) {
        qmig_dialer_stop(near->dialer);
        qmig_link_give_up(near->link, qmig_deadline_in_ms(FAREWELL_MS));
        qmig_link_free(near->link);
        qmig_dialer_free(near->dialer);
    }
    for (guint i = 0; near->far[i] != NULL; i++) {
        qmig_address_free(near->far[i]);
    }
    g_free((char *)near->config.name);
    g_free((char *)near->config.tls_hostname);
    qmig_fd_clear(&near->wake_fd);
    qmig_cancel_free(near->cancel);
    g_free(near->first_reason);
    g_free(near->last_reason);
    g_clear_pointer(&near->last_pack, qmig_json_put);
    qmig_near_unref(near);
}

QmigNear *
qmig_near_ref(QmigNear *near)
{
    g_atomic_int_inc(&near->refs);
    return near;
}

void
qmig_near_unref(QmigNear *near)
{
    if (g_atomic_int_dec_and_test(&near->refs)) {
        pthread_mutex_destroy(&near->lock);
        pthread_mutex_destroy(&near->connecting);
        g_free(near);
    }
}

bool
qmig_near_close(QmigNear *near, QmigDeadline deadline)
{
    return qmig_link_close(near->link, deadline);
}

/* ---- for others --------------------------------------------------------------------------- */

QmigLink *
qmig_near_link(QmigNear *near)
{
    return near->link;
}

uint64_t
qmig_near_backlog(QmigNear *near)
{
    QmigLinkStats stats;
    uint64_t pending = 0;

    qmig_link_stats(near->link, &stats);
    pthread_mutex_lock(&near->lock);
    for (guint i = 0; i < near->carried->len; i++) {
        QmigPack *pack = qmig_pump_pack(((Carried *)near->carried->pdata[i])->pump);
        pending += pack != NULL ? qmig_pack_pending(pack) : 0;
    }
    pthread_mutex_unlock(&near->lock);
    return pending + stats.unconsumed;
}

uint64_t
qmig_near_backlog_ms(QmigNear *near)
{
    QmigLinkStats stats;
    uint64_t backlog = qmig_near_backlog(near);

    qmig_link_stats(near->link, &stats);
    if (stats.wires == 0) {
        return UINT64_MAX;
    }
    return backlog * 1000 / (stats.goodput > 0 ? stats.goodput : GUESSED_RATE);
}

char *
qmig_near_last_reason(QmigNear *near, int64_t since_us)
{
    pthread_mutex_lock(&near->lock);
    char *reason = near->reason_us >= since_us ? g_strdup(near->last_reason) : NULL;
    pthread_mutex_unlock(&near->lock);
    return reason;
}

bool
qmig_near_is_switching(QmigNear *near)
{
    bool switching = false;

    pthread_mutex_lock(&near->lock);
    for (guint i = 0; i < near->carried->len && !switching; i++) {
        Carried *c = near->carried->pdata[i];
        QmigPack *pack = qmig_pump_pack(c->pump);
        switching = pack != NULL && !g_atomic_int_get(&c->ended) &&
                    qmig_pack_is_switching(pack);
    }
    pthread_mutex_unlock(&near->lock);
    return switching;
}

bool
qmig_near_is_through(QmigNear *near)
{
    pthread_mutex_lock(&near->lock);
    bool through = near->n_taken > 0 && near->n_live == 0;
    pthread_mutex_unlock(&near->lock);
    return through;
}

char *
qmig_near_break(QmigNear *near)
{
    pthread_mutex_lock(&near->lock);
    char *reason = g_strdup(near->first_reason);
    pthread_mutex_unlock(&near->lock);
    return reason;
}

JsonObject *
qmig_near_describe(QmigNear *near)
{
    JsonObject *o = qmig_link_describe(near->link);

    json_object_object_add(o, "backlog", json_object_new_uint64(qmig_near_backlog(near)));
    pthread_mutex_lock(&near->lock);
    if (near->last_pack != NULL) {
        JsonObject *copy = NULL;
        (void)!json_object_deep_copy(near->last_pack, &copy, NULL);
        json_object_object_add(o, "pack", copy);
    }
    for (guint i = 0; i < near->carried->len; i++) {
        QmigPack *pack = qmig_pump_pack(((Carried *)near->carried->pdata[i])->pump);
        if (pack != NULL) {
            json_object_object_add(o, "pack", describe_pack(pack));
        }
    }
    if (near->last_reason != NULL) {
        json_object_object_add(o, "last_break",
                               json_object_new_string(near->last_reason));
    }
    pthread_mutex_unlock(&near->lock);
    return o;
}
