/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection, one reader: bytes go through the framer, and each object is a greeting, an
 * event (queued) or a reply (matched by id). The reply to a command whose caller has given up
 * is recognised by its id and dropped.
 */
#include "qmp/client.h"

#include "qmp/framer.h"
#include "util/error.h"
#include "util/socket.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

enum {
    DEFAULT_TIMEOUT_MS = 10000,
    /* Events nobody takes: far more than any phase waits through. */
    MAX_EVENTS = 10000,
    /* Reads of 16 KiB in one dispatch: its caller has another side to look after. */
    MAX_DISPATCH_READS = 8,
    /* Bytes kept of an error text; QEMU's own have a few hundred. */
    MAX_ERROR_TEXT = 4096,
    /* Between the ids of two clients, who take theirs at random. */
    ID_SPACE = 1 << 20,
};

struct QmigQmp {
    char *label;
    QmigFd fd;
    QmigQmpFramer *framer;
    GQueue events; /* QmigQmpEvent, oldest first */
    uint64_t n_dropped;
    int64_t first_id; /* of this client: an earlier one had others */
    int64_t next_id;
    bool has_oob;
    unsigned version;
    char *error_class;

    int64_t awaited;   /* id of the reply waited for; -1 = none */
    JsonObject *reply; /* the awaited one, once it came */
    char *where;       /* "source: migrate", which begins every message */
    JsonObject *greeting;

    QmigStandIn stand_in; /* NULL = QEMU answers for itself */
    void *stand_in_data;
    bool pretends_closed;
};

void
qmig_qmp_event_free(QmigQmpEvent *event)
{
    if (event != NULL) {
        g_free(event->name);
        json_object_put(event->data);
        g_free(event);
    }
}

void
qmig_qmp_free(QmigQmp *qmp)
{
    if (qmp == NULL) {
        return;
    }
    qmig_fd_clear(&qmp->fd);
    qmig_qmp_framer_free(qmp->framer);
    g_queue_clear_full(&qmp->events, (GDestroyNotify)qmig_qmp_event_free);
    json_object_put(qmp->reply);
    json_object_put(qmp->greeting);
    g_free(qmp->error_class);
    g_free(qmp->where);
    g_free(qmp->label);
    g_free(qmp);
}

/* @command: the one awaited; NULL = none */
static void
set_where(QmigQmp *qmp, const char *command)
{
    g_free(qmp->where);
    qmp->where = g_strconcat(qmp->label, command != NULL ? ": " : NULL, command, NULL);
}

/*
 * A peer's text as one line, of at most @max bytes and valid UTF-8, whatever the peer put into
 * it: texts end up on terminals, in logs and in JSON. (transfer full)
 */
static char *
one_line(const char *text, size_t max)
{
    g_autofree char *start = g_strndup(text, max);
    g_autofree char *valid = g_utf8_make_valid(start, -1);
    GString *line = g_string_new(NULL);

    for (const char *p = valid; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        /* Of C1 too: a terminal takes U+009B for an escape sequence. */
        g_string_append_unichar(line, g_unichar_iscntrl(c) ? ' ' : c);
    }
    return g_strchomp(g_string_free(line, FALSE));
}

static bool
protocol_error(const QmigQmp *qmp, GError **error, const char *what, JsonObject *object)
{
    g_autofree char *shown = one_line(json_object_to_json_string(object), 200);

    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%s: QMP: %s: %s", qmp->where, what,
                          shown);
}

/* QEMU's wall clock in microseconds; -1 when it could not tell, or tells nonsense. */
static int64_t
read_timestamp(JsonObject *object)
{
    JsonObject *stamp = qmig_json_get(object, "timestamp", json_type_object);
    int64_t seconds = qmig_json_int(stamp, "seconds", -1);
    int64_t micros = qmig_json_int(stamp, "microseconds", 0);
    int64_t total;

    if (seconds < 0 || micros < 0 ||
        __builtin_mul_overflow(seconds, (int64_t)G_USEC_PER_SEC, &total) ||
        __builtin_add_overflow(total, micros, &total)) {
        return -1;
    }
    return total;
}

