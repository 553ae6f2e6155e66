/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What --record writes is what was sent, and nothing that goes wrong with it is felt; and all of
 * that once more for the plugin `record`.
 */
#include "tests/unit/test-proxy-peers.h"

#include "util/auto.h"

#include <sys/resource.h>

static char *
in_capture(const Fixture *f, const char *name)
{
    return g_build_filename(f->dir, "capture", name, NULL);
}

static bool by_plugin;

static void
start_recording(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *directory = in_capture(f, NULL);
    g_autofree char *spec = g_strdup_printf("record:directory=%s", directory);
    const char *const plugins[] = { "stats", spec, NULL };
    QmigProxyConfig config = {
        .listen = f->listen,
        .destination = f->destination,
        .record = by_plugin ? NULL : directory,
        .plugins = by_plugin ? plugins : NULL,
    };

    f->proxy = qmig_proxy_start(&config, &error);
    g_assert_no_error(error);
}

static void
remove_capture(const Fixture *f)
{
    g_autofree char *directory = in_capture(f, NULL);
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = in_capture(f, name);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    g_assert_cmpint(g_rmdir(directory), ==, 0);
}

static void
assert_file(const Fixture *f, const char *name, const void *data, size_t len)
{
    g_autofree char *path = in_capture(f, name);
    g_autofree char *got = NULL;
    g_autoptr(GError) error = NULL;
    gsize got_len;

    g_file_get_contents(path, &got, &got_len, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(got, got_len, data, len);
}

static void
assert_no_file(const Fixture *f, const char *name)
{
    g_autofree char *path = in_capture(f, name);

    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static char **
timeline(const Fixture *f)
{
    g_autofree char *path = in_capture(f, "timeline.jsonl");
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(g_str_has_suffix(text, "\n"));
    text[strlen(text) - 1] = '\0';
    return g_strsplit(text, "\n", -1);
}

/* Sum of all lines of @channel with a number @key; -1: no such line. Time must not go back. */
static int64_t
sum_of(char **lines, int channel, const char *key)
{
    int64_t sum = -1, t = 0;

    for (guint i = 1; lines[i] != NULL; i++) {
        g_autoptr(JsonObject) o = json_tokener_parse(lines[i]);
        JsonObject *value = NULL;

        g_assert_nonnull(o);
        g_assert_true(json_object_object_get_ex(o, "t", &value));
        g_assert_cmpint(json_object_get_int64(value), >=, t);
        t = json_object_get_int64(value);
        if (json_object_object_get_ex(o, "channel", &value) &&
            json_object_get_int(value) == channel &&
            json_object_object_get_ex(o, key, &value)) {
            sum = MAX(sum, 0) + json_object_get_int64(value);
        }
    }
    return sum;
}

/* The first line with @text, or a failure. */
static guint
line_with(char **lines, const char *text)
{
    for (guint i = 0; lines[i] != NULL; i++) {
        if (strstr(lines[i], text) != NULL) {
            return i;
        }
    }
    g_error("the timeline has no line with %s", text);
}

/* ---- what is written -------------------------------------------------------------------- */

static void
test_both_directions_of_all_channels(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    g_autoptr(GByteArray) channel = g_byte_array_new();
    uint8_t packet[64] = { 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, [24] = 5 };

    (void)unused;
    g_byte_array_append(channel, packet, sizeof packet);
    for (guint i = 0; i < 20000; i++) {
        uint8_t byte = (uint8_t)g_test_rand_int_range(0, 256);
        g_byte_array_append(channel, &byte, 1);
    }
    start_recording(f);
    g_auto(QmigFd) source = source_connect(f);
    send_split(source, stream);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    g_auto(QmigFd) source_5 = source_connect(f);
    send_split(source_5, channel);
    g_auto(QmigFd) destination_5 = destination_accept(f);
    expect(destination_5, channel->data, channel->len);
    send_pong(destination, 1);
    expect(source, "\0\2\0\4\0\0\0\1", 8);
    send_shut(destination, 0);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&destination);
    expect_eof(source);
    qmig_fd_clear(&source);
    qmig_fd_clear(&source_5);
    qmig_fd_clear(&destination_5);
    expect_done(f);

    assert_file(f, "0-main.forward", stream->data, stream->len);
    assert_file(f, "0-main.reverse", "\0\2\0\4\0\0\0\1\0\1\0\4\0\0\0\0", 16);
    assert_file(f, "1-multifd.forward", channel->data, channel->len);
    assert_no_file(f, "1-multifd.reverse");
    assert_no_file(f, "timeline.reserve");
    g_auto(GStrv) lines = timeline(f);
    g_assert_true(
        g_str_has_prefix(lines[0], "{\"format\":\"qmig-capture\",\"version\":1,"));
    g_assert_cmpstr(lines[1], ==, "{\"t\":0,\"channel\":0,\"open\":\"main\"}");
    (void)line_with(lines, "\"channel\":1,\"open\":\"multifd\",\"id\":5}");
    g_assert_cmpint(sum_of(lines, 0, "forward"), ==, stream->len);
    g_assert_cmpint(sum_of(lines, 0, "reverse"), ==, 16);
    g_assert_cmpint(sum_of(lines, 1, "forward"), ==, channel->len);
    g_assert_cmpint(sum_of(lines, 1, "reverse"), ==, -1);
    (void)line_with(lines, "\"channel\":0,\"eof\":\"forward\"");
    (void)line_with(lines, "\"channel\":0,\"eof\":\"reverse\"");
    remove_capture(f);
}

/* In the timeline each of @n answers stands behind the line with @question that it is to. */
static void
assert_answers_follow(Fixture *f, const char *question, int n)
{
    g_auto(GStrv) lines = timeline(f);
    int asked = 0, answered = 0;

    for (guint i = 1; lines[i] != NULL; i++) {
        asked += strstr(lines[i], question) != NULL;
        answered += strstr(lines[i], "\"reverse\":") != NULL;
        g_assert_cmpint(answered, <=, asked);
    }
    g_assert_cmpint(answered, ==, n);
}

/* An answer never stands before its question. */
static void
test_a_question_stands_before_its_answer(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    start_recording(f);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 8);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, 8);
    for (guint i = 8; i < 200; i++) {
        send_all(source, stream->data + i, 1);
        expect(destination, stream->data + i, 1);
        send_pong(destination, (uint8_t)i);
        expect(source, (uint8_t[]){ 0, 2, 0, 4, 0, 0, 0, (uint8_t)i }, 8);
    }
    qmig_fd_clear(&source);
    qmig_fd_clear(&destination);
    g_assert_true(qmig_proxy_wait(f->proxy, PATIENCE_MS));
    assert_answers_follow(f, "\"forward\":1}", 192);
    remove_capture(f);
}

