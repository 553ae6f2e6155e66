/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --dry-run between two QEMUs of a test world: nothing is sent, and the plan is what is done. */
#include "job/job.h"
#include "qmp/client.h"
#include "test-job-world.h"

typedef struct {
    QmigOutcome outcome;
    JsonObject *report;
    GError *error;
} Ran;

typedef void (*Prepare)(QmigJobOptions *options);

static Ran
run(World *w, Prepare prepare, bool dry_run)
{
    QmigJobOptions *options = qmig_job_options_new();
    Ran ran = { 0 };

    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->patience_ms = 300;
    options->direct = true;
    options->no_proof_of_life = true;
    options->dry_run = dry_run;
    if (prepare != NULL) {
        prepare(options);
    }
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    ran.outcome = qmig_job_run(job, &ran.error);
    ran.report = qmig_job_report(job);
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    return ran;
}

static void
ran_clear(Ran *ran)
{
    json_object_put(ran->report);
    g_clear_error(&ran->error);
}

static bool
is_question(const char *command)
{
    return g_str_has_prefix(command, "query-") || g_str_has_prefix(command, "qom-") ||
           strcmp(command, "qmp_capabilities") == 0 ||
           strcmp(command, "human-monitor-command") == 0;
}

/* "source migrate\n…": what the world was told, without the questions. */
static char *
list_sent(const World *w)
{
    g_auto(GStrv) lines = g_strsplit(w->log->str, "\n", 0);
    GString *sent = g_string_new(NULL);

    for (char **line = lines; **line != '\0'; line++) {
        if (!is_question(strchr(*line, ' ') + 1)) {
            g_string_append_printf(sent, "%s\n", *line);
        }
    }
    return g_string_free(sent, FALSE);
}

static char *
list_planned(JsonObject *report)
{
    JsonObject *plan = qmig_json_get(report, "plan", json_type_array);
    GString *planned = g_string_new(NULL);

    for (size_t i = 0; i < json_object_array_length(plan); i++) {
        JsonObject *step = json_object_array_get_idx(plan, i);
        if (qmig_json_string(step, "command") != NULL) {
            g_string_append_printf(planned, "%s %s\n", qmig_json_string(step, "side"),
                                   qmig_json_string(step, "command"));
        }
    }
    return g_string_free(planned, FALSE);
}

static void
ask_suspend(QmigJobOptions *options)
{
    options->suspend = true;
    options->keep_source = true;
}

static void
ask_limits(QmigJobOptions *options)
{
    json_object_object_add(options->parameters, "downtime-limit",
                           json_object_new_string("100ms"));
    json_object_object_add(options->capabilities, "multifd",
                           json_object_new_boolean(true));
}

static void
ask_hook(QmigJobOptions *options)
{
    g_ptr_array_add(options->hooks, g_strdup("switchover=touch /nonexistent/hook"));
}

typedef struct {
    const char *name;
    Prepare prepare;
    const char *run; /* the source's run state */
} Row;

static const Row rows[] = {
    { "plain", NULL, "running" },
    { "suspended-and-kept", ask_suspend, "running" },
    { "of-a-paused-guest", NULL, "paused" },
    { "with-settings", ask_limits, "running" },
};

/* The same world twice: what is planned in one is done in the other. */
static void
test_plan_is_what_is_done(gconstpointer data)
{
    const Row *row = data;
    World *planned = world_new(), *done = world_new();

    planned->run[SRC] = done->run[SRC] = row->run;
    world_start(planned);
    world_start(done);
    Ran rehearsed = run(planned, row->prepare, true);
    Ran real = run(done, row->prepare, false);
    g_assert_no_error(rehearsed.error);
    g_assert_no_error(real.error);
    g_autofree char *plan = list_planned(rehearsed.report);
    g_autofree char *sent = list_sent(done);
    g_assert_cmpstr(plan, ==, sent);
    ran_clear(&rehearsed);
    ran_clear(&real);
    world_free(planned);
    world_free(done);
}

