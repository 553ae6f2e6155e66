/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The counting of pages, passes and devices is the plugin `stats`, as in a live migration. Here
 * come what it does not see: channels beside main, whose pages it is given one by one, and how
 * often each page was sent.
 */
#include "inspect/stat.h"

#include "plugin/chain.h"

#include <string.h>

enum {
    /* Counters of two bytes each, over all blocks. */
    COUNTERS_MAX = 16 << 20,
    HOTTEST = 10, /* listed */
};

/* How often the pages of a block were sent. */
typedef struct {
    char *name;
    uint64_t first; /* index of its first counter */
    uint64_t n;     /* counters */
    unsigned shift; /* log2 of the bytes one counter stands for */
    unsigned page_shift;
} Heat;

typedef struct {
    char *name;
    uint64_t bytes, packets, pages;
} Channel;

typedef struct {
    QmigChain *chain;
    GArray *heats;      /* Heat, by index of the stream's blocks */
    uint16_t *counters; /* saturating */
    uint64_t n_counters;
    GArray *channels; /* Channel, by first sight */
    const char *current;
    QmigReaderEnd end;
} Stat;

static void
heat_clear(gpointer data)
{
    g_free(((Heat *)data)->name);
}

static void
channel_clear(gpointer data)
{
    g_free(((Channel *)data)->name);
}

static void
stat_clear(Stat *s)
{
    g_clear_pointer(&s->chain, qmig_chain_free);
    g_clear_pointer(&s->heats, g_array_unref);
    g_clear_pointer(&s->channels, g_array_unref);
    g_free(s->counters);
    qmig_reader_end_clear(&s->end);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Stat, stat_clear)

static void
add_block(Stat *s, const struct qmig_block *block)
{
    Heat heat = { .name = g_strdup(block->name), .first = s->n_counters };
    uint64_t left = COUNTERS_MAX - s->n_counters;

    heat.page_shift = heat.shift = (unsigned)__builtin_ctz(block->page_size);
    while (left > 0 && block->used_length >> heat.shift > left) {
        heat.shift++;
    }
    heat.n = left > 0
                 ? (block->used_length + (UINT64_C(1) << heat.shift) - 1) >> heat.shift
                 : 0;
    heat.n = MIN(heat.n, left);
    s->n_counters += heat.n;
    g_array_append_val(s->heats, heat);
}

static inline void
count_page(Stat *s, const struct qmig_event_page *page)
{
    const Heat *heat = &g_array_index(s->heats, Heat, page->block->index);
    uint64_t i = page->offset >> heat->shift;

    if (G_LIKELY(i < heat->n)) {
        uint16_t *counter = &s->counters[heat->first + i];
        *counter = (uint16_t)(*counter + (*counter < UINT16_MAX));
    }
}

static Channel *
find_channel(Stat *s, const char *name)
{
    Channel fresh = { .name = NULL };

    for (guint i = 0; i < s->channels->len; i++) {
        Channel *channel = &g_array_index(s->channels, Channel, i);

        if (strcmp(channel->name, name) == 0) {
            return channel;
        }
    }
    fresh.name = g_strdup(name);
    g_array_append_val(s->channels, fresh);
    return &g_array_index(s->channels, Channel, s->channels->len - 1);
}

static const Heat *
find_heat(const Stat *s, const char *block, guint *index)
{
    for (guint i = 0; i < s->heats->len; i++) {
        const Heat *heat = &g_array_index(s->heats, Heat, i);

        if (strcmp(heat->name, block) == 0) {
            *index = i;
            return heat;
        }
    }
    return NULL;
}

/* A packet's pages, as if each had come alone. */
static bool
on_packet(Stat *s, Channel *channel, const struct qmig_event *ev, GError **error)
{
    const struct qmig_multifd_packet *p = ev->u.multifd_packet.packet;
    bool plain = (p->flags & QMIG_MULTIFD_COMPRESSION) == QMIG_MULTIFD_NONE;
    uint64_t each = p->normal_pages > 0 ? p->payload_length / p->normal_pages : 0;
    struct qmig_block block = { .size = sizeof block, .page_size = p->page_size };
    struct qmig_event page = *ev;
    guint index = 0;

    channel->packets++;
    channel->pages += p->normal_pages + p->zero_pages;
    if (p->device != NULL || find_heat(s, p->block, &index) == NULL) {
        return true;
    }
    block.index = index;
    block.name = p->block;
    page.kind = QMIG_EVENT_PAGE;
    for (uint32_t i = 0; i < p->normal_pages + p->zero_pages && i < p->n_offsets; i++) {
        bool zero = i >= p->normal_pages;

        page.wire_size = zero ? 0 : each;
        page.u.page = (struct qmig_event_page){
            .block = &block,
            .offset = p->offsets[i],
            .data = plain && !zero ? p->payload + i * each : (const uint8_t *)"",
            .length = plain && !zero ? (uint32_t)each : 1,
            .kind = zero ? QMIG_PAGE_ZERO : QMIG_PAGE_NORMAL,
        };
        count_page(s, &page.u.page);
        if (!qmig_chain_push(s->chain, &page, error)) {
            return false;
        }
    }
    return true;
}

static bool
on_page(Stat *s, const struct qmig_event *ev, GError **error)
{
    count_page(s, &ev->u.page);
    if (G_UNLIKELY(ev->u.page.kind == QMIG_PAGE_MAPPED)) {
        struct qmig_event page = *ev;

        page.u.page.kind = QMIG_PAGE_NORMAL;
        return qmig_chain_push(s->chain, &page, error);
    }
    return qmig_chain_push(s->chain, ev, error);
}

