/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams cut and damaged. Every reading of one ends in an error with its place or in what the
 * bytes say, within bounds of memory and time (tests/lib/stream-check.h).
 *
 * Small streams (made by hand, and golden ones with few pages and devices: the seeds of
 * tests/fuzz/): cut at every byte, and every byte takes another value; inside page bodies only at
 * the first byte, the last and every 211th. Golden streams and captures whole: samples.
 * QMIG_TEST_EXHAUSTIVE=1 (suite "long"): small ones cut inside page bodies, too; all 255 other
 * values outside page bodies, one of each byte inside. Whole ones of up to 300 KiB are cut at
 * every 11th byte, and damaged at every byte outside page bodies and device state, at every 97th
 * of the rest.
 */
#include "tests/lib/stream-check.h"

#include "tests/lib/golden.h"
#include "util/error.h"

#include <string.h>

enum {
    BODY_STEP = 211,
    WHOLE_CUTS = 12, /* samples of a whole golden stream */
    WHOLE_DAMAGES = 40,
    LONG_LEN = 300 << 10,
    LONG_CUT_STEP = 11,
    LONG_BODY_STEP = 97,
};

typedef struct {
    const StreamKind *kind;
    uint8_t *bytes; /* owned */
    size_t len;
    uint8_t *body; /* owned; for each byte: 1 when it is page body, 2 device state */
} Stream;

static void
stream_clear(Stream *s)
{
    g_free(s->bytes);
    g_free(s->body);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Stream, stream_clear)

static bool
is_exhaustive(void)
{
    return g_getenv("QMIG_TEST_EXHAUSTIVE") != NULL;
}

/* ---- what is where -------------------------------------------------------------------------- */

static void
mark(Stream *s, uint64_t end, uint64_t length, uint8_t what)
{
    memset(s->body + end - length, what, length);
}

static void
mark_event(Stream *s, const struct qmig_event *ev)
{
    uint64_t end = ev->offset + ev->wire_size;

    if (ev->kind == QMIG_EVENT_PAGE && ev->u.page.kind != QMIG_PAGE_ZERO) {
        mark(s, end, ev->u.page.length, 1);
    } else if (ev->kind == QMIG_EVENT_MULTIFD_PACKET) {
        mark(s, end, ev->u.multifd_packet.packet->payload_length, 1);
    } else if (ev->kind == QMIG_EVENT_BYTES) {
        unsigned kind = ev->u.bytes.kind;
        bool state = kind == QMIG_BYTES_TAIL || kind == QMIG_BYTES_PACKAGED ||
                     kind == QMIG_BYTES_VMSTATE;
        mark(s, end, ev->u.bytes.length, state ? 2 : 1);
    }
}

static Stream
stream_take(const StreamKind *kind, char *bytes, size_t len)
{
    Stream s = { kind, (uint8_t *)bytes, len, g_malloc0(len) };
    void *d = kind->make();
    struct qmig_event ev;

    kind->push(d, s.bytes, len);
    while (kind->next(d, &ev, NULL) == QMIG_DECODE_EVENT) {
        mark_event(&s, &ev);
    }
    kind->free(d);
    return s;
}

static char *
test_path(const char *dir, const char *name)
{
    return g_test_build_filename(G_TEST_DIST, "..", dir, name, NULL);
}

static Stream
load_seed(const StreamKind *kind, const char *dir, const char *name)
{
    g_autofree char *folder = test_path("fuzz/corpus", dir);
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autoptr(GError) error = NULL;
    char *bytes;
    gsize len;

    g_file_get_contents(path, &bytes, &len, &error);
    g_assert_no_error(error);
    return stream_take(kind, bytes, len);
}