/* QEMU 7.2 begins to load, and to answer, when the last of its connections comes. */
static void
test_a_connection_stands_before_its_answer(Fixture *f, const void *unused)
{
    enum { N = 60 };
    g_autoptr(GByteArray) stream = sample_precopy();
    int sources[N], destinations[N];
    uint8_t packet[64];

    (void)unused;
    start_recording(f);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 100);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, 100);
    for (int i = 0; i < N; i++) {
        sources[i] = source_connect(f);
        put_multifd_packet(packet, (uint8_t)i);
        send_all(sources[i], packet, sizeof packet);
        destinations[i] = destination_accept(f);
        send_pong(destination, (uint8_t)i);
        expect(source, (uint8_t[]){ 0, 2, 0, 4, 0, 0, 0, (uint8_t)i }, 8);
    }
    for (int i = 0; i < N; i++) {
        qmig_fd_clear(&sources[i]);
        qmig_fd_clear(&destinations[i]);
    }
    qmig_fd_clear(&source);
    qmig_fd_clear(&destination);
    g_assert_true(qmig_proxy_wait(f->proxy, PATIENCE_MS));
    assert_answers_follow(f, "\"open\":\"multifd\"", N);
    remove_capture(f);
}

static void
test_recovery_and_its_preempt_channel(Fixture *f, const void *unused)
{
    const uint8_t resume[] = { 8, 0, 9, 0, 0 };

    (void)unused;
    start_recording(f);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, resume, sizeof resume);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, resume, sizeof resume);
    g_auto(QmigFd) urgent_source = source_connect(f);
    g_auto(QmigFd) urgent_destination = destination_accept(f);
    send_all(urgent_source, "page", 4);
    expect(urgent_destination, "page", 4);
    send_shut(destination, 0);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&urgent_source);
    qmig_fd_clear(&source);
    expect_eof(destination);
    expect_eof(urgent_destination);
    qmig_fd_clear(&destination);
    qmig_fd_clear(&urgent_destination);
    expect_done(f);
    assert_file(f, "0-recovery.forward", resume, sizeof resume);
    assert_file(f, "1-preempt.forward", "page", 4);
    g_auto(GStrv) lines = timeline(f);
    g_assert_cmpuint(line_with(lines, "\"open\":\"recovery\""), ==, 1);
    g_assert_cmpuint(line_with(lines, "\"channel\":0,\"forward\":5"), <,
                     line_with(lines, "\"channel\":1,\"open\":\"preempt\""));
    remove_capture(f);
}

