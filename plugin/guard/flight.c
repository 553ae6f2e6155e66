/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     head (kept)                  ring (the oldest goes first)
 *     QEVM config START blocks  |  … PART page page page EOS footer … END … tail
 *
 * The ring is one piece of memory; a record never lies across its end. What is evicted is looked
 * at once more: the section that it leaves open needs its head when the ring is written.
 */
#include "plugin/guard/flight.h"

#include "plugin/guard/copy.h"
#include "stream/encoder.h"
#include "util/auto.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum {
    HEAD_MAX = 4 << 20,
    /* Bytes that are opaque are kept in pieces, so that they are evicted in pieces. */
    CHUNK = 32 << 10,
    SIZE_WORD = 16, /* in front of each record: its size, and alignment */
};

struct QmigFlight {
    GPtrArray *head; /* struct qmig_event *, each a block of memory */
    size_t head_bytes;
    bool head_lost; /* it was too long */
    bool flying;    /* the head is over */
    uint8_t *ring;  /* owned */
    size_t size;
    size_t first, end; /* of the records */
    size_t n;          /* records */
    size_t wrap;       /* the records go on at 0 behind this; 0: they do not */
    bool evicted;
    bool tail_cut;          /* device state has lost its beginning */
    bool has_open;          /* what was evicted left a section open: */
    struct qmig_event open; /* its head; without its name */
    bool open_is_ram;
};

QmigFlight *
qmig_flight_new(size_t keep)
{
    QmigFlight *f = g_new0(QmigFlight, 1);

    f->head = g_ptr_array_new_with_free_func(g_free);
    f->size = keep / SIZE_WORD * SIZE_WORD;
    /* Not touched before it is used. */
    f->ring = g_malloc(f->size);
    return f;
}

void
qmig_flight_free(QmigFlight *f)
{
    if (f != NULL) {
        g_ptr_array_unref(f->head);
        g_free(f->ring);
        g_free(f);
    }
}

/* ---- taking ----------------------------------------------------------------------------- */

static size_t
record_size(const QmigFlight *f, size_t at)
{
    size_t size;

    memcpy(&size, f->ring + at, sizeof size);
    return size;
}

static struct qmig_event *
record_event(const QmigFlight *f, size_t at)
{
    return (struct qmig_event *)(void *)(f->ring + at + SIZE_WORD);
}

/* Behind the record at @at. */
static size_t
record_next(const QmigFlight *f, size_t at)
{
    size_t next = at + record_size(f, at);

    return f->wrap != 0 && next == f->wrap ? 0 : next;
}

static void
evict(QmigFlight *f)
{
    const struct qmig_event *ev = record_event(f, f->first);

    f->evicted = true;
    if (ev->kind == QMIG_EVENT_SECTION) {
        f->has_open = true;
        f->open = *ev;
        f->open_is_ram = strcmp(ev->u.section.name, "ram") == 0;
        f->open.u.section.name = f->open_is_ram ? "ram" : "";
    } else if (ev->kind == QMIG_EVENT_FOOTER) {
        f->has_open = false;
    } else if (ev->kind == QMIG_EVENT_BYTES && ev->u.bytes.kind == QMIG_BYTES_TAIL) {
        f->tail_cut = true;
    }
    size_t next = record_next(f, f->first);
    if (next == 0) {
        f->wrap = 0;
    }
    f->first = next;
    f->n--;
}

/* Free bytes in one piece at `end`. */
static size_t
room(const QmigFlight *f)
{
    return f->wrap != 0 ? f->first - f->end : f->size - f->end;
}

/* Make room for @size bytes; they go to `end`. */
static void
make_room(QmigFlight *f, size_t size)
{
    while (room(f) < size) {
        if (f->n == 0) {
            f->first = f->end = f->wrap = 0;
        } else if (f->wrap == 0 && f->first >= size) {
            f->wrap = f->end;
            f->end = 0;
        } else {
            evict(f);
        }
    }
}

static void
put(QmigFlight *f, const struct qmig_event *ev)
{
    size_t size = SIZE_WORD + qmig_copy_size(ev);

    if (size > f->size) {
        return;
    }
    make_room(f, size);
    memcpy(f->ring + f->end, &size, sizeof size);
    qmig_copy_into(f->ring + f->end + SIZE_WORD, ev);
    f->end += size;
    f->n++;
}

static void
put_bytes(QmigFlight *f, const struct qmig_event *ev)
{
    struct qmig_event piece = *ev;
    uint64_t left = ev->u.bytes.length;

    while (left > 0) {
        piece.u.bytes.length = MIN(left, (uint64_t)CHUNK);
        put(f, &piece);
        piece.u.bytes.data += piece.u.bytes.length;
        piece.offset += piece.u.bytes.length;
        left -= piece.u.bytes.length;
    }
}

