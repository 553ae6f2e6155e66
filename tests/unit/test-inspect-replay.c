/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A replay behaves as the source did: what is opened when, who waits for whom, how it ends. */
#include "inspect/replay.h"

#include "tests/unit/test-proxy-peers.h"

#define PONG "\0\2\0\4\0\0\0\1"
#define SHUT "\0\1\0\4\0\0\0\0"
#define BIG (3 << 20) /* bytes: more than sockets hold */

typedef struct {
    Fixture f; /* without its proxy */
    QmigReplayOptions options;
    QmigCancel *cancel;
    char *capture;
    GThread *thread;
    JsonObject *report;
    GError *error;
    bool ok;
} Replayed;

static void
set_up_replay(Replayed *r, const void *unused)
{
    set_up(&r->f, unused);
    r->capture = g_build_filename(r->f.dir, "capture", NULL);
    g_assert_cmpint(g_mkdir(r->capture, 0700), ==, 0);
    r->cancel = qmig_cancel_new();
    r->options = (QmigReplayOptions){ .to = r->f.destination,
                                      .timeout_ms = PATIENCE_MS,
                                      .cancel = r->cancel };
}

static void
tear_down_replay(Replayed *r, const void *unused)
{
    g_autoptr(GDir) dir = g_dir_open(r->capture, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(r->capture, name, NULL);
        g_unlink(path);
    }
    g_rmdir(r->capture);
    g_free(r->capture);
    qmig_json_put(r->report);
    g_clear_error(&r->error);
    qmig_cancel_free(r->cancel);
    tear_down(&r->f, unused);
}

static void
put(const Replayed *r, const char *name, const void *data, size_t len)
{
    g_autofree char *path = g_build_filename(r->capture, name, NULL);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, data, (gssize)len, &error);
    g_assert_no_error(error);
}

static void
put_timeline(const Replayed *r, const char *lines)
{
    g_autofree char *text = g_strconcat(
        "{\"format\":\"qmig-capture\",\"version\":1,\"started\":\"\"}\n", lines, NULL);

    put(r, "timeline.jsonl", text, strlen(text));
}

static void *
replay_thread(void *data)
{
    Replayed *r = data;

    r->ok = qmig_replay_run(r->capture, &r->options, &r->report, &r->error);
    return NULL;
}

static void
start(Replayed *r)
{
    r->thread = g_thread_new("replay", replay_thread, r);
}

static void
expect_loaded(Replayed *r)
{
    g_thread_join(g_steal_pointer(&r->thread));
    g_assert_no_error(r->error);
    g_assert_true(r->ok);
}

static void
expect_error(Replayed *r, QmigErrorCode code, const char *text)
{
    g_thread_join(g_steal_pointer(&r->thread));
    g_assert_false(r->ok);
    g_assert_error(r->error, QMIG_ERROR, (gint)code);
    if (strstr(r->error->message, text) == NULL) {
        g_error("got \"%s\", wanted \"…%s…\"", r->error->message, text);
    }
}

static void
assert_report_has(const Replayed *r, const char *part)
{
    const char *text = json_object_to_json_string_ext(r->report, JSON_C_TO_STRING_PLAIN);

    if (strstr(text, part) == NULL) {
        g_error("report %s has no %s", text, part);
    }
}

/* ---- in order --------------------------------------------------------------------------- */

static void
test_the_verdict_is_waited_for(Replayed *r, const void *unused)
{
    (void)unused;
    put(r, "0-main.forward", "QEVM and the rest", 17);
    put(r, "0-main.reverse", PONG SHUT, 16);
    put_timeline(r, "{\"t\":0,\"channel\":0,\"open\":\"main\"}\n"
                    "{\"t\":1,\"channel\":0,\"forward\":17}\n"
                    "{\"t\":2,\"channel\":0,\"reverse\":8}\n"
                    "{\"t\":3,\"channel\":0,\"reverse\":8}\n"
                    "{\"t\":4,\"channel\":0,\"eof\":\"forward\"}\n");
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect(destination, "QEVM and the rest", 17);
    /* As a source with return path: it stays until it knows. */
    struct pollfd p = { .fd = destination, .events = POLLIN };
    g_assert_cmpint(poll(&p, 1, 100), ==, 0);
    send_all(destination, PONG SHUT, 16);
    expect_eof(destination);
    qmig_fd_clear(&destination);
    expect_loaded(r);
    assert_report_has(r, "\"loaded\":true,\"return_path\":{\"shut\":0,\"pongs\":1,");
    assert_report_has(r, "\"recorded\":{\"shut\":0,\"pongs\":1,");
}

