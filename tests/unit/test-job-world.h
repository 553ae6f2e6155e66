/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two QEMUs and one guest, as a job sees them: threads behind two QMP sockets that share one
 * world. A migration moves on by a step with every query-migrate of the source. Faults strike at
 * the n-th command of a side. The world itself watches that one guest at most runs.
 */
#ifndef QMIG_TESTS_JOB_WORLD_H
#define QMIG_TESTS_JOB_WORLD_H

#include "test-job-disks.h"
#include "util/address.h"
#include "util/auto.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { SRC, DST, N_SIDES };

typedef enum {
    NO_FAULT,
    DIE,         /* the process is gone, and its socket */
    ANSWER_NO,   /* GenericError */
    ANSWER_ODD,  /* a reply of another shape than agreed */
    HANG,        /* reads, and answers nothing but yank */
    KILL_BEFORE, /* world->victim is killed, and the command is not done */
    KILL_AFTER,  /* the same, after it is done, before it is answered */
    CLOSE_BEFORE, /* the connection is closed, and the command is not done: it may come again */
    CLOSE_AFTER, /* the same, after it is done, before it is answered */
} FaultKind;

typedef enum {
    COMPLETES,
    FAILS,          /* the source resumes its guest */
    FAILS_IN_LIMBO, /* the source's guest stays "postmigrate" */
    STAYS_ACTIVE,
    CANCELLED_ELSEWHERE,
    STOPPED_ELSEWHERE, /* somebody stops the source's guest meanwhile; then it completes */
    HANGS_IN_DEVICE,   /* the source answers no more until it is yanked */
    POSTCOPY_COMPLETES,
    POSTCOPY_BREAKS,      /* the link breaks once */
    POSTCOPY_FAILS_EARLY, /* the source fails before the destination has the devices */
    POSTCOPY_FAILS_LATE, /* the source fails after its last page, and lets run what ran when
                              it was asked for post-copy */
} Course;

typedef struct World World;

typedef struct {
    World *world;
    int side;
    int listener, fd; /* -1 = closed */
    GThread *thread;
    struct json_tokener *tokener;
} Fake;

struct World {
    GMutex lock; /* guards all below but fakes */
    Fake fakes[N_SIDES];
    char *dir;
    char *paths[N_SIDES];
    bool ended;

    bool alive[N_SIDES];
    const char *run[N_SIDES];    /* run state */
    const char *status[N_SIDES]; /* of the migration */
    JsonObject *caps[N_SIDES], *params[N_SIDES];
    JsonObject *caps_before[N_SIDES], *params_before[N_SIDES];
    bool autostart; /* the destination was started without -S */
    bool was_running;
    const char *machine[N_SIDES];
    int64_t memory[N_SIDES];

    bool lifeless[N_SIDES]; /* a guest that runs there executes nothing */
    bool cont_seen[N_SIDES];
    int writes; /* to disks, of the destination's guest */
    unsigned n_executed;

    WorldDisk disk;
    bool
        unequal; /* the source let its guest go while the images differed, or were in use */

    /* Before all else: {"COMMAND" or "qom-get PATH PROPERTY": its answer; null = it says no}. */
    JsonObject *answers[N_SIDES];
    const char *schema; /* NULL = world_schema */

    Course course;
    bool completes_on_cancel; /* the cancel comes too late */
    int n_steps;              /* query-migrate of the source since migrate */
    int n_postcopy_steps;     /* likewise, since migrate-start-postcopy */
    bool ran_at_postcopy;     /* the source's guest ran when that came */
    bool has_broken;
    bool hangs[N_SIDES];

    /* The fault: @kind at the @at-th command (from 1) of @side, or the first named @name. */
    struct {
        FaultKind kind;
        int side;
        unsigned at;
        const char *name;
        bool struck;
    } fault;

    bool ignores_parameters; /* takes them, and keeps what they were */
    bool survives;           /* the destination does not end with its stream */
    GPid victim;             /* of KILL_BEFORE and KILL_AFTER */

    unsigned n_commands[N_SIDES];
    GString *log; /* "source migrate\n…" */
    bool two_ran; /* at some instant both guests ran */
    bool dst_cont_too_early, src_cont_too_early;
};

