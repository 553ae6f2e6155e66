/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fence: asked only where a side is not proven gone and the other one has to run the guest. */
#include "job/job.h"
#include "test-job-world.h"

/* A destination that never answers `quit`, and a source whose guest does not come back by itself. */
static World *
run_with_fence(const char *fence, QmigOutcome *outcome)
{
    World *w = world_new();

    json_object_object_add(w->params[SRC], "downtime-limit", json_object_new_int(10));
    w->course = FAILS_IN_LIMBO;
    w->survives = true;
    w->fault.kind = HANG;
    w->fault.side = DST;
    w->fault.name = "quit";
    world_start(w);
    QmigJobOptions *options = qmig_job_options_new();
    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->direct = true;
    options->patience_ms = 300;
    options->fence = g_strdup(fence);
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    *outcome = qmig_job_run(job, NULL);
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    return w;
}

static void
test_yes(void)
{
    QmigOutcome outcome;
    World *w = run_with_fence(
        "test \"$QMIG_SIDE\" = destination && test -n \"$QMIG_QMP\" && "
        "test -n \"$QMIG_REASON\"",
        &outcome);

    g_assert_cmpint(outcome, ==, QMIG_OUTCOME_FAILED);
    g_assert_true(world_saw(w, "source cont"));
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_true(world_settings_are_as_before(w, SRC));
    world_free(w);
}

static void
test_no(gconstpointer fence)
{
    QmigOutcome outcome;
    World *w = run_with_fence(fence, &outcome);

    g_assert_cmpint(outcome, ==, QMIG_OUTCOME_UNCLEAR);
    g_assert_false(world_saw(w, "source cont"));
    g_assert_false(world_saw(w, "destination cont"));
    world_free(w);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/job/fence/its-yes-frees-the-source", test_yes);
    g_test_add_data_func("/job/fence/its-no-leaves-it-unclear", "exit 1", test_no);
    return g_test_run();
}
