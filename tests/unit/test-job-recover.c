/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qmig migrate` between two QEMUs of a test world is killed at every command, before and after the
 * command is done. Recovery then ends it, one way or the other: both QEMUs being alive, nothing
 * may stay unclear, and nothing be left.
 */
#include "job/recover.h"

#include "test-job-world.h"
#include "util/error.h"

#include <sys/wait.h>

enum { AT_ONCE = 4 };

typedef struct {
    FaultKind kind;
    int side;
    unsigned at;        /* 0: no fault */
    const char *option; /* (nullable) of qmig migrate */
} Case;

/* What came of a case. */
typedef struct {
    World *w;
    char *journal;
    int status; /* of the process */
    QmigOutcome outcome;
    GError *error;
} Ran;

#define claim(ran, c, condition)                                                      \
    do {                                                                              \
        if (!(condition)) {                                                           \
            g_error(                                                                  \
                "killed %s command %u of the %s, recovered: %d (%s), not so: %s\n%s", \
                (c)->kind == KILL_BEFORE ? "before" : "after", (c)->at,               \
                world_labels[(c)->side], (int)(ran)->outcome,                         \
                (ran)->error != NULL ? (ran)->error->message : "", #condition,        \
                (ran)->w->log->str);                                                  \
        }                                                                             \
    } while (0)

/* The real program, in the world; the world waits until it knows whom to kill. */
static void
spawn_qmig(Ran *ran, const char *option)
{
    World *w = ran->w;
    g_autofree char *source = g_strdup_printf("unix:%s", w->paths[SRC]);
    g_autofree char *destination = g_strdup_printf("unix:%s", w->paths[DST]);
    g_autofree char *journal = g_strdup_printf("--journal=%s", ran->journal);
    char *argv[] = { (char *)g_getenv("QMIG"),
                     (char *)"migrate",
                     (char *)"--direct",
                     (char *)"--progress=none",
                     journal,
                     source,
                     destination,
                     (char *)option,
                     NULL };
    g_auto(GStrv)
        env = g_environ_setenv(g_get_environ(), "QMIG_RUNTIME_DIR", w->dir, TRUE);
    g_autoptr(GError) error = NULL;

    g_mutex_lock(&w->lock);
    g_spawn_async(NULL, argv, env,
                  G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL |
                      G_SPAWN_STDERR_TO_DEV_NULL,
                  NULL, NULL, &w->victim, &error);
    g_mutex_unlock(&w->lock);
    g_assert_no_error(error);
    g_assert_cmpint(waitpid(w->victim, &ran->status, 0), ==, w->victim);
}

static void
remove_all(const char *dir)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", dir);

    g_assert_cmpint(system(command), ==, 0);
}

static Ran
run_case(const Case *c)
{
    Ran ran = { .w = world_new() };

    json_object_object_add(ran.w->params[SRC], "downtime-limit", json_object_new_int(10));
    ran.w->fault.kind = c->at > 0 ? c->kind : NO_FAULT;
    ran.w->fault.side = c->side;
    ran.w->fault.at = c->at;
    ran.journal = g_build_filename(ran.w->dir, "journal", NULL);
    world_start(ran.w);
    spawn_qmig(&ran, c->option);
    if (c->at > 0 && g_file_test(ran.journal, G_FILE_TEST_EXISTS)) {
        ran.outcome = qmig_recover(ran.journal, NULL, NULL, NULL, NULL, NULL, NULL,
                                   &ran.error);
        /* Again: nothing is left to do, or the same is found. */
        QmigOutcome again = qmig_recover(ran.journal, NULL, NULL, NULL, NULL, NULL, NULL,
                                         NULL);
        claim(&ran, c, again == QMIG_OUTCOME_DONE);
    } else {
        ran.outcome = c->at > 0 ? QMIG_OUTCOME_REFUSED : QMIG_OUTCOME_DONE;
    }
    world_end(ran.w);
    return ran;
}

static void
ran_free(Ran *ran)
{
    remove_all(ran->w->dir);
    world_free(ran->w);
    g_free(ran->journal);
    g_clear_error(&ran->error);
}

static bool
is_running(const World *w, int side)
{
    return strcmp(w->run[side], "running") == 0;
}

static void
check_case(const Case *c, const Ran *ran)
{
    const World *w = ran->w;

    claim(ran, c, !w->two_ran);
    claim(ran, c, !w->dst_cont_too_early);
    claim(ran, c, !w->src_cont_too_early);
    switch ((int)ran->outcome) {
    case QMIG_OUTCOME_DONE:
        claim(ran, c, is_running(w, DST) && !is_running(w, SRC));
        claim(ran, c, w->alive[SRC] == (c->option != NULL));
        claim(ran, c, world_settings_are_as_before(w, DST));
        claim(ran, c, c->option == NULL || world_settings_are_as_before(w, SRC));
        break;
    case QMIG_OUTCOME_FAILED:
        claim(ran, c, is_running(w, SRC) && !is_running(w, DST));
        claim(ran, c, world_settings_are_as_before(w, SRC));
        claim(ran, c, !w->alive[DST] || world_settings_are_as_before(w, DST));
        claim(ran, c,
              w->alive[DST] == !world_saw(w, "destination migrate-incoming") ||
                  !w->alive[DST]);
        break;
    case QMIG_OUTCOME_REFUSED:
        /* No journal: nothing was touched. */
        claim(ran, c, is_running(w, SRC) && w->alive[DST]);
        claim(ran, c, world_settings_are_as_before(w, SRC));
        claim(ran, c, world_settings_are_as_before(w, DST));
        break;
    default:
        claim(ran, c, false);
    }
}

static void
do_case(gpointer data, gpointer user_data)
{
    g_autofree Case *c = data;
    Ran ran = run_case(c);

    (void)user_data;
    claim(&ran, c, ran.w->fault.struck);
    claim(&ran, c, WIFSIGNALED(ran.status) || world_saw(ran.w, "source quit"));
    check_case(c, &ran);
    ran_free(&ran);
}

static void
test_every_command(gconstpointer data)
{
    const Case *pattern = data;
    Case none = { .option = pattern->option };
    Ran whole = run_case(&none);
    GThreadPool *pool = g_thread_pool_new(do_case, NULL, AT_ONCE, FALSE, NULL);
    unsigned n = 0;

    g_assert_true(WIFEXITED(whole.status));
    g_assert_cmpint(WEXITSTATUS(whole.status), ==, 0);
    for (int side = 0; side < N_SIDES; side++) {
        g_assert_cmpuint(whole.w->n_commands[side], >, 10);
        for (unsigned at = 1; at <= whole.w->n_commands[side]; at++) {
            Case *c = g_new(Case, 1);
            *c = (Case){ pattern->kind, side, at, pattern->option };
            g_thread_pool_push(pool, c, NULL);
            n++;
        }
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    g_test_message("%u cases", n);
    ran_free(&whole);
}

int
main(int argc, char **argv)
{
    static const Case before = { .kind = KILL_BEFORE }, after = { .kind = KILL_AFTER };
    static const Case kept = { .kind = KILL_AFTER, .option = "--keep-source" };

    g_test_init(&argc, &argv, NULL);
    if (g_getenv("QMIG") == NULL) {
        g_test_message("QMIG does not say where the program is");
        return 77;
    }
    g_test_add_data_func("/job/recover/killed-before-every-command", &before,
                         test_every_command);
    g_test_add_data_func("/job/recover/killed-after-every-command", &after,
                         test_every_command);
    g_test_add_data_func("/job/recover/killed-with-a-kept-source", &kept,
                         test_every_command);
    return g_test_run();
}
