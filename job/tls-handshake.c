/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The beginning of NBD (its doc/proto.md, "fixed newstyle"), as far as TLS is agreed upon:
 *
 *     server: NBDMAGIC IHAVEOPT be16 flags      client: be32 flags
 *     client: IHAVEOPT be32 STARTTLS be32 0     server: reply ACK      then TLS
 *
 * With TLS 1.3 the client has finished before the server looks at its certificate. So only what
 * comes through TLS afterwards proves that either took the other: an option of the client, the
 * server's reply to one.
 */
#include "job/tls-handshake.h"

#include "util/auto.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/socket.h"
#include "util/writer.h"

#include <string.h>

#define NBD_MAGIC "NBDMAGIC"
#define NBD_OPTION_MAGIC "IHAVEOPT"
#define NBD_REPLY_MAGIC UINT64_C(0x0003e889045565a9)

enum {
    NBD_FLAGS = 3, /* fixed newstyle, no zeroes; of server and client alike */
    NBD_OPTION_ABORT = 2,
    NBD_OPTION_STARTTLS = 5,
    NBD_REPLY_ACK = 1,
    GREETING_SIZE = 18,
    OPTION_SIZE = 16,
    REPLY_SIZE = 20,
};

typedef struct {
    QmigDeadline deadline;
    const QmigCancel *cancel;
} Patience;

static bool
read_exactly(int fd, uint8_t *buf, size_t len, const Patience *p, GError **error)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = qmig_socket_read(fd, buf + done, len - done, p->deadline, p->cancel,
                                     error);
        if (n < 0) {
            return false;
        }
        if (n == 0) {
            return qmig_set_error(error, QMIG_ERROR_CLOSED,
                                  "NBD: closed after %zu of %zu "
                                  "bytes",
                                  done, len);
        }
        done += (size_t)n;
    }
    return true;
}

static bool
send_all(int fd, const QmigWriter *w, const Patience *p, GError **error)
{
    return qmig_socket_write_all(fd, w->buf, w->len, p->deadline, p->cancel, error);
}

static bool
not_accepted(GError **error)
{
    return qmig_set_error(
        error, QMIG_ERROR_TLS,
        "it closes the connection after the handshake: it does not accept "
        "the proxy's certificate (another CA, none, or a name that "
        "tls-authz does not allow)");
}

/* Through TLS. Return: false at its end, too. */
static bool
tls_read(QmigTls *tls, int fd, uint8_t *buf, size_t len, const Patience *p,
         GError **error)
{
    for (size_t done = 0; done < len;) {
        short events = 0;
        ssize_t n = qmig_tls_read(tls, buf + done, len - done, &events, error);

        if (n == QMIG_TLS_AGAIN) {
            if (!qmig_wait_fd(fd, events, p->deadline, p->cancel, error)) {
                return false;
            }
        } else if (n < 0) {
            return false;
        } else if (n == 0) {
            return not_accepted(error);
        } else {
            done += (size_t)n;
        }
    }
    return true;
}

static bool
put_option(QmigWriter *w, uint32_t option)
{
    return qmig_writer_bytes(w, NBD_OPTION_MAGIC, 8) && qmig_writer_be32(w, option) &&
           qmig_writer_be32(w, 0);
}

/* An option without data. */
static bool
check_option(const uint8_t bytes[static OPTION_SIZE], uint32_t wanted, GError **error)
{
    QmigCursor c = qmig_cursor(bytes, OPTION_SIZE);
    const uint8_t *magic;
    uint32_t option = 0, len = 0;

    return (qmig_cursor_bytes(&c, 8, &magic) && memcmp(magic, NBD_OPTION_MAGIC, 8) == 0 &&
            qmig_cursor_be32(&c, &option) && qmig_cursor_be32(&c, &len) &&
            option == wanted && len == 0) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "NBD: option %u with %u bytes, wanted %u with 0", option, len,
                          wanted);
}

static bool
check_reply(const uint8_t bytes[static REPLY_SIZE], uint32_t option, GError **error)
{
    QmigCursor c = qmig_cursor(bytes, REPLY_SIZE);
    uint64_t magic = 0;
    uint32_t to = 0, type = 0, len = 0;

    return (qmig_cursor_be64(&c, &magic) && magic == NBD_REPLY_MAGIC &&
            qmig_cursor_be32(&c, &to) && to == option && qmig_cursor_be32(&c, &type) &&
            qmig_cursor_be32(&c, &len) && type == NBD_REPLY_ACK) ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "NBD: reply 0x%x to option %u, wanted %u to %u", type, to,
                          NBD_REPLY_ACK, option);
}

