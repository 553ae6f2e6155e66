/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tunnel's door: who is let in, who is not, what is said of it, and what it costs. */
#include "proxy/link/gate.h"
#include "proxy/link/hello.h"
#include "proxy/link/refusals.h"
#include "tests/lib/pki.h"
#include "util/error.h"
#include "util/socket.h"

#include <arpa/inet.h>
#include <glib-unix.h>
#include <malloc.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>

enum { PATIENCE_MS = 20000 };

static TestPki pki;

typedef struct {
    QmigAddress *address;
    QmigFd listener;
    QmigGate *gate;
    const char *dir; /* (nullable) of the gate's credentials */
    GMutex lock;     /* guards what follows */
    GCond changed;
    GString *log;
    unsigned n_lines, n_admitted;
    bool is_deaf;       /* the log takes nothing */
    bool refuses;       /* admit() says no */
    QmigFrameHead head; /* of the last one admitted */
    uint8_t first_byte; /* of its payload */
    char *described;
} Door;

/* ---- the door's side ---------------------------------------------------------------------- */

static bool
admit(void *data, QmigWire *wire, const QmigFrameHead *head, const void *payload,
      QmigDeadline deadline, GError **error)
{
    Door *door = data;
    QmigFrameHead answer = { .type = QMIG_FRAME_WELCOME };

    g_assert_cmpint(deadline, >, qmig_now_us());
    g_mutex_lock(&door->lock);
    bool ok = !door->refuses;
    door->n_admitted += ok ? 1 : 0;
    door->head = *head;
    door->first_byte = head->length > 0 ? *(const uint8_t *)payload : 0;
    g_free(door->described);
    door->described = qmig_wire_describe(wire);
    g_cond_broadcast(&door->changed);
    g_mutex_unlock(&door->lock);
    ok = ok ? qmig_wire_write(wire, &answer, NULL, PATIENCE_MS, NULL, error)
            : qmig_set_error(error, QMIG_ERROR_STATE, "no more today");
    qmig_wire_free(wire);
    return ok;
}

static bool
take_line(void *data, const char *line)
{
    Door *door = data;

    g_mutex_lock(&door->lock);
    bool takes = !door->is_deaf;
    if (takes) {
        g_string_append_printf(door->log, "%s\n", line);
        door->n_lines++;
        g_cond_broadcast(&door->changed);
    }
    g_mutex_unlock(&door->lock);
    return takes;
}

static QmigTlsCreds *
creds_of(const char *dir, QmigPkiKind end)
{
    QmigTlsCreds *creds = test_pki_creds(dir, end);

    qmig_tls_creds_for_tunnel(creds);
    return creds;
}

static void
open_door(Door *door, const char *dir, uint32_t deadline_ms, const char *const *names)
{
    g_autoptr(QmigAddress) any = qmig_address_new_tcp("127.0.0.1", 0);
    g_autoptr(QmigTlsCreds) tls = dir != NULL ? creds_of(dir, QMIG_PKI_SERVER) : NULL;
    g_autoptr(GError) error = NULL;
    QmigGateConfig config = {
        .tls = tls,
        .names = names,
        .deadline_ms = deadline_ms,
        .admit = admit,
        .log = take_line,
        .data = door,
    };

    door->dir = dir;
    door->listener = config.listener = qmig_socket_listen(any, 1024, &door->address,
                                                          &error);
    g_assert_no_error(error);
    door->log = g_string_new(NULL);
    door->gate = qmig_gate_new(&config);
}

static void
set_up(Door *door, const void *unused)
{
    (void)unused;
    g_mutex_init(&door->lock);
    g_cond_init(&door->changed);
}

static void
close_door(Door *door)
{
    g_clear_pointer(&door->gate, qmig_gate_free);
}

static void
tear_down(Door *door, const void *unused)
{
    (void)unused;
    close_door(door);
    qmig_fd_clear(&door->listener);
    qmig_address_free(door->address);
    g_string_free(door->log, TRUE);
    g_free(door->described);
    g_mutex_clear(&door->lock);
    g_cond_clear(&door->changed);
}

/* Until the log has that many lines; the last one has those words. */
static void
expect_lines(Door *door, unsigned n, const char *words)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_MS * 1000;

    g_mutex_lock(&door->lock);
    while (door->n_lines < n) {
        if (!g_cond_wait_until(&door->changed, &door->lock, end)) {
            g_error("%u lines, wanted %u:\n%s", door->n_lines, n, door->log->str);
        }
    }
    if (strstr(door->log->str, words) == NULL || door->n_lines != n) {
        g_error("wanted \"%s\" in the last of %u lines:\n%s", words, n, door->log->str);
    }
    g_mutex_unlock(&door->lock);
}

