/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QMP client against a scripted peer: one that behaves, lies, hangs, floods and dies. */
#include "qmp/client.h"
#include "qmp/commands.h"
#include "tests/fake-qemu/fake-qemu.h"
#include "util/error.h"

#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOON_MS 300

static QmigQmpCall
in_ms(int64_t ms)
{
    return (QmigQmpCall){ .deadline = qmig_deadline_in_ms(ms) };
}

static QmigQmp *
connect_to(FakeQemu *fake)
{
    g_autoptr(GError) error = NULL;
    QmigQmp *q = qmig_qmp_connect(fake_qemu_address(fake), "source",
                                  qmig_deadline_in_ms(5000), NULL, &error);

    g_assert_no_error(error);
    g_assert_nonnull(q);
    return q;
}

/* The error has that code, begins with the label, and contains @part. */
static void
check_error(const GError *error, QmigErrorCode code, const char *part)
{
    g_assert_error(error, QMIG_ERROR, (int)code);
    if (!g_str_has_prefix(error->message, "source: ") ||
        strstr(error->message, part) == NULL) {
        g_error("\"%s\": wanted \"source: …%s…\"", error->message, part);
    }
}

/* Connecting to a peer that plays @steps fails so. */
static void
check_refused(const FakeStep *steps, QmigErrorCode code, const char *part)
{
    FakeQemu *fake = fake_qemu_new(steps, 0);
    g_autoptr(GError) error = NULL;

    g_assert_null(qmig_qmp_connect(fake_qemu_address(fake), "source",
                                   qmig_deadline_in_ms(SOON_MS), NULL, &error));
    check_error(error, code, part);
    fake_qemu_finish_early(fake);
}

/* One command "x" to a peer that plays @steps after the greeting fails so. */
static void
check_command_fails(const FakeStep *steps, QmigErrorCode code, const char *part)
{
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    QmigQmpCall call = in_ms(SOON_MS);
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_qmp_execute(q, "x", NULL, NULL, &call, &error));
    check_error(error, code, part);
    qmig_qmp_free(q);
    fake_qemu_finish_early(fake);
}

