/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client, the schema and the knobs against an installed QEMU without a machine. */
#include "qmp/client.h"
#include "qmp/commands.h"
#include "qmp/knobs.h"
#include "util/error.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the schema says and what the lists say is the same, and the table knows it all. */
static void
check_real_schema(QmigQmp *q)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigSchema) schema = qmig_schema_load(q, &error);

    g_assert_no_error(error);
    g_assert_true(qmig_schema_has_command(schema, "migrate"));
    g_assert_false(qmig_schema_has_command(schema, "no-such-command"));
    g_assert_true(qmig_schema_command_has_oob(schema, "yank"));
    g_assert_true(qmig_schema_has_event(schema, "MIGRATION"));
    g_assert_true(qmig_schema_command_has_arg(schema, "migrate", "uri"));
    g_assert_cmpint(
        qmig_schema_command_arg_type(schema, "migrate-set-parameters", "tls-creds"), ==,
        QMIG_SCHEMA_STRING);
    g_assert_true(qmig_schema_command_returns(schema, "query-migrate", "ram.total"));

    g_autoptr(JsonObject) states = qmig_qmp_get_capabilities(q, &error);
    g_assert_no_error(error);
    json_object_object_foreach(states, name, state)
    {
        (void)state;
        g_assert_true(qmig_schema_has_capability(schema, name));
    }
    g_auto(GStrv) capabilities = qmig_schema_capabilities(schema);
    g_assert_cmpuint(g_strv_length(capabilities), ==,
                     (guint)json_object_object_length(states));
}

/* Set one of each kind through the table, and read it back. */
static void
check_real_knobs(QmigQmp *q)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigSchema) schema = qmig_schema_load(q, &error);
    g_autoptr(JsonObject) set = json_object_new_object();
    JsonObject *value = qmig_knob_parse_value("max-bandwidth", "1.5Gbit", schema, &error);

    g_assert_no_error(error);
    json_object_object_add(set, "max-bandwidth", value);
    json_object_object_add(
        set, "multifd-compression",
        qmig_knob_parse_value("multifd-compression", "zlib", schema, &error));
    g_assert_no_error(error);
    g_assert_true(qmig_qmp_set_parameters(q, set, &error));
    g_autoptr(JsonObject) got = qmig_qmp_get_parameters(q, &error);
    g_assert_cmpint(qmig_json_int(got, "max-bandwidth", 0), ==, 187500000);
    g_assert_cmpstr(qmig_json_string(got, "multifd-compression"), ==, "zlib");
}

/* Does a value of @type have that type in JSON? */
static bool
agrees(QmigKnobType type, QmigSchemaType json)
{
    switch (type) {
    case QMIG_KNOB_BOOL:
        return json == QMIG_SCHEMA_BOOL;
    case QMIG_KNOB_ENUM:
        return json == QMIG_SCHEMA_ENUM;
    case QMIG_KNOB_TEXT:
        return json == QMIG_SCHEMA_STRING;
    case QMIG_KNOB_JSON:
        return json == QMIG_SCHEMA_ARRAY;
    case QMIG_KNOB_COUNT:
    case QMIG_KNOB_PERCENT:
    case QMIG_KNOB_BYTES:
    case QMIG_KNOB_RATE:
    case QMIG_KNOB_RATE_MIB:
    case QMIG_KNOB_DURATION_MS:
        return json == QMIG_SCHEMA_INT;
    }
    g_assert_not_reached();
}

/* Set one number; true when QEMU takes it. */
static bool
takes(QmigQmp *q, const char *name, int64_t value)
{
    g_autoptr(JsonObject) set = json_object_new_object();

    json_object_object_add(set, name, json_object_new_int64(value));
    return qmig_qmp_set_parameters(q, set, NULL);
}

