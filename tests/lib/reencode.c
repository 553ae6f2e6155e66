/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * reencode [--splits=N] [--seed=N] INPUT…: the law encode(decode(x)) == x on recorded streams.
 *
 * INPUT is a stream or a capture. Each channel and direction is read whole and N times in random
 * pieces, written back, and compared; the readings must tell the same. One line for each:
 *
 *   FILE bytes BYTES events EVENTS complete|incomplete|raw [REASON]
 *
 * Exit: 0 all the same, 1 a difference or an error (on stderr).
 */
#include "inspect/capture.h"
#include "stream/dump.h"
#include "stream/encoder.h"
#include "stream/multifd.h"
#include "stream/return-path.h"
#include "util/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MULTIFD_MAGIC_SIZE = 4, MESSAGE_MAX = 4096 };

static int n_splits = 5, seed = 1;

static const GOptionEntry entries[] = {
    { "splits", 0, 0, G_OPTION_ARG_INT, &n_splits, "Readings in random pieces", "N" },
    { "seed", 0, 0, G_OPTION_ARG_INT, &seed, "Of the random numbers", "N" },
    G_OPTION_ENTRY_NULL
};

/* What one reading of a file gave. */
typedef struct {
    const uint8_t *want; /* borrowed: the file; what is written must be this */
    size_t want_len, at;
    guint64 n_events;
    GChecksum *told; /* owned: all events as text, but BYTES: they come as they come */
    char *raw, *end; /* owned: reason of a RAW note; of an incomplete end */
    bool complete, alike; /* alike: so far what was written is what was read */
} Reading;