/* A migration, its storage, or the life of the guest hang on these. */
static bool
is_of_interest(const QmigQmpEvent *event)
{
    static const char *const names[] = {
        "BLOCK_EXPORT_DELETED",
        "BLOCK_IO_ERROR",
        "BLOCK_JOB_CANCELLED",
        "BLOCK_JOB_COMPLETED",
        "BLOCK_JOB_ERROR",
        "BLOCK_JOB_PENDING",
        "BLOCK_JOB_READY",
        "COLO_EXIT",
        "DEVICE_DELETED",
        "GUEST_PANICKED",
        "JOB_STATUS_CHANGE",
        "MIGRATION",
        "RESET",
        "RESUME",
        "SHUTDOWN",
        "STOP",
        "SUSPEND",
        "UNPLUG_PRIMARY",
        "VFIO_MIGRATION",
        NULL,
    };

    return g_strv_contains(names, event->name);
}

/* Make room: the oldest event of no interest goes, or, with none such, the oldest. */
static void
drop_event(QmigQmp *qmp)
{
    GList *link = qmp->events.head;

    while (link != NULL && is_of_interest(link->data)) {
        link = link->next;
    }
    link = link != NULL ? link : qmp->events.head;
    qmig_qmp_event_free(link->data);
    g_queue_delete_link(&qmp->events, link);
    qmp->n_dropped++;
}

static void
queue_event(QmigQmp *qmp, const char *name, JsonObject *object)
{
    QmigQmpEvent *last = g_queue_peek_tail(&qmp->events);
    QmigQmpEvent *event = g_new0(QmigQmpEvent, 1);

    event->name = g_strdup(name);
    event->data = json_object_get(qmig_json_get(object, "data", json_type_object));
    event->qemu_us = read_timestamp(object);
    event->arrival_us = qmig_now_us();
    /* QEMU can send thousands of passes a second; only the newest says anything. */
    if (last != NULL && strcmp(name, "MIGRATION_PASS") == 0 &&
        strcmp(last->name, name) == 0) {
        qmig_qmp_event_free(g_queue_pop_tail(&qmp->events));
    } else if (g_queue_get_length(&qmp->events) >= MAX_EVENTS) {
        drop_event(qmp);
    }
    g_queue_push_tail(&qmp->events, event);
}

static bool
take_reply(QmigQmp *qmp, JsonObject *object, GError **error)
{
    int64_t id = qmig_json_int(object, "id", -1);

    if (!json_object_object_get_ex(object, "return", NULL) &&
        !json_object_object_get_ex(object, "error", NULL)) {
        return protocol_error(qmp, error, "neither greeting, event nor reply", object);
    }
    /* A command QEMU could not even parse is answered without id: it is the awaited one. */
    if (id < 0 && qmp->awaited >= 0 && json_object_object_get_ex(object, "error", NULL)) {
        id = qmp->awaited;
    }
    /* A client that has gone asked on this socket, and QEMU was late. */
    if (id >= 0 && (id < qmp->first_id || id >= qmp->next_id)) {
        g_debug("%s: a reply to somebody else is ignored", qmp->label);
        return true;
    }
    if (id < 0) {
        return protocol_error(qmp, error, "reply without an id", object);
    }
    if (id == qmp->awaited) {
        qmp->reply = json_object_get(object);
        qmp->awaited = -1;
    }
    return true;
}

static bool
take_object(QmigQmp *qmp, JsonObject *object, GError **error)
{
    const char *event = qmig_json_string(object, "event");

    if (event != NULL) {
        queue_event(qmp, event, object);
        return true;
    }
    if (qmp->greeting == NULL && qmig_json_get(object, "QMP", json_type_object) != NULL) {
        qmp->greeting = json_object_get(object);
        return true;
    }
    return take_reply(qmp, object, error);
}

static bool
take_lines(QmigQmp *qmp, GError **error)
{
    for (;;) {
        g_autoptr(JsonObject) object = NULL;

        if (!qmig_qmp_framer_next(qmp->framer, &object, error)) {
            g_prefix_error(error, "%s: ", qmp->where);
            return false;
        }
        if (object == NULL) {
            return true;
        }
        if (!take_object(qmp, object, error)) {
            return false;
        }
    }
}

static bool
tell_closed(const QmigQmp *qmp, GError **error)
{
    return qmig_set_error(error, QMIG_ERROR_CLOSED,
                          "%s: QEMU closed its QMP connection: it has quit or died",
                          qmp->where);
}

