/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plugin throttle in the proxy: all channels share its limit, which may change meanwhile. */
#include "test-proxy-peers.h"

#include <fcntl.h>
#include <stdatomic.h>

enum { N_CHANNELS = 3, CHUNK = 64 << 10 };

/* @plugins: NULL-terminated. */
static void
start_with(Fixture *f, const char *const *plugins, uint32_t first_bytes_timeout_ms)
{
    g_autoptr(GError) error = NULL;
    QmigProxyConfig config = {
        .listen = f->listen,
        .destination = f->destination,
        .plugins = plugins,
        .first_bytes_timeout_ms = first_bytes_timeout_ms,
    };

    f->proxy = qmig_proxy_start(&config, &error);
    g_assert_no_error(error);
}

static void
set(const Fixture *f, const char *name, const char *value)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_proxy_set(f->proxy, name, value, false, &error)) {
        g_error("%s", error->message);
    }
}

/* One end of a channel, kept busy until told to stop. */
typedef struct {
    int fd;
    gint *stop; /* atomic */
    _Atomic uint64_t n;
    GThread *thread;
} Peer;

static void *
keep_sending(void *data)
{
    Peer *peer = data;
    g_autofree char *chunk = g_malloc0(CHUNK);

    while (!g_atomic_int_get(peer->stop) &&
           send(peer->fd, chunk, CHUNK, MSG_NOSIGNAL) > 0) {
    }
    shutdown(peer->fd, SHUT_WR);
    return NULL;
}

static void *
keep_reading(void *data)
{
    Peer *peer = data;
    g_autofree char *chunk = g_malloc(CHUNK);
    ssize_t n;

    while ((n = recv(peer->fd, chunk, CHUNK, 0)) > 0) {
        peer->n += (uint64_t)n;
    }
    return NULL;
}

static void
start_peer(Peer *peer, int fd, gint *stop, GThreadFunc run)
{
    peer->fd = fd;
    peer->stop = stop;
    peer->n = 0;
    /* Blocking: qmig's own sockets are not. */
    g_assert_cmpint(fcntl(fd, F_SETFL, 0), ==, 0);
    peer->thread = g_thread_new("peer", run, peer);
}

static uint64_t
sum(Peer *peers)
{
    uint64_t n = 0;

    for (int i = 0; i < N_CHANNELS; i++) {
        n += peers[i].n;
    }
    return n;
}

/* What arrives in @ms from now. What is on the way may add to it, what @rate is at @ms not. */
static void
measure(Peer *peers, int ms, double rate)
{
    enum { ON_THE_WAY = N_CHANNELS * (2 * 212992 + CHUNK) };
    gint64 begin_us = g_get_monotonic_time();
    uint64_t before = sum(peers);

    g_usleep((gulong)ms * 1000);
    uint64_t got = sum(peers) - before;
    double took_s = (double)(g_get_monotonic_time() - begin_us) / 1e6;
    g_test_message("%.2f MB/s, set %.2f", (double)got / took_s / 1e6, rate / 1e6);
    g_assert_cmpfloat((double)got, <=, rate * (took_s + 0.0225) + ON_THE_WAY);
    g_assert_cmpfloat((double)got, >=, rate * took_s / 2); /* a busy machine is slower */
}

static void
test_multifd_shares_the_limit(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    Peer sources[N_CHANNELS], destinations[N_CHANNELS];
    uint8_t packet[64];
    gint stop = 0;

    (void)unused;
    start_with(f, (const char *[]){ "throttle:rate=40MB", NULL }, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, stream->len);
    for (int i = 0; i < N_CHANNELS; i++) {
        int fd = source_connect(f);
        put_multifd_packet(packet, (uint8_t)i);
        send_all(fd, packet, 64);
        start_peer(&destinations[i], destination_accept(f), &stop, keep_reading);
        start_peer(&sources[i], fd, &stop, keep_sending);
    }
    measure(destinations, 600, 40e6);
    set(f, "throttle.rate", "10MB");
    g_usleep(150000);
    measure(destinations, 600, 10e6);
    set(f, "throttle.rate", "80MB");
    measure(destinations, 400, 80e6);
    g_atomic_int_set(&stop, 1);
    set(f, "throttle.rate", "none");
    for (int i = 0; i < N_CHANNELS; i++) {
        g_thread_join(sources[i].thread);
        g_thread_join(destinations[i].thread);
        close(sources[i].fd);
        close(destinations[i].fd);
    }
    send_shut(destination, 0);
    qmig_fd_clear(&destination);
    expect(source, "\0\1\0\4\0\0\0\0", 8);
    qmig_fd_clear(&source);
    expect_done(f);
    assert_snapshot_has(f, "\"throttle\":{\"rate\":0,\"burst\":0,");
    assert_snapshot_has(f, "\"changes\":3}");
}

