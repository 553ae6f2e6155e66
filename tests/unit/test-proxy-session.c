/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Migrations that go well, and the rules of which connection is opened when. */
#include "tests/unit/test-proxy-peers.h"

/* As short as a complete stream can be; nobody asked for a return path. */
static GByteArray *
stream_without_return_path(void)
{
    GByteArray *out = g_byte_array_new();

    put_head(out);
    put_start(out, 1, "ram", 4);
    put_block_list(out);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_part(out, 0x03, 1);
    put_be64(out, 0x10);
    put_footer(out, 1);
    put_u8(out, 0x00);
    return out;
}

/* Header and ADVISE: the source will go to postcopy. */
static GByteArray *
postcopy_head(void)
{
    GByteArray *out = g_byte_array_new();

    put_head(out);
    put_u8(out, 0x08);
    put_be16(out, 3);
    put_be16(out, 16);
    put_be64(out, 4096);
    put_be64(out, 4096);
    return out;
}

/* ---- main ----------------------------------------------------------------------------- */

/* A whole migration with return path, in random pieces. */
static void
migrate(Fixture *f, const char *mode)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 8);
    g_auto(QmigFd) destination = destination_accept(f);
    g_autoptr(GByteArray) rest = g_byte_array_new();
    g_byte_array_append(rest, stream->data + 8, stream->len - 8);
    send_split(source, rest);
    expect(destination, stream->data, stream->len);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
    send_pong(destination, 1);
    expect(source, "\0\2\0\4\0\0\0\1", 8);
    send_shut(destination, 0);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&destination);
    expect_eof(source);
    qmig_fd_clear(&source);
    expect_done(f);
    assert_snapshot_has(f, "\"return_path\":{\"shut\":0,\"pongs\":1}");
    assert_snapshot_has(f, mode);
    assert_snapshot_has(f, "\"state\":\"done\"");
    await_snapshot(f, "\"backlog\":0");
}

static void
test_observed_bytes_pass_exactly(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, NULL, 0);
    migrate(f, "\"mode\":\"observe\"");
}

static void
test_rewritten_bytes_pass_exactly(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, "null", 0);
    migrate(f, "\"mode\":\"rewrite\"");
}

static void
test_plugins_report(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, "stats", 0);
    migrate(f, "\"machine\":\"pc-test-1.0\"");
}

static void
test_end_without_return_path(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = stream_without_return_path();

    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    qmig_fd_clear(&source);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    expect_eof(destination);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
    qmig_fd_clear(&destination);
    expect_done(f);
}

/* The destination may close before the source does: it has all it wants. */
static void
test_destination_may_close_first_without_return_path(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = stream_without_return_path();

    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    qmig_fd_clear(&destination);
    expect_eof(source);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
    qmig_fd_clear(&source);
    expect_done(f);
}

static void
test_postcopy_stream_ends_well(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_postcopy();

    (void)unused;
    start_proxy(f, "null", 0);
    g_auto(QmigFd) source = source_connect(f);
    send_split(source, stream);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    expect_eof(source);
    qmig_fd_clear(&source);
    expect_done(f);
}

static void
test_tcp_on_both_sides(Fixture *f, const void *unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) any = qmig_address_new_tcp("127.0.0.1", 0);
    g_autoptr(QmigAddress) destination_address = NULL;
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    qmig_fd_clear(&f->listener);
    f->listener = qmig_socket_listen(any, 16, &destination_address, &error);
    g_assert_no_error(error);
    QmigProxyConfig config = { .listen = any, .destination = destination_address };
    f->proxy = qmig_proxy_start(&config, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(qmig_proxy_address(f->proxy)->port, !=, 0);
    g_auto(QmigFd) source = qmig_socket_connect(
        qmig_proxy_address(f->proxy), qmig_deadline_in_ms(PATIENCE_MS), NULL, &error);
    g_assert_no_error(error);
    send_split(source, stream);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    expect_eof(source);
    qmig_fd_clear(&source);
    expect_done(f);
}

/* ---- what is not understood ------------------------------------------------------------- */

static void
test_unreadable_stream_passes_untouched(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();

    (void)unused;
    put_head(stream);
    put_u8(stream, 0x55); /* no such item */
    put_pattern(stream, 300000, 3);
    start_proxy(f, "stats", 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 64);
    g_auto(QmigFd) destination = destination_accept(f);
    send_all(source, stream->data + 64, stream->len - 64);
    expect(destination, stream->data, stream->len);
    await_snapshot(f, "\"mode\":\"raw\",\"raw_reason\"");
    qmig_fd_clear(&source);
    expect_eof(destination);
    qmig_fd_clear(&destination);
    expect_done(f);
    assert_snapshot_has(f, "not known");
}

