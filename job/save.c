/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Saving a guest:
 *
 *     begin (read QEMU) -> stop the guest -> migrate into a pipe -> file complete -> let go
 *
 * One thread decodes and writes, this one asks QEMU how it is doing. The pipe is what holds
 * both together: closing our end makes QEMU's migration fail, whatever it waits for; QEMU's
 * closing its end is the end of the stream. The file is complete only when the stream's own
 * bytes say so, or, where they cannot, QEMU.
 */
#include "job/save.h"

#include "job/side.h"
#include "qmp/knobs.h"
#include "save/output.h"
#include "save/record.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

enum {
    POLL_MS = 100,
    /* QEMU holds its big lock while it writes the end of the stream: it then answers late. */
    PATIENCE_MS = 60000,
    SETTLE_TIMEOUT_MS = 60000,
    /* From QEMU's "failed" to its closing the pipe. */
    CLOSE_TIMEOUT_MS = 5000,
    PIPE_BYTES = 1 << 20,
};

typedef struct {
    const QmigSaveOptions *options;
    const QmigCancel *cancel; /* (nullable) the user's */
    QmigSaveResult *result;
    QmigSide side;
    QmigSaveOutput output;
    QmigSaveWriter *writer;

    /* The thread that decodes and writes. */
    GThread *thread;
    QmigFd in;           /* the stream; closed by the thread */
    QmigCancel *abort;   /* ends it */
    QmigCancel *done;    /* it has ended; what it leaves may be read: */
    GError *write_error; /* owned */

    bool stopped;      /* the guest was stopped by us */
    bool migrate_sent; /* QEMU may be migrating */
    int64_t start_us;
} Save;

void
qmig_save_result_clear(QmigSaveResult *result)
{
    qmig_save_info_clear(&result->info);
    g_free(result->guest);
    g_free(result->doubt);
}

/* ---- the thread ------------------------------------------------------------------------- */

static void *
run_recording(void *data)
{
    Save *s = data;

    if (!qmig_save_record(s->in, s->writer, &s->result->info, &s->result->doubt, s->abort,
                          &s->write_error)) {
        g_prefix_error(&s->write_error, "%s: ", s->options->path);
    }
    qmig_fd_clear(&s->in); /* what QEMU still writes shall fail */
    qmig_cancel_raise(s->done);
    return NULL;
}

static void
start_recording(Save *s)
{
    s->writer = qmig_save_writer_new(s->output.fd, &s->options->config, s->abort);
    s->thread = g_thread_new("qmig-record", run_recording, s);
}

static void
join_recording(Save *s)
{
    if (s->thread != NULL) {
        g_thread_join(g_steal_pointer(&s->thread));
    }
}

static void
tell_progress(const Save *s)
{
    if (s->options->progress != NULL && s->writer != NULL) {
        s->options->progress(s->options->data, qmig_save_writer_added(s->writer),
                             qmig_save_writer_written(s->writer));
    }
}

/* Wait a little for anything to happen. Errors: CANCELLED by the user. */
static bool
wait_news(const Save *s, GError **error)
{
    struct pollfd fds[] = {
        { .fd = qmig_cancel_fd(s->cancel), .events = POLLIN },
        { .fd = qmig_cancel_is_raised(s->done) ? -1 : qmig_cancel_fd(s->done),
          .events = POLLIN },
        { .fd = s->side.qmp != NULL ? qmig_qmp_fd(s->side.qmp) : -1, .events = POLLIN },
    };

    poll(fds, G_N_ELEMENTS(fds), POLL_MS);
    tell_progress(s);
    return !qmig_cancel_is_raised(s->cancel) ||
           qmig_set_error(error, QMIG_ERROR_CANCELLED, "cancelled");
}

/* ---- before the migration --------------------------------------------------------------- */

static bool
check_side(Save *s, GError **error)
{
    static const char *const not_now[][2] = {
        { "inmigrate", "it waits for a guest" },
        { "postmigrate", "its guest has been migrated or saved: QMP `cont` lets it run "
                         "first" },
        { "finish-migrate", "a migration of it is not over" },
    };
    const QmigSide *side = &s->side;

    if (side->migration != QMIG_STATUS_NONE && !qmig_status_is_final(side->migration)) {
        return qmig_set_error(error, QMIG_ERROR_STATE,
                              "QEMU: a migration is running already");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(not_now); i++) {
        if (strcmp(side->run_state, not_now[i][0]) == 0) {
            return qmig_set_error(error, QMIG_ERROR_STATE,
                                  "QEMU: its state is \"%s\": %s", side->run_state,
                                  not_now[i][1]);
        }
    }
    return !s->options->mapped_ram || qmig_knob_check(QMIG_KNOB_CAPABILITY, "mapped-ram",
                                                      side->capabilities, "QEMU", error);
}