static const char *const world_labels[] = { "source", "destination" };

static const char world_schema[] =
    "[{\"name\":\"migrate-set-capabilities\",\"meta-type\":\"command\",\"arg-type\":\"1\","
    "\"ret-type\":\"9\"},"
    "{\"name\":\"1\",\"meta-type\":\"object\",\"members\":[{\"name\":\"capabilities\","
    "\"type\":\"[2]\"}]},"
    "{\"name\":\"[2]\",\"meta-type\":\"array\",\"element-type\":\"2\"},"
    "{\"name\":\"2\",\"meta-type\":\"object\",\"members\":[{\"name\":\"capability\","
    "\"type\":\"3\"},{\"name\":\"state\",\"type\":\"bool\"}]},"
    "{\"name\":\"3\",\"meta-type\":\"enum\",\"values\":[\"events\",\"return-path\","
    "\"late-block-activate\",\"pause-before-switchover\",\"multifd\",\"xbzrle\",\"auto-converge\",\"postcopy-ram\"]},"
    "{\"name\":\"migrate-set-parameters\",\"meta-type\":\"command\",\"arg-type\":\"4\","
    "\"ret-type\":\"9\"},"
    "{\"name\":\"4\",\"meta-type\":\"object\",\"members\":[{\"name\":\"max-bandwidth\","
    "\"type\":\"int\",\"default\":null},{\"name\":\"downtime-limit\",\"type\":\"int\","
    "\"default\":null},{\"name\":\"multifd-channels\",\"type\":\"int\",\"default\":null}]},"
    "{\"name\":\"bool\",\"meta-type\":\"builtin\",\"json-type\":\"boolean\"},"
    "{\"name\":\"int\",\"meta-type\":\"builtin\",\"json-type\":\"int\"},"
    "{\"name\":\"9\",\"meta-type\":\"object\",\"members\":[]}]";

/* ---- the guest -------------------------------------------------------------------------- */

static void
world_set_run(World *w, int side, const char *state)
{
    w->run[side] = state;
    w->two_ran = w->two_ran || (strcmp(w->run[SRC], "running") == 0 &&
                                strcmp(w->run[DST], "running") == 0);
}

static void
world_die(World *w, int side)
{
    w->alive[side] = false;
    world_set_run(w, side, "dead");
    if (g_str_has_prefix(w->status[!side], "postcopy") &&
        (side == DST || strcmp(w->run[DST], "inmigrate") != 0)) {
        w->status[!side] = "postcopy-paused";
        return;
    }
    /* A destination that did not get all of the guest exits when the stream ends. */
    if (side == SRC && w->alive[DST] && strcmp(w->status[DST], "completed") != 0 &&
        strcmp(w->status[DST], "none") != 0) {
        world_die(w, DST);
    }
}

static void
fake_say(Fake *f, const char *line)
{
    (void)!send(f->fd, line, strlen(line), MSG_NOSIGNAL);
    (void)!send(f->fd, "\r\n", 2, MSG_NOSIGNAL);
}

static void
fake_event(Fake *f, const char *name, const char *data)
{
    g_autofree char *line = g_strdup_printf(
        "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"%s\",\"data\":%s}",
        name, data);

    if (f->fd >= 0) {
        fake_say(f, line);
    }
}

static void
world_fail(World *w, const char *status)
{
    Fake *src = &w->fakes[SRC];

    w->status[SRC] = status;
    if (w->course == FAILS_IN_LIMBO) {
        world_set_run(w, SRC, "postmigrate");
    } else if (strcmp(w->run[SRC], "finish-migrate") == 0 && w->was_running) {
        world_set_run(w, SRC, "running");
        fake_event(src, "RESUME", "{}");
    }
    if (w->alive[DST] && !w->survives && strcmp(w->status[DST], "completed") != 0) {
        world_die(w, DST);
    }
}

