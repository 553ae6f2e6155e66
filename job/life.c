/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looking at a guest makes its vCPUs leave the guest for a moment, so what KVM counts of that is
 * not taken; a guest that sleeps in HLT wakes for an interrupt, and halts again.
 *
 * On the source the guest is looked at while its memory is copied, a few times; on the destination
 * from `cont` on, until it is seen to live. Most are within the first two looks.
 */
#include "job/life.h"

#include "job/part.h"
#include "job/steps.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

enum {
    LIFE_TIMEOUT_MS = 3000,
    /* Of the source's guest: so many looks, so far apart. */
    SOURCE_LOOKS = 12,
    SOURCE_INTERVAL_US = 100000,
    /* On the destination: how far apart, growing. */
    FIRST_INTERVAL_MS = 10,
    MAX_INTERVAL_MS = 100,
    /* So many changes must be missing before a guest counts as lifeless. */
    MISSED_CHANGES = 20,
    STOP_TIMEOUT_MS = 5000,
};

/* ---- looking ---------------------------------------------------------------------------- */

static void
signs_clear(QmigLifeSigns *signs)
{
    g_clear_pointer(&signs->registers, g_free);
}

void
qmig_life_watch_clear(QmigLifeWatch *watch)
{
    signs_clear(&watch->first);
    signs_clear(&watch->last);
    *watch = (QmigLifeWatch){ 0 };
}

/* An error that says something about the QEMU, not about the question. */
static bool
is_grave(const GError *error)
{
    return g_error_matches(error, QMIG_ERROR, QMIG_ERROR_CLOSED) ||
           g_error_matches(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
}

/* Ask; a QEMU that does not know the question leaves @reply NULL. */
static bool
ask(QmigSide *side, const char *command, JsonObject *arguments, JsonObject **reply,
    uint32_t patience_ms, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(patience_ms) };
    GError *local = NULL;

    if (qmig_qmp_execute(side->qmp, command, arguments, reply, &call, &local)) {
        return true;
    }
    if (is_grave(local)) {
        g_propagate_error(error, local);
        return false;
    }
    g_error_free(local);
    return true;
}

static bool
look_at_registers(QmigSide *side, QmigLifeSigns *signs, uint32_t patience_ms,
                  GError **error)
{
    g_autoptr(JsonObject) reply = NULL;
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "command-line",
                           json_object_new_string("info registers -a"));
    if (!ask(side, "human-monitor-command", arguments, &reply, patience_ms, error)) {
        return false;
    }
    if (json_object_is_type(reply, json_type_string)) {
        signs->registers = g_compute_checksum_for_string(
            G_CHECKSUM_SHA256, json_object_get_string(reply), -1);
    }
    return true;
}

/* Sum up a list of {"stats": [{"name", "value"}]}. */
static int64_t
sum_stats(JsonObject *list)
{
    int64_t sum = -1;

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *stats = qmig_json_get(json_object_array_get_idx(list, i), "stats",
                                          json_type_array);
        for (size_t k = 0; stats != NULL && k < json_object_array_length(stats); k++) {
            int64_t value = qmig_json_int(json_object_array_get_idx(stats, k), "value",
                                          -1);
            sum = value >= 0 ? MAX(sum, 0) + value : sum;
        }
    }
    return sum;
}

static bool
look_at_kvm(QmigSide *side, QmigLifeSigns *signs, uint32_t patience_ms, GError **error)
{
    static const char text[] =
        "{\"target\":\"vcpu\",\"providers\":[{\"provider\":\"kvm\",\"names\":"
        "[\"halt_exits\",\"irq_injections\"]}]}";
    g_autoptr(JsonObject) reply = NULL;

    if (!qmig_schema_has_command(side->schema, "query-stats")) {
        return true;
    }
    if (!ask(side, "query-stats", json_tokener_parse(text), &reply, patience_ms, error)) {
        return false;
    }
    if (json_object_is_type(reply, json_type_array)) {
        signs->kvm = sum_stats(reply);
    }
    return true;
}

/* The first number of /proc/PID/task/TID/schedstat: nanoseconds on a processor. */
static int64_t
read_cpu_ns(pid_t pid, int64_t tid)
{
    g_autofree char *path = g_strdup_printf(
        "/proc/%d/task/%" G_GINT64_FORMAT "/schedstat", (int)pid, tid);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? g_ascii_strtoll(text, NULL, 10)
                                                        : -1;
}

