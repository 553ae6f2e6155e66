/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A job between two QEMUs of a test world, steered at its control socket while it runs. */
#include "job/control-client.h"
#include "job/job.h"
#include "qmp/client.h"
#include "test-job-world.h"
#include "util/error.h"

typedef struct {
    World *w;
    char *path;
    /* What somebody else does while memory is copied; then it is cancelled, unless that was it. */
    void (*act)(QmigControlPeer *peer, World *w);
    GThread *thread;
    GString *events; /* of the job's own watcher, a line each */
} Steered;

/* As the world is now. (transfer full) */
static JsonObject *
world_parameter(World *w, int side, const char *name)
{
    JsonObject *value = NULL;

    g_mutex_lock(&w->lock);
    json_object_object_get_ex(w->params[side], name, &value);
    value = value != NULL ? json_tokener_parse(json_object_to_json_string(value)) : NULL;
    g_mutex_unlock(&w->lock);
    return value;
}

static bool
call(QmigControlPeer *peer, const char *command, const char *arguments, GError **error)
{
    return qmig_control_call(peer, command,
                             arguments != NULL ? json_tokener_parse(arguments) : NULL,
                             NULL, error);
}

static void
assert_refused(QmigControlPeer *peer, const char *command, const char *arguments,
               const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(call(peer, command, arguments, &error));
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, why));
}

/* Until memory is copied. */
static QmigControlPeer *
await_perform(const char *path)
{
    for (int i = 0; i < 1000; i++) {
        g_autoptr(QmigControlPeer) peer = qmig_control_open(path, NULL);
        g_autoptr(JsonObject) status = NULL;

        if (peer != NULL && qmig_control_call(peer, "status", NULL, &status, NULL) &&
            g_strcmp0(qmig_json_string(status, "status"), "active") == 0) {
            return g_steal_pointer(&peer);
        }
        g_usleep(10000);
    }
    g_error("the job does not get as far as active");
}

static void *
steer(void *data)
{
    Steered *s = data;
    g_autoptr(QmigControlPeer) peer = await_perform(s->path);

    s->act(peer, s->w);
    (void)!call(peer, "cancel", NULL, NULL);
    return NULL;
}

static void
on_event(void *data, JsonObject *event)
{
    g_string_append_printf(data, "%s\n",
                           json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN));
}

static QmigOutcome
run_steered(Steered *s, Course course, bool postcopy,
            void (*act)(QmigControlPeer *peer, World *w))
{
    static const QmigJobWatcher watcher = { .event = on_event };
    QmigJobOptions *options = qmig_job_options_new();

    s->w = world_new();
    s->w->course = course;
    s->act = act;
    s->events = g_string_new(NULL);
    s->path = g_build_filename(s->w->dir, "control", NULL);
    world_start(s->w);
    options->source = qmig_address_new_unix(s->w->paths[SRC]);
    options->destination = qmig_address_new_unix(s->w->paths[DST]);
    options->direct = true;
    options->patience_ms = 300;
    options->postcopy = postcopy;
    options->control = true;
    options->control_path = g_strdup(s->path);
    s->thread = g_thread_new("steer", steer, s);
    g_autoptr(QmigJob) job = qmig_job_new(options, &watcher, s->events, NULL);
    QmigOutcome outcome = qmig_job_run(job, NULL);
    g_clear_pointer(&job, qmig_job_free);
    g_thread_join(s->thread);
    world_end(s->w);
    g_assert_false(s->w->two_ran);
    return outcome;
}

static void
end(Steered *s)
{
    g_assert_cmpint(g_access(s->path, 0), !=, 0);
    world_free(s->w);
    g_string_free(s->events, TRUE);
    g_free(s->path);
}

/* ---- cancel ----------------------------------------------------------------------------- */

static void
do_nothing(QmigControlPeer *peer, World *w)
{
    (void)peer;
    (void)w;
}

static void
test_cancel(void)
{
    Steered s = { 0 };

    g_assert_cmpint(run_steered(&s, STAYS_ACTIVE, false, do_nothing), ==,
                    QMIG_OUTCOME_CANCELLED);
    g_assert_cmpstr(s.w->run[SRC], ==, "running");
    g_assert_true(world_settings_are_as_before(s.w, SRC));
    const char *request = strstr(s.events->str, "{\"event\":\"request\"");
    g_assert_nonnull(request);
    const char *undo = strstr(request, "{\"event\":\"undo\"");
    g_assert_nonnull(undo);
    g_assert_nonnull(strstr(undo, "\"outcome\":\"cancelled\",\"exit_code\":4"));
    end(&s);
}

/* ---- set -------------------------------------------------------------------------------- */

static void
set_some(QmigControlPeer *peer, World *w)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(call(peer, "set",
                       "{\"max-bandwidth\":\"1Gbit\",\"downtime-limit\":\"50ms\"}",
                       &error));
    g_autoptr(JsonObject) rate = world_parameter(w, SRC, "max-bandwidth");
    g_autoptr(JsonObject) limit = world_parameter(w, SRC, "downtime-limit");
    g_autoptr(JsonObject) there = world_parameter(w, DST, "max-bandwidth");
    g_assert_cmpint(json_object_get_int64(rate), ==, 125000000);
    g_assert_cmpint(json_object_get_int64(limit), ==, 50);
    g_assert_cmpint(json_object_get_int64(there), ==, 134217728);
}

