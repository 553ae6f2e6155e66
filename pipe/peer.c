/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See peer.h. */
#include "pipe/peer.h"

#include "save/io.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
    PATIENCE_MS = 10000, /* for a command that has been given the end */
    TERM_MS = 2000,      /* from SIGTERM to SIGKILL */
    DEAD_LINK_MS = 60000,
};

extern char **environ;

void
qmig_pipe_peer_stdio(QmigPipePeer *peer)
{
    *peer = (QmigPipePeer){ .in = STDIN_FILENO, .out = STDOUT_FILENO };
    peer->restore_out = qmig_io_set_nonblocking(peer->out, true);
}

void
qmig_pipe_peer_socket(QmigPipePeer *peer, int fd)
{
    unsigned dead_ms = DEAD_LINK_MS;
    int idle_s = DEAD_LINK_MS / 2000, interval_s = DEAD_LINK_MS / 6000;

    *peer = (QmigPipePeer){ .in = fd, .out = fd };
    /* A host that vanished is told from a guest that is quiet; harmless on unix sockets. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof dead_ms);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
}

/* ---- a command ------------------------------------------------------------------------------ */

static int
spawn(pid_t *pid, char *const *argv, int in, int out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults, none;

    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int err = posix_spawnp(pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return err;
}

bool
qmig_pipe_peer_spawn(QmigPipePeer *peer, char *const *argv, GError **error)
{
    int to[2], from[2];

    if (pipe2(to, O_CLOEXEC) < 0) {
        return qmig_set_error_errno(error, errno, "pipe");
    }
    g_auto(QmigFd) to_read = to[0], to_write = to[1];
    if (pipe2(from, O_CLOEXEC) < 0) {
        return qmig_set_error_errno(error, errno, "pipe");
    }
    g_auto(QmigFd) from_read = from[0], from_write = from[1];
    pid_t pid = 0;
    int err = spawn(&pid, argv, to_read, from_write);
    if (err != 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: %s", argv[0],
                              g_strerror(err));
    }
    *peer = (QmigPipePeer){ .in = qmig_fd_steal(&from_read),
                            .out = qmig_fd_steal(&to_write),
                            .pid = pid };
    (void)qmig_io_set_nonblocking(peer->in, true);
    (void)qmig_io_set_nonblocking(peer->out, true);
    return true;
}

/* Wait until it has ended. Return: its status, or -1 when it runs on. */
static int
reap(pid_t pid, int timeout_ms)
{
    g_auto(QmigFd) pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd ended = { .fd = pidfd, .events = POLLIN };
    int status = -1;

    if (pidfd >= 0) {
        (void)poll(&ended, 1, timeout_ms);
    }
    return waitpid(pid, &status, timeout_ms < 0 ? 0 : WNOHANG) == pid ? status : -1;
}

static bool
end_command(pid_t pid, const char *name, bool patient, GError **error)
{
    int status = reap(pid, patient ? PATIENCE_MS : TERM_MS);
    bool told = status == -1;

    if (told) {
        kill(pid, SIGTERM);
        status = reap(pid, TERM_MS);
    }
    if (status == -1) {
        kill(pid, SIGKILL);
        status = reap(pid, -1);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return true;
    }
    if (told) {
        return qmig_set_error(error, QMIG_ERROR_IO, "%s: it did not end by itself", name);
    }
    return qmig_set_error(error, QMIG_ERROR_IO, "%s: %s %d", name,
                          WIFEXITED(status) ? "exit status" : "killed by signal",
                          WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

/* ---- the end -------------------------------------------------------------------------------- */

static void
close_in(QmigPipePeer *peer)
{
    if (peer->in > STDERR_FILENO && peer->in != peer->out) {
        close(peer->in);
    }
    peer->in = -1;
}

/* stdout is replaced, not closed: the next file to be opened must not become it. */
static int
close_descriptor(int fd)
{
    g_auto(QmigFd) null = -1;

    if (fd != STDOUT_FILENO) {
        return close(fd);
    }
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return null >= 0 && dup2(null, fd) == fd ? 0 : -1;
}

bool
qmig_pipe_peer_end(QmigPipePeer *peer, GError **error)
{
    struct stat info;
    int fd = peer->out;

    if (fd < 0 || fstat(fd, &info) < 0) {
        return true;
    }
    if (S_ISREG(info.st_mode) && fdatasync(fd) < 0) {
        return qmig_set_error_errno(error, errno, "%s: fdatasync", peer->name);
    }
    if (peer->restore_out) {
        (void)qmig_io_set_nonblocking(fd, false);
    }
    if (S_ISSOCK(info.st_mode)) {
        (void)shutdown(fd, SHUT_WR); /* the other half may still speak */
    }
    if (peer->in == fd) {
        return true;
    }
    peer->out = -1;
    return close_descriptor(fd) == 0 ||
           qmig_set_error_errno(error, errno, "%s: close", peer->name);
}

bool
qmig_pipe_peer_close(QmigPipePeer *peer, bool patient, GError **error)
{
    if (peer->in == peer->out && peer->in >= 0) {
        close(peer->in);
        peer->in = peer->out = -1;
    }
    close_in(peer);
    if (peer->out >= 0) {
        if (peer->restore_out) {
            (void)qmig_io_set_nonblocking(peer->out, false);
        }
        (void)close_descriptor(peer->out);
        peer->out = -1;
    }
    return peer->pid == 0 || end_command(peer->pid, peer->name, patient, error);
}