static void
test_nothing_is_sent(void)
{
    World *w = world_new();

    world_start(w);
    Ran ran = run(w, ask_hook, true);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    g_autofree char *sent = list_sent(w);
    g_assert_cmpstr(sent, ==, "");
    g_assert_false(world_saw(w, "source quit"));
    g_assert_cmpstr(w->run[SRC], ==, "running");
    g_assert_cmpstr(w->run[DST], ==, "inmigrate");
    g_assert_true(w->alive[SRC] && w->alive[DST]);
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_true(world_settings_are_as_before(w, DST));
    g_assert_cmpstr(qmig_json_string(ran.report, "guest"), ==, "source");
    /* What is done besides is in the plan, in its phase. */
    const char *plan = json_object_to_json_string_ext(
        json_object_object_get(ran.report, "plan"), JSON_C_TO_STRING_PLAIN);
    g_assert_nonnull(strstr(plan, "{\"phase\":\"switchover\",\"note\":\"hook: touch"));
    ran_clear(&ran);
    world_free(w);
}

static void
ask_proxy(QmigJobOptions *options)
{
    options->direct = false;
    options->no_proof_of_life = false;
}

/* No socket, no directory, no proxy; names are shown all the same. */
static void
test_no_socket_is_made(void)
{
    World *w = world_new();

    world_start(w);
    Ran ran = run(w, ask_proxy, true);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_DONE);
    const char *plan = json_object_to_json_string_ext(
        json_object_object_get(ran.report, "plan"),
        JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    g_assert_nonnull(strstr(plan, "qmig-XXXXXX/source/migrate.sock\"}}"));
    g_assert_nonnull(strstr(plan, "the proxy listens on unix:"));
    g_assert_nonnull(strstr(plan, "sign of life"));
    g_autofree char *dir = g_build_filename(g_get_tmp_dir(), "qmig-XXXXXX", NULL);
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
    ran_clear(&ran);
    world_free(w);
}

static void
ask_postcopy(QmigJobOptions *options)
{
    options->postcopy = true;
    options->postcopy_after_precopy = true;
    json_object_object_add(options->capabilities, "postcopy-ram",
                           json_object_new_boolean(true));
}

static void
test_postcopy_is_planned(void)
{
    World *w = world_new();

    world_start(w);
    Ran ran = run(w, ask_postcopy, true);
    g_assert_no_error(ran.error);
    g_autofree char *plan = list_planned(ran.report);
    const char *stop = strstr(plan, "source stop\n");
    const char *start = strstr(plan, "source migrate-start-postcopy\n");
    const char *cont = strstr(plan, "destination cont\n");
    g_assert_true(stop != NULL && stop < start && start < cont);
    ran_clear(&ran);
    world_free(w);
}

/* Refused as ever, with an empty plan. */
static void
test_refused_as_ever(void)
{
    World *w = world_new();

    w->memory[DST] *= 2;
    world_start(w);
    Ran ran = run(w, NULL, true);
    g_assert_cmpint(ran.outcome, ==, QMIG_OUTCOME_REFUSED);
    g_assert_nonnull(strstr(ran.error->message, "memory: source"));
    g_autofree char *sent = list_sent(w);
    g_assert_cmpstr(sent, ==, "");
    ran_clear(&ran);
    world_free(w);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/rehearsal/plan-is-what-is-done/%s",
                                                rows[i].name);
        g_test_add_data_func(path, &rows[i], test_plan_is_what_is_done);
    }
    g_test_add_func("/rehearsal/nothing-is-sent", test_nothing_is_sent);
    g_test_add_func("/rehearsal/no-socket-is-made", test_no_socket_is_made);
    g_test_add_func("/rehearsal/postcopy-is-planned", test_postcopy_is_planned);
    g_test_add_func("/rehearsal/refused-as-ever", test_refused_as_ever);
    return g_test_run();
}
