/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job between two QEMUs of a test world: what it does, in which order, and what it leaves. */
#include "job/job.h"
#include "test-job-world.h"
#include "util/error.h"

typedef struct {
    QmigOutcome outcome;
    GError *error;
    JsonObject *report;
} Ran;

static QmigJobOptions *
new_options(const World *w)
{
    QmigJobOptions *options = qmig_job_options_new();

    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->direct = true;
    options->patience_ms = 300;
    return options;
}

static void
ask(QmigJobOptions *options, const char *name, const char *text)
{
    if (text == NULL) {
        json_object_object_add(options->capabilities, name,
                               json_object_new_boolean(true));
    } else {
        json_object_object_add(options->parameters, name, json_object_new_string(text));
    }
}

/* Run to the end; the world has ended then. */
static Ran
run_watched(World *w, QmigJobOptions *options, const QmigJobWatcher *watcher, void *data,
            const QmigCancel *cancel)
{
    Ran ran = { 0 };
    g_autoptr(QmigJob) job = qmig_job_new(options, watcher, data, cancel);

    ran.outcome = qmig_job_run(job, &ran.error);
    ran.report = qmig_job_report(job);
    g_assert_true((ran.outcome == QMIG_OUTCOME_DONE) == (ran.error == NULL));
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    g_assert_false(w->two_ran);
    g_assert_false(w->dst_cont_too_early);
    g_assert_false(w->src_cont_too_early);
    return ran;
}

static Ran
run(World *w, QmigJobOptions *options)
{
    return run_watched(w, options, NULL, NULL, NULL);
}

static void
end(World *w, Ran *ran)
{
    g_clear_error(&ran->error);
    json_object_put(ran->report);
    world_free(w);
}

static const char *
text_of(JsonObject *object, const char *key)
{
    JsonObject *value = NULL;

    g_assert_true(json_object_object_get_ex(object, key, &value));
    return json_object_get_string(value);
}

/* The source has the guest, as before, and the destination is used up. */
static void
assert_stayed(World *w, const Ran *ran, QmigOutcome outcome)
{
    g_assert_cmpint(ran->outcome, ==, outcome);
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_false(w->alive[DST]);
    g_assert_false(world_saw(w, "destination cont"));
    g_assert_cmpstr(text_of(ran->report, "guest"), ==, "source");
}

static void
test_done(void)
{
    World *w = world_new();

    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_cmpstr(w->run[DST], ==, "running");
    g_assert_false(w->alive[SRC]);
    g_assert_true(world_settings_are_as_before(w, DST));
    g_assert_cmpstr(text_of(ran.report, "guest"), ==, "destination");
    g_assert_cmpstr(text_of(ran.report, "guest_name"), ==, "guest");
    end(w, &ran);
}

static void
test_destination_is_made_to_wait(void)
{
    World *w = world_new();

    w->autostart = true;
    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->suspend = true;
    Ran ran = run(w, options);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_cmpstr(w->run[DST], ==, "paused");
    const char *stop = strstr(w->log->str, "destination stop\n");
    const char *incoming = strstr(w->log->str, "destination migrate-incoming\n");
    g_assert_true(stop != NULL && stop < incoming);
    end(w, &ran);
}

static void
test_paused_stays_paused(void)
{
    World *w = world_new();

    w->run[SRC] = "paused";
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_cmpstr(w->run[DST], ==, "paused");
    g_assert_false(world_saw(w, "destination cont"));
    end(w, &ran);
}

static void
test_stopped_meanwhile_stays_stopped(void)
{
    World *w = world_new();

    w->course = STOPPED_ELSEWHERE;
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_cmpstr(w->run[DST], ==, "paused");
    g_assert_false(world_saw(w, "destination cont"));
    end(w, &ran);
}

static void
test_kept_source_is_as_before(void)
{
    World *w = world_new();

    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->keep_source = true;
    ask(options, "downtime-limit", "100ms");
    Ran ran = run(w, options);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_true(w->alive[SRC]);
    g_assert_cmpstr(w->run[SRC], ==, "postmigrate");
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_false(world_saw(w, "source quit"));
    g_assert_false(world_saw(w, "source cont"));
    end(w, &ran);
}

/* Only questions were asked. */
static void
assert_untouched(const World *w)
{
    g_auto(GStrv) lines = g_strsplit(w->log->str, "\n", 0);

    for (char **line = lines; *line != NULL && **line != '\0'; line++) {
        const char *command = strchr(*line, ' ') + 1;
        g_assert_true(g_str_has_prefix(command, "query-") ||
                      strcmp(command, "qmp_capabilities") == 0 ||
                      strcmp(command, "qom-get") == 0);
    }
}