static bool
begin(Save *s, GError **error)
{
    if (s->options->qmp->kind != QMIG_ADDRESS_UNIX) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "QMP must be a unix socket: the stream travels through a "
                              "descriptor that is handed over there");
    }
    return qmig_side_begin(&s->side, s->options->qmp, s->cancel, error) &&
           check_side(s, error) &&
           qmig_save_output_open(&s->output, s->options->path, !s->options->mapped_ram,
                                 error);
}

static bool
stop_guest(Save *s, GError **error)
{
    if (s->options->live || !s->side.running) {
        return true;
    }
    s->stopped = true;
    s->side.stopped_us = qmig_now_us();
    return qmig_qmp_execute(s->side.qmp, "stop", NULL, NULL, NULL, error);
}

static bool
apply_settings(Save *s, GError **error)
{
    g_autoptr(JsonObject) capabilities = json_object_new_object();
    g_autoptr(JsonObject) parameters = json_object_new_object();

    json_object_object_add(capabilities, "events", json_object_new_boolean(true));
    if (json_object_object_get_ex(s->side.parameters, "max-bandwidth", NULL)) {
        json_object_object_add(parameters, "max-bandwidth", json_object_new_int64(0));
    }
    if (s->options->mapped_ram) {
        json_object_object_add(capabilities, "mapped-ram", json_object_new_boolean(true));
    }
    if (s->options->connections > 0) {
        json_object_object_add(capabilities, "multifd", json_object_new_boolean(true));
        json_object_object_add(parameters, "multifd-channels",
                               json_object_new_int((int)s->options->connections));
    }
    return qmig_side_apply(&s->side, capabilities, parameters, error);
}

/* A pipe whose writing end QEMU gets as "fd:qmig-save". */
static bool
start_stream(Save *s, GError **error)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return qmig_set_error_errno(error, errno, "pipe");
    }
    s->in = fds[0];
    g_auto(QmigFd) out = fds[1];
    /* More at a time; the kernel's limit may be lower, and then it stays as it is. */
    (void)fcntl(out, F_SETPIPE_SZ, PIPE_BYTES);
    if (!qmig_qmp_getfd(s->side.qmp, "qmig-save", out, error)) {
        return false;
    }
    start_recording(s);
    s->migrate_sent = true;
    return qmig_qmp_migrate(s->side.qmp, "fd:qmig-save", error);
}

static bool
start_file(Save *s, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(s->output.partial, NULL);
    g_autofree char *uri = g_strdup_printf("file:%s", absolute);

    s->migrate_sent = true;
    return qmig_qmp_migrate(s->side.qmp, uri, error);
}

/* ---- the migration ---------------------------------------------------------------------- */

static bool
query(Save *s, QmigMigrationInfo *info, GError **error)
{
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(PATIENCE_MS),
                         .cancel = s->cancel };

    return qmig_qmp_query_migrate(s->side.qmp, info, &call, error) &&
           qmig_side_dispatch(&s->side, error);
}

/* QEMU has failed: it was its own trouble, or ours, which closed the pipe. */
static bool
tell_failure(Save *s, const QmigMigrationInfo *info, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(CLOSE_TIMEOUT_MS);

    while (s->thread != NULL && !qmig_cancel_is_raised(s->done) &&
           qmig_now_us() < deadline) {
        g_usleep(1000);
    }
    if (qmig_cancel_is_raised(s->done) &&
        g_error_matches(s->write_error, QMIG_ERROR, QMIG_ERROR_IO)) {
        g_propagate_error(error, g_steal_pointer(&s->write_error));
        return false;
    }
    return qmig_set_error(error, QMIG_ERROR_STATE, "QEMU: its migration is \"%s\"%s%s",
                          info->status_text, info->error != NULL ? ": " : "",
                          info->error != NULL ? info->error : "");
}

/* Until QEMU says "completed" and the whole stream is in. */
static bool
await_stream(Save *s, GError **error)
{
    for (;;) {
        g_auto(QmigMigrationInfo) info = { 0 };

        if (qmig_cancel_is_raised(s->done) && s->write_error != NULL) {
            g_propagate_error(error, g_steal_pointer(&s->write_error));
            return false;
        }
        if (!query(s, &info, error)) {
            return false;
        }
        if (info.status == QMIG_STATUS_FAILED || info.status == QMIG_STATUS_CANCELLED) {
            return tell_failure(s, &info, error);
        }
        if (info.status == QMIG_STATUS_COMPLETED &&
            (s->thread == NULL || qmig_cancel_is_raised(s->done))) {
            join_recording(s);
            if (s->write_error == NULL) {
                return true;
            }
        } else if (!wait_news(s, error)) {
            return false;
        }
    }
}

