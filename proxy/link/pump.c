/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/pump.h"

#include "stream/return-path.h"
#include "util/error.h"
#include "util/socket.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
    /* Of one frame: enough for compression to pay, little enough to be overtaken. */
    PIECE = 256 << 10,
    /* Of all that is written to fd, before `started` is called. They always fit into the socket. */
    FIRST_BYTES = 64,
    /* After nobody read any more: for its last words. */
    LAST_WORDS_MS = 3000,
    /* Pages wait no longer, that QEMU may know how fast the link is; newer ones replace them
       meanwhile. */
    PENDING_MS = 50,
    /* Bytes/s of a wire that is slower than the search for deltas and references. */
    MIDDLE_BELOW = 400 << 20,
};

struct QmigPump {
    QmigPumpConfig config;
    QmigCancel *cancel;  /* ends both ways */
    QmigCancel *up_done; /* nothing more is read from fd */
    gint refs;           /* atomic: the owner's and the sink's */
    pthread_mutex_t
        putting;   /* held while pack is put to, and finished: by one thread at a time */
    bool finished; /* guarded by it */
    char *sink_failed; /* owned, atomic: why no more is put; the end follows by fd */
    GThread *threads[3];
    gint running, down_ended; /* atomic */
    gint broken;              /* atomic */
    bool started;             /* down: something was written to fd */
    uint8_t unwanted;         /* up: what comes by fd though it is fed */
    QmigRpDecoder
        *requests; /* (nullable) reads what the destination asks for, for pack */
};

static void
not_in_order(QmigPump *p, const char *reason)
{
    if (g_atomic_int_compare_and_exchange(&p->broken, 0, 1)) {
        p->config.broke(p->config.data, reason);
    }
}

void
qmig_pump_stop(QmigPump *p)
{
    qmig_cancel_raise(p->cancel);
    if (p->config.pack != NULL) {
        qmig_pack_stop(p->config.pack);
    }
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
        p->config.ended(p->config.data);
    }
}

/* ---- fd -> stream ------------------------------------------------------------------------- */

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

/* Where to read to: pages that are packed wait there. */
static uint8_t *
read_place(QmigPump *p, QmigBuf **piece, size_t *size)
{
    if (p->config.fed) {
        *size = sizeof p->unwanted;
        return &p->unwanted;
    }
    if (p->config.pack != NULL) {
        return qmig_pack_buffer(p->config.pack, size);
    }
    *piece = *piece != NULL ? *piece : qmig_buf_new(PIECE);
    *size = PIECE;
    return (*piece)->data;
}

/* Return: false: it can go no further. */
static bool
pass_on(QmigPump *p, QmigBuf **piece, const uint8_t *place, size_t n, GError **error)
{
    if (p->config.fed) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "bytes beside those of the sink");
    }
    if (p->config.pack != NULL) {
        return qmig_pack_put(p->config.pack, place, n, p->cancel, error);
    }
    return qmig_link_stream_write(p->config.stream, QMIG_FRAME_DATA, make_frame(piece, n),
                                  error);
}

static void
up_broke(QmigPump *p, const GError *error)
{
    if (!qmig_cancel_is_raised(p->cancel)) {
        not_in_order(p, error->message);
        qmig_link_stream_reset(p->config.stream, error->message);
        break_off(p);
    }
}

/* Nothing more goes up. */
static void
up_ended(QmigPump *p)
{
    qmig_cancel_raise(p->up_done);
    if (g_atomic_int_get(&p->down_ended)) {
        qmig_link_stream_interrupt(p->config.stream);
    }
    last_thread_leaves(p);
}

static void *
up_thread(void *data)
{
    QmigPump *p = data;
    g_autoptr(QmigBuf) piece = NULL;
    g_autoptr(GError) error = NULL;
    uint8_t *place;
    size_t size;
    ssize_t n;

    do {
        place = read_place(p, &piece, &size);
        n = qmig_socket_read(p->config.fd, place, size, QMIG_DEADLINE_NEVER, p->cancel,
                             &error);
    } while (n > 0 && pass_on(p, &piece, place, (size_t)n, &error));
    if (n == 0 && g_atomic_pointer_get(&p->sink_failed) != NULL) {
        qmig_set_error(&error, QMIG_ERROR_IO, "%s", p->sink_failed);
        n = -1;
    }
    if (n != 0) {
        up_broke(p, error);
    }
    if (p->config.pack != NULL) {
        /* What was taken goes out, then the end is told: by the thread that packs. */
        pthread_mutex_lock(&p->putting);
        p->finished = true;
        qmig_pack_finish(p->config.pack);
        pthread_mutex_unlock(&p->putting);
        last_thread_leaves(p);
        return NULL;
    }
    if (n == 0) {
        (void)!qmig_link_stream_write(p->config.stream, QMIG_FRAME_END, NULL, NULL);
    }
    up_ended(p);
    return NULL;
}

