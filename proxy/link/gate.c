/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     the gate's thread                          threads of admission
 *     listener -> visitors -> first frame -> pool -> admit()
 *                    |                                  |
 *                    +---------> refusals <-------------+
 *
 * The thread of the gate waits in poll alone: a visitor costs it what has come, never a wait.
 */
#include "proxy/link/gate.h"

#include "proxy/link/refusals.h"
#include "proxy/link/visitor.h"
#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
    ADMISSION_THREADS = 4,
    ADMISSIONS_MAX = 32, /* waiting and under way */
    ACCEPTS_AT_ONCE = 64,
    /* Out of descriptors or memory: look again a little later. */
    ACCEPT_PAUSE_MS = 100,
    TROUBLE_PAUSE_MS = 60000, /* between two lines about that */
    ORIGINS = 32,             /* from which somebody was admitted, of late */
    POLL_MAX = QMIG_GATE_STRANGERS + QMIG_GATE_RESERVE + 2,
};

struct QmigGate {
    QmigGateConfig config;
    char **names;
    QmigFd wake;
    GThread *thread;
    GThreadPool *pool;

    GMutex lock; /* guards what follows */
    QmigTlsCreds *tls;
    bool is_ending;
    unsigned n_admitting;
    uint64_t n_admitted;
    unsigned n_at_the_door; /* for describe() */
    char *origins[ORIGINS]; /* number n at n % ORIGINS */
    unsigned n_origins;
    QmigRefusals *refusals;

    /* Of the thread alone. */
    GPtrArray *visitors;
    QmigDeadline pause;   /* accept nobody until then */
    QmigDeadline trouble; /* say nothing of it until then */
};

typedef struct {
    QmigWire *wire;
    QmigFrameHead head;
    char *peer, *origin;
    uint8_t payload[QMIG_FRAME_HELLO_MAX];
} Admission;

static void
ring(QmigGate *gate)
{
    uint64_t one = 1;

    /* EAGAIN: it is readable already. */
    (void)!write(gate->wake, &one, sizeof one);
}

static void
refuse(QmigGate *gate, const char *peer, const GError *why)
{
    g_mutex_lock(&gate->lock);
    qmig_refusals_add(gate->refusals, peer, why, qmig_now_us());
    g_mutex_unlock(&gate->lock);
}

/* ---- admission -------------------------------------------------------------------------- */

/* Under the lock. */
static bool
is_known_origin(QmigGate *gate, const char *origin)
{
    for (unsigned i = 0; i < ORIGINS; i++) {
        if (g_strcmp0(gate->origins[i], origin) == 0) {
            return true;
        }
    }
    return false;
}

static void
admit(void *data, void *user_data)
{
    Admission *admission = data;
    QmigGate *gate = user_data;
    g_autoptr(GError) error = NULL;
    bool ok = gate->config.admit(gate->config.data, admission->wire, &admission->head,
                                 admission->payload,
                                 qmig_deadline_in_ms(QMIG_GATE_ADMIT_MS), &error);

    g_mutex_lock(&gate->lock);
    gate->n_admitting--;
    if (ok) {
        gate->n_admitted++;
        if (!is_known_origin(gate, admission->origin)) {
            char **slot = &gate->origins[gate->n_origins++ % ORIGINS];
            g_free(*slot);
            *slot = g_steal_pointer(&admission->origin);
        }
    } else {
        qmig_refusals_add(gate->refusals, admission->peer, error, qmig_now_us());
    }
    g_mutex_unlock(&gate->lock);
    ring(gate);
    g_free(admission->peer);
    g_free(admission->origin);
    g_free(admission);
}

/* Its first frame is here. */
static bool
hand_over(QmigGate *gate, QmigVisitor *visitor, GError **error)
{
    g_mutex_lock(&gate->lock);
    bool has_room = gate->n_admitting < ADMISSIONS_MAX;
    gate->n_admitting += has_room ? 1 : 0;
    g_mutex_unlock(&gate->lock);
    if (!has_room) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "%d others are being admitted at this moment",
                              ADMISSIONS_MAX);
    }
    Admission *admission = g_new0(Admission, 1);
    admission->head = visitor->head;
    admission->peer = g_strdup(visitor->peer);
    admission->origin = g_strdup(visitor->origin);
    memcpy(admission->payload, visitor->bytes + QMIG_FRAME_HEAD, visitor->head.length);
    admission->wire = qmig_visitor_take_wire(visitor);
    g_thread_pool_push(gate->pool, admission, NULL);
    return true;
}

/* ---- visitors --------------------------------------------------------------------------- */

/* Return: false when it is here no longer. */
static bool
serve(QmigGate *gate, QmigVisitor *visitor)
{
    g_autoptr(GError) error = NULL;

    switch (qmig_visitor_step(visitor, (const char *const *)gate->names, &error)) {
    case QMIG_VISITOR_WAITS:
        return true;
    case QMIG_VISITOR_KNOCKS:
        if (hand_over(gate, visitor, &error)) {
            return false;
        }
        break;
    case QMIG_VISITOR_REFUSED:
        break;
    }
    refuse(gate, visitor->peer, error);
    return false;
}