static void
test_greeting(void)
{
    static const FakeStep steps[] = {
        { FAKE_RAW, FAKE_GREETING_LINE },
        { FAKE_EXPECT, "qmp_capabilities", "{\"enable\": [\"oob\"]}" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);

    g_assert_cmpuint(qmig_qmp_version(q), ==, 70222);
    g_assert_true(qmig_qmp_has_oob(q));
    g_assert_cmpstr(qmig_qmp_label(q), ==, "source");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_no_oob_offered(void)
{
    static const FakeStep steps[] = {
        { FAKE_RAW, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 3, \"minor\": 1, "
                    "\"major\": 11}}, \"capabilities\": []}}\r\n" },
        { FAKE_EXPECT, "qmp_capabilities" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);

    g_assert_cmpuint(qmig_qmp_version(q), ==, 110103);
    g_assert_false(qmig_qmp_has_oob(q));
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_no_greeting(void)
{
    static const FakeStep steps[] = { { FAKE_HANG } };

    check_refused(steps, QMIG_ERROR_TIMEOUT, "one client");
}

static void
test_garbage_greeting(void)
{
    static const FakeStep steps[] = {
        { FAKE_RAW, "QEMU 7.2.22 monitor - type 'help' for more information\r\n" },
        { FAKE_END },
    };

    check_refused(steps, QMIG_ERROR_PROTOCOL, "QEMU 7.2.22 monitor");
}

static void
test_refused_negotiation(void)
{
    static const FakeStep steps[] = {
        { FAKE_RAW, FAKE_GREETING_LINE },
        { FAKE_EXPECT, "qmp_capabilities" },
        { FAKE_ERROR, "GenericError", "not today" },
        { FAKE_END },
    };

    check_refused(steps, QMIG_ERROR_QMP, "not today");
}

static void
test_return_value(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "query-name", "{\"deep\": {\"list\": [1, 2]}}" },
        { FAKE_REPLY, "{\"name\": \"guest\"}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(JsonObject) ret = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_execute(q, "query-name",
                                   json_tokener_parse("{\"deep\": {\"list\": [1, 2]}}"),
                                   &ret, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(qmig_json_string(ret, "name"), ==, "guest");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_qmp_error(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "migrate-set-capabilities" },
        { FAKE_ERROR, "CommandNotFound", "no such thing" },
        { FAKE_EXPECT, "stop" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;

    g_assert_false(
        qmig_qmp_execute(q, "migrate-set-capabilities", NULL, NULL, NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_QMP);
    g_assert_cmpstr(error->message, ==,
                    "source: migrate-set-capabilities: CommandNotFound: no such thing");
    g_assert_cmpstr(qmig_qmp_error_class(q), ==, "CommandNotFound");
    g_clear_error(&error);
    g_assert_true(qmig_qmp_execute(q, "stop", NULL, NULL, NULL, &error));
    g_assert_cmpstr(qmig_qmp_error_class(q), ==, "");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

/* Two commands, and one event before step @at of the conversation. */
static void
check_event_at(size_t at)
{
    static const FakeStep plain[] = {
        FAKE_HELLO,           { FAKE_EXPECT, "a" },    { FAKE_REPLY, "\"A\"" },
        { FAKE_EXPECT, "b" }, { FAKE_REPLY, "\"B\"" }, { FAKE_END },
    };
    FakeStep steps[G_N_ELEMENTS(plain) + 1];
    g_autoptr(JsonObject) a = NULL, b = NULL;
    g_autoptr(GError) error = NULL;

    memcpy(steps, plain, at * sizeof *steps);
    steps[at] = (FakeStep){ FAKE_EVENT, "STOP" };
    memcpy(steps + at + 1, plain + at, (G_N_ELEMENTS(plain) - at) * sizeof *steps);
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_assert_true(qmig_qmp_execute(q, "a", NULL, &a, NULL, &error));
    g_assert_true(qmig_qmp_execute(q, "b", NULL, &b, NULL, &error));
    g_assert_cmpstr(json_object_get_string(a), ==, "A");
    g_assert_cmpstr(json_object_get_string(b), ==, "B");
    g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(q);
    if (event == NULL) {
        g_assert_true(qmig_wait_fd(qmig_qmp_fd(q), POLLIN, qmig_deadline_in_ms(5000),
                                   NULL, &error));
        g_assert_true(qmig_qmp_dispatch(q, &error));
        event = qmig_qmp_take_event(q);
    }
    g_assert_cmpstr(event->name, ==, "STOP");
    g_assert_null(qmig_qmp_take_event(q));
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_event_anywhere(void)
{
    for (size_t at = 0; at <= 7; at++) {
        check_event_at(at);
    }
}

/* An event and a reply, cut in two at every byte. */
static void
test_cut_anywhere(void)
{
    static const char text[] =
        "{\"event\": \"STOP\"}\r\n"
        "{\"error\": {\"class\": \"x\", \"desc\": \"\xc3\xa4\"}}\r\n";
    const int len = (int)strlen(text);

    for (int cut = 1; cut < len; cut++) {
        const FakeStep steps[] = {
            FAKE_HELLO,
            { FAKE_EXPECT, "x" },
            { FAKE_BYTES, text, .n = cut },
            { FAKE_SLEEP, .n = 2 },
            { FAKE_BYTES, text + cut, .n = len - cut },
            { FAKE_END },
        };
        FakeQemu *fake = fake_qemu_new(steps, 0);
        QmigQmp *q = connect_to(fake);
        g_autoptr(GError) error = NULL;

        g_assert_false(qmig_qmp_execute(q, "x", NULL, NULL, NULL, &error));
        check_error(error, QMIG_ERROR_QMP, "\xc3\xa4");
        g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(q);
        g_assert_cmpstr(event->name, ==, "STOP");
        qmig_qmp_free(q);
        fake_qemu_finish(fake);
    }
}

static void
test_event_times(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_EVENT, "MIGRATION", "{\"status\": \"active\"}" },
        { FAKE_RAW, "{\"timestamp\": {\"seconds\": 9223372036854775807, "
                    "\"microseconds\": 1}, \"event\": \"RESUME\"}\r\n" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    int64_t before_us = qmig_now_us();
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_execute(q, "x", NULL, NULL, NULL, &error));
    g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(q);
    g_autoptr(QmigQmpEvent) absurd = qmig_qmp_take_event(q);
    g_assert_cmpint(event->qemu_us, ==, INT64_C(1700000000000042));
    g_assert_cmpint(event->arrival_us, >=, before_us);
    g_assert_cmpint(event->arrival_us, <=, qmig_now_us());
    g_assert_cmpstr(qmig_json_string(event->data, "status"), ==, "active");
    g_assert_cmpint(absurd->qemu_us, ==, -1);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_passes_fold(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_EVENT, "MIGRATION_PASS", "{\"pass\": 1}" },
        { FAKE_EVENT, "MIGRATION_PASS", "{\"pass\": 2}" },
        { FAKE_EVENT, "STOP" },
        { FAKE_EVENT, "MIGRATION_PASS", "{\"pass\": 3}" },
        { FAKE_EVENT, "RESUME" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    GString *order = g_string_new(NULL);

    g_assert_true(qmig_qmp_execute(q, "x", NULL, NULL, NULL, &error));
    for (;;) {
        g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(q);
        if (event == NULL) {
            break;
        }
        g_string_append_printf(order, "%s%d ", event->name,
                               (int)qmig_json_int(event->data, "pass", 0));
    }
    g_assert_cmpstr(order->str, ==, "MIGRATION_PASS2 STOP0 MIGRATION_PASS3 RESUME0 ");
    g_string_free(order, TRUE);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

/* More events than the queue holds: the one a migration hangs on is still there. */
static void
test_queue_is_bounded(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_EVENT, "MIGRATION", "{\"status\": \"completed\"}" },
        { FAKE_EVENT, "VSERPORT_CHANGE", .n = 12000 },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    uint64_t n_left = 0;

    g_assert_true(qmig_qmp_execute(q, "x", NULL, NULL, NULL, &error));
    g_autoptr(QmigQmpEvent) first = qmig_qmp_take_event(q);
    g_assert_cmpstr(first->name, ==, "MIGRATION");
    for (;;) {
        g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(q);
        if (event == NULL) {
            break;
        }
        n_left++;
    }
    g_assert_cmpuint(qmig_qmp_n_dropped_events(q), >, 0);
    g_assert_cmpuint(n_left + qmig_qmp_n_dropped_events(q), ==, 12000);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

/* A client that has gone had asked something, and QEMU was late. */
static void
test_reply_to_somebody_else(void)
{
    static const FakeStep steps[] = {
        { FAKE_RAW, FAKE_GREETING_LINE },
        { FAKE_EXPECT, "qmp_capabilities" },
        { FAKE_RAW, "{\"return\": {}, \"id\": 0}\r\n" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "query-name" },
        { FAKE_RAW, "{\"return\": {\"name\": \"another\"}, \"id\": 1}\r\n" },
        { FAKE_REPLY, "{\"name\": \"guest\"}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(JsonObject) reply = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_execute(q, "query-name", NULL, &reply, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(qmig_json_string(reply, "name"), ==, "guest");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_no_id(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_RAW, "{\"return\": {\"a\": 4711}}\r\n" },
        { FAKE_END },
    };

    check_command_fails(steps, QMIG_ERROR_PROTOCOL, "4711");
}

static void
test_no_return(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_RAW, "{\"id\": $ID}\r\n" },
        { FAKE_END },
    };

    check_command_fails(steps, QMIG_ERROR_PROTOCOL, "reply");
}

static void
test_no_object(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_RAW, "[1, 2]\r\n" },
        { FAKE_END },
    };

    check_command_fails(steps, QMIG_ERROR_PROTOCOL, "[1, 2]");
}

static void
test_odd_error(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_RAW, "{\"error\": \"none of your business\", \"id\": $ID}\r\n" },
        { FAKE_END },
    };

    check_command_fails(steps, QMIG_ERROR_PROTOCOL, "none of your business");
}

static void
test_error_text_is_one_line(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "x" },
        { FAKE_ERROR, "GenericError", "one\\ntwo\\u001bthree" },
        { FAKE_END },
    };

    check_command_fails(steps, QMIG_ERROR_QMP, "one two three");
}

/* An error text that is cut is still text, and no terminal takes it for a command. */
static void
test_error_text_is_text(void)
{
    g_autofree char *pad = g_strnfill(4095, 'x');
    g_autofree char *desc = g_strdup_printf("\\u009bm%s\\u00e4\\u00e4", pad + 3);
    g_autofree char *odd = g_strdup_printf(
        "{\"id\": $ID, \"odd\": \"%.180s\xc3\xa4\xc3\xa4"
        "\xc3\xa4\xc3\xa4\xc3\xa4\"}\r\n",
        pad);
    const FakeStep steps[] = {
        FAKE_HELLO,           { FAKE_EXPECT, "a" }, { FAKE_ERROR, "GenericError", desc },
        { FAKE_EXPECT, "b" }, { FAKE_RAW, odd },    { FAKE_END }
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_qmp_execute(q, "a", NULL, NULL, NULL, &error));
    check_error(error, QMIG_ERROR_QMP, " mxxx");
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    g_clear_error(&error);
    g_assert_false(qmig_qmp_execute(q, "b", NULL, NULL, NULL, &error));
    check_error(error, QMIG_ERROR_PROTOCOL, "odd");
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

/* A peer that stops reading: the command cannot be sent whole, and nothing may follow it. */
static void
test_half_a_command(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_HANG } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autofree char *big = g_strnfill(8 << 20, 'x');
    JsonObject *args = json_object_new_object();
    QmigQmpCall call = in_ms(SOON_MS);
    g_autoptr(GError) error = NULL;

    json_object_object_add(args, "big", json_object_new_string(big));
    g_assert_false(qmig_qmp_execute(q, "x", args, NULL, &call, &error));
    check_error(error, QMIG_ERROR_TIMEOUT, "x");
    g_clear_error(&error);
    g_assert_false(qmig_qmp_execute(q, "cont", NULL, NULL, &call, &error));
    check_error(error, QMIG_ERROR_CLOSED, "cont");
    qmig_qmp_free(q);
    fake_qemu_finish_early(fake);
}

static void
test_hang(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_EXPECT, "x" }, { FAKE_HANG } };
    int64_t start_us = qmig_now_us();

    check_command_fails(steps, QMIG_ERROR_TIMEOUT, "x");
    g_assert_cmpint(qmig_now_us() - start_us, >=, SOON_MS * 1000);
    g_assert_cmpint(qmig_now_us() - start_us, <, 5000 * 1000);
}

