/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Refuses a stream that the destination would not load, before it is harmed; and remembers the end
 * of one that failed.
 *
 *     held: head            nothing goes on until the list of RAM blocks is complete: until then
 *                           qmig has not connected to the destination, which is as it was
 *     held: device state    (hold-tail, probe) until its description tells what is in it
 *
 * Nothing is refused when it has left: a destination that has all of the guest may run it.
 */
#include "plugin/guard/accepts.h"
#include "plugin/guard/hold.h"
#include "plugin/guard/report.h"
#include "qmig-plugin.h"
#include "util/units.h"

#include <inttypes.h>
#include <string.h>

enum {
    KEEP_DEFAULT = 4 << 20,
    KEEP_MIN = 256 << 10,
    KEEP_MAX = 1 << 30,
    HOLD_HEAD_MAX = 4 << 20,
    HOLD_TAIL_MAX = 64 << 20, /* as much as qmig splits by its description */
    SILENCE_NS = 1000000000,
};

typedef enum { HOLD_NOTHING, HOLD_HEAD, HOLD_TAIL } Holding;

typedef struct {
    struct qmig_host *host;
    QmigAccepts *accepts; /* NULL: nothing was said */
    bool hold_tail, probe;
    char *flight_path; /* owned (nullable) */
    uint64_t keep;
    Holding holding;
    QmigHold *hold;
    GuardLog *log; /* what is told in the end */
    unsigned vcpus;
    bool tail_left; /* device state, or some of it, went on */
    bool has_return_path;
    bool written; /* the flight was */
} Guard;

/* ---- configuration ---------------------------------------------------------------------- */

static void *
guard_open(struct qmig_host *host)
{
    Guard *g = g_new0(Guard, 1);

    g->host = host;
    g->keep = KEEP_DEFAULT;
    return g;
}

static int
take_switch(Guard *g, const char *key, const char *value, bool *out)
{
    if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0) {
        g->host->error(g->host, "%s=%s: want yes or no", key, value);
        return -1;
    }
    *out = strcmp(value, "yes") == 0;
    return 0;
}

static int
take_keep(Guard *g, const char *value)
{
    g_autoptr(GError) error = NULL;
    uint64_t keep;

    if (!qmig_parse_size(value, &keep, &error)) {
        g->host->error(g->host, "keep=%s: %s", value, error->message);
        return -1;
    }
    if (keep < KEEP_MIN || keep > KEEP_MAX) {
        g->host->error(g->host, "keep=%s: want 256K to 1G", value);
        return -1;
    }
    g->keep = keep;
    return 0;
}

static int
guard_config(void *handle, const char *key, const char *value)
{
    Guard *g = handle;
    g_autoptr(GError) error = NULL;

    if (strcmp(key, "accepts") == 0) {
        if (g->accepts == NULL) {
            g->accepts = qmig_accepts_new();
        }
        if (!qmig_accepts_read(g->accepts, value, &error)) {
            g->host->error(g->host, "accepts=%s: %s", value, error->message);
            return -1;
        }
        return 0;
    }
    if (strcmp(key, "hold-tail") == 0) {
        return take_switch(g, key, value, &g->hold_tail);
    }
    if (strcmp(key, "probe") == 0) {
        return take_switch(g, key, value, &g->probe);
    }
    if (strcmp(key, "keep") == 0) {
        return take_keep(g, value);
    }
    if (strcmp(key, "flight") == 0) {
        g_free(g->flight_path);
        g->flight_path = g_strdup(value);
        return 0;
    }
    g->host->error(g->host, "%s=%s: want accepts, flight, hold-tail, keep or probe", key,
                   value);
    return -1;
}

/* Opened only when it is needed: told now whether that can be. */
static bool
check_flight(Guard *g)
{
    g_autofree char *directory = g_path_get_dirname(g->flight_path);

    if (g_file_test(directory, G_FILE_TEST_IS_DIR) &&
        !g_file_test(g->flight_path, G_FILE_TEST_IS_DIR)) {
        return true;
    }
    g->host->error(g->host, "flight=%s: %s", g->flight_path,
                   g_file_test(directory, G_FILE_TEST_IS_DIR) ? "it is a directory"
                                                              : "no such directory");
    return false;
}

static int
guard_get_ready(void *handle)
{
    Guard *g = handle;

    if (g->accepts == NULL && g->flight_path == NULL) {
        g->host->error(g->host,
                       "accepts=FILE (what the destination takes) or flight=FILE "
                       "(where the end of a failed stream goes) is needed");
        return -1;
    }
    if (g->hold_tail && g->accepts == NULL && !g->probe) {
        g->host->error(g->host, "hold-tail=yes: for what, without accepts=FILE?");
        return -1;
    }
    if (g->flight_path != NULL && !check_flight(g)) {
        return -1;
    }
    g->hold = qmig_hold_new();
    g->log = guard_log_new(g->flight_path != NULL ? g->keep : 0);
    g->holding = g->accepts != NULL ? HOLD_HEAD : HOLD_NOTHING;
    return 0;
}

static void write_flight(Guard *g, const char *failure);