/* The place of one who had time enough: the oldest, of @origin or of all (NULL). */
static bool
make_room(QmigGate *gate, const char *origin)
{
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < gate->visitors->len; i++) {
        const QmigVisitor *visitor = g_ptr_array_index(gate->visitors, i);
        int64_t ms = (qmig_now_us() - visitor->since_us) / 1000;

        if (origin != NULL && strcmp(visitor->origin, origin) != 0) {
            continue;
        }
        if (ms < QMIG_GATE_GRACE_MS) {
            return false; /* they stand in the order they came */
        }
        qmig_set_error(&error, QMIG_ERROR_LIMIT,
                       "its place was wanted, after %" G_GINT64_FORMAT " ms", ms);
        refuse(gate, visitor->peer, error);
        g_ptr_array_remove_index(gate->visitors, i);
        return true;
    }
    return false;
}

static bool
has_place(QmigGate *gate, const QmigVisitor *newcomer, GError **error)
{
    unsigned max = QMIG_GATE_STRANGERS, of_one = 0;

    for (guint i = 0; i < gate->visitors->len; i++) {
        const QmigVisitor *visitor = g_ptr_array_index(gate->visitors, i);
        of_one += strcmp(visitor->origin, newcomer->origin) == 0 ? 1 : 0;
    }
    if (of_one >= QMIG_GATE_OF_ONE && !make_room(gate, newcomer->origin)) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "%u others from %s are at the door, limit %d", of_one,
                              newcomer->origin, QMIG_GATE_OF_ONE);
    }
    g_mutex_lock(&gate->lock);
    max += is_known_origin(gate, newcomer->origin) ? QMIG_GATE_RESERVE : 0;
    g_mutex_unlock(&gate->lock);
    return gate->visitors->len < max || make_room(gate, NULL) ||
           qmig_set_error(error, QMIG_ERROR_LIMIT, "%u others are at the door, limit %u",
                          gate->visitors->len, max);
}

