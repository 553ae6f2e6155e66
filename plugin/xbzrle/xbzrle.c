/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages that are sent again become QEMU's own XBZRLE records, which a destination takes whether
 * or not it was told of them (QEMU 7.2 to 11.1): no proxy is needed there.
 *
 *     event --> batch (copies) --> threads: compare with the cache, encode --> next, in order
 *
 * A batch ends when it is full, with any record that is no page, and with the input. QEMU ends a
 * section of RAM every 50 ms, so nothing is held back for longer. From where post-copy begins all
 * passes as it came: there a destination refuses XBZRLE, and no page is sent twice. Likewise with
 * COLO, where it keeps pages in another place.
 */
#include "compress/xbzrle.h"
#include "cache.h"
#include "qmig-plugin.h"
#include "util/units.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is used where memory is short, bytes. */
#define CACHE_MIN ((uint64_t)64 << 20)

enum {
    BATCH = 128, /* pages */
    PIECE = 8,   /* pages that a thread takes at a time */
    THREADS_MAX = 64,
    XBZRLE_HEAD = 3, /* bytes on the wire before the code: 0x01, be16 length */
};

/* A page on its way. */
struct job {
    struct qmig_event ev;
    uint8_t *page;    /* copy of what came */
    uint8_t *before;  /* in the cache; NULL: it is not there */
    uint8_t *code;    /* room for a page */
    ssize_t code_len; /* 0: nothing changed; -1: send the page */
};

struct xbzrle {
    struct qmig_host *host;
    uint64_t cache_bytes; /* 0: a quarter of the memory that is available */
    unsigned n_threads;   /* 0: as many as processors, up to four */
    struct cache *cache;  /* NULL: no page has come */
    uint32_t page_size;
    int passes; /* all that comes, as it came */

    struct job jobs[BATCH];
    uint8_t *buffers;
    unsigned n_jobs;
    unsigned n_compare; /* of them: those with a page to compare with */

    /* Workers: they take pieces of the batch while `round` is theirs. */
    pthread_t threads[THREADS_MAX];
    unsigned n_running;
    pthread_mutex_t lock;
    pthread_cond_t begin, done;
    uint64_t round;
    unsigned n_shared, next_job; /* jobs; the next to be taken */
    unsigned n_open;             /* jobs not yet done */
    int quit;

    uint64_t first, again, unchanged, overflowed, delta; /* pages */
    uint64_t bytes_in, bytes_out;
};

/* ---- encoding --------------------------------------------------------------------------- */

static void
encode(const struct xbzrle *x, struct job *job)
{
    job->code_len = -1;
    if (job->before != NULL) {
        job->code_len = qmig_xbzrle_encode(job->before, job->page, x->page_size,
                                           job->code, x->page_size - 1);
        memcpy(job->before, job->page, x->page_size);
    }
}

/* Take pieces until there are none. The lock is held on entry and on return. */
static void
work(struct xbzrle *x)
{
    while (x->next_job < x->n_shared) {
        unsigned from = x->next_job;
        unsigned to = from + PIECE < x->n_shared ? from + PIECE : x->n_shared;

        x->next_job = to;
        pthread_mutex_unlock(&x->lock);
        for (unsigned i = from; i < to; i++) {
            encode(x, &x->jobs[i]);
        }
        pthread_mutex_lock(&x->lock);
        x->n_open -= to - from;
        if (x->n_open == 0) {
            pthread_cond_signal(&x->done);
        }
    }
}

static void *
worker(void *data)
{
    struct xbzrle *x = data;
    uint64_t seen = 0;

    pthread_mutex_lock(&x->lock);
    for (;;) {
        while (x->round == seen && !x->quit) {
            pthread_cond_wait(&x->begin, &x->lock);
        }
        if (x->quit) {
            break;
        }
        seen = x->round;
        work(x);
    }
    pthread_mutex_unlock(&x->lock);
    return NULL;
}

static void
encode_batch(struct xbzrle *x)
{
    pthread_mutex_lock(&x->lock);
    x->next_job = 0;
    x->n_shared = x->n_open = x->n_jobs;
    x->round++;
    if (x->n_compare > PIECE) {
        pthread_cond_broadcast(&x->begin);
    }
    work(x);
    while (x->n_open > 0) {
        pthread_cond_wait(&x->done, &x->lock);
    }
    /* A worker that wakes up late finds nothing. */
    x->n_shared = 0;
    pthread_mutex_unlock(&x->lock);
}

/* ---- the batch -------------------------------------------------------------------------- */

