/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See reader.h. */
#include "inspect/reader.h"

#include "inspect/input.h"
#include "stream/decoder.h"
#include "util/error.h"

/* A channel while it is read. */
typedef struct {
    QmigReaderChannel public;
    QmigInput *input;     /* owned */
    QmigDecoder *decoder; /* owned */
} Channel;

static void
channel_clear(Channel *channel)
{
    g_clear_pointer(&channel->input, qmig_input_free);
    g_clear_pointer(&channel->decoder, qmig_decoder_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Channel, channel_clear)

/* Lend the decoder the next piece of its file. */
static bool
feed(Channel *channel, const QmigReaderSink *sink, GError **error)
{
    const uint8_t *data;
    size_t len;

    if (!qmig_input_next(channel->input, &data, &len, error)) {
        return false;
    }
    if (len == 0) {
        qmig_decoder_eof(channel->decoder);
    } else {
        qmig_decoder_push(channel->decoder, data, len);
    }
    if (sink->progress != NULL) {
        sink->progress(sink->self, qmig_input_done(channel->input),
                       qmig_input_total(channel->input));
    }
    return true;
}

static bool
read_to_end(Channel *channel, const QmigReaderSink *sink, GError **error)
{
    struct qmig_event ev;

    for (;;) {
        switch (qmig_decoder_next(channel->decoder, &ev, error)) {
        case QMIG_DECODE_EVENT:
            if (!sink->event(sink->self, &channel->public, &ev, error)) {
                return false;
            }
            break;
        case QMIG_DECODE_NEED_MORE:
            if (!feed(channel, sink, error)) {
                return false;
            }
            break;
        case QMIG_DECODE_END:
            return true;
        case QMIG_DECODE_FAILED:
        default:
            g_prefix_error(error, "%s: ", channel->public.name);
            return false;
        }
    }
}

bool
qmig_reader_run(const char *path, const QmigReaderSink *sink, GError **error)
{
    g_auto(Channel) main = { .public = { .kind = QMIG_READER_MAIN, .name = "main" } };

    main.input = qmig_input_open(path, error);
    if (main.input == NULL) {
        return false;
    }
    main.decoder = qmig_decoder_new();
    return read_to_end(&main, sink, error);
}
