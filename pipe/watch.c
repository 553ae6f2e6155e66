/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See watch.h. */
#include "pipe/watch.h"

#include "plugin/chain.h"
#include "stream/decoder.h"

#include <pthread.h>
#include <string.h>

struct QmigPipeWatch {
    pthread_mutex_t lock; /* guards all: reports come from another thread */
    QmigChain *chain;     /* NULL: no stream has begun */
    QmigDecoder *decoder; /* NULL: not looking, or not any more */
    bool begun;           /* the first byte has come */
    char *note;           /* owned; why it is not looking */
};

QmigPipeWatch *
qmig_pipe_watch_new(void)
{
    QmigPipeWatch *watch = g_new0(QmigPipeWatch, 1);

    pthread_mutex_init(&watch->lock, NULL);
    return watch;
}

void
qmig_pipe_watch_free(QmigPipeWatch *watch)
{
    if (watch != NULL) {
        g_clear_pointer(&watch->decoder, qmig_decoder_free);
        g_clear_pointer(&watch->chain, qmig_chain_free);
        g_free(watch->note);
        pthread_mutex_destroy(&watch->lock);
        g_free(watch);
    }
}

/* The first byte tells a stream from anything else well enough: the decoder tells the rest. */
static void
begin(QmigPipeWatch *watch, const uint8_t *data)
{
    static const char *const stats[] = { "stats", NULL };
    g_autoptr(GError) error = NULL;

    watch->begun = true;
    if (data[0] != 'Q') {
        watch->note = g_strdup("no migration stream");
        return;
    }
    watch->chain = qmig_chain_new(stats, NULL, NULL, &error);
    if (watch->chain == NULL) {
        watch->note = g_strdup(error->message);
        return;
    }
    watch->decoder = qmig_decoder_new();
}

static void
look(QmigPipeWatch *watch)
{
    g_autoptr(GError) error = NULL;
    QmigDecodeResult result;
    struct qmig_event ev;

    while ((result = qmig_decoder_next(watch->decoder, &ev, &error)) ==
           QMIG_DECODE_EVENT) {
        if (!qmig_chain_push(watch->chain, &ev, &error)) {
            result = QMIG_DECODE_FAILED;
            break;
        }
    }
    if (result == QMIG_DECODE_END && !qmig_chain_finish(watch->chain, &error)) {
        result = QMIG_DECODE_FAILED;
    }
    if (result == QMIG_DECODE_FAILED) {
        watch->note = g_strdup(error->message);
    }
    if (result == QMIG_DECODE_FAILED || result == QMIG_DECODE_END) {
        g_clear_pointer(&watch->decoder, qmig_decoder_free);
    }
}

void
qmig_pipe_watch_push(QmigPipeWatch *watch, const void *data, size_t len)
{
    if (watch == NULL) {
        return;
    }
    pthread_mutex_lock(&watch->lock);
    if (!watch->begun && len > 0) {
        begin(watch, data);
    }
    if (watch->decoder != NULL) {
        if (len > 0) {
            qmig_decoder_push(watch->decoder, data, len);
        } else {
            qmig_decoder_eof(watch->decoder);
        }
        look(watch);
    }
    pthread_mutex_unlock(&watch->lock);
}

void
qmig_pipe_watch_report(QmigPipeWatch *watch, JsonObject *report)
{
    JsonObject *stream = NULL;

    pthread_mutex_lock(&watch->lock);
    if (watch->chain != NULL) {
        g_autoptr(JsonObject) all = qmig_chain_report(watch->chain);

        if (json_object_object_get_ex(all, "stats", &stream)) {
            json_object_get(stream);
        }
    }
    json_object_object_add(report, "stream", stream);
    json_object_object_add(report, "stream_note",
                           watch->note != NULL ? json_object_new_string(watch->note)
                                               : NULL);
    pthread_mutex_unlock(&watch->lock);
}
