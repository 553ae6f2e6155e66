/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs whose way is a tunnel that this test plays: what its near end says, and when. The job keeps
 * the source from switching over, waits in the dark, and never takes the tunnel's end for a QEMU's.
 */
#include "job/control-client.h"
#include "job/job-priv.h"
#include "job/recover.h"
#include "job/steer.h"
#include "job/steps.h"
#include "job/via-priv.h"
#include "test-job-tunnel.h"
#include "test-job-world.h"

#include <sys/resource.h>

/* ---- jobs ------------------------------------------------------------------------------- */

static World *
new_world(void)
{
    World *w = world_new();

    memset(&play, 0, sizeof play);
    return w;
}

static QmigJobOptions *
new_options(const World *w)
{
    QmigJobOptions *options = qmig_job_options_new();

    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->destination_via = true;
    g_ptr_array_add(options->via, g_strdup("far.example"));
    options->via_insecure = true;
    options->direct = true;
    options->keep_source = true;
    options->no_proof_of_life = true;
    options->patience_ms = 300;
    options->via_standstill_ms = play.standstill_ms;
    return options;
}

typedef struct {
    World *world;
    GArray *limits; /* int64_t: downtime limits of the source, each new one */
    int ticks;
    void (*tick)(World *w, int n);
} Watch;

static void
on_progress(void *data, const QmigProgress *progress)
{
    Watch *watch = data;
    JsonObject *limit = NULL;

    if (progress->phase != QMIG_PHASE_PERFORM) {
        return;
    }
    g_mutex_lock(&watch->world->lock);
    json_object_object_get_ex(watch->world->params[SRC], "downtime-limit", &limit);
    int64_t ms = json_object_get_int64(limit);
    g_mutex_unlock(&watch->world->lock);
    if (watch->limits->len == 0 ||
        g_array_index(watch->limits, int64_t, watch->limits->len - 1) != ms) {
        g_array_append_val(watch->limits, ms);
    }
    if (watch->tick != NULL) {
        watch->tick(watch->world, ++watch->ticks);
    }
}

static const QmigJobWatcher watcher = { .progress = on_progress };

static QmigOutcome
run(World *w, Watch *watch, GError **error)
{
    world_start(w);
    g_autoptr(QmigJob) job = qmig_job_new(new_options(w), &watcher, watch, NULL);
    QmigOutcome outcome = qmig_job_run(job, error);
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    g_assert_false(w->two_ran);
    g_assert_false(w->dst_cont_too_early);
    return outcome;
}

/* Much is in the tunnel at first, then little. */
static void
drain(World *w, int n)
{
    g_atomic_int_set(&play.backlog_ms, n < 3 ? 2000 : 100);
    if (n == 7) {
        g_mutex_lock(&w->lock);
        w->course = COMPLETES;
        g_mutex_unlock(&w->lock);
    }
}

static void
test_holds_the_source(void)
{
    World *w = new_world();
    Watch watch = { .world = w,
                    .limits = g_array_new(FALSE, FALSE, sizeof(int64_t)),
                    .tick = drain };

    w->course = STAYS_ACTIVE;
    g_assert_cmpint(run(w, &watch, NULL), ==, QMIG_OUTCOME_DONE);
    /* From before the first byte on, until it fits: then what it leaves of the 300. */
    g_assert_cmpuint(watch.limits->len, >=, 2);
    g_assert_cmpint(g_array_index(watch.limits, int64_t, 0), ==, 1);
    g_assert_cmpint(g_array_index(watch.limits, int64_t, watch.limits->len - 1), ==, 200);
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_cmpint(play.n_closed, ==, 1);
    g_assert_cmpint(play.critical, ==, 1);
    /* The monitor, and the way of the stream. */
    g_assert_cmpint(play.n_forwards, ==, 2);
    g_array_unref(watch.limits);
    world_free(w);
}

static void *
light(void *data)
{
    World *w = data;

    g_usleep(1500000);
    g_mutex_lock(&w->lock);
    g_assert_false(w->cont_seen[DST]);
    g_mutex_unlock(&w->lock);
    g_atomic_int_set(&play.backlog_ms, 0);
    return NULL;
}