static void
world_complete(World *w)
{
    if (!w->alive[DST]) {
        world_fail(w, "failed");
        return;
    }
    w->unequal = w->disk.present &&
                 (!w->disk.equal || !disk_is_left_alone(&w->disk) || w->disk.serving);
    w->status[SRC] = "completed";
    world_set_run(w, SRC, "postmigrate");
    w->status[DST] = "completed";
    world_set_run(w, DST, w->autostart && w->was_running ? "running" : "paused");
}

static bool
world_has_on(const World *w, const char *capability)
{
    JsonObject *state = NULL;

    return json_object_object_get_ex(w->caps[SRC], capability, &state) &&
           json_object_get_boolean(state);
}

/* The destination's package has arrived; then the link breaks, or it is done. */
static void
world_postcopy_step(World *w)
{
    int step = ++w->n_postcopy_steps;

    if (!w->alive[DST]) {
        w->status[SRC] = "postcopy-paused";
    } else if (step == 1 && w->course == POSTCOPY_FAILS_EARLY) {
        w->status[SRC] = "failed";
        world_set_run(w, SRC, w->ran_at_postcopy ? "running" : "paused");
        world_die(w, DST);
    } else if (step == 2) {
        w->status[DST] = "postcopy-active";
        world_set_run(w, DST, "paused");
    } else if (step == 5 && w->course == POSTCOPY_BREAKS && !w->has_broken) {
        w->has_broken = true;
        w->status[SRC] = w->status[DST] = "postcopy-paused";
    } else if (step == 5 && w->course == POSTCOPY_FAILS_LATE) {
        w->status[SRC] = "failed";
        w->status[DST] = "postcopy-paused";
        world_set_run(w, SRC, w->ran_at_postcopy ? "running" : "paused");
    } else if (step == 8) {
        w->status[SRC] = w->status[DST] = "completed";
        world_set_run(w, SRC, "postmigrate");
    }
}

static void
world_start_postcopy(World *w)
{
    w->ran_at_postcopy = strcmp(w->run[SRC], "running") == 0;
    w->status[SRC] = "postcopy-active";
    world_set_run(w, SRC, "finish-migrate");
}

/* Before an answer to query-migrate. */
static void
world_step(World *w)
{
    Fake *src = &w->fakes[SRC];

    if (strcmp(w->status[SRC], "postcopy-active") == 0) {
        world_postcopy_step(w);
        return;
    }

    if (strcmp(w->status[SRC], "setup") != 0 && strcmp(w->status[SRC], "active") != 0 &&
        strcmp(w->status[SRC], "device") != 0) {
        return;
    }
    w->status[SRC] = w->n_steps < 4 ? "active" : w->status[SRC];
    if (++w->n_steps < 3 || w->course == STAYS_ACTIVE ||
        (w->course >= POSTCOPY_COMPLETES && w->n_steps < 20)) {
        if (!w->alive[DST]) {
            world_fail(w, "failed");
        }
        return;
    }
    /* Post-copy was refused. */
    if (w->n_steps == 20) {
        world_complete(w);
    } else if (w->n_steps == 3) {
        if (w->course == CANCELLED_ELSEWHERE) {
            world_fail(w, "cancelled");
        } else if (w->course == STOPPED_ELSEWHERE) {
            w->was_running = false;
            world_set_run(w, SRC, "paused");
            fake_event(src, "STOP", "{}");
        }
    } else if (w->n_steps == 4) {
        if (w->was_running) {
            fake_event(src, "STOP", "{}");
        }
        world_set_run(w, SRC, "finish-migrate");
        w->status[SRC] = world_has_on(w, "pause-before-switchover") ? "pre-switchover"
                                                                    : "device";
        w->hangs[SRC] = w->course == HANGS_IN_DEVICE;
    } else if (w->course == COMPLETES || w->course == STOPPED_ELSEWHERE) {
        world_complete(w);
    } else {
        world_fail(w, "failed");
    }
}

/* ---- commands --------------------------------------------------------------------------- */

