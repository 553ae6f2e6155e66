/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Restoring a guest:
 *
 *     file -> threads that decompress -> one that feeds -> socket pair -> QEMU
 *
 * and this thread asks QEMU how it is doing. A socket pair and not a pipe: a recorded stream may
 * ask for a return path, and QEMU then writes into it.
 */
#include "job/restore.h"

#include "job/side.h"
#include "qmp/knobs.h"
#include "save/input.h"
#include "save/io.h"
#include "save/record.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    POLL_MS = 100,
    PATIENCE_MS = 60000,
    /* From the end of the stream to QEMU's word about it. */
    LOAD_TIMEOUT_MS = 120000,
    /* From QEMU's closing the stream to its word why. */
    REASON_TIMEOUT_MS = 5000,
};

typedef struct {
    const QmigRestoreOptions *options;
    const QmigCancel *cancel; /* (nullable) the user's */
    QmigRestoreResult *result;
    QmigSaveInput *input;
    QmigSide side;

    /* The thread that feeds. */
    GThread *thread;
    QmigFd out;        /* the stream; closed by the thread */
    QmigCancel *abort; /* ends it */
    QmigCancel *done;  /* it has ended; what it leaves may be read: */
    GError *feed_error;
    uint64_t given; /* atomic; bytes */

    bool incoming_sent; /* QEMU is used up */
    int64_t done_us;    /* when the feeding was seen to have ended; 0 = not yet */
} Restore;

void
qmig_restore_result_clear(QmigRestoreResult *result)
{
    qmig_save_info_clear(&result->info);
    g_free(result->guest);
}

/* ---- feeding ---------------------------------------------------------------------------- */

/* Take over what the file told of itself. */
static void
take_info(Restore *r)
{
    const QmigSaveInfo *info = qmig_save_input_info(r->input);

    g_free(r->result->info.machine);
    r->result->info.machine = g_strdup(info->machine);
    r->result->info.flags = info->flags;
    r->result->info.length = info->length;
}

/* A plain stream is decoded as it goes by, for what its end tells of the guest. */
static bool
feed(Restore *r, QmigSaveWatch *watch, const QmigCancel *cancel, GError **error)
{
    for (;;) {
        const uint8_t *data = NULL;
        size_t len;

        if (!qmig_save_input_next(r->input, &data, &len, error)) {
            return false;
        }
        if (len == 0) {
            return true;
        }
        if (!qmig_io_write_all(r->out, data, len, cancel, error)) {
            return false;
        }
        __atomic_add_fetch(&r->given, len, __ATOMIC_RELAXED);
        /* What it cannot read is QEMU's to judge. */
        if (watch != NULL && !qmig_save_watch_push(watch, data, len, NULL)) {
            watch = NULL;
        }
    }
}

static void *
run_feeding(void *data)
{
    Restore *r = data;
    bool plain = qmig_save_input_kind(r->input) == QMIG_SAVE_INPUT_PLAIN;
    g_auto(QmigSaveInfo) seen = { 0 };

    qmig_save_info_init(&seen);
    g_autoptr(QmigSaveWatch)
        watch = plain && r->side.qmp != NULL ? qmig_save_watch_new(&seen, NULL) : NULL;
    g_autofree char *doubt = NULL;
    if (feed(r, watch, r->abort, &r->feed_error)) {
        take_info(r);
        if (watch != NULL && qmig_save_watch_end(watch, &doubt, NULL)) {
            r->result->info.flags = seen.flags;
        }
    }
    qmig_fd_clear(&r->out);
    qmig_cancel_raise(r->done);
    return NULL;
}

static void
join_feeding(Restore *r)
{
    if (r->thread != NULL) {
        g_thread_join(g_steal_pointer(&r->thread));
    }
}

static void
tell_progress(const Restore *r)
{
    if (r->options->progress != NULL) {
        r->options->progress(r->options->data,
                             __atomic_load_n(&r->given, __ATOMIC_RELAXED), 0);
    }
}

