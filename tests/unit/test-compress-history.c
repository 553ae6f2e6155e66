/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pieces of one long zstd frame: each with all before it as its context. */
#include "compress/history.h"

#include <glib.h>
#include <stdint.h>

enum { PIECE = 200000, PIECES = 12 };

static uint8_t piece[PIECE], code[2 * PIECE], back[PIECE + 1];

/* Random bytes: alone nothing makes them smaller. */
static void
make_piece(guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    for (size_t i = 0; i < PIECE; i++) {
        piece[i] = (uint8_t)g_rand_int(rand);
    }
}

static size_t
put_piece(QmigHistoryIn *in)
{
    g_assert_cmpuint(qmig_history_bound(PIECE), <=, sizeof code);
    size_t n = qmig_history_put(in, code, qmig_history_bound(PIECE), piece, PIECE);
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpuint(n, <=, qmig_history_bound(PIECE));
    return n;
}

static void
take_piece(QmigHistoryOut *out, size_t n)
{
    back[PIECE] = 0x5a;
    g_assert_true(qmig_history_take(out, back, PIECE, code, n));
    g_assert_cmpmem(back, PIECE, piece, PIECE);
    g_assert_cmphex(back[PIECE], ==, 0x5a);
}

static void
test_what_came_before_costs_nothing(void)
{
    QmigHistoryIn *in = qmig_history_in_new(3);
    QmigHistoryOut *out = qmig_history_out_new();

    for (guint32 i = 0; i < PIECES; i++) {
        make_piece(i % (PIECES / 2));
        size_t n = put_piece(in);
        if (i < PIECES / 2) {
            g_assert_cmpuint(n, >, PIECE * 9 / 10);
        } else {
            g_assert_cmpuint(n, <, PIECE / 100);
        }
        take_piece(out, n);
    }
    qmig_history_in_free(in);
    qmig_history_out_free(out);
}

static void
test_each_level_can_be_taken(void)
{
    QmigHistoryIn *in = qmig_history_in_new(1);
    QmigHistoryOut *out = qmig_history_out_new();

    for (int level = 1; level <= 9; level++) {
        make_piece(7);
        take_piece(out, put_piece(in));
        take_piece(out, put_piece(in));
        qmig_history_in_set_level(in, level);
    }
    qmig_history_in_free(in);
    qmig_history_out_free(out);
}

/* One byte, or all; the next one has to find its end, too. */
static void
test_any_length(void)
{
    static const size_t lengths[] = { 1, 2, 4096, PIECE, 1, PIECE - 1 };
    QmigHistoryIn *in = qmig_history_in_new(3);
    QmigHistoryOut *out = qmig_history_out_new();

    make_piece(3);
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        size_t n = qmig_history_put(in, code, qmig_history_bound(lengths[i]), piece,
                                    lengths[i]);
        g_assert_true(qmig_history_take(out, back, lengths[i], code, n));
        g_assert_cmpmem(back, lengths[i], piece, lengths[i]);
    }
    qmig_history_in_free(in);
    qmig_history_out_free(out);
}

static void
test_pieces_that_are_damaged_or_missing_are_refused(void)
{
    for (int how = 0; how < 4; how++) {
        QmigHistoryIn *in = qmig_history_in_new(3);
        QmigHistoryOut *out = qmig_history_out_new();
        size_t n;

        make_piece(1);
        n = put_piece(in);
        switch (how) {
        case 0: /* cut */
            g_assert_false(qmig_history_take(out, back, PIECE, code, n - 1));
            break;
        case 1: /* shorter than it says */
            g_assert_false(qmig_history_take(out, back, PIECE + 1, code, n));
            break;
        case 2: /* the first is missing */
            n = put_piece(in);
            g_assert_false(qmig_history_take(out, back, PIECE, code, n));
            break;
        default: /* no zstd */
            g_assert_false(qmig_history_take(out, back, PIECE, piece, PIECE));
            break;
        }
        /* Nor what follows: its context is not there. */
        n = put_piece(in);
        g_assert_false(qmig_history_take(out, back, PIECE, code, n));
        qmig_history_in_free(in);
        qmig_history_out_free(out);
    }
}

/* A frame that wants more memory than was agreed. */
static void
test_a_larger_window_is_refused(void)
{
    /* Magic; window descriptor: 2^(10+18) bytes; an empty last block. */
    static const uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 1, 0, 0 };
    QmigHistoryOut *out = qmig_history_out_new();

    g_assert_false(qmig_history_take(out, back, 1, frame, sizeof frame));
    qmig_history_out_free(out);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/history/what-came-before-costs-nothing",
                    test_what_came_before_costs_nothing);
    g_test_add_func("/history/each-level-can-be-taken", test_each_level_can_be_taken);
    g_test_add_func("/history/any-length", test_any_length);
    g_test_add_func("/history/pieces-that-are-damaged-or-missing-are-refused",
                    test_pieces_that_are_damaged_or_missing_are_refused);
    g_test_add_func("/history/a-larger-window-is-refused",
                    test_a_larger_window_is_refused);
    return g_test_run();
}
