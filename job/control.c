/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control socket's thread, and what the job's thread and it share.
 *
 *     job's thread                 lock                    the socket's thread
 *     set_status, publish  ->  texts, ring of events  ->   clients
 *     take, answer         <-  queue of requests      <-   lines
 *
 * Only text crosses: json-c counts its references without atomics. The lock is held for copying
 * a text, never for a system call but the eventfds'. A client that does not read costs
 * QUEUE_LIMIT at most: events are read from the ring when there is room, and those that have
 * left it meanwhile are told as lost.
 */
#include "job/control.h"

#include "job/control-place.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
    /* From accept to the first line, and for the rest of a line. */
    LINE_TIMEOUT_MS = 10000,
    /* The job looks at requests between two steps; a step can wait for a QEMU that hangs. */
    REQUEST_TIMEOUT_MS = 20000,
    DRAIN_MS = 1000,
};

struct QmigControlRequest {
    char *command, *arguments;
    int pid;
    QmigDeadline deadline;
    char *answer;      /* a line; set by the job's thread under the lock */
    bool is_taken;     /* the job has it */
    bool is_abandoned; /* its client has gone or given up: the job's answer frees it */
};

typedef struct {
    QmigFd fd;
    int pid;
    GString *in, *out;
    QmigDeadline deadline; /* for the line that has begun; NEVER when none is due */
    bool is_watching;
    bool has_ended; /* it sends no more; it may still read */
    bool is_ending; /* closed when `out` has gone */
    uint64_t next_event, next_transient;
    QmigControlRequest *request; /* the one that waits for its answer */
} Client;

struct QmigControl {
    char *path;
    QmigFd listener;
    QmigFd wake;     /* eventfd: the thread shall look */
    QmigFd requests; /* eventfd: as many requests wait */
    GThread *thread;

    GMutex lock; /* guards what follows */
    bool is_ending;
    char *identity, *status;
    char *events[QMIG_CONTROL_MAX_EVENTS]; /* number n at n % MAX_EVENTS */
    uint64_t n_events;
    char *transient;
    uint64_t n_transients;
    GQueue queue; /* requests not yet taken */

    /* Of the thread alone. */
    GPtrArray *clients;
};

static void
ring(int eventfd_)
{
    uint64_t one = 1;

    /* Cannot fail in a way that matters: EAGAIN means it is readable already. */
    (void)!write(eventfd_, &one, sizeof one);
}

static void
request_free(QmigControlRequest *request)
{
    g_free(request->command);
    g_free(request->arguments);
    g_free(request->answer);
    g_free(request);
}

static char *
to_line(JsonObject *object)
{
    return g_strconcat(
        json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                   JSON_C_TO_STRING_NOSLASHESCAPE),
        "\n", NULL);
}

static char *
error_line(const GError *error)
{
    g_autoptr(JsonObject) object = json_object_new_object();
    JsonObject *what = json_object_new_object();

    json_object_object_add(what, "code", json_object_new_string(qmig_error_name(error)));
    json_object_object_add(what, "message", json_object_new_string(error->message));
    json_object_object_add(object, "error", what);
    return to_line(object);
}

/* ---- clients ---------------------------------------------------------------------------- */

static void
client_free(Client *client)
{
    qmig_fd_clear(&client->fd);
    g_string_free(client->in, TRUE);
    g_string_free(client->out, TRUE);
    g_free(client);
}

/* Under the lock: its client waits no more. */
static void
drop_request(QmigControl *control, Client *client)
{
    QmigControlRequest *request = g_steal_pointer(&client->request);

    if (request == NULL) {
        return;
    }
    if (request->is_taken && request->answer == NULL) {
        request->is_abandoned = true;
        return;
    }
    g_queue_remove(&control->queue, request);
    request_free(request);
}

static void
say_error(Client *client, QmigErrorCode code, const char *text)
{
    g_autoptr(GError) error = g_error_new_literal(QMIG_ERROR, (int)code, text);
    g_autofree char *line = error_line(error);

    g_string_append(client->out, line);
}

