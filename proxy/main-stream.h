/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Main's forward bytes: decoder, plugins, and for rewriting plugins the encoder. */
#ifndef QMIG_PROXY_MAIN_STREAM_H
#define QMIG_PROXY_MAIN_STREAM_H

#include "proxy/group.h"
#include "proxy/relay.h"

typedef struct QmigMainStream QmigMainStream;

/* What is known about a stream that has ended. */
typedef enum {
    QMIG_STREAM_COMPLETE,
    QMIG_STREAM_INCOMPLETE, /* it was cut */
    QMIG_STREAM_UNKNOWN,    /* it could not be read to the end */
} QmigStreamEnd;

/* What main's connection knows of the end before the stream's last events are read. */
typedef struct {
    char *failure;           /* owned (nullable); what went wrong */
    bool only_if_incomplete; /* it is no failure when the stream is whole */
    int64_t last_pong;       /* value; -1 = none */
} QmigStreamFate;

/* Opens the plugins. Errors: CONFIG, PLUGIN. */
QmigMainStream *qmig_main_stream_new(QmigGroup *group, const char *const *plugins,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_main_stream_free(QmigMainStream *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigMainStream, qmig_main_stream_free)

/* A plugin rewrites: the output is not what came in. */
bool qmig_main_stream_rewrites(const QmigMainStream *s);

/* The directory of the capture that a plugin asks for, or NULL. Borrowed; before the first byte. */
const char *qmig_main_stream_record(const QmigMainStream *s);

/* A plugin has to see the events before their bytes are written. */
bool qmig_main_stream_looks_first(const QmigMainStream *s);

/* What the plugins say on the writes of a channel, main or another (qmig_pacer_new()). (transfer
   full) (nullable) To be freed before @s. */
QmigPacer *qmig_main_stream_pacer(QmigMainStream *s, uint32_t channel, uint32_t id);

/* As qmig_proxy_set(). Threads: any. */
bool qmig_main_stream_set(QmigMainStream *s, const char *name, const char *value,
                          bool try, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Where a rewritten stream goes. */
void qmig_main_stream_set_output(QmigMainStream *s, QmigRelay *relay);

/* Do not try to read the stream, and say why. Before the first byte. */
void qmig_main_stream_go_raw(QmigMainStream *s, const char *reason);

/**
 * qmig_main_stream_take() - the next bytes
 *
 * Observing: always true; what cannot be read turns the mode to raw. Rewriting: writes what
 * the plugins make of the bytes. Threads: the relay's.
 * Errors (rewriting): PROTOCOL, LIMIT, UNSUPPORTED, PLUGIN, CLOSED, IO, CANCELLED.
 */
bool qmig_main_stream_take(QmigMainStream *s, const uint8_t *data, size_t len,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Publish what the plugins report, when that is due. Return: when it will be due. */
QmigDeadline qmig_main_stream_tick(QmigMainStream *s);

/* Publish what the plugins report now. Threads: the relay's. */
void qmig_main_stream_publish(QmigMainStream *s);

/**
 * qmig_main_stream_finish() - no byte will follow
 * @fate:   what plugins are told of the end
 * @end:    (out) whether the stream is complete
 * @reason: (out) (transfer full) what is missing, or why that is not known
 *
 * Call once. Writes what a rewriting plugin held back. Threads: the relay's.
 */
bool qmig_main_stream_finish(QmigMainStream *s, const QmigStreamFate *fate,
                             QmigStreamEnd *end, char **reason,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* It ends without that, because of @why: what plugins are told. Threads: the relay's. */
void qmig_main_stream_give_up(QmigMainStream *s, const char *why, int64_t last_pong);

/* Threads: any. */
bool qmig_main_stream_has_postcopy(const QmigMainStream *s); /* 16-byte ADVISE was seen */
bool qmig_main_stream_has_return_path(const QmigMainStream *s);
/* Add "mode" and, where raw, "raw_reason" to a channel of the snapshot. */
void qmig_main_stream_describe(QmigMainStream *s, JsonObject *channel);
/* The last published report. (transfer full) */
JsonObject *qmig_main_stream_report(QmigMainStream *s);

#endif
