/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The heatmap plugin: its pictures are read again, pixel by pixel, its JSON run by run, and
 * compared with counts made here, of streams of real QEMUs.
 */
#include "plugin/chain.h"
#include "plugin/heatmap/map.h"
#include "stream/decoder.h"
#include "tests/lib/golden.h"
#include "util/cursor.h"

#include <glib/gstdio.h>
#include <string.h>
#include <zlib.h>

enum { BLOCKS_MAX = 64, WIDTH = 512, PAGE = 4096 };

/* ---- what the plugin should say ------------------------------------------------------------ */

typedef struct {
    const struct qmig_block *blocks[BLOCKS_MAX];
    uint16_t *times[BLOCKS_MAX]; /* by page */
    unsigned n_blocks;
    uint64_t records, resent, bytes;
} Truth;

static void
truth_see(Truth *t, const struct qmig_event *ev)
{
    if (ev->kind == QMIG_EVENT_RAM_BLOCK) {
        const struct qmig_block *block = ev->u.ram_block.block;
        g_assert_cmpuint(t->n_blocks, <, BLOCKS_MAX);
        t->blocks[t->n_blocks] = block;
        t->times[t->n_blocks++] = g_new0(uint16_t, block->used_length / PAGE);
    } else if (ev->kind == QMIG_EVENT_PAGE) {
        const struct qmig_event_page *page = &ev->u.page;
        t->resent += t->times[page->block->index][page->offset / PAGE]++ > 0;
        t->records++;
        t->bytes += ev->wire_size;
    }
}

/* The stream @name down @chain; at most @limit events. The blocks live as long as the decoder. */
static QmigDecoder *
run(const char *name, QmigChain *chain, Truth *truth, unsigned limit)
{
    g_autoptr(GBytes) stream = golden_load(name);
    g_autoptr(GError) error = NULL;
    QmigDecoder *decoder = qmig_decoder_new();
    struct qmig_event ev;
    gsize len;
    const uint8_t *data = g_bytes_get_data(stream, &len);

    qmig_decoder_push(decoder, data, len);
    while (limit-- > 0 && qmig_decoder_next(decoder, &ev, &error) == QMIG_DECODE_EVENT) {
        truth_see(truth, &ev);
        g_assert_true(qmig_chain_push(chain, &ev, &error));
    }
    g_assert_no_error(error);
    return decoder;
}

static void
truth_clear(Truth *t)
{
    for (unsigned i = 0; i < t->n_blocks; i++) {
        g_free(t->times[i]);
    }
}

/* ---- pictures ------------------------------------------------------------------------------ */

typedef struct {
    uint32_t width, height;
    bool has_palette, has_end;
    GByteArray *packed;
    uint8_t *pixels; /* width × height */
} Picture;

static void
take_chunk(Picture *p, const uint8_t *type, const uint8_t *data, uint32_t len)
{
    static const uint8_t form[] = { 8, 3, 0, 0, 0 };
    QmigCursor c = qmig_cursor(data, len);

    g_assert_false(p->has_end);
    if (memcmp(type, "IHDR", 4) == 0) {
        g_assert_cmpuint(len, ==, 13);
        g_assert_true(qmig_cursor_be32(&c, &p->width) &&
                      qmig_cursor_be32(&c, &p->height));
        g_assert_cmpmem(data + 8, 5, form, sizeof form);
    } else if (memcmp(type, "PLTE", 4) == 0) {
        g_assert_cmpuint(len, ==, 768);
        p->has_palette = true;
    } else if (memcmp(type, "IDAT", 4) == 0) {
        g_byte_array_append(p->packed, data, len);
    } else {
        g_assert_cmpmem(type, 4, "IEND", 4);
        g_assert_cmpuint(len, ==, 0);
        p->has_end = true;
    }
}

static void
unpack(Picture *p)
{
    uLongf len = (uLongf)(p->width + 1) * p->height;
    g_autofree uint8_t *rows = g_malloc(len);

    g_assert_cmpint(uncompress(rows, &len, p->packed->data, p->packed->len), ==, Z_OK);
    g_assert_cmpuint(len, ==, (uLongf)(p->width + 1) * p->height);
    p->pixels = g_malloc((size_t)p->width * p->height);
    for (uint32_t y = 0; y < p->height; y++) {
        const uint8_t *row = rows + (size_t)y * (p->width + 1);
        g_assert_cmpuint(row[0], ==, 0); /* no filter */
        memcpy(p->pixels + (size_t)y * p->width, row + 1, p->width);
    }
}

