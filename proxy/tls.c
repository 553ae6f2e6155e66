/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * OpenSSL over a non-blocking socket, for two threads.
 *
 * One mutex for each connection, held for a call of OpenSSL and never across a wait: the reader
 * decrypts, now and then the writer of the other direction waits for that some microseconds.
 *
 * OpenSSL gives up a connection for both directions when reading or writing breaks. Here one
 * direction must outlive the other: a destination's last word is read while its other half is
 * gone. So the transport (a BIO of our own) never tells OpenSSL of an end or an error: it says
 * "try again", keeps what happened, and the caller of OpenSSL looks there first.
 *
 * No session tickets towards QEMU: nobody would read them on a multifd channel, and a socket that is
 * closed with bytes unread resets its connection, and takes what was on the way with it. In the
 * tunnel both ends read all the time.
 */
#include "proxy/tls.h"

#include "util/error.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

enum {
    READ_AHEAD = 256 << 10, /* some records at once */
    /* Of the tunnel: what a stranger's handshake may take, and how long a ticket is good. */
    TUNNEL_CHAIN_MAX = 16 << 10,
    TUNNEL_TICKET_S = 600,
    TLS_ALERT = 0x15, /* RFC 8446: ContentType of a record */
};

struct QmigTlsCreds {
    gint refs;
    SSL_CTX *ctx;
    QmigPkiKind end;
    bool for_tunnel;
    pthread_mutex_t lock; /* guards the two below */
    SSL_SESSION *ticket;  /* client: of the last server that gave one */
    char *ticket_host;
    char *psk_user; /* NULL: certificates */
    GBytes *psk;
};

struct QmigTls {
    QmigTlsCreds *creds;
    char *peer, *host;
    int fd;
    pthread_mutex_t lock; /* guards all below */
    SSL *ssl;
    uint64_t heard;              /* bytes that came */
    bool ended;                  /* the peer closed its half */
    int read_errno, write_errno; /* 0 = none yet */
    bool established;
    bool gentle;
    GError *verify_error; /* why the peer's certificate was not taken */
};

/* ---- the transport ------------------------------------------------------------------------ */

static int
transport_read(BIO *bio, char *buf, size_t len, size_t *done)
{
    QmigTls *tls = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    do {
        n = recv(tls->fd, buf, len, 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        tls->heard += (uint64_t)n;
        *done = (size_t)n;
        return 1;
    }
    if (n == 0) {
        tls->ended = true;
    } else if (errno != EAGAIN) {
        tls->read_errno = errno;
    }
    BIO_set_retry_read(bio);
    return -1;
}

static int
transport_write(BIO *bio, const char *buf, size_t len, size_t *done)
{
    QmigTls *tls = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (tls->gentle && len > 0 && (uint8_t)buf[0] == TLS_ALERT) {
        *done = len;
        return 1;
    }
    do {
        n = send(tls->fd, buf, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) {
        *done = (size_t)n;
        return 1;
    }
    if (errno != EAGAIN) {
        tls->write_errno = errno;
    }
    BIO_set_retry_write(bio);
    return -1;
}

static long
transport_ctrl(BIO *bio, int command, long number, void *data)
{
    (void)bio;
    (void)number;
    (void)data;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *
transport(void)
{
    static gsize made;
    static BIO_METHOD *method;

    if (g_once_init_enter(&made)) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "qmig socket");
        BIO_meth_set_read_ex(method, transport_read);
        BIO_meth_set_write_ex(method, transport_write);
        BIO_meth_set_ctrl(method, transport_ctrl);
        g_once_init_leave(&made, 1);
    }
    return method;
}

/* ---- credentials -------------------------------------------------------------------------- */

static QmigPkiKind
other_end(QmigPkiKind end)
{
    return end == QMIG_PKI_SERVER ? QMIG_PKI_CLIENT : QMIG_PKI_SERVER;
}

/* OpenSSL asks whether the peer's certificate will do: keep the reason. */
static int
verify(X509_STORE_CTX *ctx, void *unused)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    QmigTls *tls = SSL_get_app_data(ssl);
    int ok = X509_verify_cert(ctx);

    (void)unused;
    if (ok != 1 && tls->verify_error == NULL) {
        g_autofree char *whose = g_strdup_printf("%s's certificate", tls->peer);
        qmig_x509_verify_error(ctx, other_end(tls->creds->end), tls->host, whose,
                               &tls->verify_error);
    }
    return ok == 1 || tls->gentle;
}