static int
send_job(struct xbzrle *x, struct qmig_next *next, struct job *job)
{
    if (job->code_len == 0) {
        x->unchanged++;
        return 0;
    }
    if (job->code_len > 0) {
        /* Another plugin may not have told it. */
        if (job->ev.wire_size > x->page_size) {
            job->ev.wire_size += XBZRLE_HEAD + (uint64_t)job->code_len - x->page_size;
        }
        job->ev.u.page.kind = QMIG_PAGE_XBZRLE;
        job->ev.u.page.data = job->code;
        job->ev.u.page.length = (uint32_t)job->code_len;
        x->delta++;
    } else {
        job->ev.u.page.data = job->page;
        x->overflowed += job->before != NULL;
    }
    x->bytes_out += job->ev.u.page.length;
    return next->event(next, &job->ev, 0);
}

static int
flush(struct xbzrle *x, struct qmig_next *next)
{
    int result = 0;

    if (x->n_jobs == 0) {
        return 0;
    }
    encode_batch(x);
    x->n_compare = 0;
    for (unsigned i = 0; i < x->n_jobs && result == 0; i++) {
        result = send_job(x, next, &x->jobs[i]);
    }
    x->n_jobs = 0;
    cache_begin_batch(x->cache);
    return result;
}

static int
start(struct xbzrle *x, uint32_t page_size)
{
    x->page_size = page_size;
    x->cache = cache_new(x->cache_bytes, page_size);
    x->buffers = malloc((size_t)2 * BATCH * page_size);
    if (x->cache == NULL || x->buffers == NULL) {
        x->host->error(x->host, "no memory for a cache of %llu bytes",
                       (unsigned long long)x->cache_bytes);
        return -1;
    }
    for (unsigned i = 0; i < BATCH; i++) {
        x->jobs[i].page = x->buffers + (size_t)2 * i * page_size;
        x->jobs[i].code = x->jobs[i].page + page_size;
    }
    return 0;
}

static int
add_page(struct xbzrle *x, struct qmig_next *next, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;
    struct job *job;
    uint8_t *mine;

    x->bytes_in += page->length;
    /* Twice in one batch: the second is to be compared with the first. */
    if (cache_is_in_batch(x->cache, page->block, page->offset) && flush(x, next) != 0) {
        return -1;
    }
    job = &x->jobs[x->n_jobs++];
    job->ev = *ev;
    memcpy(job->page, page->data, page->length);
    job->before = cache_find(x->cache, page->block, page->offset);
    if (job->before != NULL) {
        x->again++;
        x->n_compare++;
    } else {
        x->first++;
        mine = cache_insert(x->cache, page->block, page->offset);
        if (mine != NULL) {
            memcpy(mine, page->data, page->length);
        }
    }
    return x->n_jobs == BATCH ? flush(x, next) : 0;
}

static int
take_page(struct xbzrle *x, struct qmig_next *next, const struct qmig_event *ev)
{
    const struct qmig_event_page *page = &ev->u.page;

    if (x->cache == NULL && start(x, page->block->page_size) != 0) {
        return -1;
    }
    if (page->kind == QMIG_PAGE_NORMAL && page->length == x->page_size &&
        x->page_size <= QMIG_XBZRLE_PAGE_MAX) {
        return add_page(x, next, ev);
    }
    if (flush(x, next) != 0) {
        return -1;
    }
    cache_remove(x->cache, page->block, page->offset);
    return next->event(next, ev, 0);
}

/* From here on pages must arrive as the source sent them. */
static int
ends_precopy(const struct qmig_event *ev)
{
    if (ev->kind != QMIG_EVENT_COMMAND) {
        return ev->kind == QMIG_EVENT_COLO;
    }
    switch (ev->u.command.command) {
    case QMIG_COMMAND_POSTCOPY_RAM_DISCARD:
    case QMIG_COMMAND_PACKAGED:
    case QMIG_COMMAND_POSTCOPY_LISTEN:
    case QMIG_COMMAND_POSTCOPY_RESUME:
    case QMIG_COMMAND_ENABLE_COLO:
        return 1;
    default:
        return 0;
    }
}

static int
xbzrle_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
             uint32_t flags)
{
    struct xbzrle *x = handle;

    if (!x->passes && ev->kind == QMIG_EVENT_PAGE) {
        return take_page(x, next, ev);
    }
    if (flush(x, next) != 0) {
        return -1;
    }
    x->passes = x->passes || ends_precopy(ev);
    return next->event(next, ev, flags);
}

/* The input ended. */
static int
xbzrle_finish(void *handle, struct qmig_next *next)
{
    return flush(handle, next);
}

/* ---- life ------------------------------------------------------------------------------- */

static void *
xbzrle_open(struct qmig_host *host)
{
    struct xbzrle *x = calloc(1, sizeof *x);

    if (x == NULL) {
        host->error(host, "no memory");
        return NULL;
    }
    x->host = host;
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->begin, NULL);
    pthread_cond_init(&x->done, NULL);
    return x;
}