static Picture
read_picture(const char *path)
{
    static const uint8_t signature[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
    Picture p = { .packed = g_byte_array_new() };
    g_autofree char *data = NULL;
    gsize len;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    QmigCursor c = qmig_cursor((const uint8_t *)data, len);
    const uint8_t *bytes = NULL;
    uint32_t n, sum = 0;
    g_assert_true(qmig_cursor_bytes(&c, 8, &bytes));
    g_assert_cmpmem(bytes, 8, signature, 8);
    while (qmig_cursor_be32(&c, &n)) {
        g_assert_true(qmig_cursor_bytes(&c, (size_t)n + 4, &bytes));
        g_assert_true(qmig_cursor_be32(&c, &sum));
        g_assert_cmpuint(sum, ==, crc32(0, bytes, n + 4));
        take_chunk(&p, bytes, bytes + 4, n);
    }
    g_assert_true(p.has_palette && p.has_end);
    unpack(&p);
    return p;
}

static void
picture_clear(Picture *p)
{
    g_byte_array_unref(p->packed);
    g_free(p->pixels);
}

/* Each block begins on a row of its own, a pixel a page: these streams are small. */
static void
assert_memory(const char *path, const Truth *t)
{
    Picture p = read_picture(path);
    uint32_t row = 0;

    g_assert_cmpuint(p.width, ==, WIDTH);
    for (unsigned i = 0; i < t->n_blocks; i++) {
        uint64_t n = t->blocks[i]->used_length / PAGE;
        uint32_t rows = (uint32_t)((n + WIDTH - 1) / WIDTH);

        g_assert_cmpuint(row + rows, <=, p.height);
        for (uint64_t page = 0; page < (uint64_t)rows * WIDTH; page++) {
            unsigned got = p.pixels[(size_t)row * WIDTH + page];
            g_assert_cmpuint(got, ==, page < n ? MIN(t->times[i][page], 254) : 255);
        }
        row += rows;
    }
    g_assert_cmpuint(row, ==, p.height);
    picture_clear(&p);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static JsonObject *
at(JsonObject *from, const char *key)
{
    JsonObject *value = NULL;

    if (!json_object_object_get_ex(from, key, &value)) {
        g_error("no \"%s\"", key);
    }
    return value;
}

static uint64_t
number(JsonObject *from, const char *key)
{
    return json_object_get_uint64(at(from, key));
}

static uint64_t
item(JsonObject *list, size_t i)
{
    return json_object_get_uint64(json_object_array_get_idx(list, i));
}

/* Of the runs, each page's count again. */
static void
assert_pages(JsonObject *all, const Truth *t)
{
    JsonObject *pages = at(all, "pages");

    g_assert_cmpuint(json_object_array_length(pages), ==, t->n_blocks);
    for (unsigned i = 0; i < t->n_blocks; i++) {
        JsonObject *block = json_object_array_get_idx(pages, i);
        JsonObject *runs = at(block, "runs");
        uint64_t n = t->blocks[i]->used_length / PAGE;
        g_autofree uint16_t *times = g_new0(uint16_t, n);

        g_assert_cmpstr(json_object_get_string(at(block, "block")), ==,
                        t->blocks[i]->name);
        for (size_t k = 0; k < json_object_array_length(runs); k++) {
            JsonObject *run = json_object_array_get_idx(runs, k);
            g_assert_cmpuint(item(run, 0) + item(run, 1), <=, n);
            g_assert_cmpuint(item(run, 3), <=, number(all, "iteration"));
            for (uint64_t page = 0; page < item(run, 1); page++) {
                times[item(run, 0) + page] = (uint16_t)item(run, 2);
            }
        }
        g_assert_cmpmem(times, n * sizeof *times, t->times[i], n * sizeof *times);
    }
}

static void
assert_sums(JsonObject *all, const Truth *t)
{
    JsonObject *passes = at(all, "iterations"), *cells = at(at(all, "timeline"), "cells");
    JsonObject *times = at(all, "times_sent");
    uint64_t records = 0, resent = 0, in_cells = 0, pages = 0;

    for (size_t i = 0; i < json_object_array_length(passes); i++) {
        records += number(json_object_array_get_idx(passes, i), "records");
        resent += number(json_object_array_get_idx(passes, i), "resent");
    }
    for (size_t i = 0; i < json_object_array_length(cells); i++) {
        in_cells += item(json_object_array_get_idx(cells, i), 2);
    }
    for (size_t i = 0; i < json_object_array_length(times); i++) {
        pages += number(json_object_array_get_idx(times, i), "pages");
    }
    g_assert_cmpuint(number(all, "records"), ==, t->records);
    g_assert_cmpuint(number(all, "resent"), ==, t->resent);
    g_assert_cmpuint(number(all, "bytes"), ==, t->bytes);
    g_assert_cmpuint(number(all, "untracked"), ==, 0);
    g_assert_cmpuint(records, ==, t->records);
    g_assert_cmpuint(resent, ==, t->resent);
    g_assert_cmpuint(in_cells, ==, t->records);
    g_assert_cmpuint(pages, ==, t->records - t->resent);
    g_assert_cmpuint(pages, ==, number(all, "pages_sent"));
}

/* ---- tests --------------------------------------------------------------------------------- */

typedef struct {
    char *dir, *file, *image, *timeline, *spec;
} Paths;

static Paths
make_paths(void)
{
    Paths p = { .dir = g_dir_make_tmp("heatmap-XXXXXX", NULL) };

    p.file = g_build_filename(p.dir, "a.json", NULL);
    p.image = g_build_filename(p.dir, "a.png", NULL);
    p.timeline = g_build_filename(p.dir, "t.png", NULL);
    p.spec = g_strdup_printf("heatmap:file=%s,image=%s,timeline=%s", p.file, p.image,
                             p.timeline);
    return p;
}

static void
remove_paths(Paths *p)
{
    g_unlink(p->file);
    g_unlink(p->image);
    g_unlink(p->timeline);
    g_assert_cmpint(g_rmdir(p->dir), ==, 0); /* nothing else was left */
    g_free(p->dir);
    g_free(p->file);
    g_free(p->image);
    g_free(p->timeline);
    g_free(p->spec);
}

static void
test_golden(gconstpointer name)
{
    Paths paths = make_paths();
    const char *specs[] = { "stats", paths.spec, NULL };
    g_autoptr(GError) error = NULL;
    QmigChain *chain = qmig_chain_new(specs, NULL, NULL, &error);
    Truth t = { 0 };

    g_assert_no_error(error);
    g_autoptr(QmigDecoder) decoder = run(name, chain, &t, UINT_MAX);
    g_assert_cmpuint(t.records, >, 100);
    g_assert_true(t.resent > 0 || strstr(name, "xbzrle") == NULL);
    g_assert_true(qmig_chain_finish(chain, &error));
    g_autoptr(JsonObject) report = qmig_chain_report(chain);
    JsonObject *stats = at(report, "stats"), *mine = at(report, "heatmap");
    g_assert_cmpuint(number(mine, "iteration"), ==, number(stats, "iteration"));
    g_assert_cmpuint(number(mine, "resent"), ==, number(at(stats, "pages"), "resent"));

    g_autoptr(JsonObject) all = json_object_from_file(paths.file);
    g_assert_nonnull(all);
    g_assert_cmpuint(number(all, "complete"), ==, 1);
    assert_pages(all, &t);
    assert_sums(all, &t);
    assert_memory(paths.image, &t);
    Picture timeline = read_picture(paths.timeline);
    g_assert_cmpuint(timeline.width, >=, t.n_blocks);
    g_assert_cmpuint(timeline.pixels[0], >, 0);
    picture_clear(&timeline);
    qmig_chain_free(chain);
    truth_clear(&t);
    remove_paths(&paths);
}

/* A migration that was broken off has its files, too; one that was only tried has none. */
static void
test_broken_off(void)
{
    Paths paths = make_paths();
    const char *specs[] = { paths.spec, NULL };
    Truth t = { 0 };

    qmig_chain_free(qmig_chain_new(specs, NULL, NULL, NULL));
    g_assert_false(g_file_test(paths.file, G_FILE_TEST_EXISTS));
    QmigChain *chain = qmig_chain_new(specs, NULL, NULL, NULL);
    g_autoptr(QmigDecoder) decoder = run("11.1-xbzrle", chain, &t, 300);
    qmig_chain_free(chain);
    g_autoptr(JsonObject) all = json_object_from_file(paths.file);
    g_assert_nonnull(all);
    g_assert_cmpuint(number(all, "complete"), ==, 0);
    assert_pages(all, &t);
    assert_memory(paths.image, &t);
    truth_clear(&t);
    remove_paths(&paths);
}

static void
test_bad_configuration(void)
{
    static const struct {
        const char *spec, *part;
    } cases[] = {
        { "heatmap:image=/", "is a directory" },
        { "heatmap:file=/nowhere/a.json", "No such file" },
        { "heatmap:file=", "wanted the path" },
        { "heatmap:png=a", "no parameter \"png\"" },
        { "heatmap:file=same,timeline=same", "the same file" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *specs[] = { cases[i].spec, NULL };
        g_autoptr(GError) error = NULL;
        g_assert_null(qmig_chain_new(specs, NULL, NULL, &error));
        if (strstr(error->message, cases[i].part) == NULL) {
            g_error("%s: %s", cases[i].spec, error->message);
        }
    }
}

/* A file that cannot be written any more harms no migration, and is told. */
static void
test_file_error(void)
{
    Paths paths = make_paths();
    const char *specs[] = { paths.spec, NULL };
    QmigChain *chain = qmig_chain_new(specs, NULL, NULL, NULL);
    Truth t = { 0 };
    g_autoptr(QmigDecoder) decoder = run("11.1-xbzrle", chain, &t, 300);

    g_assert_cmpint(g_rmdir(paths.dir), ==, 0);
    g_assert_true(qmig_chain_finish(chain, NULL));
    g_autoptr(JsonObject) report = qmig_chain_report(chain);
    const char *text = json_object_get_string(at(at(report, "heatmap"), "file_error"));
    g_assert_nonnull(strstr(text, "No such file"));
    qmig_chain_free(chain);
    truth_clear(&t);
    g_assert_cmpint(g_mkdir(paths.dir, 0700), ==, 0);
    remove_paths(&paths);
}

static uint64_t
fake_clock(void *now_ns)
{
    return *(uint64_t *)now_ns;
}

/* Slices become longer, counters stand still, and no record gets lost. */
static void
test_bounds(void)
{
    static const struct qmig_block ram = {
        sizeof ram, 0, "r", 1, PAGE, 5000ull * PAGE, 0
    };
    struct qmig_event block = { .kind = QMIG_EVENT_RAM_BLOCK,
                                .u.ram_block = { .block = &ram } };
    struct qmig_event page = { .kind = QMIG_EVENT_PAGE, .u.page = { .block = &ram } };
    struct map m = { 0 };
    uint64_t now = 1, n = 0, pages = 0;

    map_see(&m, &block, fake_clock, &now);
    for (unsigned i = 0; i < 70000; i++) {
        map_see(&m, &page, fake_clock, &now);
        now += 10 * 1000 * 1000;
    }
    page.u.page.offset = 4999ull * PAGE;
    map_see(&m, &page, fake_clock, &now);
    g_assert_cmpuint(m.blocks[0].pages[0].times, ==, 65535);
    g_assert_cmpuint(m.slice_ns, ==, (uint64_t)1600 * 1000 * 1000); /* of 700 s */
    g_assert_cmpuint(m.slice, <, SLICES_MAX);
    for (size_t i = 0; i < (size_t)SLICES_MAX * m.n_regions; i++) {
        n += m.cells[i];
    }
    g_assert_cmpuint(n, ==, 70001);
    g_assert_cmpuint(m.n_passes, ==, PASSES_MAX);
    for (unsigned i = 0; i < BUCKETS; i++) {
        pages += m.buckets[i];
    }
    g_assert_cmpuint(pages, ==, 2);
    g_assert_cmpuint(m.buckets[BUCKETS - 1], ==, 1);
    g_assert_cmpuint(map_bucket_from(BUCKETS - 1), ==, 32769);
    g_assert_cmpuint(map_bucket_to(4), ==, 8);
    map_clear(&m);
}

int
main(int argc, char **argv)
{
    static const char *const names[] = { "11.1-xbzrle", "7.2-return-path", "7.2-compress",
                                         "11.1-postcopy", "11.1-return-path" };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("/plugin/heatmap/golden/%s", names[i]);
        g_test_add_data_func(path, names[i], test_golden);
    }
    g_test_add_func("/plugin/heatmap/broken-off", test_broken_off);
    g_test_add_func("/plugin/heatmap/file-error", test_file_error);
    g_test_add_func("/plugin/heatmap/bad-configuration", test_bad_configuration);
    g_test_add_func("/plugin/heatmap/bounds", test_bounds);
    return g_test_run();
}