static void
test_a_late_channel_waits_for_the_answer(Replayed *r, const void *unused)
{
    (void)unused;
    put(r, "0-main.forward", "QEVMpackage", 11);
    put(r, "0-main.reverse", PONG, 8);
    put(r, "1-preempt.forward", "", 0);
    put_timeline(r, "{\"t\":0,\"channel\":0,\"open\":\"main\"}\n"
                    "{\"t\":1,\"channel\":0,\"forward\":4}\n"
                    "{\"t\":2,\"channel\":0,\"reverse\":8}\n"
                    "{\"t\":3,\"channel\":1,\"open\":\"preempt\"}\n"
                    "{\"t\":4,\"channel\":0,\"forward\":7}\n"
                    "{\"t\":5,\"channel\":0,\"eof\":\"forward\"}\n");
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect(destination, "QEVM", 4);
    assert_destination_untouched(&r->f);
    send_all(destination, PONG, 8);
    g_auto(QmigFd) urgent = destination_accept(&r->f);
    expect(destination, "package", 7);
    expect_eof(destination);
    send_all(destination, SHUT, 8);
    qmig_fd_clear(&destination);
    expect_eof(urgent);
    qmig_fd_clear(&urgent);
    expect_loaded(r);
}

/* A destination may want another channel's bytes before it reads on. */
static void
test_channels_do_not_wait_for_each_other(Replayed *r, const void *unused)
{
    g_autofree char *bytes = g_malloc0(BIG);

    (void)unused;
    memcpy(bytes, "QEVM", 4);
    put(r, "0-main.forward", bytes, BIG);
    memcpy(bytes, "\x11\x22\x33\x44", 4);
    put(r, "1-multifd.forward", bytes, BIG);
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    g_auto(QmigFd) side = destination_accept(&r->f);
    expect(side, bytes, BIG);
    memcpy(bytes, "QEVM", 4);
    expect(destination, bytes, BIG);
    send_all(destination, SHUT, 8);
    qmig_fd_clear(&destination);
    qmig_fd_clear(&side);
    expect_loaded(r);
    assert_report_has(r, "\"bytes_forward\":6291456");
}

static void
test_recorded_times_are_kept(Replayed *r, const void *unused)
{
    (void)unused;
    put(r, "0-main.forward", "QEVMlate", 8);
    put_timeline(r, "{\"t\":0,\"channel\":0,\"open\":\"main\"}\n"
                    "{\"t\":0,\"channel\":0,\"forward\":4}\n"
                    "{\"t\":300000,\"channel\":0,\"forward\":4}\n");
    r->options.timing = true;
    int64_t began = qmig_now_us();
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect(destination, "QEVM", 4);
    expect(destination, "late", 4);
    g_assert_cmpint(qmig_now_us() - began, >=, 300000);
    qmig_fd_clear(&destination);
    expect_loaded(r);
    assert_report_has(r, "\"loaded\":null");
}

/* A connection with too few bytes in hand freezes the destination. */
static void
test_a_connection_comes_with_its_first_bytes(Replayed *r, const void *unused)
{
    char packet[64] = "\x11\x22\x33\x44";

    (void)unused;
    put(r, "0-main.forward", "QEVM", 4);
    put(r, "1-multifd.forward", packet, sizeof packet);
    put_timeline(r, "{\"t\":0,\"channel\":0,\"open\":\"main\"}\n"
                    "{\"t\":0,\"channel\":1,\"open\":\"multifd\",\"id\":0}\n"
                    "{\"t\":1,\"channel\":1,\"forward\":63}\n"
                    "{\"t\":100000,\"channel\":0,\"forward\":4}\n"
                    "{\"t\":300000,\"channel\":1,\"forward\":1}\n");
    r->options.timing = true;
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect(destination, "QEVM", 4);
    assert_destination_untouched(&r->f);
    g_auto(QmigFd) side = destination_accept(&r->f);
    expect(side, packet, sizeof packet);
    send_all(destination, SHUT, 8);
    qmig_fd_clear(&destination);
    qmig_fd_clear(&side);
    expect_loaded(r);
}

