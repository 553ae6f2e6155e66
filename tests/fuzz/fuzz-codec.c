/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Page codecs: codes from anybody; and bytes from anybody, there and back. */
#include "compress/codec.h"
#include "compress/history.h"
#include "tests/fuzz/fuzz.h"

#include <glib.h>

static void
check(QmigCodecState *state, const QmigCodec *codec, const uint8_t *data, size_t size)
{
    static const size_t lengths[] = { 1, 100, 4096, 65536 };
    size_t bound = codec->bound(size);

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        /* Of exactly the length, so that ASan sees a byte too many. */
        g_autofree uint8_t *out = g_malloc(lengths[i]);
        if (codec->decompress(state, out, lengths[i], data, size)) {
            fuzz_touch(out, lengths[i]);
        }
    }
    if (bound == 0 || size == 0) {
        return;
    }
    g_autofree uint8_t *code = g_malloc(bound);
    g_autofree uint8_t *again = g_malloc(size);
    size_t n = codec->compress(state, data[0] % 4, code, bound, data, size);
    g_assert_cmpuint(n, >, 0);
    g_assert_true(codec->decompress(state, again, size, code, n));
    g_assert_cmpmem(again, size, data, size);
    g_assert_false(codec->decompress(state, again, size, code, n - 1));
}

/* Pieces that build on each other; what was refused once stays so. */
static void
check_history(const uint8_t *data, size_t size)
{
    QmigHistoryOut *h = qmig_history_out_new();
    g_autofree uint8_t *out = g_malloc(65536);
    bool ok = true;

    for (size_t i = 0, n = size / 3 + 1; i < size; i += n) {
        bool took = qmig_history_take(h, out, 65536 >> (data[i] % 16), data + i,
                                      MIN(n, size - i));
        g_assert_true(ok || !took);
        ok = took;
    }
    qmig_history_out_free(h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    QmigCodecState *state = qmig_codec_state_new();

    for (const QmigCodec *codec = qmig_codec_table(); codec->name != NULL; codec++) {
        check(state, codec, data, size);
    }
    qmig_codec_state_free(state);
    check_history(data, size);
    return 0;
}