static void
expect_admitted(Door *door, unsigned n)
{
    int64_t end = g_get_monotonic_time() + PATIENCE_MS * 1000;

    g_mutex_lock(&door->lock);
    while (door->n_admitted < n) {
        if (!g_cond_wait_until(&door->changed, &door->lock, end)) {
            g_error("%u admitted, wanted %u; refused:\n%s", door->n_admitted, n,
                    door->log->str);
        }
    }
    g_assert_cmpuint(door->n_admitted, ==, n);
    g_mutex_unlock(&door->lock);
}

/* ---- visitors ----------------------------------------------------------------------------- */

/* From 127.0.0.@from: each is an address of its own to the door. */
static int
come_from(Door *door, unsigned from)
{
    struct sockaddr_in here = { .sin_family = AF_INET }, there;
    socklen_t size = sizeof there;
    g_autofree char *text = g_strdup_printf("127.0.0.%u", from);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, text, &here.sin_addr);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&here, sizeof here), ==, 0);
    g_assert_cmpint(getsockname(door->listener, (struct sockaddr *)&there, &size), ==, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&there, sizeof there), ==, 0);
    return fd;
}

static void
say(int fd, const void *data, size_t len)
{
    /* It may have been shown the door meanwhile. */
    (void)!send(fd, data, len, MSG_NOSIGNAL);
}

/* The door closes the connection, and says nothing before. */
static void
expect_shut(int fd)
{
    char buffer[4096];
    ssize_t n;

    do {
        n = recv(fd, buffer, sizeof buffer, 0);
        /* An alert, at most. */
        g_assert_true(n <= 0 || buffer[0] == 0x15 || buffer[0] == 0x16);
    } while (n > 0);
    close(fd);
}

static size_t
frame(uint8_t *out, uint8_t type, size_t payload)
{
    QmigFrameHead head = { .type = type,
                           .length = (uint32_t)payload,
                           .plain_length = (uint32_t)payload };

    memset(out + QMIG_FRAME_HEAD, 0x5a, payload);
    qmig_frame_seal(&head, out + QMIG_FRAME_HEAD, out);
    return QMIG_FRAME_HEAD + payload;
}

/* Come in the proper way. Return: false with @error where TLS does not stand. */
static bool
come_in(Door *door, QmigTlsCreds *creds, unsigned from, bool *resumed, GError **error)
{
    uint8_t bytes[QMIG_FRAME_HEAD + QMIG_FRAME_HELLO_MAX];
    QmigFrameHead head = { .type = QMIG_FRAME_HELLO,
                           .length = QMIG_FRAME_HELLO_MAX,
                           .plain_length = QMIG_FRAME_HELLO_MAX };
    g_autoptr(QmigBuf) payload = NULL;
    g_autoptr(QmigWire) wire = NULL;
    g_auto(QmigFd) fd = come_from(door, from);
    QmigTls *tls = NULL;

    (void)frame(bytes, QMIG_FRAME_HELLO, QMIG_FRAME_HELLO_MAX);
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    if (creds != NULL) {
        tls = qmig_tls_new(creds, fd, NULL, "the door");
        if (!qmig_tls_handshake(tls, qmig_deadline_in_ms(PATIENCE_MS), NULL, error)) {
            qmig_tls_free(tls);
            return false;
        }
        if (resumed != NULL) {
            *resumed = qmig_tls_was_resumed(tls);
        }
    }
    wire = qmig_wire_new(qmig_fd_steal(&fd), tls, "the door");
    return qmig_wire_write(wire, &head, bytes + QMIG_FRAME_HEAD, PATIENCE_MS, NULL,
                           error) &&
           qmig_wire_read(wire, PATIENCE_MS, NULL, &head, &payload, error) &&
           head.type == QMIG_FRAME_WELCOME;
}

static void
expect_in(Door *door, const char *dir, unsigned from)
{
    g_autoptr(QmigTlsCreds) creds = dir != NULL ? creds_of(dir, QMIG_PKI_CLIENT) : NULL;
    g_autoptr(GError) error = NULL;
    bool ok = come_in(door, creds, from, NULL, &error);

    g_assert_no_error(error);
    g_assert_true(ok);
}