/* At @rate the whole of it would take far longer than the test's patience. */
static void
test_a_limit_can_be_taken_away(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    const char *const *chains[] = {
        (const char *const[]){ "throttle:rate=100", NULL },
        (const char *const[]){ "stats", "null", "throttle:rate=100", NULL },
    };

    (void)unused;
    for (size_t i = 0; i < G_N_ELEMENTS(chains); i++) {
        uint8_t packet[64];
        start_with(f, chains[i], 1000);
        g_auto(QmigFd) source = source_connect(f);
        send_all(source, stream->data, stream->len);
        g_auto(QmigFd) destination = destination_accept(f);
        /* Main is on its way, if slowly: nothing has to wait for more of it. */
        g_auto(QmigFd) multifd = source_connect(f);
        put_multifd_packet(packet, 0);
        send_all(multifd, packet, 64);
        g_auto(QmigFd) multifd_destination = destination_accept(f);
        g_usleep(300000);
        char some[1000];
        ssize_t n = recv(destination, some, sizeof some, MSG_DONTWAIT | MSG_PEEK);
        g_assert_cmpint(n, >, 0);
        g_assert_cmpint(n, <=, 64 + 100);
        set(f, "throttle.rate", "0");
        expect(destination, stream->data, stream->len);
        expect(multifd_destination, packet, 64);
        send_shut(destination, 0);
        qmig_fd_clear(&destination);
        expect(source, "\0\1\0\4\0\0\0\0", 8);
        qmig_fd_clear(&source);
        qmig_fd_clear(&multifd);
        expect_eof(multifd_destination);
        qmig_fd_clear(&multifd_destination);
        expect_done(f);
        g_clear_pointer(&f->proxy, qmig_proxy_free);
    }
}

static void
test_waiting_ends_with_the_session(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    start_with(f, (const char *[]){ "throttle:rate=1", NULL }, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    gint64 begin_us = g_get_monotonic_time();
    g_clear_pointer(&f->proxy, qmig_proxy_free);
    g_assert_cmpint(g_get_monotonic_time() - begin_us, <, 2000000);
    expect_closed(source, PATIENCE_MS);
}

static void
test_a_destination_that_leaves_ends_the_waiting(Fixture *f, const void *unused)
{
    g_autoptr(GByteArray) stream = sample_precopy();

    (void)unused;
    start_with(f, (const char *[]){ "throttle:rate=1", NULL }, 0);
    g_auto(QmigFd) source = source_connect(f);
    send_all(source, stream->data, stream->len);
    g_auto(QmigFd) destination = destination_accept(f);
    expect(destination, stream->data, 1);
    qmig_fd_clear(&destination);
    expect_failed(f, QMIG_ERROR_CLOSED, "destination: main channel");
}

static void
test_bad_values_are_refused(Fixture *f, const void *unused)
{
    static const struct {
        const char *name, *value, *why;
    } bad[] = {
        { "throttle.rate", "fast", "rate=fast" },
        { "throttle.rate", "-1", "rate=-1" },
        { "throttle.burst", "none", "burst=none" },
        { "throttle.speed", "1", "unknown parameter \"speed\"" },
        { "stats.sample", "1", "nothing of it can be changed" },
        { "zero.x", "1", "not in use here" },
    };

    (void)unused;
    start_with(f, (const char *[]){ "stats", "throttle:rate=1Gbit", NULL }, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(
            qmig_proxy_set(f->proxy, bad[i].name, bad[i].value, false, &error));
        if (strstr(error->message, bad[i].why) == NULL) {
            g_error("\"%s\" does not say \"%s\"", error->message, bad[i].why);
        }
    }
    g_assert_true(qmig_proxy_set(f->proxy, "throttle.burst", "1M", true, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) \
    g_test_add("/proxy/pace/" path, Fixture, NULL, set_up, test, tear_down)
    ADD("multifd-shares-the-limit", test_multifd_shares_the_limit);
    ADD("a-limit-can-be-taken-away", test_a_limit_can_be_taken_away);
    ADD("waiting-ends-with-the-session", test_waiting_ends_with_the_session);
    ADD("a-destination-that-leaves-ends-the-waiting",
        test_a_destination_that_leaves_ends_the_waiting);
    ADD("bad-values-are-refused", test_bad_values_are_refused);
    return g_test_run();
}
