/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The xbzrle and zero plugins before a destination that does with pages what QEMU does: at the end
 * of every section its memory is the guest's.
 */
#include "compress/xbzrle.h"
#include "plugin/chain.h"

#include <glib.h>
#include <string.h>

enum { PAGE = 4096, N_PAGES = 512, ROUNDS = 30 };

typedef struct {
    struct qmig_block blocks[2];
    uint8_t *guest[2], *destination[2];
    unsigned n_delta, n_normal, n_zero;
    bool in_postcopy;
    uint64_t wire_bytes; /* of page records, as their events say */
    QmigChain *chain;
} World;

static bool
load(void *data, const struct qmig_event *ev, GError **error)
{
    World *w = data;
    const struct qmig_event_page *page = &ev->u.page;

    (void)error;
    if (ev->kind == QMIG_EVENT_RAM_EOS) {
        for (int b = 0; b < 2; b++) {
            g_assert_cmpmem(w->destination[b], N_PAGES * PAGE, w->guest[b],
                            N_PAGES * PAGE);
        }
    }
    if (ev->kind != QMIG_EVENT_PAGE) {
        return true;
    }
    w->wire_bytes += ev->wire_size;
    uint8_t *target = w->destination[page->block->index] + page->offset;
    switch (page->kind) {
    case QMIG_PAGE_NORMAL:
        g_assert_cmpuint(page->length, ==, PAGE);
        memcpy(target, page->data, PAGE);
        w->n_normal++;
        break;
    case QMIG_PAGE_ZERO:
        g_assert_cmpuint(page->length, ==, 1);
        memset(target, *page->data, PAGE);
        w->n_zero++;
        break;
    case QMIG_PAGE_XBZRLE:
        g_assert_false(w->in_postcopy);
        g_assert_cmpuint(page->length, <, PAGE);
        g_assert_true(qmig_xbzrle_decode(target, PAGE, page->data, page->length));
        w->n_delta++;
        break;
    default:
        g_assert_not_reached();
    }
    return true;
}

static World *
world_new(const char *const *specs)
{
    World *w = g_new0(World, 1);
    g_autoptr(GError) error = NULL;

    for (int b = 0; b < 2; b++) {
        w->blocks[b] = (struct qmig_block){ .size = sizeof w->blocks[b],
                                            .index = (uint32_t)b,
                                            .name = b == 0 ? "pc.ram" : "vga.vram",
                                            .name_length = b == 0 ? 6 : 8,
                                            .page_size = PAGE,
                                            .used_length = N_PAGES * PAGE };
        w->guest[b] = g_malloc0(N_PAGES * PAGE);
        /* Whatever was there before is not to be relied on. */
        w->destination[b] = g_malloc(N_PAGES * PAGE);
        memset(w->destination[b], 0xee, N_PAGES * PAGE);
    }
    w->chain = qmig_chain_new(specs, load, w, &error);
    g_assert_no_error(error);
    return w;
}

static void
world_free(World *w)
{
    qmig_chain_free(w->chain);
    for (int b = 0; b < 2; b++) {
        g_free(w->guest[b]);
        g_free(w->destination[b]);
    }
    g_free(w);
}

static void
push(World *w, const struct qmig_event *ev)
{
    g_autoptr(GError) error = NULL;
    bool ok = qmig_chain_push(w->chain, ev, &error);

    g_assert_no_error(error);
    g_assert_true(ok);
}

static void
send_page(World *w, int b, unsigned page)
{
    /* The payload is good only while it is pushed. */
    g_autofree uint8_t *data = g_memdup2(w->guest[b] + (size_t)page * PAGE, PAGE);
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_PAGE };

    ev.wire_size = 8 + PAGE;
    ev.u.page.block = &w->blocks[b];
    ev.u.page.offset = (uint64_t)page * PAGE;
    ev.u.page.kind = QMIG_PAGE_NORMAL;
    ev.u.page.data = data;
    ev.u.page.length = PAGE;
    push(w, &ev);
    memset(data, 0xdd, PAGE);
}

