/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults at named places, for drills and tests.
 *
 * A fault ends as "this byte of that channel": a place that is an event becomes one when the event
 * is seen, which is before any byte of it is written. Whoever asks for a piece across that byte
 * gets what lies before; who asks for a piece that begins there meets the fault.
 */
#include "plugin/fault/fault.h"
#include "util/error.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { FAULTS_MAX = 16 };

typedef struct {
    struct qmig_host *host;
    GPtrArray *faults;    /* Fault *; the list itself does not change while it runs */
    pthread_mutex_t lock; /* guards what they have come to, and `over` */
    bool over;            /* nothing strikes any more */
} Drill;

static void *
fault_open(struct qmig_host *host)
{
    Drill *d = g_new0(Drill, 1);

    d->host = host;
    d->faults = g_ptr_array_new_with_free_func(fault_free);
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

static void
fault_close(void *handle)
{
    Drill *d = handle;

    g_ptr_array_unref(d->faults);
    pthread_mutex_destroy(&d->lock);
    g_free(d);
}

/* ---- configuration ---------------------------------------------------------------------- */

/* "at" begins a fault, "do" says what it does. */
static bool
configure(Drill *d, const char *key, const char *value, GError **error)
{
    Fault *last = d->faults->len > 0 ? d->faults->pdata[d->faults->len - 1] : NULL;

    if (strcmp(key, "at") == 0) {
        if (d->faults->len == FAULTS_MAX) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG, "more than %d faults",
                                  FAULTS_MAX);
        }
        g_ptr_array_add(d->faults, g_new0(Fault, 1));
        return fault_parse_place(d->faults->pdata[d->faults->len - 1], value, error);
    }
    if (strcmp(key, "do") == 0) {
        if (last == NULL || last->action != FAULT_DO_NOTHING) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "do=%s: wanted at=PLACE before", value);
        }
        return fault_parse_action(last, value, error);
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG, "unknown parameter \"%s\"", key);
}

static int
fault_config(void *handle, const char *key, const char *value)
{
    Drill *d = handle;
    g_autoptr(GError) error = NULL;

    if (configure(d, key, value, &error)) {
        return 0;
    }
    d->host->error(d->host, "%s", error->message);
    return -1;
}

static int
fault_get_ready(void *handle)
{
    Drill *d = handle;

    if (d->faults->len == 0) {
        d->host->error(d->host, "no fault is given: wanted at=PLACE,do=ACTION");
        return -1;
    }
    for (guint i = 0; i < d->faults->len; i++) {
        const Fault *fault = d->faults->pdata[i];

        if (fault->action == FAULT_DO_NOTHING) {
            d->host->error(d->host, "at=%s: wanted do=ACTION behind it", fault->at);
            return -1;
        }
        if (fault->place == FAULT_AT_FILE && fault->action == FAULT_DO_CORRUPT) {
            d->host->error(d->host, "at=%s: corrupt wants a byte or an event", fault->at);
            return -1;
        }
    }
    return 0;
}

/* ---- striking --------------------------------------------------------------------------- */

static void
fault_observe(void *handle, const struct qmig_event *ev, uint32_t flags)
{
    Drill *d = handle;

    (void)flags;
    for (guint i = 0; i < d->faults->len; i++) {
        Fault *fault = d->faults->pdata[i];

        if (fault->place != FAULT_AT_EVENT || fault->nth == 0 ||
            !fault_is_event(fault, ev) || --fault->nth > 0) {
            continue;
        }
        uint64_t offset = d->host->position(d->host);
        pthread_mutex_lock(&d->lock);
        fault->offset = offset;
        fault->has_offset = true;
        pthread_mutex_unlock(&d->lock);
    }
}

static bool
concerns(const Fault *fault, const struct qmig_piece *piece)
{
    if (fault->state == FAULT_DONE) {
        return false;
    }
    if (fault->place == FAULT_AT_FILE) {
        return fault->state == FAULT_ACTING || access(fault->name, F_OK) == 0;
    }
    return fault->has_offset && fault->channel == piece->channel &&
           (fault->id == FAULT_ANY_ID || fault->id == piece->id);
}

static const char *
name_channel(const struct qmig_piece *piece, char *room, size_t size)
{
    static const char *const names[] = {
        [QMIG_PIECE_MAIN] = "main",
        [QMIG_PIECE_MULTIFD] = "multifd",
        [QMIG_PIECE_PREEMPT] = "preempt",
        [QMIG_PIECE_OTHER] = "tls",
    };
    bool has_id = piece->channel == QMIG_PIECE_MULTIFD ||
                  piece->channel == QMIG_PIECE_OTHER;

    g_snprintf(room, (gulong)size, has_id ? "%s %u" : "%s",
               piece->channel < G_N_ELEMENTS(names) ? names[piece->channel] : "?",
               piece->id);
    return room;
}

