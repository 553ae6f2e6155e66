/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Statistics of a stream: what went over the wire, page kinds, passes, resent pages.
 *
 * Passes. The wire has no mark between two passes of QEMU over dirty memory (but for multifd's
 * FLUSH). What it has: QEMU sends a page at most once between two synchronisations of its
 * dirty bitmap, and it synchronises once more right before the END section of `ram`. So a new
 * pass begins
 *   1. with a page that was already sent in this pass;
 *   2. with the END section of `ram`, but for postcopy, where no synchronisation happens;
 *   3. with the first page or section behind a FLUSH that came after START.
 * The error: QEMU synchronises when little is left, sends the rest of the round, and goes on
 * with the new dirty pages; all of that up to the first page sent twice counts for the earlier
 * pass. So passes that share no page are one here, and passes without pages are not seen:
 * `iteration` is at most QEMU's dirty-sync-count (on recordings of 7.2: equal for idle guests,
 * one less for busy ones), but for rule 3, where it counts rounds through the block list. The
 * order of pages is not looked at: threads of the old `compress` capability mix it.
 *
 * The hot path is one page event: some additions, two bits in two bitmaps, no division, no
 * lookup, no clock. Numbers of a pass are differences of running totals, taken at its ends.
 */
#include "compress/codec.h"
#include "qmig-plugin.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Longer lists say nothing to a person; the last entry takes the rest. */
    ITERATIONS_MAX = 4096,
    DEVICES_MAX = 4096,
    /* As the decoder's bound on the block list. */
    BLOCKS_MAX = 4096,
    MACHINE_MAX = 255,
    PAGE_MAX = 65536,
    /* Pages whose bits are cleared together, when a pass first touches one of them. */
    CHUNK_SHIFT = 9,
    CHUNK_WORDS = (1 << CHUNK_SHIFT) / 64
};

/* Bound on all bitmaps together: two bits per page and a mark per chunk are 66 MiB for a guest
   of 1 TiB with 4 KiB pages. Memory is touched as pages are sent; blocks beyond go without. */
#define BITMAP_BYTES_MAX ((uint64_t)128 << 20)

enum { ZERO, NORMAL, XBZRLE, ZLIB, N_KINDS };
static const char *const kind_names[N_KINDS] = { "zero", "normal", "xbzrle", "zlib" };

struct counts {
    uint64_t pages[N_KINDS];
    uint64_t bytes[N_KINDS]; /* of their records on the wire */
    uint64_t resent, resent_bytes;
};

/* Records by kind of event; those without a name are newer than this plugin. */
static const char *const record_names[] = {
    [QMIG_EVENT_HEADER] = "header",
    [QMIG_EVENT_CONFIG] = "config",
    [QMIG_EVENT_CONFIG_SUB] = "config_sub",
    [QMIG_EVENT_SECTION] = "section",
    [QMIG_EVENT_FOOTER] = "footer",
    [QMIG_EVENT_RAM_SIZE] = "ram_size",
    [QMIG_EVENT_RAM_BLOCK] = "ram_block",
    [QMIG_EVENT_PAGE] = "page",
    [QMIG_EVENT_RAM_EOS] = "ram_eos",
    [QMIG_EVENT_RAM_FLUSH] = "ram_flush",
    [QMIG_EVENT_RAM_HOOK] = "ram_hook",
    [QMIG_EVENT_COMMAND] = "command",
    [QMIG_EVENT_BYTES] = "bytes",
    [QMIG_EVENT_EOF] = "eof",
    [QMIG_EVENT_DIRTY_BITMAP] = "dirty_bitmap",
    [QMIG_EVENT_DISK_BLOCK] = "disk_block",
    [QMIG_EVENT_COLO] = "colo",
    [QMIG_EVENT_VFIO] = "vfio",
};
enum { N_RECORDS = sizeof record_names / sizeof *record_names };

struct records {
    uint64_t count, bytes; /* notes are none */
};

struct iteration {
    struct counts counts;
    uint64_t start_ns;
    uint64_t duration_ns;
};

struct block {
    char *name; /* NULL: not announced */
    uint64_t length;
    uint64_t n_pages; /* 0: no bitmaps */
    unsigned page_shift;
    uint64_t *sent;       /* a bit per page: in any pass */
    uint64_t *sent_now;   /* a bit per page: in the pass that its chunk's mark tells */
    uint32_t *chunk_pass; /* the pass for which the bits of sent_now are good */
    struct counts counts;
};