static void
accept_client(QmigControl *control)
{
    g_auto(QmigFd)
        fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer = { 0 };
    socklen_t size = sizeof peer;

    /* The file's mode keeps others out; a directory somebody has opened up does not let them
     * in. The oldest clients keep their places. */
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
        (peer.uid != 0 && peer.uid != geteuid()) ||
        control->clients->len >= QMIG_CONTROL_MAX_CLIENTS) {
        return;
    }
    Client *client = g_new0(Client, 1);
    client->fd = qmig_fd_steal(&fd);
    client->pid = peer.pid;
    client->in = g_string_new(NULL);
    client->out = g_string_new(NULL);
    client->deadline = qmig_deadline_in_ms(LINE_TIMEOUT_MS);
    g_ptr_array_add(control->clients, client);
    g_mutex_lock(&control->lock);
    g_string_append(client->out, control->identity);
    g_mutex_unlock(&control->lock);
}

/* Under the lock. */
static void
start_watching(QmigControl *control, Client *client, JsonObject *arguments)
{
    JsonObject *history = NULL;
    uint64_t oldest = control->n_events > QMIG_CONTROL_MAX_EVENTS
                          ? control->n_events - QMIG_CONTROL_MAX_EVENTS
                          : 0;

    json_object_object_get_ex(arguments, "history", &history);
    client->is_watching = true;
    client->next_event = json_object_get_boolean(history) ? oldest : control->n_events;
    client->next_transient = control->n_transients;
    g_string_append(client->out, "{\"return\":{}}\n");
}

/* Under the lock. */
static void
queue_request(QmigControl *control, Client *client, const char *command,
              JsonObject *arguments)
{
    QmigControlRequest *request = g_new0(QmigControlRequest, 1);

    request->command = g_strdup(command);
    request->arguments = g_strdup(
        arguments != NULL ? json_object_to_json_string(arguments) : "{}");
    request->pid = client->pid;
    request->deadline = qmig_deadline_in_ms(REQUEST_TIMEOUT_MS);
    client->request = request;
    g_queue_push_tail(&control->queue, request);
    ring(control->requests);
}

static void
take_command(QmigControl *control, Client *client, JsonObject *object)
{
    JsonObject *command = NULL, *arguments = NULL;
    const char *name;

    json_object_object_get_ex(object, "command", &command);
    json_object_object_get_ex(object, "arguments", &arguments);
    if (!json_object_is_type(command, json_type_string) ||
        (arguments != NULL && !json_object_is_type(arguments, json_type_object))) {
        say_error(client, QMIG_ERROR_PROTOCOL,
                  "wanted {\"command\":NAME,\"arguments\":{…}}");
        return;
    }
    name = json_object_get_string(command);
    g_mutex_lock(&control->lock);
    if (strcmp(name, "status") == 0) {
        g_string_append_printf(client->out, "{\"return\":%s}\n", control->status);
    } else if (strcmp(name, "watch") == 0) {
        start_watching(control, client, arguments);
    } else if (control->is_ending) {
        say_error(client, QMIG_ERROR_STATE, "the migration has ended");
    } else {
        queue_request(control, client, name, arguments);
    }
    g_mutex_unlock(&control->lock);
}

static void
take_line(QmigControl *control, Client *client, const char *line, size_t length)
{
    struct json_tokener *tokener = json_tokener_new_ex(QMIG_CONTROL_DEPTH_LIMIT);
    g_autoptr(JsonObject) object = json_tokener_parse_ex(tokener, line, (int)length);
    bool is_whole = json_tokener_get_error(tokener) == json_tokener_success;

    /* And nothing else on the line but its end. */
    for (size_t i = json_tokener_get_parse_end(tokener); i < length; i++) {
        is_whole = is_whole && g_ascii_isspace(line[i]);
    }
    json_tokener_free(tokener);
    if (!is_whole || !json_object_is_type(object, json_type_object)) {
        say_error(client, QMIG_ERROR_PROTOCOL, "a line that is no JSON object");
        client->is_ending = true;
        return;
    }
    take_command(control, client, object);
}

/* The lines that are there, but while one waits for its answer, no other. */
static void
take_lines(QmigControl *control, Client *client)
{
    char *end;

    while (!client->is_ending && client->request == NULL &&
           client->out->len < QMIG_CONTROL_QUEUE_LIMIT &&
           (end = memchr(client->in->str, '\n', client->in->len)) != NULL) {
        size_t length = (size_t)(end - client->in->str) + 1;

        take_line(control, client, client->in->str, length);
        g_string_erase(client->in, 0, (gssize)length);
        client->deadline = client->in->len > 0 ? qmig_deadline_in_ms(LINE_TIMEOUT_MS)
                                               : QMIG_DEADLINE_NEVER;
    }
    if (client->request == NULL && client->in->len >= QMIG_CONTROL_LINE_LIMIT &&
        !client->is_ending) {
        say_error(client, QMIG_ERROR_LIMIT, "a line without end");
        client->is_ending = true;
    }
}