static void
send_kind(World *w, uint32_t kind)
{
    struct qmig_event ev = { .size = sizeof ev, .kind = kind };

    push(w, &ev);
}

static void
send_command(World *w, uint32_t command)
{
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_COMMAND };

    ev.u.command.command = command;
    push(w, &ev);
}

/* Change some bytes, all, none, or clear it. */
static void
dirty(World *w, int b, unsigned page)
{
    uint8_t *p = w->guest[b] + (size_t)page * PAGE;

    switch (g_test_rand_int_range(0, 6)) {
    case 0:
        for (int i = 0; i < PAGE; i++) {
            p[i] = (uint8_t)g_test_rand_int();
        }
        break;
    case 1:
        memset(p, 0, PAGE);
        break;
    case 2:
        break;
    default:
        for (int n = g_test_rand_int_range(1, 40); n > 0; n--) {
            p[g_test_rand_int_range(0, PAGE)] = (uint8_t)g_test_rand_int();
        }
    }
}

static void
first_pass(World *w)
{
    for (int b = 0; b < 2; b++) {
        for (unsigned page = 0; page < N_PAGES; page++) {
            dirty(w, b, page);
            send_page(w, b, page);
        }
    }
    send_kind(w, QMIG_EVENT_RAM_EOS);
}

static void
test_memory_arrives(gconstpointer data)
{
    const char *specs[] = { data, NULL };
    World *w = world_new(specs);

    first_pass(w);
    for (int round = 0; round < ROUNDS; round++) {
        for (int n = g_test_rand_int_range(0, 600); n > 0; n--) {
            int b = g_test_rand_int_range(0, 2);
            unsigned page = (unsigned)g_test_rand_int_range(0, N_PAGES / (1 + round % 8));
            dirty(w, b, page);
            send_page(w, b, page);
        }
        send_kind(w, QMIG_EVENT_RAM_EOS);
    }
    if (g_str_has_prefix(data, "xbzrle")) {
        g_assert_cmpuint(w->n_delta, >, 0);
    }
    world_free(w);
}

/* Whatever begins post-copy (or COLO) on the wire: from there pages come as they are. */
static void
test_postcopy_passes(void)
{
    static const char *const specs[] = { "xbzrle:cache=8M", NULL };
    static const uint32_t commands[] = { QMIG_COMMAND_POSTCOPY_RAM_DISCARD,
                                         QMIG_COMMAND_PACKAGED,
                                         QMIG_COMMAND_POSTCOPY_LISTEN,
                                         QMIG_COMMAND_ENABLE_COLO, 0 };

    for (guint i = 0; i < G_N_ELEMENTS(commands); i++) {
        World *w = world_new(specs);

        first_pass(w);
        send_command(w, QMIG_COMMAND_PING);
        first_pass(w);
        g_assert_cmpuint(w->n_delta, >, 0);
        if (commands[i] != 0) {
            send_command(w, commands[i]);
        } else {
            send_kind(w, QMIG_EVENT_COLO);
        }
        w->in_postcopy = true;
        w->n_normal = 0;
        first_pass(w);
        g_assert_cmpuint(w->n_normal, ==, 2 * N_PAGES);
        world_free(w);
    }
}

/* What `stats` behind it would count is what the encoder writes. */
static void
test_wire_size(void)
{
    static const char *const specs[] = { "zero", "xbzrle:cache=8M", NULL };
    World *w = world_new(specs);

    send_page(w, 0, 1); /* zero */
    send_kind(w, QMIG_EVENT_FOOTER);
    g_assert_cmpuint(w->wire_bytes, ==, 8 + 1);
    w->guest[0][2 * PAGE] = 1;
    send_page(w, 0, 2);
    send_kind(w, QMIG_EVENT_FOOTER);
    g_assert_cmpuint(w->wire_bytes, ==, 9 + 8 + PAGE);
    w->guest[0][2 * PAGE] = 2;
    send_page(w, 0, 2); /* no byte stays, one is new: 00 01 02 */
    send_kind(w, QMIG_EVENT_FOOTER);
    g_assert_cmpuint(w->wire_bytes, ==, 9 + 8 + PAGE + 8 + 3 + 3);
    world_free(w);
}

