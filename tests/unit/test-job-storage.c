/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job between two QEMUs whose guest has a disk: what is copied, refused, and put back. */
#include "job/job.h"
#include "test-job-world.h"
#include "util/error.h"

typedef struct {
    QmigOutcome outcome;
    GError *error;
    JsonObject *report;
} Ran;

static World *
new_world(void)
{
    World *w = world_new();

    w->disk.present = true;
    return w;
}

static QmigJobOptions *
new_options(const World *w)
{
    QmigJobOptions *options = qmig_job_options_new();

    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->direct = true;
    options->patience_ms = 300;
    options->copy_storage_all = true;
    return options;
}

static Ran
run(World *w, QmigJobOptions *options)
{
    Ran ran = { 0 };
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);

    ran.outcome = qmig_job_run(job, &ran.error);
    ran.report = qmig_job_report(job);
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    g_assert_false(w->two_ran);
    g_assert_false(w->unequal);
    return ran;
}

static void
end(World *w, Ran *ran)
{
    g_clear_error(&ran->error);
    json_object_put(ran->report);
    world_free(w);
}

static void
assert_stayed(World *w, const Ran *ran, QmigOutcome outcome)
{
    g_assert_cmpint(ran->outcome, ==, outcome);
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_true(disk_is_left_alone(&w->disk));
    g_assert_false(world_saw(w, "destination cont"));
}

/* Where @b comes after @a. */
static void
assert_order(const World *w, const char *a, const char *b)
{
    const char *first = strstr(w->log->str, a), *then = strstr(w->log->str, b);

    g_assert_true(first != NULL && then != NULL && first < then);
}

static void
test_copied(void)
{
    World *w = new_world();

    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_no_error(ran.error);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_true(w->disk.equal);
    g_assert_false(w->disk.serving);
    assert_order(w, "destination block-export-add", "destination migrate-incoming");
    assert_order(w, "source blockdev-mirror", "source migrate\n");
    assert_order(w, "source block-job-cancel", "source migrate-continue");
    assert_order(w, "destination nbd-server-stop", "source migrate-continue");
    JsonObject *storage = json_object_object_get(ran.report, "storage");
    g_assert_cmpstr(json_object_get_string(json_object_object_get(storage, "mode")), ==,
                    "all");
    g_assert_true(json_object_get_boolean(json_object_object_get(storage, "equal")));
    end(w, &ran);
}

static void
assert_refused(World *w, QmigJobOptions *options, const char *text)
{
    Ran ran = run(w, options);

    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_REFUSED);
    g_assert_nonnull(strstr(ran.error->message, text));
    g_assert_true(w->alive[DST]);
    g_assert_false(world_saw(w, "destination nbd-server-start"));
    end(w, &ran);
}

static void
test_not_copied_is_unsafe(void)
{
    World *w = new_world();

    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->copy_storage_all = false;
    assert_refused(w, options, "--unsafe");
}

static void
test_unsafe_is_let_through(void)
{
    World *w = new_world();

    w->disk.equal = true; /* as the user says */
    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->copy_storage_all = false;
    options->unsafe = true;
    Ran ran = run(w, options);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_assert_false(world_saw(w, "source blockdev-mirror"));
    end(w, &ran);
}

static void
test_other_size_is_refused(void)
{
    World *w = new_world();

    w->disk.sizes[DST] = 4096;
    world_start(w);
    assert_refused(w, new_options(w), "qemu-img create");
}

static void
test_unknown_disk_is_refused(void)
{
    World *w = new_world();

    world_start(w);
    QmigJobOptions *options = new_options(w);
    g_ptr_array_add(options->migrate_disks, g_strdup("drive9"));
    assert_refused(w, options, "no disk \"drive9\"");
}

static void
test_no_backing_is_refused(void)
{
    World *w = new_world();

    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->copy_storage_all = false;
    options->copy_storage_inc = true;
    assert_refused(w, options, "no backing file");
}

static void
test_failure_leaves_nothing(void)
{
    World *w = new_world();

    w->course = FAILS;
    world_start(w);
    Ran ran = run(w, new_options(w));
    assert_stayed(w, &ran, QMIG_OUTCOME_FAILED);
    end(w, &ran);
}

