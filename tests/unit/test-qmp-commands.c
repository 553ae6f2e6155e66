/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Typed commands: what goes out, what is read of the reply, and replies that lie. */
#include "qmp/commands.h"
#include "tests/fake-qemu/fake-qemu.h"
#include "util/error.h"

#include <string.h>

static QmigQmp *
connect_to(FakeQemu *fake)
{
    g_autoptr(GError) error = NULL;
    QmigQmp *q = qmig_qmp_connect(fake_qemu_address(fake), "source",
                                  qmig_deadline_in_ms(5000), NULL, &error);

    g_assert_no_error(error);
    return q;
}

static void
test_queries(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "qom-get", "{\"path\": \"/machine\", \"property\": \"type\"}" },
        { FAKE_REPLY, "\"pc-q35-7.2-machine\"" },
        { FAKE_EXPECT, "query-memory-size-summary" },
        { FAKE_REPLY, "{\"base-memory\": 1073741824, \"plugged-memory\": 4096}" },
        { FAKE_EXPECT, "query-cpus-fast" },
        { FAKE_REPLY, "[{\"cpu-index\": 0}, {\"cpu-index\": 1}]" },
        { FAKE_EXPECT, "query-status" },
        { FAKE_REPLY, "{\"running\": false, \"status\": \"inmigrate\"}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    g_autofree char *machine = qmig_qmp_query_machine(q, &error), *status = NULL;
    uint64_t bytes = 0;
    unsigned n = 0;
    bool running = true;

    g_assert_cmpstr(machine, ==, "pc-q35-7.2");
    g_assert_true(qmig_qmp_query_memory(q, &bytes, &error));
    g_assert_cmpuint(bytes, ==, 1073741824 + 4096);
    g_assert_true(qmig_qmp_query_vcpus(q, &n, &error));
    g_assert_cmpuint(n, ==, 2);
    g_assert_true(qmig_qmp_query_status(q, &running, &status, NULL, &error));
    g_assert_false(running);
    g_assert_cmpstr(status, ==, "inmigrate");
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_capabilities(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "query-migrate-capabilities" },
        { FAKE_REPLY,
          "[{\"capability\": \"events\", \"state\": true}, 7, {\"state\": true},"
          "{\"capability\": \"multifd\", \"state\": \"on\"}]" },
        { FAKE_EXPECT, "migrate-set-capabilities",
          "{\"capabilities\": [{\"capability\": \"events\", \"state\": true},"
          "{\"capability\": \"multifd\", \"state\": false}]}" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) have = qmig_qmp_get_capabilities(q, &error);

    g_assert_no_error(error);
    g_assert_cmpint(json_object_object_length(have), ==, 2);
    g_assert_true(qmig_json_bool(have, "events", false));
    g_assert_false(qmig_json_bool(have, "multifd", true));
    g_assert_true(qmig_qmp_set_capabilities(q, have, &error));
    g_assert_no_error(error);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_parameters(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "query-migrate-parameters" },
        { FAKE_REPLY, "{\"max-bandwidth\": 0, \"tls-creds\": \"\"}" },
        { FAKE_EXPECT, "migrate-set-parameters",
          "{\"max-bandwidth\": 0, \"tls-creds\": \"\"}" },
        { FAKE_REPLY, "{}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) have = qmig_qmp_get_parameters(q, &error);

    g_assert_no_error(error);
    g_assert_true(qmig_qmp_set_parameters(q, have, &error));
    g_assert_no_error(error);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_nothing_to_set(void)
{
    static const FakeStep steps[] = { FAKE_HELLO, { FAKE_END } };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(JsonObject) none = json_object_new_object();
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_set_capabilities(q, none, &error));
    g_assert_true(qmig_qmp_set_parameters(q, none, &error));
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static void
test_actions(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "migrate-incoming", "{\"uri\": \"tcp:0:0\"}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "migrate", "{\"uri\": \"tcp:there:1\"}" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "migrate_cancel" }, /* the underscore is QEMU's */
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "cont" },
        { FAKE_ERROR, "GenericError", "Migration is not finalized yet" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_qmp_migrate_incoming(q, "tcp:0:0", &error));
    g_assert_true(qmig_qmp_migrate(q, "tcp:there:1", &error));
    g_assert_true(qmig_qmp_migrate_cancel(q, NULL, &error));
    g_assert_no_error(error);
    g_assert_false(qmig_qmp_cont(q, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_QMP);
    g_assert_nonnull(strstr(error->message, "not finalized"));
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

/* The main loop hangs in query-migrate; an out-of-band command is answered nevertheless, and
 * the answer to the first, which its caller has given up, is dropped. */
static void
test_out_of_band(void)
{
    static const FakeStep steps[] = {
        FAKE_HELLO,
        { FAKE_EXPECT, "query-migrate" },
        { FAKE_EXPECT, "yank", "{\"instances\": [{\"type\": \"migration\"}]}" },
        { FAKE_RAW, "{\"return\": {\"status\": \"active\"}, \"id\": 1}\r\n" },
        { FAKE_REPLY, "{}" },
        { FAKE_EXPECT, "query-migrate" },
        { FAKE_REPLY, "{\"status\": \"failed\"}" },
        { FAKE_END },
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    QmigQmpCall call = { .deadline = qmig_deadline_in_ms(300) };
    g_auto(QmigMigrationInfo) info = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_qmp_query_migrate(q, &info, &call, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_clear_error(&error);
    g_assert_true(qmig_qmp_yank_migration(q, &error));
    g_assert_no_error(error);
    g_assert_true(qmig_qmp_query_migrate(q, &info, NULL, &error));
    g_assert_cmpint(info.status, ==, QMIG_STATUS_FAILED);
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

/* One query of each kind; true when it fails as a reply that is not what was promised. */
static void
check_lie(const char *command, bool (*query)(QmigQmp *q, GError **error), const char *lie)
{
    const FakeStep steps[] = {
        FAKE_HELLO, { FAKE_EXPECT, command }, { FAKE_REPLY, lie }, { FAKE_END }
    };
    FakeQemu *fake = fake_qemu_new(steps, 0);
    QmigQmp *q = connect_to(fake);
    g_autoptr(GError) error = NULL;

    g_assert_false(query(q, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_assert_true(g_str_has_prefix(error->message, "source: "));
    g_assert_nonnull(strstr(error->message, command));
    qmig_qmp_free(q);
    fake_qemu_finish(fake);
}

static bool
machine(QmigQmp *q, GError **error)
{
    g_autofree char *text = qmig_qmp_query_machine(q, error);
    return text != NULL;
}

static bool
memory(QmigQmp *q, GError **error)
{
    uint64_t bytes;
    return qmig_qmp_query_memory(q, &bytes, error);
}

static bool
vcpus(QmigQmp *q, GError **error)
{
    unsigned n;
    return qmig_qmp_query_vcpus(q, &n, error);
}

static bool
status(QmigQmp *q, GError **error)
{
    bool running;
    return qmig_qmp_query_status(q, &running, NULL, NULL, error);
}

static bool
capabilities(QmigQmp *q, GError **error)
{
    g_autoptr(JsonObject) have = qmig_qmp_get_capabilities(q, error);
    return have != NULL;
}

static bool
parameters(QmigQmp *q, GError **error)
{
    g_autoptr(JsonObject) have = qmig_qmp_get_parameters(q, error);
    return have != NULL;
}

static void
test_lies(void)
{
    check_lie("qom-get", machine, "7");
    check_lie("qom-get", machine, "null");
    check_lie("query-memory-size-summary", memory, "{\"base-memory\": \"1G\"}");
    check_lie("query-memory-size-summary", memory, "[]");
    check_lie("query-cpus-fast", vcpus, "2");
    check_lie("query-status", status, "{\"running\": 1, \"status\": \"running\"}");
    check_lie("query-status", status, "{\"running\": true}");
    check_lie("query-migrate-capabilities", capabilities, "{}");
    check_lie("query-migrate-capabilities", capabilities, "null");
    check_lie("query-migrate-parameters", parameters, "[]");
    check_lie("query-migrate-parameters", parameters, "null");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define T(path, function) g_test_add_func("/commands/" path, function)
    T("queries-read-what-they-promise", test_queries);
    T("capabilities-go-in-and-out", test_capabilities);
    T("parameters-go-in-and-out", test_parameters);
    T("nothing-to-set-sends-nothing", test_nothing_to_set);
    T("actions-send-qemus-words", test_actions);
    T("out-of-band-works-while-a-command-hangs", test_out_of_band);
    T("a-reply-of-another-type-is-a-protocol-error", test_lies);
    return g_test_run();
}