static int
config_cache(struct xbzrle *x, const char *value)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_parse_size(value, &x->cache_bytes, &error)) {
        x->host->error(x->host, "cache=%s: %s", value, error->message);
        return -1;
    }
    if (x->cache_bytes == 0) {
        x->host->error(
            x->host, "cache=%s: without a cache there is nothing to compare with", value);
        return -1;
    }
    return 0;
}

static int
config_threads(struct xbzrle *x, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    if (value[0] < '0' || value[0] > '9' || *end != '\0' || n < 1 || n > THREADS_MAX) {
        x->host->error(x->host, "threads=%s: wanted a number from 1 to %d", value,
                       THREADS_MAX);
        return -1;
    }
    x->n_threads = (unsigned)n;
    return 0;
}

static int
xbzrle_config(void *handle, const char *key, const char *value)
{
    struct xbzrle *x = handle;

    if (strcmp(key, "cache") == 0) {
        return config_cache(x, value);
    }
    if (strcmp(key, "threads") == 0) {
        return config_threads(x, value);
    }
    x->host->error(x->host, "no parameter \"%s\": there are \"cache\" and \"threads\"",
                   key);
    return -1;
}

/* Memory that can be had without pushing a guest out of it, bytes. */
static uint64_t
available_memory(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");

    while (f != NULL && kib == 0 && fgets(line, sizeof line, f) != NULL) {
        (void)sscanf(line, "MemAvailable: %llu", &kib);
    }
    if (f != NULL) {
        fclose(f);
    }
    return (uint64_t)kib << 10;
}

static int
xbzrle_get_ready(void *handle)
{
    struct xbzrle *x = handle;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (x->cache_bytes == 0) {
        uint64_t quarter = available_memory() / 4;
        x->cache_bytes = quarter > CACHE_MIN ? quarter : CACHE_MIN;
    }
    if (x->n_threads == 0) {
        x->n_threads = processors > 4 ? 4 : processors < 1 ? 1 : (unsigned)processors;
    }
    /* The caller's is one of them. */
    while (x->n_running + 1 < x->n_threads) {
        int reason = pthread_create(&x->threads[x->n_running], NULL, worker, x);
        if (reason != 0) {
            x->host->error(x->host, "thread %u: %s", x->n_running + 1, strerror(reason));
            return -1;
        }
        x->n_running++;
    }
    return 0;
}

static void
xbzrle_report(void *handle, struct qmig_report *report)
{
    const struct xbzrle *x = handle;
    struct cache_counts cache = { 0, 0, 0 };

    if (x->cache != NULL) {
        cache_count(x->cache, &cache);
    }
    report->number(report, "pages_first", x->first);
    report->number(report, "pages_again", x->again);
    report->number(report, "pages_delta", x->delta);
    report->number(report, "pages_unchanged", x->unchanged);
    report->number(report, "pages_overflowed", x->overflowed);
    report->number(report, "bytes_in", x->bytes_in);
    report->number(report, "bytes_out", x->bytes_out);
    report->number(report, "cache_pages", cache.pages);
    report->number(report, "cache_room", cache.room);
    report->number(report, "cache_evicted", cache.evicted);
    report->number(report, "threads", x->n_threads);
}

static void
xbzrle_close(void *handle)
{
    struct xbzrle *x = handle;

    pthread_mutex_lock(&x->lock);
    x->quit = 1;
    pthread_cond_broadcast(&x->begin);
    pthread_mutex_unlock(&x->lock);
    for (unsigned i = 0; i < x->n_running; i++) {
        pthread_join(x->threads[i], NULL);
    }
    pthread_cond_destroy(&x->done);
    pthread_cond_destroy(&x->begin);
    pthread_mutex_destroy(&x->lock);
    cache_free(x->cache);
    free(x->buffers);
    free(x);
}

/* A second one would keep all pages once more, and find nothing left to do. */
static const char *const conflicts[] = { "xbzrle", NULL };

static struct qmig_plugin plugin = {
    .name = "xbzrle",
    .description = "send pages again as what changed in them, to any QEMU",
    .config_help =
        "cache=SIZE   memory for pages that were sent (default: a quarter of what is free)\n"
        "threads=N    that compare pages (default: one for each processor, up to 4)\n",
    .open = xbzrle_open,
    .config = xbzrle_config,
    .get_ready = xbzrle_get_ready,
    .event = xbzrle_event,
    .finish = xbzrle_finish,
    .report = xbzrle_report,
    .close = xbzrle_close,
    .conflicts = conflicts,
};

QMIG_REGISTER_PLUGIN(plugin)
