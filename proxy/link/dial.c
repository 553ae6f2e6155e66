/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/dial.h"

#include "util/error.h"
#include "util/socket.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
    /* One attempt of a reconnection: connect, TLS, answer. */
    ATTEMPT_MS = 4000,
    FIRST_MS = 10000,
    /* Between attempts: at first, at most. */
    PAUSE_MIN_MS = 50,
    PAUSE_MAX_MS = 1000,
    WINDOW = 16 << 20,
    WIRES = 2,
    DEADLINE_MS = 120000,
};

struct QmigDialer {
    const QmigNearConfig *config;
    QmigWelcome agreed;
    QmigLink *link;
    QmigCancel *cancel;
    QmigFd wake_fd;
    GThread *thread;
    guint next; /* which of the addresses to try */
};

/* A connection to @address after TLS, if any. */
static QmigWire *
reach(const QmigNearConfig *config, const QmigAddress *address, QmigDeadline deadline,
      const QmigCancel *cancel, GError **error)
{
    g_autofree char *name = qmig_address_to_string(address);
    g_autoptr(QmigTls) tls = NULL;
    g_auto(QmigFd) fd = qmig_socket_connect(address, deadline, cancel, error);

    if (fd < 0) {
        return NULL;
    }
    if (config->tls != NULL) {
        const char *host = config->tls_hostname;
        if (host == NULL && address->kind == QMIG_ADDRESS_TCP) {
            host = address->host;
        }
        tls = qmig_tls_new(config->tls, fd, host, "the far end");
        if (!qmig_tls_handshake(tls, deadline, cancel, error)) {
            g_prefix_error(error, "%s: ", name);
            return NULL;
        }
    }
    return qmig_wire_new(qmig_fd_steal(&fd), g_steal_pointer(&tls), name);
}

static int
ms_left(QmigDeadline deadline)
{
    return MAX(qmig_deadline_poll_ms(deadline), 1);
}

/* What a refusal means for us. */
static bool
refused(const QmigBuf *payload, GError **error)
{
    char reason[QMIG_LINK_REASON_MAX + 1];
    QmigRefusal code;

    if (!qmig_refused_read(payload != NULL ? payload->data : NULL,
                           payload != NULL ? payload->len : 0, &code, reason, error)) {
        return false;
    }
    return qmig_set_error(error,
                          code == QMIG_REFUSED_FULL || code == QMIG_REFUSED_LEAVING
                              ? QMIG_ERROR_STATE
                              : QMIG_ERROR_UNSUPPORTED,
                          "refused: %s", reason);
}

/* Say @payload, hear WELCOME. */
static bool
greet(QmigWire *wire, QmigFrameType type, const uint8_t *payload, size_t len,
      QmigDeadline deadline, const QmigCancel *cancel, QmigWelcome *welcome,
      GError **error)
{
    QmigFrameHead head = { .type = (uint8_t)type,
                           .length = (uint32_t)len,
                           .plain_length = (uint32_t)len };
    g_autoptr(QmigBuf) answer = NULL;
    bool ok = qmig_wire_write(wire, &head, payload, (uint32_t)ms_left(deadline), cancel,
                              error) &&
              qmig_wire_read(wire, (uint32_t)ms_left(deadline), cancel, &head, &answer,
                             error);

    if (ok && head.type == QMIG_FRAME_REFUSED) {
        ok = refused(answer, error);
    } else if (ok && head.type != QMIG_FRAME_WELCOME) {
        ok = qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                            "answered with a frame of type %u, wanted WELCOME",
                            head.type);
    } else if (ok) {
        ok = qmig_welcome_read(answer != NULL ? answer->data : NULL,
                               answer != NULL ? answer->len : 0, welcome, error);
    }
    if (!ok) {
        g_prefix_error(error, "%s: ", qmig_wire_peer(wire));
    }
    return ok;
}

static QmigWire *
say_hello(const QmigNearConfig *config, const QmigAddress *address, QmigDeadline deadline,
          const QmigCancel *cancel, QmigWelcome *agreed, GError **error)
{
    g_autoptr(QmigWire) wire = reach(config, address, deadline, cancel, error);
    QmigHello hello = {
        .version_min = QMIG_LINK_VERSION_MIN,
        .version_max = QMIG_LINK_VERSION_MAX,
        .n_wires = (uint16_t)(config->n_wires > 0 ? config->n_wires : WIRES),
        .window = WINDOW,
        .cache_size = config->cache_size,
        .deadline_ms = config->deadline_ms > 0 ? config->deadline_ms : DEADLINE_MS,
    };
    uint8_t payload[512];

    if (wire == NULL) {
        return NULL;
    }
    g_strlcpy(hello.name, config->name, sizeof hello.name);
    size_t len = qmig_hello_write(&hello, payload);
    if (!greet(wire, QMIG_FRAME_HELLO, payload, len, deadline, cancel, agreed, error)) {
        return NULL;
    }
    if (agreed->version < QMIG_LINK_VERSION_MIN ||
        agreed->version > QMIG_LINK_VERSION_MAX) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "%s: it chose version %u of the tunnel, offered were %d to %d",
                       qmig_wire_peer(wire), agreed->version, QMIG_LINK_VERSION_MIN,
                       QMIG_LINK_VERSION_MAX);
        return NULL;
    }
    if (agreed->n_wires > hello.n_wires || agreed->window > hello.window ||
        agreed->cache_size > hello.cache_size) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                       "%s: it grants more than was asked for", qmig_wire_peer(wire));
        return NULL;
    }
    return g_steal_pointer(&wire);
}

