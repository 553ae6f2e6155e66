/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks at the return path for SHUT, which alone proves that the destination has loaded the
 * guest. What is not understood ends the looking, nothing else.
 */
#include "proxy/return-stream.h"

void
qmig_return_stream_init(QmigReturnStream *s, QmigGroup *group, bool readable)
{
    s->group = group;
    s->decoder = readable ? qmig_rp_decoder_new() : NULL;
    s->shut = -1;
    s->pongs = 0;
    s->last_pong = -1;
    s->is_read = readable;
}

void
qmig_return_stream_clear(QmigReturnStream *s)
{
    g_clear_pointer(&s->decoder, qmig_rp_decoder_free);
}

static void
take_message(QmigReturnStream *s, const QmigRpMessage *msg)
{
    if (msg->type == QMIG_RP_PONG) {
        g_atomic_int_inc(&s->pongs);
        __atomic_store_n(&s->last_pong, (gint64)msg->value, __ATOMIC_RELEASE);
    }
    if (msg->type == QMIG_RP_SHUT) {
        __atomic_store_n(&s->shut, (gint64)msg->value, __ATOMIC_RELEASE);
        if (msg->value == 0) {
            g_atomic_int_set(&s->group->shut, 1);
        }
    }
}

void
qmig_return_stream_take(QmigReturnStream *s, const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    QmigRpMessage msg;

    if (s->decoder == NULL) {
        return;
    }
    qmig_rp_decoder_push(s->decoder, data, len);
    for (;;) {
        switch (qmig_rp_decoder_next(s->decoder, &msg, &error)) {
        case QMIG_DECODE_EVENT:
            take_message(s, &msg);
            break;
        case QMIG_DECODE_FAILED:
            qmig_group_notice(s->group, "return path: not read from here on: %s",
                              error->message);
            g_atomic_int_set(&s->is_read, 0);
            g_clear_pointer(&s->decoder, qmig_rp_decoder_free);
            return;
        case QMIG_DECODE_NEED_MORE:
        case QMIG_DECODE_END:
            return;
        }
    }
}

int64_t
qmig_return_stream_shut(const QmigReturnStream *s)
{
    return __atomic_load_n(&s->shut, __ATOMIC_ACQUIRE);
}

int64_t
qmig_return_stream_last_pong(const QmigReturnStream *s)
{
    return __atomic_load_n(&s->last_pong, __ATOMIC_ACQUIRE);
}

JsonObject *
qmig_return_stream_describe(const QmigReturnStream *s)
{
    JsonObject *object = json_object_new_object();
    int64_t shut = qmig_return_stream_shut(s);

    if (shut >= 0) {
        json_object_object_add(object, "shut", json_object_new_int64(shut));
    }
    json_object_object_add(object, "pongs",
                           json_object_new_int(g_atomic_int_get(&s->pongs)));
    return object;
}