struct device {
    char *name;
    uint32_t instance;
    uint64_t bytes;
};

struct sampling {
    uint64_t every; /* 0: off */
    uint64_t left;  /* normal pages until the next sample */
    QmigCodecState *codecs;
    const QmigCodec *lz4, *zstd;
    uint64_t pages, raw_bytes, lz4_bytes, zstd_bytes;
};

struct stats {
    struct qmig_host *host;
    uint64_t bytes; /* of the wire, all records */
    struct counts counts;
    struct records records[N_RECORDS]; /* [0]: of kinds that have no name here */
    struct block *blocks;              /* by index */
    uint32_t n_blocks;
    uint64_t bitmap_bytes;
    uint64_t untracked_blocks;

    struct iteration
        *iterations; /* n_listed; totals at the start while it is the current */
    uint32_t n_listed, n_allocated;
    uint32_t iteration; /* number of the current pass; 0: none yet */
    int round_ended;    /* a FLUSH came */
    int in_end;         /* inside ram's END section */
    int postcopy;
    uint64_t first_ns, last_ns; /* last_ns: end of the RAM data; 0: not yet */

    char machine[MACHINE_MAX + 1];
    uint64_t ram_total;
    struct device *devices;
    uint32_t n_devices, n_devices_allocated;
    uint64_t devices_unlisted;
    uint64_t device_bytes, tail_bytes, packaged_bytes, raw_bytes, description_bytes;
    uint64_t commands;
    int complete;
    struct sampling sampling;
};

/* ---- passes --------------------------------------------------------------------------- */

static uint64_t
page_bytes(const struct counts *c)
{
    return c->bytes[ZERO] + c->bytes[NORMAL] + c->bytes[XBZRLE] + c->bytes[ZLIB];
}

/* What the current pass has had up to @now_ns. Its entry holds the totals at its start. */
static struct iteration
so_far(const struct stats *s, const struct iteration *start, uint64_t now_ns)
{
    struct iteration it = *start;

    for (int kind = 0; kind < N_KINDS; kind++) {
        it.counts.pages[kind] = s->counts.pages[kind] - start->counts.pages[kind];
        it.counts.bytes[kind] = s->counts.bytes[kind] - start->counts.bytes[kind];
    }
    it.counts.resent = s->counts.resent - start->counts.resent;
    it.counts.resent_bytes = s->counts.resent_bytes - start->counts.resent_bytes;
    it.duration_ns = now_ns - start->start_ns;
    return it;
}

static int
have_room_for_iteration(struct stats *s)
{
    if (s->n_listed < s->n_allocated) {
        return 1;
    }
    if (s->n_listed == ITERATIONS_MAX) {
        return 0;
    }
    uint32_t n = s->n_allocated == 0 ? 16 : s->n_allocated * 2;
    struct iteration *grown = realloc(s->iterations, n * sizeof *grown);
    if (grown == NULL) {
        return 0;
    }
    s->iterations = grown;
    s->n_allocated = n;
    return 1;
}

static void
begin_iteration(struct stats *s)
{
    s->iteration++;
    s->round_ended = 0;
    s->last_ns = 0;
    if (!have_room_for_iteration(s)) {
        return; /* the last entry goes on */
    }
    uint64_t now_ns = s->host->now_ns(s->host);
    if (s->n_listed > 0) {
        struct iteration *last = &s->iterations[s->n_listed - 1];
        *last = so_far(s, last, now_ns);
    }
    s->iterations[s->n_listed++] = (struct iteration){
        .counts = s->counts,
        .start_ns = now_ns,
    };
}

static void
see_section(struct stats *s, const struct qmig_event_section *section)
{
    int is_end = section->type == QMIG_SECTION_END;

    if (strcmp(section->name, "ram") != 0) {
        return;
    }
    if (section->type == QMIG_SECTION_START) {
        return;
    }
    if (s->iteration == 0 || s->round_ended || (is_end && !s->postcopy)) {
        begin_iteration(s);
    }
    s->in_end = is_end;
}

