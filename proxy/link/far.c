/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every session has a thread that takes its streams, and every stream one that connects it; then two
 * of its pump.
 *
 * QEMU's rules hold here (proxy/session.c says why): nothing is connected before its first bytes are
 * in hand, nothing before main's first bytes were written, and all in the order of the source.
 */
#include "proxy/link/far.h"

#include "proxy/link/far-log.h"
#include "proxy/link/pump.h"
#include "proxy/link/reach.h"
#include "util/cond.h"
#include "util/error.h"
#include "util/socket.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>

enum {
    /* Connections of one session at a time: 255 multifd channels, main, preempt, disks, monitor. */
    CARRIED_MAX = 300,
    /* For those before it to be connected. */
    TURN_MS = 120000,
    /* With a cache each: one that ends, and the one that goes on with it after a break. */
    MAINS_MAX = 2,
    /* Granted to each stream, bytes. */
    WINDOW_MAX = 32 << 20,
    /* A session that has ended is kept so long, for whoever asks how it went. */
    KEEP_MS = 10000,
    LEAVE_LOOK_MS = 50,
};

typedef struct Session Session;

/* The connections of one migration. */
typedef struct {
    uint16_t group;
    uint32_t next;     /* index of the one whose turn it is */
    bool main_started; /* main's first bytes have been written to QEMU */
    bool main_failed;  /* it is not made: nor are the others */
} Turns;

typedef struct {
    Session *session;
    QmigLinkStream *stream;
    GThread *thread; /* connects it */
    QmigPump *pump;  /* (nullable) */
    gint ended;      /* atomic */
} Carried;

struct Session {
    QmigFar *far;
    QmigWelcome agreed;
    char name[QMIG_LINK_NAME_MAX + 1];
    QmigLink *link;
    QmigCancel *cancel;
    GThread *thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t turned;
    GArray *turns;      /* Turns */
    GPtrArray *carried; /* Carried * */
    char *last_reason;
    int64_t ended_at; /* 0: it lives */
};

struct QmigFar {
    QmigFarConfig config; /* with copies of what it points to */
    pthread_mutex_t lock; /* guards what follows; taken before a session's */
    GPtrArray *sessions;  /* Session * */
    bool leaving;
    uint64_t rate;
    QmigCancel *cancel;
    QmigFarLog *log;
    GThread *reaper;
};

/* ---- whose turn it is --------------------------------------------------------------------- */

/* With the session's lock held. */
static Turns *
turns_of(Session *s, uint16_t group)
{
    for (guint i = 0; i < s->turns->len; i++) {
        Turns *t = &g_array_index(s->turns, Turns, i);
        if (t->group == group) {
            return t;
        }
    }
    Turns fresh = { .group = group };
    g_array_append_val(s->turns, fresh);
    return &g_array_index(s->turns, Turns, s->turns->len - 1);
}

static bool
wait_for_turn(Session *s, const QmigLinkOpen *open, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(TURN_MS + (int64_t)s->agreed.deadline_ms);
    struct timespec ts = { deadline / G_USEC_PER_SEC, deadline % G_USEC_PER_SEC * 1000 };
    bool mine = false, late = false, failed = false;

    pthread_mutex_lock(&s->lock);
    while (!late && !qmig_cancel_is_raised(s->cancel)) {
        const Turns *t = turns_of(s, open->group);
        failed = t->main_failed;
        mine = open->index == t->next && (open->index == 0 || t->main_started);
        if (mine || failed) {
            break;
        }
        late = pthread_cond_timedwait(&s->turned, &s->lock, &ts) != 0;
    }
    pthread_mutex_unlock(&s->lock);
    if (qmig_cancel_is_raised(s->cancel)) {
        return qmig_set_error(error, QMIG_ERROR_CANCELLED, "the session has ended");
    }
    if (failed) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED,
                              "connection %u: main was not made", open->index);
    }
    return mine || qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "connection %u: those before it were not made in time",
                                  open->index);
}

static void
next_turn(Session *s, const QmigLinkOpen *open, bool made)
{
    pthread_mutex_lock(&s->lock);
    Turns *t = turns_of(s, open->group);
    t->main_failed = t->main_failed || (open->index == 0 && !made);
    if (t->next == open->index) {
        t->next++;
    }
    pthread_cond_broadcast(&s->turned);
    pthread_mutex_unlock(&s->lock);
}