/* Under the lock: @piece begins at the place. Return: -1 to end it. */
static int
strike(Drill *d, Fault *fault, struct qmig_piece *piece)
{
    uint64_t now = d->host->now_ns(d->host);
    char room[32];

    if (fault->state == FAULT_WAITING) {
        fault->state = FAULT_ACTING;
        fault->struck_at = piece->offset;
        fault->until_ns = now + fault->delay_ms * 1000000;
        if (fault->place != FAULT_AT_FILE) {
            fault->id = piece->id; /* of any, the first to come here */
        }
        d->host->debug(d->host, "%s at %s: byte %" G_GUINT64_FORMAT " of %s", fault->what,
                       fault->at, piece->offset, name_channel(piece, room, sizeof room));
    }
    switch (fault->action) {
    case FAULT_DO_DELAY:
        if (now < fault->until_ns) {
            piece->wait_ns = MAX(piece->wait_ns, fault->until_ns - now);
        } else {
            fault->state = FAULT_DONE;
        }
        return 0;
    case FAULT_DO_STALL:
        piece->wait_ns = UINT64_MAX;
        return 0;
    case FAULT_DO_CUT:
        fault->state = fault->place == FAULT_AT_FILE ? FAULT_ACTING : FAULT_DONE;
        d->host->error(d->host,
                       "the %s channel is cut at byte %" G_GUINT64_FORMAT
                       ", as at=%s,do=cut asks for",
                       name_channel(piece, room, sizeof room), piece->offset, fault->at);
        return -1;
    case FAULT_DO_CORRUPT: /* when the bytes are granted */
    case FAULT_DO_NOTHING:
        return 0;
    }
    g_assert_not_reached();
}

static int
pace_locked(Drill *d, struct qmig_piece *piece)
{
    for (guint i = 0; i < d->faults->len && !d->over; i++) {
        Fault *fault = d->faults->pdata[i];

        if (!concerns(fault, piece)) {
            continue;
        }
        if (fault->place == FAULT_AT_FILE || fault->offset <= piece->offset) {
            if (strike(d, fault, piece) != 0) {
                return -1;
            }
        } else if (fault->action != FAULT_DO_CORRUPT) {
            piece->bytes = MIN(piece->bytes, fault->offset - piece->offset);
        }
    }
    return 0;
}

static int
fault_pace(void *handle, struct qmig_piece *piece)
{
    Drill *d = handle;

    pthread_mutex_lock(&d->lock);
    int result = pace_locked(d, piece);
    pthread_mutex_unlock(&d->lock);
    return result;
}

/* Under the lock: the byte to be turned over, if it is one of @piece. */
static void
corrupt(Fault *fault, const struct qmig_piece *piece, uint8_t *data)
{
    /* An event that was seen late begins before what is left of it. */
    uint64_t at = fault->offset + fault->corrupt_at;

    at = MAX(at, piece->offset);
    if (at - piece->offset < piece->bytes) {
        data[at - piece->offset] ^= 0xff;
        fault->struck_at = at;
        fault->state = FAULT_DONE;
    }
}

static int
fault_alter(void *handle, const struct qmig_piece *piece, uint8_t *data)
{
    Drill *d = handle;

    pthread_mutex_lock(&d->lock);
    for (guint i = 0; i < d->faults->len && !d->over; i++) {
        Fault *fault = d->faults->pdata[i];

        if (fault->action == FAULT_DO_CORRUPT && concerns(fault, piece)) {
            corrupt(fault, piece, data);
        }
    }
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int
fault_set(void *handle, const char *key, const char *value, uint32_t flags)
{
    Drill *d = handle;

    if (strcmp(key, "over") != 0 ||
        (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)) {
        d->host->error(d->host, "%s=%s: wanted over=on or over=off", key, value);
        return -1;
    }
    if ((flags & QMIG_SET_TRY) == 0) {
        pthread_mutex_lock(&d->lock);
        d->over = strcmp(value, "on") == 0;
        pthread_mutex_unlock(&d->lock);
    }
    return 0;
}

static void
fault_report(void *handle, struct qmig_report *r)
{
    static const char *const states[] = {
        [FAULT_WAITING] = "waiting",
        [FAULT_ACTING] = "acting",
        [FAULT_DONE] = "done",
    };
    Drill *d = handle;

    pthread_mutex_lock(&d->lock);
    r->begin_list(r, "faults");
    for (guint i = 0; i < d->faults->len; i++) {
        const Fault *fault = d->faults->pdata[i];

        r->begin_group(r, NULL);
        r->text(r, "at", fault->at);
        r->text(r, "do", fault->what);
        r->text(r, "state", states[fault->state]);
        if (fault->state != FAULT_WAITING) {
            r->number(r, "byte", fault->struck_at);
        }
        r->end(r);
    }
    r->end(r);
    pthread_mutex_unlock(&d->lock);
}

static struct qmig_plugin plugin = {
    .name = "fault",
    .description = "does harm at a named place: for drills and tests only",
    .config_help =
        "at=PLACE     where: CHANNEL@BYTE (main, multifd, multifd-N, preempt, tls-N),\n"
        "             EVENT[:NAME][#N] of main (start:ram, command:postcopy-run, eos#3,\n"
        "             page, package, tail, eof, …), or file:/PATH, from when that exists\n"
        "do=ACTION    what: delay:TIME, stall, cut, corrupt[:OFFSET]\n"
        "Both may be repeated, in pairs. over=on, while it runs, ends all of it.\n",
    .open = fault_open,
    .config = fault_config,
    .get_ready = fault_get_ready,
    .observe = fault_observe,
    .report = fault_report,
    .close = fault_close,
    .pace = fault_pace,
    .alter = fault_alter,
    .set = fault_set,
};

QMIG_REGISTER_PLUGIN(plugin)