static void
test_unreadable_stream_cannot_be_rewritten(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();

    (void)unused;
    put_head(stream);
    put_u8(stream, 0x55);
    put_pattern(stream, 1000, 3);
    start_proxy(f, "null", 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    expect_failed(f, QMIG_ERROR_PROTOCOL, "main channel");
    expect_closed(destination, PATIENCE_MS);
    expect_closed(source, PATIENCE_MS);
}

static void
test_tls_passes_untouched(Fixture *f, const void *unused)
{
    static const char hello[] = "\x16\x03\x01\x00\x05hello";

    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, hello, 10);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, hello, 10);
    g_auto(QmigFd) source2 = source_connect(f);
    send_all(source2, hello, 10);
    g_auto(QmigFd) destination2 = destination_accept(f);
    expect(destination2, hello, 10);
    send_all(destination2, "back", 4);
    expect(source2, "back", 4);
    await_snapshot(f, "\"kind\":\"tls\",\"id\":1");
    await_snapshot(f, "(TLS)");
    send_all(destination, "bye", 3);
    qmig_fd_clear(&destination);
    expect(source, "bye", 3);
    expect_eof(source);
    qmig_fd_clear(&source);
    qmig_fd_clear(&source2);
    qmig_fd_clear(&destination2);
    expect_done(f);
}

static void
test_tls_cannot_be_rewritten(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, "null", 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, "\x16\x03\x01\x00\x05hello", 10);
    expect_failed(f, QMIG_ERROR_UNSUPPORTED, "TLS");
    assert_destination_untouched(f);
    expect_closed(source, PATIENCE_MS);
}

static void
test_postcopy_recovery_is_main(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, "\x08\x00\x0a\x00\x07\x06pc.ram", 12);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, "\x08\x00\x0a\x00\x07\x06pc.ram", 12);
    await_snapshot(f, "postcopy recovery");
    g_auto(QmigFd) preempt = source_connect(f);
    g_auto(QmigFd) destination2 = destination_accept(f);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    qmig_fd_clear(&destination2);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    expect_closed(preempt, PATIENCE_MS);
    qmig_fd_clear(&source);
    expect_done(f);
}

/* A source in recovery must not lose its connection for a link that is not whole yet. */
static void
test_unreachable_is_tried_again(Fixture *f, const void *unused)
{
    QmigProxyConfig config = { .listen = f->listen,
                               .destination = f->destination,
                               .connect_again = true };
    g_autoptr(GError) error = NULL;

    (void)unused;
    qmig_fd_clear(&f->listener);
    g_unlink(f->destination_path);
    f->proxy = qmig_proxy_start(&config, &error);
    g_assert_no_error(error);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, "\x08\x00\x0a\x00\x07\x06pc.ram", 12);
    g_usleep(300000);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
    f->listener = qmig_socket_listen(f->destination, 16, NULL, &error);
    g_assert_no_error(error);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, "\x08\x00\x0a\x00\x07\x06pc.ram", 12);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&source);
    expect_done(f);
}

/* ---- the order of connections ----------------------------------------------------------- */

static void
test_multifd_waits_for_main(Fixture *f, const void *unused)
{
    enum { N = 3 };
    g_autoptr(GByteArray) stream = sample_precopy();
    int sources[N], destinations[N];
    uint8_t packet[64];

    (void)unused;
    start_proxy(f, NULL, 0);
    for (int i = 0; i < N; i++) {
        sources[i] = source_connect(f);
        put_multifd_packet(packet, (uint8_t)(10 + i));
        send_all(sources[i], packet, i == 1 ? 63 : 64);
    }
    assert_destination_untouched(f);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 3);
    assert_destination_untouched(f);
    send_all(source, stream->data + 3, stream->len - 3);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    for (int i = 0; i < N; i += 2) {
        destinations[i] = destination_accept(f);
        put_multifd_packet(packet, (uint8_t)(10 + i));
        expect(destinations[i], packet, 64);
    }
    assert_destination_untouched(f);
    put_multifd_packet(packet, 11);
    send_all(sources[1], packet + 63, 1);
    destinations[1] = destination_accept(f);
    expect(destinations[1], packet, 64);
    await_snapshot(f, "\"kind\":\"multifd\",\"id\":11");
    for (int i = 0; i < N; i++) {
        send_all(sources[i], "pages", 5);
        expect(destinations[i], "pages", 5);
        qmig_fd_clear(&sources[i]);
        expect_eof(destinations[i]);
        qmig_fd_clear(&destinations[i]);
    }
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    expect_eof(source);
    qmig_fd_clear(&source);
    expect_done(f);
}

static void
test_multifd_without_main_is_an_error(Fixture *f, const void *unused)
{
    uint8_t packet[64];

    (void)unused;
    start_proxy(f, NULL, 150);
    g_auto(QmigFd) source = source_connect(f);
    put_multifd_packet(packet, 0);
    send_all(source, packet, 64);
    expect_failed(f, QMIG_ERROR_TIMEOUT, "main");
    assert_destination_untouched(f);
    expect_closed(source, PATIENCE_MS);
}