static void
see_footer(struct stats *s)
{
    if (s->in_end) {
        s->in_end = 0;
        s->last_ns = s->host->now_ns(s->host);
    }
}

/* ---- blocks and pages ----------------------------------------------------------------- */

static void
free_bitmaps(struct block *b)
{
    free(b->sent);
    free(b->sent_now);
    free(b->chunk_pass);
    b->sent = b->sent_now = NULL;
    b->chunk_pass = NULL;
    b->n_pages = 0;
}

static void
make_bitmaps(struct stats *s, struct block *b, uint32_t page_size)
{
    uint64_t pages = b->length / page_size;
    uint64_t chunks = (pages >> CHUNK_SHIFT) + 1;
    uint64_t bytes = chunks * (2 * CHUNK_WORDS * sizeof *b->sent + sizeof *b->chunk_pass);

    if (bytes > BITMAP_BYTES_MAX - s->bitmap_bytes) {
        s->untracked_blocks++;
        return;
    }
    b->sent = calloc(chunks, CHUNK_WORDS * sizeof *b->sent);
    b->sent_now = calloc(chunks, CHUNK_WORDS * sizeof *b->sent_now);
    b->chunk_pass = calloc(chunks, sizeof *b->chunk_pass);
    b->n_pages = pages;
    if (b->sent == NULL || b->sent_now == NULL || b->chunk_pass == NULL) {
        free_bitmaps(b);
        s->untracked_blocks++;
        return;
    }
    s->bitmap_bytes += bytes;
}

static int
have_room_for_block(struct stats *s, uint32_t index)
{
    if (index < s->n_blocks) {
        return 1;
    }
    if (index >= BLOCKS_MAX) {
        return 0;
    }
    struct block *grown = realloc(s->blocks, (index + 1) * sizeof *grown);
    if (grown == NULL) {
        return 0;
    }
    memset(grown + s->n_blocks, 0, (index + 1 - s->n_blocks) * sizeof *grown);
    s->blocks = grown;
    s->n_blocks = index + 1;
    return 1;
}

/* Make @block known. Return: its entry, or NULL when there is no room for it. */
static struct block *
see_block(struct stats *s, const struct qmig_block *block)
{
    unsigned shift = 0;

    if (!have_room_for_block(s, block->index)) {
        s->untracked_blocks++;
        return NULL;
    }
    struct block *b = &s->blocks[block->index];
    if (b->name != NULL) {
        return b;
    }
    b->name = malloc((size_t)block->name_length + 1);
    if (b->name == NULL) {
        return NULL;
    }
    memcpy(b->name, block->name, block->name_length);
    b->name[block->name_length] = '\0';
    b->length = block->used_length;
    while (shift < 31 && (uint32_t)1 << shift < block->page_size) {
        shift++;
    }
    b->page_shift = shift;
    if (block->page_size != 0 && block->page_size == (uint32_t)1 << shift) {
        make_bitmaps(s, b, block->page_size);
    }
    return b;
}

/* Mark a page as sent; begin a pass when it was in this one. Return: it had been sent before. */
static int
mark_page(struct stats *s, struct block *b, uint64_t offset)
{
    uint64_t page = offset >> b->page_shift;

    if (page >= b->n_pages) {
        return 0; /* no bitmaps, or beyond the block */
    }
    uint64_t *now = &b->sent_now[page >> 6], *ever = &b->sent[page >> 6];
    uint64_t bit = (uint64_t)1 << (page & 63);
    uint32_t *pass = &b->chunk_pass[page >> CHUNK_SHIFT];

    if (*pass == s->iteration && (*now & bit) != 0) {
        begin_iteration(s);
    }
    if (*pass != s->iteration) {
        memset(&b->sent_now[(page >> CHUNK_SHIFT) * CHUNK_WORDS], 0,
               CHUNK_WORDS * sizeof *now);
        *pass = s->iteration;
    }
    int resent = (*ever & bit) != 0;
    *now |= bit;
    *ever |= bit;
    return resent;
}