static char *
world_migration(World *w, int side)
{
    static const char ram[] =
        "\"ram\":{\"total\":1048576,\"remaining\":%d,\"transferred\":%d,\"duplicate\":10,"
        "\"normal\":%d,\"page-size\":4096,\"dirty-sync-count\":%d},";
    g_autofree char *figures = g_strdup_printf(ram, 1048576 / (w->n_steps + 1),
                                               w->n_steps * 1000, w->n_steps, w->n_steps);

    if (strcmp(w->status[side], "none") == 0) {
        return g_strdup("{}");
    }
    return g_strdup_printf("{%s\"status\":\"%s\"}",
                           side == SRC && w->n_steps > 0 ? figures : "", w->status[side]);
}

static char *
world_list_caps(World *w, int side)
{
    GString *s = g_string_new("[");

    json_object_object_foreach(w->caps[side], name, state)
    {
        g_string_append_printf(s, "%s{\"capability\":\"%s\",\"state\":%s}",
                               s->len > 1 ? "," : "", name,
                               json_object_get_boolean(state) ? "true" : "false");
    }
    g_string_append_c(s, ']');
    return g_string_free(s, FALSE);
}

static void
world_set(World *w, int side, const char *command, JsonObject *args)
{
    JsonObject *list = NULL;

    if (json_object_object_get_ex(args, "capabilities", &list)) {
        for (size_t i = 0; i < json_object_array_length(list); i++) {
            JsonObject *entry = json_object_array_get_idx(list, i), *name, *state;
            g_assert_true(json_object_object_get_ex(entry, "capability", &name));
            g_assert_true(json_object_object_get_ex(entry, "state", &state));
            json_object_object_add(w->caps[side], json_object_get_string(name),
                                   json_object_get(state));
        }
        return;
    }
    g_assert_cmpstr(command, ==, "migrate-set-parameters");
    if (w->ignores_parameters) {
        return;
    }
    json_object_object_foreach(args, key, value)
    {
        json_object_object_add(w->params[side], key, json_object_get(value));
    }
}

static void
world_cont(World *w, int side)
{
    if (strcmp(w->run[side], "inmigrate") == 0) {
        w->autostart = true;
        return;
    }
    if (side == DST && strcmp(w->status[SRC], "completed") != 0 && w->alive[SRC] &&
        !g_str_has_prefix(w->status[SRC], "postcopy")) {
        w->dst_cont_too_early = true;
    }
    if (side == SRC && w->alive[DST] && strcmp(w->status[SRC], "active") != 0) {
        w->src_cont_too_early = true;
    }
    w->cont_seen[side] = true;
    world_set_run(w, side, "running");
    fake_event(&w->fakes[side], "RESUME", "{}");
}

static WorldDiskView
world_disk_view(const World *w)
{
    return (WorldDiskView){ strcmp(w->run[SRC], "running") == 0, w->alive[DST] };
}

/* Commands that change something. */
static bool
world_act(World *w, int side, const char *command, JsonObject *args)
{
    if (g_str_has_prefix(command, "migrate-set-")) {
        world_set(w, side, command, args);
    } else if (strcmp(command, "migrate") == 0 &&
               json_object_object_get_ex(args, "resume", NULL)) {
        w->status[SRC] = w->status[DST] = "postcopy-active";
    } else if (strcmp(command, "migrate") == 0) {
        w->status[SRC] = "setup";
    } else if (strcmp(command, "migrate-start-postcopy") == 0) {
        world_start_postcopy(w);
    } else if (strcmp(command, "migrate-incoming") == 0) {
        w->status[DST] = "setup";
    } else if (strcmp(command, "migrate_cancel") == 0) {
        if (w->completes_on_cancel) {
            world_complete(w);
        } else if (strcmp(w->status[SRC], "completed") != 0) {
            world_fail(w, "cancelled");
        }
    } else if (strcmp(command, "migrate-continue") == 0) {
        w->status[SRC] = "device";
    } else if (strcmp(command, "yank") == 0) {
        w->hangs[side] = false;
        if (strstr(json_object_to_json_string(args), "block-node") != NULL) {
            WorldDiskView view = world_disk_view(w);
            disk_break(&w->disk, &view);
        } else {
            world_fail(w, "failed");
        }
    } else if (strcmp(command, "cont") == 0) {
        world_cont(w, side);
    } else if (strcmp(command, "stop") == 0) {
        w->autostart = w->autostart && strcmp(w->run[side], "inmigrate") != 0;
        if (strcmp(w->run[side], "running") == 0) {
            world_set_run(w, side, "paused");
            fake_event(&w->fakes[side], "STOP", "{}");
        }
    } else if (strcmp(command, "quit") != 0 && strcmp(command, "migrate-recover") != 0 &&
               strcmp(command, "migrate-pause") != 0 &&
               strcmp(command, "qmp_capabilities") != 0) {
        return false;
    }
    return true;
}

