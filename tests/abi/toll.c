/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A plugin that paces and alters; built as toll.so, rival.so and later.so, which know of each
 * other. Keys: grant=N bytes at once; wait=N, so many first answers are "not now"; add=N to each
 * byte; do=fail-pace | fail-alter | grant-more | grant-nothing.
 */
#include "qmig-plugin.h"

#include <stdlib.h>
#include <string.h>

struct toll {
    struct qmig_host *host;
    unsigned long grant, wait, add, asked;
    char what[32];
};

static void *
toll_open(struct qmig_host *host)
{
    struct toll *t = calloc(1, sizeof *t);

    if (t != NULL) {
        t->host = host;
        t->grant = (unsigned long)-1;
    }
    return t;
}

static int
toll_set(void *handle, const char *key, const char *value, uint32_t flags)
{
    struct toll *t = handle;
    unsigned long *number = strcmp(key, "grant") == 0  ? &t->grant
                            : strcmp(key, "wait") == 0 ? &t->wait
                            : strcmp(key, "add") == 0  ? &t->add
                                                       : NULL;

    if (number == NULL || value[0] < '0' || value[0] > '9') {
        t->host->error(t->host, "%s=%s is nothing for me", key, value);
        return -1;
    }
    if ((flags & QMIG_SET_TRY) == 0) {
        *number = strtoul(value, NULL, 10);
    }
    return 0;
}

static int
toll_config(void *handle, const char *key, const char *value)
{
    struct toll *t = handle;

    if (strcmp(key, "do") != 0) {
        return toll_set(handle, key, value, 0);
    }
    strncpy(t->what, value, sizeof t->what - 1);
    return 0;
}

static int
toll_pace(void *handle, struct qmig_piece *piece)
{
    struct toll *t = handle;

    t->asked++;
    if (strcmp(t->what, "fail-pace") == 0) {
        t->host->error(t->host, "no further than byte %lu", (unsigned long)piece->offset);
        return -1;
    }
    if (t->wait > 0) {
        t->wait--;
        piece->wait_ns = 1000;
        piece->bytes = 0;
        return 0;
    }
    piece->bytes = strcmp(t->what, "grant-more") == 0      ? piece->bytes + 1
                   : strcmp(t->what, "grant-nothing") == 0 ? 0
                   : piece->bytes < t->grant               ? piece->bytes
                                                           : t->grant;
    return 0;
}

static int
toll_alter(void *handle, const struct qmig_piece *piece, uint8_t *data)
{
    struct toll *t = handle;

    if (strcmp(t->what, "fail-alter") == 0) {
        return -1;
    }
    for (uint64_t i = 0; i < piece->bytes; i++) {
        data[i] = (uint8_t)(data[i] + t->add);
    }
    return 0;
}

static void
toll_report(void *handle, struct qmig_report *r)
{
    struct toll *t = handle;

    r->number(r, "asked", t->asked);
}

#if defined(RIVAL)
#define NAME "rival"
static const char *const conflicts[] = { "trace", "rival", NULL };
#elif defined(LATER)
#define NAME "later"
static const char *const not_after[] = { "toll", NULL };
#else
#define NAME "toll"
#endif

static struct qmig_plugin plugin = {
    .name = NAME,
    .open = toll_open,
    .config = toll_config,
    .report = toll_report,
    .close = free,
    .pace = toll_pace,
    .alter = toll_alter,
    .set = toll_set,
#if defined(RIVAL)
    .conflicts = conflicts,
#elif defined(LATER)
    .not_after = not_after,
#endif
};

QMIG_REGISTER_PLUGIN(plugin)