/* Wait a little for anything to happen. Errors: CANCELLED by the user. */
static bool
wait_news(const Restore *r, GError **error)
{
    struct pollfd fds[] = {
        { .fd = qmig_cancel_fd(r->cancel), .events = POLLIN },
        { .fd = qmig_cancel_is_raised(r->done) ? -1 : qmig_cancel_fd(r->done),
          .events = POLLIN },
        { .fd = r->side.qmp != NULL ? qmig_qmp_fd(r->side.qmp) : -1, .events = POLLIN },
    };

    poll(fds, G_N_ELEMENTS(fds), POLL_MS);
    tell_progress(r);
    return !qmig_cancel_is_raised(r->cancel) ||
           qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
}

/* ---- before QEMU is told ---------------------------------------------------------------- */

static bool
check_side(Restore *r, GError **error)
{
    const QmigSaveInfo *info = qmig_save_input_info(r->input);
    GPtrArray *names = qmig_save_input_capabilities(r->input);
    const QmigSide *side = &r->side;

    if (strcmp(side->run_state, "inmigrate") != 0 ||
        side->migration != QMIG_STATUS_NONE) {
        return qmig_set_error(
            error, QMIG_ERROR_STATE,
            "QEMU: its state is \"%s\", wanted \"inmigrate\" and nothing "
            "loaded yet: start it with -incoming defer",
            side->run_state);
    }
    if (info->machine[0] != '\0' && side->machine[0] != '\0' &&
        strcmp(info->machine, side->machine) != 0) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "QEMU: its machine is \"%s\", the saved guest's is \"%s\"",
                              side->machine, info->machine);
    }
    for (guint i = 0; i < names->len; i++) {
        if (!qmig_knob_check(QMIG_KNOB_CAPABILITY, g_ptr_array_index(names, i),
                             side->capabilities, "QEMU", error)) {
            return false;
        }
    }
    return true;
}

static bool
begin(Restore *r, GError **error)
{
    const QmigRestoreOptions *o = r->options;

    if (o->qmp->kind != QMIG_ADDRESS_UNIX) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "QMP must be a unix socket: the stream travels through a "
                              "descriptor that is handed over there");
    }
    r->input = qmig_save_input_open(o->path, o->threads, r->cancel, error);
    if (r->input == NULL) {
        return false;
    }
    if (qmig_save_input_kind(r->input) == QMIG_SAVE_INPUT_MAPPED &&
        strcmp(o->path, "-") == 0) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "stdin: it is a mapped-ram file, which only QEMU can load: "
                              "give its name");
    }
    return qmig_side_begin(&r->side, o->qmp, r->cancel, error) && check_side(r, error);
}

static bool
apply_settings(Restore *r, GError **error)
{
    g_autoptr(JsonObject) capabilities = json_object_new_object();
    g_autoptr(JsonObject) parameters = json_object_new_object();
    GPtrArray *names = qmig_save_input_capabilities(r->input);

    json_object_object_add(capabilities, "events", json_object_new_boolean(true));
    for (guint i = 0; i < names->len; i++) {
        json_object_object_add(capabilities, g_ptr_array_index(names, i),
                               json_object_new_boolean(true));
    }
    if (r->options->connections > 0) {
        json_object_object_add(capabilities, "multifd", json_object_new_boolean(true));
        json_object_object_add(parameters, "multifd-channels",
                               json_object_new_int((int)r->options->connections));
    }
    return qmig_side_apply(&r->side, capabilities, parameters, error);
}

/* migrate-incoming, such that QEMU lives to tell why it could not. */
static bool
start_incoming(Restore *r, const char *uri, GError **error)
{
    JsonObject *arguments = json_object_new_object();

    json_object_object_add(arguments, "uri", json_object_new_string(uri));
    if (qmig_schema_command_has_arg(r->side.schema, "migrate-incoming",
                                    "exit-on-error")) {
        json_object_object_add(arguments, "exit-on-error",
                               json_object_new_boolean(false));
    }
    r->incoming_sent = true;
    return qmig_qmp_execute(r->side.qmp, "migrate-incoming", arguments, NULL, NULL,
                            error);
}

static bool
start_stream(Restore *r, GError **error)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        return qmig_set_error_errno(error, errno, "socketpair");
    }
    r->out = fds[0];
    g_auto(QmigFd) theirs = fds[1];
    qmig_io_set_nonblocking(r->out, true);
    if (!qmig_qmp_getfd(r->side.qmp, "qmig-restore", theirs, error) ||
        !start_incoming(r, "fd:qmig-restore", error)) {
        return false;
    }
    qmig_save_input_set_cancel(r->input, r->abort);
    r->thread = g_thread_new("qmig-feed", run_feeding, r);
    return true;
}

