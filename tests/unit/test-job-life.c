/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Proof of life: a destination whose guest "runs" and does nothing, and what counts as a sign. */
#include "job/job.h"
#include "job/life.h"
#include "test-job-world.h"
#include "util/error.h"

typedef struct {
    QmigOutcome outcome;
    GError *error;
} Ran;

static Ran
run(World *w, uint32_t life_timeout_ms)
{
    QmigJobOptions *options = qmig_job_options_new();
    Ran ran = { 0 };

    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->direct = true;
    options->patience_ms = 300;
    options->life_timeout_ms = life_timeout_ms;
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    ran.outcome = qmig_job_run(job, &ran.error);
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    g_assert_false(w->two_ran);
    g_assert_false(w->dst_cont_too_early);
    g_assert_false(w->src_cont_too_early);
    return ran;
}

static void
end(World *w, Ran *ran)
{
    g_clear_error(&ran->error);
    world_free(w);
}

/* Seconds without what it did ten times a second on the source. */
static void
test_comes_back(void)
{
    World *w = world_new();

    w->lifeless[DST] = true;
    world_start(w);
    Ran ran = run(w, 2800);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_FAILED);
    g_assert_nonnull(strstr(ran.error->message, "executes nothing"));
    g_assert_true(world_saw(w, "destination cont"));
    g_assert_true(world_saw(w, "destination stop"));
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_false(w->alive[DST]);
    g_assert_true(world_settings_are_as_before(w, SRC));
    end(w, &ran);
}

static void
test_has_written(void)
{
    World *w = world_new();

    w->lifeless[DST] = true;
    w->writes = 1;
    world_start(w);
    Ran ran = run(w, 2800);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_UNCLEAR);
    g_assert_nonnull(strstr(ran.error->message, "written to a disk"));
    g_assert_false(world_saw(w, "source cont"));
    g_assert_false(world_saw(w, "source quit"));
    end(w, &ran);
}

/* Who did nothing on the source either may sleep. */
static void
test_quiet_is_let_be(void)
{
    World *w = world_new();

    w->lifeless[SRC] = w->lifeless[DST] = true;
    world_start(w);
    Ran ran = run(w, 300);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_cmpstr(w->run[DST], ==, "running");
    end(w, &ran);
}

/* A destination that hangs right after `cont`: the source must not be let go. */
static void
test_hangs_after_cont(void)
{
    World *w = world_new();

    json_object_object_add(w->params[SRC], "downtime-limit", json_object_new_int(10));
    w->fault.kind = HANG;
    w->fault.side = DST;
    w->fault.name = "human-monitor-command";
    world_start(w);
    Ran ran = run(w, 300);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_UNCLEAR);
    g_assert_false(world_saw(w, "source quit"));
    g_assert_false(world_saw(w, "source cont"));
    end(w, &ran);
}

static QmigLifeWatch
watch_of(int64_t us, unsigned changes, int64_t cpu_ns)
{
    return (QmigLifeWatch){ .begun = true,
                            .looks = 10,
                            .changes = changes,
                            .first = { .kvm = -1, .cpu_ns = 0, .taken_us = 1000000 },
                            .last = {
                                .kvm = -1, .cpu_ns = cpu_ns, .taken_us = 1000000 + us } };
}

static void
test_what_is_missed(void)
{
    QmigLifeWatch busy = watch_of(1000000, 10, 0), idle = watch_of(1000000, 1, 0);
    QmigLifeWatch nothing = watch_of(3000000, 0, 0), early = watch_of(1000000, 0, 0);
    QmigLifeWatch once = watch_of(3000000, 1, 0);
    QmigLifeWatch spins = watch_of(3000000, 0, 2900 * G_GINT64_CONSTANT(1000000));
    QmigLifeWatch none = { 0 };

    g_assert_true(qmig_life_is_missed(&busy, &nothing));
    g_assert_false(qmig_life_is_missed(&busy, &early));
    g_assert_false(qmig_life_is_missed(&idle, &nothing));
    g_assert_false(qmig_life_is_missed(&busy, &once));
    g_assert_true(qmig_life_is_seen(&once));
    g_assert_false(qmig_life_is_missed(&busy, &spins));
    g_assert_true(qmig_life_is_seen(&spins));
    g_assert_false(qmig_life_is_missed(&none, &nothing));
    g_assert_false(qmig_life_is_missed(&busy, &none));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/job/life/what-is-missed", test_what_is_missed);
    g_test_add_func("/job/life/a-lifeless-guest-comes-back", test_comes_back);
    g_test_add_func("/job/life/not-one-that-has-written", test_has_written);
    g_test_add_func("/job/life/a-quiet-guest-is-let-be", test_quiet_is_let_be);
    g_test_add_func("/job/life/a-hung-destination-is-unclear", test_hangs_after_cont);
    return g_test_run();
}
