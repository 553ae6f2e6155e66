/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The scripted peer itself: a test that relies on it must fail when the client misbehaves. */
#include "qmp/client.h"
#include "tests/fake-qemu/fake-qemu.h"
#include "util/error.h"

#include <string.h>

static QmigQmp *
connect_to(FakeQemu *fake, const char *label)
{
    g_autoptr(GError) error = NULL;
    QmigQmp *q = qmig_qmp_connect(fake_qemu_address(fake), label,
                                  qmig_deadline_in_ms(5000), NULL, &error);

    g_assert_no_error(error);
    return q;
}

/* Run @command, which succeeds; the return value is @json. */
static void
ask(QmigQmp *q, const char *command, const char *json)
{
    g_autoptr(JsonObject) ret = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_execute(q, command, NULL, &ret, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(json_object_to_json_string_ext(ret, JSON_C_TO_STRING_PLAIN), ==,
                    json);
}

/* Run this program again for @path alone, which must fail and say @text. */
static void
check_test_fails(const char *path, const char *text)
{
    g_test_trap_subprocess(path, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr(text);
}

static void
subprocess_unexpected(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_EXPECT, "stop" }, { FAKE_END } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    g_autoptr(QmigQmp) q = connect_to(fake, "source");

    g_assert_false(qmig_qmp_execute(q, "cont", NULL, NULL, NULL, NULL));
    fake_qemu_stop(fake);
}

static void
test_unexpected(void)
{
    check_test_fails("/fake-qemu/subprocess/unexpected", "*expected stop*heard*cont*");
}

static void
subprocess_other_arguments(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "migrate", "{\"uri\": \"tcp:there:1\"}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    g_autoptr(QmigQmp) q = connect_to(fake, "source");

    g_assert_false(qmig_qmp_execute(
        q, "migrate", json_tokener_parse("{\"uri\": \"tcp:here:1\"}"), NULL, NULL, NULL));
    fake_qemu_stop(fake);
}

static void
test_other_arguments(void)
{
    check_test_fails("/fake-qemu/subprocess/other-arguments", "*tcp:there:1*tcp:here:1*");
}

static void
subprocess_missing(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_EXPECT, "stop" }, { FAKE_END } };
    FakeQemu *fake = fake_qemu_new(steps, 0);

    qmig_qmp_free(connect_to(fake, "source"));
    fake_qemu_finish(fake);
}

static void
test_missing(void)
{
    check_test_fails("/fake-qemu/subprocess/missing", "*client_left*");
}

static void
subprocess_bad_script(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_EXPECT, "stop", "{oops" } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    g_autoptr(QmigQmp) q = connect_to(fake, "source");

    g_assert_false(qmig_qmp_execute(q, "stop", NULL, NULL, NULL, NULL));
    fake_qemu_stop(fake);
}

static void
test_bad_script(void)
{
    check_test_fails("/fake-qemu/subprocess/bad-script", "*no JSON: {oops*");
}

