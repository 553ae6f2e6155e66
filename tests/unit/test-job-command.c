/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Commands of the user's: their word, their time-out, and that nothing of them is left. */
#include "job/command.h"

#include "util/error.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static bool
run(const char *command, uint32_t timeout_ms, const QmigCancel *cancel, GError **error)
{
    return qmig_command_run("hook of x", command, NULL, timeout_ms, cancel, error);
}

static void
test_yes(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(run("true", 5000, NULL, &error));
    g_assert_no_error(error);
    /* More than a pipe holds. */
    g_assert_true(run("head -c 1000000 /dev/zero; exit 0", 5000, NULL, &error));
    g_assert_no_error(error);
}

static void
test_no(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(
        run("echo no such disk >&2; printf '\\033[1m\\377'; exit 3", 5000, NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
    g_assert_true(g_str_has_prefix(error->message,
                                   "hook of x: exit code 3, wanted 0: no such disk"));
    g_assert_null(strchr(error->message, '\033'));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

static void
test_dies(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(run("kill -TERM $$", 5000, NULL, &error));
    g_assert_nonnull(strstr(error->message, "signal 15"));
}

/* With all it has started. */
static void
test_timeout(void)
{
    g_autofree char *dir = g_dir_make_tmp("qmig-test-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "pid", NULL);
    g_autofree char *command = g_strdup_printf("sleep 60 & echo $! > %s; wait", file);
    g_autofree char *pid = NULL;
    g_autoptr(GError) error = NULL;
    int64_t begin = qmig_now_us();

    g_assert_false(run(command, 300, NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_assert_cmpint(qmig_now_us() - begin, <, 5 * G_USEC_PER_SEC);
    g_assert_true(g_file_get_contents(file, &pid, NULL, NULL));
    for (int i = 0; i < 200 && kill(atoi(pid), 0) == 0; i++) {
        /* A container may have nobody who reaps it: a zombie counts as gone. */
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", atoi(pid)), *stat = NULL;
        if (g_file_get_contents(path, &stat, NULL, NULL) &&
            strstr(stat, ") Z ") != NULL) {
            break;
        }
        g_assert_cmpint(i, <, 199);
        g_usleep(10000);
    }
    g_remove(file);
    g_rmdir(dir);
}

static void
test_cancel(void)
{
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    g_autoptr(GError) error = NULL;

    qmig_cancel_raise(cancel);
    g_assert_false(run("sleep 60", 30000, cancel, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CANCELLED);
}

/* Who goes into the background with the pipe in hand is not waited for. */
static void
test_background(void)
{
    int64_t begin = qmig_now_us();

    g_assert_true(run("sleep 3 &", 10000, NULL, NULL));
    g_assert_cmpint(qmig_now_us() - begin, <, 2 * G_USEC_PER_SEC);
}

static void
test_environment(void)
{
    g_autoptr(JsonObject) environment = json_object_new_object();
    g_autoptr(GError) error = NULL;

    json_object_object_add(environment, "QMIG_PHASE", json_object_new_string("perform"));
    json_object_object_add(environment, "QMIG_EMPTY", NULL);
    g_assert_true(qmig_command_run(
        "hook", "test \"$QMIG_PHASE\" = perform && test \"${QMIG_EMPTY-x}\" = ''",
        environment, 5000, NULL, &error));
    g_assert_no_error(error);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/job/command/exit-0-is-yes", test_yes);
    g_test_add_func("/job/command/its-last-words-are-in-the-error", test_no);
    g_test_add_func("/job/command/death-is-no", test_dies);
    g_test_add_func("/job/command/a-time-out-ends-it-and-its-children", test_timeout);
    g_test_add_func("/job/command/a-cancel-ends-it", test_cancel);
    g_test_add_func("/job/command/the-background-is-not-waited-for", test_background);
    g_test_add_func("/job/command/environment", test_environment);
    return g_test_run();
}