/* Events without end must not carry a command past its deadline. */
static void
test_flood(void)
{
    static const FakeStep steps[] = { FAKE_HELLO,
                                      { FAKE_EXPECT, "x" },
                                      { FAKE_FLOOD, "MIGRATION_PASS", "{\"pass\": 1}" } };
    int64_t start_us = qmig_now_us();

    check_command_fails(steps, QMIG_ERROR_TIMEOUT, "x");
    g_assert_cmpint(qmig_now_us() - start_us, <, 5000 * 1000);
}

static void
test_flooded_dispatch(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_FLOOD, "STOP" } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    size_t n_events = 0;

    /* Until the socket is full: it holds more than a dispatch may read. */
    g_usleep(SOON_MS * 1000);
    g_assert_true(qmig_qmp_dispatch(q, &error));
    for (;;) {
        g_autoptr(QmigQmpEvent) event = qmig_qmp_take_event(q);
        if (event == NULL) {
            break;
        }
        n_events++;
    }
    /* An event of the flood has some 20 KB. */
    g_assert_cmpuint(n_events, <=, 128 * 1024 / 20000);
    qmig_qmp_free(q);
    fake_qemu_finish_early(fake);
}

static void
test_cancel(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_EXPECT, "x" }, { FAKE_HANG } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(QmigCancel) cancel = qmig_cancel_new();
    QmigQmpCall call = { .deadline = QMIG_DEADLINE_NEVER, .cancel = cancel };
    g_autoptr(GError) error = NULL;

    qmig_cancel_raise(cancel);
    g_assert_false(qmig_qmp_execute(q, "x", NULL, NULL, &call, &error));
    check_error(error, QMIG_ERROR_CANCELLED, "x");
    qmig_qmp_free(q);
    fake_qemu_finish_early(fake);
}

