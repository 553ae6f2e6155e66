/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A source in the near end's own process, which needs no socket to say what it has. */
#include "test-link-world.h"

/* A source in this process: what it writes goes by the sink, all else by the descriptor. */
typedef struct {
    QmigFd fd;
    QmigRelaySink sink;
    QmigCancel *cancel;
} Inside;

static void
inside_enter(Inside *in, const World *w)
{
    g_autoptr(GError) error = NULL;

    in->fd = qmig_near_connect(w->near, w->entry, &in->sink, &error);
    g_assert_no_error(error);
    g_assert_nonnull(in->sink.put);
    in->cancel = qmig_cancel_new();
}

static void
inside_leave(Inside *in)
{
    qmig_fd_clear(&in->fd);
    in->sink.release(in->sink.self);
    qmig_cancel_free(in->cancel);
}

/* Put @n bytes of @byte where the sink wants them. */
static bool
inside_say(Inside *in, char byte, size_t n, GError **error)
{
    size_t room;
    uint8_t *place = in->sink.place(in->sink.self, &room);

    g_assert_cmpuint(room, >=, n);
    memset(place, byte, n);
    return in->sink.put(in->sink.self, place, n, in->cancel, error);
}

static void
test_inside(void)
{
    World w;
    Inside in;
    g_autoptr(GError) error = NULL;

    world_up(&w, 60000, 4);
    inside_enter(&in, &w);
    g_assert_true(inside_say(&in, 'a', 3, &error));
    g_assert_true(in.sink.put(in.sink.self, (const uint8_t *)"bc", 2, in.cancel, &error));
    g_assert_true(inside_say(&in, 'd', 1, &error));
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "aaabcd");
    say(out, "back");
    hear(in.fd, "back");
    (void)shutdown(in.fd, SHUT_WR);
    hear_end(out);
    say(out, "last words");
    hear(in.fd, "last words");
    qmig_fd_clear(&out);
    hear_end(in.fd);
    g_autoptr(QmigAddress) nowhere = address_in(&w, "nowhere");
    QmigRelaySink none;
    g_assert_cmpint(qmig_near_connect(w.near, nowhere, &none, &error), ==, -1);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    inside_leave(&in);
    world_down(&w);
}

/* Its reader has left: a put fails, and what was said last can be read. */
static void
test_inside_reset(void)
{
    World w;
    Inside in;
    g_autoptr(GError) error = NULL;
    bool ok = true;

    world_up(&w, 60000, 4);
    inside_enter(&in, &w);
    g_assert_true(inside_say(&in, 'a', 1, NULL));
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "a");
    say(out, "SHUT");
    qmig_fd_clear(&out);
    for (int i = 0; i < 1000 && ok; i++) {
        ok = inside_say(&in, 'b', 1 << 16, &error);
    }
    g_assert_false(ok);
    g_clear_error(&error);
    g_assert_false(inside_say(&in, 'c', 1, &error));
    hear(in.fd, "SHUT");
    inside_leave(&in);
    world_down(&w);
}

static void *
say_until_it_fails(void *data)
{
    Inside *in = data;
    GError *error = NULL;

    while (inside_say(in, 'c', 1 << 16, &error)) {
    }
    return error;
}

/* It waits for room in the dark, until it is told not to, or the session is no more. */
static void
check_inside_stopped(bool by_session)
{
    World w;
    Inside in;

    world_up(&w, 60000, 4);
    QmigNear *near = qmig_near_ref(w.near);
    inside_enter(&in, &w);
    g_assert_true(inside_say(&in, 'a', 1, NULL));
    g_auto(QmigFd) out = leave(&w, 5000);
    hear(out, "a");
    break_all(&w);
    GThread *thread = g_thread_new("inside", say_until_it_fails, &in);
    g_usleep(300000);
    if (by_session) {
        qmig_near_free(g_steal_pointer(&w.near));
    } else {
        qmig_cancel_raise(in.cancel);
    }
    g_autoptr(GError) error = g_thread_join(thread);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
    if (by_session) {
        QmigRelaySink none;
        g_clear_error(&error);
        g_assert_cmpint(qmig_near_connect(near, w.entry, &none, &error), ==, -1);
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CLOSED);
    }
    inside_leave(&in);
    qmig_near_unref(near);
    world_down(&w);
}

static void
test_inside_stopped(void)
{
    check_inside_stopped(false);
    check_inside_stopped(true);
}
int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link/inside/passes", test_inside);
    g_test_add_func("/link/inside/reset", test_inside_reset);
    g_test_add_func("/link/inside/stopped", test_inside_stopped);
    return g_test_run();
}