/* ---- judging ---------------------------------------------------------------------------- */

/*
 * @refusal: (transfer full) (nullable). What has not left is refused; what has, is told.
 * Return: 0 or -1.
 */
static int
judge(Guard *g, const struct qmig_event *ev, const char *where, char *refusal)
{
    g_autofree char *text = refusal;
    const char *guest = "the guest stays on the source";

    if (text == NULL) {
        return 0;
    }
    if (g->tail_left) {
        guard_log_late(g->log, where, text);
        return 0;
    }
    guard_log_refusal(g->log, where, text);
    write_flight(g, text);
    g->host->error(g->host, "%s: %s (offset %" PRIu64 "); %s; %s", where, text,
                   ev->offset, guest,
                   g->holding == HOLD_HEAD
                       ? "the destination was not touched"
                       : "the destination has memory of it and must be started anew");
    return -1;
}

static int
judge_note(Guard *g, const struct qmig_event *ev)
{
    const struct qmig_event_device *d = &ev->u.device;

    if (ev->kind == QMIG_EVENT_DEVICE) {
        g->vcpus += strcmp(d->name, "cpu") == 0;
        return judge(
            g, ev, d->name,
            qmig_accepts_section(g->accepts, d->name, d->instance, d->version, NULL));
    }
    return judge(g, ev, "cpu", qmig_accepts_vcpus(g->accepts, g->vcpus));
}

static int
judge_event(Guard *g, const struct qmig_event *ev)
{
    const struct qmig_event_section *s = &ev->u.section;

    switch (ev->kind) {
    case QMIG_EVENT_CONFIG: {
        g_autofree char *machine = g_strndup(ev->u.config.machine, ev->u.config.length);
        return judge(g, ev, "machine", qmig_accepts_machine(g->accepts, machine));
    }
    case QMIG_EVENT_RAM_BLOCK:
        return judge(g, ev, ev->u.ram_block.block->name,
                     qmig_accepts_block(g->accepts, ev->u.ram_block.block->name,
                                        ev->u.ram_block.block->used_length));
    case QMIG_EVENT_SECTION:
        /* Lists have device sections only. */
        return s->type != QMIG_SECTION_FULL
                   ? 0
                   : judge(g, ev, s->name,
                           qmig_accepts_section(g->accepts, s->name, s->instance,
                                                s->version, NULL));
    case QMIG_EVENT_DEVICE:
    case QMIG_EVENT_DESCRIPTION:
        return judge_note(g, ev);
    default:
        return 0;
    }
}

/* ---- holding ---------------------------------------------------------------------------- */

static int
release(Guard *g, struct qmig_next *next)
{
    bool is_tail = g->holding == HOLD_TAIL;

    g->holding = HOLD_NOTHING;
    g->tail_left = g->tail_left || is_tail;
    if (is_tail && g->probe && g->has_return_path) {
        return guard_log_send_probed(g->log, g->hold, next);
    }
    return qmig_hold_send(g->hold, next);
}

/* The head is over: all that can be known before memory is. */
static bool
ends_head(const struct qmig_event *ev)
{
    return ev->kind == QMIG_EVENT_RAM_EOS || ev->kind == QMIG_EVENT_PAGE ||
           ev->kind == QMIG_EVENT_RAW || ev->kind == QMIG_EVENT_END ||
           (ev->kind == QMIG_EVENT_BYTES && ev->u.bytes.kind != QMIG_BYTES_DEVICE) ||
           (ev->kind == QMIG_EVENT_SECTION && (ev->u.section.type == QMIG_SECTION_PART ||
                                               ev->u.section.type == QMIG_SECTION_END));
}

static bool
is_tail(const struct qmig_event *ev)
{
    return ev->kind == QMIG_EVENT_BYTES && ev->u.bytes.kind == QMIG_BYTES_TAIL;
}

/* Device state that is not held: what is in it is known when it has gone, and (post-copy) a guest
   may run there. */
static bool
leaves_with_devices(const struct qmig_event *ev)
{
    return ev->kind == QMIG_EVENT_BYTES &&
           (ev->u.bytes.kind == QMIG_BYTES_PACKAGED ||
            ev->u.bytes.kind == QMIG_BYTES_VMSTATE || ev->u.bytes.kind == QMIG_BYTES_RAW);
}

/* The end of the head: @ev is the last of it, or the first behind it. */
static int
end_head(Guard *g, struct qmig_next *next, const struct qmig_event *ev)
{
    /* A stream that ends here has nothing in it that anybody should be sent. */
    if (ev->kind == QMIG_EVENT_END && !ev->u.end.complete) {
        g->holding = HOLD_NOTHING;
        qmig_hold_drop(g->hold);
        return 0;
    }
    return release(g, next);
}

static int
hold_tail(Guard *g, struct qmig_next *next, const struct qmig_event *ev)
{
    g->holding = HOLD_TAIL;
    qmig_hold_add(g->hold, ev);
    if (qmig_hold_bytes(g->hold) > HOLD_TAIL_MAX) {
        guard_log_unchecked(g->log, "the device state is longer than 64 MiB");
        return release(g, next);
    }
    return 0;
}

