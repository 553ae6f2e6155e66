/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of limits. */
#include "util/error.h"
#include "util/limit-file.h"

#include <glib/gstdio.h>
#include <string.h>

static void
test_lines_are_read(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigLimits) limits = qmig_limits_parse(
        "f",
        "# of the night\n\n  tunnel.sessions = 4\nthrottle.rate=100M \n"
        "tunnel.sessions = 8\n\ttunnel.rate =  1Gbit = no",
        &error);

    g_assert_no_error(error);
    g_assert_cmpstr(qmig_limits_get(limits, "tunnel", "sessions"), ==, "8");
    g_assert_cmpstr(qmig_limits_get(limits, "throttle", "rate"), ==, "100M");
    g_assert_cmpstr(qmig_limits_get(limits, "tunnel", "rate"), ==, "1Gbit = no");
    g_assert_null(qmig_limits_get(limits, "throttle", "sessions"));
    g_assert_null(qmig_limits_get(limits, "tunnel", "cache"));
    g_assert_cmpuint(qmig_limits_nth(limits, 0)->line, ==, 4);
    g_assert_nonnull(qmig_limits_nth(limits, 2));
    g_assert_null(qmig_limits_nth(limits, 3));
    g_assert_cmpstr(qmig_limits_name(limits), ==, "f");
}

static void
expect_error(const char *text, int code, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigLimits) limits = qmig_limits_parse("f", text, &error);

    g_assert_null(limits);
    g_assert_error(error, QMIG_ERROR, code);
    g_assert_nonnull(strstr(error->message, words));
}

static void
test_wrong_lines_are_named(void)
{
    g_autofree char *long_text = g_strnfill(QMIG_LIMITS_LINES_MAX, '\n');

    expect_error("a.b = c\ntunnel.rate 5", QMIG_ERROR_CONFIG, "f:2: \"tunnel.rate 5\", ");
    expect_error("rate = 5", QMIG_ERROR_CONFIG,
                 "f:1: \"rate = 5\", wanted PLUGIN.KEY or tunnel.KEY = VALUE");
    expect_error("tunnel.rate =", QMIG_ERROR_CONFIG, "f:1: ");
    expect_error("tunnel. = 5", QMIG_ERROR_CONFIG, "f:1: ");
    expect_error(".rate = 5", QMIG_ERROR_CONFIG, "f:1: ");
    expect_error("tunnel.Rate = 5", QMIG_ERROR_CONFIG, "small letters");
    expect_error("tunnel.rate\xff = 5", QMIG_ERROR_CONFIG, "is no text");
    expect_error(long_text, QMIG_ERROR_LIMIT, "more than 1024 lines");
}

static void
test_files_are_bounded(void)
{
    g_autofree char *path = NULL, *text = g_strnfill(QMIG_LIMITS_FILE_MAX + 1, ' ');
    g_autoptr(GError) error = NULL;
    int fd = g_file_open_tmp("limits-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(path, "tunnel.rate = 1M\n", -1, NULL));
    g_autoptr(QmigLimits) limits = qmig_limits_read(path, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(qmig_limits_get(limits, "tunnel", "rate"), ==, "1M");

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_null(qmig_limits_read(path, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
    g_clear_error(&error);
    g_unlink(path);
    g_assert_null(qmig_limits_read(path, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_IO);
    g_assert_nonnull(strstr(error->message, path));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/limits/lines-are-read", test_lines_are_read);
    g_test_add_func("/limits/wrong-lines-are-named", test_wrong_lines_are_named);
    g_test_add_func("/limits/files-are-bounded", test_files_are_bounded);
    return g_test_run();
}