static void
sample_page(struct sampling *sampling, const struct qmig_event_page *page)
{
    unsigned char code[PAGE_MAX];
    size_t len = page->length, n;

    sampling->left = sampling->every;
    if (len > sizeof code) {
        return;
    }
    sampling->pages++;
    sampling->raw_bytes += len;
    /* 0: it does not get smaller, and would travel as it is. */
    n = sampling->lz4->compress(sampling->codecs, 1, code, len, page->data, len);
    sampling->lz4_bytes += n != 0 ? n : len;
    n = sampling->zstd->compress(sampling->codecs, 1, code, len, page->data, len);
    sampling->zstd_bytes += n != 0 ? n : len;
}

static int
kind_of(uint16_t wire_kind)
{
    switch (wire_kind) {
    case QMIG_PAGE_ZERO:
        return ZERO;
    case QMIG_PAGE_NORMAL:
        return NORMAL;
    case QMIG_PAGE_XBZRLE:
        return XBZRLE;
    case QMIG_PAGE_ZLIB:
        return ZLIB;
    default:
        return -1; /* newer than this plugin */
    }
}

static inline void
count_page(struct counts *c, int kind, uint64_t bytes, int resent)
{
    c->pages[kind]++;
    c->bytes[kind] += bytes;
    if (resent) {
        c->resent++;
        c->resent_bytes += bytes;
    }
}

static void
see_page(struct stats *s, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;
    uint32_t index = page->block->index;
    int kind = kind_of(page->kind);
    struct block *b = NULL;

    if (kind < 0) {
        return;
    }
    if (s->iteration == 0 || s->round_ended) {
        begin_iteration(s);
    }
    if (index < s->n_blocks && s->blocks[index].name != NULL) {
        b = &s->blocks[index];
    } else {
        b = see_block(s, page->block); /* its announcement did not come by here */
    }
    if (b != NULL) {
        int resent = mark_page(s, b, page->offset);

        count_page(&b->counts, kind, ev->wire_size, resent);
        count_page(&s->counts, kind, ev->wire_size, resent);
    } else {
        count_page(&s->counts, kind, ev->wire_size, 0);
    }
    if (kind == NORMAL && s->sampling.every != 0 && --s->sampling.left == 0) {
        sample_page(&s->sampling, page);
    }
}

/* ---- everything else ------------------------------------------------------------------ */

static void
see_device(struct stats *s, const struct qmig_event_device *device)
{
    size_t length = strlen(device->name) + 1;

    s->device_bytes += device->length;
    if (s->n_devices == s->n_devices_allocated && s->n_devices < DEVICES_MAX) {
        uint32_t n = s->n_devices == 0 ? 64 : s->n_devices * 2;
        struct device *grown = realloc(s->devices, n * sizeof *grown);

        if (grown != NULL) {
            s->devices = grown;
            s->n_devices_allocated = n;
        }
    }
    char *name = s->n_devices < s->n_devices_allocated ? malloc(length) : NULL;
    if (name == NULL) {
        s->devices_unlisted++;
        return;
    }
    memcpy(name, device->name, length);
    s->devices[s->n_devices++] = (struct device){ name, device->instance,
                                                  device->length };
}

static void
see_command(struct stats *s, const struct qmig_event_command *command)
{
    s->commands++;
    if (command->command == QMIG_COMMAND_PACKAGED) {
        s->postcopy = 1;
    }
}

static void
see_bytes(struct stats *s, const struct qmig_event_bytes *bytes)
{
    switch (bytes->kind) {
    case QMIG_BYTES_TAIL:
        s->tail_bytes += bytes->length;
        break;
    case QMIG_BYTES_PACKAGED:
        s->packaged_bytes += bytes->length;
        break;
    default:
        s->raw_bytes += bytes->length;
        break;
    }
}

static void
see_config(struct stats *s, const struct qmig_event_config *config)
{
    size_t length = config->length < MACHINE_MAX ? config->length : MACHINE_MAX;

    memcpy(s->machine, config->machine, length);
    s->machine[length] = '\0';
}

