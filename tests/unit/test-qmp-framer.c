/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The framer: the same objects however the bytes are cut, and no more memory than allowed. */
#include "qmp/framer.h"
#include "util/error.h"

#include <string.h>

static const char transcript[] =
    "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"
    "\r\n"
    "{\"return\": \"\xc3\xa4 \\u00e4 \\ud83d\\ude00 \\\" \\\\ {\", \"id\": 1}\r\n"
    "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": -2}}\n"
    "{\"return\": [1.5e3, true, null, 18446744073709551615], \"id\": 2}\r\n";

/* Append the text of all objects that are complete. */
static void
drain(QmigQmpFramer *framer, GString *out)
{
    for (;;) {
        g_autoptr(JsonObject) object = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_true(qmig_qmp_framer_next(framer, &object, &error));
        g_assert_no_error(error);
        if (object == NULL) {
            return;
        }
        g_string_append(out, json_object_to_json_string(object));
        g_string_append_c(out, '\n');
    }
}

static void
push(QmigQmpFramer *framer, const char *bytes, size_t len, GString *out)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_framer_push(framer, bytes, len, &error));
    g_assert_no_error(error);
    drain(framer, out);
}

/* (transfer full) the objects of @transcript cut at @cut, then every @step bytes. */
static GString *
objects(size_t cut, size_t step)
{
    g_autoptr(QmigQmpFramer) framer = qmig_qmp_framer_new();
    GString *out = g_string_new(NULL);
    size_t len = strlen(transcript);

    push(framer, transcript, cut, out);
    for (size_t at = cut; at < len; at += step) {
        push(framer, transcript + at, MIN(step, len - at), out);
    }
    return out;
}

static void
test_cut_anywhere(void)
{
    size_t len = strlen(transcript);
    GString *whole = objects(len, 1);
    g_auto(GStrv) lines = g_strsplit(whole->str, "\n", -1);

    g_assert_cmpuint(g_strv_length(lines), ==, 4 + 1);
    g_assert_nonnull(strstr(whole->str, "18446744073709551615"));
    for (size_t cut = 0; cut < len; cut++) {
        GString *cut_once = objects(cut, len);
        g_assert_cmpstr(cut_once->str, ==, whole->str);
        g_string_free(cut_once, TRUE);
    }
    GString *bytewise = objects(0, 1);
    g_assert_cmpstr(bytewise->str, ==, whole->str);
    g_string_free(bytewise, TRUE);
    g_string_free(whole, TRUE);
}

static void
test_megabytes(void)
{
    g_autoptr(QmigQmpFramer) framer = qmig_qmp_framer_new();
    g_autofree char *big = g_strnfill(5 << 20, 'x');
    g_autofree char *line = g_strdup_printf("{\"return\": \"%s\"}\r\n", big);
    GString *out = g_string_new(NULL);
    size_t len = strlen(line);

    for (size_t at = 0; at < len; at += 16384) {
        push(framer, line + at, MIN(16384, len - at), out);
    }
    g_assert_cmpuint(out->len, >, 5 << 20);
    g_string_free(out, TRUE);
}

static void
test_too_long(void)
{
    g_autoptr(QmigQmpFramer) framer = qmig_qmp_framer_new();
    g_autofree char *chunk = g_strnfill(1 << 20, 'x');
    g_autoptr(GError) error = NULL;
    size_t pushed = 0;

    while (qmig_qmp_framer_push(framer, chunk, 1 << 20, &error)) {
        pushed += 1 << 20;
        g_assert_cmpuint(pushed, <=, QMIG_QMP_LINE_LIMIT);
    }
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
    g_assert_cmpuint(pushed, ==, QMIG_QMP_LINE_LIMIT);
}

/* One line alone: no object, and an error that shows @shown. */
static void
check_garbage(const char *line, size_t len, const char *shown)
{
    g_autoptr(QmigQmpFramer) framer = qmig_qmp_framer_new();
    g_autoptr(JsonObject) object = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_framer_push(framer, line, len, &error));
    g_assert_false(qmig_qmp_framer_next(framer, &object, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_assert_null(object);
    g_assert_nonnull(strstr(error->message, shown));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

static void
test_garbage(void)
{
    static const char *const lines[] = {
        "QEMU 7.2\n",          "[1]\n",    "12\n",
        "{\"a\": }\n",         "{} {}\n",  "{\"a\": 1\n",
        "{\"a\": \"\xff\"}\n", "\x01{}\n",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        check_garbage(lines[i], strlen(lines[i]), "QMP: ");
    }
    check_garbage("QEMU 7.2 monitor\n", 17, "QEMU 7.2 monitor");
    check_garbage("{}\0{}\n", 6, "QMP: ");
}

/* Overlong, a surrogate, beyond U+10FFFF, cut short, a lone continuation. */
static void
test_utf8(void)
{
    static const char *const texts[] = { "\xc0\x80",     "\xe0\x80\xaf",
                                         "\xed\xa0\x80", "\xf8\x88\x80\x80\x80",
                                         "\xe2\x82",     "\x80",
                                         "\xff" };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *line = g_strdup_printf("{\"a\": \"%s\"}\n", texts[i]);
        check_garbage(line, strlen(line), "UTF-8");
    }
}

/* The line behind a bad one is read as if nothing had been. */
static void
test_recovers(void)
{
    g_autoptr(QmigQmpFramer) framer = qmig_qmp_framer_new();
    g_autoptr(JsonObject) object = NULL;
    g_autoptr(GError) error = NULL;
    GString *out = g_string_new(NULL);

    g_assert_true(qmig_qmp_framer_push(framer, "{\"a\": [\n{\"b\": 1}\n", 18, &error));
    g_assert_false(qmig_qmp_framer_next(framer, &object, &error));
    g_assert_null(object);
    drain(framer, out);
    g_assert_cmpstr(out->str, ==, "{ \"b\": 1 }\n");
    g_string_free(out, TRUE);
}

static void
test_depth(void)
{
    g_autofree char *open = g_strnfill(2 * QMIG_QMP_DEPTH_LIMIT, '[');
    g_autofree char *close = g_strnfill(2 * QMIG_QMP_DEPTH_LIMIT, ']');
    g_autofree char *line = g_strdup_printf("{\"a\": %s%s}\n", open, close);

    check_garbage(line, strlen(line), "QMP: ");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/framer/cut-anywhere-gives-the-same-objects", test_cut_anywhere);
    g_test_add_func("/framer/a-line-of-megabytes-is-one-object", test_megabytes);
    g_test_add_func("/framer/a-line-without-end-is-a-limit-error", test_too_long);
    g_test_add_func("/framer/garbage-is-a-protocol-error-that-shows-it", test_garbage);
    g_test_add_func("/framer/invalid-utf8-is-refused", test_utf8);
    g_test_add_func("/framer/a-bad-line-does-not-spoil-the-next", test_recovers);
    g_test_add_func("/framer/deep-nesting-is-refused", test_depth);
    return g_test_run();
}