/* Read once; waits until @deadline for the first byte. */
static bool
read_some(QmigQmp *qmp, QmigDeadline deadline, const QmigCancel *cancel, GError **error)
{
    char buffer[16384];
    g_autoptr(GError) local = NULL;
    ssize_t n = qmig_socket_read(qmp->fd, buffer, sizeof buffer, deadline, cancel,
                                 &local);

    /* A QEMU that was killed resets the connection when it had not read everything. */
    if (n < 0 && !g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "%s: QMP: ", qmp->where);
        return false;
    }
    if (n <= 0) {
        return tell_closed(qmp, error);
    }
    if (!qmig_qmp_framer_push(qmp->framer, buffer, (size_t)n, error)) {
        g_prefix_error(error, "%s: ", qmp->where);
        return false;
    }
    return take_lines(qmp, error);
}

bool
qmig_qmp_dispatch(QmigQmp *qmp, GError **error)
{
    struct pollfd pollfd = { .fd = qmp->fd, .events = POLLIN };

    if (qmp->pretends_closed) {
        return tell_closed(qmp, error);
    }
    for (int i = 0; i < MAX_DISPATCH_READS && poll(&pollfd, 1, 0) > 0; i++) {
        if (!read_some(qmp, qmig_deadline_in_ms(1000), NULL, error)) {
            return false;
        }
    }
    return true;
}

QmigQmpEvent *
qmig_qmp_take_event(QmigQmp *qmp)
{
    return g_queue_pop_head(&qmp->events);
}

uint64_t
qmig_qmp_n_dropped_events(const QmigQmp *qmp)
{
    return qmp->n_dropped;
}

/* The command's bytes, with @fd riding on the first of them. */
static bool
send_command(QmigQmp *qmp, const char *text, size_t len, int fd, QmigDeadline deadline,
             const QmigCancel *cancel, GError **error)
{
    g_autoptr(GError) local = NULL;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov = { .iov_base = (void *)text, .iov_len = 1 };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = sizeof control };

    if (fd > 0) {
        struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
        if (!qmig_wait_fd(qmp->fd, POLLOUT, deadline, cancel, error)) {
            g_prefix_error(error, "%s: not sent: ", qmp->where);
            return false;
        }
        if (sendmsg(qmp->fd, &msg, MSG_NOSIGNAL) != 1) {
            return qmig_set_error_errno(error, errno, "%s: sending a descriptor",
                                        qmp->where);
        }
        text++;
        len--;
    }
    if (qmig_socket_write_all(qmp->fd, text, len, deadline, cancel, &local)) {
        return true;
    }
    /* QEMU may have half of it: what is sent later must not complete it. */
    shutdown(qmp->fd, SHUT_WR);
    if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_CLOSED)) {
        return tell_closed(qmp, error);
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&local),
                               "%s: sending: ", qmp->where);
    return false;
}

/* Read until the reply to @id is there. */
static bool
await_reply(QmigQmp *qmp, const char *command, QmigDeadline deadline,
            const QmigCancel *cancel, GError **error)
{
    while (qmp->reply == NULL) {
        g_autoptr(GError) local = NULL;

        /* Events without end must not carry us past the deadline. */
        if (qmig_now_us() >= deadline) {
            qmig_set_error(&local, QMIG_ERROR_TIMEOUT, "the deadline has passed");
        } else if (read_some(qmp, deadline, cancel, &local)) {
            continue;
        }
        qmp->awaited = -1;
        if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT)) {
            return qmig_set_error(
                error, QMIG_ERROR_TIMEOUT,
                "%s: no reply to %s in time; QEMU may be busy or stopped", qmp->label,
                command);
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return true;
}

/* What QEMU answered: "return", or an error of its own. */
static bool
read_reply(QmigQmp *qmp, const char *command, JsonObject *reply, JsonObject **result,
           GError **error)
{
    JsonObject *failure, *value;

    if (json_object_object_get_ex(reply, "error", &failure)) {
        const char *class = qmig_json_string(failure, "class");
        const char *desc = qmig_json_string(failure, "desc");

        if (class == NULL || desc == NULL) {
            return protocol_error(qmp, error, "error without class or text", reply);
        }
        g_autofree char *text = one_line(desc, MAX_ERROR_TEXT);
        g_free(qmp->error_class);
        qmp->error_class = one_line(class, MAX_ERROR_TEXT);
        return qmig_set_error(error, QMIG_ERROR_QMP, "%s: %s: %s: %s", qmp->label,
                              command, qmp->error_class, text);
    }
    json_object_object_get_ex(reply, "return", &value);
    if (result != NULL) {
        *result = json_object_get(value);
    }
    return true;
}