static void
reading_clear(Reading *r)
{
    g_clear_pointer(&r->told, g_checksum_free);
    g_clear_pointer(&r->raw, g_free);
    g_clear_pointer(&r->end, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static void
written(Reading *r, const void *data, size_t len)
{
    r->alike = r->alike && len <= r->want_len - r->at &&
               memcmp(r->want + r->at, data, len) == 0;
    if (r->alike) {
        r->at += len;
    }
}

static void
flush(Reading *r, QmigEncoder *e)
{
    const struct iovec *iov;
    size_t bytes, n = qmig_encoder_pending(e, &iov, &bytes);

    for (size_t i = 0; i < n; i++) {
        written(r, iov[i].iov_base, iov[i].iov_len);
    }
    qmig_encoder_clear(e);
}

static bool
take_event(Reading *r, QmigEncoder *e, const struct qmig_event *ev, GString *text,
           GError **error)
{
    if (ev->kind != QMIG_EVENT_BYTES) {
        g_string_truncate(text, 0);
        qmig_dump_event(text, ev);
        g_checksum_update(r->told, (const guchar *)text->str, (gssize)text->len);
        r->n_events++;
    }
    if (ev->kind == QMIG_EVENT_RAW && r->raw == NULL) {
        r->raw = g_strdup(ev->u.raw.reason);
    } else if (ev->kind == QMIG_EVENT_END) {
        r->complete = ev->u.end.complete;
        r->end = g_strdup(ev->u.end.reason);
    }
    if (qmig_encoder_is_full(e)) {
        flush(r, e);
    }
    return qmig_encoder_put(e, ev, error);
}

/* One of the two kinds of decoder. */
typedef struct {
    QmigDecoder *stream;         /* owned */
    QmigMultifdDecoder *multifd; /* owned */
} Decoder;

static void
decoder_clear(Decoder *d)
{
    g_clear_pointer(&d->stream, qmig_decoder_free);
    g_clear_pointer(&d->multifd, qmig_multifd_decoder_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Decoder, decoder_clear)

static bool
drain(Reading *r, Decoder *d, QmigEncoder *e, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (;;) {
        struct qmig_event ev;
        QmigDecodeResult result = d->multifd != NULL
                                      ? qmig_multifd_decoder_next(d->multifd, &ev, error)
                                      : qmig_decoder_next(d->stream, &ev, error);

        if (result == QMIG_DECODE_EVENT && !take_event(r, e, &ev, text, error)) {
            return false;
        }
        if (result != QMIG_DECODE_EVENT) {
            flush(r, e);
            return result != QMIG_DECODE_FAILED;
        }
    }
}

/* Bytes of the next push: all that are left, or up to a random bound. */
static size_t
pick_step(GRand *random, size_t left)
{
    static const gint32 bounds[] = { 2, 8, 100, 5000, 70000, 700000 };

    if (random == NULL) {
        return left;
    }
    gint32 bound = bounds[g_rand_int_range(random, 0, G_N_ELEMENTS(bounds))];
    size_t n = (size_t)g_rand_int_range(random, 1, bound); /* MIN() asks twice */
    return MIN(n, left);
}

static bool
read_forward(Reading *r, Decoder *d, GRand *random, GError **error)
{
    g_autoptr(QmigEncoder) e = qmig_encoder_new();

    for (size_t at = 0, n; at < r->want_len; at += n) {
        n = pick_step(random, r->want_len - at);
        if (d->multifd != NULL) {
            qmig_multifd_decoder_push(d->multifd, r->want + at, n);
        } else {
            qmig_decoder_push(d->stream, r->want + at, n);
        }
        if (!drain(r, d, e, error)) {
            return false;
        }
    }
    if (d->multifd != NULL) {
        qmig_multifd_decoder_eof(d->multifd);
    } else {
        qmig_decoder_eof(d->stream);
    }
    return drain(r, d, e, error);
}

static bool
read_reverse(Reading *r, GRand *random, GError **error)
{
    g_autoptr(QmigRpDecoder) d = qmig_rp_decoder_new();
    uint8_t out[MESSAGE_MAX];
    QmigRpMessage m;

    for (size_t at = 0, n; at < r->want_len; at += n) {
        n = MIN(pick_step(random, r->want_len - at), MESSAGE_MAX / 2);
        qmig_rp_decoder_push(d, r->want + at, n);
        QmigDecodeResult result;
        while ((result = qmig_rp_decoder_next(d, &m, error)) == QMIG_DECODE_EVENT) {
            QmigWriter w = qmig_writer(out, sizeof out);
            if (!qmig_rp_write(&w, &m, error)) {
                return false;
            }
            written(r, out, w.len);
            r->n_events += m.type != QMIG_RP_BITMAP;
        }
        if (result == QMIG_DECODE_FAILED) {
            return false;
        }
    }
    r->complete = qmig_rp_decoder_is_between(d);
    r->end = g_strdup(r->complete ? "" : "in the middle of a message");
    return true;
}

/* A connection and how to read it. */
typedef struct {
    const char *kind;
    bool is_reverse;
    const QmigDecoder *main; /* (nullable) has read the main channel */
    QmigDecoder **keep;      /* (nullable) where to put the decoder that read it */
} Way;

static Decoder
new_decoder(const Way *way, const uint8_t *data, size_t len)
{
    bool is_preempt = strcmp(way->kind, "preempt") == 0;
    Decoder d = { 0 };

    if (len >= MULTIFD_MAGIC_SIZE &&
        memcmp(data, "\x11\x22\x33\x44", MULTIFD_MAGIC_SIZE) == 0) {
        d.multifd = qmig_multifd_decoder_new();
    } else if (way->main != NULL && (is_preempt || strcmp(way->kind, "recovery") == 0)) {
        d.stream = qmig_decoder_continue(way->main, is_preempt);
    } else {
        d.stream = qmig_decoder_new();
    }
    return d;
}

static bool
read_once(Reading *r, const Way *way, const uint8_t *data, size_t len, GRand *random,
          GError **error)
{
    g_auto(Decoder) d = { 0 };

    *r = (Reading){ .want = data, .want_len = len, .alike = true };
    r->told = g_checksum_new(G_CHECKSUM_SHA1);
    if (way->is_reverse
            ? !read_reverse(r, random, error)
            : (d = new_decoder(way, data, len), !read_forward(r, &d, random, error))) {
        return false;
    }
    if (!r->alike || r->at != len) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "what is written differs from what was read, near offset "
                              "0x%zx of 0x%zx",
                              r->at, len);
    }
    if (way->keep != NULL && random == NULL) {
        *way->keep = g_steal_pointer(&d.stream);
    }
    return true;
}

static bool
read_file(const char *path, const Way *way, GError **error)
{
    g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, error);
    g_autoptr(GRand) random = g_rand_new_with_seed((guint32)seed);
    g_auto(Reading) whole = { 0 };

    if (file == NULL) {
        return false;
    }
    const uint8_t *data = (const uint8_t *)g_mapped_file_get_contents(file);
    size_t len = g_mapped_file_get_length(file);
    if (!read_once(&whole, way, data, len, NULL, error)) {
        g_prefix_error(error, "%s: whole: ", path);
        return false;
    }
    for (int i = 0; i < n_splits; i++) {
        g_auto(Reading) r = { 0 };
        if (!read_once(&r, way, data, len, random, error)) {
            g_prefix_error(error, "%s: in pieces, seed %d, number %d: ", path, seed, i);
            return false;
        }
        if (r.n_events != whole.n_events ||
            strcmp(g_checksum_get_string(r.told), g_checksum_get_string(whole.told)) !=
                0) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  "%s: read in pieces it tells something else: seed %d, "
                                  "number %d",
                                  path, seed, i);
        }
    }
    g_autofree char *name = g_path_get_basename(path);
    printf("%s bytes %zu events %" PRIu64 " %s %s\n", name, len, whole.n_events,
           whole.raw != NULL ? "raw"
           : whole.complete  ? "complete"
                             : "incomplete",
           whole.raw != NULL ? whole.raw : whole.end);
    return true;
}

static bool
read_capture(const char *path, GError **error)
{
    g_autoptr(QmigCapture) capture = qmig_capture_open(path, error);
    g_autoptr(QmigDecoder) main_decoder = NULL;

    for (unsigned i = 0; capture != NULL && i < qmig_capture_n_channels(capture); i++) {
        const QmigCaptureChannel *channel = qmig_capture_channel(capture, i);
        bool is_main = strcmp(channel->kind, "main") == 0;
        Way forward = { .kind = channel->kind,
                        .main = main_decoder,
                        .keep = is_main && main_decoder == NULL ? &main_decoder : NULL };
        Way reverse = { .kind = channel->kind, .is_reverse = true };

        if (!read_file(channel->forward, &forward, error) ||
            (channel->reverse != NULL && !read_file(channel->reverse, &reverse, error))) {
            return false;
        }
    }
    return capture != NULL;
}

int
main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("INPUT…");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "reencode: %s\n", error->message);
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        Way file = { .kind = "main" };

        if (!(qmig_capture_is_at(argv[i]) ? read_capture(argv[i], &error)
                                          : read_file(argv[i], &file, &error))) {
            fprintf(stderr, "reencode: %s\n", error->message);
            return 1;
        }
    }
    return 0;
}
