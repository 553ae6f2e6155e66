/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A fault at every command of a migration, on each side: the peer dies, says no, says something
 * odd, or hangs. Whatever it is, one guest at most runs, the one that can survive does, and the
 * outcome says the truth. Many cases run at once, each in a world and thread of its own.
 */
#include "job/job.h"
#include "test-job-world.h"

enum {
    /* A peer that is well answers sooner, even where other tests keep all processors busy. */
    PATIENCE_MS = 3000,
    RECOVER_MS = 1000,
    /* Cases of a row at once: those that hang do little but wait. */
    N_HANGING = 100,
    N_OTHERS = 24,
};

typedef struct {
    FaultKind kind;
    Course course;
    int side;
    unsigned at;
} Case;

/* An assertion that tells the case and all that was said in it. */
#define claim(w, c, outcome, condition)                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            g_error("fault %d at command %u of the %s, outcome %d: not so: %s\n%s", \
                    (c)->kind, (c)->at, world_labels[(c)->side], (int)(outcome),    \
                    #condition, (w)->log->str);                                     \
        }                                                                           \
    } while (0)

static QmigJobOptions *
new_options(const World *w)
{
    QmigJobOptions *options = qmig_job_options_new();

    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->direct = true;
    options->postcopy_after_precopy = w->course >= POSTCOPY_COMPLETES;
    options->postcopy = options->postcopy_after_precopy;
    options->recover_ms = RECOVER_MS;
    options->patience_ms = PATIENCE_MS;
    return options;
}

static World *
run_world(const Case *c, QmigOutcome *outcome)
{
    World *w = world_new();

    json_object_object_add(w->params[SRC], "downtime-limit", json_object_new_int(10));
    w->course = c->course;
    w->fault.kind = c->kind;
    w->fault.side = c->side;
    w->fault.at = c->at;
    world_start(w);
    g_autoptr(QmigJob) job = qmig_job_new(new_options(w), NULL, NULL, NULL);
    *outcome = qmig_job_run(job, NULL);
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    return w;
}

/* What must be so whatever happened. */
static void
check_guest(const World *w, const Case *c, QmigOutcome outcome)
{
    bool src_runs = strcmp(w->run[SRC], "running") == 0;
    bool dst_runs = strcmp(w->run[DST], "running") == 0;

    claim(w, c, outcome, !w->two_ran);
    claim(w, c, outcome, !w->dst_cont_too_early);
    claim(w, c, outcome, !w->src_cont_too_early);
    switch ((int)outcome) {
    case QMIG_OUTCOME_DONE:
        claim(w, c, outcome, dst_runs && !src_runs);
        break;
    case QMIG_OUTCOME_REFUSED:
    case QMIG_OUTCOME_FAILED:
        /* A source that died before anything was begun took its guest with it. */
        claim(w, c, outcome, (src_runs || !w->alive[SRC]) && !dst_runs);
        claim(w, c, outcome, src_runs || w->fault.side == SRC);
        break;
    case QMIG_OUTCOME_PAUSED:
        claim(w, c, outcome, !src_runs && w->alive[SRC] && w->alive[DST]);
        break;
    case QMIG_OUTCOME_UNCLEAR:
        claim(w, c, outcome, !world_saw(w, "source quit"));
        break;
    default:
        g_assert_not_reached();
    }
}

/* What was changed is put back wherever somebody can be asked to. */
static void
check_settings(const World *w, const Case *c, QmigOutcome outcome)
{
    if (outcome != QMIG_OUTCOME_REFUSED && outcome != QMIG_OUTCOME_FAILED) {
        return;
    }
    for (int side = 0; side < N_SIDES; side++) {
        /* The fault may be in the putting back itself; of a hung one nothing is known. */
        if (w->alive[side] && (c->side != side || c->kind == DIE)) {
            claim(w, c, outcome, world_settings_are_as_before(w, side));
        }
    }
    if (world_saw(w, "destination migrate-incoming") && c->side != DST) {
        claim(w, c, outcome, !w->alive[DST]);
    }
}