/* Return: false when the client has gone. */
static bool
read_client(Client *client)
{
    char buffer[4096];
    ssize_t n = recv(client->fd, buffer, sizeof buffer, MSG_DONTWAIT);

    if (n > 0) {
        if (client->deadline == QMIG_DEADLINE_NEVER) {
            client->deadline = qmig_deadline_in_ms(LINE_TIMEOUT_MS);
        }
        g_string_append_len(client->in, buffer, n);
    }
    client->has_ended = n == 0;
    return n >= 0 || errno == EAGAIN || errno == EINTR;
}

/* Return: false when the client has gone. */
static bool
write_client(Client *client)
{
    ssize_t n = send(client->fd, client->out->str, client->out->len,
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        g_string_erase(client->out, 0, n);
    }
    return n >= 0 || errno == EAGAIN || errno == EINTR;
}

/* Under the lock: as many of the events it has not seen as there is room for. */
static void
give_events(QmigControl *control, Client *client)
{
    uint64_t oldest = control->n_events > QMIG_CONTROL_MAX_EVENTS
                          ? control->n_events - QMIG_CONTROL_MAX_EVENTS
                          : 0;

    if (!client->is_watching || client->out->len >= QMIG_CONTROL_LINE_LIMIT) {
        return;
    }
    if (client->next_event < oldest) {
        g_string_append_printf(client->out,
                               "{\"event\":\"lost\",\"count\":%" G_GUINT64_FORMAT "}\n",
                               oldest - client->next_event);
        client->next_event = oldest;
    }
    while (client->next_event < control->n_events &&
           client->out->len < QMIG_CONTROL_LINE_LIMIT) {
        g_string_append(client->out,
                        control->events[client->next_event % QMIG_CONTROL_MAX_EVENTS]);
        client->next_event++;
    }
    if (client->next_transient < control->n_transients && client->out->len == 0) {
        g_string_append(client->out, control->transient);
        client->next_transient = control->n_transients;
    }
}

/* Under the lock: the answer to its request, or that none has come. */
static void
give_answer(QmigControl *control, Client *client)
{
    QmigControlRequest *request = client->request;

    if (request == NULL) {
        return;
    }
    if (request->answer != NULL) {
        g_string_append(client->out, request->answer);
        drop_request(control, client);
    } else if (control->is_ending && !request->is_taken) {
        say_error(client, QMIG_ERROR_STATE, "the migration has ended");
        drop_request(control, client);
    } else if (qmig_now_us() >= request->deadline) {
        say_error(client, QMIG_ERROR_TIMEOUT,
                  request->is_taken
                      ? "the migration has not answered yet; it may still do it"
                      : "the migration is busy and has not looked at it; it will not");
        drop_request(control, client);
    }
}

/* ---- the thread ------------------------------------------------------------------------- */

/* When the thread must look again although nothing happens. */
static QmigDeadline
next_deadline(const QmigControl *control)
{
    QmigDeadline next = QMIG_DEADLINE_NEVER;

    for (guint i = 0; i < control->clients->len; i++) {
        const Client *client = g_ptr_array_index(control->clients, i);
        next = MIN(next, client->request != NULL ? client->request->deadline
                                                 : client->deadline);
    }
    return next;
}

/* Return: false when it is done with. */
static bool
serve_client(QmigControl *control, Client *client, short revents)
{
    bool has_written;

    /* HUP: nobody is there to read an answer. A closed half of the connection is only POLLIN. */
    if ((revents & (POLLHUP | POLLERR)) != 0 ||
        ((revents & POLLIN) != 0 && !read_client(client))) {
        return false;
    }
    take_lines(control, client);
    /* Once more when all has gone out: there may be more events than fit at once. */
    do {
        g_mutex_lock(&control->lock);
        give_answer(control, client);
        give_events(control, client);
        g_mutex_unlock(&control->lock);
        has_written = client->out->len > 0;
        if (has_written && !write_client(client)) {
            return false;
        }
    } while (has_written && client->out->len == 0);
    if (client->is_ending || (client->has_ended && !client->is_watching)) {
        return client->out->len > 0 || client->request != NULL;
    }
    return client->request != NULL || qmig_now_us() < client->deadline;
}