static void
see_other(struct stats *s, const struct qmig_event *ev)
{
    switch (ev->kind) {
    case QMIG_EVENT_CONFIG:
        see_config(s, &ev->u.config);
        break;
    case QMIG_EVENT_SECTION:
        see_section(s, &ev->u.section);
        break;
    case QMIG_EVENT_FOOTER:
        see_footer(s);
        break;
    case QMIG_EVENT_RAM_SIZE:
        s->ram_total = ev->u.ram_size.total;
        break;
    case QMIG_EVENT_RAM_BLOCK:
        see_block(s, ev->u.ram_block.block);
        break;
    case QMIG_EVENT_RAM_FLUSH:
        s->round_ended = 1; /* in START without effect: the first pass clears it */
        break;
    case QMIG_EVENT_COMMAND:
        if (!(ev->flags & QMIG_EVENT_NOTE)) {
            see_command(s, &ev->u.command);
        }
        break;
    case QMIG_EVENT_BYTES:
        see_bytes(s, &ev->u.bytes);
        break;
    case QMIG_EVENT_DEVICE:
        see_device(s, &ev->u.device);
        break;
    case QMIG_EVENT_DESCRIPTION:
        s->description_bytes = ev->u.description.length;
        break;
    case QMIG_EVENT_END:
        s->complete = ev->u.end.complete != 0;
        break;
    default:
        break; /* counts with its bytes */
    }
}

static void
stats_observe(void *handle, const struct qmig_event *ev, uint32_t flags)
{
    struct stats *s = handle;

    (void)flags;
    s->bytes += ev->wire_size;
    if (!(ev->flags & QMIG_EVENT_NOTE)) {
        struct records *records = &s->records[ev->kind < N_RECORDS ? ev->kind : 0];
        records->count++;
        records->bytes += ev->wire_size;
    }
    if (ev->kind == QMIG_EVENT_PAGE) {
        see_page(s, ev);
        return;
    }
    if (s->first_ns == 0) { /* a stream does not begin with a page */
        s->first_ns = s->host->now_ns(s->host);
    }
    see_other(s, ev);
}

/* ---- report --------------------------------------------------------------------------- */

static void
report_counts(struct qmig_report *r, const struct counts *counts)
{
    for (int kind = 0; kind < N_KINDS; kind++) {
        r->number(r, kind_names[kind], counts->pages[kind]);
    }
    r->number(r, "resent", counts->resent);
}

static void
report_page_bytes(struct qmig_report *r, const struct counts *counts)
{
    r->begin_group(r, "page_bytes");
    for (int kind = 0; kind < N_KINDS; kind++) {
        r->number(r, kind_names[kind], counts->bytes[kind]);
    }
    r->number(r, "resent", counts->resent_bytes);
    r->end(r);
}

static void
report_records(const struct stats *s, struct qmig_report *r)
{
    r->begin_group(r, "records");
    for (int kind = 0; kind < N_RECORDS; kind++) {
        const char *name = kind == 0 ? "other" : record_names[kind];

        r->begin_group(r, name);
        r->number(r, "count", s->records[kind].count);
        r->number(r, "bytes", s->records[kind].bytes);
        r->end(r);
    }
    r->end(r);
}

static void
report_iterations(const struct stats *s, struct qmig_report *r)
{
    uint64_t now_ns = s->last_ns != 0 ? s->last_ns : s->host->now_ns(s->host);

    r->number(r, "iteration", s->iteration);
    r->number(r, "iterations_merged", s->iteration - s->n_listed);
    r->begin_list(r, "iterations");
    for (uint32_t i = 0; i < s->n_listed; i++) {
        struct iteration it = s->iterations[i];

        if (i + 1 == s->n_listed) {
            it = so_far(s, &it, now_ns);
        }
        r->begin_group(r, NULL);
        r->number(r, "number", i + 1);
        r->number(r, "bytes", page_bytes(&it.counts));
        report_counts(r, &it.counts);
        report_page_bytes(r, &it.counts);
        r->number(r, "start_ms", (it.start_ns - s->first_ns) / 1000000);
        r->number(r, "duration_ms", it.duration_ns / 1000000);
        r->end(r);
    }
    r->end(r);
}

static void
report_blocks(const struct stats *s, struct qmig_report *r)
{
    r->begin_list(r, "blocks");
    for (uint32_t i = 0; i < s->n_blocks; i++) {
        const struct block *b = &s->blocks[i];

        if (b->name == NULL) {
            continue;
        }
        r->begin_group(r, NULL);
        r->text(r, "name", b->name);
        r->number(r, "length", b->length);
        r->number(r, "bytes", page_bytes(&b->counts));
        report_counts(r, &b->counts);
        report_page_bytes(r, &b->counts);
        r->end(r);
    }
    r->end(r);
    r->number(r, "untracked_blocks", s->untracked_blocks);
}