/* A pump has written the first bytes of its connection. */
static void
pump_started(void *data)
{
    Carried *c = data;
    const QmigLinkOpen *open = qmig_link_stream_open(c->stream);

    if (open->kind == QMIG_STREAM_MIGRATION && open->index == 0) {
        pthread_mutex_lock(&c->session->lock);
        turns_of(c->session, open->group)->main_started = true;
        pthread_cond_broadcast(&c->session->turned);
        pthread_mutex_unlock(&c->session->lock);
    }
}

/* ---- connecting --------------------------------------------------------------------------- */

static void
note_reason(Session *s, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    g_free(s->last_reason);
    s->last_reason = g_strdup(reason);
    pthread_mutex_unlock(&s->lock);
}

static void
pump_broke(void *data, const char *reason)
{
    Carried *c = data;

    note_reason(c->session, reason);
}

static void
pump_ended(void *data)
{
    Carried *c = data;

    g_atomic_int_set(&c->ended, 1);
}

static void
turn_down(Carried *c, const GError *error)
{
    QmigLinkState state = qmig_link_state(c->session->link);

    /* That the near end leaves it, or the session ends, is no refusal. */
    if (!g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED) &&
        (state == QMIG_LINK_UP || state == QMIG_LINK_DARK)) {
        qmig_far_log_refused(c->session->far->log, qmig_link_stream_open(c->stream)->kind,
                             c->session->name, error);
    }
    qmig_link_stream_reset(c->stream, error->message);
    qmig_link_stream_free(c->stream);
    pump_broke(c, error->message);
    pump_ended(c);
}

static bool
connect_stream(Carried *c, int *fd, GError **error)
{
    Session *s = c->session;
    const QmigLinkOpen *open = qmig_link_stream_open(c->stream);
    g_autoptr(QmigAddress) address = qmig_reach_allowed(
        s->far->config.destination, s->far->config.allow, open->address, error);
    bool is_migration = open->kind == QMIG_STREAM_MIGRATION;

    if (address == NULL || (is_migration && !wait_for_turn(s, open, error)) ||
        (is_migration && !open->urgent && !qmig_link_stream_wait(c->stream, error))) {
        return false;
    }
    *fd = qmig_reach(address, is_migration, s->cancel, error);
    return *fd >= 0;
}

static bool
is_main(const Carried *c)
{
    const QmigLinkOpen *open = qmig_link_stream_open(c->stream);

    return open->kind == QMIG_STREAM_MIGRATION && open->index == 0;
}

/* What takes the pages of @c out, with the session's cache. */
static QmigUnpack *
new_unpack(Carried *c, GError **error)
{
    Session *s = c->session;
    unsigned n = 0;

    pthread_mutex_lock(&s->lock);
    for (guint i = 0; i < s->carried->len; i++) {
        Carried *other = s->carried->pdata[i];
        n += is_main(other) && !g_atomic_int_get(&other->ended);
    }
    pthread_mutex_unlock(&s->lock);
    if (n > MAINS_MAX) {
        qmig_set_error(error, QMIG_ERROR_LIMIT,
                       "more than %d migrations at a time in one session", MAINS_MAX);
        return NULL;
    }
    return qmig_unpack_new(s->agreed.cache_size, error);
}

static void *
connect_thread(void *data)
{
    Carried *c = data;
    const QmigLinkOpen *open = qmig_link_stream_open(c->stream);
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigUnpack) unpack = NULL;
    bool made = false;
    int fd = -1;

    if (is_main(c)) {
        unpack = new_unpack(c, &error);
    }
    if ((!is_main(c) || unpack != NULL) && connect_stream(c, &fd, &error)) {
        QmigPumpConfig config = { .fd = fd,
                                  .unpack = g_steal_pointer(&unpack),
                                  .stream = c->stream,
                                  .started = pump_started,
                                  .broke = pump_broke,
                                  .ended = pump_ended,
                                  .data = c };
        c->pump = qmig_pump_start(&config);
        made = true;
    }
    if (open->kind == QMIG_STREAM_MIGRATION) {
        next_turn(c->session, open, made);
    }
    if (!made) {
        turn_down(c, error);
    }
    return NULL;
}

/* ---- a session ---------------------------------------------------------------------------- */