/* Before, between and after what is expected; in a sleep; until it is replaced. */
static void
test_whenever(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_WHENEVER, "query-migrate", "{\"status\":\"active\"}" },
        { FAKE_EXPECT, "stop" },
        { FAKE_REPLY, "\"stopped\"" },
        { FAKE_SLEEP, .n = 100 },
        { FAKE_EXPECT, "cont" },
        { FAKE_WHENEVER, "query-migrate", "{\"status\":\"completed\"}" },
        { FAKE_REPLY, "\"running\"" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake, "source");
    g_auto(GStrv) names = NULL;

    ask(q, "query-migrate", "{\"status\":\"active\"}");
    ask(q, "stop", "\"stopped\"");
    ask(q, "query-migrate", "{\"status\":\"active\"}");
    ask(q, "cont", "\"running\"");
    ask(q, "query-migrate", "{\"status\":\"completed\"}");
    names = fake_qemu_commands(fake);
    g_autofree char *order = g_strjoinv(" ", names);
    g_assert_cmpstr(
        order, ==,
        "qmp_capabilities query-migrate stop query-migrate cont query-migrate");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_expected_beats_whenever(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,           { FAKE_WHENEVER, "x", "1" },
        { FAKE_EXPECT, "x" }, { FAKE_REPLY, "2" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake, "source");

    ask(q, "x", "2");
    ask(q, "x", "1");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_two_at_once(void)
{
    static const FakeStep old[] = { FAKE_HELLO_OF(7, 2, 0, FAKE_OOB),
                                    { FAKE_EXPECT, "a" },
                                    { FAKE_REPLY, "1" },
                                    { FAKE_END } };
    static const FakeStep new[] = { FAKE_HELLO_OF(11, 1, 3, FAKE_NO_OOB),
                                    { FAKE_EXPECT, "b" },
                                    { FAKE_REPLY, "2" },
                                    { FAKE_END } };
    FakeQemu *fakes[] = { fake_qemu_new(old, 0), fake_qemu_new(new, 0) };
    QmigQmp *source = connect_to(fakes[0], "source");
    QmigQmp *destination = connect_to(fakes[1], "destination");

    g_assert_cmpuint(qmig_qmp_version(source), ==, 70200);
    g_assert_cmpuint(qmig_qmp_version(destination), ==, 110103);
    g_assert_true(qmig_qmp_has_oob(source));
    g_assert_false(qmig_qmp_has_oob(destination));
    ask(destination, "b", "2");
    ask(source, "a", "1");
    qmig_qmp_free(source);
    qmig_qmp_free(destination);
    fake_qemu_finish(fakes[0]);
    fake_qemu_finish(fakes[1]);
}

/* Wherever the script is, stopping takes no time to speak of. */
static void
test_stop(void)
{
    static const FakeStep nobody[] = { FAKE_HELLO, { FAKE_END } };
    static const FakeStep asleep[] = { FAKE_HELLO, { FAKE_SLEEP, .n = 60000 } };
    static const FakeStep mute[] = { FAKE_HELLO, { FAKE_MUTE } };
    static const FakeStep hung[] = { FAKE_HELLO, { FAKE_HANG } };
    static const FakeStep flood[] = { FAKE_HELLO, { FAKE_FLOOD, "STOP" } };
    static const FakeStep *const scripts[] = { asleep, mute, hung, flood };
    int64_t start_us = qmig_now_us();

    fake_qemu_stop(fake_qemu_new(nobody, 0));
    for (size_t i = 0; i < G_N_ELEMENTS(scripts); i++) {
        FakeQemu *fake = fake_qemu_new(scripts[i], 0);
        g_autoptr(QmigQmp) q = connect_to(fake, "source");
        fake_qemu_stop(fake);
    }
    g_assert_cmpint(qmig_now_us() - start_us, <, 10 * G_USEC_PER_SEC);
}

static void
test_mute_notes(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_MUTE } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    g_autoptr(QmigQmp) q = connect_to(fake, "source");
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(1000) };
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_qmp_execute(q, "query-migrate", NULL, NULL, &call, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_auto(GStrv) names = fake_qemu_commands(fake);
    g_assert_cmpuint(g_strv_length(names), ==, 2);
    g_assert_cmpstr(names[1], ==, "query-migrate");
    fake_qemu_stop(fake);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define T(path, function) g_test_add_func("/fake-qemu/" path, function)
    T("an-unexpected-command-fails-the-test", test_unexpected);
    T("other-arguments-fail-the-test", test_other_arguments);
    T("a-missing-command-fails-the-test", test_missing);
    T("a-script-without-sense-fails-the-test", test_bad_script);
    T("whenever-answers-anywhere", test_whenever);
    T("what-is-expected-beats-whenever", test_expected_beats_whenever);
    T("two-at-once-do-not-meet", test_two_at_once);
    T("stop-ends-any-script", test_stop);
    T("a-mute-peer-notes-commands", test_mute_notes);
    T("subprocess/unexpected", subprocess_unexpected);
    T("subprocess/other-arguments", subprocess_other_arguments);
    T("subprocess/missing", subprocess_missing);
    T("subprocess/bad-script", subprocess_bad_script);
    return g_test_run();
}