/* Deltas and references cost time, which a fast wire does not leave. */
static void
set_effort(QmigPump *p)
{
    uint64_t rate = qmig_link_stream_rate(p->config.stream);

    qmig_pack_hold(p->config.pack,
                   qmig_link_stream_goodput(p->config.stream) * PENDING_MS / 1000);
    qmig_pack_set_effort(p->config.pack, rate == 0 || rate > MIDDLE_BELOW ? QMIG_PACK_FAST
                                         : rate > QMIG_LINK_SLOW ? QMIG_PACK_MIDDLE
                                                                 : QMIG_PACK_SMALL);
}

/* Batches are made when the session has room for them, no sooner: until then pages can still be
 * replaced by newer ones. */
static void *
pack_thread(void *data)
{
    QmigPump *p = data;
    g_autoptr(GError) error = NULL;
    bool told = false, lean = false;
    ssize_t n;

    do {
        if (!qmig_link_stream_wait_room(p->config.stream, &error)) {
            n = -1;
            break;
        }
        set_effort(p);
        if (!told && qmig_pack_is_switching(p->config.pack)) {
            told = true;
            qmig_link_stream_set_critical(p->config.stream);
        }
        if (!lean && qmig_pack_is_postcopy(p->config.pack)) {
            lean = true;
            qmig_link_stream_hold_little(p->config.stream);
        }
        QmigBuf *buf = qmig_buf_new(QMIG_BATCH_MAX);
        n = qmig_pack_take(p->config.pack, buf->data, buf->size, p->cancel, &error);
        if (n <= 0) {
            qmig_buf_unref(buf);
        } else {
            buf->len = (uint32_t)n;
            n = qmig_link_stream_write(p->config.stream, QMIG_FRAME_BATCH, buf, &error)
                    ? n
                    : -1;
        }
    } while (n > 0);
    if (n < 0) {
        up_broke(p, error);
    } else if (!g_atomic_int_get(&p->broken)) {
        (void)!qmig_link_stream_write(p->config.stream, QMIG_FRAME_END, NULL, NULL);
    }
    up_ended(p);
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
    qmig_link_stream_reset(p->config.stream, error->message);
    break_off(p);
}

static bool
write_pieces(void *self, const struct iovec *iov, size_t n, GError **error)
{
    QmigPump *p = self;
    struct iovec rest = { 0 };

    if (!p->started && n > 0) {
        size_t len = MIN(iov->iov_len, (size_t)FIRST_BYTES);

        /* A destination of several channels reads no more of main than that before it has the
           others, which wait until main has begun. */
        if (!qmig_socket_write_all(p->config.fd, iov->iov_base, len, QMIG_DEADLINE_NEVER,
                                   p->cancel, error)) {
            return false;
        }
        p->started = true;
        if (p->config.started != NULL) {
            p->config.started(p->config.data);
        }
        rest = (struct iovec){ (uint8_t *)iov->iov_base + len, iov->iov_len - len };
        iov++;
        n--;
    }
    return (rest.iov_len == 0 ||
            qmig_socket_writev_all(p->config.fd, &rest, 1, QMIG_DEADLINE_NEVER, p->cancel,
                                   error)) &&
           qmig_socket_writev_all(p->config.fd, iov, n, QMIG_DEADLINE_NEVER, p->cancel,
                                  error);
}

/* Pages that the destination asks for overtake others. */
static void
heed_requests(QmigPump *p, const QmigBuf *buf)
{
    QmigRpMessage msg;

    if (p->requests == NULL) {
        return;
    }
    qmig_rp_decoder_push(p->requests, buf->data, buf->len);
    for (;;) {
        QmigDecodeResult result = qmig_rp_decoder_next(p->requests, &msg, NULL);
        if (result != QMIG_DECODE_EVENT) {
            if (result != QMIG_DECODE_NEED_MORE) {
                g_clear_pointer(&p->requests, qmig_rp_decoder_free);
            }
            return;
        }
        if (msg.type == QMIG_RP_REQ_PAGES || msg.type == QMIG_RP_REQ_PAGES_ID) {
            qmig_pack_request(p->config.pack,
                              msg.type == QMIG_RP_REQ_PAGES_ID ? msg.block : NULL,
                              msg.offset, msg.length);
        }
    }
}