/* What is held of device state, when a note comes. */
static int
note_on_tail(Guard *g, struct qmig_next *next, const struct qmig_event *ev)
{
    if (ev->kind == QMIG_EVENT_END && !ev->u.end.complete) {
        g->holding = HOLD_NOTHING;
        qmig_hold_drop(g->hold);
        return next->event(next, ev, 0);
    }
    qmig_hold_add(g->hold, ev);
    return ev->kind == QMIG_EVENT_DEVICE ? 0 : release(g, next);
}

static int
pass(Guard *g, struct qmig_next *next, const struct qmig_event *ev)
{
    if (g->holding == HOLD_HEAD && ends_head(ev) && end_head(g, next, ev) != 0) {
        return -1;
    }
    if (g->holding == HOLD_HEAD) {
        qmig_hold_add(g->hold, ev);
        return qmig_hold_bytes(g->hold) > HOLD_HEAD_MAX ? release(g, next) : 0;
    }
    if (is_tail(ev)) {
        if ((g->hold_tail || g->probe) && !g->tail_left) {
            return hold_tail(g, next, ev);
        }
        g->tail_left = true;
    }
    if (g->holding == HOLD_TAIL) {
        return note_on_tail(g, next, ev);
    }
    return next->event(next, ev, 0);
}

static int
guard_event(void *handle, struct qmig_next *next, const struct qmig_event *ev,
            uint32_t flags)
{
    Guard *g = handle;

    (void)flags;
    guard_log_take(g->log, ev);
    if (G_LIKELY(ev->kind == QMIG_EVENT_PAGE) && g->holding == HOLD_NOTHING) {
        return next->event(next, ev, 0);
    }
    if (leaves_with_devices(ev)) {
        g->tail_left = true;
    }
    if (ev->kind == QMIG_EVENT_COMMAND &&
        ev->u.command.command == QMIG_COMMAND_OPEN_RETURN_PATH) {
        g->has_return_path = true;
    }
    if (g->accepts != NULL && judge_event(g, ev) != 0) {
        return -1;
    }
    return pass(g, next, ev);
}

/* A source without a description waits for SHUT now, and the destination for what is held. */
static int
guard_idle(void *handle, struct qmig_next *next, uint64_t silent_ns)
{
    Guard *g = handle;

    if (g->holding == HOLD_NOTHING || silent_ns < SILENCE_NS) {
        return 0;
    }
    if (g->holding == HOLD_TAIL) {
        guard_log_unchecked(g->log, "no description of the device state came within a "
                                    "second");
    }
    return release(g, next);
}

/* ---- the end ---------------------------------------------------------------------------- */

static void
write_flight(Guard *g, const char *failure)
{
    const struct qmig_outcome *outcome = g->host->outcome(g->host);

    if (g->written || !guard_log_has_begun(g->log)) {
        return;
    }
    g->written = true;
    guard_log_failed(g->log, failure, g->tail_left,
                     outcome->has_pong ? (int64_t)outcome->last_pong : -1);
    if (g->flight_path != NULL) {
        guard_log_write(g->log, g->flight_path);
    }
}

static int
guard_finish(void *handle, struct qmig_next *next)
{
    Guard *g = handle;
    const char *failure = g->host->outcome(g->host)->failure;

    (void)next;
    if (failure == NULL) {
        return 0;
    }
    write_flight(g, failure);
    g_autofree char *text = guard_log_describe(g->log);
    g->host->error(g->host, "%s", text);
    return -1;
}

static void
guard_report(void *handle, struct qmig_report *report)
{
    Guard *g = handle;
    const char *failure = g->host->outcome(g->host)->failure;

    /* It was ended from elsewhere. */
    if (failure != NULL) {
        write_flight(g, failure);
    }
    guard_log_report(g->log, report);
}

static void
guard_close(void *handle)
{
    Guard *g = handle;

    if (g->log != NULL) {
        const char *failure = g->host->outcome(g->host)->failure;
        if (failure != NULL) {
            write_flight(g, failure);
        }
        guard_log_free(g->log);
    }
    g_clear_pointer(&g->hold, qmig_hold_free);
    g_clear_pointer(&g->accepts, qmig_accepts_free);
    g_free(g->flight_path);
    g_free(g);
}

static const char *const conflicts[] = { "guard", NULL };

static struct qmig_plugin plugin = {
    .name = "guard",
    .description = "refuse what the destination would not load; remember what failed",
    .config_help =
        "accepts=FILE   what the destination takes (qmig stream accepts); repeatable\n"
        "hold-tail=yes  hold device state back until it is known to be taken\n"
        "flight=FILE    write the last of a stream that failed there, and FILE.json\n"
        "keep=SIZE      how much of it (4M)\n"
        "probe=yes      have the destination tell how far it came: names the section\n",
    .open = guard_open,
    .config = guard_config,
    .get_ready = guard_get_ready,
    .event = guard_event,
    .finish = guard_finish,
    .report = guard_report,
    .close = guard_close,
    .conflicts = conflicts,
    .idle = guard_idle,
};

QMIG_REGISTER_PLUGIN(plugin)