/* What the test wants to be answered; NULL = nothing in particular, "" = an error. */
static char *
world_own_answer(const World *w, int side, const char *command, JsonObject *args)
{
    JsonObject *path = NULL, *property = NULL, *answer = NULL;
    g_autofree char *key = g_strdup(command);

    if (strcmp(command, "qom-get") == 0 &&
        json_object_object_get_ex(args, "path", &path) &&
        json_object_object_get_ex(args, "property", &property)) {
        g_free(key);
        key = g_strdup_printf("qom-get %s %s", json_object_get_string(path),
                              json_object_get_string(property));
    }
    if (w->answers[side] == NULL ||
        !json_object_object_get_ex(w->answers[side], key, &answer)) {
        return NULL;
    }
    return g_strdup(answer != NULL ? json_object_to_json_string(answer) : "");
}

/* The value of "return". */
static char *
world_answer(World *w, int side, const char *command, JsonObject *args)
{
    char *own = world_own_answer(w, side, command, args);
    if (own != NULL) {
        return own;
    }
    if (world_act(w, side, command, args)) {
        return g_strdup("{}");
    }
    WorldDiskView view = world_disk_view(w);
    char *of_disk = disk_answer(&w->disk, &view, side, command, args);
    if (of_disk != NULL) {
        return of_disk;
    }
    if (strcmp(command, "qom-get") == 0) {
        return g_strdup_printf("\"%s-machine\"", w->machine[side]);
    }
    if (strcmp(command, "query-memory-size-summary") == 0) {
        return g_strdup_printf("{\"base-memory\":%" G_GINT64_FORMAT "}", w->memory[side]);
    }
    if (strcmp(command, "query-cpus-fast") == 0) {
        return g_strdup("[{}]");
    }
    if (strcmp(command, "human-monitor-command") == 0) {
        bool lives = strcmp(w->run[side], "running") == 0 && !w->lifeless[side];
        w->n_executed += lives;
        return g_strdup_printf("\"EIP=%u\"", lives ? w->n_executed : 0);
    }
    if (strcmp(command, "query-blockstats") == 0) {
        return g_strdup_printf("[{\"stats\":{\"wr_operations\":%d}}]",
                               w->cont_seen[side] ? w->writes : 0);
    }
    if (strcmp(command, "query-name") == 0) {
        return g_strdup("{\"name\":\"guest\"}");
    }
    if (strcmp(command, "query-uuid") == 0) {
        return g_strdup("{\"UUID\":\"0\"}");
    }
    if (strcmp(command, "query-status") == 0) {
        return g_strdup_printf("{\"running\":%s,\"status\":\"%s\"}",
                               strcmp(w->run[side], "running") == 0 ? "true" : "false",
                               w->run[side]);
    }
    if (strcmp(command, "query-migrate") == 0) {
        if (side == SRC) {
            world_step(w);
        }
        return world_migration(w, side);
    }
    if (strcmp(command, "query-migrate-capabilities") == 0) {
        return world_list_caps(w, side);
    }
    if (strcmp(command, "query-migrate-parameters") == 0) {
        return g_strdup(json_object_to_json_string(w->params[side]));
    }
    if (strcmp(command, "query-qmp-schema") == 0) {
        return g_strdup(w->schema != NULL ? w->schema : world_schema);
    }
    g_error("the fake %s does not know %s", world_labels[side], command);
}

/* ---- the peers -------------------------------------------------------------------------- */

