/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rehearsal's two ends, against each other and against peers that are not what they should be. */
#include "job/tls-handshake.h"
#include "tests/lib/pki.h"
#include "util/auto.h"
#include "util/error.h"
#include "util/socket.h"

#include <glib/gstdio.h>
#include <string.h>

enum { PATIENCE_MS = 10000 };

static TestPki pki;

/* A server in a thread of its own. */
typedef struct {
    QmigAddress *address;
    int listener;
    QmigTlsCreds *creds;
    GThread *thread;
    bool ok;
    GError *error;
} Server;

static void *
serve(void *data)
{
    Server *s = data;

    s->ok = qmig_handshake_serve(s->listener, s->creds, qmig_deadline_in_ms(PATIENCE_MS),
                                 NULL, &s->error);
    return NULL;
}

static void
server_start(Server *s)
{
    g_autofree char *path = g_build_filename(pki.dir, "socket", NULL);
    g_autoptr(GError) error = NULL;

    memset(s, 0, sizeof *s);
    s->address = qmig_address_new_unix(path);
    s->listener = qmig_socket_listen(s->address, 4, NULL, &error);
    g_assert_no_error(error);
    s->creds = test_pki_creds(pki.good, QMIG_PKI_SERVER);
    s->thread = g_thread_new("server", serve, s);
}

static void
server_end(Server *s)
{
    g_thread_join(s->thread);
    close(s->listener);
    g_unlink(s->address->path);
    qmig_address_free(s->address);
    qmig_tls_creds_free(s->creds);
}

static void
expect_error(GError *error, QmigErrorCode code, const char *text)
{
    g_assert_error(error, QMIG_ERROR, (gint)code);
    if (strstr(error->message, text) == NULL) {
        g_error("got \"%s\", wanted \"…%s…\"", error->message, text);
    }
    g_error_free(error);
}

/* A client with the credentials in @dir. @error: (out) */
static bool
ask(const Server *s, const char *dir, const char *host, GError **error)
{
    g_autoptr(QmigTlsCreds) creds = qmig_tls_creds_new(dir, QMIG_PKI_CLIENT, NULL, error);

    g_assert_nonnull(creds);
    return qmig_handshake_ask(s->address, creds, host, qmig_deadline_in_ms(PATIENCE_MS),
                              NULL, error);
}

/* The client is content with its handshake: the server answers nothing, for it has no exports. */
static void
test_good_client_is_accepted(void)
{
    Server s;
    GError *error = NULL;

    server_start(&s);
    g_assert_false(ask(&s, pki.good, "b.example", &error));
    server_end(&s);
    g_assert_no_error(s.error);
    g_assert_true(s.ok);
    expect_error(error, QMIG_ERROR_TLS, "after the handshake");
}

/* Told here; the client gets to the end of its handshake, and no alert: QEMU's would hang. */
static void
reject(const char *dir, const char *text)
{
    Server s;
    GError *error = NULL;

    server_start(&s);
    g_assert_false(ask(&s, dir, NULL, &error));
    server_end(&s);
    g_assert_false(s.ok);
    expect_error(s.error, QMIG_ERROR_TLS, text);
    expect_error(error, QMIG_ERROR_TLS, "it closes the connection after the handshake");
}

static void
test_client_without_certificate_is_told_gently(void)
{
    reject(pki.bare, "the source shows no certificate");
}

