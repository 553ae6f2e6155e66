/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A limit of bytes per second over all channels of a migration together; see util/pace.c. */
#include "qmig-plugin.h"
#include "util/error.h"
#include "util/pace.h"
#include "util/units.h"

#include <pthread.h>
#include <string.h>

typedef struct {
    struct qmig_host *host;
    QmigPace *pace;
    pthread_mutex_t lock;  /* guards what follows */
    uint64_t rate, burst;  /* as they were set, bytes/s and bytes; 0: none, the default */
    uint64_t bytes, waits; /* granted; refused for now */
    uint64_t changes;      /* while it ran */
} Throttle;

static void *
throttle_open(struct qmig_host *host)
{
    Throttle *t = g_new0(Throttle, 1);

    t->host = host;
    t->pace = qmig_pace_new(NULL, NULL);
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

static void
throttle_close(void *handle)
{
    Throttle *t = handle;

    qmig_pace_free(t->pace);
    pthread_mutex_destroy(&t->lock);
    g_free(t);
}

static bool
parse(const char *key, const char *value, uint64_t *number, GError **error)
{
    if (strcmp(key, "rate") == 0 && strcmp(value, "none") == 0) {
        *number = 0;
        return true;
    }
    if (strcmp(key, "rate") == 0) {
        return qmig_parse_rate(value, number, error);
    }
    if (strcmp(key, "burst") == 0) {
        return qmig_parse_size(value, number, error);
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG, "unknown parameter \"%s\"", key);
}

static int
throttle_set(void *handle, const char *key, const char *value, uint32_t flags)
{
    Throttle *t = handle;
    g_autoptr(GError) error = NULL;
    uint64_t number;

    if (!parse(key, value, &number, &error)) {
        t->host->error(t->host, "%s=%s: %s", key, value, error->message);
        return -1;
    }
    if ((flags & QMIG_SET_TRY) != 0) {
        return 0;
    }
    pthread_mutex_lock(&t->lock);
    *(key[0] == 'r' ? &t->rate : &t->burst) = number;
    t->changes++;
    qmig_pace_set(t->pace, t->rate, t->burst);
    pthread_mutex_unlock(&t->lock);
    return 0;
}

static int
throttle_config(void *handle, const char *key, const char *value)
{
    Throttle *t = handle;
    int result = throttle_set(handle, key, value, 0);

    t->changes = 0;
    return result;
}

static int
throttle_pace(void *handle, struct qmig_piece *piece)
{
    Throttle *t = handle;

    piece->wait_ns = qmig_pace_take(t->pace, &piece->bytes);
    pthread_mutex_lock(&t->lock);
    t->bytes += piece->wait_ns == 0 ? piece->bytes : 0;
    t->waits += piece->wait_ns > 0;
    pthread_mutex_unlock(&t->lock);
    return 0;
}

static void
throttle_report(void *handle, struct qmig_report *r)
{
    Throttle *t = handle;
    uint64_t burst, rate = qmig_pace_rate(t->pace, &burst);

    pthread_mutex_lock(&t->lock);
    r->number(r, "rate", rate);
    r->number(r, "burst", burst);
    r->number(r, "bytes", t->bytes);
    r->number(r, "waits", t->waits);
    r->number(r, "changes", t->changes);
    pthread_mutex_unlock(&t->lock);
}

/* Two limits would be one, the lower; and nobody could say which of them is set. */
static const char *const conflicts[] = { "throttle", NULL };

static struct qmig_plugin plugin = {
    .name = "throttle",
    .description = "an exact limit of bytes per second, over all channels together",
    .config_help =
        "rate=RATE    bytes per second: 100M, 1Gbit, 12.5MB/s; 0 or none: no limit\n"
        "             (default)\n"
        "burst=SIZE   how much may go at once after a pause (default: what the rate\n"
        "             carries in 20 ms)\n"
        "Both can be changed while a migration runs.\n",
    .open = throttle_open,
    .config = throttle_config,
    .report = throttle_report,
    .close = throttle_close,
    .pace = throttle_pace,
    .set = throttle_set,
    .conflicts = conflicts,
};

QMIG_REGISTER_PLUGIN(plugin)