/* What the destination no longer took was sent all the same. */
static void
test_a_broken_migration_is_recorded_to_its_end(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    start_recording(f);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 100);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, 100);
    qmig_fd_clear(&source);
    expect_failed(f, QMIG_ERROR_CLOSED, "source: main channel: closed after 100 bytes");
    assert_file(f, "0-main.forward", stream->data, 100);
    g_auto(GStrv) lines = timeline(f);
    (void)line_with(lines, "\"channel\":0,\"eof\":\"forward\"");
    remove_capture(f);
}

/* ---- what goes wrong -------------------------------------------------------------------- */

static void
test_full_disk_ends_the_recording_alone(Fixture *f, const void *unused)
{
    struct rlimit before, limit;
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &before), ==, 0);
    limit = before;
    limit.rlim_cur = 3000; /* bytes in a file: the timeline fits, the stream does not */
    g_assert_cmpuint(stream->len, >, limit.rlim_cur);
    start_recording(f);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    send_shut(destination, 0);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&destination);
    expect_eof(source);
    qmig_fd_clear(&source);
    expect_done(f);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
    assert_snapshot_has(f, "capture is not complete: 0-main.forward: File too large");
    g_auto(GStrv) lines = timeline(f);
    (void)line_with(lines, "\"stopped\":\"0-main.forward: File too large\"");
    assert_file(f, "0-main.forward", stream->data, 3000);
    remove_capture(f);
}

static void
test_a_directory_in_use_is_refused(Fixture *f, const void *unused)
{
    g_autoptr(GError) error = NULL;
    /* Has the destination's socket in it. */
    g_autofree char *spec = g_strdup_printf("record:directory=%s", f->dir);
    const char *const plugins[] = { spec, NULL };
    QmigProxyConfig config = {
        .listen = f->listen,
        .destination = f->destination,
        .record = by_plugin ? NULL : f->dir,
        .plugins = by_plugin ? plugins : NULL,
    };

    (void)unused;
    g_assert_null(qmig_proxy_start(&config, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    g_assert_nonnull(strstr(error->message, "empty directory"));
}

static void
test_no_migration_no_directory(Fixture *f, const void *unused)
{
    g_autofree char *directory = in_capture(f, NULL);

    (void)unused;
    start_recording(f);
    g_assert_true(g_file_test(directory, G_FILE_TEST_IS_DIR));
    g_clear_pointer(&f->proxy, qmig_proxy_free);
    g_assert_false(g_file_test(directory, G_FILE_TEST_EXISTS));
}

static void
test_one_capture_for_a_migration(Fixture *f, const void *unused)
{
    static const char *const pairs[][2] = { { "record:directory=/nowhere/1", NULL },
                                            { "record:directory=/nowhere/1",
                                              "record:directory=/nowhere/2" } };

    (void)unused;
    for (guint i = 0; i < G_N_ELEMENTS(pairs); i++) {
        const char *const plugins[] = { pairs[i][0], pairs[i][1], NULL };
        g_autoptr(GError) error = NULL;
        QmigProxyConfig config = {
            .listen = f->listen,
            .destination = f->destination,
            .record = i == 0 ? "/nowhere/0" : NULL,
            .plugins = plugins,
        };

        g_assert_null(qmig_proxy_start(&config, &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
        g_assert_nonnull(strstr(error->message, "/nowhere/1"));
        g_assert_nonnull(strstr(error->message, "one is made of a migration"));
    }
}

static void
set_up_plugin(Fixture *f, const void *unused)
{
    by_plugin = true;
    set_up(f, unused);
}

static void
tear_down_plugin(Fixture *f, const void *unused)
{
    tear_down(f, unused);
    by_plugin = false;
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(Fixture *f, const void *unused);
    } tests[] = {
        { "/record/both-directions-of-all-channels",
          test_both_directions_of_all_channels },
        { "/record/a-question-stands-before-its-answer",
          test_a_question_stands_before_its_answer },
        { "/record/a-connection-stands-before-its-answer",
          test_a_connection_stands_before_its_answer },
        { "/record/recovery-and-its-preempt-channel",
          test_recovery_and_its_preempt_channel },
        { "/record/a-broken-migration-is-recorded-to-its-end",
          test_a_broken_migration_is_recorded_to_its_end },
        { "/record/full-disk-ends-the-recording-alone",
          test_full_disk_ends_the_recording_alone },
        { "/record/a-directory-in-use-is-refused", test_a_directory_in_use_is_refused },
        { "/record/no-migration-no-directory", test_no_migration_no_directory },
        { "/record/one-capture-for-a-migration", test_one_capture_for_a_migration },
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/plugin", tests[i].path, NULL);

        g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].test, tear_down);
        g_test_add(path, Fixture, NULL, set_up_plugin, tests[i].test, tear_down_plugin);
    }
    return g_test_run();
}