static GThread *lamp;

static void
darken(World *w, int n)
{
    if (n == 3) {
        g_atomic_int_set(&play.backlog_ms, -1);
        lamp = g_thread_new("lamp", light, w);
    }
}

/* The source completes in the dark: the destination is told nothing before it is light. */
static void
test_waits_in_the_dark(void)
{
    World *w = new_world();
    Watch watch = { .world = w,
                    .limits = g_array_new(FALSE, FALSE, sizeof(int64_t)),
                    .tick = darken };

    g_assert_cmpint(run(w, &watch, NULL), ==, QMIG_OUTCOME_DONE);
    g_thread_join(lamp);
    g_assert_cmpstr(w->run[DST], ==, "running");
    g_array_unref(watch.limits);
    world_free(w);
}

static void
give_up(World *w, int n)
{
    if (n == 2) {
        g_atomic_int_set(&play.failed, 1);
        g_mutex_lock(&w->lock);
        w->course = FAILS;
        g_mutex_unlock(&w->lock);
    }
}

/* What the tunnel gives up was a matter of time. */
static void
test_given_up_is_a_deadline(void)
{
    World *w = new_world();
    Watch watch = { .world = w,
                    .limits = g_array_new(FALSE, FALSE, sizeof(int64_t)),
                    .tick = give_up };
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(run(w, &watch, &error), ==, QMIG_OUTCOME_DEADLINE);
    g_assert_nonnull(strstr(error->message, "tunnel: no connection for 120 s"));
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_array_unref(watch.limits);
    world_free(w);
}

static void
wake_source(void *world)
{
    World *w = world;

    g_mutex_lock(&w->lock);
    w->hangs[SRC] = false;
    world_fail(w, "failed");
    g_mutex_unlock(&w->lock);
}

/* The link goes dark, and the source hangs in a write; @stops: of its guest's last state. */
static void
hang(World *w, bool stops)
{
    g_atomic_int_set(&play.backlog_ms, -1);
    g_mutex_lock(&w->lock);
    if (stops) {
        world_set_run(w, SRC, "finish-migrate");
        fake_event(&w->fakes[SRC], "STOP", "{}");
    }
    w->hangs[SRC] = true;
    play.given_up = wake_source;
    play.data = w;
    g_mutex_unlock(&w->lock);
}

/* In time the tunnel gives up by itself. */
static void
give_up_at(int n, int last)
{
    if (n == last) {
        GError *error = g_error_new(QMIG_ERROR, QMIG_ERROR_TIMEOUT, "no connection");
        qmig_link_fail(NULL, error);
    }
}

static void
hang_stopped(World *w, int n)
{
    if (n == 2) {
        hang(w, true);
    }
    give_up_at(n, 40);
}

static void
hang_running(World *w, int n)
{
    if (n == 2) {
        hang(w, false);
    }
    give_up_at(n, 40);
}

static void
check_standstill(void (*tick)(World *w, int n), const char *why)
{
    World *w = new_world();
    Watch watch = { .world = w,
                    .limits = g_array_new(FALSE, FALSE, sizeof(int64_t)),
                    .tick = tick };
    g_autoptr(GError) error = NULL;

    w->course = STAYS_ACTIVE;
    play.standstill_ms = 1000;
    /* The limit is low already: nothing more is to be set. */
    g_atomic_int_set(&play.backlog_ms, 2000);
    g_assert_cmpint(run(w, &watch, &error), ==, QMIG_OUTCOME_DEADLINE);
    g_assert_nonnull(strstr(error->message, why));
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_array_unref(watch.limits);
    world_free(w);
}

/* A source that nobody told to wait stops its guest within perform, and cannot be asked in the dark. A
 * guest that runs has time. */
static void
test_stands_still_in_perform(void)
{
    check_standstill(hang_stopped, "tunnel: the guest stood still for 1");
    check_standstill(hang_running, "tunnel: no connection");
}

static void
turn_down(World *w, int n)
{
    if (n == 2) {
        play.reason_us = qmig_now_us();
        g_mutex_lock(&w->lock);
        w->course = FAILS;
        g_mutex_unlock(&w->lock);
    }
}