static bool
ends_the_head(const struct qmig_event *ev)
{
    switch (ev->kind) {
    case QMIG_EVENT_PAGE:
        return true;
    case QMIG_EVENT_SECTION:
        return ev->u.section.type == QMIG_SECTION_PART ||
               ev->u.section.type == QMIG_SECTION_END;
    case QMIG_EVENT_BYTES:
        return ev->u.bytes.kind == QMIG_BYTES_TAIL ||
               ev->u.bytes.kind == QMIG_BYTES_PACKAGED ||
               ev->u.bytes.kind == QMIG_BYTES_RAW;
    default:
        return false;
    }
}

static void
put_head(QmigFlight *f, const struct qmig_event *ev)
{
    size_t size = qmig_copy_size(ev);

    if (f->head_lost || size > HEAD_MAX - f->head_bytes) {
        f->head_lost = true;
        return;
    }
    f->head_bytes += size;
    g_ptr_array_add(f->head, qmig_copy_into(g_malloc(size), ev));
}

void
qmig_flight_take(QmigFlight *f, const struct qmig_event *ev)
{
    if ((ev->flags & QMIG_EVENT_NOTE) != 0 || ev->kind >= QMIG_EVENT_MULTIFD_INIT) {
        return;
    }
    f->flying = f->flying || ends_the_head(ev);
    if (!f->flying) {
        put_head(f, ev);
    } else if (ev->kind == QMIG_EVENT_BYTES) {
        put_bytes(f, ev);
    } else {
        put(f, ev);
    }
}

/* ---- writing ---------------------------------------------------------------------------- */

typedef struct {
    QmigFlight *flight;
    QmigEncoder *encoder;
    int fd;
    QmigFlightFile *out;
} Writer;

static bool
flush(Writer *w, GError **error)
{
    const struct iovec *iov;
    size_t bytes, n = qmig_encoder_pending(w->encoder, &iov, &bytes);

    for (size_t i = 0; i < n; i++) {
        const uint8_t *data = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left > 0) {
            ssize_t done = write(w->fd, data, left);
            if (done < 0 && errno == EINTR) {
                continue;
            }
            if (done <= 0) {
                return qmig_set_error_errno(error, done < 0 ? errno : ENOSPC, "write");
            }
            data += done;
            left -= (size_t)done;
        }
    }
    w->out->bytes += bytes;
    qmig_encoder_clear(w->encoder);
    return true;
}

static bool
write_event(Writer *w, const struct qmig_event *ev, GError **error)
{
    return (!qmig_encoder_is_full(w->encoder) || flush(w, error)) &&
           qmig_encoder_put(w->encoder, ev, error);
}

/* May @ev stand first behind the head? Else it belongs to something that is lost. */
static bool
is_beginning(const struct qmig_event *ev)
{
    return ev->kind == QMIG_EVENT_SECTION || ev->kind == QMIG_EVENT_COMMAND ||
           (ev->kind == QMIG_EVENT_BYTES && ev->u.bytes.kind == QMIG_BYTES_TAIL);
}

static bool
write_ring(Writer *w, GError **error)
{
    QmigFlight *f = w->flight;
    bool skipping = f->evicted;
    bool any = false;

    if (f->has_open && f->open_is_ram) {
        skipping = false;
        if (!write_event(w, &f->open, error)) {
            return false;
        }
    }
    for (size_t at = f->first, i = 0; i < f->n; i++, at = record_next(f, at)) {
        const struct qmig_event *ev = record_event(f, at);

        skipping = skipping && !is_beginning(ev);
        if (skipping) {
            continue;
        }
        if (!any) {
            w->out->from = ev->offset;
        }
        any = true;
        if (!write_event(w, ev, error)) {
            return false;
        }
    }
    return true;
}

static bool
write_all(Writer *w, GError **error)
{
    const QmigFlight *f = w->flight;

    for (guint i = 0; i < f->head->len; i++) {
        if (!write_event(w, f->head->pdata[i], error)) {
            return false;
        }
    }
    return write_ring(w, error) && flush(w, error);
}

bool
qmig_flight_write(QmigFlight *f, const char *path, QmigFlightFile *out, GError **error)
{
    g_autoptr(QmigEncoder) encoder = qmig_encoder_new();
    g_auto(QmigFd)
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    Writer w = { f, encoder, fd, out };

    *out = (QmigFlightFile){ .is_whole = !f->evicted && !f->head_lost,
                             .readable = !f->head_lost && !f->tail_cut };
    if (fd < 0) {
        return qmig_set_error_errno(error, errno, "%s", path);
    }
    /* One of an earlier flight may have been readable by others. */
    (void)fchmod(fd, 0600);
    if (!write_all(&w, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    return true;
}