static void
test_destination_dies(void)
{
    World *w = new_world();

    w->disk.stuck = true; /* the copy is not over when it dies */
    w->fault.kind = DIE;
    w->fault.side = DST;
    w->fault.name = "migrate-incoming";
    world_start(w);
    Ran ran = run(w, new_options(w));
    assert_stayed(w, &ran, QMIG_OUTCOME_FAILED);
    end(w, &ran);
}

/* QEMU's heap is corrupted when a write-blocking mirror ends under the guest's writes. */
static void
test_synchronous_ends_with_the_guest_held(gconstpointer data)
{
    World *w = new_world();

    w->disk.breaks = GPOINTER_TO_INT(data);
    w->disk.stuck = !w->disk.breaks;
    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->copy_storage_synchronous = true;
    Ran ran = run(w, options);
    assert_stayed(w, &ran, QMIG_OUTCOME_FAILED);
    g_assert_true(w->disk.synchronous);
    assert_order(w, "source stop", "source block-job-cancel");
    assert_order(w, "source block-job-cancel", "source cont");
    end(w, &ran);
}

static void
test_stuck_mirror_is_yanked(void)
{
    World *w = new_world();

    w->disk.stuck = true;
    world_start(w);
    Ran ran = run(w, new_options(w));
    assert_stayed(w, &ran, QMIG_OUTCOME_FAILED);
    g_assert_error(ran.error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_assert_true(world_saw(w, "source yank"));
    end(w, &ran);
}

static void
test_leftovers_are_removed(void)
{
    World *w = new_world();

    w->disk.connected = w->disk.exported = w->disk.serving = true;
    w->disk.job = "ready";
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_no_error(ran.error);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    end(w, &ran);
}

/* Each command that copying adds says no once: the guest stays, or has arrived with its disk. */
static void
test_says_no(gconstpointer data)
{
    const char *command = data;
    World *w = new_world();

    w->fault.kind = ANSWER_NO;
    w->fault.side = strstr(command, "export") != NULL || strstr(command, "nbd") != NULL
                        ? DST
                        : SRC;
    w->fault.name = command;
    world_start(w);
    Ran ran = run(w, new_options(w));
    g_assert_true(w->fault.struck);
    if (ran.outcome != QMIG_OUTCOME_DONE) {
        g_assert_cmpstr(w->run[SRC], ==, "running");
        g_assert_true(world_settings_are_as_before(w, SRC));
        g_assert_true(disk_is_left_alone(&w->disk));
        g_assert_false(w->alive[DST] && w->disk.serving);
    }
    end(w, &ran);
}

int
main(int argc, char **argv)
{
    static const char *const commands[] = {
        "nbd-server-start", "block-export-add", "blockdev-add",     "blockdev-mirror",
        "block-job-cancel", "job-dismiss",      "block-export-del", "nbd-server-stop",
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/job/storage/copied", test_copied);
    g_test_add_func("/job/storage/not-copied-is-unsafe", test_not_copied_is_unsafe);
    g_test_add_func("/job/storage/unsafe-is-let-through", test_unsafe_is_let_through);
    g_test_add_func("/job/storage/other-size-is-refused", test_other_size_is_refused);
    g_test_add_func("/job/storage/unknown-disk-is-refused", test_unknown_disk_is_refused);
    g_test_add_func("/job/storage/no-backing-is-refused", test_no_backing_is_refused);
    g_test_add_func("/job/storage/failure-leaves-nothing", test_failure_leaves_nothing);
    g_test_add_func("/job/storage/destination-dies", test_destination_dies);
    g_test_add_data_func("/job/storage/synchronous-breaks", GINT_TO_POINTER(true),
                         test_synchronous_ends_with_the_guest_held);
    g_test_add_data_func("/job/storage/synchronous-is-stuck", GINT_TO_POINTER(false),
                         test_synchronous_ends_with_the_guest_held);
    g_test_add_func("/job/storage/stuck-mirror-is-yanked", test_stuck_mirror_is_yanked);
    g_test_add_func("/job/storage/leftovers-are-removed", test_leftovers_are_removed);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *name = g_strdup_printf("/job/storage/says-no/%s", commands[i]);
        g_test_add_data_func(name, commands[i], test_says_no);
    }
    return g_test_run();
}