/* Return: false when nobody takes them, or they cannot be read. */
static bool
take_bytes(QmigPump *p, QmigFrameType type, const QmigBuf *buf, GError **error)
{
    if (type == QMIG_FRAME_DATA) {
        struct iovec iov = { (void *)buf->data, buf->len };
        heed_requests(p, buf);
        return write_pieces(p, &iov, 1, error);
    }
    if (p->config.unpack == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "the other side sent a batch where none may be");
    }
    return qmig_unpack_take(p->config.unpack, buf->data, buf->len, write_pieces, p,
                            error);
}

/* Return: go on. */
static bool
take_frame(QmigPump *p, QmigFrameType type, const QmigBuf *buf)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *reason = NULL;

    if (type == QMIG_FRAME_DATA || type == QMIG_FRAME_BATCH) {
        if (buf != NULL && !take_bytes(p, type, buf, &error)) {
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
    reason = buf != NULL ? g_strndup((const char *)buf->data, buf->len) : NULL;
    not_in_order(p, reason != NULL ? reason : "broken off");
    break_off(p);
    return false;
}

static void *
down_thread(void *data)
{
    QmigPump *p = data;
    g_autoptr(GError) error = NULL;
    bool go_on = true;

    while (go_on) {
        g_autoptr(QmigBuf) buf = NULL;
        QmigFrameType type;

        if (!qmig_link_stream_read(p->config.stream, &type, &buf, &error)) {
            break;
        }
        go_on = take_frame(p, type, buf);
    }
    if (error != NULL && !g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
        if (g_atomic_int_get(&p->down_ended)) {
            /* All has been passed on: let it be read. */
            qmig_pump_stop(p);
        } else {
            not_in_order(p, error->message);
            break_off(p);
        }
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
    p->refs = 1;
    pthread_mutex_init(&p->putting, NULL);
    p->running = config->pack != NULL ? 3 : 2;
    p->requests = config->pack != NULL ? qmig_rp_decoder_new() : NULL;
    p->threads[0] = g_thread_new("qmig-pump-up", up_thread, p);
    p->threads[1] = g_thread_new("qmig-pump-down", down_thread, p);
    if (config->pack != NULL) {
        p->threads[2] = g_thread_new("qmig-pump-pack", pack_thread, p);
    }
    return p;
}

static void
unref(void *data)
{
    QmigPump *p = data;

    if (!g_atomic_int_dec_and_test(&p->refs)) {
        return;
    }
    g_clear_pointer(&p->requests, qmig_rp_decoder_free);
    qmig_pack_free(p->config.pack);
    qmig_unpack_free(p->config.unpack);
    qmig_cancel_free(p->cancel);
    qmig_cancel_free(p->up_done);
    g_free(p->sink_failed);
    pthread_mutex_destroy(&p->putting);
    g_free(p);
}

static uint8_t *
sink_place(void *self, size_t *size)
{
    QmigPump *p = self;

    return qmig_pack_buffer(p->config.pack, size);
}

static bool
sink_put(void *self, const uint8_t *data, size_t n, const QmigCancel *cancel,
         GError **error)
{
    QmigPump *p = self;
    g_autoptr(GError) local = NULL;

    pthread_mutex_lock(&p->putting);
    /* After a failed one the pack is in the middle of something. */
    bool ok = p->finished || g_atomic_pointer_get(&p->sink_failed) != NULL
                  ? qmig_set_error(&local, QMIG_ERROR_CANCELLED,
                                   "nobody takes it any more")
                  : qmig_pack_put(p->config.pack, data, n, cancel, &local);
    pthread_mutex_unlock(&p->putting);
    if (ok) {
        return true;
    }
    /* The stream is for the pump's own threads: up_thread() will tell it. */
    g_autofree char *why = g_strdup(local->message);
    if (g_atomic_pointer_compare_and_exchange(&p->sink_failed, NULL, why)) {
        why = NULL;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

void
qmig_pump_sink(QmigPump *p, QmigRelaySink *sink)
{
    g_atomic_int_inc(&p->refs);
    *sink = (QmigRelaySink){ p, sink_place, sink_put, unref };
}

QmigPack *
qmig_pump_pack(QmigPump *p)
{
    return p->config.pack;
}

void
qmig_pump_free(QmigPump *p)
{
    if (p == NULL) {
        return;
    }
    for (guint i = 0; i < G_N_ELEMENTS(p->threads); i++) {
        if (p->threads[i] != NULL) {
            g_thread_join(p->threads[i]);
        }
    }
    unref(p);
}
