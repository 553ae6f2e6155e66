/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A rewriting chain behind the decoder: what goes in comes out; its reports are JSON. */
#include "plugin/chain.h"
#include "stream/decoder.h"
#include "stream/encoder.h"
#include "tests/fuzz/fuzz.h"

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

static QmigDecodeResult
drain(QmigDecoder *d, QmigChain *chain)
{
    struct qmig_event ev;
    QmigDecodeResult result;

    while ((result = qmig_decoder_next(d, &ev, NULL)) == QMIG_DECODE_EVENT) {
        g_assert_true(qmig_chain_push(chain, &ev, NULL));
    }
    return result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const specs[] = { "stats", "null", "stats", NULL };
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    Sink sink = { e, out };
    g_autoptr(QmigChain) chain = qmig_chain_new(specs, encode, &sink, NULL);

    g_assert_nonnull(chain);
    qmig_decoder_push(d, data, size);
    if (drain(d, chain) == QMIG_DECODE_NEED_MORE) {
        json_object_put(qmig_chain_report(chain));
        qmig_decoder_eof(d);
        (void)drain(d, chain);
    }
    g_assert_true(qmig_chain_finish(chain, NULL));
    g_assert_cmpuint(out->len, ==, qmig_decoder_offset(d));
    g_assert_cmpmem(out->data, out->len, data, out->len);
    g_autoptr(JsonObject) report = qmig_chain_report(chain);
    g_assert_true(json_object_object_get_ex(report, "stats", NULL));
    g_assert_nonnull(json_object_to_json_string(report));
    return 0;
}
