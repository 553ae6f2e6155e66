/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors: a code says what a caller can do, and has a word for machines. */
#include "util/error.h"

#include <errno.h>

static void
test_set(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_set_error(&error, QMIG_ERROR_LIMIT, "%d of %d", 3, 2));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
    g_assert_cmpstr(error->message, ==, "3 of 2");
    g_assert_false(qmig_set_error(NULL, QMIG_ERROR_LIMIT, "nobody listens"));
}

static void
test_errno(void)
{
    static const struct {
        int err;
        QmigErrorCode code;
    } rows[] = {
        { ENOENT, QMIG_ERROR_IO },         { ETIMEDOUT, QMIG_ERROR_TIMEOUT },
        { ECONNRESET, QMIG_ERROR_CLOSED }, { EPIPE, QMIG_ERROR_CLOSED },
        { ECONNREFUSED, QMIG_ERROR_IO },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = g_strconcat("file: ", g_strerror(rows[i].err), NULL);

        g_assert_false(qmig_set_error_errno(&error, rows[i].err, "file"));
        g_assert_error(error, QMIG_ERROR, (int)rows[i].code);
        g_assert_cmpstr(error->message, ==, text);
    }
}

static void
test_names(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (int code = QMIG_ERROR_IO; code <= QMIG_ERROR_TLS; code++) {
        g_autoptr(GError) error = g_error_new_literal(QMIG_ERROR, code, "x");
        const char *name = qmig_error_name(error);

        g_assert_cmpstr(name, !=, "internal");
        g_assert_true(g_hash_table_add(seen, (gpointer)name));
    }
    g_autoptr(GError) beyond = g_error_new_literal(QMIG_ERROR, QMIG_ERROR_TLS + 1, "x");
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, 0, "x");
    g_assert_cmpstr(qmig_error_name(beyond), ==, "internal");
    g_assert_cmpstr(qmig_error_name(foreign), ==, "internal");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/is-set-with-its-text", test_set);
    g_test_add_func("/error/errno-becomes-what-a-caller-can-do", test_errno);
    g_test_add_func("/error/every-code-has-its-own-name", test_names);
    return g_test_run();
}