/* ---- the file --------------------------------------------------------------------------- */

static uint64_t
disk_bytes(int fd)
{
    struct stat info;

    return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? (uint64_t)info.st_blocks * 512
                                                          : 0;
}

/* What QEMU, not the stream, tells. */
static void
fill_info(Save *s)
{
    QmigSaveInfo *info = &s->result->info;
    bool ran = s->side.running || g_strcmp0(s->side.run_state, "suspended") == 0;

    info->date = (uint64_t)(g_get_real_time() / G_USEC_PER_SEC);
    if (s->side.qmp != NULL) {
        /* Of a guest that was stopped to be saved, the stream says "paused". */
        info->flags &= ~(uint32_t)(QMIG_SAVE_RAN | QMIG_SAVE_PAUSED);
        info->flags |= ran ? QMIG_SAVE_RAN : QMIG_SAVE_PAUSED;
        info->qemu = s->side.version;
    }
}

/* What QEMU wrote by itself is read once from front to back. */
static bool
verify_mapped(Save *s, GError **error)
{
    g_auto(QmigFd) fd = open(s->output.partial, O_RDONLY | O_CLOEXEC);
    char **doubt = &s->result->doubt;

    if (fd < 0) {
        return qmig_set_error_errno(
            error, errno, "%s: QEMU says it wrote this file; open", s->output.partial);
    }
    if (!qmig_save_record(fd, NULL, &s->result->info, doubt, s->cancel, error)) {
        g_prefix_error(error, "%s: ", s->options->path);
        return false;
    }
    return *doubt == NULL || qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                            "%s: QEMU's file is not proven whole: %s",
                                            s->options->path, *doubt);
}

static bool
finish_file(Save *s, GError **error)
{
    QmigSaveResult *result = s->result;

    fill_info(s);
    if (s->options->mapped_ram) {
        if (!verify_mapped(s, error)) {
            return false;
        }
    } else if (!qmig_save_writer_finish(s->writer, &result->info, error)) {
        g_prefix_error(error, "%s: ", s->options->path);
        return false;
    }
    tell_progress(s);
    if (!qmig_save_output_commit(&s->output, error)) {
        return false;
    }
    result->file_bytes = s->options->mapped_ram ? disk_bytes(s->output.fd)
                                                : qmig_save_writer_written(s->writer);
    result->total_ms = (uint64_t)(qmig_now_us() - s->start_us) / 1000;
    return true;
}

/* ---- afterwards ------------------------------------------------------------------------- */

/* Have the guest run, and see it run. */
static bool
run_guest(Save *s, GError **error)
{
    g_autofree char *state = NULL;
    bool running;

    if (!qmig_qmp_query_status(s->side.qmp, &running, &state, NULL, error)) {
        return false;
    }
    if (running) {
        return true;
    }
    g_clear_pointer(&state, g_free);
    if (!qmig_qmp_cont(s->side.qmp, error) ||
        !qmig_qmp_query_status(s->side.qmp, &running, &state, NULL, error)) {
        return false;
    }
    return running || qmig_set_error(error, QMIG_ERROR_STATE,
                                     "QEMU: after `cont` its state is \"%s\"", state);
}

/* The file is there: whatever fails now is told, but takes nothing back. */
static bool
let_go(Save *s, GError **error)
{
    QmigSaveResult *result = s->result;
    bool running;

    if (s->options->quit) {
        result->guest = g_strdup("quit");
        return qmig_side_end(&s->side, error);
    }
    if (!qmig_side_restore(&s->side, error) ||
        (s->options->resume && s->side.running && !run_guest(s, error))) {
        return false;
    }
    if (s->side.stopped_us > 0) {
        int64_t end_us = s->options->resume
                             ? qmig_now_us()
                             : s->start_us + (int64_t)result->total_ms * 1000;
        result->stopped_ms = (uint64_t)(end_us - s->side.stopped_us) / 1000;
    }
    return qmig_qmp_query_status(s->side.qmp, &running, &result->guest, NULL, error);
}

/* No migration of ours goes on. */
static bool
end_migration(Save *s, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(SETTLE_TIMEOUT_MS);
    bool cancelled = false;

    for (;;) {
        QmigQmpCall call = { .deadline = deadline };
        g_auto(QmigMigrationInfo) info = { 0 };

        if (!qmig_qmp_query_migrate(s->side.qmp, &info, &call, error)) {
            return false;
        }
        if (info.status == QMIG_STATUS_NONE || qmig_status_is_final(info.status)) {
            return true;
        }
        if (!cancelled && !qmig_qmp_migrate_cancel(s->side.qmp, &call, error)) {
            return false;
        }
        cancelled = true;
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "QEMU: its migration stays \"%s\" after the cancel",
                                  info.status_text);
        }
        g_usleep(10000);
    }
}