static bool
start_file(Restore *r, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(r->options->path, NULL);
    g_autofree char *uri = g_strdup_printf("file:%s", absolute);

    return start_incoming(r, uri, error);
}

/* ---- loading ---------------------------------------------------------------------------- */

/* The stream broke, or QEMU did: of what is wrong with the file it cannot know. */
static bool
tell_failure(Restore *r, const char *reason, GError **error)
{
    qmig_cancel_raise(r->abort);
    join_feeding(r);
    if (r->feed_error != NULL &&
        !g_error_matches(r->feed_error, QMIG_ERROR, QMIG_ERROR_CLOSED) &&
        !g_error_matches(r->feed_error, QMIG_ERROR, QMIG_ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&r->feed_error));
        return false;
    }
    return qmig_set_error(error, QMIG_ERROR_STATE,
                          "QEMU: it could not load the guest: %s", reason);
}

/* Feeding has ended: with the file's end, with damage, or because QEMU takes no more. */
static bool
check_feeding(Restore *r, GError **error)
{
    int64_t now = qmig_now_us(), waited_ms;

    if (r->thread != NULL && !qmig_cancel_is_raised(r->done)) {
        return true;
    }
    r->done_us = r->done_us > 0 ? r->done_us : now;
    waited_ms = (now - r->done_us) / 1000;
    if (r->feed_error != NULL &&
        (!g_error_matches(r->feed_error, QMIG_ERROR, QMIG_ERROR_CLOSED) ||
         waited_ms > REASON_TIMEOUT_MS)) {
        return tell_failure(r, r->feed_error->message, error);
    }
    return r->thread == NULL || waited_ms < LOAD_TIMEOUT_MS ||
           qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                          "QEMU: it has the whole stream and does not say that the guest "
                          "is loaded");
}

/* Until QEMU says that the guest is loaded. */
static bool
await_loaded(Restore *r, GError **error)
{
    for (;;) {
        QmigQmpCall call = { .deadline = qmig_deadline_in_ms(PATIENCE_MS),
                             .cancel = r->cancel };
        g_autoptr(GError) local = NULL;
        g_auto(QmigMigrationInfo) info = { 0 };

        if (!qmig_qmp_query_migrate(r->side.qmp, &info, &call, &local) ||
            !qmig_side_dispatch(&r->side, &local)) {
            return qmig_cancel_is_raised(r->cancel)
                       ? qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled")
                       : tell_failure(r, local->message, error);
        }
        if (info.status == QMIG_STATUS_FAILED) {
            return tell_failure(
                r, info.error != NULL ? info.error : "it does not say why", error);
        }
        /* It may have all it needs before the last bytes were taken out of the file. */
        if (info.status == QMIG_STATUS_COMPLETED &&
            (r->thread == NULL || qmig_cancel_is_raised(r->done))) {
            join_feeding(r);
            return r->feed_error == NULL || tell_failure(r, "", error);
        }
        if (!check_feeding(r, error) || !wait_news(r, error)) {
            return false;
        }
    }
}

/* It is loaded; does it leave "inmigrate", and shall it run? */
static bool
let_run(Restore *r, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(PATIENCE_MS);
    bool shall_run = !r->options->paused &&
                     (r->options->run || (r->result->info.flags & QMIG_SAVE_RAN) != 0);
    bool running, told = false;

    for (;;) {
        g_clear_pointer(&r->result->guest, g_free);
        if (!qmig_qmp_query_status(r->side.qmp, &running, &r->result->guest, NULL,
                                   error)) {
            return false;
        }
        bool loaded = strcmp(r->result->guest, "inmigrate") != 0;
        if (loaded &&
            (!shall_run || running || strcmp(r->result->guest, "suspended") == 0)) {
            return true;
        }
        if (loaded && !told) {
            told = true;
            if (!qmig_qmp_cont(r->side.qmp, error)) {
                return false;
            }
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "QEMU: the guest is loaded, but \"%s\"",
                                  r->result->guest);
        }
        g_usleep(loaded ? 1000 : 5000);
    }
}

/* ---- the whole -------------------------------------------------------------------------- */