static void
carried_free(void *data)
{
    Carried *c = data;

    qmig_link_stream_interrupt(c->stream);
    g_thread_join(c->thread);
    if (c->pump != NULL) {
        qmig_pump_stop(c->pump);
        qmig_pump_free(c->pump);
    }
    g_free(c);
}

static void
sweep(Session *s)
{
    g_autoptr(GPtrArray) ended = g_ptr_array_new_with_free_func(carried_free);

    pthread_mutex_lock(&s->lock);
    for (guint i = s->carried->len; i-- > 0;) {
        const Carried *c = s->carried->pdata[i];
        if (g_atomic_int_get(&c->ended)) {
            g_ptr_array_add(ended, g_ptr_array_steal_index_fast(s->carried, i));
        }
    }
    pthread_mutex_unlock(&s->lock);
}

static void
take_stream(Session *s, QmigLinkStream *stream)
{
    Carried *c = g_new0(Carried, 1);
    g_autoptr(GError) error = NULL;

    c->session = s;
    c->stream = stream;
    pthread_mutex_lock(&s->lock);
    if (s->carried->len < CARRIED_MAX) {
        c->thread = g_thread_try_new("qmig-far-connect", connect_thread, c, &error);
    } else {
        qmig_set_error(&error, QMIG_ERROR_LIMIT, "more than %d connections at a time",
                       CARRIED_MAX);
    }
    if (c->thread != NULL) {
        g_ptr_array_add(s->carried, c);
    }
    pthread_mutex_unlock(&s->lock);
    if (c->thread == NULL) {
        const QmigLinkOpen *open = qmig_link_stream_open(stream);
        if (open->kind == QMIG_STREAM_MIGRATION) {
            next_turn(s, open, false);
        }
        turn_down(c, error);
        g_free(c);
    }
}

static void *
session_thread(void *data)
{
    Session *s = data;
    g_autoptr(GError) error = NULL;
    QmigLinkStream *stream;

    while ((stream = qmig_link_accept(s->link, s->cancel, &error)) != NULL) {
        sweep(s);
        take_stream(s, stream);
    }
    note_reason(s, error->message);
    qmig_cancel_raise(s->cancel);
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->turned);
    g_autoptr(GPtrArray) carried = g_steal_pointer(&s->carried);
    s->carried = g_ptr_array_new_with_free_func(carried_free);
    pthread_mutex_unlock(&s->lock);
    g_ptr_array_set_size(carried, 0);
    pthread_mutex_lock(&s->lock);
    s->ended_at = qmig_now_us();
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void
session_free(void *data)
{
    Session *s = data;

    qmig_cancel_raise(s->cancel);
    g_thread_join(s->thread);
    g_ptr_array_unref(s->carried);
    qmig_link_free(s->link);
    g_array_unref(s->turns);
    qmig_cancel_free(s->cancel);
    pthread_cond_destroy(&s->turned);
    pthread_mutex_destroy(&s->lock);
    g_free(s->last_reason);
    g_free(s);
}

static void
link_changed(void *data)
{
    (void)data;
}

static Session *
new_session(QmigFar *far, const QmigWelcome *agreed, const QmigHello *hello)
{
    Session *s = g_new0(Session, 1);

    s->far = far;
    s->agreed = *agreed;
    g_strlcpy(s->name, hello->name, sizeof s->name);
    s->cancel = qmig_cancel_new();
    s->turns = g_array_new(FALSE, FALSE, sizeof(Turns));
    s->carried = g_ptr_array_new_with_free_func(carried_free);
    pthread_mutex_init(&s->lock, NULL);
    qmig_cond_init(&s->turned);
    QmigLinkConfig config = { .agreed = *agreed,
                              .codec = far->config.codec,
                              .changed = link_changed };
    g_strlcpy(config.name, s->name, sizeof config.name);
    s->link = qmig_link_new(&config);
    s->thread = g_thread_new("qmig-far-session", session_thread, s);
    return s;
}

/* ---- admission ---------------------------------------------------------------------------- */

static bool
answer(QmigWire *wire, QmigFrameType type, const uint8_t *payload, size_t len,
       QmigDeadline deadline, GError **error)
{
    QmigFrameHead head = { .type = (uint8_t)type,
                           .length = (uint32_t)len,
                           .plain_length = (uint32_t)len };

    return qmig_wire_write(wire, &head, payload,
                           (uint32_t)MAX(qmig_deadline_poll_ms(deadline), 1), NULL,
                           error);
}