static FaultKind
world_fault(World *w, int side, const char *command)
{
    unsigned n = ++w->n_commands[side];

    if (w->fault.kind == NO_FAULT || w->fault.struck || w->fault.side != side ||
        (w->fault.name != NULL ? strcmp(w->fault.name, command) != 0
                               : w->fault.at != n)) {
        return NO_FAULT;
    }
    w->fault.struck = true;
    return w->fault.kind;
}

static void
fake_reply(Fake *f, const char *key, const char *value, JsonObject *id)
{
    g_autofree char *line = g_strdup_printf("{\"%s\":%s,\"id\":%s}", key, value,
                                            json_object_to_json_string(id));

    fake_say(f, line);
}

static void
fake_close(Fake *f)
{
    if (f->fd >= 0) {
        close(f->fd);
        f->fd = -1;
    }
}

static void
fake_command(Fake *f, JsonObject *request)
{
    World *w = f->world;
    JsonObject *name = NULL, *args = NULL, *id = NULL;
    bool oob = json_object_object_get_ex(request, "exec-oob", &name);
    g_autofree char *value = NULL;

    g_assert_true(oob || json_object_object_get_ex(request, "execute", &name));
    const char *command = json_object_get_string(name);
    json_object_object_get_ex(request, "arguments", &args);
    json_object_object_get_ex(request, "id", &id);
    if (w->hangs[f->side] && !oob) {
        return;
    }
    g_string_append_printf(w->log, "%s %s\n", world_labels[f->side], command);
    FaultKind fault = world_fault(w, f->side, command);
    if (fault == DIE) {
        world_die(w, f->side);
    } else if (fault == HANG) {
        w->hangs[f->side] = true;
    } else if (fault == KILL_BEFORE) {
        kill(w->victim, SIGKILL);
    } else if (fault == KILL_AFTER) {
        value = world_answer(w, f->side, command, args);
        kill(w->victim, SIGKILL);
        if (strcmp(command, "quit") == 0) {
            world_die(w, f->side);
        }
    } else if (fault == CLOSE_BEFORE || fault == CLOSE_AFTER) {
        value = fault == CLOSE_AFTER ? world_answer(w, f->side, command, args) : NULL;
        fake_close(f);
    } else if (fault == ANSWER_NO) {
        fake_reply(f, "error", "{\"class\":\"GenericError\",\"desc\":\"no\"}", id);
    } else if (fault == ANSWER_ODD) {
        fake_reply(f, "return", "4711", id);
    } else {
        value = world_answer(w, f->side, command, args);
        if (value[0] == '\0') {
            fake_reply(f, "error", "{\"class\":\"GenericError\",\"desc\":\"no\"}", id);
        } else {
            fake_reply(f, "return", value, id);
        }
        if (strcmp(command, "quit") == 0) {
            world_die(w, f->side);
        }
    }
}

static void
fake_read(Fake *f)
{
    char buf[65536];
    ssize_t n = recv(f->fd, buf, sizeof buf, 0);
    size_t at = 0;

    if (n <= 0) {
        fake_close(f);
        return;
    }
    while (at < (size_t)n && f->world->alive[f->side] && f->fd >= 0) {
        JsonObject *o = json_tokener_parse_ex(f->tokener, buf + at,
                                              (int)((size_t)n - at));
        at += json_tokener_get_parse_end(f->tokener);
        if (o == NULL) {
            g_assert_cmpint(json_tokener_get_error(f->tokener), ==,
                            json_tokener_continue);
            return;
        }
        fake_command(f, o);
        json_object_put(o);
    }
}

static void
fake_accept(Fake *f)
{
    f->fd = accept(f->listener, NULL, NULL);
    json_tokener_reset(f->tokener);
    fake_say(f, "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":22,\"minor\":2,\"major\":7},"
                "\"package\":\"\"},\"capabilities\":[\"oob\"]}}");
}

static void *
fake_run(void *data)
{
    Fake *f = data;
    World *w = f->world;
    bool goes_on = true;

    while (goes_on) {
        struct pollfd pollfd = { .fd = f->fd >= 0 ? f->fd : f->listener,
                                 .events = POLLIN };
        bool ready = poll(&pollfd, 1, 1) == 1;

        g_mutex_lock(&w->lock);
        if (ready && w->alive[f->side]) {
            f->fd >= 0 ? fake_read(f) : fake_accept(f);
        }
        goes_on = w->alive[f->side] && !w->ended;
        if (!goes_on) {
            fake_close(f);
            close(f->listener);
        }
        g_mutex_unlock(&w->lock);
    }
    return NULL;
}

