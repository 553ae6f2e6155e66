/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plugin fault in the proxy: it strikes at its place, to the byte, and nowhere else. */
#include "stream/decoder.h"
#include "test-proxy-peers.h"

#include <fcntl.h>

/* @spec: of fault; @other: (nullable) a plugin before it. */
static void
start_drill(Fixture *f, const char *other, const char *spec)
{
    g_autoptr(GError) error = NULL;
    const char *both[] = { other, spec, NULL };
    QmigProxyConfig config = {
        .listen = f->listen,
        .destination = f->destination,
        .plugins = other != NULL ? both : both + 1,
    };

    f->proxy = qmig_proxy_start(&config, &error);
    g_assert_no_error(error);
}

/* Where the @nth event of @kind begins in @stream. */
static guint
place_of(const GByteArray *stream, unsigned kind, unsigned nth)
{
    g_autoptr(QmigDecoder) d = qmig_decoder_new();
    struct qmig_event ev;

    qmig_decoder_push(d, stream->data, stream->len);
    while (qmig_decoder_next(d, &ev, NULL) == QMIG_DECODE_EVENT) {
        if (ev.kind == kind && --nth == 0) {
            return (guint)ev.offset;
        }
    }
    g_assert_not_reached();
}

/* The destination gets so many bytes and no more: return how many in all, up to the end. */
static guint
read_to_end(int fd, const GByteArray *stream)
{
    g_autofree uint8_t *got = g_malloc(stream->len + 1);
    g_autoptr(GError) error = NULL;
    guint n = 0;
    ssize_t more;

    while ((more = qmig_socket_read(fd, got + n, stream->len + 1 - n,
                                    qmig_deadline_in_ms(PATIENCE_MS), NULL, &error)) >
           0) {
        n += (guint)more;
    }
    g_assert_cmpmem(got, n, stream->data, n);
    return n;
}

/* In random pieces, as far as somebody takes them. */
static void
send_some(int fd, const GByteArray *stream)
{
    for (guint done = 0; done < stream->len;) {
        guint piece = (guint)g_test_rand_int_range(1, 3000);
        piece = MIN(piece, stream->len - done);
        if (!qmig_socket_write_all(fd, stream->data + done, piece,
                                   qmig_deadline_in_ms(PATIENCE_MS), NULL, NULL)) {
            return;
        }
        done += piece;
    }
}

static void
assert_cut_at(Fixture *f, const char *other, const char *spec, const GByteArray *stream,
              guint at)
{
    g_autofree char *said = g_strdup_printf("the main channel is cut at byte %u, as at=",
                                            at);

    start_drill(f, other, spec);
    g_auto(QmigFd) source = source_connect(f);
    send_some(source, stream);
    g_auto(QmigFd) destination = destination_accept(f);
    g_assert_cmpuint(read_to_end(destination, stream), ==, at);
    expect_failed(f, QMIG_ERROR_PLUGIN, said);
    assert_snapshot_has(f, "\"state\":\"done\",\"byte\":");
    g_clear_pointer(&f->proxy, qmig_proxy_free);
}

static void
test_cut_is_at_the_byte(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    assert_cut_at(f, NULL, "fault:at=main@777,do=cut", stream, 777);
    assert_cut_at(f, "null", "fault:at=main@777,do=cut", stream, 777);
    assert_cut_at(f, "throttle:rate=10M", "fault:at=main@777,do=cut", stream, 777);
}

static void
test_cut_is_before_the_event(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    guint eos = place_of(stream, QMIG_EVENT_RAM_EOS, 2);
    guint page = place_of(stream, QMIG_EVENT_PAGE, 3);
    guint section = place_of(stream, QMIG_EVENT_SECTION, 1);
    guint tail = place_of(stream, QMIG_EVENT_BYTES, 1);
    const char *others[] = { NULL, "null" };

    (void)unused;
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        assert_cut_at(f, others[i], "fault:at=eos#2,do=cut", stream, eos);
        assert_cut_at(f, others[i], "fault:at=page#3,do=cut", stream, page);
        assert_cut_at(f, others[i], "fault:at=start:ram,do=cut", stream, section);
        assert_cut_at(f, others[i], "fault:at=tail,do=cut", stream, tail);
    }
}

/* @stream with one byte turned over, and the end of a migration. */
static void
assert_corrupt_at(Fixture *f, const char *other, const char *spec,
                  const GByteArray *stream, guint at)
{
    g_autofree uint8_t *want = g_memdup2(stream->data, stream->len);

    want[at] ^= 0xff;
    start_drill(f, other, spec);
    g_auto(QmigFd) source = source_connect(f);
    send_split(source, stream);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, want, stream->len);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&source);
    expect_done(f);
    g_autofree char *byte = g_strdup_printf("\"state\":\"done\",\"byte\":%u}", at);
    assert_snapshot_has(f, byte);
    g_clear_pointer(&f->proxy, qmig_proxy_free);
}

static void
test_corrupt_turns_over_one_byte(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    guint page = place_of(stream, QMIG_EVENT_PAGE, 4);

    (void)unused;
    assert_corrupt_at(f, NULL, "fault:at=main@0,do=corrupt", stream, 0);
    assert_corrupt_at(f, NULL, "fault:at=main@500,do=corrupt:4", stream, 504);
    assert_corrupt_at(f, NULL, "fault:at=page#4,do=corrupt", stream, page);
    assert_corrupt_at(f, "null", "fault:at=page#4,do=corrupt:2", stream, page + 2);
}

