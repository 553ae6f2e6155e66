/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is asked for and cannot be had is refused with who asked; the definition goes along. */
#include "job/definition.h"
#include "job/job.h"
#include "test-job-world.h"

#include <glib/gstdio.h>

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
ask(QmigJobOptions *o, const char *name, const char *text, const char *option)
{
    if (text == NULL) {
        json_object_object_add(o->capabilities, name, json_object_new_boolean(true));
    } else {
        json_object_object_add(o->parameters, name, json_object_new_string(text));
    }
    json_object_object_add(o->asked_by, name, json_object_new_string(option));
}

/* Run to the end; what is told is in @error, the world is left for a look. */
static QmigOutcome
run(World *w, QmigJobOptions *options, GError **error)
{
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    QmigOutcome outcome = qmig_job_run(job, error);

    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    g_assert_false(w->two_ran);
    return outcome;
}

static void
assert_refused(World *w, QmigJobOptions *options, const char *text)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(run(w, options, &error), ==, QMIG_OUTCOME_REFUSED);
    g_assert_nonnull(strstr(error->message, text));
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_cmpstr(w->run[DST], ==, "inmigrate");
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_true(world_settings_are_as_before(w, DST));
    g_assert_false(world_saw(w, "destination migrate-incoming"));
    world_free(w);
}

static void
test_rules(void)
{
    World *w = world_new();

    world_start(w);
    QmigJobOptions *options = new_options(w);
    ask(options, "xbzrle", NULL, "--compressed");
    ask(options, "multifd", NULL, "--parallel");
    assert_refused(w, options,
                   "xbzrle (--compressed) does not go with multifd (--parallel)");
}

/* A rule of some versions only: the world's QEMUs are 7.2. */
static void
test_rules_of_versions(void)
{
    World *w = world_new();

    world_start(w);
    QmigJobOptions *options = new_options(w);
    options->postcopy = true;
    ask(options, "multifd", NULL, "--parallel");
    assert_refused(w, options, "multifd (--parallel) does not go with postcopy-ram");
}

static void
test_ignored_parameter(void)
{
    World *w = world_new();

    w->ignores_parameters = true;
    world_start(w);
    QmigJobOptions *options = new_options(w);
    ask(options, "downtime-limit", "150ms", "--downtime");
    ask(options, "max-bandwidth", "128MiB/s", "--bandwidth");
    assert_refused(w, options,
                   "downtime-limit: this QEMU took 150, and keeps 300: start it with "
                   "-global migration.downtime-limit=150");
}

/* ---- the definition ---------------------------------------------------------------------- */

typedef struct {
    char *dir, *from, *to, *staged;
} Files;

static Files
files_new(void)
{
    Files f = { .dir = g_dir_make_tmp("qmig-test-XXXXXX", NULL) };

    f.from = g_build_filename(f.dir, "guest", NULL);
    f.to = g_build_filename(f.dir, "copy", NULL);
    f.staged = g_build_filename(f.dir, "copy.qmig-new", NULL);
    g_assert_true(g_file_set_contents(f.from, "qemu\n", -1, NULL));
    return f;
}

static void
files_free(Files *f)
{
    g_unlink(f->from);
    g_unlink(f->to);
    g_unlink(f->staged);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->dir);
    g_free(f->from);
    g_free(f->to);
    g_free(f->staged);
}

static bool
exists(const char *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void
take_along(QmigJobOptions *options, const Files *f)
{
    options->definition = g_strdup(f->from);
    options->definition_to = g_strdup(f->to);
    options->undefine_source = true;
}

static void
test_definition_moves(void)
{
    World *w = world_new();
    Files f = files_new();
    g_autoptr(GError) error = NULL;

    world_start(w);
    QmigJobOptions *options = new_options(w);
    take_along(options, &f);
    g_assert_cmpint(run(w, options, &error), ==, QMIG_OUTCOME_DONE);
    g_assert_true(!exists(f.from) && exists(f.to) && !exists(f.staged));
    world_free(w);
    files_free(&f);
}

static void
test_definition_stays(void)
{
    World *w = world_new();
    Files f = files_new();
    g_autoptr(GError) error = NULL;

    w->course = FAILS;
    world_start(w);
    QmigJobOptions *options = new_options(w);
    take_along(options, &f);
    g_assert_cmpint(run(w, options, &error), ==, QMIG_OUTCOME_FAILED);
    g_assert_true(exists(f.from) && !exists(f.to) && !exists(f.staged));
    world_free(w);
    files_free(&f);
}

/* --offline: only when nobody listens at the source. */
static void
test_definition_alone(void)
{
    World *w = world_new();
    Files f = files_new();
    g_autoptr(GError) error = NULL;

    world_start(w);
    g_autoptr(QmigJobOptions) options = new_options(w);
    take_along(options, &f);
    g_assert_false(qmig_definition_move(options, &error));
    g_assert_nonnull(strstr(error->message, "a QEMU answers at"));
    g_assert_true(exists(f.from) && !exists(f.to));
    world_end(w);
    g_clear_error(&error);
    g_assert_true(qmig_definition_move(options, &error));
    g_assert_no_error(error);
    g_assert_true(!exists(f.from) && exists(f.to));
    world_free(w);
    files_free(&f);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/job/options/what-excludes-each-other", test_rules);
    g_test_add_func("/job/options/in-some-versions", test_rules_of_versions);
    g_test_add_func("/job/options/a-parameter-qemu-ignores", test_ignored_parameter);
    g_test_add_func("/job/definition/moves-with-the-guest", test_definition_moves);
    g_test_add_func("/job/definition/stays-with-the-guest", test_definition_stays);
    g_test_add_func("/job/definition/moves-alone", test_definition_alone);
    return g_test_run();
}