static void
test_late_reply(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "slow" },
        { FAKE_SLEEP, .n = 2 * SOON_MS },
        { FAKE_REPLY, "\"late\"" },
        { FAKE_EXPECT, "quick" },
        { FAKE_REPLY, "\"timely\"" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    QmigQmpCall call = in_ms(SOON_MS);
    g_autoptr(JsonObject) ret = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_qmp_execute(q, "slow", NULL, NULL, &call, &error));
    check_error(error, QMIG_ERROR_TIMEOUT, "slow");
    g_clear_error(&error);
    g_assert_true(qmig_qmp_execute(q, "quick", NULL, &ret, NULL, &error));
    g_assert_cmpstr(json_object_get_string(ret), ==, "timely");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

/* The reply came, but the read that brought it ended badly: it belongs to no later command. */
static void
test_reply_before_garbage(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "first" },
        { FAKE_RAW, "{\"return\": \"one\", \"id\": $ID}\r\ngarbage\r\n" },
        { FAKE_EXPECT, "second" },
        { FAKE_REPLY, "\"two\"" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(JsonObject) ret = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_qmp_execute(q, "first", NULL, &ret, NULL, &error));
    check_error(error, QMIG_ERROR_PROTOCOL, "garbage");
    g_assert_null(ret);
    g_clear_error(&error);
    g_assert_true(qmig_qmp_execute(q, "second", NULL, &ret, NULL, &error));
    g_assert_cmpstr(json_object_get_string(ret), ==, "two");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static const FakeStep conversation[] = {
    FAKE_HELLO,
    { FAKE_EXPECT, "migrate" },
    { FAKE_EVENT, "STOP" },
    { FAKE_REPLY, "{}" },
    { FAKE_EVENT, "RESUME" },
    { FAKE_EXPECT, "cont" },
    { FAKE_REPLY, "{}" },
    { FAKE_CLOSE },
};