/* The link stands, and the far end would not connect: why is told; what was before is not. */
static void
check_turned_down(const char *reason, int64_t reason_us, bool is_told)
{
    World *w = new_world();
    Watch watch = { .world = w,
                    .limits = g_array_new(FALSE, FALSE, sizeof(int64_t)),
                    .tick = reason_us == 0 ? turn_down : NULL };
    g_autoptr(GError) error = NULL;

    w->course = reason_us == 0 ? COMPLETES : FAILS;
    play.reason = reason;
    play.reason_us = reason_us;
    g_assert_cmpint(run(w, &watch, &error), ==, QMIG_OUTCOME_FAILED);
    const char *told = strstr(error->message, reason);
    g_assert_cmpint(told != NULL, ==, is_told);
    g_assert_true(told == NULL || strstr(told + 1, reason) == NULL);
    g_assert_cmpint(strstr(error->message, "; tunnel: ") != NULL, ==,
                    is_told && strcmp(reason, "migration failed") != 0);
    g_array_unref(watch.limits);
    world_free(w);
}

static void
test_turned_down(void)
{
    check_turned_down("the far end may not connect there", 0, true);
    check_turned_down("the far end may not connect there", qmig_now_us(), false);
    /* It has been said. */
    check_turned_down("migration failed", 0, true);
}

/* Nobody is there: nothing was touched, and what to do is said. */
static void
test_nobody_there(void)
{
    struct rlimit before, after;
    World *w = new_world();
    Watch watch = { .world = w, .limits = g_array_new(FALSE, FALSE, sizeof(int64_t)) };
    g_autoptr(GError) error = NULL;

    play.refuses = true;
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    before.rlim_cur = MIN(before.rlim_max - 1, 256);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    g_assert_cmpint(run(w, &watch, &error), ==, QMIG_OUTCOME_REFUSED);
    /* Every channel through a tunnel takes some. */
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &after), ==, 0);
    g_assert_true(after.rlim_cur == after.rlim_max);
    g_assert_nonnull(strstr(error->message, "tcp:far.example:7117"));
    g_assert_nonnull(strstr(error->message, "qmig proxy --tunnel"));
    g_assert_cmpuint(w->n_commands[DST], ==, 0);
    g_assert_false(world_saw(w, "source migrate-set-capabilities"));
    g_array_unref(watch.limits);
    world_free(w);
}

/* ---- the monitor is lost ----------------------------------------------------------------- */

static World *
run_and_lose(FaultKind kind, unsigned at, QmigOutcome *outcome, GError **error)
{
    World *w = new_world();

    w->fault.kind = kind;
    w->fault.side = DST;
    w->fault.at = at;
    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->no_proof_of_life = false;
    options->recover_ms = 5000;
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    *outcome = qmig_job_run(job, error);
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    return w;
}

/* The number of that side's command @name, the first or the last one; 0 = there is none. */
static unsigned
find_command(const World *w, int side, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(w->log->str, "\n", -1);
    g_autofree char *wanted = g_strdup_printf("%s %s", world_labels[side], name);
    unsigned n = 0;

    for (size_t i = 0; lines[i] != NULL; i++) {
        n += g_str_has_prefix(lines[i], world_labels[side]);
        if (strcmp(lines[i], wanted) == 0) {
            return n;
        }
    }
    return 0;
}

/* From the moment on when it is to run the guest, until all is put back: the monitor can be lost
 * with each command. It is found again, and it goes on. */
