/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tunnel's page codec costs: pack-speed [MIB [ROUNDS [fast|small]]]. A guest of MIB (default 256) is
 * sent three times: all pages new, one word of each page changed, all pages new again. Prints CPU
 * seconds per GB of stream, medians, of the near end (put and take) and of the far end, as JSON.
 */
#include "proxy/link/pack.h"
#include "proxy/link/unpack.h"
#include "util/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 4096, HEAD = 512, MAX_ROUNDS = 31, PASSES = 3 };

typedef struct {
    uint8_t *stream; /* one pass */
    size_t len, cap;
    size_t n_pages;
    uint64_t sink;
} Input;

static double
cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
check(bool ok)
{
    if (!ok) {
        g_error("the stream could not be made");
    }
}

/* Header, the block list, the beginning of a section. */
static void
put_head(Input *in, QmigWriter *w)
{
    check(qmig_writer_be64(w, UINT64_C(0x5145564d00000003)) && qmig_writer_u8(w, 1) &&
          qmig_writer_be32(w, 1) && qmig_writer_cstr(w, "ram", 3) &&
          qmig_writer_be32(w, 0) && qmig_writer_be32(w, 4) &&
          qmig_writer_be64(w, in->n_pages * PAGE | 4) &&
          qmig_writer_cstr(w, "pc.ram", 6) && qmig_writer_be64(w, in->n_pages * PAGE) &&
          qmig_writer_be64(w, 0x10) && qmig_writer_u8(w, 0x7e) && qmig_writer_be32(w, 1));
}

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void
put_page(QmigWriter *w, size_t number, unsigned pass)
{
    uint64_t state = (number + 1) * 7919 + (pass == 2 ? UINT64_C(1) << 40 : 0);
    uint64_t words[PAGE / sizeof(uint64_t)];

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        words[i] = next_random(&state);
    }
    words[number % G_N_ELEMENTS(words)] += pass;
    check(qmig_writer_be64(w, number * PAGE | 8 | (number == 0 ? 0 : 0x20)) &&
          (number > 0 || qmig_writer_cstr(w, "pc.ram", 6)) &&
          qmig_writer_bytes(w, words, sizeof words));
}

static void
make_pass(Input *in, unsigned pass)
{
    QmigWriter w = qmig_writer(in->stream, in->cap);

    if (pass == 0) {
        put_head(in, &w);
    }
    check(qmig_writer_u8(&w, 2) && qmig_writer_be32(&w, 1));
    for (size_t i = 0; i < in->n_pages; i++) {
        put_page(&w, i, pass);
    }
    check(qmig_writer_be64(&w, 0x10) && qmig_writer_u8(&w, 0x7e) &&
          qmig_writer_be32(&w, 1));
    in->len = w.len;
}

static bool
drop(void *self, const struct iovec *iov, size_t n, GError **error)
{
    (void)error;
    for (size_t i = 0; i < n; i++) {
        *(uint64_t *)self += iov[i].iov_len;
    }
    return true;
}

/* One pass through both ends. */
static void
run(Input *in, QmigPack *p, QmigUnpack *u, const QmigCancel *now, double cost[2])
{
    static uint8_t buf[QMIG_BATCH_MAX];
    double near = 0, far = 0, start, middle;
    ssize_t n;

    for (size_t at = 0, len; at < in->len; at += len) {
        uint8_t *read = qmig_pack_buffer(p, &len);

        len = MIN(len, in->len - at);
        memcpy(read, in->stream + at, len); /* as read(2) leaves it: in the cache */
        start = cpu_seconds();
        check(qmig_pack_put(p, read, len, NULL, NULL));
        near += cpu_seconds() - start;
        do {
            start = cpu_seconds();
            n = qmig_pack_take(p, buf, sizeof buf, now, NULL);
            middle = cpu_seconds();
            if (n > 0) {
                check(qmig_unpack_take(u, buf, (size_t)n, drop, &in->sink, NULL));
            }
            near += middle - start;
            far += cpu_seconds() - middle;
        } while (n > 0);
    }
    cost[0] = near / (double)in->len * 1e9;
    cost[1] = far / (double)in->len * 1e9;
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void
measure(Input *in, QmigPackEffort effort, unsigned rounds, const char *name)
{
    static const char *const passes[PASSES] = { "first", "one-word", "rewritten" };
    static double cost[PASSES][2][MAX_ROUNDS];
    g_autoptr(QmigCancel) now = qmig_cancel_new();

    qmig_cancel_raise(now);
    for (unsigned round = 0; round < rounds; round++) {
        QmigPackConfig config = { .cache_size = in->n_pages * PAGE };
        g_autoptr(QmigPack) p = qmig_pack_new(&config, NULL);
        g_autoptr(QmigUnpack) u = qmig_unpack_new(config.cache_size, NULL);

        qmig_pack_set_effort(p, effort);
        for (unsigned pass = 0; pass < PASSES; pass++) {
            double one[2];

            make_pass(in, pass);
            run(in, p, u, now, one);
            cost[pass][0][round] = one[0];
            cost[pass][1][round] = one[1];
        }
    }
    for (unsigned pass = 0; pass < PASSES; pass++) {
        qsort(cost[pass][0], rounds, sizeof(double), compare);
        qsort(cost[pass][1], rounds, sizeof(double), compare);
        printf(", \"%s %s\": { \"near\": %.3f, \"far\": %.3f }", name, passes[pass],
               cost[pass][0][rounds / 2], cost[pass][1][rounds / 2]);
    }
}

int
main(int argc, char **argv)
{
    unsigned mib = argc > 1 ? (unsigned)atoi(argv[1]) : 256;
    unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 5;
    Input in = { .n_pages = (size_t)mib * (1 << 20) / PAGE };

    if (mib < 1 || mib > 65536 || rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: pack-speed [MIB [ROUNDS [fast|small]]]\n");
        return 1;
    }
    in.cap = in.n_pages * (PAGE + 8) + HEAD;
    in.stream = g_malloc(in.cap);
    printf("{ \"mib\": %u, \"rounds\": %u", mib, rounds);
    if (argc <= 3 || strcmp(argv[3], "fast") == 0) {
        measure(&in, QMIG_PACK_FAST, rounds, "fast");
    }
    if (argc <= 3 || strcmp(argv[3], "small") == 0) {
        measure(&in, QMIG_PACK_SMALL, rounds, "small");
    }
    printf(" }\n");
    g_free(in.stream);
    return in.sink == 0;
}