static void
test_all_problems_at_once(void)
{
    World *w = world_new();

    w->run[SRC] = "postmigrate";
    w->run[DST] = "running";
    w->machine[DST] = "pc-i440fx-8.0";
    w->memory[DST] *= 2;
    world_start(w);
    QmigJobOptions *options = new_options(w);
    ask(options, "x-no-such-cap", NULL);
    ask(options, "no-such-parameter", "1");
    ask(options, "x-colo", NULL);
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(qmig_job_run(job, &error), ==, QMIG_OUTCOME_REFUSED);
    world_end(w);
    static const char *const texts[] = {
        "postmigrate",   "\"running\", wanted \"inmigrate\"",
        "pc-i440fx-8.0", "memory:",
        "x-no-such-cap", "no-such-parameter",
        "x-colo",        "Nothing was touched"
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_assert_nonnull(strstr(error->message, texts[i]));
    }
    assert_untouched(w);
    world_free(w);
}

static void
test_used_destination_is_refused(void)
{
    World *w = world_new();

    w->status[DST] = "setup";
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_REFUSED);
    assert_untouched(w);
    end(w, &ran);
}

/* What a report says of the guest when one side could not be asked: what the other says. */
static void
check_unreachable(bool source, const char *runs)
{
    World *w = world_new();

    world_start(w);
    QmigJobOptions *options = new_options(w);
    QmigAddress **lost = source ? &options->source : &options->destination;
    qmig_address_free(*lost);
    *lost = qmig_address_new_unix("/nowhere/qmp.sock");
    Ran ran = run(w, options);
    JsonObject *value = NULL;
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_REFUSED);
    g_assert_cmpstr(text_of(ran.report, "guest"), ==, "source");
    (void)json_object_object_get_ex(ran.report, "guest_runs", &value);
    g_assert_cmpstr(value != NULL ? json_object_get_string(value) : NULL, ==, runs);
    end(w, &ran);
}

static void
test_unreachable(void)
{
    check_unreachable(true, NULL);
    check_unreachable(false, "true");
}

/* QEMU may refuse a combination only when it is set: the destination is still good then. */
static void
test_refused_settings_spare_the_destination(void)
{
    World *w = world_new();

    w->fault.kind = ANSWER_NO;
    w->fault.side = DST;
    w->fault.name = "migrate-set-capabilities";
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_REFUSED);
    g_assert_true(w->alive[DST]);
    g_assert_false(world_saw(w, "destination migrate-incoming"));
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_true(world_settings_are_as_before(w, DST));
    end(w, &ran);
}

static void
test_failed(void)
{
    World *w = world_new();

    w->course = FAILS;
    world_start(w);
    Ran ran = run(w, new_options(w));
    assert_stayed(w, &ran, QMIG_OUTCOME_FAILED);
    JsonObject *error = NULL;
    g_assert_true(json_object_object_get_ex(ran.report, "error", &error));
    g_assert_cmpstr(text_of(error, "side"), ==, "source");
    g_assert_cmpstr(text_of(error, "phase"), ==, "switchover");
    g_assert_cmpstr(text_of(error, "where"), ==, "The guest runs on the source.");
    g_assert_false(world_saw(w, "source cont"));
    end(w, &ran);
}

/* The source's guest does not come back by itself: it does when the destination is gone. */
static void
test_failed_in_limbo(void)
{
    World *w = world_new();

    w->course = FAILS_IN_LIMBO;
    world_start(w);
    Ran ran = run(w, new_options(w));
    assert_stayed(w, &ran, QMIG_OUTCOME_FAILED);
    g_assert_true(world_saw(w, "source cont"));
    end(w, &ran);
}

static void
test_cancelled_elsewhere(void)
{
    World *w = world_new();

    w->course = CANCELLED_ELSEWHERE;
    world_start(w);
    Ran ran = run(w, new_options(w));
    assert_stayed(w, &ran, QMIG_OUTCOME_CANCELLED);
    g_assert_false(world_saw(w, "source migrate_cancel"));
    end(w, &ran);
}

static void
raise_it(void *data, const QmigProgress *progress)
{
    if (progress->iteration >= 2) {
        qmig_cancel_raise(data);
    }
}

static const QmigJobWatcher raiser = { .progress = raise_it };

