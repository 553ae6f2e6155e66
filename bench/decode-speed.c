/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How fast a recorded stream is read from memory on one core.
 *
 *     decode-speed FILE [ROUNDS]
 *
 * Each round measures, interleaved: memcpy of the stream (what merely moving it costs), the
 * decoder alone, the decoder feeding the stats plugin, and decoder + encoder. The decoder
 * steps over the bodies of pages, which is its job; the round "decode+sum" reads every byte as
 * well, as a plugin that looks into the pages would. The input goes in as pieces of 256 KiB,
 * as the proxy reads it. Prints one JSON object: GB/s, min, median, max.
 */
#include "plugin/chain.h"
#include "stream/decoder.h"
#include "stream/encoder.h"
#include "util/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 256 << 10, MAX_ROUNDS = 1000 };

typedef struct {
    const uint8_t *data;
    size_t len;
    uint8_t *copy; /* room for len bytes */
    uint64_t sink; /* results nobody needs, so that nothing is optimised away */
} Input;

typedef void (*Handler)(void *data, const struct qmig_event *ev);

static void
decode(Input *in, Handler handler, void *data)
{
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    g_autoptr(GError) error = NULL;
    QmigDecodeResult result = QMIG_DECODE_NEED_MORE;
    struct qmig_event ev;

    for (size_t at = 0; at < in->len; at += PIECE) {
        qmig_decoder_push(d, in->data + at, MIN((size_t)PIECE, in->len - at));
        while ((result = qmig_decoder_next(d, &ev, &error)) == QMIG_DECODE_EVENT) {
            handler(data, &ev);
        }
        if (result == QMIG_DECODE_FAILED) {
            g_error("%s", error->message);
        }
    }
    in->sink += qmig_decoder_offset(d);
}

static void
count_event(void *data, const struct qmig_event *ev)
{
    *(uint64_t *)data += ev->wire_size;
}

static void
sum_event(void *data, const struct qmig_event *ev)
{
    uint64_t sum = 0, word;

    if (ev->kind == QMIG_EVENT_PAGE) {
        for (uint32_t i = 0; i + sizeof word <= ev->u.page.length; i += sizeof word) {
            memcpy(&word, ev->u.page.data + i, sizeof word);
            sum += word;
        }
    }
    *(uint64_t *)data += sum;
}

static void
push_event(void *data, const struct qmig_event *ev)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_chain_push(data, ev, &error)) {
        g_error("%s", error->message);
    }
}

static void
encode_event(void *data, const struct qmig_event *ev)
{
    if (qmig_encoder_is_full(data)) {
        qmig_encoder_clear(data);
    }
    if (!qmig_encoder_put(data, ev, NULL)) {
        g_error("an event could not be encoded");
    }
}

static void
run_memcpy(Input *in)
{
    memcpy(in->copy, in->data, in->len);
    in->sink += in->copy[in->len / 2];
}

static void
run_decode(Input *in)
{
    decode(in, count_event, &in->sink);
}

static void
run_sum(Input *in)
{
    decode(in, sum_event, &in->sink);
}

static void
run_stats(Input *in)
{
    static const char *const specs[] = { "stats", NULL };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain) chain = qmig_chain_new(specs, NULL, NULL, &error);

    if (chain == NULL) {
        g_error("%s", error->message);
    }
    decode(in, push_event, chain);
}

static void
run_encode(Input *in)
{
    g_autoptr(QmigEncoder) e = qmig_encoder_new();

    decode(in, encode_event, e);
}

static const struct {
    const char *name;
    void (*run)(Input *);
} cases[] = {
    { "memcpy", run_memcpy },        { "decode", run_decode },
    { "decode+stats", run_stats },   { "decode+sum", run_sum },
    { "decode+encode", run_encode },
};

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;
    unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 11;
    static double rate[G_N_ELEMENTS(cases)][MAX_ROUNDS];

    if (argc < 2 || rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: decode-speed FILE [ROUNDS]\n");
        return 1;
    }
    if (!g_file_get_contents(argv[1], &data, &len, &error)) {
        fprintf(stderr, "decode-speed: %s\n", error->message);
        return 1;
    }
    Input in = { .data = (const uint8_t *)data, .len = len, .copy = g_malloc0(len) };
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            int64_t start = qmig_now_us();
            cases[i].run(&in);
            rate[i][round] = (double)len / 1e3 / (double)(qmig_now_us() - start + 1);
        }
    }
    printf("{ \"bytes\": %zu, \"rounds\": %u", (size_t)len, rounds);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        qsort(rate[i], rounds, sizeof(double), compare);
        printf(", \"%s\": { \"min\": %.2f, \"median\": %.2f, \"max\": %.2f }",
               cases[i].name, rate[i][0], rate[i][rounds / 2], rate[i][rounds - 1]);
    }
    printf(" }\n");
    g_free(in.copy);
    return in.sink == 0;
}