static bool
on_event(void *self, const QmigReaderChannel *where, const struct qmig_event *ev,
         GError **error)
{
    Stat *s = self;
    Channel *channel;

    if (G_UNLIKELY(where->name != s->current)) {
        find_channel(s, where->name);
        s->current = where->name;
    }
    if (G_LIKELY(s->channels->len == 1)) {
        channel = &g_array_index(s->channels, Channel, 0);
    } else {
        channel = find_channel(s, where->name);
    }
    channel->bytes += ev->wire_size;
    switch (ev->kind) {
    case QMIG_EVENT_PAGE:
        channel->pages++;
        return on_page(s, ev, error);
    case QMIG_EVENT_MULTIFD_PACKET:
        return on_packet(s, channel, ev, error);
    case QMIG_EVENT_RAM_BLOCK:
        add_block(s, ev->u.ram_block.block);
        break;
    default:
        break;
    }
    return where->kind == QMIG_READER_MULTIFD || qmig_chain_push(s->chain, ev, error);
}

/* The places sent most often, hottest first. */
static JsonObject *
describe_hottest(const Stat *s)
{
    JsonObject *list = json_object_new_array();
    struct {
        uint16_t sent;
        guint heat;
        uint64_t i;
    } top[HOTTEST] = { 0 };
    guint n = 0;

    for (guint h = 0; h < s->heats->len; h++) {
        const Heat *heat = &g_array_index(s->heats, Heat, h);

        for (uint64_t i = 0; i < heat->n; i++) {
            uint16_t sent = s->counters[heat->first + i];
            guint at = n < HOTTEST ? n : HOTTEST - 1;

            if (sent < 2 || (n == HOTTEST && sent <= top[at].sent)) {
                continue;
            }
            n += n < HOTTEST;
            for (; at > 0 && top[at - 1].sent < sent; at--) {
                top[at] = top[at - 1];
            }
            top[at].sent = sent;
            top[at].heat = h;
            top[at].i = i;
        }
    }
    for (guint t = 0; t < n; t++) {
        const Heat *heat = &g_array_index(s->heats, Heat, top[t].heat);
        JsonObject *entry = json_object_new_object();

        json_object_object_add(entry, "block", json_object_new_string(heat->name));
        json_object_object_add(entry, "offset",
                               json_object_new_uint64(top[t].i << heat->shift));
        json_object_object_add(entry, "length",
                               json_object_new_uint64(UINT64_C(1) << heat->shift));
        json_object_object_add(entry, "sent", json_object_new_uint64(top[t].sent));
        json_object_array_add(list, entry);
    }
    return list;
}

static JsonObject *
describe_channels(const Stat *s)
{
    JsonObject *list = json_object_new_array();

    for (guint i = 0; i < s->channels->len; i++) {
        const Channel *channel = &g_array_index(s->channels, Channel, i);
        JsonObject *entry = json_object_new_object();

        json_object_object_add(entry, "channel", json_object_new_string(channel->name));
        json_object_object_add(entry, "bytes", json_object_new_uint64(channel->bytes));
        json_object_object_add(entry, "packets",
                               json_object_new_uint64(channel->packets));
        json_object_object_add(entry, "pages", json_object_new_uint64(channel->pages));
        json_object_array_add(list, entry);
    }
    return list;
}

/* A file has no clock: the times of its passes would be those of the reading. */
static void
drop_times(JsonObject *report)
{
    JsonObject *list = json_object_object_get(report, "iterations");

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *iteration = json_object_array_get_idx(list, i);

        json_object_object_del(iteration, "start_ms");
        json_object_object_del(iteration, "duration_ms");
    }
}

static JsonObject *
describe(Stat *s)
{
    g_autoptr(JsonObject) reports = qmig_chain_report(s->chain);
    JsonObject *report = json_object_get(json_object_object_get(reports, "stats"));
    uint64_t bytes = 0;

    for (guint i = 0; i < s->channels->len; i++) {
        bytes += g_array_index(s->channels, Channel, i).bytes;
    }
    drop_times(report);
    json_object_object_add(report, "bytes", json_object_new_uint64(bytes));
    json_object_object_add(report, "complete", json_object_new_boolean(s->end.complete));
    json_object_object_add(report, "reason", json_object_new_string(s->end.reason));
    json_object_object_add(report, "channels", describe_channels(s));
    json_object_object_add(report, "hottest", describe_hottest(s));
    return report;
}

JsonObject *
qmig_stat_run(const char *path, unsigned every,
              void (*progress)(uint64_t done, uint64_t total), GError **error)
{
    g_autofree char *spec = g_strdup_printf("stats:sample=%u", every);
    const char *const specs[] = { spec, NULL };
    g_auto(Stat) s = { 0 };
    QmigReaderSink sink = { .self = &s, .event = on_event, .progress = progress };

    s.heats = g_array_new(FALSE, TRUE, sizeof(Heat));
    g_array_set_clear_func(s.heats, heat_clear);
    s.channels = g_array_new(FALSE, TRUE, sizeof(Channel));
    g_array_set_clear_func(s.channels, channel_clear);
    /* Untouched counters take no memory. */
    s.counters = g_malloc0_n(COUNTERS_MAX, sizeof *s.counters);
    s.chain = qmig_chain_new(specs, NULL, NULL, error);
    if (s.chain == NULL || !qmig_reader_run(path, &sink, &s.end, error) ||
        !qmig_chain_finish(s.chain, error)) {
        return NULL;
    }
    return describe(&s);
}