/* The whole conversation, until something fails; all errors are those of a closed peer. */
static bool
converse(FakeQemu *fake, GError **error)
{
    g_autoptr(QmigQmp) q = qmig_qmp_connect(fake_qemu_address(fake), "source",
                                            qmig_deadline_in_ms(5000), NULL, error);

    return q != NULL && qmig_qmp_migrate(q, "tcp:there:1", error) &&
           qmig_qmp_cont(q, error);
}

static void
test_close_after_every_line(void)
{
    unsigned n_lines = 6; /* greeting, 3 replies, 2 events */

    for (unsigned n = 1; n < n_lines; n++) {
        FakeQemu *fake = fake_qemu_new(conversation, n);
        g_autoptr(GError) error = NULL;

        g_assert_false(converse(fake, &error));
        check_error(error, QMIG_ERROR_CLOSED, "");
        fake_qemu_finish_early(fake);
    }
    FakeQemu *fake = fake_qemu_new(conversation, n_lines);
    g_autoptr(GError) error = NULL;
    g_assert_true(converse(fake, &error));
    fake_qemu_finish(fake);
}

static void
test_fd(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "getfd", "{\"fdname\": \"mig\"}" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    struct stat here, there;
    int pipes[2];

    g_assert_cmpint(pipe(pipes), ==, 0);
    g_assert_true(qmig_qmp_getfd(q, "mig", pipes[0], &error));
    g_assert_no_error(error);
    g_assert_cmpint(fake_qemu_fd(fake), >=, 0);
    g_assert_cmpint(fstat(pipes[0], &here), ==, 0);
    g_assert_cmpint(fstat(fake_qemu_fd(fake), &there), ==, 0);
    g_assert_cmpuint(here.st_ino, ==, there.st_ino);
    close(pipes[0]);
    close(pipes[1]);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_quit(void)
{
    static const FakeStep steps[] = { FAKE_HELLO,
                                      { FAKE_EXPECT, "quit" },
                                      { FAKE_CLOSE } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_quit(q, NULL, &error));
    g_assert_no_error(error);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_peer(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_END } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    struct ucred peer;

    g_assert_true(qmig_qmp_peer(q, &peer));
    g_assert_cmpint(peer.pid, ==, getpid());
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define T(path, function) g_test_add_func("/client/" path, function)
    T("greeting-tells-version-and-oob", test_greeting);
    T("oob-is-off-when-not-offered", test_no_oob_offered);
    T("no-greeting-hints-at-another-client", test_no_greeting);
    T("a-human-monitor-is-a-protocol-error", test_garbage_greeting);
    T("refused-negotiation-is-told", test_refused_negotiation);
    T("arguments-go-out-and-the-return-comes-in", test_return_value);
    T("qemus-error-has-class-and-text", test_qmp_error);
    T("an-event-may-come-anywhere", test_event_anywhere);
    T("a-cut-anywhere-changes-nothing", test_cut_anywhere);
    T("an-event-has-both-times", test_event_times);
    T("passes-fold-and-the-rest-keeps-its-order", test_passes_fold);
    T("the-queue-is-bounded-and-keeps-what-matters", test_queue_is_bounded);
    T("reply-to-somebody-else-is-ignored", test_reply_to_somebody_else);
    T("reply-without-id-is-a-protocol-error", test_no_id);
    T("reply-without-return-is-a-protocol-error", test_no_return);
    T("a-line-that-is-no-object-is-a-protocol-error", test_no_object);
    T("an-error-of-another-shape-is-a-protocol-error", test_odd_error);
    T("an-error-text-is-one-line", test_error_text_is_one_line);
    T("an-error-text-is-text-however-cut", test_error_text_is_text);
    T("nothing-follows-half-a-command", test_half_a_command);
    T("a-hanging-peer-ends-at-the-deadline", test_hang);
    T("a-flooding-peer-ends-at-the-deadline", test_flood);
    T("a-flooding-peer-does-not-hold-dispatch", test_flooded_dispatch);
    T("cancel-ends-the-wait", test_cancel);
    T("a-late-reply-is-dropped", test_late_reply);
    T("a-reply-before-garbage-is-nobody-elses", test_reply_before_garbage);
    T("a-close-after-every-line-is-closed", test_close_after_every_line);
    T("getfd-hands-over-the-descriptor", test_fd);
    T("a-close-after-quit-is-success", test_quit);
    T("the-peer-is-this-process", test_peer);
    return g_test_run();
}