static void
test_client_of_another_ca_is_told_gently(void)
{
    /* It takes this server, whoever it is, and has a certificate of another CA. */
    GError *error = NULL;
    Server s;
    QmigTlsCreds *creds;
    g_autoptr(QmigTls) tls = NULL;
    g_auto(QmigFd) fd = -1;

    server_start(&s);
    creds = test_pki_creds(pki.other, QMIG_PKI_CLIENT);
    fd = qmig_socket_connect(s.address, qmig_deadline_in_ms(PATIENCE_MS), NULL, &error);
    g_assert_no_error(error);
    char greeting[18];
    g_assert_cmpint(qmig_socket_read(fd, greeting, sizeof greeting,
                                     qmig_deadline_in_ms(PATIENCE_MS), NULL, &error),
                    ==, (gssize)sizeof greeting);
    static const char starttls[] = "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0";
    g_assert_true(qmig_socket_write_all(fd, starttls, 20,
                                        qmig_deadline_in_ms(PATIENCE_MS), NULL, &error));
    char reply[20];
    g_assert_cmpint(qmig_socket_read(fd, reply, sizeof reply,
                                     qmig_deadline_in_ms(PATIENCE_MS), NULL, &error),
                    ==, (gssize)sizeof reply);
    tls = qmig_tls_new(creds, fd, NULL, "the proxy");
    qmig_tls_be_gentle(tls);
    g_assert_true(
        qmig_tls_handshake(tls, qmig_deadline_in_ms(PATIENCE_MS), NULL, &error));
    short events = 0;
    g_assert_cmpint(qmig_tls_write(tls, starttls + 4, 16, &events, &error), ==, 16);
    server_end(&s);
    expect_error(s.error, QMIG_ERROR_TLS, "the source's certificate is from another CA");
    /* The end, and nothing before it that could be an alert. */
    char c;
    g_assert_cmpint(qmig_tls_read(tls, &c, 1, &events, &error), <=, 0);
    g_clear_error(&error);
    qmig_tls_creds_free(creds);
}

static void
test_another_name_is_told(void)
{
    Server s;
    GError *error = NULL;

    server_start(&s);
    g_assert_false(ask(&s, pki.good, "c.example", &error));
    server_end(&s);
    expect_error(error, QMIG_ERROR_TLS,
                 "the destination's certificate is for another name");
    expect_error(s.error, QMIG_ERROR_TLS, "TLS");
}

/* Whatever it sends instead, it is told and ends. */
static void
test_odd_clients_are_told(void)
{
    static const char *const texts[] = { "", "GET / HTTP/1.1\r\n\r\n.................",
                                         "\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\0" };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        Server s;
        g_autoptr(GError) error = NULL;
        server_start(&s);
        g_auto(QmigFd) fd = qmig_socket_connect(
            s.address, qmig_deadline_in_ms(PATIENCE_MS), NULL, &error);
        g_assert_no_error(error);
        (void)!qmig_socket_write_all(fd, texts[i], i == 0 ? 0 : 20, QMIG_DEADLINE_NEVER,
                                     NULL, NULL);
        qmig_fd_clear(&fd);
        server_end(&s);
        g_assert_false(s.ok);
        g_assert_true(g_error_matches(s.error, QMIG_ERROR, QMIG_ERROR_CLOSED) ||
                      g_error_matches(s.error, QMIG_ERROR, QMIG_ERROR_PROTOCOL));
        g_error_free(s.error);
    }
}

static void
test_nobody_comes(void)
{
    g_autofree char *path = g_build_filename(pki.dir, "socket", NULL);
    g_autoptr(QmigAddress) address = qmig_address_new_unix(path);
    g_autoptr(QmigTlsCreds) creds = test_pki_creds(pki.good, QMIG_PKI_SERVER);
    g_auto(QmigFd) listener = qmig_socket_listen(address, 1, NULL, NULL);
    GError *error = NULL;

    g_assert_false(
        qmig_handshake_serve(listener, creds, qmig_deadline_in_ms(50), NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_TIMEOUT);
    g_error_free(error);
    g_unlink(path);
}

int
main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    test_pki_make(&pki);
    g_test_add_func("/job/tls/good-client-is-accepted", test_good_client_is_accepted);
    g_test_add_func("/job/tls/client-without-certificate-is-told-gently",
                    test_client_without_certificate_is_told_gently);
    g_test_add_func("/job/tls/client-of-another-ca-is-told-gently",
                    test_client_of_another_ca_is_told_gently);
    g_test_add_func("/job/tls/another-name-is-told", test_another_name_is_told);
    g_test_add_func("/job/tls/odd-clients-are-told", test_odd_clients_are_told);
    g_test_add_func("/job/tls/nobody-comes", test_nobody_comes);
    result = g_test_run();
    test_pki_remove(&pki);
    return result;
}