/* ---- not in order ----------------------------------------------------------------------- */

static void
test_a_refusal_is_told(Replayed *r, const void *unused)
{
    (void)unused;
    put(r, "0-main.forward", "QEVM", 4);
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect(destination, "QEVM", 4);
    send_all(destination, "\0\1\0\4\0\0\0\1", 8);
    qmig_fd_clear(&destination);
    expect_error(r, QMIG_ERROR_CLOSED, "could not load the guest (SHUT 1, after 4 of 4");
    assert_report_has(r, "\"loaded\":false");
}

static void
test_a_destination_that_leaves_is_told(Replayed *r, const void *unused)
{
    g_autofree char *bytes = g_malloc0(BIG);

    (void)unused;
    put(r, "0-main.forward", bytes, BIG);
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect(destination, bytes, 1000);
    qmig_fd_clear(&destination);
    expect_error(r, QMIG_ERROR_CLOSED, " of 3145728 bytes");
}

static void
test_silence_has_an_end(Replayed *r, const void *unused)
{
    (void)unused;
    put(r, "0-main.forward", "QEVM", 4);
    r->options.timeout_ms = 200;
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect_error(r, QMIG_ERROR_TIMEOUT, "nothing moved for 200 ms");
}

static void
test_cancel_ends_it(Replayed *r, const void *unused)
{
    (void)unused;
    put(r, "0-main.forward", "QEVM", 4);
    start(r);
    g_auto(QmigFd) destination = destination_accept(&r->f);
    expect(destination, "QEVM", 4);
    qmig_cancel_raise(r->cancel);
    expect_error(r, QMIG_ERROR_CANCELLED, "cancelled after 4 bytes");
}

/* Nothing of what cannot be replayed reaches the destination. */
static void
test_what_cannot_be_replayed_is_refused_at_once(Replayed *r, const void *unused)
{
    static const struct {
        const char *file, *timeline, *says;
        QmigErrorCode code;
    } rows[] = {
        { "1-tls.forward", "", "encrypted", QMIG_ERROR_UNSUPPORTED },
        { "1-recovery.forward", "", "a recovery sends", QMIG_ERROR_UNSUPPORTED },
        { "1-main.forward", "", "more than one main", QMIG_ERROR_CONFIG },
        { "1-multifd.forward", "nonsense\n", "timeline.jsonl:2: wanted a JSON object",
          QMIG_ERROR_PROTOCOL },
    };

    (void)unused;
    put(r, "0-main.forward", "QEVM", 4);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_build_filename(r->capture, rows[i].file, NULL);

        put(r, rows[i].file, "", 0);
        put_timeline(r, rows[i].timeline);
        start(r);
        expect_error(r, rows[i].code, rows[i].says);
        g_assert_null(r->report);
        g_clear_error(&r->error);
        assert_destination_untouched(&r->f);
        g_unlink(path);
    }
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(Replayed *r, const void *unused);
    } tests[] = {
        { "/replay/the-verdict-is-waited-for", test_the_verdict_is_waited_for },
        { "/replay/a-late-channel-waits-for-the-answer",
          test_a_late_channel_waits_for_the_answer },
        { "/replay/channels-do-not-wait-for-each-other",
          test_channels_do_not_wait_for_each_other },
        { "/replay/recorded-times-are-kept", test_recorded_times_are_kept },
        { "/replay/a-connection-comes-with-its-first-bytes",
          test_a_connection_comes_with_its_first_bytes },
        { "/replay/a-refusal-is-told", test_a_refusal_is_told },
        { "/replay/a-destination-that-leaves-is-told",
          test_a_destination_that_leaves_is_told },
        { "/replay/silence-has-an-end", test_silence_has_an_end },
        { "/replay/cancel-ends-it", test_cancel_ends_it },
        { "/replay/what-cannot-be-replayed-is-refused-at-once",
          test_what_cannot_be_replayed_is_refused_at_once },
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].path, Replayed, NULL, set_up_replay, tests[i].test,
                   tear_down_replay);
    }
    return g_test_run();
}