static void
fill_pollfds(const QmigControl *control, struct pollfd *fds)
{
    fds[0] = (struct pollfd){ .fd = control->listener, .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = control->wake, .events = POLLIN };
    for (guint i = 0; i < control->clients->len; i++) {
        const Client *client = g_ptr_array_index(control->clients, i);
        bool reads = client->in->len < QMIG_CONTROL_LINE_LIMIT && !client->has_ended;

        fds[2 + i] = (struct pollfd){
            .fd = client->fd,
            .events = (short)((reads ? POLLIN : 0) |
                              (client->out->len > 0 ? POLLOUT : 0)),
        };
    }
}

static void
serve_clients(QmigControl *control, const struct pollfd *fds)
{
    for (guint i = control->clients->len; i > 0; i--) {
        Client *client = g_ptr_array_index(control->clients, i - 1);

        if (!serve_client(control, client, fds[2 + i - 1].revents)) {
            g_mutex_lock(&control->lock);
            drop_request(control, client);
            g_mutex_unlock(&control->lock);
            g_ptr_array_remove_index_fast(control->clients, i - 1);
        }
    }
}

/* Under no lock: has everybody got everything? */
static bool
is_drained(QmigControl *control)
{
    bool drained = true;

    g_mutex_lock(&control->lock);
    for (guint i = 0; i < control->clients->len; i++) {
        const Client *client = g_ptr_array_index(control->clients, i);
        drained = drained && client->out->len == 0 && client->request == NULL &&
                  (!client->is_watching || client->next_event == control->n_events);
    }
    g_mutex_unlock(&control->lock);
    return drained;
}

static void *
serve(void *data)
{
    QmigControl *control = data;
    QmigDeadline end = QMIG_DEADLINE_NEVER;

    for (;;) {
        struct pollfd fds[2 + QMIG_CONTROL_MAX_CLIENTS];
        uint64_t drop;

        fill_pollfds(control, fds);
        poll(fds, 2 + control->clients->len,
             qmig_deadline_poll_ms(MIN(end, next_deadline(control))));
        (void)!read(control->wake, &drop, sizeof drop);
        serve_clients(control, fds);
        if (fds[0].revents != 0 && end == QMIG_DEADLINE_NEVER) {
            accept_client(control);
        }
        g_mutex_lock(&control->lock);
        if (control->is_ending && end == QMIG_DEADLINE_NEVER) {
            end = qmig_deadline_in_ms(DRAIN_MS);
            qmig_fd_clear(&control->listener);
        }
        g_mutex_unlock(&control->lock);
        if (end != QMIG_DEADLINE_NEVER && (is_drained(control) || qmig_now_us() >= end)) {
            return NULL;
        }
    }
}

/* ---- beginning and end ------------------------------------------------------------------ */

static QmigControl *
control_new(void)
{
    QmigControl *control = g_new0(QmigControl, 1);

    g_mutex_init(&control->lock);
    g_queue_init(&control->queue);
    control->listener = -1;
    control->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    control->requests = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    control->clients = g_ptr_array_new_with_free_func((GDestroyNotify)client_free);
    control->identity = g_strdup("{}\n");
    control->status = g_strdup("{}");
    return control;
}

QmigControl *
qmig_control_open_socket(const char *path, GError **error)
{
    QmigControl *control = control_new();
    bool ok = true;

    if (path != NULL) {
        control->path = g_strdup(path);
    } else {
        g_autofree char *directory = qmig_control_directory();
        control->path = g_strdup_printf("%s/%d.sock", directory, (int)getpid());
        ok = qmig_control_make_directory(directory, error);
    }
    control->listener = ok ? qmig_control_listen(control->path, error) : -1;
    if (control->listener < 0) {
        g_clear_pointer(&control->path, g_free);
        qmig_control_free(control);
        return NULL;
    }
    return control;
}

void
qmig_control_serve(QmigControl *control)
{
    control->thread = g_thread_new("control", serve, control);
}