static void
report_devices(const struct stats *s, struct qmig_report *r)
{
    r->begin_list(r, "devices");
    for (uint32_t i = 0; i < s->n_devices; i++) {
        r->begin_group(r, NULL);
        r->text(r, "name", s->devices[i].name);
        r->number(r, "instance", s->devices[i].instance);
        r->number(r, "bytes", s->devices[i].bytes);
        r->end(r);
    }
    r->end(r);
    r->number(r, "devices_unlisted", s->devices_unlisted);
    r->number(r, "device_bytes", s->device_bytes);
}

static void
report_sampling(const struct sampling *sampling, struct qmig_report *r)
{
    r->begin_group(r, "sampled");
    r->number(r, "pages", sampling->pages);
    r->number(r, "lz4_bytes", sampling->lz4_bytes);
    r->number(r, "zstd_bytes", sampling->zstd_bytes);
    r->number(r, "raw_bytes", sampling->raw_bytes);
    r->end(r);
}

static void
stats_report(void *handle, struct qmig_report *r)
{
    const struct stats *s = handle;

    r->number(r, "bytes", s->bytes);
    r->text(r, "machine", s->machine);
    r->begin_group(r, "pages");
    report_counts(r, &s->counts);
    r->end(r);
    report_page_bytes(r, &s->counts);
    report_records(s, r);
    r->number(r, "ram_total", s->ram_total);
    report_iterations(s, r);
    report_blocks(s, r);
    report_devices(s, r);
    r->number(r, "tail_bytes", s->tail_bytes);
    r->number(r, "packaged_bytes", s->packaged_bytes);
    r->number(r, "description_bytes", s->description_bytes);
    r->number(r, "commands", s->commands);
    r->number(r, "raw_bytes", s->raw_bytes);
    r->number(r, "complete", (uint64_t)s->complete);
    report_sampling(&s->sampling, r);
}

/* ---- life ----------------------------------------------------------------------------- */

static void *
stats_open(struct qmig_host *host)
{
    struct stats *s = calloc(1, sizeof *s);

    if (s == NULL) {
        host->error(host, "out of memory");
        return NULL;
    }
    s->host = host;
    return s;
}

static int
stats_config(void *handle, const char *key, const char *value)
{
    struct stats *s = handle;
    char *end;

    if (strcmp(key, "sample") != 0) {
        s->host->error(s->host, "no parameter \"%s\": there is \"sample\"", key);
        return -1;
    }
    /* strtoull() takes "-1" and " 1" as well. */
    unsigned long long every = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || every > UINT32_MAX) {
        s->host->error(s->host, "sample=%s: want a number from 0 to %lu", value,
                       (unsigned long)UINT32_MAX);
        return -1;
    }
    s->sampling.every = s->sampling.left = every;
    return 0;
}

static int
stats_get_ready(void *handle)
{
    struct sampling *sampling = &((struct stats *)handle)->sampling;

    if (sampling->every != 0) {
        sampling->codecs = qmig_codec_state_new();
        sampling->lz4 = qmig_codec_find("lz4");
        sampling->zstd = qmig_codec_find("zstd");
    }
    return 0;
}

static void
stats_close(void *handle)
{
    struct stats *s = handle;

    for (uint32_t i = 0; i < s->n_blocks; i++) {
        free(s->blocks[i].name);
        free_bitmaps(&s->blocks[i]);
    }
    for (uint32_t i = 0; i < s->n_devices; i++) {
        free(s->devices[i].name);
    }
    free(s->blocks);
    free(s->devices);
    free(s->iterations);
    qmig_codec_state_free(s->sampling.codecs);
    free(s);
}

static struct qmig_plugin plugin = {
    .name = "stats",
    .description = "count pages, passes, resent pages and device state",
    .config_help =
        "sample=N  compress every N-th normal page to see what lz4 and zstd would "
        "make of it (0: off)\n",
    .open = stats_open,
    .config = stats_config,
    .get_ready = stats_get_ready,
    .observe = stats_observe,
    .report = stats_report,
    .close = stats_close,
};

QMIG_REGISTER_PLUGIN(plugin)