static void
expect_out(Door *door, const char *dir)
{
    g_autoptr(QmigTlsCreds) creds = creds_of(dir, QMIG_PKI_CLIENT);
    g_autoptr(GError) error = NULL;

    g_assert_false(come_in(door, creds, 1, NULL, &error));
    g_assert_nonnull(error);
}

/* ---- in the clear ------------------------------------------------------------------------- */

static void
test_the_right_one_is_admitted(Door *door, const void *unused)
{
    (void)unused;
    open_door(door, NULL, 0, NULL);
    expect_in(door, NULL, 1);
    expect_admitted(door, 1);
    g_assert_cmpuint(door->head.type, ==, QMIG_FRAME_HELLO);
    g_assert_cmpuint(door->head.length, ==, QMIG_FRAME_HELLO_MAX);
    g_assert_cmpuint(door->first_byte, ==, 0x5a);
    g_assert_cmpstr(door->described, ==, "none");
    close_door(door);
    g_assert_cmpuint(door->n_lines, ==, 0);
}

static void
test_garbage_is_refused(Door *door, const void *unused)
{
    static const char *const words[] = {
        "GET / HTTP/1.1\r\nHost: tunnel.example\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2 and some more of its own\r\n"
    };

    (void)unused;
    open_door(door, NULL, 0, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        int fd = come_from(door, 1);
        say(fd, words[i], strlen(words[i]));
        expect_shut(fd);
        expect_lines(door, i + 1, ": protocol: no frame of the tunnel: type ");
    }
    g_assert_true(g_str_has_prefix(door->log->str, "refused 127.0.0.1:"));
}

/* Each head in itself is well-formed, or nearly. */
static void
test_other_frames_are_refused(Door *door, const void *unused)
{
    static const struct {
        QmigFrameHead head;
        const char *words;
    } frames[] = {
        { { .type = QMIG_FRAME_HELLO, .length = 513, .plain_length = 513 }, ": limit: " },
        { { .type = QMIG_FRAME_HELLO, .length = UINT32_MAX, .plain_length = UINT32_MAX },
          ": limit: " },
        { { .type = QMIG_FRAME_DATA,
            .stream = 1,
            .length = 512 << 10,
            .plain_length = 512 << 10 },
          "begins with a frame of type 17, wanted HELLO (1) or RESUME (3)" },
        { { .type = QMIG_FRAME_WELCOME }, "begins with a frame of type 2" },
        { { .type = QMIG_FRAME_PING, .length = 8, .plain_length = 8 },
          "begins with a frame of type 9" },
        { { .type = QMIG_FRAME_HELLO, .length = 8, .plain_length = 8 },
          "was damaged on its way" },
    };

    (void)unused;
    open_door(door, NULL, 0, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(frames); i++) {
        QmigFrameHead head = frames[i].head;
        uint8_t bytes[QMIG_FRAME_HEAD + 8] = { 0 };
        uint8_t *payload = g_malloc0((gsize)MIN(head.length, 1 << 20));
        int fd = come_from(door, 1);

        head.length = MIN(head.length, 1 << 20);
        qmig_frame_seal(&head, payload, bytes);
        if (frames[i].head.length > head.length) {
            memset(bytes + 4, 0xff, 8); /* both lengths; the sum is not reached */
        }
        bytes[QMIG_FRAME_HEAD] = 1; /* damaged, where there is a payload */
        say(fd, bytes, sizeof bytes);
        expect_shut(fd);
        expect_lines(door, i + 1, frames[i].words);
        g_free(payload);
    }
    g_assert_cmpuint(door->n_admitted, ==, 0);
}

static void
test_slow_ones_are_refused(Door *door, const void *unused)
{
    uint8_t bytes[QMIG_FRAME_HEAD + QMIG_FRAME_HELLO_MAX];
    size_t len = frame(bytes, QMIG_FRAME_HELLO, 400);
    int64_t since = g_get_monotonic_time();

    (void)unused;
    open_door(door, NULL, 400, NULL);
    int silent = come_from(door, 1), slow = come_from(door, 1);
    for (size_t i = 0; i < len && g_get_monotonic_time() - since < 600000; i++) {
        say(slow, bytes + i, 1);
        g_usleep(5000);
    }
    expect_shut(slow);
    expect_shut(silent);
    expect_lines(door, 2, ": timeout: its first frame is not here within 4");
    g_assert_cmpint(g_get_monotonic_time() - since, <, 5000000);
    g_assert_cmpuint(door->n_admitted, ==, 0);
}

