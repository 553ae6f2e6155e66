/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/pump.h"

#include "util/error.h"
#include "util/socket.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
    /* Of one frame: enough for compression to pay, little enough to be overtaken. */
    PIECE = 256 << 10,
    /* After nobody read any more: for its last words. */
    LAST_WORDS_MS = 3000,
};

struct QmigPump {
    QmigPumpConfig config;
    QmigCancel *cancel;  /* ends both ways */
    QmigCancel *up_done; /* nothing more is read from fd */
    GThread *threads[2];
    gint running, down_ended; /* atomic */
    pthread_mutex_t lock;
    char *reason; /* guarded by lock: the first that was not in order */
};

static void
not_in_order(QmigPump *p, const char *reason)
{
    pthread_mutex_lock(&p->lock);
    if (p->reason == NULL) {
        p->reason = g_strdup(reason);
    }
    pthread_mutex_unlock(&p->lock);
}

void
qmig_pump_stop(QmigPump *p)
{
    qmig_cancel_raise(p->cancel);
    qmig_link_stream_interrupt(p->config.stream);
}

/* Neither way any more: the peer of fd must see a break, not an end. */
static void
break_off(QmigPump *p)
{
    struct linger hard = { 1, 0 };

    (void)setsockopt(p->config.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    (void)shutdown(p->config.fd, SHUT_RDWR);
    qmig_pump_stop(p);
}

static void
last_thread_leaves(QmigPump *p)
{
    if (g_atomic_int_dec_and_test(&p->running)) {
        /* Its memory is the session's: stop() may still come. */
        qmig_link_stream_free(p->config.stream);
        close(p->config.fd);
        p->config.ended(p->config.data, p->reason);
    }
}

/* ---- fd -> stream ------------------------------------------------------------------------- */

static bool
send_reset(QmigPump *p, const char *reason)
{
    size_t len = MIN(strlen(reason), (size_t)QMIG_LINK_REASON_MAX);
    QmigBuf *buf = qmig_buf_new((uint32_t)len);

    memcpy(buf->data, reason, len);
    buf->len = (uint32_t)len;
    return qmig_link_stream_write(p->config.stream, QMIG_FRAME_RESET, buf, NULL);
}

/* A frame of @n bytes that lie in *@piece; large ones are given away. */
static QmigBuf *
make_frame(QmigBuf **piece, size_t n)
{
    if (n > PIECE / 2) {
        (*piece)->len = (uint32_t)n;
        return g_steal_pointer(piece);
    }
    QmigBuf *buf = qmig_buf_new((uint32_t)n);
    memcpy(buf->data, (*piece)->data, n);
    buf->len = (uint32_t)n;
    return buf;
}

static void *
up_thread(void *data)
{
    QmigPump *p = data;
    g_autoptr(QmigBuf) piece = NULL;
    g_autoptr(GError) error = NULL;
    ssize_t n;

    do {
        if (piece == NULL) {
            piece = qmig_buf_new(PIECE);
        }
        n = qmig_socket_read(p->config.fd, piece->data, PIECE, QMIG_DEADLINE_NEVER,
                             p->cancel, &error);
    } while (n > 0 && qmig_link_stream_write(p->config.stream, QMIG_FRAME_DATA,
                                             make_frame(&piece, (size_t)n), &error));
    if (n == 0) {
        (void)!qmig_link_stream_write(p->config.stream, QMIG_FRAME_END, NULL, NULL);
    } else if (!qmig_cancel_is_raised(p->cancel)) {
        not_in_order(p, error->message);
        (void)!send_reset(p, error->message);
        break_off(p);
    }
    qmig_cancel_raise(p->up_done);
    if (g_atomic_int_get(&p->down_ended)) {
        qmig_link_stream_interrupt(p->config.stream);
    }
    last_thread_leaves(p);
    return NULL;
}

/* ---- stream -> fd ------------------------------------------------------------------------- */

/* Nobody reads what we write: say so, when all that was written to us has been passed on. */
static void
reader_left(QmigPump *p, const GError *error)
{
    (void)!qmig_wait_fd(qmig_cancel_fd(p->up_done), POLLIN,
                        qmig_deadline_in_ms(LAST_WORDS_MS), p->cancel, NULL);
    not_in_order(p, error->message);
    (void)!send_reset(p, error->message);
    break_off(p);
}

/* Return: go on. */
static bool
take_frame(QmigPump *p, QmigFrameType type, QmigBuf *buf)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *reason = NULL;

    if (type == QMIG_FRAME_DATA) {
        if (buf != NULL &&
            !qmig_socket_write_all(p->config.fd, buf->data, buf->len, QMIG_DEADLINE_NEVER,
                                   p->cancel, &error)) {
            reader_left(p, error);
            return false;
        }
        return true;
    }
    if (type == QMIG_FRAME_END) {
        (void)shutdown(p->config.fd, SHUT_WR);
        g_atomic_int_set(&p->down_ended, 1);
        /* A RESET may still come, as long as we have something to say. */
        return !qmig_cancel_is_raised(p->up_done);
    }
    if (type == QMIG_FRAME_RESET) {
        reason = buf != NULL ? g_strndup((const char *)buf->data, buf->len) : NULL;
        not_in_order(p, reason != NULL ? reason : "broken off");
    } else {
        not_in_order(p, "the other side sent a batch where none may be");
        (void)!send_reset(p, "a batch where none may be");
    }
    break_off(p);
    return false;
}

static void *
down_thread(void *data)
{
    QmigPump *p = data;
    g_autoptr(GError) error = NULL;
    bool go_on = true, started = false;

    while (go_on) {
        g_autoptr(QmigBuf) buf = NULL;
        QmigFrameType type;

        if (!qmig_link_stream_read(p->config.stream, &type, &buf, &error)) {
            break;
        }
        go_on = take_frame(p, type, buf);
        if (go_on && !started && p->config.started != NULL && type == QMIG_FRAME_DATA) {
            started = true;
            p->config.started(p->config.data);
        }
    }
    if (error != NULL && !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
        not_in_order(p, error->message);
        break_off(p);
    }
    last_thread_leaves(p);
    return NULL;
}

QmigPump *
qmig_pump_start(const QmigPumpConfig *config)
{
    QmigPump *p = g_new0(QmigPump, 1);

    p->config = *config;
    p->cancel = qmig_cancel_new();
    p->up_done = qmig_cancel_new();
    pthread_mutex_init(&p->lock, NULL);
    p->running = 2;
    p->threads[0] = g_thread_new("qmig-pump-up", up_thread, p);
    p->threads[1] = g_thread_new("qmig-pump-down", down_thread, p);
    return p;
}

uint64_t
qmig_pump_pending(const QmigPump *p)
{
    (void)p;
    return 0;
}

void
qmig_pump_free(QmigPump *p)
{
    if (p == NULL) {
        return;
    }
    for (guint i = 0; i < G_N_ELEMENTS(p->threads); i++) {
        g_thread_join(p->threads[i]);
    }
    qmig_cancel_free(p->cancel);
    qmig_cancel_free(p->up_done);
    pthread_mutex_destroy(&p->lock);
    g_free(p->reason);
    g_free(p);
}