/* The input ends in the middle of a batch. */
static void
test_nothing_stays_behind(void)
{
    static const char *const specs[] = { "xbzrle:cache=8M", NULL };
    World *w = world_new(specs);
    g_autoptr(GError) error = NULL;

    send_page(w, 0, 1);
    send_page(w, 0, 2);
    g_assert_cmpuint(w->n_normal, ==, 0);
    g_assert_true(qmig_chain_finish(w->chain, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(w->n_normal, ==, 2);
    world_free(w);
}

/* Another record about the page makes what the cache has of it old. */
static void
test_zero_record_is_noticed(void)
{
    static const char *const specs[] = { "xbzrle:cache=8M", NULL };
    static const uint8_t fill = 0;
    World *w = world_new(specs);

    first_pass(w);
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_PAGE };
    ev.u.page.block = &w->blocks[0];
    ev.u.page.offset = 7 * PAGE;
    ev.u.page.kind = QMIG_PAGE_ZERO;
    ev.u.page.data = &fill;
    ev.u.page.length = 1;
    memset(w->guest[0] + 7 * PAGE, 0, PAGE);
    push(w, &ev);
    w->guest[0][7 * PAGE + 9] = 1;
    send_page(w, 0, 7);
    send_kind(w, QMIG_EVENT_RAM_EOS);
    world_free(w);
}

static void
test_bad_configuration(void)
{
    static const struct {
        const char *spec, *part;
    } cases[] = {
        { "xbzrle:cache=0", "cache=0" },
        { "xbzrle:cache=12Q", "12Q" },
        { "xbzrle:threads=65", "1 to 64" },
        { "xbzrle:threads=-1", "1 to 64" },
        { "xbzrle:size=1", "no parameter \"size\"" },
        { "zero:a=1", "a=1" },
        { "xbzrle:cache=99999999999T", "cache=" },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *specs[] = { cases[i].spec, NULL };
        World w = { 0 };
        g_autoptr(GError) error = NULL;
        QmigChain *chain = qmig_chain_new(specs, load, &w, &error);
        g_assert_null(chain);
        g_assert_nonnull(error);
        if (strstr(error->message, cases[i].part) == NULL) {
            g_error("%s: %s", cases[i].spec, error->message);
        }
    }
}

static void
test_order(void)
{
    static const char *const cases[][4] = {
        { "xbzrle", "zero", NULL },
        { "xbzrle", "stats", "xbzrle", NULL },
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        World w = { 0 };
        g_autoptr(GError) error = NULL;
        QmigChain *chain = qmig_chain_new(cases[i], load, &w, &error);
        g_assert_null(chain);
        g_assert_nonnull(strstr(error->message, "xbzrle"));
    }
}

int
main(int argc, char **argv)
{
    static const char *const specs[] = {
        "xbzrle:cache=16M",
        "xbzrle:cache=16M,threads=1",
        "xbzrle:cache=16M,threads=7",
        /* So small that pages give way all the time. */
        "xbzrle:cache=512K,threads=3",
        "xbzrle:cache=4096",
        "xbzrle:cache=1",
        "zero",
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(specs); i++) {
        g_autofree char *path = g_strdup_printf("/plugin/memory-arrives/%s", specs[i]);
        g_test_add_data_func(path, specs[i], test_memory_arrives);
    }
    g_test_add_func("/plugin/xbzrle/nothing-stays-behind", test_nothing_stays_behind);
    g_test_add_func("/plugin/xbzrle/postcopy-passes", test_postcopy_passes);
    g_test_add_func("/plugin/xbzrle/wire-size", test_wire_size);
    g_test_add_func("/plugin/xbzrle/zero-record-is-noticed", test_zero_record_is_noticed);
    g_test_add_func("/plugin/xbzrle/bad-configuration", test_bad_configuration);
    g_test_add_func("/plugin/xbzrle/order", test_order);
    return g_test_run();
}