static bool
undo(Save *s, GError **error)
{
    qmig_cancel_raise(s->abort);
    join_recording(s);
    return (!s->migrate_sent || end_migration(s, error)) &&
           qmig_side_restore(&s->side, error) &&
           (!s->side.running || run_guest(s, error));
}

/* It has failed with @error: make it not have happened, and say where the guest is. */
static QmigOutcome
roll_back(Save *s, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool cancelled = qmig_cancel_is_raised(s->cancel);
    bool undone = undo(s, &local);
    g_autoptr(GError) first = NULL;

    g_propagate_error(&first, *error);
    *error = NULL;
    if (!undone) {
        qmig_set_error(error, QMIG_ERROR_STATE,
                       "%s\nThe guest could not be put back: %s. Look at it with `qmig "
                       "status`; QMP `cont` lets it run.",
                       first->message, local->message);
        return QMIG_OUTCOME_UNCLEAR;
    }
    qmig_set_error(error, (QmigErrorCode)first->code, "%s\n%s No file was written.",
                   first->message,
                   s->side.running ? "The guest runs on." : "The guest is as it was.");
    return cancelled ? QMIG_OUTCOME_CANCELLED : QMIG_OUTCOME_FAILED;
}

/* ---- the whole -------------------------------------------------------------------------- */

static bool
migrate(Save *s, GError **error)
{
    s->start_us = qmig_now_us();
    return stop_guest(s, error) && apply_settings(s, error) &&
           (s->options->mapped_ram ? start_file(s, error) : start_stream(s, error)) &&
           await_stream(s, error) && finish_file(s, error);
}

static QmigOutcome
save_guest(Save *s, GError **error)
{
    if (!begin(s, error)) {
        return qmig_cancel_is_raised(s->cancel) ? QMIG_OUTCOME_CANCELLED
                                                : QMIG_OUTCOME_REFUSED;
    }
    if (!migrate(s, error)) {
        return roll_back(s, error);
    }
    if (!let_go(s, error)) {
        g_prefix_error(error, "%s is complete; ", s->options->path);
        return QMIG_OUTCOME_UNCLEAR;
    }
    return QMIG_OUTCOME_DONE;
}

/* A stream that comes on stdin: only its own bytes can prove that it is whole. */
static bool
save_stdin(Save *s, GError **error)
{
    s->start_us = qmig_now_us();
    if (!qmig_save_output_open(&s->output, s->options->path, true, error)) {
        return false;
    }
    s->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (s->in < 0) {
        return qmig_set_error_errno(error, errno, "stdin");
    }
    start_recording(s);
    while (!qmig_cancel_is_raised(s->done)) {
        if (!wait_news(s, error)) {
            qmig_cancel_raise(s->abort);
            join_recording(s);
            return false;
        }
    }
    join_recording(s);
    if (s->write_error != NULL) {
        g_propagate_error(error, g_steal_pointer(&s->write_error));
        return false;
    }
    if (s->result->doubt != NULL) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "stdin: the stream is not proven whole: %s",
                              s->result->doubt);
    }
    return finish_file(s, error);
}

QmigOutcome
qmig_save_guest(const QmigSaveOptions *options, const QmigCancel *cancel,
                QmigSaveResult *result, GError **error)
{
    Save s = { .options = options,
               .cancel = cancel,
               .result = result,
               .in = -1,
               .output.fd = -1,
               .abort = qmig_cancel_new(),
               .done = qmig_cancel_new() };
    QmigOutcome outcome = QMIG_OUTCOME_DONE;

    *result = (QmigSaveResult){ 0 };
    qmig_save_info_init(&result->info);
    qmig_side_init(&s.side, "QEMU");
    if (options->qmp != NULL) {
        outcome = save_guest(&s, error);
    } else if (!save_stdin(&s, error)) {
        outcome = qmig_cancel_is_raised(cancel) ? QMIG_OUTCOME_CANCELLED
                                                : QMIG_OUTCOME_FAILED;
    }
    qmig_save_writer_free(s.writer);
    qmig_save_output_clear(&s.output);
    qmig_side_clear(&s.side);
    qmig_fd_clear(&s.in);
    qmig_cancel_free(s.abort);
    qmig_cancel_free(s.done);
    g_clear_error(&s.write_error);
    return outcome;
}