static void
test_delay_ends_by_itself(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    start_drill(f, NULL,
                "fault:at=main@100,do=delay:300ms,at=main@200,do=delay:200ms,"
                "at=multifd-9@0,do=stall");
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, 100);
    gint64 begin_us = g_get_monotonic_time();
    expect(destination, stream->data + 100, stream->len - 100);
    g_assert_cmpint(g_get_monotonic_time() - begin_us, >=, 450000);
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&source);
    expect_done(f);
    assert_snapshot_has(f,
                        "{\"at\":\"main@200\",\"do\":\"delay:200ms\",\"state\":\"done\","
                        "\"byte\":200}");
    assert_snapshot_has(
        f, "{\"at\":\"multifd-9@0\",\"do\":\"stall\",\"state\":\"waiting\"}");
}

static void
test_stall_is_of_its_channel_and_ends_when_told(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    g_autoptr(GError) error = NULL;
    QmigFd multifd[2], there[2];
    uint8_t packet[64];
    char c;

    (void)unused;
    start_drill(f, NULL, "fault:at=multifd-1@66,do=stall");
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    for (int i = 0; i < 2; i++) {
        multifd[i] = source_connect(f);
        put_multifd_packet(packet, (uint8_t)i);
        send_all(multifd[i], packet, 64);
        send_all(multifd[i], "pages", 5);
        there[i] = destination_accept(f);
        expect(there[i], packet, 64);
    }
    expect(there[0], "pages", 5);
    expect(there[1], "pa", 2);
    g_usleep(200000);
    g_assert_cmpint(recv(there[1], &c, 1, MSG_DONTWAIT), <, 0);
    g_assert_false(qmig_proxy_set(f->proxy, "fault.over", "maybe", false, &error));
    g_assert_true(qmig_proxy_set(f->proxy, "fault.over", "on", false, NULL));
    expect(there[1], "ges", 3);
    for (int i = 0; i < 2; i++) {
        qmig_fd_clear(&multifd[i]);
        expect_eof(there[i]);
        qmig_fd_clear(&there[i]);
    }
}

static void
test_a_file_cuts_everything(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    g_autofree char *path = g_build_filename(f->dir, "now", NULL);
    g_autofree char *spec = g_strdup_printf("fault:at=file:%s,do=cut", path);

    (void)unused;
    start_drill(f, NULL, spec);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, 100);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, 100);
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    send_all(source, stream->data + 100, 1);
    expect_failed(f, QMIG_ERROR_PLUGIN, "is cut at byte 100, as at=file:/");
    expect_closed(destination, PATIENCE_MS);
    g_unlink(path);
}

static void
test_nonsense_is_refused(void)
{
    static const struct {
        const char *spec, *why;
    } bad[] = {
        { "fault", "no fault is given" },
        { "fault:do=cut", "wanted at=PLACE before" },
        { "fault:at=main@1", "wanted do=ACTION behind it" },
        { "fault:at=main@1,at=main@2,do=cut", "at=main@1: wanted do=ACTION" },
        { "fault:at=main@1,do=cut,do=stall", "wanted at=PLACE before" },
        { "fault:at=main@1,do=explode", "wanted delay:TIME, stall" },
        { "fault:at=main@1,do=delay:long", "delay:long" },
        { "fault:at=main@x,do=cut", "at=main@x" },
        { "fault:at=main-1@0,do=cut", "wanted a channel" },
        { "fault:at=multifd-256@0,do=cut", "0 to 255" },
        { "fault:at=moon@0,do=cut", "wanted a channel" },
        { "fault:at=moon,do=cut", "or an event: start" },
        { "fault:at=eos:ram,do=cut", "or an event: start" },
        { "fault:at=eos#0,do=cut", "#0: wanted a number from 1" },
        { "fault:at=command,do=cut", "wanted one of QEMU's" },
        { "fault:at=command:fly,do=cut", "command:fly, wanted one of QEMU's" },
        { "fault:at=file:/x,do=corrupt", "corrupt wants a byte or an event" },
        { "fault:when=now", "unknown parameter" },
    };
    Fixture f = { 0 };

    set_up(&f, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        const char *plugins[] = { bad[i].spec, NULL };
        QmigProxyConfig config = { .listen = f.listen,
                                   .destination = f.destination,
                                   .plugins = plugins };

        g_assert_null(qmig_proxy_start(&config, &error));
        if (strstr(error->message, bad[i].why) == NULL) {
            g_error("%s: \"%s\" does not say \"%s\"", bad[i].spec, error->message,
                    bad[i].why);
        }
    }
    tear_down(&f, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) \
    g_test_add("/proxy/drill/" path, Fixture, NULL, set_up, test, tear_down)
    ADD("cut-is-at-the-byte", test_cut_is_at_the_byte);
    ADD("cut-is-before-the-event", test_cut_is_before_the_event);
    ADD("corrupt-turns-over-one-byte", test_corrupt_turns_over_one_byte);
    ADD("delay-ends-by-itself", test_delay_ends_by_itself);
    ADD("stall-is-of-its-channel-and-ends-when-told",
        test_stall_is_of_its_channel_and_ends_when_told);
    ADD("a-file-cuts-everything", test_a_file_cuts_everything);
    g_test_add_func("/proxy/drill/nonsense-is-refused", test_nonsense_is_refused);
    return g_test_run();
}