static void
test_set(void)
{
    Steered s = { 0 };

    g_assert_cmpint(run_steered(&s, STAYS_ACTIVE, false, set_some), ==,
                    QMIG_OUTCOME_CANCELLED);
    g_assert_true(world_settings_are_as_before(s.w, SRC));
    g_assert_nonnull(strstr(s.events->str, "\"what\":\"downtime-limit = 50 ms\""));
    end(&s);
}

static void
set_wrongly(QmigControlPeer *peer, World *w)
{
    assert_refused(peer, "set", "{\"multifd-channels\":\"4\"}",
                   "when a migration begins");
    assert_refused(peer, "set", "{\"xbzrle\":\"on\"}", "is a capability");
    assert_refused(peer, "set", "{\"no-such\":\"1\"}", "no-such");
    assert_refused(peer, "set", "{\"max-bandwidth\":\"5parsecs\"}", "parsecs");
    assert_refused(peer, "set", "{\"timeout\":\"soon\"}", "timeout");
    assert_refused(peer, "set", "{\"throttle\":\"1M\"}",
                   "throttle.rate: there are no plugins");
    assert_refused(peer, "set", "{\"downtime-limit\":\"50ms\",\"stats.sample\":\"1\"}",
                   "(--direct)");
    /* All or nothing. */
    assert_refused(peer, "set", "{\"downtime-limit\":\"50ms\",\"timeout\":\"soon\"}",
                   "timeout");
    assert_refused(peer, "set", "{\"downtime-limit\":\"50ms\",\"max-bandwidth\":\"x\"}",
                   "x");
    g_autoptr(JsonObject) limit = world_parameter(w, SRC, "downtime-limit");
    g_assert_cmpint(json_object_get_int64(limit), ==, 300);
    assert_refused(peer, "fly", NULL, "no such command");
}

static void
test_set_wrongly(void)
{
    Steered s = { 0 };

    g_assert_cmpint(run_steered(&s, STAYS_ACTIVE, false, set_wrongly), ==,
                    QMIG_OUTCOME_CANCELLED);
    g_assert_nonnull(strstr(s.events->str, "\"event\":\"refused\""));
    end(&s);
}

static void
set_timeout(QmigControlPeer *peer, World *w)
{
    (void)w;
    g_assert_true(call(peer, "set", "{\"timeout\":\"1ms\"}", NULL));
    /* The deadline shall end it, not the cancel that follows. */
    while (call(peer, "status", NULL, NULL)) {
        g_usleep(20000);
    }
}

static void
test_set_timeout(void)
{
    Steered s = { 0 };

    g_assert_cmpint(run_steered(&s, STAYS_ACTIVE, false, set_timeout), ==,
                    QMIG_OUTCOME_DEADLINE);
    g_assert_cmpstr(s.w->run[SRC], ==, "running");
    end(&s);
}

/* ---- post-copy -------------------------------------------------------------------------- */

static void
ask_for_postcopy(QmigControlPeer *peer, World *w)
{
    (void)w;
    assert_refused(peer, "postcopy", NULL, "qmig migrate --postcopy");
    assert_refused(peer, "pause", NULL, "only post-copy can be paused");
    assert_refused(peer, "recover", NULL, "nothing to recover");
}

static void
test_postcopy_must_be_prepared(void)
{
    Steered s = { 0 };

    g_assert_cmpint(run_steered(&s, STAYS_ACTIVE, false, ask_for_postcopy), ==,
                    QMIG_OUTCOME_CANCELLED);
    g_assert_false(world_saw(s.w, "source migrate-start-postcopy"));
    g_assert_false(world_saw(s.w, "source stop"));
    end(&s);
}

/* ---- beginning and end ------------------------------------------------------------------ */

static void
test_named_socket_must_be_had(void)
{
    World *w = world_new();
    QmigJobOptions *options = qmig_job_options_new();
    g_autoptr(GError) error = NULL;

    world_start(w);
    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->direct = true;
    options->control = true;
    options->control_path = g_build_filename(w->dir, "no", "such", "directory", NULL);
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    g_assert_cmpint(qmig_job_run(job, &error), ==, QMIG_OUTCOME_USAGE);
    g_assert_nonnull(strstr(error->message, "--control: "));
    world_end(w);
    g_assert_cmpstr(w->log->str, ==, "");
    world_free(w);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/steer/cancel", test_cancel);
    g_test_add_func("/steer/set-changes-the-source-and-is-put-back", test_set);
    g_test_add_func("/steer/set-is-refused-as-a-whole", test_set_wrongly);
    g_test_add_func("/steer/set-timeout", test_set_timeout);
    g_test_add_func("/steer/postcopy-must-be-prepared", test_postcopy_must_be_prepared);
    g_test_add_func("/steer/named-socket-must-be-had", test_named_socket_must_be_had);
    return g_test_run();
}