static bool
refuse(QmigWire *wire, QmigRefusal code, const char *reason, QmigDeadline deadline,
       GError **error)
{
    uint8_t payload[512];
    size_t len = qmig_refused_write(code, reason, payload);

    (void)!answer(wire, QMIG_FRAME_REFUSED, payload, len, deadline, NULL);
    return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED, "%s", reason);
}

static bool
fill_random(void *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len;
}

/* With far's lock held: sessions whose threads have not ended. */
static unsigned
count_sessions(QmigFar *far)
{
    unsigned n = 0;

    for (guint i = 0; i < far->sessions->len; i++) {
        Session *s = far->sessions->pdata[i];
        pthread_mutex_lock(&s->lock);
        n += s->ended_at == 0;
        pthread_mutex_unlock(&s->lock);
    }
    return n;
}

static QmigWelcome
agree(const QmigFar *far, const QmigHello *hello)
{
    const QmigFarConfig *c = &far->config;

    return (QmigWelcome){
        .version = MIN(hello->version_max, (uint16_t)QMIG_LINK_VERSION_MAX),
        .n_wires = (uint16_t)CLAMP(hello->n_wires, 1,
                                   MIN(c->wires_max, QMIG_LINK_WIRES_MAX)),
        .window = CLAMP(hello->window, 1u << 20, (uint32_t)WINDOW_MAX),
        .cache_size = MIN(hello->cache_size, c->cache_max),
        .deadline_ms = MIN(hello->deadline_ms, c->deadline_max_ms),
    };
}

/* Is it one that a new session called @name takes the place of? Only what is dark is replaced, so
 * nobody takes a living one's place. */
static bool
gives_way(Session *s, const char *name)
{
    return name[0] != '\0' && strcmp(s->name, name) == 0 &&
           qmig_link_state(s->link) == QMIG_LINK_DARK;
}

/*
 * With far's lock held: is there a place for one more session, called @name? One that has failed needs
 * none, though its threads may not have ended yet: it may be that near end which comes again.
 */
static bool
has_place(QmigFar *far, const char *name)
{
    unsigned n = 0;

    for (guint i = 0; i < far->sessions->len; i++) {
        Session *s = far->sessions->pdata[i];
        QmigLinkState state = qmig_link_state(s->link);
        bool lives = state == QMIG_LINK_UP || state == QMIG_LINK_DARK;
        n += lives && !gives_way(s, name);
    }
    return n < far->config.sessions_max;
}

/*
 * A near end that died and came again must not wait until its old session's deadline: the QEMU behind
 * would be kept waiting, too. With far's lock held, and only when the new one is admitted.
 */
static void
replace_dark(QmigFar *far, const char *name)
{
    for (guint i = 0; i < far->sessions->len; i++) {
        Session *s = far->sessions->pdata[i];
        if (gives_way(s, name)) {
            GError *error = NULL;
            qmig_set_error(
                &error, QMIG_ERROR_CLOSED,
                "a new session of the same name has begun: its near end must have "
                "died");
            qmig_link_fail(s->link, error);
        }
    }
}

/* The session stands before the near side can come with its second connection. Return: NULL: @why. */
static Session *
admit_session(QmigFar *far, const QmigWelcome *agreed, const QmigHello *hello,
              QmigRefusal *why)
{
    Session *s = NULL;

    pthread_mutex_lock(&far->lock);
    *why = far->leaving ? QMIG_REFUSED_LEAVING : QMIG_REFUSED_FULL;
    if (!far->leaving && has_place(far, hello->name)) {
        replace_dark(far, hello->name);
        s = new_session(far, agreed, hello);
        g_ptr_array_add(far->sessions, s);
        qmig_link_set_rate(s->link, far->rate);
    }
    pthread_mutex_unlock(&far->lock);
    return s;
}