/* Return: false when accepting itself does not work. */
static bool
accept_one(QmigGate *gate, bool *again)
{
    g_auto(QmigFd)
        fd = accept4(gate->config.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    g_autoptr(QmigVisitor) visitor = NULL;
    g_autoptr(GError) error = NULL;

    *again = fd >= 0 || errno == ECONNABORTED || errno == EINTR;
    if (fd < 0) {
        return *again || errno == EAGAIN;
    }
    g_mutex_lock(&gate->lock);
    QmigTlsCreds *tls = gate->tls != NULL ? qmig_tls_creds_ref(gate->tls) : NULL;
    g_mutex_unlock(&gate->lock);
    visitor = qmig_visitor_new(qmig_fd_steal(&fd), tls, gate->config.deadline_ms);
    qmig_tls_creds_free(tls);
    if (!has_place(gate, visitor, &error)) {
        refuse(gate, visitor->peer, error);
    } else if (serve(gate, visitor)) {
        g_ptr_array_add(gate->visitors, g_steal_pointer(&visitor));
    }
    return true;
}

static void
accept_all(QmigGate *gate)
{
    bool again = true;

    for (unsigned i = 0; i < ACCEPTS_AT_ONCE && again; i++) {
        if (accept_one(gate, &again)) {
            continue;
        }
        g_autofree char *line = g_strdup_printf("accept: %s", g_strerror(errno));
        gate->pause = qmig_deadline_in_ms(ACCEPT_PAUSE_MS);
        if (qmig_now_us() >= gate->trouble) {
            gate->trouble = qmig_deadline_in_ms(TROUBLE_PAUSE_MS);
            (void)gate->config.log(gate->config.data, line);
        }
    }
}

/* ---- the thread ------------------------------------------------------------------------- */

/* Return: when something is due though nobody stirs. */
static QmigDeadline
fill_pollfds(QmigGate *gate, struct pollfd *fds)
{
    QmigDeadline due = INT64_MAX;
    bool accepts = qmig_now_us() >= gate->pause;

    fds[0] = (struct pollfd){ .fd = gate->wake, .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = accepts ? gate->config.listener : -1,
                              .events = POLLIN };
    for (guint i = 0; i < gate->visitors->len; i++) {
        const QmigVisitor *visitor = g_ptr_array_index(gate->visitors, i);
        fds[2 + i] = (struct pollfd){ .fd = visitor->fd, .events = visitor->events };
        due = MIN(due, visitor->deadline);
    }
    g_mutex_lock(&gate->lock);
    gate->n_at_the_door = gate->visitors->len;
    due = MIN(due, qmig_refusals_due_us(gate->refusals));
    g_mutex_unlock(&gate->lock);
    return accepts ? due : MIN(due, gate->pause);
}

/* They keep their order: oldest first. */
static void
serve_visitors(QmigGate *gate, const struct pollfd *fds)
{
    guint kept = 0, n = gate->visitors->len;
    int64_t now = qmig_now_us();

    for (guint i = 0; i < n; i++) {
        QmigVisitor *visitor = g_ptr_array_index(gate->visitors, i);
        bool stirs = fds[2 + i].revents != 0 || now >= visitor->deadline;

        if (!stirs || serve(gate, visitor)) {
            gate->visitors->pdata[kept++] = visitor;
        } else {
            qmig_visitor_free(visitor);
        }
    }
    for (guint i = kept; i < n; i++) {
        gate->visitors->pdata[i] = NULL;
    }
    g_ptr_array_set_size(gate->visitors, (int)kept);
}

static void *
watch(void *data)
{
    QmigGate *gate = data;

    for (;;) {
        struct pollfd fds[POLL_MAX];
        QmigDeadline due = fill_pollfds(gate, fds);
        uint64_t drop;

        poll(fds, 2 + gate->visitors->len, qmig_deadline_poll_ms(due));
        (void)!read(gate->wake, &drop, sizeof drop);
        serve_visitors(gate, fds);
        if (fds[1].revents != 0) {
            accept_all(gate);
        }
        g_mutex_lock(&gate->lock);
        bool is_ending = gate->is_ending;
        qmig_refusals_flush(gate->refusals, false, qmig_now_us());
        g_mutex_unlock(&gate->lock);
        if (is_ending) {
            return NULL;
        }
    }
}

/* ---- beginning and end ------------------------------------------------------------------ */

static void
free_visitor(void *visitor)
{
    qmig_visitor_free(visitor);
}

QmigGate *
qmig_gate_new(const QmigGateConfig *config)
{
    QmigGate *gate = g_new0(QmigGate, 1);

    gate->config = *config;
    if (gate->config.deadline_ms == 0) {
        gate->config.deadline_ms = QMIG_GATE_DEADLINE_MS;
    }
    gate->names = g_strdupv((char **)(uintptr_t)config->names);
    gate->tls = config->tls != NULL ? qmig_tls_creds_ref(config->tls) : NULL;
    gate->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(gate->wake >= 0);
    g_mutex_init(&gate->lock);
    gate->refusals = qmig_refusals_new(config->log, config->data);
    gate->visitors = g_ptr_array_new_with_free_func(free_visitor);
    gate->pool = g_thread_pool_new(admit, gate, ADMISSION_THREADS, TRUE, NULL);
    gate->thread = g_thread_new("gate", watch, gate);
    return gate;
}

/* Who is left at the door. */
static void
refuse_all(QmigGate *gate)
{
    g_autoptr(GError) error = NULL;

    qmig_set_error(&error, QMIG_ERROR_CANCELLED, "this end is closing");
    for (guint i = 0; i < gate->visitors->len; i++) {
        const QmigVisitor *visitor = g_ptr_array_index(gate->visitors, i);
        refuse(gate, visitor->peer, error);
    }
    g_ptr_array_unref(gate->visitors);
}

void
qmig_gate_free(QmigGate *gate)
{
    if (gate == NULL) {
        return;
    }
    g_mutex_lock(&gate->lock);
    gate->is_ending = true;
    g_mutex_unlock(&gate->lock);
    ring(gate);
    g_thread_join(gate->thread);
    g_thread_pool_free(gate->pool, FALSE, TRUE);
    refuse_all(gate);
    qmig_refusals_flush(gate->refusals, true, qmig_now_us());
    qmig_refusals_free(gate->refusals);
    for (unsigned i = 0; i < ORIGINS; i++) {
        g_free(gate->origins[i]);
    }
    qmig_tls_creds_free(gate->tls);
    qmig_fd_clear(&gate->wake);
    g_strfreev(gate->names);
    g_mutex_clear(&gate->lock);
    g_free(gate);
}

void
qmig_gate_set_tls(QmigGate *gate, QmigTlsCreds *tls)
{
    g_mutex_lock(&gate->lock);
    QmigTlsCreds *old = gate->tls;
    gate->tls = qmig_tls_creds_ref(tls);
    g_mutex_unlock(&gate->lock);
    qmig_tls_creds_free(old);
}

JsonObject *
qmig_gate_describe(QmigGate *gate)
{
    JsonObject *object = json_object_new_object();

    g_mutex_lock(&gate->lock);
    json_object_object_add(object, "at_the_door",
                           json_object_new_int64(gate->n_at_the_door));
    json_object_object_add(object, "admitted",
                           json_object_new_int64((int64_t)gate->n_admitted));
    json_object_object_add(
        object, "refused",
        json_object_new_int64((int64_t)qmig_refusals_total(gate->refusals)));
    json_object_object_add(object, "refused_by", qmig_refusals_describe(gate->refusals));
    g_mutex_unlock(&gate->lock);
    return object;
}