static void
test_who_goes_again_is_logged(Door *door, const void *unused)
{
    (void)unused;
    open_door(door, NULL, 0, NULL);
    close(come_from(door, 1));
    expect_lines(door, 1, ": closed: it closed the connection without a word");
    int fd = come_from(door, 1);
    say(fd, "\1\0", 2);
    close(fd);
    expect_lines(door, 2, ": closed: it closed the connection within its first frame");
}

static void
test_refused_by_the_far_end_is_logged(Door *door, const void *unused)
{
    g_autoptr(GError) error = NULL;

    (void)unused;
    door->refuses = true;
    open_door(door, NULL, 0, NULL);
    g_assert_false(come_in(door, NULL, 1, NULL, &error));
    expect_lines(door, 1, ": state: no more today");
    static const char wanted[] = "{\"at_the_door\":0,\"admitted\":0,\"refused\":1,"
                                 "\"refused_by\":{\"state\":1}}";
    g_autofree char *told = NULL;
    /* Who is at the door is counted anew with the gate's next round. */
    for (int i = 0; i < 100 && g_strcmp0(told, wanted) != 0; i++) {
        g_autoptr(JsonObject) stats = qmig_gate_describe(door->gate);
        g_free(told);
        told = g_strdup(json_object_to_json_string_ext(stats, JSON_C_TO_STRING_PLAIN));
        g_usleep(20000);
    }
    g_assert_cmpstr(told, ==, wanted);
}

/* ---- TLS ---------------------------------------------------------------------------------- */

static void
test_certificates(Door *door, const void *unused)
{
    (void)unused;
    open_door(door, pki.good, 0, NULL);
    expect_in(door, pki.good, 1);
    expect_admitted(door, 1);
    g_assert_true(g_str_has_prefix(door->described, "TLSv1.3"));
    expect_out(door, pki.other);
    expect_lines(door, 1, ": tls: TLS handshake with the peer: it does not know the CA");
    expect_out(door, pki.bare);
    expect_lines(door, 2, ": tls: the peer shows no certificate");
    expect_out(door, pki.psk);
    expect_lines(door, 3, ": tls: ");
    expect_in(door, pki.good, 1);
    expect_admitted(door, 2);
}

static void
test_pre_shared_keys(Door *door, const void *unused)
{
    (void)unused;
    open_door(door, pki.psk, 0, NULL);
    expect_in(door, pki.psk, 1);
    expect_admitted(door, 1);
    g_assert_true(g_str_has_prefix(door->described, "TLSv1.3"));
    expect_out(door, pki.psk_other);
    expect_lines(door, 1, ": tls: ");
    expect_out(door, pki.good);
    expect_lines(door, 2, ": tls: ");
    g_assert_cmpuint(door->n_admitted, ==, 1);
}

static void
test_names(Door *door, const void *unused)
{
    static const char *const wrong[] = { "*.example.org", "near", NULL };
    static const char *const right[] = { "nobody", "*.exam?le", NULL };
    Door second = { 0 };

    (void)unused;
    open_door(door, pki.good, 0, wrong);
    /* TLS itself stood before the name was looked at. */
    g_autoptr(QmigTlsCreds) creds = creds_of(pki.good, QMIG_PKI_CLIENT);
    g_autoptr(GError) error = NULL;
    g_assert_false(come_in(door, creds, 1, NULL, &error));
    expect_lines(door, 1,
                 ": tls: the peer's certificate is for b.example, allowed is "
                 "*.example.org, near");
    g_assert_cmpuint(door->n_admitted, ==, 0);
    set_up(&second, NULL);
    open_door(&second, pki.good, 0, right);
    expect_in(&second, pki.good, 1);
    expect_admitted(&second, 1);
    tear_down(&second, NULL);
}