static Stream
load_golden(const StreamKind *kind, const char *name)
{
    g_autofree char *file = g_strconcat(name, ".zst", NULL);
    g_autofree char *path = test_path("golden", file);
    g_autoptr(GBytes) bytes = golden_unpack(path);
    gsize len;
    char *data = g_bytes_unref_to_data(g_steal_pointer(&bytes), &len);

    return stream_take(kind, data, len);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* A stream that ends early is no broken one: nothing in it was wrong. */
static void
read_cut(const Stream *s, size_t len)
{
    /* Of exactly its length, so that ASan sees a byte too many. */
    g_autofree uint8_t *copy = g_memdup2(s->bytes, len);
    g_auto(StreamReading) r = stream_read(s->kind, copy, len, false);

    g_assert_no_error(r.error);
    stream_memory(s->kind, copy, len);
}

static void
read_damaged(Stream *s, size_t at, uint8_t flip)
{
    s->bytes[at] ^= flip;
    g_auto(StreamReading) r = stream_read(s->kind, s->bytes, s->len, false);
    stream_memory(s->kind, s->bytes, s->len);
    s->bytes[at] ^= flip;
}

/* Is the byte at @at to be looked at: all but most of those inside page bodies. */
static bool
is_chosen(const Stream *s, size_t at)
{
    return s->body[at] != 1 || at == 0 || at + 1 == s->len || s->body[at - 1] != 1 ||
           s->body[at + 1] != 1 || at % BODY_STEP == 0 || is_exhaustive();
}

static void
cut_everywhere(Stream *s)
{
    for (size_t len = 0; len < s->len; len++) {
        if (is_chosen(s, len)) {
            read_cut(s, len);
        }
    }
}

static void
damage_everywhere(Stream *s)
{
    for (size_t at = 0; at < s->len; at++) {
        if (is_exhaustive() && s->body[at] != 1) {
            for (unsigned flip = 1; flip <= UINT8_MAX; flip++) {
                read_damaged(s, at, (uint8_t)flip);
            }
        } else if (is_chosen(s, at)) {
            /* Each place another one, the same every time. */
            read_damaged(s, at, (uint8_t)(1 + at * 97 % UINT8_MAX));
        }
    }
}

static void
sample_whole(Stream *s)
{
    for (int i = 0; i < WHOLE_CUTS; i++) {
        /* Half of them in the last bytes, where the ends are. */
        gint32 first = i % 2 == 0 ? 0 : MAX(0, (gint32)s->len - 200);
        read_cut(s, (size_t)g_test_rand_int_range(first, (gint32)s->len));
    }
    for (int i = 0; i < WHOLE_DAMAGES;) {
        size_t at = (size_t)g_test_rand_int_range(0, (gint32)s->len);
        if (s->body[at] != 1 || i % 4 == 0) {
            read_damaged(s, at, (uint8_t)g_test_rand_int_range(1, 256));
            i++;
        }
    }
}

static void
walk_whole(Stream *s)
{
    for (size_t len = 0; len < s->len; len += LONG_CUT_STEP) {
        read_cut(s, len);
    }
    for (size_t at = 0; at < s->len; at++) {
        if (s->body[at] == 0 || at % LONG_BODY_STEP == 0) {
            read_damaged(s, at, (uint8_t)g_test_rand_int_range(1, 256));
        }
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

typedef struct {
    const StreamKind *kind;
    char *dir; /* of the corpus; NULL: golden */
    char *name;
} Place;

static void
test_cut(gconstpointer data)
{
    const Place *place = data;
    g_auto(Stream) s = load_seed(place->kind, place->dir, place->name);

    cut_everywhere(&s);
}

static void
test_damaged(gconstpointer data)
{
    const Place *place = data;
    g_auto(Stream) s = load_seed(place->kind, place->dir, place->name);

    damage_everywhere(&s);
}

static void
test_whole(gconstpointer data)
{
    const Place *place = data;
    g_auto(Stream) s = load_golden(place->kind, place->name);

    sample_whole(&s);
    if (is_exhaustive() && s.len <= LONG_LEN) {
        walk_whole(&s);
    }
}

static void
place_free(gpointer data)
{
    Place *place = data;

    g_free(place->dir);
    g_free(place->name);
    g_free(place);
}

static void
add(const char *claim, const StreamKind *kind, const char *dir, const char *name,
    void (*test)(gconstpointer))
{
    g_autofree char *path = g_strdup_printf("/%s/%s/%s", dir != NULL ? dir : "golden",
                                            name, claim);
    Place *place = g_new(Place, 1);

    *place = (Place){ kind, g_strdup(dir), g_strdup(name) };
    g_test_add_data_func_full(path, place, (GTestDataFunc)test, place_free);
}

static void
add_seeds(const StreamKind *kind, const char *dir)
{
    g_autofree char *folder = test_path("fuzz/corpus", dir);
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) list = g_dir_open(folder, 0, &error);
    const char *name;

    g_assert_no_error(error);
    while ((name = g_dir_read_name(list)) != NULL) {
        add("is-incomplete-and-no-error-when-cut", kind, dir, name, test_cut);
        add("is-a-placed-error-or-what-it-says-when-damaged", kind, dir, name,
            test_damaged);
    }
}

int
main(int argc, char **argv)
{
    static const char *const golden[] = {
        "7.2-return-path",
        "7.2-q35-no-return-path",
        "7.2-compress",
        "11.1-return-path",
        "11.1-xbzrle",
        "11.1-multifd",
        "11.1-postcopy",
        "11.1-ignore-shared",
        "captures/11.1-colo/0-main.forward",
        "captures/7.2-recovery/0-main.forward",
    };
    static const char *const multifd[] = {
        "captures/7.2-multifd-zlib/1-multifd.forward",
        "captures/10.0-multifd-zstd/1-multifd.forward",
        "captures/11.1-multifd-legacy/1-multifd.forward",
    };

    g_test_init(&argc, &argv, NULL);
    add_seeds(&stream_main, "decoder");
    add_seeds(&stream_recovery, "recovery");
    add_seeds(&stream_preempt, "preempt");
    add_seeds(&stream_multifd, "multifd");
    for (size_t i = 0; i < G_N_ELEMENTS(golden); i++) {
        add("samples", &stream_main, NULL, golden[i], test_whole);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(multifd); i++) {
        add("samples", &stream_multifd, NULL, multifd[i], test_whole);
    }
    return g_test_run();
}