/* A person is asked only where nothing can be proven. */
static void
check_clarity(const World *w, const Case *c, QmigOutcome outcome)
{
    if (outcome != QMIG_OUTCOME_UNCLEAR) {
        return;
    }
    if (c->course == POSTCOPY_FAILS_LATE) {
        return;
    }
    claim(w, c, outcome, c->kind == DIE || c->kind == HANG);
    /* Once its source is in post-copy, a destination takes the guest with it. */
    claim(w, c, outcome,
          c->side == SRC || w->n_postcopy_steps > 0 || world_saw(w, "destination cont") ||
              c->kind == HANG);
}

static void
run_case(void *data, void *unused G_GNUC_UNUSED)
{
    g_autofree Case *c = data;
    QmigOutcome outcome;
    World *w = run_world(c, &outcome);

    /* How often post-copy polls hangs on the clock: the last commands may not come. */
    claim(w, c, outcome, w->fault.struck || c->course >= POSTCOPY_COMPLETES);
    check_guest(w, c, outcome);
    check_settings(w, c, outcome);
    check_clarity(w, c, outcome);
    world_free(w);
}

typedef struct {
    const char *name;
    Case pattern;
    GThreadPool *cases; /* NULL = not begun, or over */
    unsigned n_cases;
} Row;

static Row rows[] = {
    { "/job/fault/dies-at-every-command", { .kind = DIE } },
    { "/job/fault/says-no-at-every-command", { .kind = ANSWER_NO } },
    { "/job/fault/lies-at-every-command", { .kind = ANSWER_ODD } },
    { "/job/fault/hangs-at-every-command", { .kind = HANG } },
    { "/job/fault/dies-while-it-fails", { .kind = DIE, .course = FAILS } },
    { "/job/fault/says-no-while-it-fails", { .kind = ANSWER_NO, .course = FAILS } },
    { "/job/fault/hangs-while-it-fails", { .kind = HANG, .course = FAILS } },
    { "/job/fault/dies-in-post-copy", { .kind = DIE, .course = POSTCOPY_BREAKS } },
    { "/job/fault/says-no-in-post-copy",
      { .kind = ANSWER_NO, .course = POSTCOPY_BREAKS } },
    { "/job/fault/hangs-in-post-copy", { .kind = HANG, .course = POSTCOPY_BREAKS } },
    { "/job/fault/dies-while-post-copy-fails-early",
      { .kind = DIE, .course = POSTCOPY_FAILS_EARLY } },
    { "/job/fault/dies-while-post-copy-fails-late",
      { .kind = DIE, .course = POSTCOPY_FAILS_LATE } },
};

/* Without a fault. */
static QmigOutcome
outcome_of(Course course)
{
    return course == COMPLETES || course == POSTCOPY_BREAKS ? QMIG_OUTCOME_DONE
           : course == POSTCOPY_FAILS_LATE                  ? QMIG_OUTCOME_UNCLEAR
                                                            : QMIG_OUTCOME_FAILED;
}

static void
begin_row(Row *row)
{
    Case none = { .kind = NO_FAULT, .course = row->pattern.course };
    QmigOutcome outcome;
    World *w = run_world(&none, &outcome);

    g_assert_cmpint(outcome, ==, outcome_of(none.course));
    row->cases = g_thread_pool_new(
        run_case, NULL, row->pattern.kind == HANG ? N_HANGING : N_OTHERS, TRUE, NULL);
    for (int side = 0; side < N_SIDES; side++) {
        g_assert_cmpuint(w->n_commands[side], >, 10);
        for (unsigned at = 1; at <= w->n_commands[side]; at++) {
            Case *c = g_new(Case, 1);
            *c = (Case){ row->pattern.kind, row->pattern.course, side, at };
            g_thread_pool_push(row->cases, c, NULL);
            row->n_cases++;
        }
    }
    world_free(w);
}

/* Those that hang take long: the first test begins them all. */
static void
test_every_command(gconstpointer data)
{
    Row *row = (Row *)data;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].pattern.kind == HANG && rows[i].n_cases == 0) {
            begin_row(&rows[i]);
        }
    }
    if (row->n_cases == 0) {
        begin_row(row);
    }
    g_test_message("%u cases", row->n_cases);
    g_thread_pool_free(g_steal_pointer(&row->cases), FALSE, TRUE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_add_data_func(rows[i].name, &rows[i], test_every_command);
    }
    return g_test_run();
}
