/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the options of the tunnel say, what the journal keeps of them, and what follows from both. */
#include "job/via-priv.h"
#include "util/error.h"

#include <string.h>

static void
test_limit(void)
{
    static const struct {
        QmigViaFlow flow;
        uint64_t limit;
    } rows[] = {
        { { .user_ms = 300, .backlog_ms = 0 }, 300 },
        { { .user_ms = 300, .backlog_ms = 100 }, 200 },
        { { .user_ms = 300, .backlog_ms = 300 }, 1 },
        { { .user_ms = 300, .backlog_ms = UINT64_MAX }, 1 },
        { { .user_ms = 300, .backlog_ms = 299 }, 1 },
        /* It believes to have ten times what the link takes. */
        { { .user_ms = 300, .backlog_ms = 100, .link_rate = 10, .qemu_rate = 100 }, 20 },
        { { .user_ms = 300, .backlog_ms = 100, .link_rate = 1, .qemu_rate = 10000 }, 1 },
        { { .user_ms = 300, .backlog_ms = 100, .link_rate = 100, .qemu_rate = 10 }, 200 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpuint(qmig_via_limit(&rows[i].flow), ==, rows[i].limit);
    }
}

static void
test_far(void)
{
    static const char *const rows[][2] = {
        { "b", "tcp:b:7117" },
        { "b:1", "tcp:b:1" },
        { "192.0.2.1", "tcp:192.0.2.1:7117" },
        { "[2001:db8::1]", "tcp:[2001:db8::1]:7117" },
        { "[2001:db8::1]:9", "tcp:[2001:db8::1]:9" },
        { "tcp:b:2", "tcp:b:2" },
        { "/run/far.sock", "unix:/run/far.sock" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(QmigAddress) a = qmig_via_parse_far(rows[i][0], NULL);
        g_assert_nonnull(a);
        g_autofree char *text = qmig_address_to_string(a);
        g_assert_cmpstr(text, ==, rows[i][1]);
    }
    g_assert_null(qmig_via_parse_far("", NULL));
    g_assert_null(qmig_via_parse_far("b:99999", NULL));
}

static bool
read_with(void (*change)(QmigJobOptions *, const char *), const char *text,
          QmigViaSettings *settings)
{
    g_autoptr(QmigJobOptions) options = qmig_job_options_new();
    g_autoptr(GError) error = NULL;

    g_ptr_array_add(options->via, g_strdup("b"));
    change(options, text);
    bool ok = qmig_via_settings_read(options, settings, &error);
    g_assert_true(ok || strstr(error->message, "--via-") != NULL);
    return ok;
}

static void
set_wires(QmigJobOptions *options, const char *text)
{
    options->via_connections = g_strdup(text);
}

static void
set_codec(QmigJobOptions *options, const char *text)
{
    options->via_compression = g_strdup(text);
}

static void
test_settings(void)
{
    static const char *const bad_wires[] = { "0", "17", "two", "" };
    static const char *const bad_codecs[] = { "gzip", "zstd:", "zstd:0", "zstd:20",
                                              "lz4:1" };
    QmigViaSettings settings;

    for (size_t i = 0; i < G_N_ELEMENTS(bad_wires); i++) {
        g_assert_false(read_with(set_wires, bad_wires[i], &settings));
        qmig_via_settings_clear(&settings);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad_codecs); i++) {
        g_assert_false(read_with(set_codec, bad_codecs[i], &settings));
        qmig_via_settings_clear(&settings);
    }
    g_assert_true(read_with(set_codec, "zstd:7", &settings));
    g_assert_cmpint(settings.codec, ==, QMIG_CODEC_ZSTD);
    g_assert_cmpint(settings.level, ==, 7);
    g_assert_cmpuint(settings.deadline_ms, ==, 120000);
    qmig_via_settings_clear(&settings);
}

static void
test_journal(void)
{
    g_autoptr(QmigJobOptions) before = qmig_job_options_new();
    g_autoptr(QmigJobOptions) after = qmig_job_options_new();
    g_autoptr(JsonObject) record = NULL;

    g_assert_null(qmig_via_options_to_journal(before));
    g_ptr_array_add(before->via, g_strdup("a:1"));
    g_ptr_array_add(before->via, g_strdup("b"));
    before->via_cache = g_strdup("1G");
    before->via_tls_psk = true;
    before->via_deadline_ms = 5000;
    record = qmig_via_options_to_journal(before);
    g_assert_true(qmig_via_options_from_journal(after, record, NULL));
    g_assert_cmpuint(after->via->len, ==, 2);
    g_assert_cmpstr(after->via->pdata[1], ==, "b");
    g_assert_cmpstr(after->via_cache, ==, "1G");
    g_assert_null(after->via_tls_dir);
    g_assert_true(after->via_tls_psk);
    g_assert_cmpuint(after->via_deadline_ms, ==, 5000);
    g_assert_true(qmig_via_options_from_journal(after, NULL, NULL));
}

/* The same for the same guest on the same host, and for nobody else. */
static void
test_session_name(void)
{
    static const char zeros[] = "00000000-0000-0000-0000-000000000000";
    static const char uuid[] = "6e3f9c1a-0000-4000-8000-000000000001";
    const char *const rows[][3] = { { "vm1", zeros, "vm1" },
                                    { "vm1", uuid, "vm1" },
                                    { "", uuid, uuid },
                                    { "", zeros, "unix:/run/qmp" },
                                    { NULL, uuid, uuid },
                                    { "", "", "unix:/run/qmp" },
                                    { NULL, NULL, "unix:/run/qmp" } };
    g_autoptr(QmigJobOptions) options = qmig_job_options_new();

    options->source = qmig_address_parse("unix:/run/qmp", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        QmigJob job = { .options = options };
        char name[QMIG_LINK_NAME_MAX + 1];
        g_autofree char *wanted = g_strdup_printf("%s@%s", rows[i][2], g_get_host_name());

        job.source.name = (char *)rows[i][0];
        job.source.uuid = (char *)rows[i][1];
        qmig_via_name_session(&job, name);
        g_assert_cmpstr(name, ==, wanted);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/via/limit", test_limit);
    g_test_add_func("/via/far", test_far);
    g_test_add_func("/via/settings", test_settings);
    g_test_add_func("/via/journal", test_journal);
    g_test_add_func("/via/session-name", test_session_name);
    return g_test_run();
}
