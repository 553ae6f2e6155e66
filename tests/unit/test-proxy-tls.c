/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TLS that ends in the proxy, on both legs; and each way in which it cannot. */
#include "tests/unit/test-proxy-peers.h"

#include "tests/lib/pki.h"

static TestPki pki;

typedef struct {
    Fixture base;
    QmigTlsCreds *server, *client; /* the proxy's */
} TlsFixture;

/* An end of a connection that speaks TLS. */
typedef struct {
    int fd;
    QmigTlsCreds *creds;
    QmigTls *tls;
} Peer;

static void
start_tls_proxy(TlsFixture *f, const char *dir, const char *plugin, const char *host)
{
    g_autoptr(GError) error = NULL;
    const char *plugins[] = { plugin, NULL };
    f->server = test_pki_creds(dir, QMIG_PKI_SERVER);
    f->client = test_pki_creds(dir, QMIG_PKI_CLIENT);
    QmigProxyConfig config = {
        .listen = f->base.listen,
        .destination = f->base.destination,
        .plugins = plugins,
        .tls_server = f->server,
        .tls_client = f->client,
        .tls_hostname = host,
    };

    f->base.proxy = qmig_proxy_start(&config, &error);
    g_assert_no_error(error);
}

static void
tls_set_up(TlsFixture *f, const void *unused)
{
    set_up(&f->base, unused);
}

static void
tls_tear_down(TlsFixture *f, const void *unused)
{
    tear_down(&f->base, unused);
    qmig_tls_creds_free(f->server);
    qmig_tls_creds_free(f->client);
}

/* ---- peers ------------------------------------------------------------------------------ */

static void
peer_begin(Peer *p, int fd, const char *dir, QmigPkiKind end, const char *host)
{
    p->fd = fd;
    p->creds = test_pki_creds(dir, end);
    p->tls = qmig_tls_new(p->creds, fd, host, "the proxy");
}

static bool
peer_shake(Peer *p, GError **error)
{
    return qmig_tls_handshake(p->tls, qmig_deadline_in_ms(PATIENCE_MS), NULL, error);
}

static void
peer_close(Peer *p)
{
    if (p->tls != NULL) {
        qmig_tls_free(g_steal_pointer(&p->tls));
        qmig_tls_creds_free(g_steal_pointer(&p->creds));
    }
    qmig_fd_clear(&p->fd);
}