void
qmig_qmp_set_stand_in(QmigQmp *qmp, QmigStandIn stand_in, void *data)
{
    qmp->stand_in = stand_in;
    qmp->stand_in_data = data;
}

void
qmig_qmp_pretend_event(QmigQmp *qmp, const char *name, JsonObject *data)
{
    g_autoptr(JsonObject) object = json_object_new_object();

    if (data != NULL) {
        json_object_object_add(object, "data", data);
    }
    queue_event(qmp, name, object);
}

void
qmig_qmp_pretend_closed(QmigQmp *qmp)
{
    qmp->pretends_closed = true;
}

/* True: the stand-in has answered, and @ok says how. */
static bool
ask_stand_in(QmigQmp *qmp, const char *command, JsonObject *arguments,
             JsonObject **result, bool *ok, GError **error)
{
    g_autoptr(JsonObject) answer = NULL;

    if (qmp->stand_in == NULL) {
        return false;
    }
    if (qmp->pretends_closed) {
        set_where(qmp, command);
        *ok = tell_closed(qmp, error);
        set_where(qmp, NULL);
        return true;
    }
    switch (qmp->stand_in(qmp->stand_in_data, command, arguments, &answer, error)) {
    case QMIG_STAND_IN_PASS:
        return false;
    case QMIG_STAND_IN_FAILED:
        *ok = false;
        return true;
    case QMIG_STAND_IN_DONE:
    default:
        if (result != NULL) {
            *result = answer != NULL ? g_steal_pointer(&answer)
                                     : json_object_new_object();
        }
        *ok = true;
        return true;
    }
}

bool
qmig_qmp_execute(QmigQmp *qmp, const char *command, JsonObject *arguments,
                 JsonObject **result, const QmigQmpCall *call, GError **error)
{
    static const QmigQmpCall no_call = { 0 };
    g_autoptr(JsonObject) request = json_object_new_object();
    g_autoptr(JsonObject) reply = NULL;
    const char *text;
    bool ok;

    if (ask_stand_in(qmp, command, arguments, result, &ok, error)) {
        json_object_put(arguments);
        return ok;
    }
    call = call != NULL ? call : &no_call;
    QmigDeadline deadline = call->deadline != 0 ? call->deadline
                                                : qmig_deadline_in_ms(DEFAULT_TIMEOUT_MS);
    json_object_object_add(request, call->oob ? "exec-oob" : "execute",
                           json_object_new_string(command));
    if (arguments != NULL) {
        json_object_object_add(request, "arguments", arguments);
    }
    json_object_object_add(request, "id", json_object_new_int64(qmp->next_id));
    text = json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    g_debug("%s: > %.1000s", qmp->label, text);

    g_clear_pointer(&qmp->error_class, g_free);
    set_where(qmp, command);
    qmp->awaited = qmp->next_id++;
    bool came = send_command(qmp, line, strlen(line), call->fd, deadline, call->cancel,
                             error) &&
                await_reply(qmp, command, deadline, call->cancel, error);
    set_where(qmp, NULL);
    qmp->awaited = -1;
    /* Also when something bad came behind it: the next command must not find it. */
    reply = g_steal_pointer(&qmp->reply);
    if (!came) {
        return false;
    }
    return read_reply(qmp, command, reply, result, error);
}

/* Is @word in the greeting's list of capabilities? */
static bool
greeting_offers(JsonObject *qmp_object, const char *word)
{
    JsonObject *list = qmig_json_get(qmp_object, "capabilities", json_type_array);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *item = json_object_array_get_idx(list, i);
        if (json_object_is_type(item, json_type_string) &&
            strcmp(json_object_get_string(item), word) == 0) {
            return true;
        }
    }
    return false;
}