static void
test_preempt_opens_when_postcopy_is_announced(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) head = postcopy_head();
    guint advise = 1 + 4 + 16;

    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) preempt = source_connect(f);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, head->data, head->len - advise);
    g_auto(QmigFd) destination = destination_accept(f);
    assert_destination_untouched(f);
    gint64 before = g_get_monotonic_time();
    send_all(source, head->data + head->len - advise, advise);
    g_auto(QmigFd) destination2 = destination_accept(f);
    g_assert_cmpint(g_get_monotonic_time() - before, <, 1000000);
    await_snapshot(f, "\"kind\":\"preempt\"");
    send_all(preempt, "page", 4);
    expect(destination2, "page", 4);
    /* One that speaks at once is opened at once. */
    g_auto(QmigFd) eager = source_connect(f);
    send_all(eager, "\0\0\0\0\0\0\0\x08", 8);
    g_auto(QmigFd) destination3 = destination_accept(f);
    expect(destination3, "\0\0\0\0\0\0\0\x08", 8);
}

static void
test_silent_connection_ends_the_session(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, NULL, 150);
    g_auto(QmigFd) source = source_connect(f);
    expect_failed(f, QMIG_ERROR_TIMEOUT, "source");
    assert_destination_untouched(f);
    expect_closed(source, PATIENCE_MS);
}

static void
test_port_probe_changes_nothing(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, NULL, 0);
    for (int i = 0; i < 3; i++) {
        close(source_connect(f));
    }
    await_snapshot(f, "closed at once");
    assert_destination_untouched(f);
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_WAITING);
    migrate(f, "observe");
}

static void
test_stranger_first_is_refused(Fixture *f, const void *unused)
{
    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, "GET / HTTP/1.0\r\n\r\n", 18);
    expect_failed(f, QMIG_ERROR_PROTOCOL, "47 45 54 20");
    assert_destination_untouched(f);
    expect_closed(source, PATIENCE_MS);
}

static void
test_stranger_beside_main_is_turned_away(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    start_proxy(f, NULL, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 100);
    g_auto(QmigFd) destination = destination_accept(f);
    g_auto(QmigFd) stranger = source_connect(f);
    send_all(stranger, "GET / HTTP/1.0\r\n\r\n", 18);
    expect_closed(stranger, PATIENCE_MS);
    g_auto(QmigFd) second = source_connect(f);
    send_all(second, stream->data, 8);
    expect_closed(second, PATIENCE_MS);
    assert_destination_untouched(f);
    send_all(source, stream->data + 100, 100);
    expect(destination, stream->data, 200);
    await_snapshot(f, "turned away");
    g_assert_cmpint(qmig_proxy_state(f->proxy), ==, QMIG_PROXY_ACTIVE);
}

static void
test_start_refuses_before_it_listens(Fixture *f, const void *unused)
{
    g_autoptr(GError) error = NULL;
    const char *plugins[] = { "no-such-plugin", NULL };
    QmigProxyConfig config = { .listen = f->listen,
                               .destination = f->destination,
                               .plugins = plugins };

    (void)unused;
    g_assert_null(qmig_proxy_start(&config, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    g_assert_false(g_file_test(f->listen_path, G_FILE_TEST_EXISTS));
    g_clear_error(&error);
    config.plugins = NULL;
    config.listen = f->destination; /* taken */
    g_assert_null(qmig_proxy_start(&config, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_IO);
    g_assert_true(g_file_test(f->destination_path, G_FILE_TEST_EXISTS));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) \
    g_test_add("/proxy/session/" name, Fixture, NULL, set_up, func, tear_down)
    ADD("observed-bytes-pass-exactly", test_observed_bytes_pass_exactly);
    ADD("rewritten-bytes-pass-exactly", test_rewritten_bytes_pass_exactly);
    ADD("plugins-report", test_plugins_report);
    ADD("end-without-return-path", test_end_without_return_path);
    ADD("destination-may-close-first-without-return-path",
        test_destination_may_close_first_without_return_path);
    ADD("postcopy-stream-ends-well", test_postcopy_stream_ends_well);
    ADD("tcp-on-both-sides", test_tcp_on_both_sides);
    ADD("unreadable-stream-passes-untouched", test_unreadable_stream_passes_untouched);
    ADD("unreadable-stream-cannot-be-rewritten",
        test_unreadable_stream_cannot_be_rewritten);
    ADD("tls-passes-untouched", test_tls_passes_untouched);
    ADD("tls-cannot-be-rewritten", test_tls_cannot_be_rewritten);
    ADD("postcopy-recovery-is-main", test_postcopy_recovery_is_main);
    ADD("unreachable-is-tried-again", test_unreachable_is_tried_again);
    ADD("multifd-waits-for-main", test_multifd_waits_for_main);
    ADD("multifd-without-main-is-an-error", test_multifd_without_main_is_an_error);
    ADD("preempt-opens-when-postcopy-is-announced",
        test_preempt_opens_when_postcopy_is_announced);
    ADD("silent-connection-ends-the-session", test_silent_connection_ends_the_session);
    ADD("port-probe-changes-nothing", test_port_probe_changes_nothing);
    ADD("stranger-first-is-refused", test_stranger_first_is_refused);
    ADD("stranger-beside-main-is-turned-away", test_stranger_beside_main_is_turned_away);
    ADD("start-refuses-before-it-listens", test_start_refuses_before_it_listens);
#undef ADD
    return g_test_run();
}