static void
test_cancelled_here(void)
{
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    World *w = world_new();

    w->course = STAYS_ACTIVE;
    world_start(w);
    Ran ran = run_watched(w, new_options(w), &raiser, cancel, cancel);
    assert_stayed(w, &ran, QMIG_OUTCOME_CANCELLED);
    g_assert_true(world_saw(w, "source migrate_cancel"));
    end(w, &ran);
}

/* The source completes while it is told to cancel: the destination has the guest. */
static void
test_cancelled_too_late(void)
{
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    World *w = world_new();

    w->course = STAYS_ACTIVE;
    w->completes_on_cancel = true;
    world_start(w);
    Ran ran = run_watched(w, new_options(w), &raiser, cancel, cancel);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_cmpstr(w->run[DST], ==, "running");
    end(w, &ran);
}

static void
test_deadline(void)
{
    World *w = world_new();

    w->course = STAYS_ACTIVE;
    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->timeout_ms = 400;
    Ran ran = run(w, options);
    assert_stayed(w, &ran, QMIG_OUTCOME_DEADLINE);
    end(w, &ran);
}

/* Its main loop hangs in a write; out of band it can still be told to let go. */
static void
test_hung_source_is_yanked(void)
{
    World *w = world_new();

    w->course = HANGS_IN_DEVICE;
    json_object_object_add(w->params[SRC], "downtime-limit", json_object_new_int(10));
    world_start(w);
    Ran ran = run(w, new_options(w));
    assert_stayed(w, &ran, QMIG_OUTCOME_FAILED);
    g_assert_true(world_saw(w, "source yank"));
    end(w, &ran);
}

/* The destination does not run the guest, and is proven never to have: back it goes. */
static void
test_refused_cont_rolls_back(void)
{
    World *w = world_new();

    w->fault.kind = ANSWER_NO;
    w->fault.side = DST;
    w->fault.name = "cont";
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_FAILED);
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_false(w->alive[DST]);
    g_assert_true(world_settings_are_as_before(w, SRC));
    end(w, &ran);
}

/* It died on `cont`: it may have run the guest for a moment. Nothing is touched. */
static void
test_death_on_cont_is_unclear(void)
{
    World *w = world_new();

    w->fault.kind = DIE;
    w->fault.side = DST;
    w->fault.name = "cont";
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_UNCLEAR);
    g_assert_cmpstr(w->run[SRC], ==, "postmigrate");
    g_assert_false(world_saw(w, "source cont"));
    g_assert_cmpstr(text_of(ran.report, "guest"), ==, "unclear");
    end(w, &ran);
}

/* A source that was hung up on cannot be proven dead: its pid is not a QEMU's here. */
static void
test_lost_source_is_unclear(void)
{
    World *w = world_new();

    w->fault.kind = DIE;
    w->fault.side = SRC;
    w->fault.name = "migrate";
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_UNCLEAR);
    g_assert_false(world_saw(w, "destination cont"));
    end(w, &ran);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/job/done", test_done);
    g_test_add_func("/job/destination-is-made-to-wait", test_destination_is_made_to_wait);
    g_test_add_func("/job/paused-stays-paused", test_paused_stays_paused);
    g_test_add_func("/job/stopped-meanwhile-stays-stopped",
                    test_stopped_meanwhile_stays_stopped);
    g_test_add_func("/job/kept-source-is-as-before", test_kept_source_is_as_before);
    g_test_add_func("/job/all-problems-at-once", test_all_problems_at_once);
    g_test_add_func("/job/used-destination-is-refused", test_used_destination_is_refused);
    g_test_add_func("/job/unreachable", test_unreachable);
    g_test_add_func("/job/refused-settings-spare-the-destination",
                    test_refused_settings_spare_the_destination);
    g_test_add_func("/job/failed", test_failed);
    g_test_add_func("/job/failed-in-limbo", test_failed_in_limbo);
    g_test_add_func("/job/cancelled-elsewhere", test_cancelled_elsewhere);
    g_test_add_func("/job/cancelled-here", test_cancelled_here);
    g_test_add_func("/job/cancelled-too-late", test_cancelled_too_late);
    g_test_add_func("/job/deadline", test_deadline);
    g_test_add_func("/job/hung-source-is-yanked", test_hung_source_is_yanked);
    g_test_add_func("/job/refused-cont-rolls-back", test_refused_cont_rolls_back);
    g_test_add_func("/job/death-on-cont-is-unclear", test_death_on_cont_is_unclear);
    g_test_add_func("/job/lost-source-is-unclear", test_lost_source_is_unclear);
    return g_test_run();
}
