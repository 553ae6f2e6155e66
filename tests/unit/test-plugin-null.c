/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The null plugin on whole streams: what leaves the encoder is what came into the decoder. */
#include "plugin/chain.h"
#include "stream/decoder.h"
#include "stream/encoder.h"
#include "tests/lib/sample-stream.h"

#include <glib.h>

typedef struct {
    QmigEncoder *encoder;
    GByteArray *out;
} Sink;

static bool
encode(void *data, const struct qmig_event *ev, GError **error)
{
    Sink *sink = data;
    const struct iovec *iov;
    size_t bytes;

    if (!qmig_encoder_put(sink->encoder, ev, error)) {
        return false;
    }
    size_t n = qmig_encoder_pending(sink->encoder, &iov, &bytes);
    for (size_t i = 0; i < n; i++) {
        g_byte_array_append(sink->out, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    qmig_encoder_clear(sink->encoder);
    return true;
}

/* Push what there is to be had from @decoder down @chain. */
static void
drain(QmigDecoder *decoder, QmigChain *chain)
{
    g_autoptr(GError) error = NULL;
    struct qmig_event ev;
    QmigDecodeResult result;

    while ((result = qmig_decoder_next(decoder, &ev, &error)) == QMIG_DECODE_EVENT) {
        bool ok = qmig_chain_push(chain, &ev, &error);
        g_assert_no_error(error);
        g_assert_true(ok);
    }
    g_assert_no_error(error);
}

static void
assert_unchanged(const GByteArray *in, const char *const *specs, size_t step)
{
    g_autoptr(QmigEncoder) encoder = qmig_encoder_new();
    g_autoptr(QmigDecoder) decoder = qmig_decoder_new();
    Sink sink = { encoder, g_byte_array_new() };
    g_autoptr(QmigChain) chain = qmig_chain_new(specs, encode, &sink, NULL);

    for (size_t at = 0; at < in->len; at += step) {
        qmig_decoder_push(decoder, in->data + at, MIN(step, in->len - at));
        drain(decoder, chain);
    }
    qmig_decoder_eof(decoder);
    drain(decoder, chain);
    g_assert_true(qmig_chain_finish(chain, NULL));
    g_assert_cmpmem(sink.out->data, sink.out->len, in->data, in->len);
    g_byte_array_unref(sink.out);
}

static void
test_stream_passes_unchanged_at_any_split(gconstpointer make)
{
    g_autoptr(GByteArray) stream = ((GByteArray * (*)(void)) make)();
    static const char *const once[] = { "null", NULL };
    static const char *const among_others[] = { "stats", "null", "null", "stats", NULL };
    static const size_t steps[] = { 1, 7, 4096, 1 << 20 };

    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        assert_unchanged(stream, once, steps[i]);
        assert_unchanged(stream, among_others, steps[i]);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/null/precopy-passes-unchanged-at-any-split", sample_precopy,
                         test_stream_passes_unchanged_at_any_split);
    g_test_add_data_func("/null/postcopy-passes-unchanged-at-any-split", sample_postcopy,
                         test_stream_passes_unchanged_at_any_split);
    return g_test_run();
}
