/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Can the source's guest go, does the destination wait for it; what blocks; the clocks. */
#include "job/preflight.h"
#include "qmp/qom.h"

#include <string.h>
#include <time.h>

/* Seconds the clocks may differ: they are read one after the other, in whole seconds. */
enum { CLOCK_TOLERANCE_S = 2 };

static void
check_source(QmigPreflight *p)
{
    static const char *const movable[] = { "running",        "paused",   "suspended",
                                           "prelaunch",      "io-error", "watchdog",
                                           "guest-panicked", NULL };
    const QmigSide *source = p->source;

    if (strcmp(source->run_state, "postmigrate") == 0) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                            "source: its guest is \"postmigrate\": it has been migrated "
                            "away already, or stood still while that failed");
        qmig_preflight_advise(p, "look at its destination by `qmig status` first");
    } else if (!g_strv_contains(movable, source->run_state)) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                            "source: its guest is \"%s\", which cannot be migrated",
                            source->run_state);
    }
    if (!qmig_status_is_final(source->migration) &&
        source->migration != QMIG_STATUS_NONE) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED, "source: a migration is running");
        qmig_preflight_advise(p, "see qmig status, or end it by qmig cancel");
    }
}

/* The word after -incoming, where the process is seen from here. (transfer full) */
static char *
find_incoming(const QmigSide *side)
{
    g_autofree char *path = NULL, *line = NULL;
    struct ucred peer;
    gsize size = 0;

    if (side->pidfd < 0 || !qmig_qmp_peer(side->qmp, &peer)) {
        return NULL;
    }
    path = g_strdup_printf("/proc/%d/cmdline", (int)peer.pid);
    if (!g_file_get_contents(path, &line, &size, NULL)) {
        return NULL;
    }
    for (const char *word = line; word < line + size; word += strlen(word) + 1) {
        const char *next = word + strlen(word) + 1;
        if ((strcmp(word, "-incoming") == 0 || strcmp(word, "--incoming") == 0) &&
            next < line + size) {
            return g_strdup(next);
        }
    }
    return NULL;
}

/*
 * A destination that listens already cannot be told where; before 8.0 it does not say so, but
 * for its address, or, where it has none (exec:, fd:), by its command line alone.
 */
static bool
check_waiting(QmigPreflight *p, GError **error)
{
    g_auto(QmigMigrationInfo) info = { 0 };
    g_autofree char *incoming = find_incoming(p->destination);

    if (!qmig_qmp_query_migrate(p->destination->qmp, &info, NULL, error)) {
        return false;
    }
    bool elsewhere = incoming != NULL && strcmp(incoming, "defer") != 0;
    if (info.status == QMIG_STATUS_NONE && info.socket_address == NULL && !elsewhere) {
        return true;
    }
    qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                        "destination: it listens already, or has failed once%s%s",
                        elsewhere ? ": it was started with -incoming " : "",
                        elsewhere ? incoming : "");
    qmig_preflight_advise(p, "start a fresh one with -S -incoming defer");
    return true;
}

static bool
check_destination(QmigPreflight *p, GError **error)
{
    const QmigSide *destination = p->destination;

    if (strcmp(destination->run_state, "paused") == 0 &&
        destination->migration == QMIG_STATUS_COMPLETED) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                            "destination: it has loaded a guest already, and waits for "
                            "`cont`; that is right only when its source is "
                            "\"postmigrate\" or gone");
        return true;
    }
    if (strcmp(destination->run_state, "inmigrate") != 0) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                            "destination: its state is \"%s\", wanted \"inmigrate\"",
                            destination->run_state);
        qmig_preflight_advise(p, "start it with -S -incoming defer");
        return true;
    }
    return check_waiting(p, error);
}

/* Blockers, as the source itself tells them. */
static bool
check_blocked(QmigPreflight *p, GError **error)
{
    g_auto(QmigMigrationInfo) info = { 0 };

    if (!qmig_qmp_query_migrate(p->source->qmp, &info, NULL, error)) {
        return false;
    }
    if (info.blocked != NULL) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED, "source: blocked: %s", info.blocked);
        qmig_preflight_advise(p, "unplug or detach what blocks");
    }
    return true;
}

bool
qmig_preflight_states(QmigPreflight *p, GError **error)
{
    check_source(p);
    return check_destination(p, error) && check_blocked(p, error);
}

/* ---- clocks ------------------------------------------------------------------------------ */

/* Seconds since the epoch of a machine's clock; -1 = it has none. */
static bool
read_clock(const QmigSide *side, int64_t *seconds, GError **error)
{
    g_autoptr(JsonObject) value = NULL;

    *seconds = -1;
    if (!qmig_qom_get(side->qmp, "/machine", "rtc-time", &value, error)) {
        return false;
    }
    if (json_object_is_type(value, json_type_object)) {
        struct tm tm = {
            .tm_year = (int)qmig_json_int(value, "tm_year", 0),
            .tm_mon = (int)qmig_json_int(value, "tm_mon", 0),
            .tm_mday = (int)qmig_json_int(value, "tm_mday", 0),
            .tm_hour = (int)qmig_json_int(value, "tm_hour", 0),
            .tm_min = (int)qmig_json_int(value, "tm_min", 0),
            .tm_sec = (int)qmig_json_int(value, "tm_sec", 0),
        };
        *seconds = timegm(&tm);
    }
    return true;
}

/*
 * The guest's hardware clock goes on by the host's: where the hosts differ it steps. Each
 * machine's clock was set from its host's when that QEMU was started.
 */
bool
qmig_preflight_clocks(QmigPreflight *p, GError **error)
{
    int64_t source, destination;

    if (!qmig_preflight_can(p, "qom-list")) {
        return true;
    }
    if (!read_clock(p->source, &source, error) ||
        !read_clock(p->destination, &destination, error)) {
        return false;
    }
    if (source < 0 || destination < 0) {
        qmig_preflight_find(p, QMIG_FINDING_NOTE,
                            "a machine has none that could be read");
        return true;
    }
    int64_t ahead = destination - source;
    if (ahead >= -CLOCK_TOLERANCE_S && ahead <= CLOCK_TOLERANCE_S) {
        return true;
    }
    qmig_preflight_find(p, p->same_host ? QMIG_FINDING_NOTE : QMIG_FINDING_WARNING,
                        "the destination's hardware clock is %" G_GINT64_FORMAT
                        " s %s the guest's%s",
                        ahead > 0 ? ahead : -ahead, ahead > 0 ? "ahead of" : "behind",
                        p->same_host ? ": on one host, the guest or -rtc has set it"
                                     : ": the guest's will step where the hosts' clocks "
                                       "differ");
    if (!p->same_host) {
        qmig_preflight_advise(p, "set both hosts by NTP, and see that -rtc is the same");
    }
    return true;
}