/* ---- server ------------------------------------------------------------------------------- */

static bool
greet_client(int fd, const Patience *p, GError **error)
{
    uint8_t out[REPLY_SIZE + GREETING_SIZE], in[4 + OPTION_SIZE];
    QmigWriter hello = qmig_writer(out, sizeof out);
    QmigWriter reply;

    bool fits = qmig_writer_bytes(&hello, NBD_MAGIC NBD_OPTION_MAGIC, 16) &&
                qmig_writer_be16(&hello, NBD_FLAGS);
    g_assert(fits);
    if (!send_all(fd, &hello, p, error) || !read_exactly(fd, in, sizeof in, p, error) ||
        !check_option(in + 4, NBD_OPTION_STARTTLS, error)) {
        return false;
    }
    reply = qmig_writer(out, sizeof out);
    fits = qmig_writer_be64(&reply, NBD_REPLY_MAGIC) &&
           qmig_writer_be32(&reply, NBD_OPTION_STARTTLS) &&
           qmig_writer_be32(&reply, NBD_REPLY_ACK) && qmig_writer_be32(&reply, 0);
    g_assert(fits);
    return send_all(fd, &reply, p, error);
}

bool
qmig_handshake_serve(int listener, const QmigTlsCreds *creds, QmigDeadline deadline,
                     const QmigCancel *cancel, GError **error)
{
    Patience p = { deadline, cancel };
    g_auto(QmigFd) fd = qmig_socket_accept(listener, deadline, cancel, error);
    g_autoptr(QmigTls) tls = NULL;
    uint8_t option[OPTION_SIZE];

    if (fd < 0 || !greet_client(fd, &p, error)) {
        return false;
    }
    tls = qmig_tls_new(creds, fd, NULL, "the source");
    qmig_tls_be_gentle(tls);
    return qmig_tls_handshake(tls, deadline, cancel, error) &&
           tls_read(tls, fd, option, sizeof option, &p, error) &&
           qmig_tls_judge(tls, error);
}

/* ---- client ------------------------------------------------------------------------------- */

static bool
greet_server(int fd, const Patience *p, GError **error)
{
    uint8_t in[REPLY_SIZE], out[4 + OPTION_SIZE];
    QmigWriter w = qmig_writer(out, sizeof out);

    if (!read_exactly(fd, in, GREETING_SIZE, p, error)) {
        return false;
    }
    if (memcmp(in, NBD_MAGIC NBD_OPTION_MAGIC, 16) != 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "NBD: another greeting");
    }
    bool fits = qmig_writer_be32(&w, NBD_FLAGS) && put_option(&w, NBD_OPTION_STARTTLS);
    g_assert(fits);
    return send_all(fd, &w, p, error) && read_exactly(fd, in, REPLY_SIZE, p, error) &&
           check_reply(in, NBD_OPTION_STARTTLS, error);
}

/* Something to answer: only who is taken gets a reply. */
static bool
ask_through(QmigTls *tls, int fd, const Patience *p, GError **error)
{
    uint8_t out[OPTION_SIZE], reply[REPLY_SIZE];
    QmigWriter w = qmig_writer(out, sizeof out);
    short events = 0;

    bool fits = put_option(&w, NBD_OPTION_ABORT);
    g_assert(fits);
    /* One record into an empty socket: it goes at once. */
    if (qmig_tls_write(tls, w.buf, w.len, &events, error) != (ssize_t)w.len) {
        return *error != NULL
                   ? false
                   : qmig_set_error(error, QMIG_ERROR_IO, "the socket is full");
    }
    return tls_read(tls, fd, reply, sizeof reply, p, error) &&
           check_reply(reply, NBD_OPTION_ABORT, error);
}

bool
qmig_handshake_ask(const QmigAddress *address, const QmigTlsCreds *creds,
                   const char *host, QmigDeadline deadline, const QmigCancel *cancel,
                   GError **error)
{
    Patience p = { deadline, cancel };
    g_auto(QmigFd) fd = qmig_socket_connect(address, deadline, cancel, error);
    g_autoptr(QmigTls) tls = NULL;
    GError *local = NULL;

    if (fd < 0 || !greet_server(fd, &p, error)) {
        return false;
    }
    tls = qmig_tls_new(creds, fd, host, "the destination");
    if (!qmig_tls_handshake(tls, deadline, cancel, error)) {
        return false;
    }
    if (ask_through(tls, fd, &p, &local)) {
        return true;
    }
    /* A reset after the handshake is the same as an end. */
    if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        g_error_free(local);
        return not_accepted(error);
    }
    g_propagate_error(error, local);
    return false;
}