static bool
read_greeting(QmigQmp *qmp, QmigDeadline deadline, const QmigCancel *cancel,
              GError **error)
{
    while (qmp->greeting == NULL) {
        g_autoptr(GError) local = NULL;

        if (read_some(qmp, deadline, cancel, &local)) {
            continue;
        }
        if (g_error_matches(local, QMIG_ERROR, QMIG_ERROR_TIMEOUT)) {
            return qmig_set_error(
                error, QMIG_ERROR_TIMEOUT,
                "%s: no QMP greeting in time; QEMU serves one client for "
                "each QMP socket: does another one hold it?",
                qmp->label);
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    JsonObject *body = qmig_json_get(qmp->greeting, "QMP", json_type_object);
    JsonObject *version = qmig_json_get(body, "version", json_type_object);
    JsonObject *qemu = qmig_json_get(version, "qemu", json_type_object);
    qmp->version = (unsigned)(CLAMP(qmig_json_int(qemu, "major", 0), 0, 9999) * 10000 +
                              CLAMP(qmig_json_int(qemu, "minor", 0), 0, 99) * 100 +
                              CLAMP(qmig_json_int(qemu, "micro", 0), 0, 99));
    qmp->has_oob = greeting_offers(body, "oob");
    return true;
}

static bool
negotiate(QmigQmp *qmp, QmigDeadline deadline, const QmigCancel *cancel, GError **error)
{
    QmigQmpCall call = { .deadline = deadline, .cancel = cancel };
    JsonObject *arguments = NULL;

    if (!read_greeting(qmp, deadline, cancel, error)) {
        return false;
    }
    if (qmp->has_oob) {
        JsonObject *list = json_object_new_array();
        json_object_array_add(list, json_object_new_string("oob"));
        arguments = json_object_new_object();
        json_object_object_add(arguments, "enable", list);
    }
    return qmig_qmp_execute(qmp, "qmp_capabilities", arguments, NULL, &call, error);
}

QmigQmp *
qmig_qmp_connect(const QmigAddress *address, const char *label, QmigDeadline deadline,
                 const QmigCancel *cancel, GError **error)
{
    g_autoptr(QmigQmp) qmp = g_new0(QmigQmp, 1);

    qmp->label = g_strdup(label);
    set_where(qmp, NULL);
    qmp->framer = qmig_qmp_framer_new();
    qmp->awaited = -1;
    qmp->first_id = qmp->next_id = (int64_t)g_random_int() * ID_SPACE;
    g_queue_init(&qmp->events);
    qmp->fd = qmig_socket_connect(address, deadline, cancel, error);
    if (qmp->fd < 0) {
        g_prefix_error(error, "%s: QMP: ", label);
        return NULL;
    }
    return negotiate(qmp, deadline, cancel, error) ? g_steal_pointer(&qmp) : NULL;
}

const char *
qmig_qmp_error_class(const QmigQmp *qmp)
{
    return qmp->error_class != NULL ? qmp->error_class : "";
}

int
qmig_qmp_fd(const QmigQmp *qmp)
{
    return qmp->fd;
}

const char *
qmig_qmp_label(const QmigQmp *qmp)
{
    return qmp->label;
}

bool
qmig_qmp_has_oob(const QmigQmp *qmp)
{
    return qmp->has_oob;
}

unsigned
qmig_qmp_version(const QmigQmp *qmp)
{
    return qmp->version;
}

bool
qmig_qmp_peer(const QmigQmp *qmp, struct ucred *cred)
{
    socklen_t len = sizeof *cred;
    struct sockaddr_storage local = { 0 };
    socklen_t local_len = sizeof local;

    return getsockname(qmp->fd, (struct sockaddr *)&local, &local_len) == 0 &&
           local.ss_family == AF_UNIX &&
           getsockopt(qmp->fd, SOL_SOCKET, SO_PEERCRED, cred, &len) == 0;
}

QmigAddress *
qmig_qmp_local_address(const QmigQmp *qmp)
{
    struct sockaddr_storage local = { 0 };
    socklen_t len = sizeof local;
    char host[256];

    if (getsockname(qmp->fd, (struct sockaddr *)&local, &len) < 0 ||
        local.ss_family == AF_UNIX ||
        getnameinfo((struct sockaddr *)&local, len, host, sizeof host, NULL, 0,
                    NI_NUMERICHOST) != 0) {
        return NULL;
    }
    return qmig_address_new_tcp(host, 0);
}