static bool
load(Restore *r, GError **error)
{
    /* `stop` in "inmigrate" is -S: QEMU shall not run the guest before we say so. */
    if (!qmig_qmp_execute(r->side.qmp, "stop", NULL, NULL, NULL, error) ||
        !apply_settings(r, error)) {
        return false;
    }
    if (qmig_save_input_kind(r->input) == QMIG_SAVE_INPUT_MAPPED) {
        take_info(r);
        return start_file(r, error) && await_loaded(r, error);
    }
    return start_stream(r, error) && await_loaded(r, error);
}

static void
add_text(GError **error, const char *text)
{
    g_autofree char *message = (*error)->message;

    (*error)->message = g_strdup_printf("%s\n%s", message, text);
}

/* Loading has failed: a QEMU that had begun is of no more use to anybody. */
static QmigOutcome
give_up(Restore *r, GError **error)
{
    bool cancelled = qmig_cancel_is_raised(r->cancel);
    g_autoptr(GError) local = NULL;
    const char *text = "QEMU was not told to load anything.";

    qmig_cancel_raise(r->abort);
    join_feeding(r);
    if (r->incoming_sent) {
        text = qmig_side_end(&r->side, &local)
                   ? "This QEMU has ended: a new one is needed for another try."
                   : "This QEMU is of no more use, and has not ended by itself.";
    } else if (!qmig_side_restore(&r->side, &local)) {
        text = "QEMU's migration settings could not be put back.";
    }
    add_text(error, text);
    return cancelled ? QMIG_OUTCOME_CANCELLED : QMIG_OUTCOME_FAILED;
}

static QmigOutcome
restore_guest(Restore *r, GError **error)
{
    int64_t start_us = qmig_now_us();

    if (!begin(r, error)) {
        return qmig_cancel_is_raised(r->cancel) ? QMIG_OUTCOME_CANCELLED
                                                : QMIG_OUTCOME_REFUSED;
    }
    if (!load(r, error)) {
        return give_up(r, error);
    }
    if (!let_run(r, error) || !qmig_side_restore(&r->side, error)) {
        add_text(error, "The guest is loaded; QMP `cont` lets it run.");
        return QMIG_OUTCOME_UNCLEAR;
    }
    r->result->total_ms = (uint64_t)(qmig_now_us() - start_us) / 1000;
    return QMIG_OUTCOME_DONE;
}

/* The plain stream to stdout. */
static bool
restore_stdout(Restore *r, GError **error)
{
    const QmigRestoreOptions *o = r->options;

    r->input = qmig_save_input_open(o->path, o->threads, r->cancel, error);
    if (r->input == NULL || !qmig_save_input_seek(r->input, o->offset, error)) {
        return false;
    }
    r->out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (r->out < 0) {
        return qmig_set_error_errno(error, errno, "stdout");
    }
    bool changed = qmig_io_set_nonblocking(r->out, true);
    bool ok = feed(r, NULL, r->cancel, error);
    if (changed) {
        qmig_io_set_nonblocking(r->out, false);
    }
    if (ok) {
        take_info(r);
    }
    return ok;
}

QmigOutcome
qmig_restore_guest(const QmigRestoreOptions *options, const QmigCancel *cancel,
                   QmigRestoreResult *result, GError **error)
{
    Restore r = { .options = options,
                  .cancel = cancel,
                  .result = result,
                  .out = -1,
                  .abort = qmig_cancel_new(),
                  .done = qmig_cancel_new() };
    QmigOutcome outcome = QMIG_OUTCOME_DONE;

    *result = (QmigRestoreResult){ 0 };
    qmig_save_info_init(&result->info);
    qmig_side_init(&r.side, "QEMU");
    if (options->qmp != NULL) {
        outcome = restore_guest(&r, error);
    } else if (!restore_stdout(&r, error)) {
        outcome = qmig_cancel_is_raised(cancel) ? QMIG_OUTCOME_CANCELLED
                                                : QMIG_OUTCOME_FAILED;
    }
    result->stream_bytes = r.given;
    qmig_save_input_free(r.input);
    qmig_side_clear(&r.side);
    qmig_fd_clear(&r.out);
    qmig_cancel_free(r.abort);
    qmig_cancel_free(r.done);
    g_clear_error(&r.feed_error);
    return outcome;
}