static bool
look_at_threads(QmigSide *side, QmigLifeSigns *signs, uint32_t patience_ms,
                GError **error)
{
    g_autoptr(JsonObject) reply = NULL;

    if (side->pid <= 0) {
        return true;
    }
    if (!ask(side, "query-cpus-fast", NULL, &reply, patience_ms, error)) {
        return false;
    }
    for (size_t i = 0; json_object_is_type(reply, json_type_array) &&
                       i < json_object_array_length(reply);
         i++) {
        int64_t tid = qmig_json_int(json_object_array_get_idx(reply, i), "thread-id", 0);
        int64_t ns = tid > 0 ? read_cpu_ns(side->pid, tid) : -1;
        signs->cpu_ns = ns >= 0 ? MAX(signs->cpu_ns, 0) + ns : signs->cpu_ns;
    }
    return true;
}

/* Requests so far that change disks; -1 = not told. */
static bool
count_writes(QmigSide *side, int64_t *writes, uint32_t patience_ms, GError **error)
{
    static const char *const names[] = { "wr_operations", "unmap_operations",
                                         "zone_append_operations" };
    g_autoptr(JsonObject) reply = NULL;

    *writes = -1;
    if (!ask(side, "query-blockstats", NULL, &reply, patience_ms, error)) {
        return false;
    }
    if (!json_object_is_type(reply, json_type_array)) {
        return true;
    }
    *writes = 0;
    for (size_t i = 0; i < json_object_array_length(reply); i++) {
        JsonObject *stats = qmig_json_get(json_object_array_get_idx(reply, i), "stats",
                                          json_type_object);
        for (size_t k = 0; stats != NULL && k < G_N_ELEMENTS(names); k++) {
            *writes += qmig_json_int(stats, names[k], 0);
        }
    }
    return true;
}

/* vCPUs that were given three tenths of the time are at work, if only in a loop. */
static bool
is_busy(const QmigLifeSigns *before, const QmigLifeSigns *now)
{
    return before->cpu_ns >= 0 && now->cpu_ns >= 0 &&
           (now->cpu_ns - before->cpu_ns) * 10 >
               (now->taken_us - before->taken_us) * 1000 * 3 &&
           now->taken_us - before->taken_us > 500000;
}

static bool
differs(const QmigLifeSigns *before, const QmigLifeSigns *now)
{
    return (before->registers != NULL && now->registers != NULL &&
            strcmp(before->registers, now->registers) != 0) ||
           (before->kvm >= 0 && now->kvm >= 0 && before->kvm != now->kvm);
}

bool
qmig_life_look(QmigLifeWatch *watch, QmigSide *side, uint32_t patience_ms, GError **error)
{
    QmigLifeSigns signs = { .kvm = -1, .cpu_ns = -1 };

    if (!look_at_kvm(side, &signs, patience_ms, error) ||
        !look_at_threads(side, &signs, patience_ms, error) ||
        !look_at_registers(side, &signs, patience_ms, error)) {
        signs_clear(&signs);
        return false;
    }
    signs.taken_us = qmig_now_us();
    if (!watch->begun) {
        watch->begun = true;
        watch->first = signs;
        watch->first.registers = g_strdup(signs.registers);
    } else {
        watch->looks++;
        watch->changes += differs(&watch->last, &signs);
        signs_clear(&watch->last);
    }
    watch->last = signs;
    return true;
}

bool
qmig_life_is_seen(const QmigLifeWatch *watch)
{
    return watch->changes > 0 || (watch->begun && is_busy(&watch->first, &watch->last));
}

bool
qmig_life_is_missed(const QmigLifeWatch *source, const QmigLifeWatch *destination)
{
    int64_t source_us = source->last.taken_us - source->first.taken_us;
    int64_t destination_us = destination->last.taken_us - destination->first.taken_us;

    if (!source->begun || !destination->begun || source_us <= 0 ||
        qmig_life_is_seen(destination)) {
        return false;
    }
    double expected = (double)source->changes * (double)destination_us /
                      (double)source_us;
    return expected >= MISSED_CHANGES;
}

/* ---- as a part -------------------------------------------------------------------------- */

struct QmigLife {
    QmigLifeWatch source;
    int64_t next_look_us;
    int64_t writes_before; /* on the destination, before it ran; -1 = not told */
};

static bool
is_wanted(const QmigJob *job)
{
    return !job->options->no_proof_of_life && job->guest_runs && !job->options->suspend;
}

static QmigLife *
get_life(QmigJob *job)
{
    if (job->life == NULL) {
        job->life = g_new0(QmigLife, 1);
        job->life->writes_before = -1;
    }
    return job->life;
}

