/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The child has a process group of its own, so that a time-out ends also what it has started, and
 * Ctrl-C on the terminal reaches only qmig. Its output goes to a pipe that is read until the child
 * has ended; what others still hold it open for is not waited for.
 */
#include "job/command.h"

#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Of its output: enough for a message. */
enum { MAX_WORDS = 500, KILL_TIMEOUT_MS = 2000 };

typedef struct {
    pid_t pid;
    QmigFd pidfd, output;
    GString *words; /* the end of what it printed */
} Child;

static char **
make_environment(JsonObject *extra)
{
    char **list = g_get_environ();

    if (extra != NULL) {
        json_object_object_foreach(extra, name, value)
        {
            const char *text = json_object_get_string(value);
            list = g_environ_setenv(list, name, text != NULL ? text : "", TRUE);
        }
    }
    return list;
}

static int
spawn_shell(Child *child, const char *command, char **environment, int output)
{
    static char shell[] = "/bin/sh", option[] = "-c";
    g_autofree char *text = g_strdup(command);
    char *argv[] = { shell, option, text, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    posix_spawnattr_init(&attributes);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    int err = posix_spawn(&child->pid, shell, &actions, &attributes, argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return err;
}

static bool
start(Child *child, const char *what, const char *command, JsonObject *environment,
      GError **error)
{
    g_auto(GStrv) list = make_environment(environment);
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return qmig_set_error_errno(error, errno, "%s", what);
    }
    g_auto(QmigFd) write_end = fds[1];
    child->output = fds[0];
    fcntl(child->output, F_SETFL, O_NONBLOCK);
    int err = spawn_shell(child, command, list, write_end);
    if (err != 0) {
        return qmig_set_error_errno(error, err, "%s: /bin/sh", what);
    }
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    return child->pidfd >= 0 || qmig_set_error_errno(error, errno, "%s: pidfd", what);
}

/* Take what it printed; false at its end. */
static bool
take_words(Child *child)
{
    char buf[4096];
    ssize_t n;

    while ((n = read(child->output, buf, sizeof buf)) > 0) {
        g_string_append_len(child->words, buf, n);
        if (child->words->len > MAX_WORDS) {
            g_string_erase(child->words, 0, (gssize)(child->words->len - MAX_WORDS));
        }
        if (n < (ssize_t)sizeof buf) {
            return true;
        }
    }
    return n < 0 && errno == EAGAIN;
}

/* Until it has ended. */
static bool
await_end(Child *child, const char *what, QmigDeadline deadline, uint32_t timeout_ms,
          const QmigCancel *cancel, GError **error)
{
    for (;;) {
        struct pollfd fds[] = {
            { .fd = child->pidfd, .events = POLLIN },
            { .fd = qmig_cancel_fd(cancel), .events = POLLIN },
            { .fd = child->output, .events = POLLIN },
        };

        poll(fds, G_N_ELEMENTS(fds), qmig_deadline_poll_ms(deadline));
        if (child->output >= 0 && !take_words(child)) {
            qmig_fd_clear(&child->output);
        }
        if (fds[0].revents != 0) {
            return true;
        }
        if (qmig_cancel_is_raised(cancel)) {
            return qmig_set_error(error, QMIG_ERROR_CANCELLED,
                                  "%s: cancelled, and killed", what);
        }
        if (qmig_now_us() >= deadline) {
            return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                  "%s: not done within %u ms, and killed", what,
                                  timeout_ms);
        }
    }
}

static bool
judge(Child *child, const char *what, int status, GError **error)
{
    g_autofree char *said = NULL;

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return true;
    }
    g_strchomp(child->words->str);
    /* Others' bytes do not reach a terminal as they are. */
    said = g_utf8_make_valid(child->words->str, -1);
    for (char *c = said; *c != '\0'; c++) {
        *c = g_ascii_iscntrl(*c) ? ' ' : *c;
    }
    const char *colon = said[0] != '\0' ? ": " : "";
    if (WIFSIGNALED(status)) {
        return qmig_set_error(error, QMIG_ERROR_STATE, "%s: died by signal %d%s%s", what,
                              WTERMSIG(status), colon, said);
    }
    return qmig_set_error(error, QMIG_ERROR_STATE, "%s: exit code %d, wanted 0%s%s", what,
                          WEXITSTATUS(status), colon, said);
}

bool
qmig_command_run(const char *what, const char *command, JsonObject *environment,
                 uint32_t timeout_ms, const QmigCancel *cancel, GError **error)
{
    Child child = { .pid = -1, .pidfd = -1, .output = -1 };
    g_autoptr(GString) words = child.words = g_string_new(NULL);
    int status = 0;
    bool ended = start(&child, what, command, environment, error) &&
                 await_end(&child, what, qmig_deadline_in_ms(timeout_ms), timeout_ms,
                           cancel, error);

    /* Whatever it has started goes with it. One that not even that ends is left behind. */
    if (child.pid > 0) {
        struct pollfd pollfd = { .fd = child.pidfd, .events = POLLIN };
        if (!ended) {
            kill(-child.pid, SIGKILL);
            poll(&pollfd, 1, KILL_TIMEOUT_MS);
        }
        waitpid(child.pid, &status, WNOHANG);
    }
    if (child.output >= 0) {
        (void)take_words(&child);
    }
    qmig_fd_clear(&child.pidfd);
    qmig_fd_clear(&child.output);
    return ended && judge(&child, what, status, error);
}