static void
test_sessions_are_resumed(Door *door, const void *unused)
{
    g_autoptr(QmigTlsCreds) creds = creds_of(pki.good, QMIG_PKI_CLIENT);
    g_autoptr(QmigTlsCreds) fresh = creds_of(pki.good, QMIG_PKI_SERVER);
    static const char *const names[] = { "b.example", NULL };
    g_autoptr(GError) error = NULL;
    bool resumed = true;

    (void)unused;
    open_door(door, pki.good, 0, names);
    for (int i = 0; i < 3; i++) {
        bool ok = come_in(door, creds, 1, &resumed, &error);
        g_assert_no_error(error);
        g_assert_true(ok);
        g_assert_true(resumed == (i > 0));
    }
    /* Read again, the certificates are asked for again. */
    qmig_gate_set_tls(door->gate, fresh);
    bool ok = come_in(door, creds, 1, &resumed, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    g_assert_false(resumed);
    expect_admitted(door, 4);
    close_door(door);
    g_assert_cmpuint(door->n_lines, ==, 0);
}

/* Half a handshake, byte by byte, then silence, garbage, or the end. */
static void
test_half_handshakes_are_refused(Door *door, const void *unused)
{
    static const uint8_t hello[] = { 0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3 };
    static const uint8_t huge[] = { 0x16, 3, 1, 0xff, 0xff };
    static const uint8_t alert[] = { 0x15, 3, 3, 0, 2, 2, 40 };

    (void)unused;
    open_door(door, pki.good, 400, NULL);
    int fd = come_from(door, 1);
    say(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    expect_shut(fd);
    expect_lines(door, 1, "it does not speak TLS");
    fd = come_from(door, 1);
    say(fd, huge, sizeof huge);
    expect_shut(fd);
    expect_lines(door, 2, ": tls: ");
    fd = come_from(door, 1);
    say(fd, alert, sizeof alert);
    expect_shut(fd);
    expect_lines(door, 3, ": tls: ");
    fd = come_from(door, 1);
    for (size_t i = 0; i < sizeof hello; i++) {
        say(fd, hello + i, 1);
        g_usleep(1000);
    }
    expect_shut(fd);
    expect_lines(door, 4, ": timeout: its TLS handshake is not done within 4");
    fd = come_from(door, 1);
    say(fd, hello, sizeof hello);
    close(fd);
    expect_lines(door, 5, "the peer: it closed the connection");
    close(come_from(door, 1));
    expect_lines(door, 6, ": closed: TLS handshake with the peer");
    expect_in(door, pki.good, 1);
}

static void
test_older_tls_is_refused(Door *door, const void *unused)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);

    (void)unused;
    open_door(door, pki.good, 0, NULL);
    int fd = come_from(door, 1);
    SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    SSL_set_fd(ssl, fd);
    g_assert_cmpint(SSL_connect(ssl), !=, 1);
    expect_lines(door, 1, ": tls: ");
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
}

/* ---- many --------------------------------------------------------------------------------- */