static bool
admit_new(QmigFar *far, QmigWire *wire, const QmigHello *hello, QmigDeadline deadline,
          GError **error)
{
    g_autoptr(QmigWire) owned = wire;
    QmigWelcome agreed = agree(far, hello);
    QmigRefusal why;
    uint8_t payload[512];

    if (hello->version_min > QMIG_LINK_VERSION_MAX ||
        hello->version_max < QMIG_LINK_VERSION_MIN) {
        g_autofree char *reason = g_strdup_printf(
            "it speaks versions %u to %u of the tunnel, this one %d to %d",
            hello->version_min, hello->version_max, QMIG_LINK_VERSION_MIN,
            QMIG_LINK_VERSION_MAX);
        return refuse(wire, QMIG_REFUSED_VERSION, reason, deadline, error);
    }
    if (!fill_random(agreed.id, sizeof agreed.id) ||
        !fill_random(agreed.secret, sizeof agreed.secret)) {
        return refuse(wire, QMIG_REFUSED_FULL, "no random numbers", deadline, error);
    }
    Session *s = admit_session(far, &agreed, hello, &why);
    if (s == NULL) {
        return refuse(wire, why,
                      why == QMIG_REFUSED_LEAVING ? "this far end is about to end"
                                                  : "too many sessions",
                      deadline, error);
    }
    size_t len = qmig_welcome_write(&agreed, payload);
    bool ok = answer(wire, QMIG_FRAME_WELCOME, payload, len, deadline, error);
    if (ok) {
        qmig_link_attach(s->link, g_steal_pointer(&owned), 0);
    } else {
        qmig_link_fail(s->link, g_error_copy(*error));
    }
    return ok;
}

static bool
is_equal_in_constant_time(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint8_t difference = 0;

    for (size_t i = 0; i < n; i++) {
        difference |= a[i] ^ b[i];
    }
    return difference == 0;
}

/* With far's lock held. */
static Session *
find_session(QmigFar *far, const QmigResume *resume)
{
    for (guint i = 0; i < far->sessions->len; i++) {
        Session *s = far->sessions->pdata[i];
        if (memcmp(s->agreed.id, resume->id, sizeof resume->id) == 0 &&
            is_equal_in_constant_time(s->agreed.secret, resume->secret,
                                      sizeof resume->secret)) {
            return s;
        }
    }
    return NULL;
}

static bool
admit_again(QmigFar *far, QmigWire *wire, const QmigResume *resume, QmigDeadline deadline,
            GError **error)
{
    g_autoptr(QmigWire) owned = wire;
    uint8_t payload[512];

    /* The lock keeps the session from being freed meanwhile; the answer is short. */
    pthread_mutex_lock(&far->lock);
    Session *s = find_session(far, resume);
    QmigLinkState state = s != NULL ? qmig_link_state(s->link) : QMIG_LINK_FAILED;
    bool ok = state == QMIG_LINK_UP || state == QMIG_LINK_DARK;
    if (!ok) {
        refuse(wire, QMIG_REFUSED_UNKNOWN, "this session is not known (any more)",
               deadline, error);
    } else if (resume->wire >= s->agreed.n_wires) {
        ok = refuse(wire, QMIG_REFUSED_PROTOCOL, "more connections than agreed", deadline,
                    error);
    } else {
        size_t len = qmig_welcome_write(&s->agreed, payload);
        ok = answer(wire, QMIG_FRAME_WELCOME, payload, len, deadline, error);
        if (ok) {
            qmig_link_attach(s->link, g_steal_pointer(&owned), resume->wire);
        }
    }
    pthread_mutex_unlock(&far->lock);
    return ok;
}

bool
qmig_far_admit(QmigFar *far, QmigWire *wire, const QmigFrameHead *head,
               const void *payload, QmigDeadline deadline, GError **error)
{
    g_autoptr(QmigWire) owned = wire;
    QmigHello hello;
    QmigResume resume;

    if (head->type == QMIG_FRAME_HELLO) {
        return qmig_hello_read(payload, head->length, &hello, error) &&
               admit_new(far, g_steal_pointer(&owned), &hello, deadline, error);
    }
    if (head->type == QMIG_FRAME_RESUME) {
        return qmig_resume_read(payload, head->length, &resume, error) &&
               admit_again(far, g_steal_pointer(&owned), &resume, deadline, error);
    }
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "it begins with a frame of type %u, wanted HELLO or RESUME",
                          head->type);
}

/* ---- all sessions ------------------------------------------------------------------------- */

