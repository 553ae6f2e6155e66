/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a session tells about itself. */
#include "proxy/link/link-priv.h"

static const char *const states[] = { [QMIG_LINK_UP] = "up",
                                      [QMIG_LINK_DARK] = "dark",
                                      [QMIG_LINK_CLOSED] = "closed",
                                      [QMIG_LINK_FAILED] = "failed" };
static const char *const kinds[] = { [QMIG_STREAM_MIGRATION] = "migration",
                                     [QMIG_STREAM_DISK] = "disk",
                                     [QMIG_STREAM_CONTROL] = "control" };
static const char *const codecs[] = { [QMIG_FRAME_PLAIN] = "none",
                                      [QMIG_FRAME_LZ4] = "lz4",
                                      [QMIG_FRAME_ZSTD] = "zstd",
                                      [QMIG_FRAME_ZSTD_HISTORY] = "zstd-history" };

static void
stats_locked(QmigLink *link, QmigLinkStats *stats)
{
    uint64_t blocked_us;

    *stats = (QmigLinkStats){
        .queued = link->queued,
        .plain_bytes = link->plain_bytes,
        .rate = (uint64_t)link->chooser.rate,
        .goodput = (uint64_t)link->goodput,
        .wires = link->n_wires,
        .breaks = link->breaks,
        .dark_ms = link->dark_us / 1000,
        .rtt_us = link->rtt_us,
    };
    link_totals(link, &stats->wire_bytes, &blocked_us);
    for (unsigned i = 0; i < link->n_streams; i++) {
        const QmigLinkStream *s = link->streams[i];
        for (const GList *l = s != NULL ? s->unacked.head : NULL; l != NULL;
             l = l->next) {
            stats->unconsumed += ((const Frame *)l->data)->plain_len;
        }
    }
    if (link->state == QMIG_LINK_DARK && link->was_up) {
        stats->dark_ms += (uint64_t)(qmig_now_us() - link->dark_since) / 1000;
    }
    stats->ratio = stats->wire_bytes > 0
                       ? (double)stats->plain_bytes / (double)stats->wire_bytes
                       : 1.0;
}

void
qmig_link_stats(QmigLink *link, QmigLinkStats *stats)
{
    pthread_mutex_lock(&link->lock);
    stats_locked(link, stats);
    pthread_mutex_unlock(&link->lock);
}

static void
add_number(JsonObject *o, const char *key, uint64_t value)
{
    json_object_object_add(o, key, json_object_new_uint64(value));
}

static void
add_text(JsonObject *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static JsonObject *
describe_wires(QmigLink *link)
{
    JsonObject *list = json_object_new_array();

    for (unsigned i = 0; i < QMIG_LINK_WIRES_MAX; i++) {
        LinkWire *w = link->wires[i];
        if (w != NULL) {
            JsonObject *o = json_object_new_object();
            g_autofree char *tls = qmig_wire_describe(w->wire);
            add_text(o, "peer", qmig_wire_peer(w->wire));
            add_text(o, "tls", tls);
            add_number(o, "bytes_out", qmig_wire_bytes_written(w->wire));
            add_number(o, "bytes_in", qmig_wire_bytes_read(w->wire));
            json_object_array_add(list, o);
        }
    }
    return list;
}

static JsonObject *
describe_streams(QmigLink *link)
{
    JsonObject *list = json_object_new_array();

    for (unsigned i = 0; i < link->n_streams; i++) {
        const QmigLinkStream *s = link->streams[i];
        if (s != NULL && s->announced && !s->freed) {
            JsonObject *o = json_object_new_object();
            add_text(o, "kind", kinds[s->open.kind]);
            add_number(o, "group", s->open.group);
            add_number(o, "index", s->open.index);
            add_number(o, "bytes_out", s->bytes_out);
            add_number(o, "bytes_in", s->bytes_in);
            add_number(o, "in_flight", s->in_flight);
            json_object_array_add(list, o);
        }
    }
    return list;
}

static void
add_codec(JsonObject *list, QmigChoice choice, const QmigChoiceMeasure *m,
          uint64_t frames)
{
    JsonObject *o = json_object_new_object();
    bool plain = choice.codec == QMIG_FRAME_PLAIN;

    add_text(o, "codec", codecs[choice.codec]);
    add_number(o, "level", (uint64_t)choice.level);
    add_number(o, "frames", frames);
    add_number(o, "bytes_per_s", plain ? 0 : (uint64_t)m->speed);
    json_object_object_add(o, "ratio", json_object_new_double(m->ratio));
    json_object_array_add(list, o);
}

static JsonObject *
describe_codecs(const QmigLink *link)
{
    JsonObject *list = json_object_new_array();
    const QmigChooser *c = &link->chooser;

    for (unsigned i = 0; i < QMIG_CHOICES; i++) {
        if (c->measures[i].wins > 0) {
            add_codec(list, qmig_chooser_choice(c, i), &c->measures[i],
                      c->measures[i].wins);
        }
    }
    if (link->history_measure.n > 0) {
        add_codec(list, (QmigChoice){ QMIG_FRAME_ZSTD_HISTORY, link->history_level },
                  &link->history_measure, link->history_measure.n);
    }
    return list;
}

JsonObject *
qmig_link_describe(QmigLink *link)
{
    JsonObject *o = json_object_new_object();
    QmigLinkStats stats;
    char id[2 * QMIG_LINK_ID + 1];

    pthread_mutex_lock(&link->lock);
    stats_locked(link, &stats);
    for (unsigned i = 0; i < QMIG_LINK_ID; i++) {
        g_snprintf(id + 2 * i, 3, "%02x", link->config.agreed.id[i]);
    }
    add_text(o, "name", link->config.name);
    add_text(o, "id", id);
    add_text(o, "state", states[link->state]);
    if (link->error != NULL) {
        add_text(o, "error", link->error->message);
    }
    json_object_object_add(
        o, "critical",
        json_object_new_boolean(link_is_critical_here(link) || link->peer_critical));
    json_object_object_add(o, "wires", describe_wires(link));
    json_object_object_add(o, "streams", describe_streams(link));
    add_number(o, "queued", stats.queued);
    add_number(o, "unconsumed", stats.unconsumed);
    add_number(o, "wire_bytes", stats.wire_bytes);
    add_number(o, "plain_bytes", stats.plain_bytes);
    add_number(o, "rate", stats.rate);
    add_number(o, "goodput", stats.goodput);
    json_object_object_add(o, "ratio", json_object_new_double(stats.ratio));
    add_number(o, "breaks", stats.breaks);
    add_number(o, "dark_ms", stats.dark_ms);
    add_number(o, "rtt_us", stats.rtt_us);
    json_object_object_add(o, "codecs", describe_codecs(link));
    pthread_mutex_unlock(&link->lock);
    return o;
}