/* The row's type, default and range are those of this QEMU, which is fresh. */
static void
check_row(QmigQmp *q, const QmigKnob *knob, const QmigSchema *schema, JsonObject *have)
{
    g_autoptr(GError) error = NULL;
    JsonObject *value = NULL;

    g_test_message("%s", knob->name);
    g_assert_true(qmig_knob_check(QMIG_KNOB_PARAMETER, knob->name, have, "q", &error));
    g_assert_true(agrees(knob->type, qmig_schema_command_arg_type(
                                         schema, "migrate-set-parameters", knob->name)));
    if (knob->type == QMIG_KNOB_JSON) {
        return;
    }
    json_object_object_get_ex(have, knob->name, &value);
    g_autoptr(JsonObject)
        expected = qmig_knob_parse_value(knob->name, knob->default_value, schema, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(json_object_to_json_string(value), ==,
                    json_object_to_json_string(expected));
    if (knob->max != 0) {
        g_assert_true(takes(q, knob->name, knob->max));
        /* QEMU 7.2 does not look at the levels of multifd; zlib and zstd do. */
        g_assert_true(!takes(q, knob->name, knob->max + 1) ||
                      g_pattern_match_simple("multifd-*-level", knob->name));
    }
    if (knob->min > 0) {
        g_assert_true(takes(q, knob->name, knob->min));
        g_assert_false(takes(q, knob->name, knob->min - 1));
    }
}

static void
check_real_table(QmigQmp *q)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigSchema) schema = qmig_schema_load(q, &error);
    g_autoptr(JsonObject) have = qmig_qmp_get_parameters(q, &error);
    size_t n, n_checked = 0;
    const QmigKnob *knobs = qmig_knobs(&n);

    g_assert_no_error(error);
    for (size_t i = 0; i < n; i++) {
        if (knobs[i].kind == QMIG_KNOB_PARAMETER &&
            qmig_schema_has_parameter(schema, knobs[i].name)) {
            check_row(q, &knobs[i], schema, have);
            n_checked++;
        }
    }
    g_assert_cmpuint(n_checked, >, 20);
}

static void
check_real_fd(QmigQmp *q)
{
    g_autoptr(GError) error = NULL;
    int pipes[2];

    g_assert_cmpint(pipe(pipes), ==, 0);
    g_assert_true(qmig_qmp_getfd(q, "mig", pipes[0], &error));
    g_assert_no_error(error);
    g_assert_true(qmig_qmp_execute(
        q, "closefd", json_tokener_parse("{\"fdname\": \"mig\"}"), NULL, NULL, &error));
    g_assert_no_error(error);
    close(pipes[0]);
    close(pipes[1]);
}

/* A test that fails must not leave its QEMU behind. */
static void
die_with_parent(gpointer unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void
test_real_qemu(void)
{
    g_autofree char *binary = g_find_program_in_path("qemu-system-x86_64");
    g_autofree char *directory = NULL;
    g_autoptr(GError) error = NULL;
    GPid pid;

    if (binary == NULL) {
        g_test_skip("qemu-system-x86_64 is not installed");
        return;
    }
    directory = g_dir_make_tmp("qmig-qemu-XXXXXX", &error);
    g_assert_no_error(error);
    g_autofree char *path = g_build_filename(directory, "qmp", NULL);
    g_autofree char *option = g_strdup_printf("unix:%s,server=on,wait=off", path);
    char *argv[] = { binary,
                     (char *)"-nodefaults",
                     (char *)"-display",
                     (char *)"none",
                     (char *)"-machine",
                     (char *)"none",
                     (char *)"-S",
                     (char *)"-qmp",
                     option,
                     NULL };
    g_assert_true(g_spawn_async(NULL, argv, NULL,
                                G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                die_with_parent, NULL, &pid, &error));
    g_autoptr(QmigAddress) address = qmig_address_new_unix(path);
    g_autoptr(QmigQmp) q = NULL;
    for (int i = 0; i < 100 && q == NULL; i++) {
        g_usleep(100 * 1000);
        q = qmig_qmp_connect(address, "source", qmig_deadline_in_ms(5000), NULL, NULL);
    }
    g_assert_nonnull(q);
    g_assert_cmpuint(qmig_qmp_version(q), >=, 70200);
    g_assert_true(qmig_qmp_has_oob(q));

    check_real_schema(q);
    check_real_table(q);
    check_real_knobs(q);
    check_real_fd(q);
    bool running = true;
    g_assert_true(qmig_qmp_query_status(q, &running, NULL, NULL, &error));
    g_assert_false(running);
    g_assert_false(qmig_qmp_execute(q, "no-such-command", NULL, NULL, NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_QMP);
    g_assert_nonnull(strstr(error->message, "no-such-command"));
    g_assert_cmpstr(qmig_qmp_error_class(q), ==, "CommandNotFound");
    g_clear_error(&error);
    g_assert_true(qmig_qmp_quit(q, NULL, &error));
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    g_spawn_close_pid(pid);
    unlink(path);
    rmdir(directory);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/real/a-qemu-understands", test_real_qemu);
    return g_test_run();
}
