/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A row a second of what a migration sends, as CSV: for a plot, or for `tail -f`.
 *
 *     qmig proxy … --plugin ./csv.so:file=rate.csv
 *
 * An example of a plugin outside of qmig's sources: it needs the installed headers and nothing
 * else (see the Makefile). Strict C99; compiles as C++20, too.
 */
#include <qmig-plugin.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000u

/* What was counted: since the last row, and in all. */
struct counts {
    uint64_t bytes;                      /* on the wire */
    uint64_t normal, zero, delta, other; /* pages */
};

struct csv {
    struct qmig_host *host;
    FILE *file; /* NULL: not opened */
    char *path; /* owned */
    uint64_t every_ns;
    uint64_t began_ns, row_ns; /* the first event; the last row. 0: none yet */
    uint64_t rows, peak;       /* peak: bytes/s of the busiest row */
    struct counts now, total;
    int failed; /* errno of a write */
};

static void *
csv_open(struct qmig_host *host)
{
    struct csv *csv = (struct csv *)calloc(1, sizeof *csv);

    if (csv == NULL) {
        host->error(host, "no memory");
        return NULL;
    }
    csv->host = host;
    csv->every_ns = 1000u * NS_PER_MS;
    return csv;
}

static int
csv_config(void *handle, const char *key, const char *value)
{
    struct csv *csv = (struct csv *)handle;
    char *end;

    if (strcmp(key, "file") == 0) {
        free(csv->path);
        csv->path = (char *)malloc(strlen(value) + 1);
        if (csv->path == NULL) {
            csv->host->error(csv->host, "no memory");
            return -1;
        }
        strcpy(csv->path, value);
        return 0;
    }
    if (strcmp(key, "every") == 0) {
        unsigned long ms = strtoul(value, &end, 10);

        if (*end != '\0' || end == value || ms < 1 || ms > 3600000) {
            csv->host->error(csv->host, "every=%s: want 1 to 3600000 milliseconds",
                             value);
            return -1;
        }
        csv->every_ns = (uint64_t)ms * NS_PER_MS;
        return 0;
    }
    csv->host->error(csv->host, "%s=%s: want file=FILE or every=MS", key, value);
    return -1;
}

/* qmig opens plugins more than once, to hear a refusal early: nothing is written before the
   first event. */
static int
csv_get_ready(void *handle)
{
    struct csv *csv = (struct csv *)handle;

    if (csv->path == NULL) {
        csv->host->error(csv->host, "file=FILE is missing: where the rows go");
        return -1;
    }
    return 0;
}

static void
count(struct counts *c, const struct qmig_event *ev)
{
    c->bytes += ev->wire_size;
    if (ev->kind != QMIG_EVENT_PAGE) {
        return;
    }
    c->normal += ev->u.page.kind == QMIG_PAGE_NORMAL;
    c->zero += ev->u.page.kind == QMIG_PAGE_ZERO;
    c->delta += ev->u.page.kind == QMIG_PAGE_XBZRLE;
    c->other += ev->u.page.kind == QMIG_PAGE_ZLIB || ev->u.page.kind == QMIG_PAGE_MAPPED;
}

static void
add(struct counts *sum, const struct counts *more)
{
    sum->bytes += more->bytes;
    sum->normal += more->normal;
    sum->zero += more->zero;
    sum->delta += more->delta;
    sum->other += more->other;
}

static void
begin(struct csv *csv, uint64_t now_ns)
{
    csv->began_ns = csv->row_ns = now_ns;
    csv->file = fopen(csv->path, "w");
    if (csv->file == NULL) {
        csv->failed = errno;
        csv->host->debug(csv->host, "%s: %s", csv->path, strerror(errno));
        return;
    }
    setvbuf(csv->file, NULL, _IOLBF, BUFSIZ);
    fputs("seconds,bytes,bytes_per_s,normal,zero,delta,other\n", csv->file);
}

static void
write_row(struct csv *csv, uint64_t now_ns)
{
    const struct counts *c = &csv->now;
    uint64_t ms = (now_ns - csv->row_ns) / NS_PER_MS;
    uint64_t rate = ms > 0 ? c->bytes * 1000 / ms : 0;

    if (csv->file != NULL && fprintf(csv->file,
                                     "%.3f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
                                     ",%" PRIu64 ",%" PRIu64 "\n",
                                     (double)(now_ns - csv->began_ns) / 1e9, c->bytes,
                                     rate, c->normal, c->zero, c->delta, c->other) < 0) {
        csv->failed = errno;
    }
    csv->peak = rate > csv->peak ? rate : csv->peak;
    csv->rows++;
    csv->row_ns = now_ns;
    add(&csv->total, c);
    memset(&csv->now, 0, sizeof csv->now);
}

static void
csv_observe(void *handle, const struct qmig_event *ev, uint32_t flags)
{
    struct csv *csv = (struct csv *)handle;
    uint64_t now_ns = csv->host->now_ns(csv->host);

    (void)flags;
    if (csv->began_ns == 0) {
        begin(csv, now_ns);
    }
    count(&csv->now, ev);
    if (now_ns - csv->row_ns >= csv->every_ns) {
        write_row(csv, now_ns);
    }
}

static int
csv_finish(void *handle, struct qmig_next *next)
{
    struct csv *csv = (struct csv *)handle;

    (void)next; /* an observer sends nothing */
    if (csv->began_ns != 0) {
        write_row(csv, csv->host->now_ns(csv->host));
    }
    if (csv->file != NULL && fclose(csv->file) != 0) {
        csv->failed = errno;
    }
    csv->file = NULL;
    if (csv->failed != 0) {
        csv->host->error(csv->host, "%s: %s", csv->path, strerror(csv->failed));
        return -1;
    }
    return 0;
}

static void
csv_report(void *handle, struct qmig_report *report)
{
    struct csv *csv = (struct csv *)handle;
    struct counts sum = csv->total;

    add(&sum, &csv->now);
    report->number(report, "rows", csv->rows);
    report->number(report, "bytes", sum.bytes);
    report->number(report, "peak_bytes_per_s", csv->peak);
    report->begin_group(report, "pages");
    report->number(report, "normal", sum.normal);
    report->number(report, "zero", sum.zero);
    report->number(report, "delta", sum.delta);
    report->number(report, "other", sum.other);
    report->end(report);
}

static void
csv_close(void *handle)
{
    struct csv *csv = (struct csv *)handle;

    if (csv->file != NULL) {
        fclose(csv->file);
    }
    free(csv->path);
    free(csv);
}

static struct qmig_plugin plugin = {
    .name = "csv",
    .description = "what is sent, a row a second, as CSV",
    .config_help = "file=FILE   where the rows go\n"
                   "every=MS    milliseconds between two rows (1000)\n",
    .open = csv_open,
    .config = csv_config,
    .get_ready = csv_get_ready,
    .observe = csv_observe,
    .finish = csv_finish,
    .report = csv_report,
    .close = csv_close,
};

QMIG_REGISTER_PLUGIN(plugin)