QmigWire *
qmig_dial_first(const QmigNearConfig *config, const QmigCancel *cancel,
                QmigWelcome *agreed, GError **error)
{
    uint32_t ms = config->connect_timeout_ms > 0 ? config->connect_timeout_ms : FIRST_MS;

    for (const QmigAddress *const *a = config->far; *a != NULL; a++) {
        g_autoptr(GError) local = NULL;
        QmigWire *wire = say_hello(config, *a, qmig_deadline_in_ms(ms), cancel, agreed,
                                   &local);
        if (wire != NULL) {
            return wire;
        }
        if (a[1] == NULL || qmig_cancel_is_raised(cancel)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
    }
    qmig_set_error(error, QMIG_ERROR_CONFIG, "no address of the far end");
    return NULL;
}

/* ---- again -------------------------------------------------------------------------------- */

static bool
dial_again(QmigDialer *d, unsigned index, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(ATTEMPT_MS);
    const QmigAddress *address = d->config->far[d->next];
    g_autoptr(QmigWire) wire = reach(d->config, address, deadline, d->cancel, error);
    QmigResume resume = { .wire = (uint16_t)index };
    QmigWelcome welcome;
    uint8_t payload[512];

    if (wire == NULL) {
        return false;
    }
    memcpy(resume.id, d->agreed.id, sizeof resume.id);
    memcpy(resume.secret, d->agreed.secret, sizeof resume.secret);
    size_t len = qmig_resume_write(&resume, payload);
    if (!greet(wire, QMIG_FRAME_RESUME, payload, len, deadline, d->cancel, &welcome,
               error)) {
        return false;
    }
    qmig_link_attach(d->link, g_steal_pointer(&wire), index);
    return true;
}

static void
try_next_address(QmigDialer *d)
{
    d->next++;
    if (d->config->far[d->next] == NULL) {
        d->next = 0;
    }
}

/* Return: milliseconds until the next look; -1: when something changes. */
static int
make_missing(QmigDialer *d, int pause_ms)
{
    g_autoptr(GError) error = NULL;
    QmigLinkState state = qmig_link_state(d->link);
    int index = qmig_link_missing_wire(d->link);

    if (index < 0 || state == QMIG_LINK_CLOSED || state == QMIG_LINK_FAILED) {
        return -1;
    }
    if (dial_again(d, (unsigned)index, &error)) {
        return 0;
    }
    if (g_error_matches(error, QMIG_ERROR, QMIG_ERROR_UNSUPPORTED)) {
        /* It does not know the session: nothing will bring it back. */
        qmig_link_fail(d->link, g_steal_pointer(&error));
        return -1;
    }
    g_debug("connection %d: %s", index, error->message);
    try_next_address(d);
    return CLAMP(pause_ms * 2, PAUSE_MIN_MS, PAUSE_MAX_MS);
}

static void *
dialer_thread(void *data)
{
    QmigDialer *d = data;
    int pause_ms = 0;
    eventfd_t ignored;

    while (!qmig_cancel_is_raised(d->cancel)) {
        pause_ms = make_missing(d, pause_ms);
        if (pause_ms > 0) {
            /* Not to be cut short: changes are many when it is dark. */
            (void)!qmig_wait_fd(qmig_cancel_fd(d->cancel), POLLIN,
                                qmig_deadline_in_ms(pause_ms), NULL, NULL);
        } else if (pause_ms < 0) {
            (void)!qmig_wait_fd(d->wake_fd, POLLIN, QMIG_DEADLINE_NEVER, d->cancel, NULL);
            (void)!eventfd_read(d->wake_fd, &ignored);
            pause_ms = 0;
        }
    }
    return NULL;
}

QmigDialer *
qmig_dialer_new(const QmigNearConfig *config, const QmigWelcome *agreed)
{
    QmigDialer *d = g_new0(QmigDialer, 1);

    d->config = config;
    d->agreed = *agreed;
    d->cancel = qmig_cancel_new();
    d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return d;
}

void
qmig_dialer_start(QmigDialer *d, QmigLink *link)
{
    d->link = link;
    d->thread = g_thread_new("qmig-dialer", dialer_thread, d);
}

void
qmig_dialer_wake(QmigDialer *d)
{
    (void)!eventfd_write(d->wake_fd, 1);
}

void
qmig_dialer_stop(QmigDialer *d)
{
    qmig_cancel_raise(d->cancel);
    g_clear_pointer(&d->thread, g_thread_join);
}

void
qmig_dialer_free(QmigDialer *d)
{
    qmig_dialer_stop(d);
    qmig_cancel_free(d->cancel);
    qmig_fd_clear(&d->wake_fd);
    g_free(d);
}