static void
test_lost_monitor(gconstpointer data)
{
    FaultKind kind = (FaultKind)GPOINTER_TO_INT(data);
    QmigOutcome outcome;
    World *whole = run_and_lose(NO_FAULT, 0, &outcome, NULL);
    unsigned first = find_command(whole, DST, "cont"), last = whole->n_commands[DST];

    g_assert_cmpint(outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_cmpuint(first, >, 1);
    g_assert_cmpuint(last, >, first + 4);
    world_free(whole);
    /* What comes before it is a count of its disks' requests. */
    for (unsigned at = first - 1; at <= last; at++) {
        g_autoptr(GError) error = NULL;
        World *w = run_and_lose(kind, at, &outcome, &error);

        if (outcome != QMIG_OUTCOME_DONE || !world_settings_are_as_before(w, DST)) {
            g_error("closed at command %u: %d (%s)\n%s", at, (int)outcome,
                    error != NULL ? error->message : "settings", w->log->str);
        }
        g_assert_true(w->fault.struck);
        g_assert_cmpstr(w->run[DST], ==, "running");
        g_assert_cmpstr(w->run[SRC], ==, "postmigrate");
        g_assert_false(w->two_ran);
        g_assert_false(world_saw(w, "source cont"));
        world_free(w);
    }
}

static void *
light_confirm(void *data)
{
    World *w = data;

    g_mutex_lock(&w->lock);
    unsigned n = w->n_commands[DST];
    g_mutex_unlock(&w->lock);
    g_usleep(500000);
    g_mutex_lock(&w->lock);
    g_assert_cmpuint(w->n_commands[DST], ==, n);
    g_mutex_unlock(&w->lock);
    g_atomic_int_set(&play.backlog_ms, 0);
    return NULL;
}

static void
darken_confirm(void *data, QmigPhase phase)
{
    if (phase == QMIG_PHASE_CONFIRM) {
        g_atomic_int_set(&play.backlog_ms, -1);
        lamp = g_thread_new("lamp", light_confirm, data);
    }
}

/* What nobody would hear is not said: the settings are put back when it is light. */
static void
test_confirms_after_the_dark(void)
{
    static const QmigJobWatcher confirm_watcher = { .phase = darken_confirm };
    World *w = new_world();

    world_start(w);
    g_autoptr(QmigJob) job = qmig_job_new(new_options(w), &confirm_watcher, w, NULL);
    g_assert_cmpint(qmig_job_run(job, NULL), ==, QMIG_OUTCOME_DONE);
    g_thread_join(lamp);
    world_end(w);
    g_assert_true(world_settings_are_as_before(w, DST));
    world_free(w);
}

/* ---- the dark can be ended ---------------------------------------------------------------- */

static bool
in_the_dark(QmigJob *job, GError **error)
{
    return !qmig_via_is_dark(job) ||
           qmig_set_error(error, QMIG_ERROR_TIMEOUT, "no answer");
}

typedef struct {
    QmigCancel *cancel;
    const char *control;
} Wish;

static void *
wish(void *data)
{
    Wish *w = data;

    g_usleep(200000);
    if (w->cancel != NULL) {
        qmig_cancel_raise(w->cancel);
    }
    if (w->control != NULL) {
        g_autoptr(QmigControlPeer) peer = qmig_control_open(w->control, NULL);
        (void)!qmig_control_call(peer, "cancel", NULL, NULL, NULL);
    }
    g_usleep(500000);
    g_atomic_int_set(&play.backlog_ms, 0);
    return NULL;
}

/* Wait in the dark in @phase, until it is cancelled by @cancel, at --timeout, or at the control
 * socket; it would be over by itself after 700 ms. */
static bool
wait_in(QmigPhase phase, QmigCancel *cancel, uint64_t timeout_ms, QmigJob **job,
        GError **error)
{
    World *w = new_world();
    g_autofree char *path = g_build_filename(w->dir, "control", NULL);
    bool asked = cancel == NULL && timeout_ms == 0;
    Wish data = { .cancel = cancel, .control = asked ? path : NULL };

    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->timeout_ms = timeout_ms;
    options->control = true;
    options->control_path = g_strdup(path);
    *job = qmig_job_new(options, NULL, NULL, cancel);
    (*job)->phase = phase;
    (*job)->begin_us = qmig_now_us();
    g_assert_true(qmig_steer_begin(*job, NULL) && qmig_via_begin(*job, NULL));
    g_atomic_int_set(&play.backlog_ms, -1);
    GThread *thread = g_thread_new("wish", wish, &data);
    bool ok = qmig_via_despite_darkness(*job, in_the_dark, error);
    /* It was still dark. */
    g_assert_true(ok || g_atomic_int_get(&play.backlog_ms) < 0);
    g_thread_join(thread);
    world_end(w);
    world_free(w);
    return ok;
}

static void
test_cancelled_in_the_dark(void)
{
    static const QmigPhase cancellable[] = { QMIG_PHASE_PREPARE, QMIG_PHASE_SWITCHOVER };

    for (size_t i = 0; i < G_N_ELEMENTS(cancellable); i++) {
        g_autoptr(QmigCancel) cancel = qmig_cancel_new();
        g_autoptr(QmigJob) job = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_false(wait_in(cancellable[i], cancel, 0, &job, &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
        g_assert_true(job->cancelled);
    }
}

static void
test_asked_in_the_dark(void)
{
    g_autoptr(QmigJob) job = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(wait_in(QMIG_PHASE_STORAGE, NULL, 0, &job, &error));
    g_assert_true(job->cancelled);
}

static void
test_timeout_in_the_dark(void)
{
    g_autoptr(QmigJob) job = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(wait_in(QMIG_PHASE_PREPARE, NULL, 300, &job, &error));
    g_assert_true(job->deadline_passed);
    g_assert_nonnull(strstr(error->message, "--timeout"));
}

/* There is no way back: nobody can end it. */
static void
test_not_cancelled_later(void)
{
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    g_autoptr(QmigJob) job = NULL;

    g_assert_true(wait_in(QMIG_PHASE_FINISH, cancel, 300, &job, NULL));
    g_assert_false(job->cancelled || job->deadline_passed);
}

/* ---- recovery ----------------------------------------------------------------------------- */

static JsonObject *
side_record(const World *w, int side)
{
    JsonObject *o = json_object_new_object();
    g_autofree char *qmp = g_strdup_printf("unix:%s", w->paths[side]);

    json_object_object_add(o, "qmp", json_object_new_string(qmp));
    json_object_object_add(o, "name", json_object_new_string("guest"));
    json_object_object_add(o, "uuid", json_object_new_string("0"));
    json_object_object_add(o, "machine", json_object_new_string("pc-i440fx-7.2"));
    json_object_object_add(o, "capabilities", world_copy(w->caps_before[side]));
    json_object_object_add(o, "parameters", world_copy(w->params_before[side]));
    return o;
}

static JsonObject *
begin_record(const World *w, bool monitor)
{
    g_autoptr(QmigJobOptions) of_tunnel = new_options(w);
    JsonObject *o = json_object_new_object(), *options = json_object_new_object();

    json_object_object_add(options, "via", qmig_via_options_to_journal(of_tunnel));
    json_object_object_add(options, "destination_via", json_object_new_boolean(monitor));
    json_object_object_add(options, "direct", json_object_new_boolean(true));
    json_object_object_add(o, "options", options);
    json_object_object_add(o, "qmig", qmig_steps_process(getpid()));
    json_object_object_add(o, "runs", json_object_new_boolean(true));
    json_object_object_add(o, "source", side_record(w, SRC));
    json_object_object_add(o, "destination", side_record(w, DST));
    return o;
}

typedef struct {
    bool direct;       /* the destination's monitor is not reached through the tunnel */
    const char *steps; /* written after begin */
    const char *status, *run; /* of the source */
    const char *fence;
    QmigOutcome outcome;
    const char *source; /* its run state then */
} Recovery;

static void
write_journal(const World *w, const char *path, const Recovery *r)
{
    g_auto(GStrv) steps = g_strsplit(r->steps, " ", -1);
    g_autoptr(QmigJournal) journal = qmig_journal_create(path, NULL);

    g_assert_nonnull(journal);
    g_assert_true(
        qmig_journal_append(journal, "begin", begin_record(w, !r->direct), NULL));
    for (size_t i = 0; steps[i] != NULL; i++) {
        g_assert_true(qmig_journal_append(journal, steps[i], NULL, NULL));
    }
}

/* The far end of the tunnel is gone, and both QEMUs are alive. */
static void
test_recovers_without_tunnel(gconstpointer data)
{
    const Recovery *r = data;
    World *w = new_world();
    g_autofree char *path = g_build_filename(w->dir, "journal", NULL);
    g_autoptr(GError) error = NULL;

    play.refuses = true;
    w->course = STAYS_ACTIVE;
    w->survives = true;
    world_start(w);
    g_mutex_lock(&w->lock);
    w->status[SRC] = r->status;
    w->run[SRC] = r->run;
    json_object_object_add(w->params[SRC], "downtime-limit", json_object_new_int(1));
    write_journal(w, path, r);
    g_mutex_unlock(&w->lock);
    QmigOutcome outcome = qmig_recover(path, r->fence, NULL, NULL, NULL, NULL, NULL,
                                       &error);
    world_end(w);
    if (outcome != r->outcome || strcmp(w->run[SRC], r->source) != 0) {
        g_error("%s: %d (%s)\n%s", r->steps, (int)outcome, error->message, w->log->str);
    }
    g_assert_cmpuint(w->n_commands[DST] > 0, ==, r->direct);
    g_assert_true(world_saw(w, "destination quit") == r->direct);
    g_assert_false(world_saw(w, "destination cont"));
    g_assert_true(world_settings_are_as_before(w, SRC) ==
                  (outcome == QMIG_OUTCOME_FAILED));
    g_assert_true((strstr(error->message, "tunnel: ") != NULL) ==
                  (outcome == QMIG_OUTCOME_REFUSED));
    g_unlink(path);
    world_free(w);
}

/* clang-format off */
static const struct {
    const char *name;
    Recovery recovery;
} recoveries[] = {
    { "undone", { false, "incoming migrate", "active", "running", NULL,
                  QMIG_OUTCOME_FAILED, "running" } },
    { "undone-with-its-own-monitor", { true, "incoming migrate", "active", "running", NULL,
                                       QMIG_OUTCOME_FAILED, "running" } },
    { "completed", { false, "incoming migrate", "completed", "postmigrate", NULL,
                     QMIG_OUTCOME_UNCLEAR, "postmigrate" } },
    { "completed-and-fenced", { false, "incoming migrate", "completed", "postmigrate", "true",
                                QMIG_OUTCOME_FAILED, "running" } },
    { "completed-and-told-to-run", { false, "incoming migrate cont", "completed",
                                     "postmigrate", "true", QMIG_OUTCOME_UNCLEAR,
                                     "postmigrate" } },
    { "in-postcopy", { false, "incoming migrate hold postcopy cont", "postcopy-paused",
                       "finish-migrate", "true", QMIG_OUTCOME_REFUSED, "finish-migrate" } },
    { "failed-in-postcopy", { false, "incoming migrate hold postcopy cont", "failed",
                              "paused", "true", QMIG_OUTCOME_UNCLEAR, "paused" } },
};
/* clang-format on */

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/via/holds-the-source", test_holds_the_source);
    g_test_add_func("/via/waits-in-the-dark", test_waits_in_the_dark);
    g_test_add_func("/via/given-up-is-a-deadline", test_given_up_is_a_deadline);
    g_test_add_func("/via/stands-still-in-perform", test_stands_still_in_perform);
    g_test_add_func("/via/turned-down", test_turned_down);
    g_test_add_func("/via/nobody-there", test_nobody_there);
    g_test_add_data_func("/via/lost-monitor/before", GINT_TO_POINTER(CLOSE_BEFORE),
                         test_lost_monitor);
    g_test_add_data_func("/via/lost-monitor/after", GINT_TO_POINTER(CLOSE_AFTER),
                         test_lost_monitor);
    g_test_add_func("/via/dark/cancelled", test_cancelled_in_the_dark);
    g_test_add_func("/via/dark/confirm", test_confirms_after_the_dark);
    g_test_add_func("/via/dark/asked", test_asked_in_the_dark);
    g_test_add_func("/via/dark/timeout", test_timeout_in_the_dark);
    g_test_add_func("/via/dark/not-cancelled-later", test_not_cancelled_later);
    for (size_t i = 0; i < G_N_ELEMENTS(recoveries); i++) {
        g_autofree char *name = g_strdup_printf("/via/recover/%s", recoveries[i].name);
        g_test_add_data_func(name, &recoveries[i].recovery, test_recovers_without_tunnel);
    }
    return g_test_run();
}
