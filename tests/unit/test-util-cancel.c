/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cancel flag and the one bounded wait: how a wait can end, and which end wins. */
#include "util/cancel.h"
#include "util/error.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define SOON_MS 100

typedef struct {
    int fds[2]; /* of a pipe with nothing in it */
    QmigCancel *cancel;
} Fixture;

static void
set_up(Fixture *f, gconstpointer unused)
{
    (void)unused;
    g_assert_cmpint(pipe(f->fds), ==, 0);
    f->cancel = qmig_cancel_new();
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    (void)unused;
    qmig_cancel_free(f->cancel);
    close(f->fds[0]);
    if (f->fds[1] >= 0) {
        close(f->fds[1]);
    }
}

static bool
is_readable(int fd)
{
    struct pollfd pollfd = { .fd = fd, .events = POLLIN };

    return poll(&pollfd, 1, 0) == 1;
}

static void
check_cancelled(const Fixture *f)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(
        qmig_wait_fd(f->fds[0], POLLIN, QMIG_DEADLINE_NEVER, f->cancel, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
}

static void
test_for_good(Fixture *f, gconstpointer unused)
{
    (void)unused;
    g_assert_false(qmig_cancel_is_raised(f->cancel));
    g_assert_false(is_readable(qmig_cancel_fd(f->cancel)));
    qmig_cancel_raise(f->cancel);
    qmig_cancel_raise(f->cancel);
    for (int i = 0; i < 3; i++) {
        g_assert_true(qmig_cancel_is_raised(f->cancel));
        g_assert_true(is_readable(qmig_cancel_fd(f->cancel)));
        check_cancelled(f);
    }
}

static gpointer
raise_soon(gpointer cancel)
{
    g_usleep(SOON_MS * 1000);
    qmig_cancel_raise(cancel);
    return NULL;
}

static void
test_thread(Fixture *f, gconstpointer unused)
{
    GThread *thread = g_thread_new("raise", raise_soon, f->cancel);

    (void)unused;
    check_cancelled(f);
    g_thread_join(thread);
}

static QmigCancel *raised_by_signal;

static void
on_alarm(int signum)
{
    (void)signum;
    qmig_cancel_raise(raised_by_signal);
}

static void
test_signal(Fixture *f, gconstpointer unused)
{
    struct sigaction action = { .sa_handler = on_alarm }, old;

    (void)unused;
    raised_by_signal = f->cancel;
    g_assert_cmpint(sigaction(SIGALRM, &action, &old), ==, 0);
    ualarm(SOON_MS * 1000, 0);
    check_cancelled(f);
    g_assert_cmpint(sigaction(SIGALRM, &old, NULL), ==, 0);
}

/* A peer that keeps sending must not keep a cancel from being seen. */
static void
test_beats_data(Fixture *f, gconstpointer unused)
{
    (void)unused;
    g_assert_cmpint(write(f->fds[1], "x", 1), ==, 1);
    qmig_cancel_raise(f->cancel);
    check_cancelled(f);
}

/* What is there is taken, however late it is. */
static void
test_data_beats_deadline(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    (void)unused;
    g_assert_cmpint(write(f->fds[1], "x", 1), ==, 1);
    g_assert_true(
        qmig_wait_fd(f->fds[0], POLLIN, qmig_deadline_in_ms(-1000), f->cancel, &error));
    g_assert_no_error(error);
}

static void
test_deadline(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    int64_t start_us = qmig_now_us();

    (void)unused;
    g_assert_false(
        qmig_wait_fd(f->fds[0], POLLIN, qmig_deadline_in_ms(SOON_MS), f->cancel, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_assert_cmpint(qmig_now_us() - start_us, >=, SOON_MS * 1000);
}

static void
test_hang_up(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    (void)unused;
    close(f->fds[1]);
    f->fds[1] = -1;
    g_assert_true(
        qmig_wait_fd(f->fds[0], POLLIN, QMIG_DEADLINE_NEVER, f->cancel, &error));
    g_assert_no_error(error);
}

static void
test_none(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;

    (void)unused;
    g_assert_false(qmig_cancel_is_raised(NULL));
    g_assert_cmpint(qmig_cancel_fd(NULL), ==, -1);
    g_assert_false(
        qmig_wait_fd(f->fds[0], POLLIN, qmig_deadline_in_ms(SOON_MS), NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define T(path, function) \
    g_test_add("/cancel/" path, Fixture, NULL, set_up, function, tear_down)
    T("is-raised-for-good", test_for_good);
    T("of-a-thread-ends-a-wait", test_thread);
    T("of-a-signal-handler-ends-a-wait", test_signal);
    T("beats-data", test_beats_data);
    T("data-beats-the-deadline", test_data_beats_deadline);
    T("a-wait-ends-at-its-deadline", test_deadline);
    T("a-hang-up-counts-as-ready", test_hang_up);
    T("none-is-never-raised", test_none);
    return g_test_run();
}