/* What its guest does while it runs on the source is what is expected of it. */
static bool
life_watch(QmigJob *job, GError **error)
{
    QmigLife *life = get_life(job);
    int64_t now = qmig_now_us();
    g_autoptr(GError) local = NULL;

    if (!is_wanted(job) || job->phase != QMIG_PHASE_PERFORM || job->source_held ||
        life->source.looks >= SOURCE_LOOKS || now < life->next_look_us) {
        return true;
    }
    life->next_look_us = now + SOURCE_INTERVAL_US;
    if (job->mute_in_the_dark ||
        qmig_life_look(&life->source, &job->source, qmig_job_patience_ms(job), &local) ||
        qmig_via_forgives(job, local)) {
        return true;
    }
    job->source_hangs = g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

static bool
count_writes_before(QmigJob *job, GError **error)
{
    return count_writes(&job->destination, &get_life(job)->writes_before,
                        qmig_job_patience_ms(job), error);
}

static bool
life_before_cont(QmigJob *job, GError **error)
{
    return !is_wanted(job) || qmig_via_despite_darkness(job, count_writes_before, error);
}

/* It executes nothing. Where it has written to no disk, it can be as if it never was there. */
static bool
give_up_lifeless(QmigJob *job, uint64_t waited_ms, GError **error)
{
    QmigSide *side = &job->destination;
    int64_t before = get_life(job)->writes_before, writes = -1;
    g_autofree char *waited = qmig_format_duration(waited_ms);
    bool unwritten;

    qmig_job_message(job,
                     "destination: QEMU says that the guest runs, and for %s it has "
                     "executed nothing; on the source it did",
                     waited);
    if (job->postcopy.entered) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "destination: the guest executes nothing, and after "
                              "post-copy there is no way back");
    }
    if (!qmig_qmp_stop(side->qmp, error) ||
        !count_writes(side, &writes, STOP_TIMEOUT_MS, error)) {
        return false;
    }
    unwritten = before >= 0 && writes == before;
    job->lifeless = unwritten;
    return qmig_set_error(
        error, QMIG_ERROR_STATE, "destination: the guest executes nothing there%s",
        unwritten     ? ""
        : writes >= 0 ? ", but it has written to a disk before that: it "
                        "cannot go back as if it had not"
                      : ", and whether it has written to a disk is not "
                        "known");
}

/* Wait for the first sign of life. */
static bool
await_life(QmigJob *job, QmigLifeWatch *watch, GError **error)
{
    uint64_t asked_ms = job->options->life_timeout_ms;
    int64_t timeout_ms = asked_ms > 0 ? (int64_t)MIN(asked_ms, G_MAXINT32)
                                      : LIFE_TIMEOUT_MS;
    QmigDeadline deadline = qmig_deadline_in_ms(timeout_ms);
    uint32_t interval_ms = FIRST_INTERVAL_MS;

    while (!qmig_life_is_seen(watch)) {
        g_autoptr(GError) local = NULL;

        if (!qmig_life_look(watch, &job->destination, qmig_job_patience_ms(job),
                            &local)) {
            if (qmig_via_forgives(job, local) && qmig_via_wait(job, NULL)) {
                deadline = qmig_deadline_in_ms(timeout_ms);
                continue;
            }
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
        if (qmig_now_us() >= deadline ||
            (watch->last.registers == NULL && watch->last.kvm < 0 &&
             watch->last.cpu_ns < 0)) {
            return true;
        }
        g_usleep(interval_ms * 1000);
        interval_ms = MIN(interval_ms * 2, MAX_INTERVAL_MS);
    }
    return true;
}

static bool
life_after_cont(QmigJob *job, GError **error)
{
    g_auto(QmigLifeWatch) watch = { 0 };
    bool running = true;

    if (!is_wanted(job)) {
        return true;
    }
    if (!await_life(job, &watch, error)) {
        return false;
    }
    if (qmig_life_is_seen(&watch)) {
        job->alive_us = qmig_now_us();
        return true;
    }
    if (!qmig_qmp_query_status(job->destination.qmp, &running, NULL, NULL, error)) {
        return false;
    }
    if (running && qmig_life_is_missed(&get_life(job)->source, &watch)) {
        int64_t us = watch.last.taken_us - watch.first.taken_us;
        return give_up_lifeless(job, (uint64_t)us / 1000, error);
    }
    qmig_job_message(job, "destination: the guest was not seen to execute anything yet; "
                          "it may sleep, as it seems to have done on the source");
    return true;
}

static void
life_free(QmigJob *job)
{
    if (job->life != NULL) {
        qmig_life_watch_clear(&job->life->source);
        g_clear_pointer(&job->life, g_free);
    }
}

static char *
life_outside(const QmigJob *job)
{
    return job->options->no_proof_of_life
               ? NULL
               : g_strdup("the guest will be looked at for a sign of life on the "
                          "destination");
}

const QmigPart qmig_life_part = {
    .name = "life",
    .recovers = true,
    .outside = life_outside,
    .watch = life_watch,
    .before_cont = life_before_cont,
    .after_cont = life_after_cont,
    .free = life_free,
};