/* What this end shows. A client may show nothing, as QEMU's may: some servers do not ask. */
static bool
load_own(QmigTlsCreds *creds, const char *dir, GError **error)
{
    bool server = creds->end == QMIG_PKI_SERVER;
    g_autofree char *cert = qmig_x509_cert_path(dir, creds->end);
    g_autofree char *key = g_build_filename(
        dir, server ? QMIG_PKI_SERVER_KEY : QMIG_PKI_CLIENT_KEY, NULL);

    if (!server && !g_file_test(cert, G_FILE_TEST_EXISTS) &&
        !g_file_test(key, G_FILE_TEST_EXISTS)) {
        return qmig_x509_check_ca(dir, error);
    }
    if (!qmig_x509_check_own(dir, creds->end, error)) {
        return false;
    }
    if (SSL_CTX_use_certificate_chain_file(creds->ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(creds->ctx, key, SSL_FILETYPE_PEM) != 1) {
        g_autofree char *text = qmig_openssl_error();
        return qmig_set_error(error, QMIG_ERROR_TLS, "%s: %s", cert, text);
    }
    return true;
}

static bool
load_certificates(QmigTlsCreds *creds, const char *dir, GError **error)
{
    g_autoptr(X509_STORE) trust = NULL;

    if (!load_own(creds, dir, error)) {
        return false;
    }
    trust = qmig_x509_trust(dir, error);
    if (trust == NULL) {
        return false;
    }
    SSL_CTX_set1_cert_store(creds->ctx, trust);
    SSL_CTX_set_verify(creds->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       NULL);
    SSL_CTX_set_cert_verify_callback(creds->ctx, verify, NULL);
    return true;
}

static unsigned
give_psk(const QmigTlsCreds *creds, unsigned char *psk, unsigned max)
{
    gsize size;
    const void *data = g_bytes_get_data(creds->psk, &size);

    if (size > max) {
        return 0;
    }
    memcpy(psk, data, size);
    return (unsigned)size;
}

static unsigned
psk_server(SSL *ssl, const char *identity, unsigned char *psk, unsigned max)
{
    QmigTls *tls = SSL_get_app_data(ssl);

    if (strcmp(identity, tls->creds->psk_user) != 0) {
        return 0;
    }
    return give_psk(tls->creds, psk, max);
}

static unsigned
psk_client(SSL *ssl, const char *hint, char *identity, unsigned identity_max,
           unsigned char *psk, unsigned max)
{
    QmigTls *tls = SSL_get_app_data(ssl);

    (void)hint;
    if (g_strlcpy(identity, tls->creds->psk_user, identity_max) >= identity_max) {
        return 0;
    }
    return give_psk(tls->creds, psk, max);
}

static bool
load_psk(QmigTlsCreds *creds, const char *dir, GError **error)
{
    if (!qmig_psk_read(dir, creds->psk_user, &creds->psk, error)) {
        return false;
    }
    /* A key like these goes with SHA-256 only; AES is in the processor, ChaCha20 is not. */
    SSL_CTX_set_ciphersuites(creds->ctx, "TLS_AES_128_GCM_SHA256:"
                                         "TLS_CHACHA20_POLY1305_SHA256");
    SSL_CTX_set_options(creds->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (creds->end == QMIG_PKI_SERVER) {
        SSL_CTX_set_psk_server_callback(creds->ctx, psk_server);
    } else {
        SSL_CTX_set_psk_client_callback(creds->ctx, psk_client);
    }
    return true;
}

QmigTlsCreds *
qmig_tls_creds_new(const char *dir, QmigPkiKind end, const char *psk_user, GError **error)
{
    g_autoptr(QmigTlsCreds) creds = g_new0(QmigTlsCreds, 1);

    creds->refs = 1;
    pthread_mutex_init(&creds->lock, NULL);
    creds->end = end;
    creds->psk_user = g_strdup(psk_user);
    creds->ctx = SSL_CTX_new(end == QMIG_PKI_SERVER ? TLS_server_method()
                                                    : TLS_client_method());
    if (creds->ctx == NULL) {
        g_autofree char *text = qmig_openssl_error();
        qmig_set_error(error, QMIG_ERROR_TLS, "TLS: %s", text);
        return NULL;
    }
    SSL_CTX_set_min_proto_version(creds->ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(creds->ctx,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(creds->ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                        SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_num_tickets(creds->ctx, 0);
    SSL_CTX_set_session_cache_mode(creds->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(creds->ctx, 1);
    SSL_CTX_set_default_read_buffer_len(creds->ctx, READ_AHEAD);
    if (psk_user != NULL ? !load_psk(creds, dir, error)
                         : !load_certificates(creds, dir, error)) {
        return NULL;
    }
    return g_steal_pointer(&creds);
}

QmigTlsCreds *
qmig_tls_creds_ref(QmigTlsCreds *creds)
{
    g_atomic_int_inc(&creds->refs);
    return creds;
}

void
qmig_tls_creds_free(QmigTlsCreds *creds)
{
    if (creds != NULL && g_atomic_int_dec_and_test(&creds->refs)) {
        SSL_SESSION_free(creds->ticket);
        g_free(creds->ticket_host);
        pthread_mutex_destroy(&creds->lock);
        SSL_CTX_free(creds->ctx);
        g_clear_pointer(&creds->psk, g_bytes_unref);
        g_free(creds->psk_user);
        g_free(creds);
    }
}

/* ---- the tunnel --------------------------------------------------------------------------- */

/* OpenSSL has read a ticket. Return: 1: it is ours now. */
static int
keep_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    QmigTls *tls = SSL_get_app_data(ssl);
    QmigTlsCreds *creds = tls->creds;

    pthread_mutex_lock(&creds->lock);
    SSL_SESSION_free(creds->ticket);
    creds->ticket = ticket;
    g_free(creds->ticket_host);
    creds->ticket_host = g_strdup(tls->host);
    pthread_mutex_unlock(&creds->lock);
    return 1;
}

/* A certificate is looked at when a ticket is given, not when one is shown: only to who was found to
 * be of that name. */
static void
show_ticket(QmigTls *tls)
{
    QmigTlsCreds *creds = tls->creds;

    pthread_mutex_lock(&creds->lock);
    if (creds->ticket != NULL && g_strcmp0(creds->ticket_host, tls->host) == 0) {
        SSL_set_session(tls->ssl, creds->ticket);
    }
    pthread_mutex_unlock(&creds->lock);
}

void
qmig_tls_creds_for_tunnel(QmigTlsCreds *creds)
{
    static const unsigned char context[] = "qmig tunnel";

    creds->for_tunnel = true;
    SSL_CTX_set_min_proto_version(creds->ctx, TLS1_3_VERSION);
    /* Until the peer is known; see handshake_locked(). */
    SSL_CTX_set_default_read_buffer_len(creds->ctx, 0);
    SSL_CTX_set_max_cert_list(creds->ctx, TUNNEL_CHAIN_MAX);
    if (creds->psk_user != NULL) {
        return; /* a key is shown as fast as a ticket */
    }
    SSL_CTX_clear_options(creds->ctx, SSL_OP_NO_TICKET);
    if (creds->end == QMIG_PKI_SERVER) {
        SSL_CTX_set_num_tickets(creds->ctx, 1);
        SSL_CTX_set_timeout(creds->ctx, TUNNEL_TICKET_S);
        SSL_CTX_set_session_id_context(creds->ctx, context, sizeof context);
    } else {
        SSL_CTX_set_session_cache_mode(creds->ctx, SSL_SESS_CACHE_CLIENT |
                                                       SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(creds->ctx, keep_ticket);
    }
}

/* ---- a connection ------------------------------------------------------------------------- */

static void
expect_host(QmigTls *tls)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);

    if (X509_VERIFY_PARAM_set1_ip_asc(param, tls->host) != 1) {
        ERR_clear_error();
        X509_VERIFY_PARAM_set1_host(param, tls->host, 0);
        (void)SSL_set_tlsext_host_name(tls->ssl, tls->host);
    }
}

QmigTls *
qmig_tls_new(const QmigTlsCreds *creds, int fd, const char *host, const char *peer)
{
    QmigTls *tls = g_new0(QmigTls, 1);
    BIO *bio = BIO_new(transport());

    /* Counting owners changes nothing of what is promised to be const. */
    tls->creds = qmig_tls_creds_ref((QmigTlsCreds *)(uintptr_t)creds);
    tls->fd = fd;
    tls->peer = g_strdup(peer);
    tls->host = g_strdup(host);
    pthread_mutex_init(&tls->lock, NULL);
    tls->ssl = SSL_new(creds->ctx);
    g_assert(tls->ssl != NULL && bio != NULL);
    SSL_set_app_data(tls->ssl, tls);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    if (creds->end == QMIG_PKI_SERVER) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        if (host != NULL && creds->psk_user == NULL) {
            expect_host(tls);
        }
        if (creds->for_tunnel) {
            show_ticket(tls);
        }
    }
    return tls;
}

void
qmig_tls_free(QmigTls *tls)
{
    if (tls != NULL) {
        if (tls->creds->for_tunnel && tls->established) {
            /* A connection that broke off without farewell is no reason to forget its ticket:
             * the next one is wanted for just that. Frames tell by themselves when all was said. */
            SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        }
        SSL_free(tls->ssl);
        pthread_mutex_destroy(&tls->lock);
        qmig_tls_creds_free(tls->creds);
        g_clear_error(&tls->verify_error);
        g_free(tls->peer);
        g_free(tls->host);
        g_free(tls);
    }
}

void
qmig_tls_be_gentle(QmigTls *tls)
{
    tls->gentle = true;
    if (tls->creds->psk_user == NULL) {
        SSL_set_verify(tls->ssl, SSL_VERIFY_PEER, NULL);
    }
}

static bool
no_certificate(const QmigTls *tls, GError **error)
{
    return qmig_set_error(
        error, QMIG_ERROR_TLS,
        "%s shows no certificate: client-cert.pem and client-key.pem are "
        "missing there",
        tls->peer);
}

bool
qmig_tls_judge(QmigTls *tls, GError **error)
{
    bool ok = true;

    pthread_mutex_lock(&tls->lock);
    if (tls->verify_error != NULL) {
        g_propagate_error(error, g_steal_pointer(&tls->verify_error));
        ok = false;
    } else if (tls->creds->psk_user == NULL &&
               SSL_get0_peer_certificate(tls->ssl) == NULL) {
        ok = no_certificate(tls, error);
    }
    pthread_mutex_unlock(&tls->lock);
    return ok;
}

/* ---- handshake ---------------------------------------------------------------------------- */

/* The peer's last word, an alert, in words that tell what to look at. */
static const char *
alert_text(int reason)
{
    switch (reason) {
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "it wants a certificate of this side, which shows none";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        return "it does not know the CA of this side's certificate";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return "it says that this side's certificate has expired";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        return "it says that this side's certificate has been revoked";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
        return "it does not accept this side's certificate";
    case SSL_R_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY:
        return "it does not know this user of pre-shared keys";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
        return "it does not speak TLS (is it set to, on that side?)";
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "no cipher is common to both: does one side use certificates, the other "
               "pre-shared keys?";
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
    case SSL_R_DIGEST_CHECK_FAILED:
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
        return "the pre-shared keys differ, or something changed bytes on the way";
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        return "it shows nothing this side could verify: does one side use certificates, "
               "the other pre-shared keys?";
    default:
        return NULL;
    }
}

static void
handshake_error(QmigTls *tls, GError **error)
{
    unsigned long code = ERR_peek_error();
    const char *text = alert_text(ERR_GET_REASON(code));
    g_autofree char *other = NULL;

    if (tls->verify_error != NULL) {
        g_propagate_error(error, g_steal_pointer(&tls->verify_error));
        return;
    }
    if (ERR_GET_REASON(code) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        (void)!no_certificate(tls, error);
        return;
    }
    other = qmig_openssl_error();
    qmig_set_error(error, QMIG_ERROR_TLS, "TLS handshake with %s: %s", tls->peer,
                   text != NULL ? text : other);
}

/* What the transport kept. Return: false with @error set when the connection is no more. */
static bool
transport_is_well(QmigTls *tls, GError **error)
{
    int number = tls->read_errno != 0 ? tls->read_errno : tls->write_errno;

    if (number != 0) {
        return qmig_set_error_errno(error, number, "TLS handshake with %s", tls->peer);
    }
    if (!tls->ended) {
        return true;
    }
    return tls->heard > 0
               ? qmig_set_error(
                     error, QMIG_ERROR_TLS,
                     "TLS handshake with %s: it closed the connection: it does "
                     "not accept what this side shows (another CA, another "
                     "name, another key)",
                     tls->peer)
               : qmig_set_error(error, QMIG_ERROR_CLOSED,
                                "TLS handshake with %s: it closed the connection without "
                                "a word",
                                tls->peer);
}

static QmigTlsStep
handshake_locked(QmigTls *tls, short *events, GError **error)
{
    int result, what;

    ERR_clear_error();
    result = SSL_do_handshake(tls->ssl);
    if (result == 1) {
        tls->established = true;
        if (tls->creds->for_tunnel) {
            /* A larger one is made for what comes; with bytes in it, it is left for now. */
            SSL_set_default_read_buffer_len(tls->ssl, READ_AHEAD);
            (void)!SSL_free_buffers(tls->ssl);
        }
        return QMIG_TLS_DONE;
    }
    what = SSL_get_error(tls->ssl, result);
    if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE) {
        *events = what == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return transport_is_well(tls, error) ? QMIG_TLS_WAIT : QMIG_TLS_FAILED;
    }
    handshake_error(tls, error);
    ERR_clear_error();
    return QMIG_TLS_FAILED;
}

QmigTlsStep
qmig_tls_handshake_step(QmigTls *tls, short *events, GError **error)
{
    pthread_mutex_lock(&tls->lock);
    QmigTlsStep step = handshake_locked(tls, events, error);
    pthread_mutex_unlock(&tls->lock);
    return step;
}

bool
qmig_tls_handshake(QmigTls *tls, QmigDeadline deadline, const QmigCancel *cancel,
                   GError **error)
{
    for (;;) {
        short events = 0;
        QmigTlsStep step = qmig_tls_handshake_step(tls, &events, error);

        if (step != QMIG_TLS_WAIT) {
            return step == QMIG_TLS_DONE;
        }
        if (!qmig_wait_fd(tls->fd, events, deadline, cancel, error)) {
            g_prefix_error(error, "TLS handshake with %s: ", tls->peer);
            return false;
        }
    }
}

/* ---- data --------------------------------------------------------------------------------- */

/* Why OpenSSL did not do it. Return: AGAIN, 0 at the end, -1. */
static ssize_t
judge(QmigTls *tls, int result, bool reading, short *events, GError **error)
{
    int what = SSL_get_error(tls->ssl, result);
    int number = reading ? tls->read_errno : tls->write_errno;

    if (number != 0) {
        qmig_set_error_errno(error, number, reading ? "read" : "write");
        return -1;
    }
    if (reading && (what == SSL_ERROR_ZERO_RETURN || tls->ended)) {
        return 0;
    }
    if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE) {
        *events = what == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return QMIG_TLS_AGAIN;
    }
    const char *text = alert_text(ERR_GET_REASON(ERR_peek_error()));
    g_autofree char *other = qmig_openssl_error();
    qmig_set_error(error, QMIG_ERROR_TLS, "TLS with %s: %s", tls->peer,
                   text != NULL ? text : other);
    return -1;
}

ssize_t
qmig_tls_read(QmigTls *tls, void *buf, size_t len, short *events, GError **error)
{
    size_t done = 0;
    ssize_t why = 0;

    pthread_mutex_lock(&tls->lock);
    ERR_clear_error();
    /* Until nothing is left in OpenSSL: poll would not tell of that. */
    while (done < len) {
        size_t n = 0;
        int result = SSL_read_ex(tls->ssl, (uint8_t *)buf + done, len - done, &n);

        if (result != 1) {
            /* What was read goes first; the reason will be there again. */
            why = done > 0 ? 0 : judge(tls, result, true, events, error);
            break;
        }
        done += n;
    }
    pthread_mutex_unlock(&tls->lock);
    return done > 0 ? (ssize_t)done : why;
}

ssize_t
qmig_tls_write(QmigTls *tls, const void *buf, size_t len, short *events, GError **error)
{
    size_t done = 0;
    ssize_t why = 0;

    pthread_mutex_lock(&tls->lock);
    ERR_clear_error();
    while (done < len) {
        size_t n = 0;
        int result = SSL_write_ex(tls->ssl, (const uint8_t *)buf + done, len - done, &n);

        if (result != 1) {
            why = done > 0 ? 0 : judge(tls, result, false, events, error);
            break;
        }
        done += n;
    }
    pthread_mutex_unlock(&tls->lock);
    return done > 0 ? (ssize_t)done : why;
}

uint64_t
qmig_tls_bytes_heard(QmigTls *tls)
{
    pthread_mutex_lock(&tls->lock);
    uint64_t bytes = tls->heard;
    pthread_mutex_unlock(&tls->lock);
    return bytes;
}

bool
qmig_tls_was_resumed(QmigTls *tls)
{
    pthread_mutex_lock(&tls->lock);
    bool resumed = tls->creds->psk_user == NULL && SSL_session_reused(tls->ssl) != 0;
    pthread_mutex_unlock(&tls->lock);
    return resumed;
}

static bool
is_allowed(const char *const *names, const char *const *patterns)
{
    for (size_t i = 0; names[i] != NULL; i++) {
        for (size_t j = 0; patterns[j] != NULL; j++) {
            if (g_pattern_match_simple(patterns[j], names[i])) {
                return true;
            }
        }
    }
    return false;
}

bool
qmig_tls_check_name(QmigTls *tls, const char *const *patterns, GError **error)
{
    g_auto(GStrv) names = NULL;

    pthread_mutex_lock(&tls->lock);
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    names = cert != NULL ? qmig_x509_names(cert) : g_new0(char *, 1);
    pthread_mutex_unlock(&tls->lock);
    if (is_allowed((const char *const *)names, patterns)) {
        return true;
    }
    g_autofree char *text = g_strjoinv(", ", names);
    g_autofree char *wanted = g_strjoinv(", ", (char **)(uintptr_t)patterns);
    return qmig_set_error(error, QMIG_ERROR_TLS,
                          "%s's certificate is for %s, allowed is %s", tls->peer,
                          text[0] != '\0' ? text : "nobody", wanted);
}

bool
qmig_tls_was_closed(QmigTls *tls)
{
    pthread_mutex_lock(&tls->lock);
    bool closed = (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
    pthread_mutex_unlock(&tls->lock);
    return closed;
}

/* Return: it is to be tried again when the socket takes more. */
static bool
say_farewell(QmigTls *tls)
{
    bool again = false;

    pthread_mutex_lock(&tls->lock);
    if (tls->established && tls->write_errno == 0) {
        ERR_clear_error();
        int result = SSL_shutdown(tls->ssl);
        again = result < 0 && SSL_get_error(tls->ssl, result) == SSL_ERROR_WANT_WRITE &&
                tls->write_errno == 0;
        ERR_clear_error();
    }
    pthread_mutex_unlock(&tls->lock);
    return again;
}

void
qmig_tls_close(QmigTls *tls, QmigDeadline deadline, const QmigCancel *cancel)
{
    while (say_farewell(tls) && qmig_wait_fd(tls->fd, POLLOUT, deadline, cancel, NULL)) {
    }
}

char *
qmig_tls_describe(QmigTls *tls)
{
    pthread_mutex_lock(&tls->lock);
    char *text = g_strdup_printf("%s, %s", SSL_get_version(tls->ssl),
                                 SSL_get_cipher_name(tls->ssl));
    pthread_mutex_unlock(&tls->lock);
    return text;
}