/* Sixty hang from four addresses; from one of these comes the right one, and from elsewhere. */
static void
test_a_crowd_does_not_keep_the_right_one_out(Door *door, const void *unused)
{
    int fds[60], more[3];
    int64_t since;

    (void)unused;
    open_door(door, pki.good, 60000, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = come_from(door, 2 + i % 4);
        say(fds[i], "\x16\3\1\0", i % 5);
    }
    since = g_get_monotonic_time();
    expect_in(door, pki.good, 1);
    expect_in(door, pki.good, 2);
    g_assert_cmpint(g_get_monotonic_time() - since, <, 2000000);
    expect_admitted(door, 2);
    g_assert_cmpuint(door->n_lines, ==, 0);
    /* One address has no more than its places, */
    for (unsigned i = 0; i < G_N_ELEMENTS(more); i++) {
        more[i] = come_from(door, 2);
    }
    expect_lines(door, 2, "16 others from 127.0.0.2 are at the door, limit 16");
    /* until some have had time enough. */
    g_usleep((QMIG_GATE_GRACE_MS + 200) * 1000);
    for (unsigned i = 0; i < 12; i++) {
        expect_in(door, pki.good, 2);
    }
    g_assert_nonnull(strstr(door->log->str, ": limit: its place was wanted, after 1"));
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        close(fds[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(more); i++) {
        close(more[i]);
    }
}

static uint64_t
heap_in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* Lines and counts together are all that came. */
static void
test_each_refusal_is_counted(Door *door, const void *unused)
{
    enum { N = 700 };
    uint64_t counted = 0, before;

    (void)unused;
    open_door(door, pki.good, 2000, NULL);
    expect_out(door, pki.other);
    before = heap_in_use();
    for (unsigned i = 1; i < N; i++) {
        int fd = come_from(door, 1 + i % 7);
        say(fd, "\x16\3\1\0\xc8nonsense", i % 13);
        close(fd);
    }
    expect_in(door, pki.good, 9);
    close_door(door);
    g_auto(GStrv) lines = g_strsplit(door->log->str, "\n", 0);
    for (unsigned i = 0; lines[i] != NULL; i++) {
        uint64_t more = 0;
        if (strstr(lines[i], " more in ") != NULL) {
            g_assert_cmpint(sscanf(lines[i], "refused %" G_GUINT64_FORMAT, &more), ==, 1);
            counted += more;
        } else {
            counted += g_str_has_prefix(lines[i], "refused 127.0.0.") ? 1 : 0;
        }
    }
    if (counted != N) {
        g_error("%" G_GUINT64_FORMAT " counted, %d came:\n%s", counted, N,
                door->log->str);
    }
    g_assert_cmpuint(door->n_lines, <, 400);
#ifndef __SANITIZE_ADDRESS__
    g_test_message("heap: %" G_GUINT64_FORMAT " bytes, then %" G_GUINT64_FORMAT, before,
                   heap_in_use());
    g_assert_cmpuint(heap_in_use(), <, before + (4 << 20));
#else
    (void)before;
#endif
}

/* ---- the log ------------------------------------------------------------------------------ */

static void
test_refusals_are_summed_up(Door *door, const void *unused)
{
    g_autoptr(QmigRefusals) refusals = qmig_refusals_new(take_line, door);
    g_autoptr(GError) tls = g_error_new(QMIG_ERROR, QMIG_ERROR_TLS, "no TLS");
    g_autoptr(GError) foreign = g_error_new(G_FILE_ERROR, 3, "odd");
    int64_t now = 5000000;

    (void)unused;
    door->log = g_string_new(NULL);
    door->listener = -1;
    g_assert_cmpint(qmig_refusals_due_us(refusals), ==, INT64_MAX);
    for (unsigned i = 0; i < QMIG_REFUSALS_LINES; i++) {
        qmig_refusals_add(refusals, "a", tls, now);
    }
    g_assert_cmpuint(door->n_lines, ==, QMIG_REFUSALS_LINES);
    g_assert_cmpint(qmig_refusals_due_us(refusals), ==, INT64_MAX);
    qmig_refusals_add(refusals, "b", tls, now + 1);
    qmig_refusals_add(refusals, "c", foreign, now + 2);
    g_assert_cmpuint(door->n_lines, ==, QMIG_REFUSALS_LINES);
    g_assert_cmpint(qmig_refusals_due_us(refusals), ==, now + 1000000);
    qmig_refusals_flush(refusals, false, now + 999999);
    g_assert_cmpuint(door->n_lines, ==, QMIG_REFUSALS_LINES);
    /* What cannot be written stays counted. */
    door->is_deaf = true;
    qmig_refusals_flush(refusals, false, now + 1000000);
    qmig_refusals_add(refusals, "d", tls, now + 1000000);
    door->is_deaf = false;
    qmig_refusals_flush(refusals, false, now + 2000000);
    g_assert_cmpuint(door->n_lines, ==, QMIG_REFUSALS_LINES + 1);
    g_assert_true(g_str_has_suffix(
        door->log->str, "refused 3 more in 1 s: 1 io, 2 tls; the last from d\n"));
    /* A new second has lines again. */
    qmig_refusals_add(refusals, "e", tls, now + 2000001);
    g_assert_true(g_str_has_suffix(door->log->str, "refused e: tls: no TLS\n"));
    g_assert_cmpuint(qmig_refusals_total(refusals), ==, QMIG_REFUSALS_LINES + 4);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(Door *door, const void *unused);
    } tests[] = {
        { "the-right-one-is-admitted", test_the_right_one_is_admitted },
        { "garbage-is-refused", test_garbage_is_refused },
        { "other-frames-are-refused", test_other_frames_are_refused },
        { "slow-ones-are-refused", test_slow_ones_are_refused },
        { "who-goes-again-is-logged", test_who_goes_again_is_logged },
        { "refused-by-the-far-end-is-logged", test_refused_by_the_far_end_is_logged },
        { "certificates", test_certificates },
        { "pre-shared-keys", test_pre_shared_keys },
        { "names", test_names },
        { "sessions-are-resumed", test_sessions_are_resumed },
        { "half-handshakes-are-refused", test_half_handshakes_are_refused },
        { "older-tls-is-refused", test_older_tls_is_refused },
        { "a-crowd-does-not-keep-the-right-one-out",
          test_a_crowd_does_not_keep_the_right_one_out },
        { "each-refusal-is-counted", test_each_refusal_is_counted },
        { "refusals-are-summed-up", test_refusals_are_summed_up },
    };
    int result;

    g_test_init(&argc, &argv, NULL);
    test_pki_make(&pki);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *name = g_strdup_printf("/link/gate/%s", tests[i].name);
        g_test_add(name, Door, NULL, set_up, tests[i].run, tear_down);
    }
    result = g_test_run();
    test_pki_remove(&pki);
    return result;
}