static void *
reaper_thread(void *data)
{
    QmigFar *far = data;

    while (!qmig_cancel_is_raised(far->cancel)) {
        g_autoptr(GPtrArray) old = g_ptr_array_new_with_free_func(session_free);

        pthread_mutex_lock(&far->lock);
        for (guint i = far->sessions->len; i-- > 0;) {
            Session *s = far->sessions->pdata[i];
            pthread_mutex_lock(&s->lock);
            bool is_old = s->ended_at != 0 &&
                          qmig_now_us() - s->ended_at > KEEP_MS * 1000;
            pthread_mutex_unlock(&s->lock);
            if (is_old) {
                g_ptr_array_add(old, g_ptr_array_steal_index(far->sessions, i));
            }
        }
        pthread_mutex_unlock(&far->lock);
        g_ptr_array_set_size(old, 0);
        qmig_far_log_flush(far->log);
        (void)!qmig_wait_fd(qmig_cancel_fd(far->cancel), POLLIN,
                            qmig_deadline_in_ms(1000), NULL, NULL);
    }
    return NULL;
}

QmigFar *
qmig_far_new(const QmigFarConfig *config)
{
    QmigFar *far = g_new0(QmigFar, 1);

    far->config = *config;
    far->config.destination = config->destination != NULL
                                  ? qmig_address_copy(config->destination)
                                  : NULL;
    far->config.allow = (const char *const *)g_strdupv((char **)config->allow);
    pthread_mutex_init(&far->lock, NULL);
    far->sessions = g_ptr_array_new_with_free_func(session_free);
    far->cancel = qmig_cancel_new();
    far->log = qmig_far_log_new(config->log, config->data);
    far->reaper = g_thread_new("qmig-far-reaper", reaper_thread, far);
    return far;
}

void
qmig_far_free(QmigFar *far)
{
    if (far == NULL) {
        return;
    }
    qmig_cancel_raise(far->cancel);
    g_thread_join(far->reaper);
    g_ptr_array_unref(far->sessions);
    qmig_far_log_free(far->log);
    qmig_address_free((QmigAddress *)far->config.destination);
    g_strfreev((char **)far->config.allow);
    qmig_cancel_free(far->cancel);
    pthread_mutex_destroy(&far->lock);
    g_free(far);
}

void
qmig_far_set_limits(QmigFar *far, unsigned sessions_max, uint64_t rate)
{
    pthread_mutex_lock(&far->lock);
    far->config.sessions_max = sessions_max;
    far->rate = rate;
    for (guint i = 0; i < far->sessions->len; i++) {
        qmig_link_set_rate(((Session *)far->sessions->pdata[i])->link, rate);
    }
    pthread_mutex_unlock(&far->lock);
}

unsigned
qmig_far_sessions(QmigFar *far)
{
    pthread_mutex_lock(&far->lock);
    unsigned n = count_sessions(far);
    pthread_mutex_unlock(&far->lock);
    return n;
}

/* End those whose guest stays where it is. Return: sessions that still live. */
static unsigned
end_sessions(QmigFar *far, bool all)
{
    pthread_mutex_lock(&far->lock);
    for (guint i = 0; i < far->sessions->len; i++) {
        Session *s = far->sessions->pdata[i];
        if (all || !qmig_link_is_critical(s->link)) {
            GError *error = NULL;
            qmig_set_error(&error, QMIG_ERROR_CANCELLED, "the far end was told to end");
            qmig_link_fail(s->link, error);
        }
    }
    unsigned n = count_sessions(far);
    pthread_mutex_unlock(&far->lock);
    return n;
}

void
qmig_far_leave(QmigFar *far, QmigDeadline deadline)
{
    pthread_mutex_lock(&far->lock);
    far->leaving = true;
    pthread_mutex_unlock(&far->lock);
    while (end_sessions(far, qmig_now_us() >= deadline) > 0) {
        (void)!qmig_wait_fd(qmig_cancel_fd(far->cancel), POLLIN,
                            qmig_deadline_in_ms(LEAVE_LOOK_MS), NULL, NULL);
    }
}

JsonObject *
qmig_far_describe(QmigFar *far)
{
    JsonObject *list = json_object_new_array();

    pthread_mutex_lock(&far->lock);
    for (guint i = 0; i < far->sessions->len; i++) {
        Session *s = far->sessions->pdata[i];
        JsonObject *o = qmig_link_describe(s->link);
        pthread_mutex_lock(&s->lock);
        if (s->last_reason != NULL) {
            json_object_object_add(o, "last_break",
                                   json_object_new_string(s->last_reason));
        }
        pthread_mutex_unlock(&s->lock);
        json_object_array_add(list, o);
    }
    pthread_mutex_unlock(&far->lock);
    return list;
}