static void
fake_start(World *w, int side)
{
    Fake *f = &w->fakes[side];
    struct sockaddr_un name = { .sun_family = AF_UNIX };

    w->paths[side] = g_build_filename(w->dir, world_labels[side], NULL);
    g_strlcpy(name.sun_path, w->paths[side], sizeof name.sun_path);
    *f = (Fake){ .world = w, .side = side, .fd = -1 };
    f->tokener = json_tokener_new();
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(f->listener, (struct sockaddr *)&name, sizeof name), ==, 0);
    g_assert_cmpint(listen(f->listener, 1), ==, 0);
}

/* ---- the world -------------------------------------------------------------------------- */

static JsonObject *
world_copy(JsonObject *object)
{
    return json_tokener_parse(json_object_to_json_string(object));
}

/* A running guest on the source, a destination that waits; change what shall be otherwise, then
 * world_start(). */
static World *
world_new(void)
{
    World *w = g_new0(World, 1);

    g_mutex_init(&w->lock);
    w->dir = g_dir_make_tmp("qmig-test-XXXXXX", NULL);
    w->log = g_string_new(NULL);
    w->run[SRC] = "running";
    w->run[DST] = "inmigrate";
    for (int side = 0; side < N_SIDES; side++) {
        w->alive[side] = true;
        w->status[side] = "none";
        w->machine[side] = "pc-i440fx-7.2";
        w->memory[side] = 1048576;
        w->caps[side] = json_tokener_parse(
            "{\"events\":false,\"return-path\":false,\"late-block-activate\":false,"
            "\"pause-before-switchover\":false,\"multifd\":false,\"xbzrle\":false,\"auto-converge\":true,"
            "\"postcopy-ram\":false}");
        w->params[side] = json_tokener_parse(
            "{\"max-bandwidth\":134217728,\"downtime-limit\":300,\"multifd-channels\":2}");
    }
    return w;
}

static void
world_start(World *w)
{
    w->was_running = strcmp(w->run[SRC], "running") == 0;
    for (int side = 0; side < N_SIDES; side++) {
        w->caps_before[side] = world_copy(w->caps[side]);
        w->params_before[side] = world_copy(w->params[side]);
        fake_start(w, side);
    }
    for (int side = 0; side < N_SIDES; side++) {
        w->fakes[side].thread = g_thread_new(world_labels[side], fake_run,
                                             &w->fakes[side]);
    }
}

/* Everybody goes; what the world has seen can be looked at until world_free(). */
static void
world_end(World *w)
{
    g_mutex_lock(&w->lock);
    w->ended = true;
    g_mutex_unlock(&w->lock);
    for (int side = 0; side < N_SIDES; side++) {
        g_thread_join(w->fakes[side].thread);
    }
}

static void
world_free(World *w)
{
    for (int side = 0; side < N_SIDES; side++) {
        json_tokener_free(w->fakes[side].tokener);
        json_object_put(w->caps[side]);
        json_object_put(w->params[side]);
        json_object_put(w->answers[side]);
        json_object_put(w->caps_before[side]);
        json_object_put(w->params_before[side]);
        g_unlink(w->paths[side]);
        g_free(w->paths[side]);
    }
    g_rmdir(w->dir);
    g_free(w->dir);
    g_string_free(w->log, TRUE);
    g_mutex_clear(&w->lock);
    g_free(w);
}

static bool
world_settings_are_as_before(const World *w, int side)
{
    return json_object_equal(w->caps[side], w->caps_before[side]) &&
           json_object_equal(w->params[side], w->params_before[side]);
}

static bool
world_saw(const World *w, const char *line)
{
    g_autofree char *whole = g_strdup_printf("%s\n", line);

    return strstr(w->log->str, whole) != NULL;
}

#endif