static Peer
source_begin(TlsFixture *f, const char *dir)
{
    Peer p = { 0 };
    g_autoptr(GError) error = NULL;

    peer_begin(&p, source_connect(&f->base), dir, QMIG_PKI_CLIENT, "proxy.example");
    bool ok = peer_shake(&p, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    return p;
}

static Peer
destination_begin(TlsFixture *f, const char *dir)
{
    Peer p = { 0 };
    g_autoptr(GError) error = NULL;

    peer_begin(&p, destination_accept(&f->base), dir, QMIG_PKI_SERVER, NULL);
    bool ok = peer_shake(&p, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    return p;
}

static void
peer_send(Peer *p, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        g_autoptr(GError) error = NULL;
        short events = 0;
        ssize_t n = qmig_tls_write(p->tls, (const char *)data + done, len - done, &events,
                                   &error);
        g_assert_no_error(error);
        if (n == QMIG_TLS_AGAIN) {
            g_assert_true(qmig_wait_fd(p->fd, events, qmig_deadline_in_ms(PATIENCE_MS),
                                       NULL, NULL));
        } else {
            done += (size_t)n;
        }
    }
}

/* The next bytes, at most @len; 0 at the end. */
static size_t
peer_read(Peer *p, void *buf, size_t len)
{
    for (;;) {
        g_autoptr(GError) error = NULL;
        short events = 0;
        ssize_t n = qmig_tls_read(p->tls, buf, len, &events, &error);
        g_assert_no_error(error);
        if (n != QMIG_TLS_AGAIN) {
            return (size_t)n;
        }
        g_assert_true(
            qmig_wait_fd(p->fd, events, qmig_deadline_in_ms(PATIENCE_MS), NULL, NULL));
    }
}

static void
peer_expect(Peer *p, const void *data, size_t len)
{
    g_autofree char *got = g_malloc(len + 1);

    for (size_t done = 0; done < len;) {
        size_t n = peer_read(p, got + done, len - done);
        g_assert_cmpuint(n, >, 0);
        done += n;
    }
    g_assert_cmpmem(got, len, data, len);
}

static void
peer_expect_end(Peer *p, bool farewell)
{
    char c;

    g_assert_cmpuint(peer_read(p, &c, 1), ==, 0);
    g_assert_true(qmig_tls_was_closed(p->tls) == farewell);
}

/* ---- it works ----------------------------------------------------------------------------- */

static void
migrate(TlsFixture *f, const char *dir, const char *mode)
{
    static const uint8_t pong[] = { 0, 2, 0, 4, 0, 0, 0, 1 };
    static const uint8_t shut[] = { 0, 1, 0, 4, 0, 0, 0, 0 };
    g_autoptr(GByteArray) stream = sample_precopy();
    Peer source = source_begin(f, dir);

    assert_destination_untouched(&f->base);
    peer_send(&source, stream->data, 8);
    Peer destination = destination_begin(f, dir);
    peer_send(&source, stream->data + 8, stream->len - 8);
    peer_expect(&destination, stream->data, stream->len);
    peer_send(&destination, pong, sizeof pong);
    peer_expect(&source, pong, sizeof pong);
    peer_send(&destination, shut, sizeof shut);
    peer_expect(&source, shut, sizeof shut);
    peer_close(&destination);
    peer_expect_end(&source, false);
    peer_close(&source);
    expect_done(&f->base);
    assert_snapshot_has(&f->base, "\"return_path\":{\"shut\":0,\"pongs\":1}");
    assert_snapshot_has(&f->base, mode);
    assert_snapshot_has(&f->base, "\"tls_source\":\"TLSv1.3");
    assert_snapshot_has(&f->base, "\"tls_destination\":\"TLSv1.3");
}

static void
test_observed_bytes_pass_exactly(TlsFixture *f, const void *unused)
{
    (void)unused;
    start_tls_proxy(f, pki.good, "stats", TEST_PKI_HOST);
    migrate(f, pki.good, "\"mode\":\"observe\"");
    assert_snapshot_has(&f->base, "\"machine\":\"pc-test-1.0\"");
}

static void
test_rewritten_bytes_pass_exactly(TlsFixture *f, const void *unused)
{
    (void)unused;
    start_tls_proxy(f, pki.good, "null", TEST_PKI_HOST);
    migrate(f, pki.good, "\"mode\":\"rewrite\"");
}

static void
test_pre_shared_keys(TlsFixture *f, const void *unused)
{
    (void)unused;
    start_tls_proxy(f, pki.psk, NULL, NULL);
    migrate(f, pki.psk, "\"mode\":\"observe\"");
}

/* Both relays of one connection at once, with more than any buffer holds. */
static void
test_both_ways_at_once(TlsFixture *f, const void *unused)
{
    enum { CHUNK = 1 << 20, CHUNKS = 16 };
    g_autofree uint8_t *data = g_malloc(CHUNK);
    g_autofree uint8_t *message = g_malloc(65536);

    (void)unused;
    memset(data, 0x5a, CHUNK);
    memset(message, 0, 65536);
    start_tls_proxy(f, pki.good, NULL, TEST_PKI_HOST);
    Peer source = source_begin(f, pki.good);
    peer_send(&source, "QEVM", 4);
    Peer destination = destination_begin(f, pki.good);
    peer_expect(&destination, "QEVM", 4);
    for (int i = 0; i < CHUNKS; i++) {
        peer_send(&destination, message, 65536);
        /* The proxy may hold less than that: a reader is needed meanwhile. */
        for (size_t done = 0; done < CHUNK; done += 65536) {
            peer_send(&source, data + done, 65536);
            peer_expect(&destination, data + done, 65536);
        }
        peer_expect(&source, message, 65536);
    }
    peer_close(&source);
    peer_close(&destination);
    g_assert_true(qmig_proxy_wait(f->base.proxy, PATIENCE_MS));
}

/* A multifd channel's farewell is passed on where it was said, and only there. */
static void
multifd_end(TlsFixture *f, bool farewell)
{
    g_autoptr(GByteArray) stream = sample_precopy();
    uint8_t packet[64] = { 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1 };

    start_tls_proxy(f, pki.good, NULL, TEST_PKI_HOST);
    Peer source = source_begin(f, pki.good);
    Peer multifd_source = source_begin(f, pki.good);
    peer_send(&multifd_source, packet, sizeof packet);
    assert_destination_untouched(&f->base);
    peer_send(&source, stream->data, 8);
    Peer destination = destination_begin(f, pki.good);
    Peer multifd = destination_begin(f, pki.good);
    peer_expect(&multifd, packet, sizeof packet);
    if (farewell) {
        qmig_tls_close(multifd_source.tls, QMIG_DEADLINE_NEVER, NULL);
    }
    peer_close(&multifd_source);
    peer_expect_end(&multifd, farewell);
    peer_close(&multifd);
    peer_close(&source);
    peer_close(&destination);
    g_assert_true(qmig_proxy_wait(f->base.proxy, PATIENCE_MS));
}

static void
test_farewell_is_passed_on(TlsFixture *f, const void *unused)
{
    (void)unused;
    multifd_end(f, true);
}

static void
test_cut_is_no_farewell(TlsFixture *f, const void *unused)
{
    (void)unused;
    multifd_end(f, false);
}

/* Behind a full socket, too: a destination that reads late must not take it for a cut. */
static void
test_farewell_waits_for_its_reader(TlsFixture *f, const void *unused)
{
    enum { SIZE = 1 << 20 };
    g_autoptr(GByteArray) stream = sample_precopy();
    g_autofree uint8_t *data = g_malloc0(SIZE);

    (void)unused;
    memcpy(data, "\x11\x22\x33\x44\0\0\0\1", 8);
    start_tls_proxy(f, pki.good, NULL, TEST_PKI_HOST);
    Peer source = source_begin(f, pki.good);
    peer_send(&source, stream->data, 8);
    Peer destination = destination_begin(f, pki.good);
    Peer multifd_source = source_begin(f, pki.good);
    peer_send(&multifd_source, data, 64);
    Peer multifd = destination_begin(f, pki.good);
    peer_send(&multifd_source, data, SIZE);
    qmig_tls_close(multifd_source.tls, QMIG_DEADLINE_NEVER, NULL);
    peer_close(&multifd_source);
    g_usleep(200000);
    peer_expect(&multifd, data, 64);
    peer_expect(&multifd, data, SIZE);
    peer_expect_end(&multifd, true);
    peer_close(&multifd);
    peer_close(&source);
    peer_close(&destination);
    g_assert_true(qmig_proxy_wait(f->base.proxy, PATIENCE_MS));
}

/* ---- it does not ---------------------------------------------------------------------------- */

/* A source that is not taken: told, and the destination never hears of it. */
static void
reject_source(TlsFixture *f, const char *proxy_dir, const char *dir, const char *text)
{
    Peer p = { 0 };

    start_tls_proxy(f, proxy_dir, NULL, TEST_PKI_HOST);
    peer_begin(&p, source_connect(&f->base), dir, QMIG_PKI_CLIENT, NULL);
    (void)!peer_shake(&p, NULL);
    expect_failed(&f->base, QMIG_ERROR_TLS, text);
    assert_destination_untouched(&f->base);
    peer_close(&p);
}

static void
test_source_of_another_ca(TlsFixture *f, const void *unused)
{
    (void)unused;
    reject_source(f, pki.good, pki.other, "source: first connection: ");
    g_autoptr(GError) error = qmig_proxy_error(f->base.proxy);
    /* Either notices first: both are right. */
    g_assert_true(
        strstr(error->message, "does not accept what this side shows") != NULL ||
        strstr(error->message, "does not know the CA") != NULL ||
        strstr(error->message, "the source's certificate is from another CA") != NULL);
}

static void
test_source_without_certificate(TlsFixture *f, const void *unused)
{
    (void)unused;
    reject_source(f, pki.good, pki.bare, "the source shows no certificate");
}

static void
test_source_with_another_key(TlsFixture *f, const void *unused)
{
    (void)unused;
    reject_source(f, pki.psk, pki.psk_other, "the pre-shared keys differ");
}

static void
test_source_with_certificate_where_keys_are_wanted(TlsFixture *f, const void *unused)
{
    (void)unused;
    reject_source(f, pki.psk, pki.good, "certificates, the other pre-shared keys?");
}

static void
test_plain_source(TlsFixture *f, const void *unused)
{
    (void)unused;
    start_tls_proxy(f, pki.good, NULL, TEST_PKI_HOST);
    g_auto(QmigFd) source = source_connect(&f->base);
    send_all(source, "QEVM\0\0\0\3", 8);
    expect_failed(&f->base, QMIG_ERROR_TLS, "the source: it does not speak TLS");
    assert_destination_untouched(&f->base);
}

/* A stray that says nothing is turned away; the migration comes after it. */
static void
test_silent_stray_is_turned_away(TlsFixture *f, const void *unused)
{
    (void)unused;
    start_tls_proxy(f, pki.good, NULL, TEST_PKI_HOST);
    g_auto(QmigFd) stray = source_connect(&f->base);
    qmig_fd_clear(&stray);
    await_snapshot(&f->base, "closed the connection without a word");
    migrate(f, pki.good, "\"mode\":\"observe\"");
}

/* The destination is not who it should be: told, and nothing of the guest was sent. */
static void
reject_destination(TlsFixture *f, const char *dir, const char *host, const char *text)
{
    Peer p = { 0 };

    start_tls_proxy(f, pki.good, NULL, host);
    Peer source = source_begin(f, pki.good);
    peer_send(&source, "QEVM\0\0\0\3", 8);
    peer_begin(&p, destination_accept(&f->base), dir, QMIG_PKI_SERVER, NULL);
    (void)!peer_shake(&p, NULL);
    expect_failed(&f->base, QMIG_ERROR_TLS, text);
    peer_close(&p);
    peer_close(&source);
}

static void
test_destination_of_another_name(TlsFixture *f, const void *unused)
{
    (void)unused;
    reject_destination(f, pki.good, "c.example",
                       "destination: main channel: the destination's certificate is for "
                       "another name: it (O=qmig,CN=b.example) is for DNS:b.example, "
                       "DNS:proxy.example, wanted \"c.example\"");
}

static void
test_destination_of_another_ca(TlsFixture *f, const void *unused)
{
    (void)unused;
    reject_destination(f, pki.other, TEST_PKI_HOST,
                       "destination: main channel: the destination's certificate is from "
                       "another CA");
}

static void
test_plain_destination(TlsFixture *f, const void *unused)
{
    (void)unused;
    start_tls_proxy(f, pki.good, NULL, TEST_PKI_HOST);
    Peer source = source_begin(f, pki.good);
    peer_send(&source, "QEVM\0\0\0\3", 8);
    g_auto(QmigFd) destination = destination_accept(&f->base);
    send_all(destination, "220 smtp.example ESMTP\r\n", 24);
    expect_failed(&f->base, QMIG_ERROR_TLS, "the destination: it does not speak TLS");
    peer_close(&source);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(TlsFixture *, const void *);
    } tests[] = {
        { "observed-bytes-pass-exactly", test_observed_bytes_pass_exactly },
        { "rewritten-bytes-pass-exactly", test_rewritten_bytes_pass_exactly },
        { "pre-shared-keys", test_pre_shared_keys },
        { "both-ways-at-once", test_both_ways_at_once },
        { "farewell-is-passed-on", test_farewell_is_passed_on },
        { "cut-is-no-farewell", test_cut_is_no_farewell },
        { "farewell-waits-for-its-reader", test_farewell_waits_for_its_reader },
        { "source-of-another-ca", test_source_of_another_ca },
        { "source-without-certificate", test_source_without_certificate },
        { "source-with-another-key", test_source_with_another_key },
        { "source-with-certificate-where-keys-are-wanted",
          test_source_with_certificate_where_keys_are_wanted },
        { "plain-source", test_plain_source },
        { "silent-stray-is-turned-away", test_silent_stray_is_turned_away },
        { "destination-of-another-name", test_destination_of_another_name },
        { "destination-of-another-ca", test_destination_of_another_ca },
        { "plain-destination", test_plain_destination },
    };
    int result;

    g_test_init(&argc, &argv, NULL);
    test_pki_make(&pki);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *name = g_strdup_printf("/proxy/tls/%s", tests[i].name);
        g_test_add(name, TlsFixture, NULL, tls_set_up, tests[i].run, tls_tear_down);
    }
    result = g_test_run();
    test_pki_remove(&pki);
    return result;
}