QmigControl *
qmig_control_start(const char *path, GError **error)
{
    QmigControl *control = qmig_control_open_socket(path, error);

    if (control != NULL) {
        qmig_control_serve(control);
    }
    return control;
}

void
qmig_control_free(QmigControl *control)
{
    if (control == NULL) {
        return;
    }
    /* Nobody new shall find it. */
    if (control->path != NULL) {
        g_unlink(control->path);
    }
    g_mutex_lock(&control->lock);
    control->is_ending = true;
    g_mutex_unlock(&control->lock);
    ring(control->wake);
    if (control->thread != NULL) {
        g_thread_join(control->thread);
    }
    for (guint i = 0; i < control->clients->len; i++) {
        drop_request(control, g_ptr_array_index(control->clients, i));
    }
    g_ptr_array_unref(control->clients);
    qmig_fd_clear(&control->listener);
    qmig_fd_clear(&control->wake);
    qmig_fd_clear(&control->requests);
    for (size_t i = 0; i < QMIG_CONTROL_MAX_EVENTS; i++) {
        g_free(control->events[i]);
    }
    g_free(control->transient);
    g_free(control->identity);
    g_free(control->status);
    g_free(control->path);
    g_mutex_clear(&control->lock);
    g_free(control);
}

const char *
qmig_control_path(const QmigControl *control)
{
    return control->path;
}

/* ---- the job's side --------------------------------------------------------------------- */

static void
replace(QmigControl *control, char **text, char *with)
{
    g_mutex_lock(&control->lock);
    char *old = *text;
    *text = with;
    g_mutex_unlock(&control->lock);
    g_free(old);
}

void
qmig_control_set_identity(QmigControl *control, JsonObject *identity)
{
    replace(control, &control->identity, to_line(identity));
}

void
qmig_control_set_status(QmigControl *control, JsonObject *status)
{
    char *text = to_line(status);

    replace(control, &control->status, g_strchomp(text));
}

void
qmig_control_publish(QmigControl *control, JsonObject *event, bool is_transient)
{
    char *line = to_line(event);
    char **slot = &control->transient;

    if (strlen(line) > QMIG_CONTROL_LINE_LIMIT) {
        g_free(line);
        line = g_strdup("{\"event\":\"lost\",\"count\":1}\n");
    }
    g_mutex_lock(&control->lock);
    if (is_transient) {
        control->n_transients++;
    } else {
        slot = &control->events[control->n_events++ % QMIG_CONTROL_MAX_EVENTS];
    }
    char *old = *slot;
    *slot = line;
    g_mutex_unlock(&control->lock);
    g_free(old);
    ring(control->wake);
}

int
qmig_control_fd(const QmigControl *control)
{
    return control != NULL ? control->requests : -1;
}

QmigControlRequest *
qmig_control_take(QmigControl *control)
{
    QmigControlRequest *request;
    uint64_t one;

    g_mutex_lock(&control->lock);
    /* One that was given up has left the queue and not the count. */
    request = g_queue_pop_head(&control->queue);
    if (request != NULL) {
        request->is_taken = true;
    }
    (void)!read(control->requests, &one, sizeof one);
    g_mutex_unlock(&control->lock);
    return request;
}

const char *
qmig_control_request_command(const QmigControlRequest *request)
{
    return request->command;
}

JsonObject *
qmig_control_request_arguments(const QmigControlRequest *request)
{
    return json_tokener_parse(request->arguments);
}

int
qmig_control_request_pid(const QmigControlRequest *request)
{
    return request->pid;
}

/* Takes @line. */
static void
hand_back(QmigControl *control, QmigControlRequest *request, char *line)
{
    g_mutex_lock(&control->lock);
    if (request->is_abandoned) {
        request_free(request);
        g_free(line);
    } else {
        request->answer = line;
    }
    g_mutex_unlock(&control->lock);
    ring(control->wake);
}

void
qmig_control_answer(QmigControl *control, QmigControlRequest *request, JsonObject *result)
{
    g_autofree char *text = result != NULL ? to_line(result) : g_strdup("{}");

    hand_back(control, request, g_strdup_printf("{\"return\":%s}\n", g_strchomp(text)));
}

void
qmig_control_refuse(QmigControl *control, QmigControlRequest *request,
                    const GError *error)
{
    hand_back(control, request, error_line(error));
}
